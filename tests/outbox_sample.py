"""A store of the newest schema with something of everything in it: `python -m tests.outbox_sample` keeps it.

Every schema that ever was has its sample in tests/vectors, written by the code of its day and never changed; a store
of it must open with the newest code, and drain.
"""

import asyncio
import gzip
import random
import tempfile
from pathlib import Path

from buffer.opening import STORE_NAME
from buffer.outbox import Outbox
from buffer.sqlite import schemas
from buffer.words import Limits, RecordClass
from protocols import envelope
from protocols.capture import Event, Fault, Gap
from protocols.envelope import BatchKind
from tests.crash.scenario import GATEWAY, NOW, Keys, capture
from tests.former import sample
from tests.outbox import settle


async def fill(directory: Path) -> None:
    """Two starts: settled, rejected, waiting and unsealed records, events, facts, marks, two keys."""
    rng = random.Random(1)
    keys = Keys(rng)
    for start in range(2):
        outbox = Outbox.open(
            directory, gateway=GATEWAY, random=rng.randbytes, now_ms=lambda: NOW, writer="inline",
            limits=Limits(seal_values=10, mark_every_s=1e-9), classes={"curve": RecordClass.CURVE},
        )  # fmt: skip
        key = await keys.add(outbox)

        def encrypt(seq: int, kind: BatchKind, body: bytes, key: envelope.DataKey = key) -> tuple[bytes, bytes]:
            return key.kid, envelope.seal(key, gateway=GATEWAY, seq=seq, kind=kind, body=body)

        for n in range(20):
            slot = NOW + 900_000 * (n // 3) + start * 90_000_000
            await outbox.append([capture(100 * start + n, meter=f"meter-{n % 3}", slot=slot)], urgent=True)
        silent = Gap(meter="meter-2", task="day", slot=NOW + start, fault=Fault.SILENT, opened_at=NOW + 5)
        await outbox.append([silent, Event(name="test", at=NOW + start, meter="meter-1", detail={"n": start})])
        while await outbox.seal(encrypt):
            pass
        await settle(outbox, 2, rejected=((2, "bad_tag"),))
        await outbox.purge()
        await outbox.append([capture(500 + start, meter="meter-9")], urgent=True)
        await outbox.set_fact("clock.floor", str(NOW))
        await outbox.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        asyncio.run(fill(Path(name)))
        content = (Path(name) / STORE_NAME).read_bytes()
    kept = sample(max(schemas()))
    kept.write_bytes(gzip.compress(content, 9, mtime=0))
    print(kept, len(content))
