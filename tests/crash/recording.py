"""A disk that can lose power: a VFS that records what SQLite does to its files, and the images a cut could leave.

Model: a write reaches the disk at its file's sync; before that each 512-byte sector of it survives by the toss of a
coin, and where a sector was written several times a newer version implies the older ones. Creating, deleting and
truncating are durable as an ordered prefix that any sync completes, as on ext4 and xfs (letting a deletion stay
volatile for ever while later files become durable reports damage that cannot happen).
"""

import itertools
import os
import random
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import apsw

SECTOR: Final = 512


@dataclass(slots=True)
class Write:
    """Bytes given to a file; in its pending list until the file's sync."""

    offset: int
    data: bytes

    def pieces(self) -> list[tuple[int, int, bytes]]:
        """(sector, offset, bytes), cut where sectors meet."""
        cut = []
        at = 0
        while at < len(self.data):
            offset = self.offset + at
            size = min(SECTOR - offset % SECTOR, len(self.data) - at)
            cut.append((offset // SECTOR, offset, self.data[at : at + size]))
            at += size
        return cut


@dataclass(slots=True)
class Truncate:
    """A change of size. number: its place among the metadata operations."""

    size: int
    number: int


@dataclass(frozen=True, slots=True)
class Op:
    """What SQLite asked for. kind: write, truncate, sync, create or delete (with `synced`: the directory too)."""

    kind: str
    file: int
    name: str = ""
    offset: int = 0
    data: bytes = b""
    synced: bool = False


@dataclass(slots=True)
class File:
    """A file on the disk: what is durable of it, and what may be."""

    durable: bytearray = field(default_factory=bytearray)
    pending: list[Write | Truncate] = field(default_factory=list)


class Recording(apsw.VFS):
    """The real VFS, with every change written down.

    fail_at: the change that fails once, with `failure`, counted from 0.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name, "")
        self.name = name
        self.log: list[Op] = []
        self.fail_at: int | None = None
        self.failure: type[apsw.Error] = apsw.IOError
        self.changes = 0
        self.failed = False
        self.files: dict[str, int] = {}
        self._numbers = itertools.count()

    def note(self, op: Op) -> None:
        """Write a change down, or fail it."""
        self.changes += 1
        if self.fail_at is not None and self.changes > self.fail_at and not self.failed:
            self.failed = True
            raise self.failure(f"made to fail: {op.kind}")
        self.log.append(op)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> "RecordingFile":
        """As SQLite's."""
        return RecordingFile(self, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        """As SQLite's."""
        plain = Path(filename).name
        self.note(Op("delete", self.files.get(plain, -1), plain, synced=bool(syncdir)))
        super().xDelete(filename, syncdir)
        self.files.pop(plain, None)

    def known(self, plain: str, *, existed: bool) -> int:
        """The number of a file; a new one's creation is written down."""
        if plain not in self.files:
            self.files[plain] = next(self._numbers)
            self.log.append(Op("create", self.files[plain], plain, synced=existed))
        return self.files[plain]


class RecordingFile(apsw.VFSFile):
    """A file of the recording VFS."""

    def __init__(self, vfs: Recording, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        assert path is not None, "temp_store is memory: no file without a name"
        existed = os.path.exists(path)  # noqa: PTH110 - a str of SQLite's
        super().__init__("", name, flags)
        self._vfs = vfs
        self._file = vfs.known(Path(path).name, existed=existed)

    def xWrite(self, data: bytes, offset: int) -> None:
        """As SQLite's."""
        self._vfs.note(Op("write", self._file, offset=offset, data=bytes(data)))
        super().xWrite(data, offset)

    def xTruncate(self, newsize: int) -> None:
        """As SQLite's."""
        self._vfs.note(Op("truncate", self._file, offset=newsize))
        super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:
        """As SQLite's."""
        self._vfs.note(Op("sync", self._file))
        super().xSync(flags)


class Disk:
    """The disk after a prefix of the log, from which images are drawn."""

    def __init__(self) -> None:
        self._files: dict[int, File] = defaultdict(File)
        self._names: dict[str, int] = {}
        self._metadata: list[Op] = []
        self._done = 0
        """Metadata operations that are durable; those in `_metadata` come after them."""

    def apply(self, op: Op) -> None:
        """The next operation of the log."""
        if op.kind == "write":
            self._files[op.file].pending.append(Write(op.offset, op.data))
            return
        if op.kind == "truncate":
            self._files[op.file].pending.append(Truncate(op.offset, self._done + len(self._metadata)))
            self._metadata.append(op)
            return
        if op.kind in ("create", "delete"):
            self._metadata.append(op)
            if not op.synced:
                return
        self._sync_metadata()
        if op.kind == "sync":
            file = self._files[op.file]
            for change in file.pending:
                _change(file.durable, change)
            file.pending.clear()

    def _sync_metadata(self) -> None:
        for op in self._metadata:
            _rename(self._names, op)
        self._done += len(self._metadata)
        self._metadata.clear()

    def image(self, rng: random.Random, into: Path) -> None:
        """Write the files that a power cut now could leave."""
        kept = rng.randint(0, len(self._metadata))
        names = dict(self._names)
        for op in self._metadata[:kept]:
            _rename(names, op)
        for name, number in names.items():
            into.joinpath(name).write_bytes(_draw(self._files[number], rng, self._done + kept))


def _rename(names: dict[str, int], op: Op) -> None:
    if op.kind == "create":
        names[op.name] = op.file
    elif op.kind == "delete":
        names.pop(op.name, None)


def _change(content: bytearray, change: Write | Truncate) -> None:
    if isinstance(change, Truncate):
        if change.size < len(content):
            del content[change.size :]
        else:
            content.extend(bytes(change.size - len(content)))
        return
    _put(content, change.offset, change.data)


def _put(content: bytearray, offset: int, data: bytes) -> None:
    if offset > len(content):
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


def _draw(file: File, rng: random.Random, metadata: int) -> bytes:
    """The file's content when metadata operations below `metadata` are durable, and of each sector what luck left."""
    versions: dict[int, int] = defaultdict(int)
    pieces = [(change, change.pieces() if isinstance(change, Write) else []) for change in file.pending]
    for _, cut in pieces:
        for sector, _, _ in cut:
            versions[sector] += 1
    survive = {sector: count if rng.random() < 0.5 else rng.randrange(count) for sector, count in versions.items()}
    content = bytearray(file.durable)
    for change, cut in pieces:
        if isinstance(change, Truncate) and change.number < metadata:
            _change(content, change)
        for sector, offset, data in cut:
            if survive[sector] > 0:
                survive[sector] -= 1
                _put(content, offset, data)
    return bytes(content)
