"""A gateway's life with its outbox, and what must hold of every image that a power cut could leave of it."""

import gzip
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import apsw

from buffer.opening import STORE_NAME
from buffer.outbox import Outbox
from buffer.sqlite import Synchronous, open_store
from buffer.words import Limits, Sealed
from protocols import envelope
from protocols.batch import decode, pack
from protocols.capture import Capture, Event, Fault, Gap, Record, Source, TimeState, Value
from protocols.envelope import BatchKind, DataKey
from protocols.messages import Receipt
from protocols.quantity import by_name
from tests.crash.recording import Op, Recording
from tests.former import sample, unsettled

GATEWAY = "gateway-1"
NOW = 1_767_225_600_000
LIMITS = Limits(seal_values=24, monthly_days=0, daily_days=0, curve_days=0, bulk_days=0, mark_every_s=1e-9)
"""Small batches and no history, so that a short life has many batches, and purges."""
FORMER_SCHEMA = 0.3
"""Of lives that begin with a store of schema 1."""
CHECKPOINT_PAGES = 24
"""The same for checkpoints and resets of the WAL."""

_VOLTAGE, _ENERGY = by_name("voltage.a"), by_name("energy.active.import.total")


def capture(number: int, *, meter: str = "meter-1", slot: int | None = None) -> Capture:
    """A capture like no other."""
    at = NOW + number
    return Capture(
        meter=meter, point=f"point-of-{meter}", task="curve", slot=slot, stamp=at if slot is None else slot, read_at=at,
        time_state=TimeState.TRUSTED, clock_error_ms=None, source=Source.METER_LIVE,
        values=(
            Value(quantity=_VOLTAGE, number=Decimal(2200 + number % 100) / 10),
            Value(quantity=_ENERGY, number=Decimal(number) / 100),
        ),
    )  # fmt: skip


class Keys:
    """Data keys as the uplink makes them: one for each epoch, told to the outbox before it is used."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.keys: dict[bytes, DataKey] = {}

    async def add(self, outbox: Outbox) -> DataKey:
        """A new key, with its record committed."""
        kid, key, salt = self._rng.randbytes(envelope.KID_BYTES), self._rng.randbytes(32), self._rng.randbytes(4)
        data_key = DataKey(kid=kid, key=key, salt=salt, epoch=outbox.epoch, day=1)
        self.keys[kid] = data_key
        await outbox.add_key_record(kid, outbox.epoch, b"record of " + kid)
        return data_key

    def open(self, batch: Sealed) -> list[Record]:
        """The records of a batch, opened as the centre does it."""
        opened = envelope.open(batch.message, data_key=self.keys[batch.kid], gateway=GATEWAY)
        assert (opened.seq, opened.kind) == (batch.seq, batch.kind)
        return decode(opened.body)


@dataclass
class Life:
    """What the outside world knows of a life, each thing with the place in the log where it became true."""

    keys: Keys
    given: set[bytes] = field(default_factory=set)
    accepted: list[tuple[int, bytes]] = field(default_factory=list)
    slots: list[tuple[int, bytes, tuple[str, str, int]]] = field(default_factory=list)
    """Of the accepted, such as have a slot: meter, task and slot."""
    at_centre: dict[bytes, int] = field(default_factory=dict)
    sealed: dict[tuple[int, int], bytes] = field(default_factory=dict)
    epochs: set[int] = field(default_factory=set)
    begins: int = 0
    """The place in the log before which it was not there yet."""

    def accept(self, point: int, records: Sequence[Record]) -> None:
        """These are durable from this place in the log on."""
        for record in records:
            packed = pack(record)
            self.accepted.append((point, packed))
            if not isinstance(record, Event) and record.slot is not None:
                self.slots.append((point, packed, (record.meter, record.task, record.slot)))


async def live(directory: Path, recording: Recording, rng: random.Random, *, steps: int,
               synchronous: Synchronous = "FULL") -> Life:  # fmt: skip
    """Append, seal, settle, reject, void, purge, stop and start again, all by the dice."""
    life = Life(Keys(rng))
    numbers = iter(range(10_000, 1_000_000))  # the sample of schema 1 has lower ones

    def here() -> int:
        return len(recording.log)

    def opener(path: Path, *, vfs: str | None = None) -> apsw.Connection:
        connection = open_store(path, vfs=vfs, synchronous=synchronous)
        connection.wal_autocheckpoint(CHECKPOINT_PAGES)
        return connection

    def open_outbox() -> Outbox:
        opened = Outbox.open(directory, gateway=GATEWAY, random=rng.randbytes, now_ms=lambda: NOW, writer="inline",
                             vfs=recording.name, limits=LIMITS, opener=opener)  # fmt: skip
        life.epochs.add(opened.epoch)
        return opened

    async def append(outbox: Outbox) -> None:
        records: list[Record] = [capture(next(numbers), slot=NOW + rng.randrange(4) * 900_000)
                                 for _ in range(rng.randint(1, 6))]  # fmt: skip
        if rng.random() < 0.3:
            at = next(numbers)
            records.append(Gap(meter="meter-2", task="curve", slot=at, fault=Fault.SILENT, opened_at=NOW + at))
        if rng.random() < 0.2:
            records.append(Event(name="test", at=NOW + next(numbers), detail={"n": 1}))
        life.given.update(map(pack, records))
        await outbox.append(records, urgent=True)
        life.accept(here(), records)

    async def seal(outbox: Outbox, data_key: DataKey) -> None:
        def encrypt(seq: int, kind: BatchKind, body: bytes) -> tuple[bytes, bytes]:
            message = envelope.seal(data_key, gateway=GATEWAY, seq=seq, kind=kind, body=body)
            number = data_key.epoch, seq
            assert number not in life.sealed, f"{number} sealed twice"
            life.sealed[number] = message
            return data_key.kid, message

        await outbox.seal(encrypt)

    async def settle(outbox: Outbox) -> None:
        offered = [batch for batch in outbox.offers(50) if batch.kid in life.keys.keys]
        if not offered:
            return
        epoch = rng.choice([batch.epoch for batch in offered])
        mine = sorted((batch for batch in offered if batch.epoch == epoch), key=lambda batch: batch.seq)
        taken = mine[: rng.randint(1, len(mine))]
        rejected = {batch.seq for batch in taken if rng.random() < 0.2}
        for batch in taken:
            if batch.seq not in rejected:
                for record in life.keys.open(batch):
                    life.at_centre.setdefault(pack(record), here())
        if len(taken) == len(mine) and rng.random() < 0.5:
            ranges = [(batch.seq, batch.seq) for batch in taken]
            receipt = Receipt(gateway=GATEWAY, epoch=epoch, contiguous_upto=0, ranges=tuple(ranges),
                              rejected=tuple((seq, "bad_tag") for seq in rejected), sent_at=NOW)  # fmt: skip
        else:
            receipt = Receipt(gateway=GATEWAY, epoch=epoch, contiguous_upto=taken[-1].seq,
                              rejected=tuple((seq, "bad_tag") for seq in rejected), sent_at=NOW)  # fmt: skip
        await outbox.settle(receipt)

    if rng.random() < FORMER_SCHEMA:
        _begin_with_sample(directory, recording, life)
    outbox = open_outbox()
    data_key = await life.keys.add(outbox)
    for _ in range(steps):
        choice = rng.random()
        if choice < 0.40:
            await append(outbox)
        elif choice < 0.65:
            await seal(outbox, data_key)
        elif choice < 0.80:
            await settle(outbox)
        elif choice < 0.86:
            waiting = [batch for batch in outbox.offers(50) if batch.kid in life.keys.keys]
            if waiting:
                chosen = rng.choice(waiting)
                await outbox.void(chosen.epoch, chosen.seq, "too long for the broker")
        elif choice < 0.90:
            data_key = await life.keys.add(outbox)
        elif choice < 0.92:
            former, data_key = data_key, await life.keys.add(outbox)
            await outbox.reseal(former.kid, "the centre cannot open it")
        elif choice < 0.94:
            await outbox.set_fact("turnaround", str(rng.random()))
        elif choice < 0.97:
            await outbox.purge()
        else:
            await outbox.close()
            outbox = open_outbox()
            data_key = await life.keys.add(outbox)
    await outbox.close()
    return life


def _begin_with_sample(directory: Path, recording: Recording, life: Life) -> None:
    """The life begins with a store of schema 1, which its first start migrates."""
    path = directory / STORE_NAME
    content = gzip.decompress(sample(1).read_bytes())
    path.write_bytes(content)
    file = recording.known(path.name, existed=True)
    recording.log += [Op("write", file, data=content), Op("sync", file)]
    batches, records = unsettled(path)
    life.sealed.update({(epoch, seq): message for epoch, seq, message in batches})
    life.given.update(map(pack, records))
    life.begins = len(recording.log)
    life.accept(life.begins, records)


@dataclass
class Finding:
    """What is wrong with one image."""

    lost: int = 0
    doubled: int = 0
    corrupt: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.lost or self.doubled or self.corrupt)


async def judge(directory: Path, point: int, life: Life, rng: random.Random, *, forbid: Callable[[Finding, str], None]
                ) -> Finding:  # fmt: skip
    """Open an image as the gateway would after the cut at `point`, and look for every record that was accepted."""
    finding = Finding()
    outbox = Outbox.open(directory, gateway=GATEWAY, random=rng.randbytes, now_ms=lambda: NOW, writer="inline")
    keys = Keys(rng)
    keys.keys.update(life.keys.keys)
    found: Counter[bytes] = Counter()
    try:
        for damage in outbox.damage:
            forbid(finding, damage)
        for at, packed, slot in life.slots:
            if at <= point and packed not in life.at_centre and not outbox.has_slot(*slot):
                finding.lost += 1
        if outbox.epoch in life.epochs:
            forbid(finding, f"epoch {outbox.epoch} again")
        kept = {entry.kid for entry in outbox.key_records()}
        for batch in outbox.offers(1_000_000):
            if life.sealed.get((batch.epoch, batch.seq)) != batch.message or batch.kid not in kept:
                forbid(finding, f"batch {batch.epoch}, {batch.seq} is not what was sealed, or has no key record")
            elif batch.kid in keys.keys:  # not so those of the former schema's sample
                found.update(map(pack, keys.open(batch)))
        data_key = await keys.add(outbox)
        while (
            batch_now := await outbox.seal(
                lambda seq, kind, body: (
                    data_key.kid,
                    envelope.seal(data_key, gateway=GATEWAY, seq=seq, kind=kind, body=body),
                )
            )
        ) is not None:
            found.update(pack(record) for record in keys.open(batch_now)
                         if not (isinstance(record, Event) and record.name == "store_damaged"))  # fmt: skip
    finally:
        await outbox.close()
    for at, packed in life.accepted:
        if at <= point and not found[packed] and life.at_centre.get(packed, point + 1) > point:
            finding.lost += 1
    finding.doubled = sum(count > 1 for count in found.values())
    for packed in found:
        if packed not in life.given:
            forbid(finding, "a record that nobody gave")
    return finding
