"""SQLite calls a file malformed whose disk failed to read it; and a disk that was mounted again holds other files."""

import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from buffer.doubt import SUSPECT_MS
from buffer.errors import StoreDamaged, StoreFailed
from buffer.opening import STORE_NAME
from buffer.sqlite import PAGE_BYTES, open_store
from tests.crash.scenario import NOW, capture
from tests.crash.trouble import Trouble
from tests.outbox import Sealer, open_outbox
from tests.scratch import scratch

COUNT = 300
_disks = itertools.count()


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """In memory: the disk's failures are made, so real syncs would only cost time."""
    with scratch(20) as directory:
        yield directory


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Trouble]:
    vfs = Trouble(f"doubt-{next(_disks)}", tmp_path)
    yield vfs
    vfs.unregister()


class Forgetful:
    """Opens a store with so small a cache that what is looked up is read; not at all while the disk is away."""

    def __init__(self) -> None:
        self.away = False

    def __call__(self, path: Path, *, vfs: str | None = None) -> apsw.Connection:
        if self.away:
            raise StoreFailed("away")
        connection = open_store(path, vfs=vfs)
        connection.execute("PRAGMA cache_size = 1")
        return connection


async def filled(directory: Path) -> None:
    """A store whose records stand on many pages."""
    async with open_outbox(directory) as outbox:
        await outbox.append([capture(n, slot=NOW + n) for n in range(COUNT)], urgent=True)


def take_away(path: Path) -> None:
    """Every read of the file as it is open now ends with EIO, as one of a process's memory does where it has none.

    A VFS in Python cannot show it: its own exception is what comes out at the other end.
    """
    memory = os.open("/proc/self/mem", os.O_RDONLY)
    for entry in Path("/proc/self/fd").iterdir():
        if os.path.realpath(entry) == str(path):
            os.dup2(memory, int(entry.name))
    os.close(memory)


async def test_a_page_that_the_disk_fails_to_read_is_no_damage(tmp_path: Path) -> None:
    await filled(tmp_path)
    disk = Forgetful()
    async with open_outbox(tmp_path, opener=disk) as outbox:
        for n in range(3):
            take_away(tmp_path / STORE_NAME)
            with pytest.raises(StoreFailed, match="failed to be read, or is damaged"):
                outbox.has_slot("meter-1", "curve", NOW + 1)
            disk.away = True
            with pytest.raises(StoreFailed, match="away"):
                await outbox.append([capture(COUNT + n)], urgent=True)
            disk.away = False
            await outbox.append([capture(COUNT + n)], urgent=True)
            assert outbox.has_slot("meter-1", "curve", NOW + 1)


@pytest.mark.parametrize("later_ms", [SUSPECT_MS - 1, SUSPECT_MS])
async def test_a_disk_that_fails_once_in_a_while_is_never_taken_for_a_damaged_file(
    tmp_path: Path, later_ms: int
) -> None:
    """Pages that were read well in between prove nothing of the one that was not: only time lets go of a suspicion."""
    now = NOW
    await filled(tmp_path)
    async with open_outbox(tmp_path, opener=Forgetful(), now_ms=lambda: now) as outbox:
        for n in range(2 if later_ms < SUSPECT_MS else 5):
            take_away(tmp_path / STORE_NAME)
            with pytest.raises(StoreFailed if n == 0 or later_ms >= SUSPECT_MS else StoreDamaged):
                outbox.has_slot("meter-1", "curve", NOW + 1)
            await outbox.append([capture(COUNT + n)], urgent=True)
            assert outbox.has_slot("meter-1", "curve", NOW + 1)
            now += later_ms


async def test_a_page_that_is_damaged_is_believed_the_second_time(tmp_path: Path) -> None:
    await filled(tmp_path)
    async with open_outbox(tmp_path, opener=Forgetful()) as outbox:
        path = tmp_path / STORE_NAME
        size = path.stat().st_size
        with path.open("r+b") as file:
            file.seek(12 * PAGE_BYTES)
            file.write(b"\xa5" * (size - 13 * PAGE_BYTES))
        with pytest.raises(StoreFailed, match="failed to be read, or is damaged"):
            await Sealer(outbox).all()
        with pytest.raises(StoreDamaged, match="restart"):
            await Sealer(outbox).all()


def mount_again(directory: Path) -> None:
    """Other files under the same names, with the same in them."""
    for part in sorted(directory.glob(f"{STORE_NAME}*")):
        shutil.copy(part, directory / "copied")
        (directory / "copied").rename(part)


async def test_after_a_failure_the_reader_looks_into_the_file_that_is_there_now(tmp_path: Path, disk: Trouble) -> None:
    """The disk went away and was mounted again: what the reader had open is a file of its former life."""
    async with open_outbox(tmp_path, vfs=disk.name, writer="thread") as outbox:
        await outbox.append([capture(1, slot=NOW)], urgent=True)
        assert outbox.has_slot("meter-1", "curve", NOW)
        disk.begin("io", lasting=True)
        with pytest.raises(StoreFailed):
            await outbox.append([capture(2, slot=NOW + 1)], urgent=True)
        mount_again(tmp_path)
        disk.relieve()
        await outbox.append([capture(2, slot=NOW + 1)], urgent=True)
        assert outbox.has_slot("meter-1", "curve", NOW + 1)
