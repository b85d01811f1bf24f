"""A dialogue that has set something is not begun anew, whatever becomes of what it asks next."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from drivers.bus import Lane
from drivers.meter import Meter
from drivers.run import Run
from drivers.silent import PROBE_EVERY_S
from protocols.dialogue import Dialogue
from protocols.modbus import commands
from protocols.modbus.frame import Frame
from tests.desk import TURNAROUND_S, Desk, serve
from tests.script import Said, ScriptedLine, meter, registers

SLOW: dict[str, Any] = {"turnaround_ms_max": 300, "late_max_ms": 1500, "attempts": 3}


class Setting:
    """A dialogue that sets a register and then reads coils, and what it was told."""

    def __init__(self) -> None:
        self.answers: list[object] = []

    def __call__(self) -> Dialogue[Frame]:
        self.answers.append((yield from commands.write_registers(1, 5, b"\0\7")))
        self.answers.append((yield from commands.read_bits(1, 1, 0, 3)))
        return []


def answered(question: bytes) -> Said:
    match question[1]:
        case 16:
            return [(TURNAROUND_S, Frame(unit=1, function=16, data=question[2:6]).encode())]
        case 1:
            return [(TURNAROUND_S, Frame(unit=1, function=1, data=b"\x01\x05").encode())]
    return [(TURNAROUND_S, registers(1, 0, 1))]


def set_and_read(lane: Lane, answer: Callable[[Desk, bytes], Said], beside: Callable[[Desk, Meter], None]) -> list[int]:
    """The functions that were asked for, by a bus on which the meter answers so."""
    line = ScriptedLine(lambda question, n: answer(desk, question))
    desk, one, setting = Desk(line), meter("1", "modbus-rtu", **SLOW), Setting()

    async def script() -> None:
        desk.ask(one, setting, name="set", lane=lane)
        await asyncio.sleep(1)
        beside(desk, one)

    serve(desk, script, for_s=2 * PROBE_EVERY_S)
    assert [name for name, _ in desk.ended].count("set") == 1
    assert isinstance(setting.answers[0], commands.Written)
    assert setting.answers[-1] == (True, False, True)
    return [question[1] for _, question in line.asked]


def nothing(desk: Desk, one: Meter) -> None:
    """Nobody else asks."""


@pytest.mark.parametrize("lane", [Lane.CONTROL, Lane.CURVE])
def test_what_was_set_is_not_set_again_where_the_next_question_goes_unanswered(
    lane: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(desk: Desk, question: bytes) -> Said:
        first = [asked[1] for _, asked in desk.line.asked].count(1) == 1
        return [] if question[1] == 1 and first else answered(question)

    assert set_and_read(lane, answer, nothing) == [16, 1, 1]
    monkeypatch.setattr(Run, "once", property(lambda self: False, lambda self, value: None))
    assert set_and_read(lane, answer, nothing) == [16, 1, 16, 1]


def test_nor_where_the_meter_falls_silent_meanwhile() -> None:
    def answer(desk: Desk, question: bytes) -> Said:
        return [] if 0.6 < asyncio.get_running_loop().time() < 30 and question[1] != 16 else answered(question)

    def beside(desk: Desk, one: Meter) -> None:
        for n in range(3):
            desk.registers(one, 10 * n, name=str(n), lane=Lane.READ_NOW)

    asked = set_and_read(Lane.CURVE, answer, beside)
    assert asked.count(16) == 1


@pytest.mark.parametrize("after_s", [0.01, 0.05, 0.3])
def test_nor_where_the_port_is_lost(after_s: float) -> None:
    def answer(desk: Desk, question: bytes) -> Said:
        if question[1] == 1 and not desk.bus.port.counters.lost:
            asyncio.get_running_loop().call_later(after_s, desk.line.tear)
            return []
        return answered(question)

    assert set_and_read(Lane.CONTROL, answer, nothing) == [16, 1, 1]
