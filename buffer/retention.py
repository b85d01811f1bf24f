"""How long settled records stay as history: counted in hours of running, never in dates.

Each hour that the gateway runs leaves a mark: the newest rows of that moment. What lies before the mark of so many
hours ago as `history_days` have, and is settled, may go. A wall clock that jumps by ten years therefore deletes
nothing, time spent switched off makes history longer rather than shorter, and what is not settled stays whatever its
age.
"""

from collections.abc import Iterable
from typing import Final

import apsw

from buffer.sqlite import integers, pragma, transaction
from buffer.store import Store
from buffer.words import TABLES, Limits
from protocols.envelope import BatchKind

_DAY_S: Final = 86_400
COVERS_LOOKED_AT: Final = 64
"""Batches that one step looks past; behind more of them the next step goes on."""
FREE_PAGES_KEPT: Final = 4096
"""Empty pages (4 MiB) that stay in the file for the next records; the rest goes back to the disk, a part at a time."""
FREE_PAGES_STEP: Final = 1024


def _marks(limits: Limits) -> int:
    return round(limits.history_days * _DAY_S / limits.mark_every_s)


def mark(store: Store, connection: apsw.Connection) -> None:
    """Note that the gateway has run another hour."""
    with transaction(connection):
        connection.execute(
            "INSERT INTO mark (record, event)"
            " VALUES ((SELECT coalesce(max(id), 0) FROM record), (SELECT coalesce(max(id), 0) FROM event))"
        )
        connection.execute(
            "DELETE FROM mark WHERE id <= (SELECT max(id) FROM mark) - ?",
            (_marks(store.limits) + 1,),
        )


def purge(store: Store, connection: apsw.Connection) -> int:
    """Delete settled records beyond the history, at most `purge_records` of each lane; how many went."""
    (oldest,) = integers(
        connection,
        "SELECT coalesce(max(id), 0) FROM mark WHERE id <= (SELECT max(id) FROM mark) - ?",
        (_marks(store.limits),),
    )
    if not oldest:
        return 0
    gone = 0
    with transaction(connection):
        marked = integers(connection, "SELECT event, record FROM mark WHERE id = ?", (oldest,))
        for (kind, table), upto in zip(TABLES.items(), marked, strict=True):
            room = store.limits.purge_records
            for first, last in _settled(connection, kind, upto):
                connection.execute(
                    f"DELETE FROM {table} WHERE id IN"
                    f" (SELECT id FROM {table} WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?)",
                    (first, last, room),
                )
                room -= connection.changes()
                if room <= 0:
                    break
            gone += store.limits.purge_records - room
            connection.execute(
                f"DELETE FROM unreadable WHERE kind = ? AND record < (SELECT min(id) FROM {table})", (int(kind),)
            )
    store.counters["purged"] += gone
    return gone


def _settled(connection: apsw.Connection, kind: BatchKind, upto: int) -> list[tuple[int, int]]:
    """Ranges of rows up to `upto` that are settled: sealed once, and now in no batch and no requeue."""
    table = TABLES[kind]
    # The very last row stays: after a disk error it is compared with what was acknowledged.
    at, top, sealed_upto = integers(
        connection,
        f"SELECT coalesce((SELECT min(id) FROM {table}), 0), coalesce((SELECT max(id) FROM {table}), 0) - 1,"
        " (SELECT sealed_upto FROM lane WHERE kind = ?)",
        (int(kind),),
    )
    last = min(upto, top, sealed_upto)
    rows: Iterable[tuple[int, int]] = connection.execute(
        "SELECT first, last FROM batch WHERE kind = ?1 AND first <= ?2 UNION ALL"
        " SELECT first, last FROM requeue WHERE kind = ?1 AND first <= ?2 ORDER BY first LIMIT ?3",
        (int(kind), last, COVERS_LOOKED_AT),
    )
    covers = list(rows)
    free: list[tuple[int, int]] = []
    for cover_first, cover_last in covers:
        if at < cover_first:
            free.append((at, cover_first - 1))
        at = max(at, cover_last + 1)
    if len(covers) < COVERS_LOOKED_AT and at <= last:
        free.append((at, last))
    return free


def give_back(connection: apsw.Connection) -> None:
    """Return empty pages to the disk."""
    free = pragma(connection, "freelist_count")
    if isinstance(free, int) and free > FREE_PAGES_KEPT:
        connection.execute(f"PRAGMA incremental_vacuum({min(FREE_PAGES_STEP, free - FREE_PAGES_KEPT)})").fetchall()
