"""A disk that can be full: a VFS with so many bytes for all the files of a directory, ballast included."""

from pathlib import Path

import apsw


class SmallDisk(apsw.VFS):
    """The real VFS, where what would take more than `capacity` finds the disk full. None: there is room for all."""

    def __init__(self, name: str, directory: Path) -> None:
        super().__init__(name, "")
        self.name = name
        self.directory = directory
        self.capacity: int | None = None

    def taken(self) -> int:
        """Bytes of all files; the shared memory of a WAL would be one too, but is not written through a VFS."""
        return sum(path.stat().st_size for path in self.directory.iterdir() if not path.name.endswith("-shm"))

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> "SmallDiskFile":
        """As SQLite's."""
        return SmallDiskFile(self, name, flags)


class SmallDiskFile(apsw.VFSFile):
    """A file of it."""

    def __init__(self, vfs: SmallDisk, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        super().__init__("", name, flags)
        self._vfs = vfs

    def xWrite(self, data: bytes, offset: int) -> None:
        """As SQLite's."""
        capacity, more = self._vfs.capacity, offset + len(data) - self.xFileSize()
        if capacity is not None and more > 0 and self._vfs.taken() + more > capacity:
            raise apsw.FullError("made to be full")
        super().xWrite(data, offset)
