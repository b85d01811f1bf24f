"""How long settled records stay as history: by class, counted in hours of running, never in dates.

Each hour that the gateway runs leaves a mark: the newest rows of that moment. What lies before the mark of so many
hours ago as the days of its class have, and is settled, may go. A wall clock that jumps by ten years therefore deletes
nothing, time spent switched off makes history longer rather than shorter, and what is not settled stays whatever its
age.
"""

from typing import Final, NamedTuple

import apsw

from buffer.sqlite import integers, pragma, transaction
from buffer.store import Store, Walk
from buffer.words import TABLES, Limits, RecordClass
from protocols.envelope import BatchKind

_DAY_S: Final = 86_400
COVERS_LOOKED_AT: Final = 64
"""Batches that one step looks past; behind more of them the next step goes on."""
NUMBERS_LOOKED_AT: Final = 16_384
"""Rows that one step looks at, whether they are of its class or not: some tens of milliseconds."""
FREE_BYTES_KEPT: Final = 4 << 20
"""Empty pages that stay in the file for the next records; the rest goes back to the disk, a part at a time."""
FREE_BYTES_STEP: Final = 1 << 20
ROW_BYTES: Final = 40
"""What a row takes besides its body, its entry in the index included."""

Kept = RecordClass | None
"""A class of records; None: the events."""


class Gone(NamedTuple):
    """What was let go by a step, and how far it came: `walked` is to be kept in the store once this is committed."""

    rows: int
    bytes: int
    walked: "Walk"
    end: bool
    """Whether the step came to its end."""


def days(limits: Limits, kept: Kept) -> float:
    """For how many days of running the settled records of a class stay."""
    return {
        RecordClass.MONTHLY: limits.monthly_days, RecordClass.DAILY: limits.daily_days,
        RecordClass.CURVE: limits.curve_days, RecordClass.BULK: limits.bulk_days, None: limits.daily_days,
    }[kept]  # fmt: skip


def _marks(limits: Limits, span: float) -> int:
    return round(span * _DAY_S / limits.mark_every_s)


def mark(store: Store, connection: apsw.Connection) -> None:
    """Note that the gateway has run another hour."""
    longest = max(days(store.limits, kept) for kept in (None, *RecordClass))
    with transaction(connection):
        connection.execute(
            "INSERT INTO mark (record, event)"
            " VALUES ((SELECT coalesce(max(id), 0) FROM record), (SELECT coalesce(max(id), 0) FROM event))"
        )
        connection.execute(
            "DELETE FROM mark WHERE id <= (SELECT max(id) FROM mark) - ?", (_marks(store.limits, longest) + 1,)
        )


def purge(store: Store, connection: apsw.Connection) -> int:
    """Delete settled records beyond the history, at most `purge_records` of each class; how many went."""
    gone: dict[Kept, Gone] = {}
    with transaction(connection):
        for kept in (None, *RecordClass):
            upto = before(store, connection, kept, days(store.limits, kept))
            if upto:
                gone[kept] = let_go(store, connection, kept, upto)
    store.walks.update({kept: step.walked for kept, step in gone.items()})
    rows = sum(step.rows for step in gone.values())
    store.counters["purged"] += rows
    return rows


def before(store: Store, connection: apsw.Connection, kept: Kept, span: float) -> int:
    """The newest row of a class that is older than so many days of running; 0 when there is none."""
    lane = "record" if kept is not None else "event"
    (upto,) = integers(
        connection,
        f"SELECT coalesce((SELECT {lane} FROM mark WHERE id <= (SELECT max(id) FROM mark) - ? ORDER BY id DESC LIMIT 1)"
        ", 0)",
        (_marks(store.limits, span),),
    )
    if kept is None and upto:
        row = connection.execute(
            "SELECT id FROM event ORDER BY id DESC LIMIT 1 OFFSET ?", (store.limits.events_min,)
        ).fetchone()
        upto = min(upto, row[0] if row else 0)
    return upto


def let_go(store: Store, connection: apsw.Connection, kept: Kept, upto: int) -> Gone:
    """Delete settled rows of a class up to `upto`, the oldest first, at most `purge_records`. In a transaction."""
    kind = BatchKind.EVENTS if kept is None else BatchKind.CAPTURES
    table = TABLES[kind]
    mine = "" if kept is None else f" AND series IN (SELECT id FROM series WHERE class = {int(kept)})"
    room = store.limits.purge_records
    rows = size = 0
    walk = store.walks.get(kept, Walk(0, None))
    found = _settled(connection, kind, upto, walk.at + 1)
    at, end = found.last, found.end
    for first, last in found.ranges:
        deleted = connection.execute(
            f"DELETE FROM {table} WHERE id IN"
            f" (SELECT id FROM {table} WHERE id BETWEEN ? AND ?{mine} ORDER BY id LIMIT ?) RETURNING length(body)",
            (first, last, room - rows),
        ).fetchall()
        rows, size = rows + len(deleted), size + sum(int(str(length)) + ROW_BYTES for (length,) in deleted)
        if rows >= room:
            at, end = first - 1, False
            break
    connection.execute(
        f"DELETE FROM unreadable WHERE kind = ? AND record < (SELECT min(id) FROM {table})", (int(kind),)
    )
    back = min((low for low in (walk.back, found.unsettled) if low is not None), default=None)
    walked = Walk(back, None) if end and back is not None else Walk(at, back)
    return Gone(rows, size, walked, end)


class _Found(NamedTuple):
    """Settled rows."""

    ranges: list[tuple[int, int]]
    last: int
    """The highest number that was looked at."""
    end: bool
    unsettled: int | None
    """The number before the first unsettled row that was passed."""


def _settled(connection: apsw.Connection, kind: BatchKind, upto: int, start: int) -> _Found:
    """Rows from `start` to `upto` that are settled: sealed once, and now in no batch and no requeue."""
    table = TABLES[kind]
    # The very last row stays: after a disk error it is compared with what was acknowledged.
    at, top, sealed_upto = integers(
        connection,
        f"SELECT coalesce((SELECT min(id) FROM {table} WHERE id >= ?), 0),"
        f" coalesce((SELECT max(id) FROM {table}), 0) - 1, (SELECT sealed_upto FROM lane WHERE kind = ?)",
        (start, int(kind)),
    )
    whole = min(upto, top, sealed_upto)
    if not at or at > whole:
        return _Found([], start - 1, True, None)
    last = min(whole, at + NUMBERS_LOOKED_AT)
    covers: list[tuple[int, int]] = list(
        connection.execute(
            "SELECT first, last FROM batch WHERE kind = ?1 AND first <= ?2 AND last >= ?3 UNION ALL"
            " SELECT first, last FROM requeue WHERE kind = ?1 AND first <= ?2 AND last >= ?3 ORDER BY first LIMIT ?4",
            (int(kind), last, at, COVERS_LOOKED_AT),
        )
    )
    if len(covers) == COVERS_LOOKED_AT:
        last = min(last, covers[-1][1])
    ranges: list[tuple[int, int]] = []
    for cover_first, cover_last in covers:
        if at < cover_first:
            ranges.append((at, cover_first - 1))
        at = max(at, cover_last + 1)
    if at <= last:
        ranges.append((at, last))
    return _Found(ranges, max(last, at - 1), last == whole, covers[0][0] - 1 if covers else None)


def give_back(connection: apsw.Connection, *, kept: int = FREE_BYTES_KEPT) -> None:
    """Return empty pages to the disk."""
    free, size = (int(pragma(connection, name) or 0) for name in ("freelist_count", "page_size"))
    spare = free - kept // size
    if spare > 0:
        connection.execute(f"PRAGMA incremental_vacuum({min(FREE_BYTES_STEP // size, spare)})").fetchall()
