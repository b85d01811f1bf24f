"""An answer of a billing reading comes once more, from 70 ms to beyond any late window after it."""

from typing import Any

import pytest

from drivers.confirm import confirmed
from protocols.capture import Quality
from protocols.dialogue import Dialogue
from protocols.dlt645 import v2007
from protocols.modbus.dialogue import Block, Item, read_blocks
from protocols.modbus.registers import Format, Type
from protocols.quantity import by_name
from tests.desk import Desk, serve
from tests.script import Said, ScriptedLine, energy, meter, registers

ENERGIES = tuple(by_name(f"energy.active.{way}.total") for way in ("import", "export"))
ITEMS = [Item(quantity=q, function=4, address=100 * n, format=Format(type=Type.UINT32)) for n, q in enumerate(ENERGIES)]
"""Two blocks of the same size, whose answers nothing tells apart."""
RIGHT = {"modbus-rtu": ["1000", "2000"], "dlt645-2007": ["10.00", "20.00"]}
APART_MS = [*range(70, 600, 10), *range(600, 3500, 100)]
"""The window of a Modbus meter ends 2.5 s after its question at the latest."""
Told = list[tuple[str | None, Quality]]


def bill(
    protocol: str,
    copied: int,
    apart_ms: int,
    *,
    turnaround_s: float = 0.12,
    damaged: bool = False,
    flushed: bool = True,
) -> Told:
    """What is billed when the answer with this number, damaged or not, comes again so much later."""
    modbus = protocol == "modbus-rtu"

    def answer(question: bytes, n: int) -> Said:
        if modbus:
            number = 1000 if question[2:4] == b"\0\0" else 2000
            data = registers(1, 0, 9000 if damaged and n == copied else number)
        else:
            found = question.lstrip(b"\xfe")
            di = bytes((byte - 0x33) & 0xFF for byte in found[10:14])[::-1].hex()
            digits = "00001000" if di == "00010000" else "00002000"
            data = energy(digits="00009000" if damaged and n == copied else digits, di=di)
        said = [(turnaround_s, data)]
        return [*said, (turnaround_s + apart_ms / 1000, data)] if n == copied else said

    def dialogue() -> Dialogue:  # type: ignore[type-arg]
        if modbus:
            return read_blocks([Block(1, [item], [n]) for n, item in enumerate(ITEMS)])
        return v2007.read(one.entry.address, ["00010000", "00020000"])

    desk = Desk(ScriptedLine(answer))
    one = meter("1", "modbus-rtu") if modbus else meter()

    async def script() -> None:
        apart_s = (lambda: one.apart_s) if flushed else (lambda: 0.0)
        desk.ask(one, lambda: confirmed(dialogue, apart_s=apart_s), name="bill")

    serve(desk, script, for_s=60.0)
    return [(value.plain, value.quality) for value in desk.outcome("bill").values or ()]


def wrong(protocol: str, copied: int, **how: Any) -> list[int]:
    """How much later a copy of this answer makes a bill wrong, and says that it is good."""
    right = [(plain, Quality.GOOD) for plain in RIGHT[protocol]]
    billed = {apart_ms: bill(protocol, copied, apart_ms, **how) for apart_ms in APART_MS}
    return [
        apart_ms for apart_ms, told in billed.items()
        if any(one != other and one[1] is Quality.GOOD for one, other in zip(told, right, strict=True))
    ]  # fmt: skip


@pytest.mark.parametrize("turnaround_s", [0.02, 0.12, 0.4])
@pytest.mark.parametrize("protocol", RIGHT)
def test_a_copy_of_a_right_answer_makes_no_bill_wrong_however_late_it_is(protocol: str, turnaround_s: float) -> None:
    for copied in range(4):
        assert wrong(protocol, copied, turnaround_s=turnaround_s) == []


def test_it_would_where_the_next_reading_begins_before_the_answer_that_it_took_the_place_of_has_come() -> None:
    """Each answer is then taken for that of the question behind it, in all readings alike."""
    assert 70 in wrong("modbus-rtu", 0, turnaround_s=0.12, flushed=False)


@pytest.mark.parametrize("turnaround_s", [0.02, 0.12, 0.4])
@pytest.mark.parametrize("protocol", RIGHT)
def test_a_copy_of_a_damaged_answer_confirms_itself_only_in_place_of_the_second_answer(
    protocol: str, turnaround_s: float
) -> None:
    """Damaged so that no check sees it, and sent so once more, later: beyond what can be promised (docs/limits.md)."""
    found = wrong(protocol, 1, turnaround_s=turnaround_s, damaged=True)
    assert found and max(found) - min(found) <= 1000 * turnaround_s + 100
    assert min(found) > 1000 * (meter("1", protocol).double_s + turnaround_s)  # type: ignore[arg-type]
