"""What cannot be confirmed by reading it again is not lost where the second reading fails."""

from collections.abc import Sequence
from typing import Any

import pytest

from drivers.bus import Lane
from drivers.confirm import confirmed
from protocols.capture import Fault
from protocols.modbus.dialogue import Block, Item, read_blocks
from protocols.modbus.registers import Format, Type
from protocols.quantity import by_name
from tests.desk import TURNAROUND_S, Desk, serve
from tests.drivers.test_confirm import read
from tests.script import Said, ScriptedLine, meter, registers

QUICK: dict[str, Any] = {"turnaround_ms_max": 200, "late_max_ms": 300, "attempts": 1}
SILENT, GARBLED, ABSENT = Fault.SILENT, Fault.GARBLED, Fault.ABSENT


@pytest.mark.parametrize(
    ("readings", "voltage"),
    [
        ([["1.00", "2", "230"], [SILENT, SILENT, SILENT]], "230"),
        ([["1.00", "2", "230"], ["1.00", "2", GARBLED]], "230"),
        ([["1.00", "2", "230"], ["1.01", "2", "231"], ["1.01", "2", GARBLED]], "231"),
        ([["1.00", "2", "230"], ["1.00", "2", "231"]], "231"),
        ([["1.00", "2", GARBLED], ["1.00", "2", "231"]], "231"),
        ([["1.00", "2", "230"], ["1.00", "2", ABSENT]], ABSENT),
        ([["1.00", "2", GARBLED], ["1.00", "2", SILENT]], SILENT),
    ],
)
def test_an_instant_is_that_of_the_last_reading_with_which_it_came(
    readings: Sequence[Sequence[str | Fault]], voltage: str | Fault
) -> None:
    values, _ = read(readings)
    assert (values[2].fault or values[2].plain) == voltage


def test_a_billing_read_that_is_cut_keeps_its_instants_with_their_own_moment() -> None:
    def answer(question: bytes, n: int) -> Said:
        return [(TURNAROUND_S, registers(1, 230, 1))] if n == 0 else []

    one, desk = meter("1", "modbus-rtu", **QUICK), Desk(ScriptedLine(answer))
    number = Format(type=Type.UINT16)
    items = [
        Item(quantity=by_name("voltage.a"), function=4, address=0, format=number),
        Item(quantity=by_name("energy.active.import.total"), function=4, address=1, format=number),
    ]

    async def script() -> None:
        desk.ask(one, lambda: confirmed(lambda: read_blocks([Block(1, items)])), name="bill", lane=Lane.BILLING)

    serve(desk, script, for_s=10)
    outcome = desk.outcome("bill")
    assert outcome.values is not None and outcome.started_at is not None
    assert [(value.plain, value.quality.value) for value in outcome.values] == [("230", "good"), ("1", "doubtful")]
    assert outcome.read_at is not None and outcome.read_at - outcome.started_at < 100
