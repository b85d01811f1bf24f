"""From rows to batches, and from batches to history: seal, offer, settle, void. Jobs of the store, a transaction each.

A row is never touched: a batch names the range of rows that it covers. The nonce of a batch is its number, so a number
that was given to `encrypt` is used up: what came back is stored, or, when the disk fails, kept and stored as it is by
the next call.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import apsw

from buffer.errors import OutboxError
from buffer.rows import from_row
from buffer.sqlite import transaction
from buffer.store import Prepared, Store
from buffer.words import TABLES, KeyEntry, Sealed, Settled
from protocols.batch import RECORDS_MAX, VALUES_MAX, TooMuch, encode, held
from protocols.capture import Record
from protocols.envelope import BatchKind
from protocols.errors import Malformed
from protocols.messages import Receipt

Encrypt = Callable[[int, BatchKind, bytes], tuple[bytes, bytes]]
"""(seq, kind, body) to (kid, message). Called once for each number, on the writer's thread."""


class _Range(NamedTuple):
    """Rows of a lane that no batch covers."""

    kind: BatchKind
    requeue: int | None
    first: int
    last: int
    attempts: int


@dataclass(slots=True)
class _Chosen:
    """The rows of one batch: those that decode, those that do not."""

    ids: list[int] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    unreadable: list[tuple[int, str]] = field(default_factory=list)

    @property
    def last(self) -> int:
        return max(self.ids[-1:] + [number for number, _ in self.unreadable[-1:]], default=0)

    def shorten(self, count: int) -> None:
        """Leave all but the first `count` records for another batch."""
        del self.ids[count:], self.records[count:]
        self.unreadable = [bad for bad in self.unreadable if bad[0] < self.ids[-1]]


_ALL_ROWS: Final = (1 << 63) - 1
FULL_PERCENT: Final = 95
"""Of the bytes that a batch may have: as full it is made, by what the last one's values took."""
SHORTER_PERCENT: Final = 80
"""The same where that was too much: fewer values take more bytes each."""


def seal(store: Store, connection: apsw.Connection, encrypt: Encrypt, *, again: bool = True) -> Sealed | None:
    """Make a batch of the oldest unsealed rows, events before captures, voided ones before new; None if there are none.

    again: whether to take also rows that are to be sealed again; else only new ones.

    Raises OutboxError when the key that `encrypt` used has no committed record of this epoch.
    """
    while store.prepared is None:
        for lane in _ranges(store, connection, again=again):
            chosen, body = _choose(store, connection, lane)
            if chosen.ids or chosen.unreadable or lane.requeue is not None:
                break
        else:
            return None
        if body is None:
            _pass_over(store, connection, lane, chosen)
            continue
        kid, message = encrypt(store.next_seq, lane.kind, body)
        sealed = Sealed(epoch=store.epoch, seq=store.next_seq, kind=lane.kind, kid=kid, message=message,
                        records=len(chosen.records))  # fmt: skip
        store.prepared = Prepared(sealed, lane.requeue, chosen.ids[0], chosen.last, lane.attempts,
                                  tuple(chosen.unreadable))  # fmt: skip
    return _store(store, connection, store.prepared)


def _ranges(store: Store, connection: apsw.Connection, *, again: bool) -> Iterator[_Range]:
    for kind in TABLES:
        queued = connection.execute(
            "SELECT id, first, last, attempts FROM requeue WHERE kind = ? AND attempts < ? ORDER BY id LIMIT 1",
            (int(kind), store.limits.reseal_attempts),
        ).fetchone()
        if queued is not None and again:
            yield _Range(kind, *queued)
        (upto,) = connection.execute("SELECT sealed_upto FROM lane WHERE kind = ?", (int(kind),)).fetchone() or (0,)
        yield _Range(kind, None, upto + 1, _ALL_ROWS, 0)


def _choose(store: Store, connection: apsw.Connection, lane: _Range) -> tuple[_Chosen, bytes | None]:
    """The rows that fit into one batch, and its body (None when not one of them decodes)."""
    fit = store.fit.get(lane.kind, store.limits.seal_values)
    chosen, full = _gather(connection, lane, max(1, min(fit, store.limits.seal_values >> lane.attempts)))
    if not chosen.records:
        return chosen, None
    bytes_max = store.limits.seal_bytes
    while True:
        try:
            body = encode(chosen.records)
        except TooMuch:
            chosen.shorten(len(chosen.records) // 2)  # never of one record: what was packed fits into a body
            continue
        if full or len(body) > bytes_max:
            store.fit[lane.kind] = sum(map(_weight, chosen.records)) * bytes_max * FULL_PERCENT // (len(body) * 100)
        if len(body) <= bytes_max or len(chosen.records) == 1:
            return chosen, body
        chosen.shorten(max(1, len(chosen.records) * bytes_max * SHORTER_PERCENT // (len(body) * 100)))


def _gather(connection: apsw.Connection, lane: _Range, values_max: int) -> tuple[_Chosen, bool]:
    """The next rows of a lane, up to about so many values, and whether there are as many."""
    chosen, values = _Chosen(), 0
    cursor = connection.execute(
        f"SELECT id, body FROM {TABLES[lane.kind]} WHERE id BETWEEN ? AND ? ORDER BY id", (lane.first, lane.last)
    )
    try:
        for number, packed in cursor:
            try:
                record = from_row(packed)
            except Malformed as error:
                chosen.unreadable.append((number, str(error)))
                continue
            values += _weight(record)
            if values > VALUES_MAX and chosen.records:
                return chosen, True
            chosen.ids.append(number)
            chosen.records.append(record)
            if values >= values_max or len(chosen.records) == RECORDS_MAX:
                return chosen, True
    finally:
        cursor.close()
    return chosen, False


def _weight(record: Record) -> int:
    return max(1, held(record))


def _pass_over(store: Store, connection: apsw.Connection, lane: _Range, chosen: _Chosen) -> None:
    """Go past rows of which none decodes, without a batch."""
    with transaction(connection):
        _advance(connection, lane.kind, lane.requeue, chosen.last or lane.last)
        _note_unreadable(connection, lane.kind, chosen.unreadable)
    _account(store, connection, lane.kind, lane.requeue, len(chosen.unreadable), batches=0)
    store.counters["unreadable"] += len(chosen.unreadable)


def _store(store: Store, connection: apsw.Connection, prepared: Prepared) -> Sealed:
    sealed = prepared.sealed
    key = connection.execute("SELECT epoch FROM key_record WHERE kid = ?", (sealed.kid,)).fetchone()
    if key != (sealed.epoch,):
        raise OutboxError(f"key {sealed.kid.hex()}: no committed key record of epoch {sealed.epoch}: add it first")
    with transaction(connection):
        connection.execute(
            "INSERT INTO batch (epoch, seq, kind, kid, first, last, records, attempts, message)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (sealed.epoch, sealed.seq, int(sealed.kind), sealed.kid, prepared.first, prepared.last, sealed.records,
             prepared.attempts, sealed.message),
        )  # fmt: skip
        _advance(connection, sealed.kind, prepared.requeue, prepared.last)
        _note_unreadable(connection, sealed.kind, prepared.unreadable)
        connection.execute("UPDATE boot SET next_seq = ?", (sealed.seq + 1,))
    store.prepared = None
    store.next_seq = sealed.seq + 1
    _account(store, connection, sealed.kind, prepared.requeue, sealed.records + len(prepared.unreadable), batches=1)
    store.counters["sealed_batches"] += 1
    store.counters["sealed_records"] += sealed.records
    store.counters["unreadable"] += len(prepared.unreadable)
    return sealed


def _account(
    store: Store, connection: apsw.Connection, kind: BatchKind, requeue: int | None, rows: int, *, batches: int
) -> None:
    taken = rows if requeue is None else 0
    events = taken if kind is BatchKind.EVENTS else 0
    store.restand(connection, unsealed=-taken, events=-events, batches=batches)


def _advance(connection: apsw.Connection, kind: BatchKind, requeue: int | None, last: int) -> None:
    if requeue is None:
        connection.execute("UPDATE lane SET sealed_upto = ? WHERE kind = ?", (last, int(kind)))
    else:
        connection.execute("UPDATE requeue SET first = ? WHERE id = ?", (last + 1, requeue))
        connection.execute("DELETE FROM requeue WHERE id = ? AND first > last", (requeue,))


def _note_unreadable(connection: apsw.Connection, kind: BatchKind, rows: Sequence[tuple[int, str]]) -> None:
    connection.executemany("INSERT OR IGNORE INTO unreadable VALUES (?, ?, ?)", [(int(kind), *row) for row in rows])


def offers(
    connection: apsw.Connection,
    limit: int,
    exclude: Set[tuple[int, int]],
    *,
    live_from: tuple[int, int] = (0, 0),
    backfill: int | None = None,
) -> list[Sealed]:
    """Up to `limit` unsettled batches without those in `exclude`: events first, then live ones, then older ones.

    Live are those from the number (epoch, seq) `live_from` on; of the older ones there are at most `backfill`. In each
    of the three parts they come by epoch and seq.
    """
    found: list[Sealed] = []
    parts = (
        (BatchKind.EVENTS, ">=", (0, 0)),
        (BatchKind.CAPTURES, ">=", live_from),
        (BatchKind.CAPTURES, "<", live_from),
    )
    for kind, side, bound in parts:
        most = limit if side == ">=" or backfill is None else min(limit, len(found) + backfill)
        numbers = connection.execute(
            f"SELECT id, epoch, seq FROM batch WHERE kind = ? AND (epoch, seq) {side} (?, ?) ORDER BY epoch, seq",
            (int(kind), *bound),
        )
        chosen: list[int] = []
        for number, epoch, seq in numbers:
            if len(found) + len(chosen) >= most:
                break
            if (epoch, seq) not in exclude:
                chosen.append(number)
        numbers.close()
        for number in chosen:
            row = connection.execute(
                "SELECT epoch, seq, kid, message, records FROM batch WHERE id = ?", (number,)
            ).fetchone()
            if row is not None:
                epoch, seq, kid, message, records = row
                found.append(Sealed(epoch=epoch, seq=seq, kind=kind, kid=kid, message=message, records=records))
    return found


def settle(store: Store, connection: apsw.Connection, receipt: Receipt) -> Settled:
    """Take the committed batches off, and void the rejected ones: their rows are sealed again under new numbers."""
    rejected = dict(receipt.rejected)
    ranges = [(0, receipt.contiguous_upto), *receipt.ranges]
    settled: list[tuple[int]] = []
    voided: list[int] = []
    records = 0
    with transaction(connection):
        for first, last in ranges:
            rows: Iterable[tuple[int, int, int]] = connection.execute(
                "SELECT id, seq, records FROM batch WHERE epoch = ? AND seq BETWEEN ? AND ?",
                (receipt.epoch, first, last),
            )
            for number, seq, count in rows:
                if seq not in rejected:
                    settled.append((number,))
                    records += count
        connection.executemany("DELETE FROM batch WHERE id = ?", settled)
        for seq, code in receipt.rejected:
            if _void(connection, receipt.epoch, seq, f"rejected: {code}"):
                voided.append(seq)
        for first, last in ranges:
            # The centre has gone past these without rejecting them again: it knows that they will never come.
            gone = connection.execute(
                "SELECT seq FROM voided WHERE epoch = ? AND seq BETWEEN ? AND ?", (receipt.epoch, first, last)
            ).fetchall()
            connection.executemany(
                "DELETE FROM voided WHERE epoch = ? AND seq = ?",
                [(receipt.epoch, seq) for (seq,) in gone if seq not in rejected],
            )
        drop_keys(store, connection)
    count_voided(store, connection, len(voided), batches=-len(settled) - len(voided))
    store.counters["settled_batches"] += len(settled)
    store.counters["settled_records"] += records
    store.counters["rejected"] += len(voided)
    if receipt.epoch == store.epoch and ranges[-1][1] >= store.next_seq:
        store.counters["receipts_beyond"] += 1
    return Settled(batches=len(settled), records=records, voided=tuple(voided))


def void(store: Store, connection: apsw.Connection, epoch: int, seq: int, reason: str) -> bool:
    """Give a batch up and queue its rows to be sealed again. False when there is no such unsettled batch."""
    with transaction(connection):
        found = _void(connection, epoch, seq, reason)
        drop_keys(store, connection)
    if found:
        count_voided(store, connection, 1, batches=-1)
    return found


def _void(connection: apsw.Connection, epoch: int, seq: int, reason: str) -> bool:
    row = connection.execute(
        "SELECT id, kind, first, last, attempts FROM batch WHERE epoch = ? AND seq = ?", (epoch, seq)
    ).fetchone()
    if row is None:
        return False
    number, kind, first, last, attempts = row
    connection.execute("INSERT OR REPLACE INTO voided VALUES (?, ?, ?)", (epoch, seq, reason))
    connection.execute(
        "INSERT INTO requeue (kind, first, last, attempts) VALUES (?, ?, ?, ?)", (kind, first, last, attempts + 1)
    )
    connection.execute("DELETE FROM batch WHERE id = ?", (number,))
    return True


def count_voided(store: Store, connection: apsw.Connection, voided: int, *, batches: int) -> None:
    parked = store.standing.parked
    store.restand(connection, batches=batches)
    store.counters["voided"] += voided
    store.counters["parked"] += max(0, store.standing.parked - parked)


def drop_keys(store: Store, connection: apsw.Connection) -> None:
    """Let go of key records whose last batch is settled; the newest of this epoch may yet seal one."""
    connection.execute(
        "DELETE FROM key_record WHERE kid NOT IN (SELECT kid FROM batch)"
        " AND id IS NOT (SELECT max(id) FROM key_record WHERE epoch = ?) AND kid IS NOT ?",
        (store.epoch, store.prepared and store.prepared.sealed.kid),
    )


def key_records(connection: apsw.Connection, epoch: int) -> list[KeyEntry]:
    """The key records of unsettled batches, and the current one, oldest first."""
    rows = connection.execute(
        "SELECT kid, epoch, message FROM key_record WHERE kid IN (SELECT kid FROM batch)"
        " OR id = (SELECT max(id) FROM key_record WHERE epoch = ?) ORDER BY id",
        (epoch,),
    )
    return [KeyEntry(kid=kid, epoch=epoch, message=message) for kid, epoch, message in rows]


def voided(connection: apsw.Connection, limit: int) -> list[tuple[int, int]]:
    """Numbers (epoch, seq) that will never come, lowest first."""
    return list(connection.execute("SELECT epoch, seq FROM voided ORDER BY epoch, seq LIMIT ?", (limit,)))
