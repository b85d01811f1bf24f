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
from drivers.bus import Job, Lane, Outcome
from drivers.confirm import confirmed
from drivers.line import Line
from drivers.meter import Meter
from drivers.pipelined import PipelinedBus, bus_for
from drivers.plan import ReadPlan, plan
from drivers.profile import load_profile
from protocols.dialogue import Deframer, Dialogue
from protocols.dlt645.codes import Edition
from protocols.modbus.ascii import AsciiDeframer
from simulators import virtual
from simulators.load import Load
from simulators.meter import SimulatedMeter
from simulators.modbus import ModbusMeter
from simulators.noise import Faults
from simulators.truth import Served
from simulators.wire import MemoryLine, Wire
from tests.faults.control import CARELESS, CarelessFlights, trusting
from tests.faults.gateway import Gateway, GatewayLine
from tests.faults.judge import Blame, Judge, Truth, TruthfulDlt645, TruthfulModbus, Verdict
from tests.faults.residual import CRC_PASSES, misheard, residual

Family = Literal["dlt645", "modbus-rtu", "modbus-ascii", "modbus-tcp", "modbus-pipelined"]
"""What the meters of a campaign speak: both editions of DL/T 645, or one of the forms of Modbus; over TCP with one
question on its way at a time, or several."""
FAMILIES: Final[tuple[Family, ...]] = ("dlt645", "modbus-rtu", "modbus-ascii", "modbus-tcp", "modbus-pipelined")

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
PIPELINE: Final = 4
"""Questions on their way at a time, where there are several."""
DAMAGE: Final = (0.0, 1e-3, 1e-2)
"""How often an answer is damaged past TCP's checksum: of real networks one packet in 10^7 or less."""

REGISTERS: Final = (
    ("energy.active.import.total",),
    ("voltage.a",),
    ("current.a",),
    ("voltage.a", "voltage.b", "voltage.c", "current.a"),
    ("power.active.total", "energy.active.import.total"),
    ("frequency",),
)
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
}
PROFILES: Final = {"dlt645-2007": "dlt645-2007-3p", "dlt645-1997": "dlt645-1997"}
MODBUS: Final = "eastron-sdm630"


class _Building(Protocol):
    def __call__(self, entry: MeterEntry, bus: BusEntry) -> Meter: ...


class CarelessMeter(Meter):
    """A meter whose frames are taken without a look at their checksums."""

    def deframer(self) -> Deframer[Any]:
        return CARELESS[self.entry.protocol]()


def weather(rng: Random, family: Family) -> Faults:
    """What goes wrong in a chapter: everything now and then, and of each kind of noise sometimes much. No noise reaches
    what comes over TCP, and nothing echoes; replies break off there, or bytes come that nobody asked for. Both
    together, bytes missing and as many others in their place, is damage to the payload, of which there is enough."""
    tcp = over_tcp(family)

    def often(*rates: float) -> float:
        return rng.choice((0.0, *rates))

    if tcp:
        more = rng.random() < 0.5
        return Faults(
            glitch=more * often(0.003), tail=more * often(0.003), babble=more * often(0.003),
            truncate=(not more) * often(0.01, 0.03), silent=often(0.01, 0.05), late=often(0.01, 0.05),
            late_ms=(20.0, 900.0), foreign=often(0.01, 0.1), twice=often(0.01, 0.05), other=often(0.01, 0.1),
            pause=often(0.05, 0.3), pause_ms=rng.choice((15.0, 200.0)),
        )  # fmt: skip

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
        pause_ms=15.0 if family == "modbus-rtu" else 200.0,
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
        tcp = over_tcp(family)
        port = "tcp://192.0.2.1:502" if tcp else "/memory/fuzzed"
        pipeline = PIPELINE if family == "modbus-pipelined" else 1
        self.entry = BusEntry(name="fuzzed", port=port, serial=serial, pipeline=pipeline)
        self.faults = weather(rng, family) if faults is None else faults
        self.damage = rng.choice(DAMAGE) if tcp and faults is None else 0.0
        self.sees_parity = not tcp and parity == "E" and rng.random() < 0.5
        self.meters: list[Meter] = []
        self.simulated = [self._meter(n, rng) for n in range(1, METERS + 1)]
        self.wire = self._far_end(rng, serial)
        self.line: MemoryLine | GatewayLine
        self.bus = bus_for(self.entry, open_line=self._open, now_ms=virtual.now_ms, jitter=Random(1))
        if not checks and isinstance(self.bus, PipelinedBus):
            self.bus._flights = CarelessFlights(now_ms=virtual.now_ms, wake=self.bus._awake)
        self.judge = Judge(verdict, self.bus.port, Random(1), tcp=tcp)
        self.wire.heard = self.judge.heard
        for meter in self.simulated:
            self.judge.truths[meter.id] = meter.meter.truth  # type: ignore[union-attr]
        self.by_bus = rng.random() < 0.5
        """Whether billing values are confirmed where the bus says so, as the gateway has it, or always."""
        self.plans: dict[tuple[str, int], ReadPlan] = {}
        self.over = False
        self.enough = asyncio.Event()

    def _far_end(self, rng: Random, serial: SerialSettings) -> Wire | Gateway:
        seed, pieces = rng.getrandbits(32), rng.choice((0, 0, 3))
        if over_tcp(self.family):
            return Gateway(self.simulated, now_ms=virtual.now_ms, seed=seed, faults=self.faults, damage=self.damage,
                           one_by_one=rng.random() < 0.5, keeps=rng.random() < 0.5, pieces=pieces)  # fmt: skip
        wire = Wire(self.simulated, serial=serial, now_ms=virtual.now_ms, seed=seed, faults=self.faults,
                    check_parity=self.sees_parity, pieces=pieces)  # fmt: skip

        def count(served: Served) -> None:
            wire.counts["whole"] += served.intact

        wire.log.add = count  # type: ignore[method-assign]  # kept, they fill the memory, and nobody reads them
        return wire

    def _meter(self, n: int, rng: Random) -> SimulatedMeter:
        protocol: ProtocolName
        match self.family:
            case "dlt645":
                protocol = "dlt645-1997" if n > 4 else "dlt645-2007"
            case "modbus-pipelined":
                protocol = "modbus-tcp"
            case "modbus-rtu" | "modbus-ascii" | "modbus-tcp":
                protocol = self.family
        # One meter has so many tariffs that its blocks take follow-up frames.
        long = protocol == "dlt645-2007" and n == 1 and rng.random() < 0.3
        load = Load(rng.getrandbits(32), tariffs=60 if long else 4)
        profile = load_profile(PROFILES.get(protocol, MODBUS))
        meter: TruthfulDlt645 | TruthfulModbus
        if profile.family == "modbus":
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
        self.line = self.wire.connect() if isinstance(self.wire, Gateway) else MemoryLine(self.wire)
        return self.line

    def would_answer(self, question: bytes) -> bool:
        """Whether one of the meters has what this Modbus ASCII question asks for."""
        for frame in AsciiDeframer().feed(question):
            for one in self.simulated:
                meter = one.meter
                if isinstance(meter, ModbusMeter) and meter.unit == frame.unit:
                    answer = ModbusMeter.answer(meter, frame, virtual.now_ms())  # of which nobody takes note
                    return answer is not None and bool(answer.values)
        return False

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
        choices = ITEMS.get(meter.entry.protocol, REGISTERS)
        chosen = rng.randrange(len(choices))
        key = meter.id, chosen
        if (read := self.plans.get(key)) is None:
            read = self.plans[key] = plan(meter.profile, meter.entry, choices[chosen], self.entry.serial)
        billing = rng.random() < BILLING and all(item.startswith("energy") for item in choices[chosen])
        blames: list[tuple[Blame, str]] = []
        inner: Callable[[], Dialogue[Any]] = read.dialogue if self.checks else partial(_trusting, read.dialogue)
        if billing:
            inner = partial(confirmed, inner, certain=lambda: self.by_bus and self.bus.certain)
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


def over_tcp(family: Family) -> bool:
    """Whether it comes in the frames of Modbus TCP."""
    return family in ("modbus-tcp", "modbus-pipelined")


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
            if family != "modbus-ascii":
                # What met something else on the wire ends in random bytes: a CRC, or a sum and an end byte, of 16 bits
                # (and never in so many digits).
                verdict.computed += chapter.wire.counts["collision"] * CRC_PASSES
            samples = chapter.judge.samples
            share = residual([reply for reply, _ in samples], chapter.faults, family=family, parity=chapter.sees_parity,
                             damage=chapter.damage, rng=rng)  # fmt: skip
            if family == "modbus-ascii":
                parity = chapter.entry.serial.parity != "N"  # which meters always check
                share += misheard([question for _, question in samples], chapter.faults, chapter.would_answer,
                                  parity=parity, rng=rng)  # fmt: skip
            # Each answer may pass damaged, also of those that a reply took several of.
            answers = chapter.wire.counts["answers"] / max(1, chapter.bus.port.counters.replies)
            verdict.computed += share * answers * (verdict.replies - replies)

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
