"""Somebody else asks on the same line: what comes for him answers nothing of ours, as far as it can be told apart."""

from typing import Any

import pytest

from protocols.modbus.dialogue import Block, Item, read_blocks
from protocols.modbus.registers import Format, Type
from protocols.quantity import by_name
from tests.desk import TURNAROUND_S, Desk, good, serve
from tests.script import Said, ScriptedLine, energy, meter, registers

QUICK: dict[str, Any] = {"turnaround_ms_max": 200, "late_max_ms": 300, "attempts": 2}


def told(theirs: bytes, *, count: int = 2) -> str | None:
    """What a register of 7 is said to hold, when the answer to another's question comes just before ours."""
    ours = registers(1, *[7] * count)

    def answer(question: bytes, n: int) -> Said:
        return [(0.0, theirs), (0.02 + TURNAROUND_S, ours)]

    desk = Desk(ScriptedLine(answer))
    items = [Item(quantity=by_name("voltage.a"), function=4, address=n, format=Format(type=Type.UINT16))
             for n in range(count)]  # fmt: skip

    async def script() -> None:
        desk.ask(meter("1", "modbus-rtu", **QUICK), lambda: read_blocks([Block(1, items)]), name="read")

    serve(desk, script, for_s=10)
    return desk.plain("read")[0]


@pytest.mark.parametrize("theirs", [registers(2, 99, 99), registers(1, 99), registers(1, 99, 99, function=3)])
def test_an_answer_of_another_unit_function_or_length_is_passed_over(theirs: bytes) -> None:
    assert told(theirs) == "7"


def test_one_of_the_same_length_cannot_be_told_from_ours_as_the_limits_say() -> None:
    assert told(registers(1, 99, 99)) == "99"


def test_an_answer_of_dlt645_names_its_item() -> None:
    address = "000000000001"

    def answer(question: bytes, n: int) -> Said:
        return [(0.0, energy(address, "00009900", di="00020000")), *[(0.03, said) for _, said in good(question, n)]]

    desk = Desk(ScriptedLine(answer))

    async def script() -> None:
        desk.energy(meter(address, **QUICK), name="read")

    serve(desk, script, for_s=10)
    assert desk.plain("read") == ["12.34"]
