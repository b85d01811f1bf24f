"""A disk in trouble: full, failing or read-only, from the n-th operation on, for one operation or until it is relieved.

Below SQLite, as a VFS. Only files of one directory are concerned, so that it may stand in for the default one.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import apsw

FAILURES: Final[dict[str, tuple[frozenset[str], type[apsw.Error]]]] = {
    "full": (frozenset({"grow"}), apsw.FullError),
    "write": (frozenset({"write", "grow"}), apsw.IOError),
    "sync": (frozenset({"sync"}), apsw.IOError),
    "truncate": (frozenset({"truncate"}), apsw.IOError),
    "open": (frozenset({"open"}), apsw.CantOpenError),
    "read": (frozenset({"read"}), apsw.IOError),
    "io": (frozenset({"open", "read", "write", "grow", "truncate", "sync", "delete"}), apsw.IOError),
    "readonly": (frozenset({"write", "grow", "truncate", "delete"}), apsw.ReadOnlyError),
}
"""Kinds of trouble: the operations that fail, and how. `grow` is a write behind the end of a file."""


class Trouble(apsw.VFS):
    """The real VFS, with trouble as it is ordered by `begin`."""

    def __init__(self, name: str, directory: Path, *, default: bool = False) -> None:
        super().__init__(name, "unix", makedefault=default)
        self.name = name
        self.directory = directory
        self.operations = 0
        """Operations that would have failed, had the trouble been at its beginning."""
        self.hit = 0
        self.file = ""
        """What the name of a file begins with that is concerned."""
        self._failure = "none"
        self._at = 0
        self._lasting = False

    def begin(self, failure: str, *, at: int = 0, lasting: bool = False) -> None:
        """From now on the `at`-th operation that this failure concerns fails, and those after it if it is lasting."""
        self._failure, self._at, self._lasting = failure, at, lasting
        self.operations = self.hit = 0

    def relieve(self) -> None:
        """All is well again."""
        self._failure = "none"

    def concern(self, operation: str, path: str) -> None:
        """Count an operation, and fail it if it is its turn."""
        if self._failure == "none" or Path(path).parent != self.directory or not Path(path).name.startswith(self.file):
            return
        operations, error = FAILURES[self._failure]
        if operation not in operations:
            return
        number, self.operations = self.operations, self.operations + 1
        if number == self._at or (self._lasting and number > self._at):
            self.hit += 1
            raise error(f"made to fail: {operation}")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> "TroubledFile":
        """As SQLite's."""
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        if path is not None:
            self.concern("open", path)
        return TroubledFile(self, path or "", name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        """As SQLite's."""
        self.concern("delete", filename)
        super().xDelete(filename, syncdir)


class TroubledFile(apsw.VFSFile):
    """A file of it."""

    def __init__(self, vfs: Trouble, path: str, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        super().__init__("unix", name, flags)
        self._concern: Callable[[str], None] = lambda operation: vfs.concern(operation, path)

    def xRead(self, amount: int, offset: int) -> bytes:
        """As SQLite's."""
        self._concern("read")
        return super().xRead(amount, offset)

    def xWrite(self, data: bytes, offset: int) -> None:
        """As SQLite's."""
        self._concern("grow" if offset + len(data) > self.xFileSize() else "write")
        super().xWrite(data, offset)

    def xTruncate(self, newsize: int) -> None:
        """As SQLite's."""
        self._concern("truncate")
        super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:
        """As SQLite's."""
        self._concern("sync")
        super().xSync(flags)
