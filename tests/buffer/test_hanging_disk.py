"""A disk that hangs holds up who waits for what stands on it; the event loop, and the buses on it, go on."""

import asyncio
import fcntl
import os
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import apsw
import pytest

from buffer.evidence import WAITING_BYTES_MAX, Evidence, read
from buffer.outbox import Outbox
from tests.crash.scenario import NOW, capture
from tests.outbox import Sealer, open_outbox

RECORDS, TICK_S, TICKS = 200, 0.002, 25
PATIENCE_S = 20.0
NOTES, LINE_BYTES_MIN = 1000, 2 * 420


class Hanging(apsw.VFS):
    """The real one, whose reads wait while it hangs."""

    def __init__(self) -> None:
        super().__init__("hanging", "unix", makedefault=True)
        self.well = threading.Event()
        self.well.set()
        self.waiting = threading.Event()
        """A read waits."""

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> "HangingFile":
        """As SQLite's."""
        return HangingFile(self, name, flags)


class HangingFile(apsw.VFSFile):
    """A file of it."""

    def __init__(self, vfs: Hanging, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        super().__init__("unix", name, flags)
        self._vfs = vfs

    def xRead(self, amount: int, offset: int) -> bytes:
        """As SQLite's, when the disk is well."""
        if not self._vfs.well.is_set():
            self._vfs.waiting.set()
            assert self._vfs.well.wait(PATIENCE_S)
        return super().xRead(amount, offset)


@pytest.fixture
def disk() -> Iterator[Hanging]:
    vfs = Hanging()
    yield vfs
    vfs.well.set()
    vfs.unregister()


async def hangs(disk: Hanging) -> None:
    """Until a read waits: the loop goes on, or this never returned."""
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.to_thread(disk.waiting.wait)


async def filled(directory: Path) -> Outbox:
    outbox = open_outbox(directory, writer="thread")
    await outbox.append([capture(n, slot=NOW + n) for n in range(RECORDS)], urgent=True)
    await Sealer(outbox).all()
    return outbox


async def test_the_loop_goes_on_while_what_was_asked_beside_it_waits(tmp_path: Path, disk: Hanging) -> None:
    async with await filled(tmp_path) as outbox:
        disk.well.clear()
        asked = asyncio.ensure_future(outbox.beside(partial(outbox.offers, 10)))
        slots = [("meter-1", "curve", NOW + n) for n in (1, RECORDS)]
        known = asyncio.ensure_future(outbox.captured(slots))
        await hangs(disk)
        assert not await outbox.captured(slots[1:]), "of a slot that is new nothing is looked up"
        assert not known.done()
        disk.well.set()
        assert await asked == outbox.offers(10) != []
        assert await known == {slots[0]}


async def test_without_it_the_loop_stands_still(tmp_path: Path, disk: Hanging) -> None:
    """The control: the same call on the loop itself."""
    async with await filled(tmp_path) as outbox:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(TICK_S)
                ticks += 1

        ticking = asyncio.ensure_future(tick())
        await asyncio.sleep(TICK_S)
        disk.well.clear()
        threading.Timer(TICKS * TICK_S, disk.well.set).start()
        before = ticks
        assert outbox.offers(10)
        assert ticks == before
        ticking.cancel()


async def test_what_is_asked_beside_the_loop_is_answered_before_the_outbox_closes(
    tmp_path: Path, disk: Hanging
) -> None:
    outbox = await filled(tmp_path)
    disk.well.clear()
    asked = asyncio.ensure_future(outbox.beside(partial(outbox.offers, 10)))
    await hangs(disk)
    closing = asyncio.ensure_future(outbox.close())
    await asyncio.sleep(TICK_S)
    disk.well.set()
    await closing
    assert len(await asked) == 1


# The evidence ring: its file is exchanged for a pipe that takes no more, so that a write waits in the kernel.


class Pipe:
    """In the place of the newest file of a ring: full, until it is relieved. Then all goes on into the file."""

    def __init__(self, directory: Path) -> None:
        self._reading, writing = os.pipe()
        self._full = os.write(writing, bytes(fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)))
        (path,) = directory.iterdir()
        (place,) = (int(one.name) for one in Path("/proc/self/fd").iterdir() if one.resolve() == path.resolve())
        self._file = os.dup(place)
        os.dup2(writing, place)
        os.close(writing)
        self._carrying = threading.Thread(target=self._carry)

    def _carry(self) -> None:
        os.read(self._reading, self._full)
        while data := os.read(self._reading, 4096):
            os.write(self._file, data)

    def relieve(self) -> None:
        """The disk answers again."""
        self._carrying.start()

    def close(self) -> None:
        """Once the ring has closed its file: wait until all is in it."""
        self._carrying.join()
        os.close(self._reading)
        os.close(self._file)


def noted(evidence: Evidence, count: int, *, first: int = 0) -> None:
    for n in range(first, first + count):
        evidence.note(bus="b", meter="m", at=n, reason="garbled", sent=bytes(20), seen=bytes(400))


async def test_evidence_waits_in_memory_within_its_bound_and_is_written_when_the_disk_answers(tmp_path: Path) -> None:
    evidence = Evidence(tmp_path, megabytes=1)
    noted(evidence, 1)
    while not evidence.counters["noted"]:  # noqa: ASYNC110 - a ring tells nobody
        await asyncio.sleep(TICK_S)
    pipe = Pipe(tmp_path)
    noted(evidence, NOTES, first=1)
    for _ in range(TICKS):
        await asyncio.sleep(TICK_S)
    assert evidence.counters["noted"] == 1, "only the ring waits"
    overflowed = evidence.counters["overflowed"]
    assert NOTES - WAITING_BYTES_MAX // LINE_BYTES_MIN < overflowed < NOTES
    pipe.relieve()
    await evidence.close()
    pipe.close()
    assert evidence.counters["noted"] == 1 + NOTES - overflowed, "all is counted"
    assert [note.at for note in read(tmp_path)] == list(range(1 + NOTES - overflowed)), "the oldest are kept"


def test_evidence_that_is_written_on_the_loop_holds_it_up(tmp_path: Path) -> None:
    """The control."""
    evidence = Evidence(tmp_path, megabytes=1, writer="inline")
    noted(evidence, 1)
    pipe = Pipe(tmp_path)
    thread = threading.Thread(target=noted, args=(evidence, 1), name="in the loop's place")
    thread.start()
    thread.join(TICKS * TICK_S)
    assert thread.is_alive()
    pipe.relieve()
    thread.join()
    asyncio.run(evidence.close())
    pipe.close()
