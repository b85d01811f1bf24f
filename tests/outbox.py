"""What the tests of the outbox share: an outbox on a real file, a data key for it, and receipts."""

import os
import random
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Literal

from buffer.outbox import Outbox
from buffer.sqlite import open_store
from buffer.store import OpenStore
from buffer.words import Limits, RecordClass, Sealed, Settled
from protocols import envelope
from protocols.capture import Record
from protocols.envelope import BatchKind, DataKey
from protocols.messages import Receipt
from tests.crash.scenario import GATEWAY, NOW, Keys

DEFAULT = Limits()
NO_CLASSES: Mapping[str, RecordClass] = {}


def open_outbox(
    directory: Path, *, limits: Limits = DEFAULT, writer: Literal["thread", "inline"] = "inline",
    vfs: str | None = None, now_ms: Callable[[], int] = lambda: NOW, opener: OpenStore = open_store,
    classes: Mapping[str, RecordClass] = NO_CLASSES,
) -> Outbox:  # fmt: skip
    """An outbox of the tests' gateway."""
    return Outbox.open(directory, gateway=GATEWAY, random=os.urandom, now_ms=now_ms, writer=writer, vfs=vfs,
                       limits=limits, opener=opener, classes=classes)  # fmt: skip


class Sealer:
    """Seals an outbox's records under one key of its epoch."""

    def __init__(self, outbox: Outbox) -> None:
        self.outbox = outbox
        self.keys = Keys(random.Random(outbox.epoch))
        self.key: DataKey | None = None
        self.numbers: list[int] = []

    def encrypt(self, seq: int, kind: BatchKind, body: bytes) -> tuple[bytes, bytes]:
        """As the uplink does it."""
        assert self.key is not None
        self.numbers.append(seq)
        return self.key.kid, envelope.seal(self.key, gateway=GATEWAY, seq=seq, kind=kind, body=body)

    async def one(self) -> Sealed | None:
        """One batch."""
        if self.key is None:
            self.key = await self.keys.add(self.outbox)
        return await self.outbox.seal(self.encrypt)

    async def all(self) -> list[Sealed]:
        """Every batch there is to seal."""
        batches = []
        while (batch := await self.one()) is not None:
            batches.append(batch)
        return batches

    def open(self, batches: Iterable[Sealed]) -> list[Record]:
        """What is in them."""
        return [record for batch in batches for record in self.keys.open(batch)]


async def settle(
    outbox: Outbox, upto: int = 0, *, epoch: int | None = None, ranges: tuple[tuple[int, int], ...] = (),
    rejected: tuple[tuple[int, str], ...] = (), gateway: str = GATEWAY,
) -> Settled:  # fmt: skip
    """Settle with a receipt of these words; of this epoch unless another is named."""
    return await outbox.settle(
        Receipt(
            gateway=gateway,
            epoch=outbox.epoch if epoch is None else epoch,
            contiguous_upto=upto,
            ranges=ranges,
            rejected=rejected,
            sent_at=NOW,
        )
    )
