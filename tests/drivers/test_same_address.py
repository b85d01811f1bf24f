"""Two meters with one address that answer together: what they spoil is no value, and costs the others nothing."""

import asyncio
from typing import Any, Literal

import pytest

from config.model import BusEntry, MeterEntry, ProtocolName
from drivers.bus import Bus, Job, Lane, Outcome
from drivers.line import Line
from drivers.meter import Meter
from drivers.plan import plan
from drivers.profile import load_profile
from protocols.capture import Quality
from simulators import virtual
from simulators.wire import MemoryLine, Wire
from tests.sick import PROFILE, S2400, S9600, START_MS, dlt645, modbus

READS = 60
ENERGY = "energy.active.import.total"


@pytest.mark.parametrize("apart_ms", [0.0, 3.0, 30.0, 400.0])
@pytest.mark.parametrize("family", ["dlt645", "modbus"])
def test_two_meters_that_answer_together_give_no_value_that_neither_showed(
    family: Literal["dlt645", "modbus"], apart_ms: float
) -> None:
    serial = S2400 if family == "dlt645" else S9600
    protocol: ProtocolName = "dlt645-2007" if family == "dlt645" else "modbus-rtu"
    made: Any = dlt645 if family == "dlt645" else modbus
    addresses = ("000000000001", "000000000002") if family == "dlt645" else (1, 2)
    first, second, other = (
        made(addresses[0], seed=1, turnaround_ms=(20.0, 30.0)),
        made(addresses[0], seed=2, turnaround_ms=(20.0 + apart_ms, 30.0 + apart_ms)),
        made(addresses[1], seed=3, turnaround_ms=(20.0, 30.0)),
    )
    wire = Wire([first, second, other], serial=serial, now_ms=virtual.now_ms)
    entry = BusEntry(name="b", port="/memory/b", serial=serial)
    profile = load_profile("dlt645-2007-3p" if family == "dlt645" else PROFILE)

    async def open_line(_: BusEntry) -> Line:
        return MemoryLine(wire)

    bus = Bus(entry, open_line=open_line, now_ms=virtual.now_ms)
    good: dict[str, list[str | None]] = {}

    async def main() -> None:
        task = asyncio.ensure_future(bus.run())
        for n in range(READS):
            for address in addresses:
                one = MeterEntry(id=str(address), point="", bus="b", address=str(address), profile=profile.name,
                                 protocol=protocol)  # fmt: skip
                read = plan(profile, one, [(ENERGY, "voltage.a")[n % 2]], serial)

                def took(outcome: Outcome, of: str = one.id) -> None:
                    values = [value.plain for value in outcome.values or () if value.quality is Quality.GOOD]
                    good.setdefault(of, []).extend(values)

                meter = meters.setdefault(one.id, Meter(one, profile, entry))
                deadline = asyncio.get_running_loop().time() + 60.0
                bus.submit(Job(meter=meter, dialogue=read.dialogue, lane=Lane.CURVE, deadline=deadline, done=took))
            await asyncio.sleep(2.0)
        await asyncio.sleep(60.0)
        bus.stop()
        await task

    meters: dict[str, Meter] = {}
    virtual.run(main(), start_ms=START_MS)
    shown: dict[str, set[str]] = {}
    for served in wire.log.entries:
        of = str(addresses[1] if served.meter == other.id else addresses[0])
        shown.setdefault(of, set()).update(served.values.values())
    for of, values in good.items():
        assert set(values) <= shown[of], of
    assert len(good[str(addresses[1])]) >= 0.9 * READS
    assert wire.counts["collision"] > 0 or apart_ms > 30.0
