"""What may be asked only once is asked once, whatever happens to the wire; what is one answer is of one time."""

import asyncio
from collections.abc import Callable, Generator
from typing import Any

import pytest

from config.model import ProtocolName
from drivers.bus import Lane
from drivers.silent import PROBE_EVERY_S
from protocols.dialogue import Answer, Ask
from protocols.dlt645.frame import Frame, parse
from protocols.modbus import commands
from protocols.modbus.frame import Frame as MbFrame
from simulators import virtual
from tests.desk import START_MS, TURNAROUND_S, Desk, serve
from tests.script import Said, ScriptedLine, meter, registers

QUICK: dict[str, Any] = {"turnaround_ms_max": 200, "late_max_ms": 300, "attempts": 3}
ADDRESS = "000000000001"


class Setting:
    """A dialogue that sets a register, and what it was told."""

    def __init__(self) -> None:
        self.answers: list[object] = []

    def __call__(self) -> Generator[Ask[Any], Answer[Any], list[Any]]:
        told = yield from commands.write_registers(1, 5, b"\x00\x07")
        self.answers.append(told)
        return []


def torn(line: ScriptedLine, *, after_s: float) -> None:
    asyncio.get_running_loop().call_later(after_s, line.tear)


@pytest.mark.parametrize("lane", [Lane.CONTROL, Lane.CURVE])
def test_a_write_is_not_sent_again_when_the_port_was_lost_with_it_on_its_way(lane: Lane) -> None:
    def answer(question: bytes, n: int) -> Said:
        if n == 0:
            torn(line, after_s=0.05)
            return []
        return [(TURNAROUND_S, registers(1, 0, 1))]

    line, setting = ScriptedLine(answer), Setting()
    desk, one = Desk(line), meter("1", "modbus-rtu", **QUICK)

    async def script() -> None:
        desk.ask(one, setting, name="write", lane=lane)
        desk.registers(one, 0, name="read")

    serve(desk, script, for_s=30)
    assert sorted(data[1] for _, data in line.asked) == [4, 16]
    assert [type(answer).__name__ for answer in setting.answers] == ["Silence"]
    assert desk.plain("read") == ["1"]


def test_a_write_is_not_sent_again_by_a_bus_that_was_ended_with_it_on_its_way() -> None:
    line, setting = ScriptedLine(lambda question, n: []), Setting()
    desk = Desk(line)

    async def main() -> None:
        for _ in range(2):
            task = asyncio.ensure_future(desk.bus.run())
            if not line.asked:
                desk.ask(meter("1", "modbus-rtu", **QUICK), setting, name="write")
            await asyncio.sleep(0.4 if not line.asked else 30)
            task.cancel()
            await asyncio.wait({task})

    virtual.run(main(), start_ms=START_MS)
    assert len(line.asked) == 1
    assert [name for name, _ in desk.ended] == ["write"]


@pytest.mark.parametrize("lane", [Lane.CONTROL, Lane.CURVE])
def test_a_write_that_nobody_answered_is_no_probe(lane: Lane) -> None:
    line, setting = ScriptedLine(lambda question, n: []), Setting()
    desk, one = Desk(line), meter("1", "modbus-rtu", **QUICK)

    async def script() -> None:
        desk.ask(one, setting, name="first", lane=lane)
        await asyncio.sleep(5 * PROBE_EVERY_S)
        assert len(line.asked) == 1 and not desk.bus.silent
        desk.registers(one, 0, name="read")
        await asyncio.sleep(20)
        assert desk.bus.silent == (one.id,)
        desk.ask(one, setting, name="second", lane=lane)
        await asyncio.sleep(5 * PROBE_EVERY_S)

    serve(desk, script, for_s=0)
    functions = [data[1] for _, data in line.asked]
    assert functions.count(16) == 2 and functions.count(4) > 6
    assert [name for name, _ in desk.ended] == ["first", "read", "second"]


def counting(question: bytes, n: int) -> bytes:
    """A meter whose energies grow with every question, and do not fit into one frame."""
    asked = parse(question.lstrip(b"\xfe"))
    first = asked.function == 0x11
    told = asked.data[:4] + bytes((n % 10, 0, n % 10, 0)) + (b"" if first else asked.data[4:])
    return Frame(address=ADDRESS, control=0xB1 if first else 0x92, data=told).encode()


def test_an_answer_in_several_frames_is_begun_anew_when_the_port_was_lost_between_them() -> None:
    def answer(question: bytes, n: int) -> Said:
        if n == 1:
            torn(line, after_s=0.1)
            return []
        return [(TURNAROUND_S, counting(question, n))]

    line = ScriptedLine(answer)
    desk = Desk(line)

    async def script() -> None:
        desk.energy(meter(), "0001FF00", name="block")
        await asyncio.sleep(10)
        desk.energy(meter(), name="same meter")  # it is not held any more

    serve(desk, script, for_s=60)
    controls = [data.lstrip(b"\xfe")[8] for _, data in line.asked]
    assert controls == [0x11, 0x12, 0x11, 0x12, 0x11, 0x12]
    assert desk.plain("block") == ["200.02", "300.03"]
    outcome = desk.outcome("block")
    assert outcome.started_at is not None and outcome.read_at is not None
    assert outcome.read_at - outcome.started_at < 1000


@pytest.mark.parametrize("as_ascii", [False, True])
@pytest.mark.parametrize("write", [commands.write_register, commands.write_coil])
@pytest.mark.parametrize(
    ("read_before", "echo", "obeys", "confirmed"),
    [
        (True, False, True, True),
        (True, True, True, True),
        (True, True, False, False),  # what came back is the echo alone
        (True, False, False, False),
        (False, False, True, False),  # it may be: nobody knows yet whether the line hears itself
        (False, True, False, False),
    ],
)
def test_a_copy_of_the_question_confirms_a_write_where_it_is_no_echo(
    as_ascii: bool, write: Callable[..., Any], read_before: bool, echo: bool, obeys: bool, confirmed: bool
) -> None:
    told: list[object] = []
    question = next(write(1, 5, 1, as_ascii=as_ascii)).data

    def read() -> Generator[Ask[Any], Answer[Any], list[Any]]:
        yield from commands.read_bits(1, 1, 0, 8, as_ascii=as_ascii)
        return []

    def setting() -> Generator[Ask[Any], Answer[Any], list[Any]]:
        told.append((yield from write(1, 5, 1, as_ascii=as_ascii)))
        return []

    def answer(data: bytes, n: int) -> Said:
        right = data if data == question else MbFrame(unit=1, function=1, data=b"\x01\x55", ascii=as_ascii).encode()
        said = [(0.0, data)] if echo else []
        return [*said, (TURNAROUND_S, right)] if obeys or data != question else said

    line = ScriptedLine(answer)
    desk = Desk(line)
    protocol: ProtocolName = "modbus-ascii" if as_ascii else "modbus-rtu"

    async def script() -> None:
        if read_before:
            desk.ask(meter("1", protocol, **QUICK), read, name="read", lane=Lane.CONTROL)
            await asyncio.sleep(3)
        desk.ask(meter("1", protocol, **QUICK), setting, name="write", lane=Lane.CONTROL)

    serve(desk, script, for_s=20)
    assert [isinstance(one, commands.Written) for one in told] == [confirmed]
    assert [data for _, data in line.asked].count(question) == 1
