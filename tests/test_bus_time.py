"""A bus against simulated meters on an exact wire: how much of the time it uses, and that faults give no values."""

import asyncio
from decimal import Decimal
from functools import partial

import pytest

from config.model import BusEntry, SerialSettings
from drivers.bus import Bus, Job, Lane, Outcome
from drivers.line import Line
from drivers.meter import Meter, t35
from drivers.plan import plan
from drivers.port import OPEN_LISTEN_S
from simulators import virtual
from simulators.dlt645 import Dlt645Meter
from simulators.load import Load
from simulators.meter import SimulatedMeter
from simulators.modbus import ModbusMeter
from simulators.noise import QUIET, Faults
from simulators.wire import MemoryLine, Wire
from tests.script import meter

START_MS = 1_700_000_000_000
ENERGIES = ["energy.active.import.total", *(f"energy.active.import.t{n}" for n in range(1, 5))]
REGISTERS = ["input:0:uint16:32"]
VOLTAGES = ["voltage.a", "voltage.b", "voltage.c"]


class MixedBus:
    """8 DL/T 645 and 8 Modbus meters on one pair, asked in turn."""

    def __init__(self, *, baud: int, faults: Faults = QUIET, seed: int = 1, pieces: int = 0) -> None:
        serial = SerialSettings(baud=baud, parity="E")
        self.entry = BusEntry(name="mixed", port="/memory/mixed", serial=serial)
        self.meters: list[Meter] = []
        simulated = []
        for n in range(1, 9):
            self.meters.append(meter(f"{n:012d}", bus=self.entry))
            simulated.append(SimulatedMeter(id=self.meters[-1].id, meter=Dlt645Meter(f"{n:012d}", Load(n))))
            self.meters.append(meter(str(n), "modbus-rtu", bus=self.entry))
            modbus = ModbusMeter(n, self.meters[-1].profile, Load(100 + n))
            simulated.append(SimulatedMeter(id=self.meters[-1].id, meter=modbus))
        self.wire = Wire(simulated, serial=serial, now_ms=virtual.now_ms, seed=seed, faults=faults, pieces=pieces)
        self.bus = Bus(self.entry, open_line=self._open, now_ms=virtual.now_ms)
        self.outcomes: list[tuple[Meter, Outcome]] = []

    async def _open(self, bus: BusEntry) -> Line:
        return MemoryLine(self.wire)

    def run(self, rounds: int, items: dict[str, list[str]]) -> None:
        """Read all meters so many times, without a pause."""
        virtual.run(self._run(rounds, items), start_ms=START_MS)

    async def _run(self, rounds: int, items: dict[str, list[str]]) -> None:
        left = rounds * len(self.meters)

        def take(one: Meter, outcome: Outcome) -> None:
            nonlocal left
            left -= 1
            self.outcomes.append((one, outcome))
            if not left:
                self.bus.stop()

        for _ in range(rounds):
            for one in self.meters:
                read = plan(one.profile, one.entry, items[one.profile.family], self.entry.serial)
                self.bus.submit(
                    Job(meter=one, dialogue=read.dialogue, lane=Lane.CURVE, deadline=float("inf"),
                        done=partial(take, one))
                )  # fmt: skip
        await self.bus.run()


@pytest.mark.parametrize("baud", [2400, 9600])
@pytest.mark.parametrize("pieces", [0, 1])
def test_the_wire_is_the_limit(baud: int, pieces: int) -> None:
    mixed = MixedBus(baud=baud, pieces=pieces)
    mixed.run(4, {"dlt645": ENERGIES, "modbus": REGISTERS})
    assert all(value.fault is None for _, outcome in mixed.outcomes for value in outcome.values or ())
    account = mixed.bus.account
    gaps_s = 32 * (0.030 + t35(mixed.entry.serial))
    elapsed_s = account.at - OPEN_LISTEN_S
    assert account.elapsed == pytest.approx(elapsed_s * 1000)
    assert account.wire == pytest.approx(mixed.wire.wire_s * 1000)
    assert account.turnaround == pytest.approx(mixed.wire.turnaround_s * 1000)
    truth = (mixed.wire.wire_s + gaps_s) / (elapsed_s - mixed.wire.turnaround_s)
    assert truth >= 0.99
    assert mixed.bus.utilisation >= 0.97


def test_every_millisecond_is_accounted_for() -> None:
    mixed = MixedBus(baud=2400, faults=Faults(silent=0.1, truncate=0.1))
    mixed.run(4, {"dlt645": ENERGIES, "modbus": REGISTERS})
    assert mixed.bus.account.elapsed == pytest.approx((mixed.bus.account.at - OPEN_LISTEN_S) * 1000)
    assert mixed.bus.account.dead > 0
    assert mixed.bus.utilisation < 0.97


FAULTS = {
    "noise": Faults(ber=3e-4),
    "lost bytes": Faults(loss=0.003),
    "bursts": Faults(burst=0.002),
    "echo and glitches": Faults(echo=True, glitch=0.3),
    "foreign frames": Faults(foreign=0.3),
    "late answers": Faults(late=0.15, late_ms=(600.0, 1400.0)),
    "all together": Faults(ber=1e-4, glitch=0.1, foreign=0.1, late=0.05, truncate=0.05, silent=0.05, echo=True),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_happens_on_the_wire_a_value_is_one_that_its_meter_served(fault: str) -> None:
    mixed = MixedBus(baud=9600, faults=FAULTS[fault], seed=7)
    mixed.run(6, {"dlt645": ENERGIES, "modbus": VOLTAGES})
    served: dict[str, dict[str, list[tuple[int, Decimal]]]] = {}
    for entry in mixed.wire.log.entries:
        for name, plain in entry.values.items():
            served.setdefault(entry.meter, {}).setdefault(name, []).append((entry.at_ms, Decimal(plain)))
    good = 0
    assert len(mixed.outcomes) == 6 * 16
    for one, outcome in mixed.outcomes:
        for value in outcome.values or ():
            if value.number is None:
                assert value.fault is not None
                continue
            good += 1
            assert outcome.read_at is not None
            near = [number for at, number in served[one.id][value.quantity.name] if abs(at - outcome.read_at) <= 2000]
            assert value.number in near
    assert good > 0.9 * 6 * (8 * 5 + 8 * 3)


def test_mixed_families_each_keep_their_own_settings() -> None:
    slow = SerialSettings(baud=1200, parity="E")
    entry = BusEntry(name="mixed", port="/memory/mixed", serial=SerialSettings(baud=9600, parity="N"))
    one, other = meter("000000000001", bus=entry, serial=slow), meter("7", "modbus-rtu", bus=entry)
    simulated = [
        SimulatedMeter(id=one.id, meter=Dlt645Meter("000000000001", Load(1)), serial=slow),
        SimulatedMeter(id=other.id, meter=ModbusMeter(7, other.profile, Load(2)), serial=entry.serial),
    ]

    async def main() -> None:
        wire = Wire(simulated, serial=entry.serial, now_ms=virtual.now_ms)

        async def open_line(bus: BusEntry) -> Line:
            return MemoryLine(wire)

        bus = Bus(entry, open_line=open_line, now_ms=virtual.now_ms)
        outcomes: list[Outcome] = []
        for _ in range(2):
            for asked, items in ((one, ENERGIES), (other, VOLTAGES)):
                read = plan(asked.profile, asked.entry, items, asked.settings)
                bus.submit(Job(meter=asked, dialogue=read.dialogue, lane=Lane.CURVE, deadline=float("inf"),
                               done=outcomes.append))  # fmt: skip
        async with asyncio.TaskGroup() as group:
            group.create_task(bus.run())
            await asyncio.sleep(20)
            bus.stop()
        assert len(outcomes) == 4
        assert all(value.fault is None for outcome in outcomes for value in outcome.values or ())

    virtual.run(main(), start_ms=START_MS)
