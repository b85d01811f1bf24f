"""A gateway whose disk is put back to an earlier image, time and again, and reads on; in virtual time, then the truth.

The image has no idea of what came after it: it begins with the boot count of a life that was, may hold batches that
have landed since and readings that it never sealed, and goes on with slots that the centre has never seen. What was
accepted is delivered before a disk is put back: what stands nowhere else is lost with the disk.
"""

import asyncio
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

import gateway.keys
from buffer.store import Store
from config.model import TaskEntry
from field.truth import Truth
from identity.datakey import new_data_key
from protocols import envelope
from protocols.envelope import DataKey
from simulators import virtual
from simulators.describe import uniform
from tests.chain import START, Chain
from tests.nonces import Seen

MINUTE = TaskEntry(name="minute", every_s=60, items=("energy.active.import.total", "voltage.a"))
PART_S = (20.0, 240.0)
"""How long a gateway goes on before, during and after an outage: the shortest and the longest."""
NEXT_SLOT_S = 70.0
"""Before an image lives: the slot in hand, read before, would be read again otherwise, and its second value stand among
the conflicts."""
IMAGES = 3
"""Of these the next life begins with any."""


@dataclass(slots=True)
class Story:
    """What came of it."""

    truth: Truth = field(default_factory=Truth)
    restores: int = 0
    unsent: int = 0
    """Of these, images that held something without a receipt."""
    seen: Seen = field(default_factory=lambda: Seen({}, set()))
    other_bytes: int = 0
    """Messages that the centre set aside, as another batch had landed under their number."""


class Disk:
    """The store's directory, and images of it."""

    def __init__(self, store: Path, images: Path, random: Random) -> None:
        self._store = store
        self._images = images
        self._random = random
        self._taken: list[tuple[Path, bool]] = []
        self._count = 0

    def take(self, *, unsent: bool) -> None:
        """An image of what stands on it now; an earlier one makes room."""
        self._count += 1
        image = self._images / f"{self._count}"
        shutil.copytree(self._store, image)
        self._taken.append((image, unsent))
        if len(self._taken) > IMAGES:
            shutil.rmtree(self._taken.pop(self._random.randrange(IMAGES))[0])

    def put_back(self) -> bool:
        """One of the images; says whether something in it has no receipt."""
        image, unsent = self._random.choice(self._taken)
        shutil.rmtree(self._store)
        shutil.copytree(image, self._store)
        return unsent


async def outage(chain: Chain, random: Random, seconds: float) -> None:
    """The broker is away, or the centre: then the broker keeps what it acknowledges, or forgets it."""
    match random.choice(("broker", "centre", "both")):
        case "broker":
            chain.broker.away = True
            await asyncio.sleep(seconds)
            chain.broker.away = False
        case what:
            chain.disconnect_centre()
            await asyncio.sleep(seconds)
            if what == "both":
                chain.broker.lose_held()
            chain.connect_centre()


async def _live(directory: Path, *, seed: int, restores: int) -> Story:
    random, story = Random(seed), Story()
    chain = Chain(directory / "site", uniform(buses=1, meters_per_bus=3), [MINUTE], seed=seed)
    disk = Disk(chain.site.store, directory / "images", random)
    with mock.patch.object(envelope, "seal", story.seen.seal):
        for life in range(restores + 1):
            if life:
                story.unsent += disk.put_back()
                story.restores += 1
                await asyncio.sleep(NEXT_SLOT_S)
            chain.drained_at = None
            async with chain.running() as daemon:
                await asyncio.sleep(random.uniform(*PART_S))
                async with asyncio.TaskGroup() as group:
                    seconds = random.uniform(*PART_S)
                    group.create_task(outage(chain, random, seconds))
                    await asyncio.sleep(seconds * random.random())
                    assert daemon.parts is not None
                    disk.take(unsent=daemon.parts.outbox.pending > 0)
                await asyncio.sleep(random.uniform(*PART_S))
                await chain.drain(daemon)
            if random.random() < 0.5:
                disk.take(unsent=False)
    story.truth = chain.truth()
    story.other_bytes = chain.landing.counters["aside.other_bytes"]
    chain.close()
    return story


def campaign(directory: Path, *, seed: int, restores: int) -> Story:
    """So many restores in one long life. directory: new and empty."""
    (directory / "site").mkdir()
    (directory / "images").mkdir()
    return virtual.run(_live(directory, seed=seed, restores=restores), start_ms=START)


Patch = Callable[[Any, str, object], None]


def takes_up_where_the_disk_stands(patch: Patch) -> None:
    """The control: a start makes no epoch of its own, but goes on with that of its disk, and with its data key."""
    start = Store.start

    def go_on(path: Path, connection: Any, **named: Any) -> Store:
        (epoch, next_seq) = connection.execute("SELECT epoch, next_seq FROM boot").fetchone()
        store = start(path, connection, **named)
        if epoch:
            connection.execute("UPDATE boot SET epoch = ?, next_seq = ?", (epoch, next_seq))
            store.epoch = epoch
            store._read(connection)
        return store

    def same_key(epoch: int, day: int, random: Callable[[int], bytes], algorithm: int) -> DataKey:
        drawn = new_data_key(epoch, day, Random(epoch).randbytes, algorithm)
        return DataKey(kid=random(8), key=drawn.key, salt=drawn.salt, epoch=epoch, day=day, algorithm=algorithm)

    patch(Store, "start", go_on)
    patch(gateway.keys, "new_data_key", same_key)
