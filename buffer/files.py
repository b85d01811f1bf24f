"""The files in which a store stands: its own, and the spare one while records stand there that it has not taken back.

For those who only read, beside the daemon or without it. A file that cannot be read just now is named, and the other
one read all the same.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import apsw

from buffer.errors import OutboxError, StoreForeign
from buffer.opening import STORE_NAME
from buffer.spare import CONTINUES, NAME, TAKEN
from buffer.sqlite import open_reader, schema_version, translated

T = TypeVar("T")


class StoreFiles:
    """These files, open for reading, the store's own first. A context manager; for one thread at a time."""

    def __init__(self, directory: Path, *, spare: Path | None = None) -> None:
        """spare: the second directory, where the site has one.

        Raises OutboxError when there is no store in `directory`, or neither file can be read.
        """
        self.unread: list[str] = []
        """What could not be read, for people."""
        self._open: list[tuple[Path, apsw.Connection]] = []
        self._closing = ExitStack()
        errors = []
        own, other = directory / STORE_NAME, (spare or directory) / NAME
        if not own.exists() and not other.exists():
            raise StoreForeign(f"{own}: no store there yet; `meterwire run` makes it")
        for path in (own, *([other] if other.exists() else [])):
            try:
                connection = self._closing.enter_context(closing(open_reader(path)))
                with translated(path):
                    schema_version(connection, path)  # what a newer one means by its columns is not known here
                    done = path == other and self._open and _taken_back(self._open[0][1], connection)
            except OutboxError as error:
                errors.append(error)
                self.unread.append(str(error))
                continue
            if not done:
                self._open.append((path, connection))
        if not self._open:
            self.close()
            raise errors[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let them go."""
        self._closing.close()

    def each(self, look: Callable[[apsw.Connection], T]) -> Iterator[tuple[int, T]]:
        """What is seen in each of them, with its place. Raises OutboxError."""
        for place in range(len(self._open)):
            yield place, self.at(place, look)

    def at(self, place: int, look: Callable[[apsw.Connection], T]) -> T:
        """What is seen in the one of this place. Raises OutboxError."""
        path, connection = self._open[place]
        with translated(path):
            return look(connection)


def _taken_back(store: apsw.Connection, spare: apsw.Connection) -> bool:
    """Whether the store has taken the spare file back, which is only to be removed yet."""
    taken = store.execute("SELECT value FROM fact WHERE name = ?", (TAKEN,)).fetchone()
    told = spare.execute("SELECT value FROM fact WHERE name = ?", (CONTINUES,)).fetchone()
    return taken is not None and told is not None and json.loads(str(told[0]))["token"] == taken[0]
