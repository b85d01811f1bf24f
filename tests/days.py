"""Days of a whole site in virtual time: 8 buses by 64 meters, a broker that is away for hours, and then the truth.

Half of the buses carry DL/T 645 meters, half Modbus RTU ones. Each meter has one 15-minute task of 8 values that it
gives in one answer, so a capture is one question on the wire: that is counted.
"""

import asyncio
import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from config.model import SerialSettings, TaskEntry
from field.truth import Truth
from simulators import virtual
from simulators.describe import BusPlan, MeterGroup, SitePlan
from simulators.noise import QUIET, Faults
from tests.chain import START, Chain

BUSES, METERS, EVERY_S = 8, 64, 900
SLOTS_A_DAY = BUSES * METERS * 86_400 // EVERY_S
DLT645, MODBUS = "dlt645-2007-3p", "eastron-sdm630"
TASKS = {
    # A block over tariffs: the total and three tariffs, each a maximum and its time.
    DLT645: TaskEntry(
        name="demand", every_s=EVERY_S,
        items=tuple(f"demand.active.import.{register}{part}" for register in ("total", "t1", "t2", "t3")
                    for part in ("", ".time")),
    ),
    # Registers 0 to 15: eight floats beside each other.
    MODBUS: TaskEntry(
        name="power", every_s=EVERY_S,
        items=(*(f"{stem}.{phase}" for stem in ("voltage", "current") for phase in "abc"), "power.active.a",
               "power.active.b"),
    ),
}  # fmt: skip
MEGABYTES_A_DAY = 150
"""What the gateway's store and the central database take of a disk."""
END_S = 60.0
"""Before the end of the last day: all of its slots are captured by then, and the next day's are not due."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """The broker is away, hours after the start."""

    after_h: float
    hours: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What came of it. Counts of questions and answers are of the buses without faults."""

    truth: Truth
    captures: int
    asked: int
    answered: int
    backlog: int
    """Records that the gateway held when the broker came back."""


def plan(seed: int, noisy: Sequence[int] = (), faults: Faults = QUIET, meters: int = METERS) -> SitePlan:
    """The site, with so many meters a bus; `noisy` buses (from 1) have the faults."""
    slow, fast = SerialSettings(baud=2400, parity="E"), SerialSettings(baud=9600, parity="E")
    buses = []
    for number in range(1, BUSES + 1):
        odd = number % 2 == 1
        first = f"{number * 1_000_000 + 1:012d}" if odd else "1"
        # With three tariffs the block of the simulated meter is exactly the eight values.
        group = MeterGroup(profile=DLT645 if odd else MODBUS, address=first, count=meters, tariffs=3)
        serial = slow if odd else fast
        buses.append(
            BusPlan(name=f"bus{number}", serial=serial, meters=(group,), faults=faults if number in noisy else QUIET)
        )
    return SitePlan(buses=tuple(buses), seed=seed)


def live(
    directory: Path, *, days: int, outage: Outage, seed: int, noisy: Sequence[int] = (), faults: Faults = QUIET,
    meters: int = METERS,
) -> Story:  # fmt: skip
    """Let the site live for so many days, and the gateway end in order. Everything follows from the seed."""
    with _rare_collections():
        return virtual.run(_live(directory, days, outage, plan(seed, noisy, faults, meters), seed), start_ms=START)


@contextmanager
def _rare_collections() -> Iterator[None]:
    """What a run logs lives to its end: looking through it for garbage as often as by default takes a tenth of it."""
    usual = gc.get_threshold()
    gc.set_threshold(100_000, 50, 100)
    try:
        yield
    finally:
        gc.set_threshold(*usual)


async def _live(directory: Path, days: int, outage: Outage, site: SitePlan, seed: int) -> Story:
    chain = Chain(directory, site, tuple(TASKS.values()), seed=seed)
    meters = (replace(meter, tasks=(TASKS[meter.profile].name,)) for meter in chain.site.meters)
    chain.site = replace(chain.site, meters=tuple(meters))
    quiet = [bus.name for bus in site.buses if bus.faults is QUIET]
    try:
        async with chain.running() as daemon:
            parts = daemon.parts
            assert parts is not None
            await asyncio.sleep(outage.after_h * 3600)
            chain.broker.away = True
            await asyncio.sleep(outage.hours * 3600)
            backlog = parts.outbox.pending
            chain.broker.away = False
            await asyncio.sleep(days * 86_400 - (outage.after_h + outage.hours) * 3600 - END_S)
            await daemon.drain()
            counters = [parts.buses[name].port.counters for name in quiet]
            asked = sum(c.replies + c.silences + c.garbled for c in counters)
            answered = sum(c.replies for c in counters)
        return Story(truth=chain.truth(), captures=len(chain.accepted.captures), asked=asked, answered=answered,
                     backlog=backlog)  # fmt: skip
    finally:
        chain.close()
