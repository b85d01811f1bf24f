"""A store whose disk fails goes on in another file, and comes home when it is well: each record stands there once."""

import random
import shutil
from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from buffer.errors import StoreAway, StoreBusy, StoreFailed
from buffer.opening import STORE_NAME
from buffer.outbox import Outbox
from buffer.spare import NAME
from buffer.words import Limits, Sealed
from protocols import envelope
from protocols.batch import pack
from protocols.capture import Event, Record
from protocols.envelope import BatchKind
from tests.crash.scenario import GATEWAY, NOW, Keys, capture
from tests.crash.trouble import Trouble
from tests.outbox import settle
from tests.real_disk import mounted
from tests.scratch import scratch

_disks = count()


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """In memory: the disk's failures are made, so real syncs would only cost time."""
    with scratch(20) as directory:
        yield directory


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Trouble]:
    vfs = Trouble(f"spare-{next(_disks)}", tmp_path / "first")
    yield vfs
    vfs.unregister()


class World:
    """A gateway's store with a spare directory, and what it accepted."""

    def __init__(self, directory: Path, disk: Trouble, *, spare: bool = True) -> None:
        self.first, self.second = directory / "first", directory / "second"
        self.spare = (self.second if spare else self.first) / NAME
        self.accepted: list[Record] = []
        self.settled: list[Record] = []
        self.keys = Keys(random.Random(1))
        self.numbers = count(1)
        self.sealed: list[tuple[int, int]] = []
        self._disk = disk
        self.outbox = self.start()

    def start(self) -> Outbox:
        """Open it."""
        return Outbox.open(
            self.first, gateway=GATEWAY, random=random.Random(next(self.numbers)).randbytes, now_ms=lambda: NOW,
            writer="inline", vfs=self._disk.name, limits=Limits(seal_values=6), spare=self.spare.parent
            if self.spare.parent == self.second else None,
        )  # fmt: skip

    async def append(self, *, patience: int = 1) -> int:
        """Three captures and an event; how often it was refused before."""
        at = next(self.numbers)
        records: list[Record] = [capture(n, slot=NOW + n) for n in (next(self.numbers) for _ in range(3))]
        records.append(Event(name="test", at=NOW + at, detail={"n": at}))
        for refused in range(patience):
            try:
                await self.outbox.append(records, urgent=True)
            except StoreAway:
                continue
            self.accepted += records
            return refused
        raise AssertionError(f"refused {patience} times")

    async def seal(self, batches: int = 1_000) -> None:
        """So many batches, under a key of this epoch."""
        epoch = self.outbox.epoch
        key = next((key for key in self.keys.keys.values() if key.epoch == epoch), None)
        data_key = key or await self.keys.add(self.outbox)

        def encrypt(seq: int, kind: BatchKind, body: bytes) -> tuple[bytes, bytes]:
            self.sealed.append((epoch, seq))
            return data_key.kid, envelope.seal(data_key, gateway=GATEWAY, seq=seq, kind=kind, body=body)

        for _ in range(batches):
            if await self.outbox.seal(encrypt) is None:
                break

    async def settle_first(self) -> None:
        """The centre takes the first batch on offer."""
        batch: Sealed = self.outbox.offers(1)[0]
        self.settled += self.keys.open(batch)
        await settle(self.outbox, epoch=batch.epoch, ranges=((batch.seq, batch.seq),))

    async def judge(self) -> None:
        """All that was accepted and is not settled is sealed in batches that open, each record in one."""
        await self.seal()
        assert len(self.sealed) == len(set(self.sealed)), "no nonce twice"
        found = Counter(map(pack, (record for batch in self.outbox.offers(1_000) for record in self.keys.open(batch)
                                   if not (isinstance(record, Event) and record.name == "store_moved"))))  # fmt: skip
        assert found == Counter(map(pack, self.accepted)) - Counter(map(pack, self.settled))
        offered = {(batch.epoch, batch.seq) for batch in self.outbox.offers(1_000)}
        for epoch in {epoch for epoch, _ in self.sealed}:
            numbers = sorted(seq for mine, seq in self.sealed if mine == epoch)
            assert numbers == list(range(1, len(numbers) + 1))
        assert not offered & set(self.outbox.voided())
        assert await self.outbox.check() == []


@pytest.mark.parametrize("elsewhere", [True, False], ids=["second directory", "same directory"])
@pytest.mark.parametrize("failure", ["io", "sync", "readonly"])
async def test_a_store_goes_on_in_its_spare_file_and_comes_home(
    tmp_path: Path, disk: Trouble, failure: str, elsewhere: bool
) -> None:
    disk.file = STORE_NAME
    world = World(tmp_path, disk, spare=elsewhere)
    for _ in range(4):
        await world.append()
    await world.seal(3)
    await world.settle_first()
    epoch, last = world.outbox.epoch, world.outbox.last_slot("meter-1", "curve")
    disk.begin(failure, lasting=True)
    assert await world.append(patience=6) >= 3
    assert world.spare.exists()
    assert world.outbox.epoch == epoch
    assert world.outbox.counters["moved"] == 1
    assert world.outbox.left
    assert (world.outbox.last_slot("meter-1", "curve") or 0) > (last or 0)
    await world.append()
    await world.seal(2)
    await world.settle_first()
    await world.outbox.purge()
    assert world.spare.exists(), "not yet"
    assert world.outbox.first_unsettled <= 2, "what waits in the other file is not settled"
    disk.relieve()
    await world.append()
    await world.seal(2)
    await world.settle_first()
    world.outbox.more.clear()
    await world.outbox.purge()
    assert world.outbox.counters["came_home"] == 1
    assert not world.outbox.left
    assert world.outbox.more.is_set(), "what was left behind waits, and nobody else may tell of it"
    assert not world.spare.exists()
    await world.append()
    await world.judge()
    await world.outbox.close()
    world.outbox = world.start()
    assert world.outbox.damage == []
    await world.judge()
    await world.outbox.close()


@pytest.mark.parametrize("times", [1, 2])
async def test_a_start_takes_the_spare_file_back_or_goes_on_in_it(tmp_path: Path, disk: Trouble, times: int) -> None:
    world = World(tmp_path, disk)
    await world.append()
    await world.seal(1)
    await world.append()
    for _ in range(times):
        disk.begin("io", lasting=True)
        await world.append(patience=6)
        await world.seal(1)
        await world.outbox.close()
        world.outbox = world.start()
        assert "gone on in" in world.outbox.damage[-1]
        await world.append()
        await world.seal(1)
        await world.outbox.close()
        disk.relieve()
        world.outbox = world.start()
        assert "taken back" in world.outbox.damage[-1]
        assert not world.spare.exists()
        await world.append()
    await world.judge()
    await world.outbox.close()


async def test_a_first_start_on_a_disk_that_fails_goes_on_elsewhere(tmp_path: Path, disk: Trouble) -> None:
    disk.begin("io", lasting=True)
    world = World(tmp_path, disk)
    await world.append()
    await world.seal(1)
    await world.append()
    await world.outbox.close()
    disk.relieve()
    world.outbox = world.start()
    await world.append()
    await world.judge()
    await world.outbox.close()


async def test_whichever_operation_fails_on_the_way_home_each_record_stands_there_once(
    tmp_path: Path, disk: Trouble
) -> None:
    for n in count():
        world = World(tmp_path / str(n), disk)
        disk.directory = world.first
        await world.append()
        await world.seal(1)
        await world.append()
        disk.begin("io", lasting=True)
        await world.append(patience=6)
        await world.seal(1)
        disk.begin("io", at=n)
        for _ in range(2):
            try:
                await world.outbox.purge()
            except StoreAway:
                continue
        hit = disk.hit
        disk.relieve()
        await world.outbox.purge()
        assert world.outbox.counters["came_home"] >= 1
        await world.append()
        await world.judge()
        await world.outbox.close()
        if not hit:
            break
    assert n > 10


async def test_a_spare_file_that_was_taken_back_and_is_still_there_is_not_taken_twice(
    tmp_path: Path, disk: Trouble
) -> None:
    """The power went between the last two steps."""
    world = World(tmp_path, disk)
    await world.append()
    disk.begin("io", lasting=True)
    await world.append(patience=6)
    disk.relieve()
    await world.outbox.close()
    shutil.copy(world.spare, tmp_path / "kept")
    world.outbox = world.start()
    assert "taken back" in world.outbox.damage[-1]
    await world.outbox.close()
    shutil.copy(tmp_path / "kept", world.spare)
    world.outbox = world.start()
    assert not world.spare.exists()
    await world.judge()
    await world.outbox.close()


async def test_a_full_disk_moves_the_store_before_anything_is_given_up(tmp_path: Path, disk: Trouble) -> None:
    world = World(tmp_path, disk)
    await world.append()
    disk.begin("full", lasting=True)
    assert await world.append(patience=8) <= 4
    assert world.outbox.counters["moved"] == 1
    assert world.outbox.counters["dropped_bulk"] == 0
    disk.relieve()
    await world.outbox.purge()
    await world.judge()
    await world.outbox.close()


async def test_a_start_on_a_disk_that_is_gone_goes_on_in_the_spare_directory(real_disks: None, tmp_path: Path) -> None:
    """Not even the lock can be opened there."""
    with mounted(tmp_path, megabytes=8) as disk:

        def start(spare: Path | None) -> Outbox:
            return Outbox.open(disk.path / "store", gateway=GATEWAY, random=random.randbytes, now_ms=lambda: NOW,
                               writer="inline", spare=spare)  # fmt: skip

        first, spare = capture(1, slot=NOW), tmp_path / "spare"
        async with start(spare) as outbox:
            await outbox.append([first], urgent=True)
        disk.fail()
        with pytest.raises(StoreFailed, match="check the disk"):
            start(None)
        async with start(spare) as outbox:
            assert "gone on in" in outbox.damage[-1]
            await outbox.append([capture(2, slot=NOW + 1)], urgent=True)
            with pytest.raises(StoreBusy):
                start(spare)
        disk.find_again()
        disk.let_write()
        async with start(spare) as outbox:
            assert "taken back" in outbox.damage[-1]
            assert outbox.has_slot("meter-1", "curve", NOW) and outbox.has_slot("meter-1", "curve", NOW + 1)
