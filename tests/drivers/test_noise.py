"""Reads on a line that turns bits over: enough attempts, and blocks no longer than the noise lets through."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from random import Random
from typing import Final

import pytest

from config.model import BusEntry, MeterEntry, ProtocolName, SerialSettings
from drivers.bus import Bus, Job, Lane, Outcome
from drivers.errors import ATTEMPTS_MAX, ErrorEstimate
from drivers.line import Line
from drivers.meter import Meter
from drivers.plan import plan
from drivers.profile import load_profile
from protocols.modbus.frame import Frame
from simulators import virtual
from simulators.answer import Answer
from simulators.load import Load
from simulators.meter import SimulatedMeter, build_meter
from simulators.modbus import ModbusMeter
from simulators.noise import Faults
from simulators.wire import MemoryLine, Wire

START_MS: Final = 1_780_000_000_000
METERS: Final = 8
ENERGIES: Final = ("energy.active.import.total", *(f"energy.active.import.t{n}" for n in range(1, 5)))


class Plain(ModbusMeter):
    """A meter whose registers all hold the number of their place."""

    def answer(self, frame: Frame, now_ms: int) -> Answer | None:
        if frame.unit != self.unit:
            return None
        address, count = int.from_bytes(frame.data[:2], "big"), int.from_bytes(frame.data[2:], "big")
        data = bytes([2 * count]) + b"".join(n.to_bytes(2, "big") for n in range(address, address + count))
        return Answer(Frame(unit=self.unit, function=frame.function, data=data, ascii=frame.ascii).encode(), {})


class Noisy:
    """A bus in virtual time on which a bit in so many arrives turned over; asks each meter for the same, in turn."""

    def __init__(
        self, protocol: ProtocolName, profile: str, items: Sequence[str], *, ber: float, seed: int = 1
    ) -> None:
        serial = SerialSettings(baud=9600, parity="E")
        self.entry = BusEntry(name="noisy", port="/memory/noisy", serial=serial)
        chosen = load_profile(profile)
        if profile == "modbus-generic":
            chosen = replace(chosen, max_registers=125)
        self.items = tuple(items)
        self.simulated: list[SimulatedMeter] = []
        self.meters: list[Meter] = []
        for n in range(1, METERS + 1):
            address = f"{n:012d}" if chosen.family == "dlt645" else str(n)
            entry = MeterEntry(id=f"m{n}", point="p", bus="noisy", address=address, profile=profile, protocol=protocol)
            self.meters.append(Meter(entry, chosen, self.entry))
            simulated = build_meter(chosen, meter_id=f"m{n}", address=address, protocol=protocol)
            if profile == "modbus-generic":
                simulated.meter = Plain(n, chosen, Load(n))
            self.simulated.append(simulated)
        self.wire = Wire(self.simulated, serial=serial, now_ms=virtual.now_ms, seed=seed, faults=Faults(ber=ber))
        self.bus = Bus(self.entry, open_line=self._open, now_ms=virtual.now_ms, jitter=Random(1))
        self.whole = self.read = 0
        self.attempts: Counter[int] = Counter()
        """Of reads that gave all their values: how often the question was put that was put most."""

    async def _open(self, bus: BusEntry) -> Line:
        return MemoryLine(self.wire)

    def within(self, attempts: int) -> float:
        """The share of reads that gave all their values with so many attempts at each question, or fewer."""
        return sum(reads for n, reads in self.attempts.items() if n <= attempts) / self.read

    def run(self, rounds: int) -> float:
        """Read so many times; the share of reads that gave all their values."""
        virtual.run(self._rounds(rounds), start_ms=START_MS)
        return self.whole / self.read

    async def _rounds(self, rounds: int) -> None:
        task = asyncio.ensure_future(self.bus.run())
        plans = [plan(meter.profile, meter.entry, self.items, self.entry.serial) for meter in self.meters]
        for _ in range(rounds):
            done = asyncio.Event()
            left = list(self.meters)
            deadline = asyncio.get_running_loop().time() + 900
            for meter, read in zip(self.meters, plans, strict=True):
                self.bus.submit(Job(meter=meter, dialogue=read.dialogue, lane=Lane.CURVE, deadline=deadline,
                                    done=partial(self._took, left, meter, done)))  # fmt: skip
            await done.wait()
        self.bus.stop()
        await task

    def _took(self, left: list[Meter], meter: Meter, done: asyncio.Event, outcome: Outcome) -> None:
        self.read += 1
        if outcome.values is not None and all(value.fault is None for value in outcome.values):
            self.whole += 1
            self.attempts[max(Counter(sent for sent, _ in outcome.frames).values())] += 1
        left.remove(meter)
        if not left:
            done.set()


SHORT: Final[dict[str, tuple[ProtocolName, str, Sequence[str]]]] = {
    "DL/T 645, a block of 20 bytes": ("dlt645-2007", "dlt645-2007-3p", ENERGIES),
    "DL/T 645, one energy": ("dlt645-2007", "dlt645-2007-3p", ENERGIES[:1]),
    "Modbus, 10 registers": ("modbus-rtu", "modbus-generic", ("holding:0:uint16:10",)),
    "Modbus ASCII, 10 registers": ("modbus-ascii", "modbus-generic", ("holding:0:uint16:10",)),
    "Modbus, 4 registers": ("modbus-rtu", "modbus-generic", ("holding:0:uint16:4",)),
}
ROUNDS: Final = 250


@pytest.mark.parametrize("case", SHORT)
def test_at_a_bit_error_rate_of_1e_3_reads_of_up_to_20_bytes_succeed_within_8_attempts(case: str) -> None:
    noisy = Noisy(*SHORT[case], ber=1e-3)
    noisy.run(ROUNDS)
    print(f"{case} at 1e-3: {noisy.within(8):.2%} of {noisy.read} reads within 8 attempts: {told(noisy)}")
    assert noisy.read == ROUNDS * METERS
    assert noisy.within(8) >= 0.99
    assert max(noisy.attempts) > 3  # what a profile allows where there is no noise
    assert noisy.bus.counters.retries > 0 and noisy.bus.counters.failed_silent <= 0.01 * noisy.read


@pytest.mark.parametrize("count", [125, 60])
@pytest.mark.parametrize("seed", [1, 2])
def test_at_a_bit_error_rate_of_1e_4_reads_of_up_to_125_registers_succeed_within_6_attempts(
    count: int, seed: int
) -> None:
    noisy = Noisy("modbus-rtu", "modbus-generic", (f"holding:0:uint16:{count}",), ber=1e-4, seed=seed)
    noisy.run(ROUNDS)
    print(f"{count} registers at 1e-4: {noisy.within(6):.3%} of {noisy.read} reads within 6 attempts: {told(noisy)}")
    assert noisy.within(6) >= 0.999
    assert noisy.bus.counters.divided == 0


def test_with_no_more_attempts_than_a_profile_has_too_few_of_them_would_succeed() -> None:
    noisy = Noisy("modbus-rtu", "modbus-generic", ("holding:0:uint16:125",), ber=1e-4)
    noisy.run(ROUNDS)
    assert noisy.within(3) < 0.99
    noisy = Noisy(*SHORT["Modbus, 10 registers"], ber=1e-3)
    noisy.run(ROUNDS)
    assert noisy.within(3) < 0.99


def told(noisy: Noisy) -> str:
    """Attempts, and how many reads took so many."""
    return ", ".join(f"{n}: {reads}" for n, reads in sorted(noisy.attempts.items()))


def test_at_1e_3_long_blocks_are_split_and_read_in_parts() -> None:
    noisy = Noisy("modbus-rtu", "modbus-generic", ("holding:0:uint16:125",), ber=1e-3)
    share = noisy.run(60)
    assert share >= 0.95
    assert noisy.bus.counters.divided > 0


def test_at_1e_3_blocks_of_tariffs_are_read_one_by_one_where_they_are_long() -> None:
    items = [f"demand.active.import.{which}" for which in ("total", "t1", "t2", "t3", "t4")]
    noisy = Noisy("dlt645-2007", "dlt645-2007-3p", items, ber=1e-3)
    assert noisy.run(60) >= 0.99
    assert noisy.bus.counters.divided > 0


def test_on_a_quiet_line_nothing_is_split_and_nothing_asked_twice() -> None:
    noisy = Noisy("modbus-rtu", "modbus-generic", ("holding:0:uint16:125",), ber=0.0)
    assert noisy.run(20) == 1.0
    assert noisy.bus.counters.divided == noisy.bus.counters.retries == 0
    assert noisy.bus.errors.quiet


def test_a_meter_that_speaks_another_language_is_no_noise() -> None:
    noisy = Noisy("modbus-rtu", "modbus-generic", ("holding:0:uint16:10",), ber=0.0)

    class Babbling(Plain):
        def answer(self, frame: Frame, now_ms: int) -> Answer | None:
            return Answer(b"\x55" * 12, {}) if frame.unit == self.unit else None

    noisy.simulated[0].meter = Babbling(1, noisy.meters[0].profile, Load(1))
    noisy.run(100)
    assert noisy.whole == 100 * (METERS - 1)
    assert noisy.bus.errors.per_byte < 1e-3
    assert noisy.bus.counters.divided == 0


def test_the_estimate_finds_the_rate_forgets_it_and_calls_for_more_attempts() -> None:
    rng, errors = Random(1), ErrorEstimate()
    assert errors.quiet and errors.attempts(300, 3) == 3
    for _ in range(3000):
        (errors.damaged if rng.random() < 0.26 else errors.whole)(33)
    assert errors.per_byte == pytest.approx(0.26 / 33, rel=0.3)
    assert errors.too_long(80) and not errors.too_long(33)
    assert 3 < errors.attempts(33, 3) <= ATTEMPTS_MAX == errors.attempts(300, 3)
    for _ in range(20_000):
        errors.whole(33)
    assert errors.quiet
