"""Registers that bills are made of are read until two readings in a row agree."""

from collections.abc import Sequence
from decimal import Decimal
from itertools import accumulate, product
from typing import Any

import pytest

from drivers import confirm
from drivers.confirm import READINGS_MAX, confirmed
from protocols.capture import Fault, Quality, Value, faulty
from protocols.dialogue import Ask, Dialogue, Reply
from protocols.modbus.dialogue import Block, Item, read_blocks
from protocols.modbus.registers import Format, Type
from protocols.quantity import Quantity, by_name
from tests.desk import Desk, serve
from tests.script import Said, ScriptedLine, meter, registers

ENERGY, DEMAND, VOLTAGE = (
    by_name(n) for n in ("energy.active.import.total", "demand.active.import.total", "voltage.a")
)
GARBLED, SILENT, ABSENT = Fault.GARBLED, Fault.SILENT, Fault.ABSENT
APART_MS = 1000


def read(
    readings: Sequence[Sequence[str | Fault]], *, certain: bool = False, power_kw_max: int = 36, quantities: Any = None
) -> tuple[list[Value], int]:
    """The confirmed values when the meter says this, a second apart, "?" behind a number that it says is doubtful; and
    how often it was read."""
    wanted = quantities or (ENERGY, DEMAND, VOLTAGE)[: len(readings[0])]
    asked = 0

    def dialogue() -> Dialogue[str]:
        nonlocal asked
        said = readings[min(asked, len(readings) - 1)]
        asked += 1
        answer = yield Ask(data=b"?", reply_max=1, accepts=lambda frame: True)
        assert isinstance(answer, Reply)
        return [
            faulty(quantity, text) if isinstance(text, Fault) else said_of(quantity, text)
            for quantity, text in zip(wanted, said, strict=True)
        ]

    talk = confirmed(dialogue, certain=lambda: certain, power_kw_max=power_kw_max)
    next(talk)
    at = 0
    try:
        while True:
            at += APART_MS
            talk.send(Reply(frame="", sent_at=at, ended_at=at))
    except StopIteration as end:
        return end.value, asked


def said_of(quantity: Quantity, text: str) -> Value:
    quality = Quality.DOUBTFUL if text.endswith("?") else Quality.GOOD
    return Value(quantity=quantity, number=Decimal(text.rstrip("?")), quality=quality)


def shown(values: Sequence[Value]) -> list[tuple[str | None, str]]:
    return [(value.plain, value.quality.value) for value in values]


def test_two_readings_that_agree_are_enough() -> None:
    values, asked = read([["1.00", "2.0000"], ["1.00", "2.0000"]])
    assert shown(values) == [("1.00", "good"), ("2.0000", "good")]
    assert asked == 2


@pytest.mark.parametrize("wrong", range(3))
def test_one_damaged_reading_is_outvoted_by_the_two_beside_it(wrong: int) -> None:
    readings = [["100.00"]] * 5
    readings[wrong] = ["180.00"]
    values, _ = read(readings)
    assert shown(values) == [("100.00", "good")]


def test_what_turned_over_between_two_readings_is_read_a_third_time() -> None:
    values, asked = read([["1.00"], ["1.01"], ["1.01"]])
    assert shown(values) == [("1.01", "good")]
    assert asked == 3


def test_a_register_that_rises_all_the_time_is_taken_as_it_is() -> None:
    values, asked = read([["1.000"], ["1.004"], ["1.010"], ["1.015"], ["1.020"]])
    assert shown(values) == [("1.020", "good")]
    assert asked == READINGS_MAX


def test_a_count_of_its_last_digit_is_no_faster_than_a_register_can() -> None:
    values, _ = read([["1"], ["2"], ["3"], ["4"], ["5"]])
    assert shown(values) == [("5", "good")]


@pytest.mark.parametrize("readings", [
    (["1.00"], ["0.99"], ["1.01"], ["1.02"], ["1.03"]),  # it falls
    (["1.00"], ["1.01"], ["1.02"], ["9.00"], ["9.01"]),  # faster than 36 kW, which is 0.01 kWh a second
    (["1.00"], ["1.02"], ["1.04"], ["1.06"], ["1.08"]),
    (["1.00"], ["9.00"], ["1.00"], ["9.00"], ["1.00"]),
    (["1.00"], [GARBLED], ["1.01"], ["1.02"], ["1.03"]),
])  # fmt: skip
def test_what_agrees_with_nothing_is_doubtful_and_told_in_full(readings: Any) -> None:
    (value,), asked = read(readings)
    assert asked == READINGS_MAX
    assert value.quality is Quality.DOUBTFUL
    assert value.detail is not None and value.detail.startswith("not confirmed, read 5 times: 1.00")


def test_demands_and_names_have_to_be_equal_and_what_moves_is_not_confirmed() -> None:
    values, asked = read([["1.00", "2.0001", "229.0"], ["1.00", "2.0000", "230.0"], ["1.00", "2.0000", "231.0"]])
    assert shown(values) == [("1.00", "good"), ("2.0000", "good"), ("231.0", "good")]
    assert asked == 3


def test_nothing_to_confirm_is_read_once() -> None:
    values, asked = read([["229.0"], ["230.0"]], quantities=(VOLTAGE,))
    assert (shown(values), asked) == ([("229.0", "good")], 1)


def test_a_line_that_vouches_for_its_bytes_is_believed_at_once() -> None:
    assert read([["1.00"], ["2.00"]], certain=True)[1] == 1


def test_what_is_doubtful_is_read_again_though_the_line_vouches_for_its_bytes() -> None:
    values, asked = read([["1.00", "2.0000?"], ["1.00", "2.0000"]], certain=True)
    assert shown(values) == [("1.00", "good"), ("2.0000", "good")]
    assert asked == 2


def test_damage_agrees_with_nothing() -> None:
    assert read([[GARBLED], [GARBLED], ["1.00"], ["1.00"]])[1] == 4
    assert read([[ABSENT], [GARBLED], ["1.00"], ["1.00"]])[1] == 4
    (value,), asked = read([[GARBLED]])
    assert (value.fault, asked) == (GARBLED, READINGS_MAX)


def test_a_demand_that_rises_all_the_time_is_doubtful() -> None:
    (value,), _ = read([["1.0000"], ["1.0001"], ["1.0002"], ["1.0003"], ["1.0004"]], quantities=(DEMAND,))
    assert value.quality is Quality.DOUBTFUL


def test_a_register_that_rose_until_the_meter_fell_silent_is_doubtful() -> None:
    (energy, demand), asked = read([["1.000", "2.0000"], ["1.004", SILENT], ["1.008", "2.0000"]])
    assert asked == 2
    assert (energy.plain, energy.quality, demand.quality) == ("1.004", Quality.DOUBTFUL, Quality.DOUBTFUL)


def test_between_two_readings_the_meter_is_left_alone_for_a_moment_or_for_as_long_as_it_asks_for() -> None:
    for pause_s, expected_s in ((0.0, confirm.APART_S), (0.5, 0.5)):

        def dialogue(pause_s: float = pause_s) -> Dialogue[str]:
            yield Ask(data=b"?", reply_max=1, accepts=lambda frame: True, pause_s=pause_s)
            return [Value(quantity=ENERGY, number=Decimal(1))]

        talk = confirmed(dialogue)
        assert next(talk).pause_s == pause_s
        assert talk.send(Reply(frame="", sent_at=0, ended_at=1000)).pause_s == expected_s


def test_refusals_and_what_the_meter_has_not_are_asked_twice_at_most() -> None:
    values, asked = read([["1.00", ABSENT], ["1.00", ABSENT]])
    assert [value.fault for value in values] == [None, ABSENT]
    assert asked == 2


def test_a_meter_that_falls_silent_is_not_asked_on_and_what_it_said_is_doubtful() -> None:
    (value,), asked = read([["1.00"], [SILENT], ["1.00"]])
    assert asked == 2
    assert (value.plain, value.quality) == ("1.00", Quality.DOUBTFUL)


def test_however_readings_disagree_a_good_value_was_read_twice_running_or_rose_all_the_way() -> None:
    believed = {}
    for steps in product((-3, 0, 1, 700), repeat=READINGS_MAX - 1):
        counts = accumulate(steps, initial=1000)
        (value,), asked = read([[f"{count}e-2"] for count in counts])
        if value.quality is Quality.GOOD and steps[asked - 2] != 0:
            believed[steps] = asked
    assert believed == {(1,) * (READINGS_MAX - 1): READINGS_MAX}


def test_what_is_settled_stays_as_it_was_though_it_rises_while_the_rest_is_read_again() -> None:
    values, _ = read([["1.00", "1.0"], ["1.00", "2.0"], ["1.01", "3.0"], ["1.01", "3.0"]])
    assert shown(values) == [("1.00", "good"), ("3.0", "good")]


def test_what_is_settled_keeps_the_moment_at_which_it_was_read() -> None:
    """From the second reading on an answer gives what still differs, and nothing else is dated anew by it."""

    def dialogue() -> Dialogue[str]:
        answer = yield Ask(data=b"?", reply_max=1, accepts=lambda frame: True, wants=(ENERGY, DEMAND))
        assert isinstance(answer, Reply)
        said = {ENERGY: Decimal(1), DEMAND: Decimal(answer.ended_at // 3000)}
        return [Value(quantity=quantity, number=number) for quantity, number in said.items()]

    talk = confirmed(dialogue)
    wanted = [next(talk).wants]
    wanted += [talk.send(Reply(frame="", sent_at=at, ended_at=at)).wants for at in (1500, 3500)]
    with pytest.raises(StopIteration) as end:
        talk.send(Reply(frame="", sent_at=5500, ended_at=5500))
    assert shown(end.value.value) == [("1", "good"), ("1", "good")]
    assert wanted == [(ENERGY, DEMAND), (ENERGY, DEMAND), (DEMAND,)]


def confirmed_on_the_wire() -> str | None:
    """What is confirmed of a register of 1000 when a converter sends the first answer, damaged to 9000, twice: again
    before the slow meter has answered the next question."""

    def answer(question: bytes, n: int) -> Said:
        wrong = registers(1, 0, 9000)
        return [(0.12, wrong), (0.17, wrong)] if n == 0 else [(0.12, registers(1, 0, 1000))]

    desk = Desk(ScriptedLine(answer))
    item = Item(quantity=ENERGY, function=4, address=0, format=Format(type=Type.UINT32))

    async def script() -> None:
        desk.ask(meter("1", "modbus-rtu"), lambda: confirmed(lambda: read_blocks([Block(1, [item])])), name="bill")

    serve(desk, script, for_s=60.0)
    return desk.plain("bill")[0]


def test_an_answer_that_was_damaged_and_comes_twice_does_not_confirm_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    assert confirmed_on_the_wire() == "1000"
    monkeypatch.setattr(confirm, "APART_S", 0.0)
    assert confirmed_on_the_wire() == "9000"


def test_a_bill_whose_meter_falls_silent_after_one_reading_is_doubtful_and_it_is_asked_no_more() -> None:
    desk = Desk(ScriptedLine(lambda question, n: [(0.02, registers(1, 0, 1000))] if n == 0 else []))
    item = Item(quantity=ENERGY, function=4, address=0, format=Format(type=Type.UINT32))
    one = meter("1", "modbus-rtu", attempts=1)

    async def script() -> None:
        desk.ask(one, lambda: confirmed(lambda: read_blocks([Block(1, [item])])), name="bill")

    serve(desk, script, for_s=30.0)
    (value,) = desk.outcome("bill").values or ()
    assert (value.plain, value.quality, value.fault) == ("1000", Quality.DOUBTFUL, None)
    assert len(desk.line.asked) == 2
