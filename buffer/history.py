"""What was read, looked up by meter and range: read-only connections of its own, beside the daemon's or without it."""

from collections.abc import Iterator
from functools import partial
from typing import Final, NamedTuple

import apsw

from buffer.files import StoreFiles
from buffer.rows import GAP, from_row
from protocols.capture import Capture, Event, Gap
from protocols.errors import Malformed

EVENTS_MAX: Final = 1_000
"""Events given at once when the caller names no other number."""


class SeriesKept(NamedTuple):
    """A task of a meter: how many records of it are kept, how many of these are gaps, and its last slot (UTC ms)."""

    meter: str
    task: str
    records: int
    gaps: int
    last_slot: int | None


class History(StoreFiles):
    """The records of a store, as far back as they are kept."""

    def read(self, meter: str, start: int, end: int, *, task: str | None = None) -> Iterator[Capture | Gap]:
        """Captures and gaps of a meter from `start` up to, not including, `end` (UTC ms), by slot, then as accepted.

        A capture without a slot counts by its stamp. A row that does not decode any more is named in `unread`.
        """
        # The index alone answers this; bodies are fetched for the meter's own rows only. All numbers are taken first: a
        # read that stays open while its caller thinks would keep the WAL from being reset.
        found = [
            (moment, place, number)
            for place, rows in self.each(partial(_numbers, meter=meter, start=start, end=end, task=task))
            for moment, number in rows
        ]
        for _, place, number in sorted(found):
            row = self.at(place, partial(_body, number=number))
            if row is None:
                continue  # purged meanwhile
            try:
                record = from_row(row)
            except Malformed as error:
                self.unread.append(f"row {number}: {error}")
                continue
            assert not isinstance(record, Event), "events have a table of their own"
            yield record

    def series(self) -> list[SeriesKept]:
        """Of what there are records, by meter and task."""
        kept: dict[tuple[str, str], SeriesKept] = {}
        for _, found in self.each(_series):
            for one in found:
                before = kept.get((one.meter, one.task), one._replace(records=0, gaps=0))
                kept[one.meter, one.task] = one._replace(
                    records=before.records + one.records, gaps=before.gaps + one.gaps
                )
        return sorted(kept.values())

    def events(self, limit: int = EVENTS_MAX) -> list[Event]:
        """The newest events, oldest of them first."""
        bodies = [body for _, some in self.each(partial(_events, limit=limit)) for body in some]
        records = [from_row(body) for body in bodies[-limit:]]
        return [record for record in records if isinstance(record, Event)]


def _series(connection: apsw.Connection) -> list[SeriesKept]:
    rows = connection.execute(
        "SELECT s.meter, s.task, count(r.id), coalesce(sum(r.kind = ?), 0), s.last_slot"
        " FROM series AS s LEFT JOIN record AS r ON r.series = s.id GROUP BY s.id",
        (GAP,),
    )
    return [SeriesKept(*row) for row in rows]


def _numbers(
    connection: apsw.Connection, *, meter: str, start: int, end: int, task: str | None
) -> list[tuple[int, int]]:
    series = connection.execute(
        "SELECT id FROM series WHERE meter = ? AND (task = ? OR ? IS NULL)", (meter, task, task)
    ).fetchall()
    wanted = {number for (number,) in series}
    found = connection.execute("SELECT moment, id, series FROM record WHERE moment >= ? AND moment < ?", (start, end))
    return [(moment, number) for moment, number, of in found if of in wanted]


def _body(connection: apsw.Connection, *, number: int) -> bytes | None:
    row: tuple[bytes] | None = connection.execute("SELECT body FROM record WHERE id = ?", (number,)).fetchone()
    return None if row is None else row[0]


def _events(connection: apsw.Connection, *, limit: int) -> list[bytes]:
    rows = connection.execute("SELECT body FROM event ORDER BY id DESC LIMIT ?", (limit,)).fetchall()
    return [body for (body,) in reversed(rows)]
