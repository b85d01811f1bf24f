"""Virtual time: captures a second through the whole chain, from a simulated meter's registers to the centre's table."""

import asyncio
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.figure import Figure, rate
from config.model import SerialSettings, TaskEntry
from simulators import virtual
from simulators.describe import uniform
from tests.chain import START, Chain

CURVE = TaskEntry(
    name="curve",
    every_s=900,
    items=("voltage.a", "voltage.b", "voltage.c", "current.a", "current.b", "current.c", "frequency", "voltage.ab"),
)
"""8 values that the meter below gives in one block."""
PROFILE = "acrel-dtsd1352"


def run(buses: int = 8, meters: int = 64, slots: int = 8) -> Iterator[Figure]:
    """So many slots of every meter, read, sealed, landed and receipted; making the site is not counted."""
    with tempfile.TemporaryDirectory(prefix="meterwire-bench-") as directory:
        seconds, landed = virtual.run(_poll(Path(directory), buses, meters, slots), start_ms=START)
    values = len(CURVE.items)
    captures = buses * meters * slots
    assert landed == captures * values, f"{landed} values landed"
    yield rate("chain", f"{buses} buses by {meters} meters, {values} values in one block", captures, seconds,
               "captures/s", ms_per_capture=round(seconds * 1000 / captures, 3))  # fmt: skip


async def _poll(directory: Path, buses: int, meters: int, slots: int) -> tuple[float, int]:
    plan = uniform(
        buses=buses, meters_per_bus=meters, profile=PROFILE, serial=SerialSettings(baud=9600, parity="E")
    )  # fmt: skip
    chain = Chain(directory, plan, [CURVE])
    async with chain.running() as daemon:
        began = time.perf_counter()
        await asyncio.sleep(slots * CURVE.every_s - 30)
        await daemon.drain()
        seconds = time.perf_counter() - began
    landed = sum(1 for _ in chain.sink.readings())
    chain.close()
    return seconds, landed
