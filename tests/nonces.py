"""Restarts and restored disk images, to see that no (key, nonce) is ever used twice.

A nonce is the salt of its data key and a number; a data key is drawn anew at each start and day. So a pair repeats only
where a key does, or a number under one key. The first is a matter of the randomness, tried a million times on the very
function that draws; the second of what is sealed, tried with real stores that are copied and opened again.
"""

import asyncio
import os
import random
import shutil
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from cryptography.hazmat.primitives.asymmetric import ec

from buffer.outbox import Outbox
from gateway.sealer import Sealer
from identity.centre import Centre
from identity.datakey import new_data_key
from identity.gateway import CentreTrust, GatewayIdentity
from protocols import envelope
from protocols.envelope import BatchKind, DataKey
from tests.crash.scenario import GATEWAY, NOW, capture

Draw = Callable[[int], bytes]
"""Like os.urandom."""
IDENTITY = GatewayIdentity.of(GATEWAY, ec.derive_private_key(0xC0FFEE, ec.SECP256R1()))
CENTRE = Centre.of(ec.derive_private_key(0xBEAD, ec.SECP256R1()), ec.derive_private_key(0xFACE, ec.SECP256R1()))


def repeats(starts: int, draw: Draw) -> int:
    """How many of so many starts draw a data key that another has drawn, told by its first 8 bytes.

    Of a million, two agree in so much by chance once in 37 million times.
    """
    keys = array("Q", (int.from_bytes(new_data_key(boot << 32, 1, draw).key[:8], "big") for boot in range(starts)))
    return starts - len(set(keys))


@dataclass(slots=True)
class Seen:
    """What was sealed: each (key, nonce) with how often."""

    pairs: dict[tuple[bytes, bytes], int]
    epochs: set[int]

    @property
    def reused(self) -> int:
        """Pairs under which more than one message was sealed."""
        return sum(count > 1 for count in self.pairs.values())

    def seal(self, data_key: DataKey, *, gateway: str, seq: int, kind: BatchKind, body: bytes) -> bytes:
        """Seal as the gateway does, and take note of what under."""
        pair = (data_key.key, data_key.salt + seq.to_bytes(8, "big"))
        self.pairs[pair] = self.pairs.get(pair, 0) + 1
        self.epochs.add(data_key.epoch)
        return _seal(data_key, gateway=gateway, seq=seq, kind=kind, body=body)


_seal = envelope.seal


async def life(directory: Path, rng: random.Random, draw: Draw, *, clean: bool) -> None:
    """One start of the gateway's own sealer on a store: records, batches, a reply, and an orderly or a sudden end."""
    outbox = Outbox.open(directory, gateway=GATEWAY, random=draw, now_ms=lambda: NOW, writer="inline")
    async with outbox:
        sealer = Sealer(
            outbox, identity=IDENTITY, trust=CentreTrust.of(CENTRE.public), profile="prompt", zone="Asia/Shanghai",
            now_ms=lambda: NOW, random=draw,
        )  # fmt: skip
        sealer.at_once()
        for _ in range(rng.randint(1, 3)):
            await outbox.append([capture(rng.randrange(1 << 20))], urgent=True)
            await sealer.seal_due()
        await sealer.seal_reply(b"a reply")
        if not clean:
            shutil.copytree(directory, directory.with_name("cut"))  # what stands on the disk, not closed


def _urandom() -> Draw:
    return os.urandom


async def images(directory: Path, *, count: int, seed: int, restored: Callable[[], Draw] = _urandom) -> Seen:
    """Take images of a living gateway's disk, and restore each of them a few times: so many restores in all.

    restored: gives the randomness of a start from an image.
    """
    rng, seen = random.Random(seed), Seen({}, set())
    disk, image, cut = directory / "disk", directory / "image", directory / "cut"
    done = 0
    with mock.patch.object(envelope, "seal", seen.seal):
        while done < count:
            await life(disk, rng, os.urandom, clean=True)
            shutil.copytree(disk, image)
            for _ in range(min(rng.randint(2, 20), count - done)):
                shutil.rmtree(disk)
                shutil.copytree(image, disk)
                sudden = rng.random() < 0.5
                await life(disk, rng, restored(), clean=not sudden)
                done += 1
                if sudden:  # and it goes on from there
                    shutil.rmtree(disk)
                    cut.rename(disk)
            shutil.rmtree(image)
    return seen


def campaign(directory: Path, *, count: int, seed: int) -> Seen:
    """`images`, on a loop of its own."""
    return asyncio.run(images(directory, count=count, seed=seed))
