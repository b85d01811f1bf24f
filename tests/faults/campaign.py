"""A fuzz campaign: the whole of a bus against simulated meters on a wire where everything goes wrong, in virtual time.

A campaign is told in chapters, each with a wire, meters and weather of its own, all drawn from the seed: the same seed
tells the same story. Every value that is accepted as good is held against what the meter showed (see `judge`).
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from random import Random
from typing import Any, Final, Literal, Protocol

from config.model import BusEntry, MeterEntry, Parity, ProtocolName, SerialSettings
from drivers.bus import Bus, Job, Lane, Outcome
from drivers.confirm import confirmed
from drivers.line import Line
from drivers.meter import Meter
from drivers.plan import ReadPlan, plan
from drivers.profile import load_profile
from protocols.dialogue import Deframer, Dialogue
from protocols.dlt645.codes import Edition
from simulators import virtual
from simulators.load import Load
from simulators.meter import SimulatedMeter
from simulators.noise import Faults
from simulators.wire import MemoryLine, Wire
from tests.faults.control import CarelessDlt645, CarelessModbus, trusting
from tests.faults.judge import Blame, Judge, Truth, TruthfulDlt645, TruthfulModbus, Verdict
from tests.faults.residual import CRC_PASSES, residual

Family = Literal["dlt645", "modbus"]

START_MS: Final = 1_780_000_000_000
CHAPTER: Final = 1000
"""Exchanges of a chapter."""
METERS: Final = 6
WAITING: Final = 10
"""Jobs that are with the bus at a time."""
BILLING: Final = 0.4
"""The share of reads of energy that are billed and so confirmed."""
DISTURBED_EVERY_S: Final = 40.0
"""How often, about, the bus is cancelled in the midst of it, or its line torn."""

ITEMS: Final[dict[str, Sequence[Sequence[str]]]] = {
    "dlt645-2007": (
        ("energy.active.import.total",),
        ("energy.active.export.total",),
        ("voltage.a",),
        ("energy.active.import.total", *(f"energy.active.import.t{n}" for n in range(1, 5))),
        ("current.a", "current.b", "current.c"),
        ("voltage.b", "power.active.total"),
    ),
    "dlt645-1997": (
        ("energy.active.import.total",),
        ("voltage.a",),
        ("current.a", "power.active.total"),
    ),
    "modbus-rtu": (
        ("energy.active.import.total",),
        ("voltage.a",),
        ("current.a",),
        ("voltage.a", "voltage.b", "voltage.c", "current.a"),
        ("power.active.total", "energy.active.import.total"),
        ("frequency",),
    ),
}
PROFILES: Final = {"dlt645-2007": "dlt645-2007-3p", "dlt645-1997": "dlt645-1997", "modbus-rtu": "eastron-sdm630"}


class _Building(Protocol):
    def __call__(self, entry: MeterEntry, bus: BusEntry) -> Meter: ...


class CarelessMeter(Meter):
    """A meter whose frames are taken without a look at their checksums."""

    def deframer(self) -> Deframer[Any]:
        return CarelessDlt645() if self.profile.family == "dlt645" else CarelessModbus()


def weather(rng: Random, family: Family) -> Faults:
    """What goes wrong in a chapter: everything now and then, and of each kind of noise sometimes much."""

    def often(*rates: float) -> float:
        return rng.choice((0.0, *rates))

    return Faults(
        ber=often(1e-5, 1e-4, 1e-3, 2e-3),
        loss=often(3e-4, 1e-3),
        insertion=often(3e-4, 1e-3),
        repeat=often(3e-4, 1e-3),
        burst=often(3e-4, 2e-3),
        fade=often(3e-4, 1e-3),
        glitch=often(0.02, 0.3),
        truncate=often(0.01),
        silent=often(0.01, 0.05),
        late=often(0.01, 0.05),
        late_ms=(20.0, 900.0),
        foreign=often(0.01, 0.1),
        tail=often(0.01, 0.1),
        twice=often(0.01, 0.05),
        other=often(0.01, 0.1),
        preamble=often(0.1),
        pause=often(0.05, 0.3),
        pause_ms=15.0 if family == "modbus" else 200.0,
        babble=often(0.01, 0.03),
        echo=rng.random() < 0.2,
    )


class Chapter:
    """One bus, and jobs for it without end."""

    def __init__(
        self, family: Family, rng: Random, verdict: Verdict, *, checks: bool = True, faults: Faults | None = None
    ) -> None:
        self.rng = rng
        self.family: Family = family
        self.checks = checks
        parity: Parity = rng.choice(("E", "E", "N"))
        serial = SerialSettings(baud=rng.choice((2400, 9600, 115_200)), parity=parity)
        self.entry = BusEntry(name="fuzzed", port="/memory/fuzzed", serial=serial)
        self.faults = weather(rng, family) if faults is None else faults
        self.sees_parity = parity == "E" and rng.random() < 0.5
        self.meters: list[Meter] = []
        self.simulated = [self._meter(n, rng) for n in range(1, METERS + 1)]
        self.wire = Wire(self.simulated, serial=serial, now_ms=virtual.now_ms, seed=rng.getrandbits(32),
                         faults=self.faults, check_parity=self.sees_parity, pieces=rng.choice((0, 0, 3)))  # fmt: skip
        self.wire.log.add = lambda served: None  # type: ignore[method-assign]  # nobody reads it
        self.line = MemoryLine(self.wire)
        self.bus = Bus(self.entry, open_line=self._open, now_ms=virtual.now_ms, jitter=Random(1))
        self.judge = Judge(verdict, self.bus.port, Random(1))
        self.wire.heard = self.judge.heard
        for meter in self.simulated:
            self.judge.truths[meter.id] = meter.meter.truth  # type: ignore[union-attr]
        self.plans: dict[tuple[str, int], ReadPlan] = {}
        self.over = False
        self.enough = asyncio.Event()

    def _meter(self, n: int, rng: Random) -> SimulatedMeter:
        protocol: ProtocolName = "modbus-rtu" if self.family == "modbus" else "dlt645-2007"
        if self.family == "dlt645" and n > 4:
            protocol = "dlt645-1997"
        # One meter has so many tariffs that its blocks take follow-up frames.
        long = protocol == "dlt645-2007" and n == 1 and rng.random() < 0.3
        load = Load(rng.getrandbits(32), tariffs=60 if long else 4)
        profile = load_profile(PROFILES[protocol])
        meter: TruthfulDlt645 | TruthfulModbus
        if protocol == "modbus-rtu":
            address, meter = str(n), TruthfulModbus(n, profile, load)
        else:
            address = f"{n:012d}"
            meter = TruthfulDlt645(address, load, edition=Edition(protocol), preamble=rng.choice((0, 4)))
        meter.truth = Truth()
        entry = MeterEntry(id=f"m{n}", point=f"p{n}", bus=self.entry.name, address=address, profile=profile.name,
                           protocol=protocol)  # fmt: skip
        self.meters.append((Meter if self.checks else CarelessMeter)(entry, profile, self.entry))
        low = rng.choice((5.0, 20.0, 100.0))
        return SimulatedMeter(id=entry.id, meter=meter, turnaround_ms=(low, low * rng.choice((1, 3))),
                              present=rng.random() > 0.05)  # fmt: skip

    async def _open(self, bus: BusEntry) -> Line:
        self.line = MemoryLine(self.wire)
        return self.line

    @property
    def exchanges(self) -> int:
        """Questions that were asked."""
        counters = self.bus.port.counters
        return counters.replies + counters.silences + counters.garbled

    async def run(self, exchanges: int) -> None:
        """Ask so many questions; now and then somebody pulls the plug."""
        for _ in range(WAITING):
            self._submit(exchanges)
        while not self.enough.is_set():
            task = asyncio.ensure_future(self.bus.run())
            pause = asyncio.ensure_future(self.enough.wait())
            await asyncio.wait((task, pause), timeout=self.rng.uniform(0.5, 2) * DISTURBED_EVERY_S)
            pause.cancel()
            if self.enough.is_set():
                self.bus.stop()
                await task
            elif self.rng.random() < 0.5:
                task.cancel()  # a read is cancelled wherever it stands
                await asyncio.wait((task,))
            else:
                self.line.tear()
                task.cancel()
                await asyncio.wait((task,))
        self.over = True
        self.bus.abandon()

    def _submit(self, exchanges: int) -> None:
        rng = self.rng
        meter = rng.choice(self.meters)
        choices = ITEMS[meter.entry.protocol]
        chosen = rng.randrange(len(choices))
        key = meter.id, chosen
        if (read := self.plans.get(key)) is None:
            read = self.plans[key] = plan(meter.profile, meter.entry, choices[chosen], self.entry.serial)
        billing = rng.random() < BILLING and all(item.startswith("energy") for item in choices[chosen])
        blames: list[tuple[Blame, str]] = []
        inner: Callable[[], Dialogue[Any]] = read.dialogue if self.checks else partial(_trusting, read.dialogue)
        if billing:
            inner = partial(confirmed, inner)
        self.bus.submit(
            Job(
                meter=meter, dialogue=lambda: self.judge.watched(meter.id, inner(), blames),
                lane=Lane.BILLING if billing else Lane.CURVE,
                deadline=asyncio.get_running_loop().time() + rng.uniform(5, 120),
                done=partial(self._done, meter.id, blames, billing, exchanges),
            )
        )  # fmt: skip

    def _done(
        self, meter: str, blames: list[tuple[Blame, str]], billing: bool, exchanges: int, outcome: Outcome
    ) -> None:
        self.judge.rule(meter, outcome, blames, billing=billing)
        if self.over:
            return
        if self.exchanges >= exchanges:
            self.enough.set()
        self._submit(exchanges)


def _trusting(dialogue: Callable[[], Dialogue[Any]]) -> Dialogue[Any]:
    return trusting(dialogue())


def trial(family: Family, seed: int, exchanges: int, faults: Faults) -> Verdict:
    """One chapter with just these faults."""
    verdict = Verdict()

    async def main() -> None:
        chapter = Chapter(family, Random(f"meterwire trial {family} {seed}"), verdict, faults=faults)
        await chapter.run(exchanges)
        verdict.exchanges, verdict.struck = chapter.exchanges, chapter.wire.counts
        verdict.taken = chapter.bus.port.counters.replies
        verdict.defects = chapter.bus.counters.defects

    _run(main())
    return verdict


def campaign(family: Family, seed: int, exchanges: int, *, checks: bool = True) -> Verdict:
    """Put so many questions, a few more at most, and judge what came of them.

    checks: without them, deframers look at no checksum and questions take any frame for their answer.
    """
    rng = Random(f"meterwire faults {family} {seed}")
    verdict = Verdict()

    async def main() -> None:
        while verdict.exchanges < exchanges:
            chapter = Chapter(family, rng, verdict, checks=checks)
            replies = verdict.replies
            await chapter.run(min(CHAPTER, exchanges - verdict.exchanges))
            verdict.exchanges += chapter.exchanges
            verdict.taken += chapter.bus.port.counters.replies
            verdict.struck += chapter.wire.counts
            verdict.defects += chapter.bus.counters.defects
            # What met something else on the wire ends in random bytes: a CRC, or a sum and an end byte, of 16 bits.
            verdict.computed += chapter.wire.counts["collision"] * CRC_PASSES
            share = residual(chapter.judge.samples, chapter.faults, family=family, parity=chapter.sees_parity, rng=rng)
            verdict.computed += share * (verdict.replies - replies)

    _run(main())
    return verdict


def _run(story: Coroutine[Any, Any, None]) -> None:
    """In virtual time, and quietly: what the bus says of meters that fall silent fills a terminal."""
    log = logging.getLogger("drivers")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        virtual.run(story, start_ms=START_MS)
    finally:
        log.setLevel(level)
