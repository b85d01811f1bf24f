"""Records into the store: a group of them in one transaction, durable when it returns. Called by the writer."""

from collections.abc import Sequence
from dataclasses import replace

import apsw

from buffer.errors import StoreFull
from buffer.rows import EventRow, Row
from buffer.sqlite import pragma, transaction
from buffer.store import Series, Store
from buffer.words import RecordClass
from protocols.envelope import BatchKind

SeriesByKey = dict[tuple[str, str], Series]
"""By meter and task."""


def append(store: Store, rows: Sequence[Row], events: Sequence[EventRow]) -> None:
    """Write records. Raises OutboxError; none of them is there then."""
    try:
        store.run(lambda connection: _append(store, connection, rows, events), appending=True)
    except StoreFull:
        store.refused += 1
        raise
    store.refused = 0


def _append(store: Store, connection: apsw.Connection, rows: Sequence[Row], events: Sequence[EventRow]) -> None:
    _leave_room(store, connection)
    series = _series_of(store, rows)
    tail = dict(store.tail)
    with transaction(connection):
        _write_series(store, connection, series)
        if rows:
            connection.executemany(
                "INSERT INTO record (series, moment, kind, body) VALUES (?, ?, ?, ?)",
                ((series[row.meter, row.task].number, row.moment, row.kind, row.body) for row in rows),
            )
            tail[BatchKind.CAPTURES] = connection.last_insert_rowid(), rows[-1].body
        if events:
            connection.executemany("INSERT INTO event (moment, body) VALUES (?, ?)", events)
            tail[BatchKind.EVENTS] = connection.last_insert_rowid(), events[-1].body
    store.tail = tail
    store.series.update(series)
    store.counters["commits"] += 1
    store.counters["appended"] += len(rows) + len(events)
    old = store.standing
    store.standing = replace(
        old, unsealed=old.unsealed + len(rows) + len(events), unsealed_events=old.unsealed_events + len(events)
    )


def _leave_room(store: Store, connection: apsw.Connection) -> None:
    """Leave what sealing needs of the store's own bound. Raises FullError."""
    if store.limits.bytes_max:
        names = ("page_count", "freelist_count", "page_size")
        pages, free, size = (int(pragma(connection, name) or 0) for name in names)
        if (pages - free) * size + store.limits.relief_bytes >= store.limits.bytes_max:
            raise apsw.FullError("what is left of the store's bound is for sealing")


def _series_of(store: Store, rows: Sequence[Row]) -> SeriesByKey:
    """The series of the rows that are new, or whose last slot moves, and those of the others as they are."""
    series: SeriesByKey = {}
    for row in rows:
        key = row.meter, row.task
        known = series.get(key) or store.series.get(key)
        if known is None:
            new = sum(key not in store.series for key in series)
            known = Series(len(store.series) + new + 1, None, store.classes.get(row.task, RecordClass.BULK))
        if row.slot is not None and (known.last_slot is None or row.slot > known.last_slot):
            known = known._replace(last_slot=row.slot)
        series[key] = known
    return series


def _write_series(store: Store, connection: apsw.Connection, series: SeriesByKey) -> None:
    connection.executemany(
        "INSERT INTO series VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET last_slot = excluded.last_slot",
        [
            (new.number, *key, new.last_slot, int(new.kept))
            for key, new in series.items()
            if store.series.get(key) != new
        ],
    )
