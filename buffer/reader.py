"""What reads beside the writer: it returns at once, whatever the writer waits for."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import apsw

from buffer.doubt import Doubt
from buffer.sqlite import open_reader
from buffer.store import Store

T = TypeVar("T")


class Reader:
    """A connection that only reads, to the file on which the store stands; opened when it is needed. Used by one thread
    at a time."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._doubt = Doubt(store.now_ms)
        self._connection: apsw.Connection | None = None
        self._of: tuple[Path, int] | None = None

    def look(self, work: Callable[[apsw.Connection], T]) -> T:
        """Raises OutboxError."""
        # What the writer had to open anew may be another file under the same name: a disk that was mounted again.
        of = self._store.path, self._store.counters["reopened"]
        with self._doubt.translated(of[0]):
            if self._of != of:
                self.close()
            if self._connection is None:
                self._of, self._connection = of, open_reader(of[0])
            try:
                return work(self._connection)
            except apsw.Error:
                self.close()
                raise

    def close(self) -> None:
        """Let the file go."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
