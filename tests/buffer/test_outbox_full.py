"""When there is no room: what goes first, what never goes, and how a full disk is left again."""

import itertools
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from buffer.ballast import NAME
from buffer.errors import StoreFull
from buffer.opening import STORE_NAME
from buffer.outbox import Outbox
from buffer.sqlite import open_store
from buffer.words import Limits, RecordClass
from protocols.capture import Capture, Event, Fault, Gap, Record
from tests.crash.scenario import NOW, capture
from tests.crash.small_disk import SmallDisk
from tests.outbox import Sealer, open_outbox, settle
from tests.scratch import scratch

CLASSES = {"months": RecordClass.MONTHLY, "days": RecordClass.DAILY, "curve": RecordClass.CURVE}
MIB = 1 << 20
LIMITS = Limits(bytes_max=MIB, relief_bytes=64 << 10, purge_records=64, mark_every_s=1e-9, curve_days_min=1e-12)
SLOT_MS = 900_000
_disks = itertools.count()


def reading(number: int, task: str) -> Capture:
    """A capture of a task, in a slot of its own; a bulk one without."""
    made = capture(number, slot=None if task == "asked" else NOW + number * SLOT_MS)
    return replace(made, task=task, values=made.values * 4)


def kept(directory: Path) -> Counter[tuple[str, bool]]:
    """How many records there are of each task, and whether they are settled."""
    connection = apsw.Connection(str(directory / STORE_NAME), flags=apsw.SQLITE_OPEN_READONLY)
    (upto,) = connection.execute("SELECT sealed_upto FROM lane WHERE kind = 65001").fetchone() or (0,)
    rows = connection.execute(
        "SELECT task, record.id <= ? AND NOT EXISTS (SELECT 1 FROM batch WHERE record.id BETWEEN first AND last"
        " AND batch.kind = 65001) AND NOT EXISTS (SELECT 1 FROM requeue WHERE record.id BETWEEN first AND last"
        " AND requeue.kind = 65001), count(*) FROM record JOIN series ON series.id = series"
        " WHERE record.kind <> 1 GROUP BY 1, 2", (upto,),
    )  # fmt: skip
    found = Counter({(str(task), bool(settled)): int(str(count)) for task, settled, count in rows})
    connection.close()
    return found


async def fill(outbox: Outbox, sealer: Sealer, tasks: tuple[str, ...], numbers: Iterator[int], rounds: int) -> None:
    """So many rounds of 8 readings of each task."""
    for _ in range(rounds):
        await outbox.append([reading(next(numbers), task) for task in tasks for _ in range(8)], urgent=True)


async def test_what_goes_first_is_declared_and_billing_never_goes(tmp_path: Path) -> None:
    """Settled records by class, then unsettled bulk and curves; each loses nothing while one before it has some."""
    numbers = itertools.count(1)
    tasks = ("asked", "curve", "days", "months")
    async with open_outbox(tmp_path, limits=LIMITS, classes=CLASSES) as outbox:
        sealer = Sealer(outbox)
        await fill(outbox, sealer, tasks, numbers, 5)
        await sealer.all()
        await settle(outbox, outbox.next_seq - 1)
        assert kept(tmp_path) == Counter({(task, True): 40 for task in tasks})
        order = [("asked", True), ("curve", True), ("days", True), ("months", True), ("asked", False), ("curve", False)]
        most: Counter[tuple[str, bool]] = Counter()
        refused = 0
        gone: list[tuple[str, bool]] = []
        for _ in range(4_000):
            try:
                await fill(outbox, sealer, tasks, numbers, 1)
            except StoreFull:
                refused += 1
                if refused > 40:
                    break
            now = kept(tmp_path)
            most |= now
            gone += [one for one in order if one in most and not now[one] and one not in gone]
            for place, one in enumerate(order):
                if most[one] > now[one]:
                    assert all(not now[before] or most[before] > now[before] for before in order[:place])
        assert gone == order, "each of them in its turn"
        assert refused > 40, "with nothing but billing left, nothing more is taken"
        billing = {task: count for (task, settled), count in kept(tmp_path).items() if not settled}
        assert billing["days"] == billing["months"] == most["days", False] > 40
        told = json.loads(outbox.fact("dropped") or "{}")
        assert told == {"bulk": outbox.counters["dropped_bulk"], "curve": outbox.counters["dropped_curve"]}
        assert told["bulk"] == told["curve"] == most["days", False], "every one is counted"
    async with open_outbox(tmp_path, classes=CLASSES) as outbox:
        sealer = Sealer(outbox)
        sealed = sealer.open(await sealer.all())
        gaps = [record for record in sealed if isinstance(record, Gap)]
        assert {gap.fault for gap in gaps} == {Fault.DROPPED}
        assert len(gaps) == len({gap.slot for gap in gaps}) == told["curve"], "each leaves a gap"
        events = [record for record in sealed if isinstance(record, Event)]
        assert sum(int(event.detail["gaps"]) for event in events) == told["curve"]
        assert sum(int(event.detail["without_slot"]) for event in events) == told["bulk"]
        assert Counter(record.task for record in sealed if isinstance(record, Capture)) == Counter(billing)


async def test_a_batch_that_holds_what_is_given_up_is_voided_and_the_rest_of_it_sealed_again(tmp_path: Path) -> None:
    numbers = itertools.count(1)
    limits = replace(LIMITS, full_patience=0, seal_values=200, bytes_max=MIB // 2)
    async with open_outbox(tmp_path, limits=limits, classes=CLASSES) as outbox:
        sealer = Sealer(outbox)
        given: list[Record] = []
        while not outbox.counters["dropped_curve"]:
            records: list[Record] = [reading(next(numbers), task) for task in ("curve", "days") for _ in range(8)]
            await outbox.append(records, urgent=True)
            given += records
            await sealer.all()
        assert outbox.counters["voided"] > 0
        voided = outbox.voided()
        assert voided
        await sealer.all()
        batches = outbox.offers(10_000)
        assert not {(batch.epoch, batch.seq) for batch in batches} & set(voided)
        landed = sealer.open(batches)
        gaps = {(record.task, record.slot) for record in landed if isinstance(record, Gap)}
        captures = [record for record in landed if isinstance(record, Capture)]
        assert len(gaps) == outbox.counters["dropped_curve"]
        assert len(captures) + len(gaps) == len(given)
        assert all(record in captures for record in given
                   if isinstance(record, Capture) and (record.task, record.slot) not in gaps)  # fmt: skip


def small_wal(path: Path, *, vfs: str | None = None) -> apsw.Connection:
    """As small beside this ballast as the real one is beside its own."""
    connection = open_store(path, vfs=vfs)
    connection.wal_autocheckpoint(64)
    return connection


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """In memory: the disk is made to be full, so real syncs would only cost time."""
    with scratch(20) as directory:
        yield directory


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    (tmp_path / "store").mkdir()
    vfs = SmallDisk(f"small-{next(_disks)}", tmp_path / "store")
    yield vfs
    vfs.unregister()


@pytest.mark.parametrize("ballast", [256 << 10, 0], ids=["ballast", "control"])
async def test_a_full_disk_is_left_by_the_ballast(disk: SmallDisk, ballast: int) -> None:
    """All is settled, and somebody else takes the rest of the disk: without ballast not even deleting is possible."""
    limits = Limits(ballast_bytes=ballast, relief_bytes=16 << 10, mark_every_s=1e-9)
    numbers = itertools.count(1)
    outbox = open_outbox(disk.directory, limits=limits, classes=CLASSES, vfs=disk.name)
    sealer = Sealer(outbox)
    assert (disk.directory / NAME).exists() == bool(ballast)
    await fill(outbox, sealer, ("curve", "days"), numbers, 40)
    await sealer.all()
    await settle(outbox, outbox.next_seq - 1)
    await outbox.close()
    outbox = open_outbox(disk.directory, limits=limits, classes=CLASSES, vfs=disk.name, opener=small_wal)
    sealer = Sealer(outbox)
    await fill(outbox, sealer, ("curve",), numbers, 1)  # so that there is a WAL
    disk.capacity = disk.taken()
    before = kept(disk.directory)
    accepted = 0
    for _ in range(30):
        try:
            await fill(outbox, sealer, ("curve",), numbers, 1)
            accepted += 8
        except StoreFull:
            continue
    if not ballast:
        assert accepted == 0, "the control must fail"
        assert kept(disk.directory) == before
    else:
        assert accepted == 240
        assert outbox.counters["ballast_released"] == 1
        assert not (disk.directory / NAME).exists()
        assert kept(disk.directory)["days", True] == before["days", True], "curves go first"
    disk.capacity = None
    await outbox.purge()
    assert (disk.directory / NAME).exists() == bool(ballast)
    await fill(outbox, sealer, ("curve",), numbers, 1)
    assert len([one for one in sealer.open(await sealer.all()) if isinstance(one, Capture)]) == accepted + 16
    await outbox.close()
