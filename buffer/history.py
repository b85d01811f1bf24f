"""What was read, looked up by meter and range: read-only connections of its own, beside the daemon's or without it."""

from collections.abc import Iterator
from functools import partial
from typing import Final

import apsw

from buffer.files import StoreFiles
from buffer.rows import from_row
from protocols.capture import Capture, Event, Gap

EVENTS_MAX: Final = 1_000
"""Events given at once when the caller names no other number."""


class History(StoreFiles):
    """The records of a store, as far back as they are kept."""

    def read(self, meter: str, start: int, end: int, *, task: str | None = None) -> Iterator[Capture | Gap]:
        """Captures and gaps of a meter from `start` up to, not including, `end` (UTC ms), by slot, then as accepted.

        A capture without a slot counts by its stamp. A row that no longer decodes raises Malformed.
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
            if row is not None:  # else purged meanwhile
                record = from_row(row)
                assert not isinstance(record, Event), "events have a table of their own"
                yield record

    def events(self, limit: int = EVENTS_MAX) -> list[Event]:
        """The newest events, oldest of them first."""
        bodies = [body for _, some in self.each(partial(_events, limit=limit)) for body in some]
        records = [from_row(body) for body in bodies[-limit:]]
        return [record for record in records if isinstance(record, Event)]


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
