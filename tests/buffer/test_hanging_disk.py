"""A disk that hangs holds up who waits for what stands on it; the event loop, and the buses on it, go on."""

import asyncio
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import apsw
import pytest

from buffer.outbox import Outbox
from tests.crash.scenario import NOW, capture
from tests.outbox import Sealer, open_outbox

RECORDS, TICK_S, TICKS = 200, 0.002, 25
PATIENCE_S = 20.0


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
        assert outbox.has_slot("meter-1", "curve", NOW + 1)
        disk.well.clear()
        asked = asyncio.ensure_future(outbox.beside(partial(outbox.offers, 10)))
        await hangs(disk)
        assert outbox.has_slot("meter-1", "curve", NOW + 1), "what the schedule knows waits for none of it"
        disk.well.set()
        assert await asked == outbox.offers(10) != []


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
