"""An answer that comes twice: it answers nothing else, and where it could not, nobody waits for it."""

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from config.model import BusEntry, SerialSettings
from drivers.bus import Bus
from drivers.meter import Meter
from drivers.run import Standing
from protocols.capture import Fault
from protocols.dlt645.frame import Frame as Dlt645Frame
from protocols.modbus.dialogue import Block, Item, read_blocks
from protocols.modbus.frame import Frame
from protocols.modbus.registers import Format, Type
from protocols.quantity import by_name
from simulators import virtual
from tests.desk import TURNAROUND_S, Desk, good, serve
from tests.script import Said, ScriptedLine, energy, meter

QUICK: dict[str, Any] = {"turnaround_ms_max": 300, "late_max_ms": 600, "attempts": 2}
FAST = BusEntry(name="b1", port="/dev/ttyS0", serial=SerialSettings(baud=115_200, parity="E"))
AGAIN_S = 0.03
"""How long after it an answer comes once more."""


def desk_of(answer: Callable[[bytes, int], Said]) -> Desk:
    desk = Desk(ScriptedLine(answer, FAST.serial))
    desk.bus = Bus(FAST, open_line=desk.line.open, now_ms=virtual.now_ms)
    return desk


def read(desk: Desk, one: Meter, address: int, count: int, *, name: str = "") -> None:
    """Read registers, each of which holds the first one's address; named after it by default."""
    numbers = [Item(quantity=by_name("voltage.a"), function=4, address=address + n, format=Format(type=Type.UINT16))
               for n in range(count)]  # fmt: skip
    desk.ask(one, lambda: read_blocks([Block(int(one.entry.address), numbers)]), name=name or str(address))


def right(question: bytes) -> bytes:
    count = question[5]
    return Frame(unit=question[0], function=4, data=bytes((2 * count,)) + question[2:4] * count).encode()


def twice(frame: bytes, turnaround_s: float = TURNAROUND_S) -> Said:
    return [(turnaround_s, frame), (turnaround_s + AGAIN_S, frame)]


def never_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a control: nobody reckons with it."""
    monkeypatch.setattr(Standing, "clear_at", lambda *_: 0.0)


def refusals(question: bytes, n: int) -> Said:
    if question[3] == 0:
        return twice(Frame(unit=1, function=0x84, data=b"\x02").encode())
    return [(2 * AGAIN_S, right(question))]


@pytest.mark.parametrize("count", [1, 4])
def test_a_refusal_that_comes_twice_refuses_nothing_else(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def faults() -> list[Fault | None]:
        desk, one = desk_of(refusals), meter("1", "modbus-rtu", bus=FAST, **QUICK)

        async def script() -> None:
            read(desk, one, 0, 1)
            read(desk, one, 100, count)

        serve(desk, script, for_s=20)
        asked = len(desk.line.asked)
        return [value.fault for value in desk.outcome("100").values or ()] if asked == 2 else [Fault.REFUSED]

    assert faults() == [None] * count
    never_twice(monkeypatch)
    assert faults() != [None] * count


def test_the_answer_before_the_last_may_come_twice_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(question: bytes, n: int) -> Said:
        return twice(right(question), 0.002) if n == 0 else [(0.012, right(question))]

    def told() -> list[list[str | None]]:
        desk, one = desk_of(answer), meter("1", "modbus-rtu", bus=FAST, min_gap_ms=2, **QUICK)

        async def script() -> None:
            for address, count in ((0, 2), (50, 6), (100, 2)):  # neighbours differ in size
                read(desk, one, address, count)

        serve(desk, script, for_s=20)
        return [desk.plain(str(address)) for address in (0, 50, 100)]

    true = [["0"] * 2, ["50"] * 6, ["100"] * 2]
    assert told() == true
    never_twice(monkeypatch)
    assert told() == [*true[:2], ["0"] * 2]


def test_a_refusal_of_dlt645_names_no_identifier_and_refuses_nothing_else_either(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refusal = Dlt645Frame(address="000000000001", control=0xD1, data=b"\x02").encode(0)

    def answer(question: bytes, n: int) -> Said:
        if n == 0:
            return [(TURNAROUND_S, refusal), (TURNAROUND_S + 0.04, refusal)]
        return [(0.08, good(question, n)[0][1])]  # type: ignore[index]

    def faults() -> list[Fault | None]:
        desk = desk_of(answer)

        async def script() -> None:
            desk.energy(meter(bus=FAST), "00010000", "00020000", name="a")

        serve(desk, script, for_s=20)
        return [value.fault for value in desk.outcome("a").values or ()]

    assert faults() == [Fault.ABSENT, None]
    never_twice(monkeypatch)
    assert faults() == [Fault.ABSENT, Fault.ABSENT]


@pytest.mark.parametrize("behind", [b"\xfe" * 6, energy()], ids=["bytes", "the answer again"])
def test_what_stands_behind_an_answer_that_names_its_identifier_costs_nothing(behind: bytes) -> None:
    def took_s(behind: bytes) -> float:
        desk = desk_of(lambda question, n: [(TURNAROUND_S, good(question, n)[0][1] + behind)])  # type: ignore[index]

        async def script() -> None:
            desk.energy(meter(bus=FAST), *(f"00{n:02X}0000" for n in range(1, 9)), name="a")

        serve(desk, script)
        assert desk.plain("a") == ["12.34"] * 8
        assert desk.bus.counters.quarantines == 0
        return desk.at["a"]

    assert took_s(behind) < took_s(b"") + 0.05


def test_what_stands_behind_an_answer_is_waited_out_before_the_same_is_asked_again() -> None:
    desk = desk_of(lambda question, n: [(TURNAROUND_S, energy() + (energy() if n == 0 else b""))])
    one = meter(bus=FAST, **QUICK)

    async def script() -> None:
        desk.energy(one, "00010000", "00010000", name="a")

    serve(desk, script, for_s=20)
    (first, _), (second, _) = desk.line.asked
    assert second - first > one.late_s and desk.bus.counters.doubled == 1


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("again_s", [0.0, 0.004, 0.02, 0.04])
def test_a_converter_that_sends_everything_twice_brings_no_wrong_value_and_no_wrong_refusal(
    again_s: float, seed: int
) -> None:
    rng = Random(seed)
    turnaround_s = rng.choice((0.003, 0.01, 0.03))

    def answer(question: bytes, n: int) -> Said:
        unit, address = question[0], question[3]
        refused = Frame(unit=unit, function=0x84, data=b"\x02").encode()
        frame = refused if address >= 90 else right(question)
        return [(turnaround_s, frame), (turnaround_s + len(frame) * FAST.serial.character_s + again_s, frame)]

    desk = desk_of(answer)
    both = [meter(unit, "modbus-rtu", bus=FAST, **QUICK) for unit in ("1", "2")]
    wanted: dict[str, list[str | None]] = {}

    async def script() -> None:
        for _ in range(150):
            one, address, count = rng.choice(both), rng.choice((3, 5, 7, 95)), rng.choice((1, 2, 2, 4))
            name = f"{len(wanted)}"
            wanted[name] = [None if address >= 90 else str(address)] * count
            read(desk, one, address, count, name=name)
            await asyncio.sleep(rng.choice((0.0, 0.0, 0.02, 0.1)))

    serve(desk, script, for_s=400)
    assert len(desk.ended) == len(wanted)
    assert {name: desk.plain(name) for name in wanted} == wanted
