"""What goes first when there is no room: declared here, step by step, and nothing else ever goes.

Settled records are at the centre, so all of them go before the first that is not. Of what the centre does not have,
bulk goes before curves, the oldest first, and only for new records that were refused `full_patience` times; each
reading leaves a gap with the fault `dropped` in its place, so that nobody waits for it. Unsettled billing records, and
unsettled events, never go: when nothing else is left the store takes no more. Decision 030.
"""

import json
import logging
from typing import Final, NamedTuple

import apsw

from buffer import retention
from buffer.retention import ROW_BYTES, Gone, Kept
from buffer.rows import GAP, PLANNED, to_row
from buffer.sqlite import integers, pragma, transaction
from buffer.store import Store, Walk
from buffer.words import RecordClass
from protocols.capture import Event, Fault, Gap
from protocols.envelope import BatchKind

log = logging.getLogger(__name__)

_ALL: Final = (1 << 62) - 1
_PAGES_OF_A_JOB: Final = 64
"""What a job may have wanted."""
STEPS_MAX: Final = 4096
"""Steps of one relief, each of at most `purge_records` rows or some thousand rows looked at."""
DROPPED: Final = "dropped"
"""The fact that counts, by class, what was let go although the centre did not have it."""


class Step(NamedTuple):
    """Settled or unsettled records of a class; `to_floor`: not those that retention calls the least."""

    kept: Kept
    settled: bool = True
    to_floor: bool = False


ORDER: Final = (
    Step(RecordClass.BULK),
    Step(RecordClass.CURVE, to_floor=True),
    Step(None, to_floor=True),
    Step(RecordClass.CURVE),
    Step(RecordClass.DAILY),
    Step(RecordClass.MONTHLY),
    Step(RecordClass.BULK, settled=False),
    Step(RecordClass.CURVE, settled=False),
)
"""What goes when there is no room, the first first."""


def relieve(store: Store, connection: apsw.Connection, *, appending: bool, unsettled: bool) -> bool:
    """Make room, of what is not settled too if so; whether there is some now. Raises apsw.Error when it cannot.

    The ballast is not for new records alone: while nothing can be let go for them it stays, so that what is there can
    still be sealed and settled.
    """
    capped = _capped(store, connection)
    useful = not appending or _anything(store, connection, unsettled=unsettled)
    released = useful and not capped and store.ballast.release()
    if released:
        store.counters["ballast_released"] += 1
    anew = _checkpoint(connection)
    freed = 0
    for step in ORDER:
        if not (step.settled or unsettled):
            break
        for _ in range(STEPS_MAX):
            if freed >= store.limits.relief_bytes:
                break
            gone = _settled(store, connection, step) if step.settled else _drop(store, connection, step.kept)
            freed += gone.bytes
            if gone.end:
                break
    if freed:
        store.counters["relieved"] += 1
        log.warning("store had no room file=%s freed=%d bound=%s", store.path, freed, capped)
    _checkpoint(connection)
    return released or anew or freed > 0


def _capped(store: Store, connection: apsw.Connection) -> bool:
    """Whether it is the store's own bound that is met, and not the disk's."""
    if not store.limits.bytes_max:
        return False
    names = ("page_count", "freelist_count", "page_size")
    pages, free, size = (int(pragma(connection, name) or 0) for name in names)
    return (pages - free + _PAGES_OF_A_JOB) * size + store.limits.relief_bytes >= store.limits.bytes_max


def _anything(store: Store, connection: apsw.Connection, *, unsettled: bool) -> bool:
    """Whether there is a record that may be let go."""
    (settled,) = integers(
        connection,
        "SELECT EXISTS (SELECT 1 FROM record WHERE id <= (SELECT sealed_upto FROM lane WHERE kind = 65001)"
        " AND id < coalesce((SELECT min(first) FROM (SELECT first FROM batch WHERE kind = 65001 UNION ALL"
        " SELECT first FROM requeue WHERE kind = 65001)), 1 << 62))",
    )
    droppable = [step.kept for step in ORDER if not step.settled]
    return bool(settled) or (unsettled and any(series.kept in droppable for series in store.series.values()))


def _checkpoint(connection: apsw.Connection) -> bool:
    """Let the WAL begin anew, in the room that it has: a full disk gives it no more. Whether that is something."""
    try:
        pages, home = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)
    except (apsw.FullError, apsw.BusyError, apsw.LockedError) as error:
        log.info("checkpoint put off detail=%r", str(error))
        return False
    return home == pages >= _PAGES_OF_A_JOB


def _settled(store: Store, connection: apsw.Connection, step: Step) -> Gone:
    upto = _ALL
    if step.to_floor:
        span = store.limits.curve_days_min if step.kept is RecordClass.CURVE else 0.0
        upto = retention.before(store, connection, step.kept, span)
        if not upto:
            return Gone(0, 0, Walk(0, None), True)
    with transaction(connection):
        gone = retention.let_go(store, connection, step.kept, upto)
    store.walks[step.kept] = gone.walked
    store.counters["purged"] += gone.rows
    return gone


class _Part(NamedTuple):
    """Unsettled rows that go together: those of a batch, of a requeue, or the unsealed."""

    first: int
    last: int
    number: tuple[int, int] | None = None
    """Epoch and seq of the batch."""
    unsealed: bool = False


def _drop(store: Store, connection: apsw.Connection, kept: Kept) -> Gone:
    """Put gaps where the oldest unsettled readings of a class stand, and delete those without a slot."""
    assert kept is not None, "events are never dropped"
    for part in _parts(store, connection, store.walks.get((kept, "dropped"), Walk(0, None)).at):
        rows: list[_Given] = [
            _Given(*row)
            for row in connection.execute(
                "SELECT id, series, moment, kind, length(body) FROM record WHERE id BETWEEN ? AND ? AND kind <> ?"
                " AND series IN (SELECT id FROM series WHERE class = ?) ORDER BY id LIMIT ?",
                (part.first, part.last, GAP, int(kept), store.limits.purge_records),
            )
        ]
        if rows:
            gone = _give_up(store, connection, kept, part, rows)
            store.walks[kept, "dropped"] = gone.walked
            return gone
        store.walks[kept, "dropped"] = Walk(part.last, None)
    return Gone(0, 0, Walk(0, None), True)


def _parts(store: Store, connection: apsw.Connection, after: int) -> list[_Part]:
    """What is not settled behind a row, oldest first. What a batch covers that waits to be stored is left alone."""
    kind = int(BatchKind.CAPTURES)
    upto, newest = integers(
        connection,
        "SELECT sealed_upto, (SELECT coalesce(max(id), 0) FROM record) - 1 FROM lane WHERE kind = ?",
        (kind,),
    )
    prepared, left_alone = store.prepared, -1
    if prepared is not None and prepared.sealed.kind is BatchKind.CAPTURES:
        left_alone = -1 if prepared.requeue is None else prepared.requeue
        upto = max(upto, prepared.last) if prepared.requeue is None else upto
    found = connection.execute(
        "SELECT first, last, epoch, seq FROM batch WHERE kind = ?1 AND last > ?2 UNION ALL"
        " SELECT first, last, NULL, NULL FROM requeue WHERE kind = ?1 AND last > ?2 AND id <> ?3 ORDER BY first",
        (kind, after, left_alone),
    )
    parts = [_Part(first, last, None if seq is None else (epoch, seq)) for first, last, epoch, seq in found]
    # The very last row stays: after a disk error it is compared with what was acknowledged.
    parts.append(_Part(upto + 1, newest, unsealed=True))
    return [part._replace(first=max(part.first, after + 1), last=min(part.last, newest)) for part in parts]


class _Given(NamedTuple):
    """A row that is given up."""

    number: int
    series: int
    moment: int
    kind: int
    length: int


def _give_up(store: Store, connection: apsw.Connection, kept: RecordClass, part: _Part, rows: list[_Given]) -> Gone:
    now, word = store.now_ms(), kept.name.lower()
    names = {series.number: name for name, series in store.series.items()}
    deleted = [row for row in rows if row.kind != PLANNED]
    gaps = []
    for row in rows:
        if row.kind == PLANNED:
            meter, task = names[row.series]
            gap = Gap(meter=meter, task=task, slot=row.moment, fault=Fault.DROPPED, opened_at=now)
            gaps.append((GAP, to_row(gap).body, row.number))
    told = to_row(Event(name="readings_dropped", at=now,
                        detail={"class": word, "gaps": len(gaps), "without_slot": len(deleted)}))  # fmt: skip
    counts = json.loads(store.facts.get(DROPPED, "{}"))
    text = json.dumps(counts | {word: counts.get(word, 0) + len(rows)})
    with transaction(connection):
        if part.number is not None:
            connection.execute("INSERT OR REPLACE INTO voided VALUES (?, ?, 'readings dropped')", part.number)
            connection.execute(
                "INSERT INTO requeue (kind, first, last, attempts)"
                " SELECT kind, first, last, attempts FROM batch WHERE epoch = ? AND seq = ?",
                part.number,
            )
            connection.execute("DELETE FROM batch WHERE epoch = ? AND seq = ?", part.number)
        connection.executemany("UPDATE record SET kind = ?, body = ? WHERE id = ?", gaps)
        connection.executemany("DELETE FROM record WHERE id = ?", [(row.number,) for row in deleted])
        connection.execute("INSERT INTO event (moment, body) VALUES (?, ?)", told)
        number = connection.last_insert_rowid()
        connection.execute("INSERT OR REPLACE INTO fact VALUES (?, ?)", (DROPPED, text))
    store.facts[DROPPED] = text
    store.acknowledged(BatchKind.EVENTS, number, told.body)
    store.restand(connection, unsealed=1 - part.unsealed * len(deleted), events=1, batches=-(part.number is not None))
    store.counters[f"dropped_{word}"] += len(rows)
    store.counters["voided"] += part.number is not None
    size = sum(row.length for row in rows) - sum(len(body) for _, body, _ in gaps) + ROW_BYTES * len(deleted)
    return Gone(len(rows), max(0, size), Walk(rows[-1].number, None), False)
