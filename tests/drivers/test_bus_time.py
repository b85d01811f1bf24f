"""A bus against simulated meters on an exact wire: how much of the time it uses, and that faults give no values."""

import asyncio
from decimal import Decimal

import pytest

from config.model import BusEntry, SerialSettings
from drivers.bus import Bus, Job, Lane, Outcome
from drivers.line import Line
from drivers.outcome import MOMENT_S
from drivers.plan import plan
from simulators import virtual
from simulators.dlt645 import Dlt645Meter
from simulators.load import Load
from simulators.meter import SimulatedMeter
from simulators.modbus import ModbusMeter
from simulators.noise import Faults
from simulators.wire import MemoryLine, Wire
from tests.mixed import BLOCKS, START_MS, VirtualMixedBus
from tests.script import meter

ENERGIES = BLOCKS["dlt645"]
VOLTAGES = ["voltage.a", "voltage.b", "voltage.c"]
CARRIED_MS = 100
"""What may lie between the last byte of an answer on the wire and its being taken for one: a pause in which more of it
could have come."""


@pytest.mark.parametrize("baud", [2400, 9600])
@pytest.mark.parametrize("pieces", [0, 1])
def test_the_wire_is_the_limit(baud: int, pieces: int) -> None:
    mixed = VirtualMixedBus(baud=baud, pieces=pieces)
    mixed.run(4)
    account = mixed.bus.account
    assert account.elapsed == pytest.approx(mixed.elapsed_s * 1000)
    assert account.wire == pytest.approx(mixed.wire.wire_s * 1000)
    assert account.turnaround == pytest.approx(mixed.wire.turnaround_s * 1000)
    assert mixed.truth >= 0.99
    assert mixed.bus.utilisation >= 0.97


def test_every_millisecond_is_accounted_for() -> None:
    mixed = VirtualMixedBus(baud=2400, faults=Faults(silent=0.1, truncate=0.1))
    mixed.run(4)
    assert mixed.bus.account.elapsed == pytest.approx(mixed.elapsed_s * 1000)
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
def test_whatever_happens_on_the_wire_a_value_is_one_that_its_meter_served_at_that_moment(fault: str) -> None:
    mixed = VirtualMixedBus(baud=9600, faults=FAULTS[fault], seed=7)
    mixed.run(6, {"dlt645": ENERGIES, "modbus": VOLTAGES})
    served: dict[str, dict[str, list[tuple[int, Decimal]]]] = {}
    for entry in mixed.wire.log.entries:
        for name, plain in entry.values.items():
            served.setdefault(entry.meter, {}).setdefault(name, []).append((entry.at_ms, Decimal(plain)))
    good = 0
    assert len(mixed.outcomes) == 6 * 16
    parts = [(one.id, part) for one, outcome in mixed.outcomes for part in outcome.moments()]
    for meter_id, part in parts:
        for value in part.values or ():
            if value.number is None:
                assert value.fault is not None
                continue
            good += 1
            assert part.read_at is not None
            since, until = part.read_at - 1000 * MOMENT_S - CARRIED_MS, part.read_at
            assert value.number in [n for at, n in served[meter_id][value.quantity.name] if since <= at <= until]
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
