"""A busy Modbus meter is left alone while others are asked; a gateway's word that one is gone is that one's silence."""

import asyncio
from typing import Any

from protocols.capture import Fault
from protocols.modbus.frame import Frame
from tests.desk import Desk, serve
from tests.script import Said, ScriptedLine, meter, registers

QUICK: dict[str, Any] = {"turnaround_ms_max": 200, "late_max_ms": 300}


def refused(unit: int, code: int) -> bytes:
    return Frame(unit=unit, function=0x84, data=bytes((code,))).encode()


def asked(desk: Desk, unit: int) -> list[float]:
    """When this unit was asked."""
    return [at for at, data in desk.line.asked if data[0] == unit]


def test_a_busy_meter_is_asked_again_after_a_pause_and_others_meanwhile() -> None:
    busy = {0, 1}

    def answer(data: bytes, n: int) -> Said:
        if data[0] == 1 and busy:
            busy.pop()
            return [(0.02, refused(1, 6))]
        return [(0.02, registers(data[0], 0, data[0]))]

    desk = Desk(ScriptedLine(answer))
    one, two = meter("1", "modbus-rtu"), meter("2", "modbus-rtu")

    async def script() -> None:
        desk.registers(one, 0, name="one")
        for n in range(20):
            desk.registers(two, n, name=f"two {n}")

    serve(desk, script)
    assert desk.plain("one") == ["1"]
    first, second, third = asked(desk, 1)
    assert 0.1 <= second - first < 0.3 and 0.3 <= third - second < 0.5
    assert sum(first < at < second for at in asked(desk, 2)) >= 2
    assert desk.bus.counters.quarantines == 0 and desk.bus.counters.retries == 0


def test_a_meter_that_stays_busy_has_refused_and_is_not_held_for_silent() -> None:
    desk = Desk(ScriptedLine(lambda data, n: [(0.02, refused(1, 5))]))

    async def script() -> None:
        desk.registers(meter("1", "modbus-rtu"), 0, name="one")

    serve(desk, script)
    (value,) = desk.outcome("one").values or ()
    assert (value.fault, value.detail) == (Fault.REFUSED, "exception 05 acknowledge")
    assert len(desk.line.asked) == 4 and desk.bus.silent == ()


def test_a_gateway_that_cannot_reach_a_meter_makes_that_meter_silent_and_no_other() -> None:
    def answer(data: bytes, n: int) -> Said:
        return [(0.02, refused(1, 0x0B) if data[0] == 1 else registers(data[0], 0, data[0]))]

    desk = Desk(ScriptedLine(answer))
    one, two = meter("1", "modbus-rtu", attempts=2, **QUICK), meter("2", "modbus-rtu", **QUICK)

    async def script() -> None:
        desk.registers(one, 0, name="one")
        for n in range(10):
            desk.registers(two, n, name=f"two {n}")

    serve(desk, script, for_s=20)
    (value,) = desk.outcome("one").values or ()
    assert value.fault is Fault.SILENT and desk.bus.silent == (one.id,)
    assert len(asked(desk, 1)) == 2
    assert desk.bus.port.counters.lost == 0 and desk.bus.counters.answered == 10


def test_a_meter_behind_a_gateway_that_comes_back_is_found() -> None:
    gone = [True]

    def answer(data: bytes, n: int) -> Said:
        return [(0.02, refused(1, 0x0A) if gone[0] else registers(1, 0, 5))]

    desk = Desk(ScriptedLine(answer))
    one = meter("1", "modbus-rtu", attempts=1, **QUICK)

    async def script() -> None:
        desk.registers(one, 0, name="before")
        await asyncio.sleep(10)
        gone[0] = False
        await asyncio.sleep(100)
        desk.registers(one, 0, name="after")

    serve(desk, script, for_s=20)
    assert desk.plain("after") == ["5"] and desk.bus.counters.came_back == 1
