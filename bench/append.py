"""Captures that the outbox accepts a second: 8 values each, WAL and synchronous FULL on a real file."""

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path

from bench.figure import Figure, rate
from buffer.outbox import Outbox
from field.clock import wall_ms
from protocols.capture import Capture, Source, TimeState, Value
from protocols.quantity import by_name

NAMES = ("energy.active.import.total", "voltage.a", "voltage.b", "voltage.c", "current.a", "power.active.total",
         "power_factor.total", "frequency")  # fmt: skip
GROUP = 256
"""Records that are committed together when they come fast (`Limits.commit_records`)."""
START = 1_790_000_100_000
REAL_DISK = Path("/var/tmp")
"""/tmp may be memory, where a sync costs nothing."""


def captures(count: int, *, meters: int = 512) -> list[Capture]:
    """Slots of 512 meters, quarter hour by quarter hour; every number differs from its neighbours."""
    kinds = [by_name(name) for name in NAMES]
    return [
        Capture(
            meter=f"rs485-{n % meters % 8}-{n % meters:012d}", point=f"pt-{n % meters:05d}", task="curve",
            slot=START + n // meters * 900_000, stamp=START + n // meters * 900_000,
            read_at=START + n // meters * 900_000 + n % meters * 137, time_state=TimeState.TRUSTED, clock_error_ms=None,
            source=Source.METER_LIVE,
            values=tuple(Value(quantity=kind, number=Decimal(n * 7 + place).scaleb(-2))
                         for place, kind in enumerate(kinds)),
        )
        for n in range(count)
    ]  # fmt: skip


def run(count: int = 25_600, singly: int = 100) -> Iterator[Figure]:
    """In groups as a busy gateway commits them, and one by one (the disk's own speed)."""
    made = captures(count + singly)
    yield _figure("in groups of 256", made[:count], GROUP)
    yield _figure("one by one", made[count:], 1)


def _figure(what: str, records: Sequence[Capture], group: int) -> Figure:
    directory = Path(tempfile.mkdtemp(prefix="meterwire-bench-", dir=REAL_DISK))
    try:
        seconds = asyncio.run(_append(directory, records, group))
    finally:
        shutil.rmtree(directory)
    return rate("append", what, len(records), seconds, "captures/s")


async def _append(directory: Path, records: Sequence[Capture], group: int) -> float:
    outbox = Outbox.open(directory, gateway="gw-bench", random=os.urandom, now_ms=wall_ms)
    async with outbox:
        began = time.perf_counter()
        for first in range(0, len(records), group):
            await outbox.append(records[first : first + group], urgent=True)
        return time.perf_counter() - began
