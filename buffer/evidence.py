"""What was on the wire when a read failed or mattered: a ring of compressed files, bounded in size.

Each file is gzip of one JSON object a line (`zcat` reads it; of the newest it says that the end is missing), synced to
the reader after each line and to the disk never: evidence is not part of the promise. Trouble with its disk is counted,
and never reaches the bus that gave the frames; nor does a disk that hangs, as a thread of its own waits for it.
"""

import errno
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

from buffer.writer import make_writer

SEGMENTS_MIN: Final = 8
SEGMENT_BYTES_MAX: Final = 1024 * 1024
"""The ring forgets a file at a time, so it has at least SEGMENTS_MIN, of at most this size."""
GZIP: Final = 31
"""zlib's window bits for a gzip header and trailer around a 32 KiB window."""
RETRY_AFTER: Final = 64
"""After a failure so many notes are dropped before the disk is tried again."""
WAITING_BYTES_MAX: Final = 256 * 1024
"""Notes that may wait for a disk that hangs: some 400 exchanges. Further ones are counted and dropped."""

_PREFIX, _SUFFIX = "evidence-", ".jsonl.gz"


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """One exchange as it was on the wire. at: UTC milliseconds."""

    at: int
    bus: str
    meter: str
    reason: str
    sent: bytes
    seen: bytes


class Evidence:
    """The ring in `directory`, of at most `megabytes` (10^6 bytes)."""

    def __init__(self, directory: Path, *, megabytes: int, writer: Literal["thread", "inline"] = "thread") -> None:
        if megabytes < 1:
            raise ValueError(f"expected at least 1 MB, got {megabytes}")
        self._directory = directory
        self._bytes_max = megabytes * 1_000_000
        self._segment_bytes = min(SEGMENT_BYTES_MAX, self._bytes_max // SEGMENTS_MIN)
        self._writer = make_writer(writer)
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        """Of these, and of what the writer has."""
        self._writing = False
        self._file: BinaryIO | None = None
        self._packer = zlib.compressobj(wbits=GZIP)
        self._sizes: dict[Path, int] | None = None
        self._rest = 0
        self.last_error = ""
        # The first is the event loop's, the others are the writer's: none is counted by two threads.
        self.counters = {"overflowed": 0, "noted": 0, "dropped": 0, "disk_errors": 0, "segments_forgotten": 0}

    def note(self, *, bus: str, meter: str, at: int, reason: str, sent: bytes, seen: bytes) -> None:
        """Keep an exchange (at: UTC ms), soon. Never raises for trouble with the disk: `counters` tell of that."""
        text = json.dumps({"at": at, "bus": bus, "meter": meter, "reason": reason, "sent": sent.hex().upper(),
                           "seen": seen.hex().upper()}, ensure_ascii=False)  # fmt: skip
        line = text.encode() + b"\n"
        if self._waiting_bytes + len(line) > WAITING_BYTES_MAX:
            self.counters["overflowed"] += 1
            return
        self._waiting.append(line)
        self._waiting_bytes += len(line)
        if not self._writing:
            self._hand_over()

    async def close(self) -> None:
        """Write what waits, and end the file that is being written."""
        if self._waiting:
            self._hand_over()
        self._writer.submit(self._end, lambda _, __: None)
        await self._writer.stop()

    def _hand_over(self) -> None:
        lines, self._waiting = self._waiting, []
        self._writing = True
        self._writer.submit(partial(self._keep, lines), partial(self._kept, sum(map(len, lines))))

    def _kept(self, size: int, _: object, error: BaseException | None) -> None:
        self._writing = False
        self._waiting_bytes -= size
        if error is not None:
            raise error
        if self._waiting:
            self._hand_over()

    # The writer's.

    def _keep(self, lines: Sequence[bytes]) -> None:
        for line in lines:
            if self._rest:
                self._rest -= 1
                self.counters["dropped"] += 1
                continue
            try:
                self._write(line)
            except OSError as error:
                self.counters["disk_errors"] += 1
                self.counters["dropped"] += 1
                self.last_error = str(error)
                self._rest = RETRY_AFTER
                self._abandon()
            else:
                self.counters["noted"] += 1

    def _end(self) -> None:
        """End the file that is being written."""
        if self._file is None:
            return
        try:
            self._file.write(self._packer.flush(zlib.Z_FINISH))
        except OSError as error:
            self.counters["disk_errors"] += 1
            self.last_error = str(error)
        self._abandon()

    def _write(self, line: bytes) -> None:
        if self._file is None:
            self._begin()
        assert self._file is not None
        assert self._sizes is not None
        data = self._packer.compress(line) + self._packer.flush(zlib.Z_SYNC_FLUSH)
        if self._file.write(data) != len(data):
            raise OSError(errno.ENOSPC, "only a part was written")
        path = next(reversed(self._sizes))
        self._sizes[path] += len(data)
        if self._sizes[path] >= self._segment_bytes:
            self._end()

    def _begin(self) -> None:
        """A new file; a restart never goes on with an old one, whose end may be torn."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._sizes is None:
            self._sizes = {path: path.stat().st_size for path in segments(self._directory)}
        while self._sizes and sum(self._sizes.values()) + self._segment_bytes > self._bytes_max:
            oldest = next(iter(self._sizes))
            oldest.unlink(missing_ok=True)
            del self._sizes[oldest]
            self.counters["segments_forgotten"] += 1
        number = _number(next(reversed(self._sizes))) + 1 if self._sizes else 1
        path = self._directory / f"{_PREFIX}{number:08d}{_SUFFIX}"
        self._packer = zlib.compressobj(wbits=GZIP)
        self._file = path.open("xb", buffering=0)
        self._sizes[path] = 0

    def _abandon(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except OSError as error:
                self.counters["disk_errors"] += 1
                self.last_error = str(error)


def segments(directory: Path) -> list[Path]:
    """The files of a ring, oldest first."""
    return sorted(path for path in directory.glob(f"{_PREFIX}*{_SUFFIX}") if _number(path))


def _number(path: Path) -> int:
    digits = path.name[len(_PREFIX) : -len(_SUFFIX)]
    return int(digits) if digits.isdecimal() else 0


def read(directory: Path) -> Iterator[Note]:
    """The notes of a ring, oldest first; of a file whose end is torn, those before it."""
    for path in segments(directory):
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            continue  # The ring has forgotten it meanwhile.
        yield from _notes(data)


def _notes(data: bytes) -> Iterator[Note]:
    unpacker = zlib.decompressobj(wbits=GZIP)
    text = b""
    for at in range(0, len(data), 4096):
        try:
            text += unpacker.decompress(data[at : at + 4096])
        except zlib.error:
            break  # Damage: what was read before it stands.
        *lines, text = text.split(b"\n")
        for line in lines:
            try:
                note = _note(json.loads(line))
            except (ValueError, KeyError):
                return  # Damage that zlib did not see, as its checksum stands at the end of the file.
            yield note


def _note(fields: dict[str, Any]) -> Note:
    return Note(at=fields["at"], bus=fields["bus"], meter=fields["meter"], reason=fields["reason"],
                sent=bytes.fromhex(fields["sent"]), seen=bytes.fromhex(fields["seen"]))  # fmt: skip
