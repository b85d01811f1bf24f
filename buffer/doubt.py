"""Damage, or only a page that the disk failed to read: inside a statement SQLite says "malformed" of both.

Its unix VFS gives a read that ends with EIO as SQLITE_IOERR_CORRUPTFS, and its virtual machine passes that on as
SQLITE_CORRUPT (SQLite 3.51, os_unix.c seekAndRead, vdbe.c abort_due_to_error).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import apsw

from buffer.errors import StoreDamaged, StoreFailed
from buffer.sqlite import translated

SUSPECT_MS: Final = 3_600_000
"""A page that is damaged is read again well within this time: sealing, purging and the day's account come back to it
after a minute at most. A disk that fails to read a page once in months is never taken for a damaged file."""


class Doubt:
    """What one user of a file has seen of it. Who is told of damage for the first time opens the file anew: a disk that
    is away then fails openly, and damage is found again."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._suspected_at: int | None = None
        """Not forgotten where other pages are read well: the damaged one may be needed seldom."""

    def _suspected(self) -> bool:
        at = self._suspected_at
        return at is not None and abs(self._now_ms() - at) < SUSPECT_MS

    @contextmanager
    def translated(self, path: Path) -> Iterator[None]:
        """SQLite's errors as ours, where the first damage is a StoreFailed."""
        try:
            with translated(path):
                yield
        except StoreFailed:
            self._suspected_at = None
            raise
        except StoreDamaged as error:
            if self._suspected() or not isinstance(error.__cause__, apsw.Error):
                raise
            self._suspected_at = self._now_ms()
            why = f"a page failed to be read, or is damaged ({error.__cause__})"
            raise StoreFailed(f"{path}: {why}; nothing was accepted. Check the disk") from error
