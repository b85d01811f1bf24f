"""What was read, looked up by meter and range: a read-only connection of its own, beside the daemon's or without it."""

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from buffer.opening import STORE_NAME
from buffer.rows import from_row
from buffer.sqlite import open_reader, translated
from protocols.capture import Capture, Event, Gap

EVENTS_MAX: Final = 1_000
"""Events given at once when the caller names no other number."""


class History:
    """The records of a store, as far back as they are kept. A context manager; for one thread at a time."""

    def __init__(self, directory: Path) -> None:
        """Raises OutboxError when there is no store in `directory`, or it cannot be read."""
        self._path = directory / STORE_NAME
        self._connection = open_reader(self._path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let the store go."""
        self._connection.close()

    def read(self, meter: str, start: int, end: int, *, task: str | None = None) -> Iterator[Capture | Gap]:
        """Captures and gaps of a meter from `start` up to, not including, `end` (UTC ms), by slot, then as accepted.

        A capture without a slot counts by its stamp. A row that no longer decodes raises Malformed.
        """
        with translated(self._path):
            series = self._connection.execute(
                "SELECT id FROM series WHERE meter = ? AND (task = ? OR ? IS NULL)", (meter, task, task)
            ).fetchall()
            wanted = {number for (number,) in series}
            found = self._connection.execute(
                "SELECT id, series FROM record WHERE moment >= ? AND moment < ? ORDER BY moment, id", (start, end)
            )
            # The index alone answers this; bodies are fetched for the meter's own rows only. All numbers are taken
            # first: a read that stays open while its caller thinks would keep the WAL from being reset.
            numbers = [number for number, of in found if of in wanted]
        for number in numbers:
            with translated(self._path):
                row = self._connection.execute("SELECT body FROM record WHERE id = ?", (number,)).fetchone()
            if row is not None:  # else purged meanwhile
                record = from_row(row[0])
                assert not isinstance(record, Event), "events have a table of their own"
                yield record

    def events(self, limit: int = EVENTS_MAX) -> list[Event]:
        """The newest events, oldest of them first."""
        with translated(self._path):
            rows = self._connection.execute("SELECT body FROM event ORDER BY id DESC LIMIT ?", (limit,)).fetchall()
        records = [from_row(body) for (body,) in reversed(rows)]
        return [record for record in records if isinstance(record, Event)]
