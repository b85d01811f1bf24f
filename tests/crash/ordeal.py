"""A gateway's life in which the n-th operation of the disk fails, for every n until a life passes without a failure.

The life begins with a store of schema 1, so it migrates; then it appends, seals, settles, rejects, voids, purges,
rotates keys, stops and starts. Whoever was refused tries again once the disk is well, as the gateway does.
"""

import gzip
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random
from typing import TypeVar

import apsw

from buffer.errors import StoreAway
from buffer.opening import STORE_NAME
from buffer.outbox import Outbox
from buffer.sqlite import open_store
from buffer.words import Sealed
from protocols import envelope
from protocols.batch import pack
from protocols.capture import Event, Fault, Gap, Record
from protocols.envelope import BatchKind
from protocols.messages import Receipt
from tests.crash.scenario import GATEWAY, LIMITS, NOW, Keys, capture
from tests.crash.trouble import Trouble
from tests.former import sample, unsettled

T = TypeVar("T")

FAILURES = ("full", "write", "sync", "truncate", "open", "readonly")
CHECKPOINT_PAGES = 24
TRIES = 3
"""The first may meet the trouble, the second what it left behind; the third must go through."""


@dataclass
class Ordeal:
    """What a life came to."""

    hit: int = 0
    refused: int = 0
    accepted: list[bytes] = field(default_factory=list)
    at_centre: set[bytes] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)
    """What must not be: something lost, doubled, changed or damaged."""


async def undergo(directory: Path, disk: Trouble, failure: str, at: int, *, lasting: bool, seed: int = 7) -> Ordeal:
    """One life, whose `at`-th operation of a kind fails, alone or with all after it until somebody was refused."""
    disk.directory = directory
    path = directory / STORE_NAME
    path.write_bytes(gzip.decompress(sample(1).read_bytes()))
    life = _Life(directory, disk, Random(seed))
    inherited, records = unsettled(path)
    life.inherited = {(epoch, seq): message for epoch, seq, message in inherited}
    life.ordeal.accepted += map(pack, records)
    disk.begin(failure, at=at, lasting=lasting)
    outbox = await life.open()
    await life.append(outbox)
    await life.seal(outbox)
    await life.append(outbox)
    await life.settle(outbox, reject=True)
    await life.insist(outbox.purge)
    await life.seal(outbox)
    await life.void(outbox)
    outbox = await life.stop(outbox)
    for _ in range(3):
        await life.append(outbox)
    await life.seal(outbox)
    await life.settle(outbox, reject=False)
    await life.insist(outbox.purge)
    await life.append(outbox)
    life.ordeal.hit = disk.hit
    disk.relieve()
    await life.append(outbox)
    await life.judge(outbox)
    await outbox.close()
    outbox = await life.open()
    await life.judge(outbox)
    await outbox.close()
    return life.ordeal


class _Life:
    def __init__(self, directory: Path, disk: Trouble, rng: Random) -> None:
        self.ordeal = Ordeal()
        self.inherited: dict[tuple[int, int], bytes] = {}
        """Batches that the store of schema 1 held. They stay as they are; nobody here has their keys."""
        self._directory = directory
        self._disk = disk
        self._rng = rng
        self._keys = Keys(rng)
        self._sealed: dict[tuple[int, int], bytes] = {}
        self._numbers = count(1_000)

    async def insist(self, what: Callable[[], Awaitable[T]]) -> T:
        """Try again when it was refused, and have the disk relieved."""
        for _ in range(TRIES):
            try:
                return await what()
            except StoreAway as error:
                self.ordeal.refused += 1
                self._disk.relieve()
                refused = str(error)
        raise AssertionError(f"refused although the disk is well: {refused}")

    async def open(self) -> Outbox:
        """A start, with a key of its own."""

        def opener(path: Path, *, vfs: str | None = None) -> apsw.Connection:
            connection = open_store(path, vfs=vfs)
            connection.wal_autocheckpoint(CHECKPOINT_PAGES)
            return connection

        async def start() -> Outbox:
            return Outbox.open(self._directory, gateway=GATEWAY, random=self._rng.randbytes, now_ms=lambda: NOW,
                               writer="inline", vfs=self._disk.name, limits=LIMITS, opener=opener)  # fmt: skip

        outbox = await self.insist(start)
        self.ordeal.wrong += outbox.damage
        self._key = await self.insist(lambda: self._keys.add(outbox))
        return outbox

    async def stop(self, outbox: Outbox) -> Outbox:
        """A stop that may fail, and a start."""
        try:
            await outbox.close()
        except StoreAway:
            self.ordeal.refused += 1
        return await self.open()

    async def append(self, outbox: Outbox) -> None:
        """Three captures, a gap and an event."""
        records: list[Record] = [capture(n, slot=NOW + n) for n in (next(self._numbers) for _ in range(3))]
        at = next(self._numbers)
        records.append(Gap(meter="meter-2", task="curve", slot=at, fault=Fault.SILENT, opened_at=NOW + at))
        records.append(Event(name="test", at=NOW + at, detail={"n": at}))
        await self.insist(lambda: outbox.append(records, urgent=True))
        self.ordeal.accepted += map(pack, records)

    async def seal(self, outbox: Outbox) -> None:
        """All that there is."""

        def encrypt(seq: int, kind: BatchKind, body: bytes) -> tuple[bytes, bytes]:
            if (outbox.epoch, seq) in self._sealed:
                self.ordeal.wrong.append(f"number {seq} encrypted under twice")
            message = envelope.seal(self._key, gateway=GATEWAY, seq=seq, kind=kind, body=body)
            self._sealed[outbox.epoch, seq] = message
            return self._key.kid, message

        while await self.insist(lambda: outbox.seal(encrypt)) is not None:
            pass

    async def _offers(self, outbox: Outbox) -> list[Sealed]:
        async def look() -> list[Sealed]:
            return outbox.offers(1_000)

        return await self.insist(look)

    async def settle(self, outbox: Outbox, *, reject: bool) -> None:
        """The centre takes all batches of this epoch, or all but the last."""
        epoch, upto = outbox.epoch, outbox.next_seq - 1
        mine = [batch for batch in await self._offers(outbox) if batch.epoch == epoch]
        rejected = tuple((batch.seq, "bad_tag") for batch in mine[-1:] if reject)
        for batch in mine[:-1] if reject else mine:
            self.ordeal.at_centre.update(map(pack, self._keys.open(batch)))
        receipt = Receipt(gateway=GATEWAY, epoch=epoch, contiguous_upto=upto, rejected=rejected, sent_at=NOW)
        await self.insist(lambda: outbox.settle(receipt))

    async def void(self, outbox: Outbox) -> None:
        """The last of this epoch's batches is too long for the broker."""
        last = [batch for batch in await self._offers(outbox) if batch.epoch == outbox.epoch][-1]
        await self.insist(lambda: outbox.void(last.epoch, last.seq, "too long"))

    async def judge(self, outbox: Outbox) -> None:
        """Every record that was accepted is with the centre, or here once."""
        await self.seal(outbox)
        found: Counter[bytes] = Counter()
        inherited: dict[tuple[int, int], bytes] = {}
        for batch in await self._offers(outbox):
            number = batch.epoch, batch.seq
            if number in self.inherited:
                inherited[number] = batch.message
            elif self._sealed.get(number) != batch.message:
                self.ordeal.wrong.append(f"batch {number} is not what was sealed")
            else:
                found.update(map(pack, self._keys.open(batch)))
        if inherited != self.inherited:
            self.ordeal.wrong.append("a batch of the former schema is gone, or another one")
        for epoch in {epoch for epoch, _ in self._sealed}:
            numbers = sorted(seq for mine, seq in self._sealed if mine == epoch)
            if numbers != list(range(1, len(numbers) + 1)):
                self.ordeal.wrong.append(f"numbers of epoch {epoch}: {numbers}")
        lost = sum(not found[one] and one not in self.ordeal.at_centre for one in self.ordeal.accepted)
        doubled = sum(times > 1 for times in found.values())
        strange = len(found.keys() - set(self.ordeal.accepted))
        settled = sum(one in self.ordeal.at_centre for one in found)
        if lost or doubled or strange or settled:
            self.ordeal.wrong.append(f"lost {lost}, doubled {doubled}, never given {strange}, settled too {settled}")
