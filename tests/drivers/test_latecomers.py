"""Which question a frame that nobody waits for answers, and how late that makes its meter: each rule by itself."""

from dataclasses import dataclass
from typing import Any

import pytest

from drivers.habits import LATE_MS_MAX
from drivers.late import Latecomers
from drivers.meter import Meter
from drivers.run import Standing
from protocols.dialogue import Ask, Reply, Silence
from protocols.modbus.dialogue import Block, Item
from protocols.modbus.frame import Frame, RtuDeframer
from protocols.modbus.registers import Format, Type
from protocols.quantity import by_name
from tests.script import meter, registers

BEGAN = 100.0
TIMES: dict[str, Any] = {"turnaround_ms_max": 300, "late_max_ms": 600}


@dataclass
class Wire:
    """As much of a port as latecomers look at."""

    seen: bytes = b""
    began: float = 0.0
    ended: float = 0.0
    overheard: Any = None


class Case:
    """Meter 1, which owes answers, and meter 2, which is asked as well."""

    def __init__(self) -> None:
        self.wire = Wire()
        self.late = Latecomers(self.wire)  # type: ignore[arg-type]
        self.one, self.two = (Standing(meter(unit, "modbus-rtu", **TIMES)) for unit in "12")

    def ask(self, size: int = 2, unit: int = 1) -> Ask[Frame]:
        items = [Item(quantity=by_name("voltage.a"), function=4, address=n, format=Format(type=Type.UINT16))
                 for n in range(size)]  # fmt: skip
        return Block(unit, items).ask()

    def owes(self, *, size: int = 2, began: float = BEGAN) -> Ask[Frame]:
        ask = self.ask(size)
        self.late.owes(self.one, ask, began)
        return ask

    def overheard(self, frame: bytes, at: float) -> None:
        assert self.wire.overheard is not None
        self.wire.overheard(frame, at)

    def exchanged(self, standing: Standing, ask: Ask[Frame], answer: bytes | None, *, began: float, ended: float,
                  seen: bytes = b"") -> None:  # fmt: skip
        self.wire.began, self.wire.ended, self.wire.seen = began, ended, seen or answer or b""
        frame = RtuDeframer().feed(answer)[0] if answer is not None else None
        told = Reply(frame=frame, sent_at=0, ended_at=0) if frame is not None else Silence()
        self.late.exchanged(standing, ask, told)

    @property
    def window_ms(self) -> int | None:
        late = self.meter.habits.late
        return late[0] if late is not None else None

    @property
    def meter(self) -> Meter:
        return self.one.meter


def window_ms(case: Case, ask: Ask[Frame], late_s: float) -> float:
    """What follows from an answer so long after its question began: by how much it missed the longest time-out, a
    quarter more, and 0.1 s."""
    return (late_s - case.meter.longest_s(ask)) * 1250 + 100


def test_an_answer_while_nothing_is_asked_widens_the_window_by_as_much_as_it_was_late() -> None:
    case = Case()
    ask = case.owes()
    case.overheard(registers(1, 0, 1), BEGAN + 2.0)
    assert case.window_ms == pytest.approx(window_ms(case, ask, 2.0), abs=1)
    assert case.one.quiet_until == pytest.approx(BEGAN + 2.0 + case.meter.longest_s(ask) + case.meter.late_s)
    assert not case.late.any or case.wire.overheard is not None


def test_an_answer_beside_that_of_another_meter_does_the_same() -> None:
    case = Case()
    ask, other = case.owes(), case.ask(unit=2)
    answer, late = registers(2, 0, 2), registers(1, 0, 1)
    case.exchanged(case.two, other, answer, began=BEGAN + 1.9, ended=BEGAN + 2.0, seen=late + answer)
    assert case.window_ms == pytest.approx(window_ms(case, ask, 2.0), abs=1)


def test_an_answer_in_place_of_that_of_another_meter_does_the_same() -> None:
    case = Case()
    ask, other = case.owes(), case.ask(unit=2)
    case.exchanged(case.two, other, None, began=BEGAN + 1.5, ended=BEGAN + 2.0, seen=registers(1, 0, 1))
    assert case.window_ms == pytest.approx(window_ms(case, ask, 2.0), abs=1)


def test_an_answer_that_was_waited_for_is_no_late_one() -> None:
    case = Case()
    ask = case.owes()
    answer = registers(1, 0, 1)
    case.exchanged(case.one, ask, answer, began=BEGAN + 2.0, ended=BEGAN + 2.1, seen=b"\x00" * 20 + answer)
    assert case.window_ms is None and case.late.any


def test_what_came_before_a_question_began_does_not_answer_it() -> None:
    case = Case()
    ask = case.owes(began=BEGAN + 5.0)
    case.overheard(registers(1, 0, 1), BEGAN + 2.0)
    assert case.window_ms is None
    case.overheard(registers(1, 0, 1), BEGAN + 7.0)
    assert case.window_ms == pytest.approx(window_ms(case, ask, 2.0), abs=1)


def test_what_fits_no_question_teaches_nothing() -> None:
    case = Case()
    case.owes(size=2)
    case.overheard(registers(1, 0, 1, 0, 1), BEGAN + 2.0)
    case.overheard(registers(2, 0, 1), BEGAN + 2.0)
    assert case.window_ms is None and case.late.any


def test_of_several_questions_that_it_fits_it_answers_the_oldest_and_those_before_are_given_up() -> None:
    case = Case()
    case.owes(size=4)
    ask = case.owes(size=2, began=BEGAN + 1.0)
    case.owes(size=2, began=BEGAN + 2.0)
    case.overheard(registers(1, 0, 1), BEGAN + 3.0)
    # It kept the order, or answers the one of four that it was asked before: as early as that may have been.
    began = max(BEGAN, BEGAN + 1.0 - case.meter.longest_s(ask) - 0.6)
    assert case.window_ms == pytest.approx(window_ms(case, ask, BEGAN + 3.0 - began), abs=1)


def test_an_answer_within_the_window_of_the_profile_teaches_nothing_though_more_is_owed_from_before() -> None:
    case = Case()
    case.owes(size=4)
    ask = case.owes(size=2, began=BEGAN + 1.0)
    case.overheard(registers(1, 0, 1), BEGAN + 1.0 + case.meter.longest_s(ask) + 0.5)
    assert case.window_ms is None


def test_no_answer_counts_as_later_than_it_was_after_the_first_question_that_is_owed() -> None:
    case = Case()
    case.owes(size=4)
    ask = case.owes(size=2, began=BEGAN + 0.5)
    case.overheard(registers(1, 0, 1), BEGAN + 3.0)
    assert case.window_ms == pytest.approx(window_ms(case, ask, 3.0), abs=1)


def test_a_longer_rest_of_a_meter_is_not_cut_short() -> None:
    case = Case()
    case.owes()
    case.one.quiet_until = BEGAN + 60.0
    case.overheard(registers(1, 0, 1), BEGAN + 3.0)
    assert case.window_ms is not None and case.one.quiet_until == BEGAN + 60.0


def test_a_question_counts_as_the_first_that_is_owed_only_until_nothing_is() -> None:
    case = Case()
    case.owes()
    case.overheard(registers(1, 0, 1), BEGAN + 0.7)  # within the window of the profile: it owes nothing any more
    assert case.window_ms is None
    ask = case.owes(began=BEGAN + 5.0)
    case.overheard(registers(1, 0, 1), BEGAN + 6.5)
    assert case.window_ms == pytest.approx(window_ms(case, ask, 1.5), abs=1)


def test_bytes_with_a_pause_between_them_are_not_joined_to_a_frame() -> None:
    case = Case()
    case.owes()
    frame = registers(1, 0, 1)
    case.overheard(frame[:4], BEGAN + 2.0)
    case.overheard(frame[4:], BEGAN + 2.0 + case.meter.inter_byte_s + 0.01)
    assert case.window_ms is None
    case.overheard(frame[:4], BEGAN + 3.0)
    case.overheard(frame[4:], BEGAN + 3.0 + case.meter.inter_byte_s - 0.01)
    assert case.window_ms is not None


def taken_for_another(case: Case, *, took_s: float = 3.0) -> tuple[Ask[Frame], Ask[Frame]]:
    """The meter owes an answer, and is asked the like; the answer of before is taken for the one to that."""
    first, second = case.owes(), case.ask()
    case.exchanged(case.one, second, registers(1, 0, 7), began=BEGAN + took_s - 0.2, ended=BEGAN + took_s)
    return first, second


def test_an_answer_that_was_taken_for_another_shows_how_late_it_was_as_soon_as_the_other_one_comes() -> None:
    case = Case()
    first, _ = taken_for_another(case)
    assert case.window_ms is None and case.late.any
    case.overheard(registers(1, 0, 8), BEGAN + 3.1)
    assert case.window_ms == pytest.approx(window_ms(case, first, 3.0), abs=1)


def test_where_the_same_comes_once_more_nothing_was_taken_for_another() -> None:
    case = Case()
    taken_for_another(case)
    case.overheard(registers(1, 0, 7), BEGAN + 3.1)
    assert case.window_ms is None


def test_an_answer_of_another_meter_or_of_another_size_leaves_what_is_owed_as_it_is() -> None:
    case = Case()
    ask, other, longer = case.owes(), case.ask(unit=2), case.ask(size=4)
    case.exchanged(case.two, other, registers(2, 0, 1), began=BEGAN + 1.0, ended=BEGAN + 1.1)
    case.exchanged(case.one, longer, registers(1, 0, 1, 0, 1), began=BEGAN + 1.2, ended=BEGAN + 1.3)
    case.overheard(registers(1, 0, 8), BEGAN + 2.0)
    assert case.window_ms == pytest.approx(window_ms(case, ask, 2.0), abs=1)


@pytest.mark.parametrize("while_asked", [False, True])
def test_what_is_older_than_any_late_answer_can_be_is_forgotten(while_asked: bool) -> None:
    case = Case()
    case.owes()
    again = BEGAN + LATE_MS_MAX / 1000 + 1.0
    ask = case.owes(began=again)
    answer, at = registers(1, 0, 1), again + 2.0
    if while_asked:
        case.exchanged(case.two, case.ask(unit=2), None, began=at - 0.5, ended=at, seen=answer)
    else:
        case.overheard(answer, at)
    at_least, at_most = (window_ms(case, ask, late_s) for late_s in (2.0, 2.0 + case.meter.longest_s(ask) + 0.6))
    assert case.window_ms is not None and at_least - 1 <= case.window_ms <= at_most + 1


def test_once_nobody_owes_anything_nobody_listens() -> None:
    case = Case()
    case.owes()
    case.exchanged(case.two, case.ask(unit=2), None, began=BEGAN + 10.5, ended=BEGAN + 11.0)
    assert not case.late.any and case.wire.overheard is None


def test_a_meter_whose_answers_are_numbered_owes_nothing() -> None:
    case = Case()
    case.one = Standing(meter("1", "modbus-tcp", **TIMES))
    case.owes()
    assert not case.late.any and case.wire.overheard is None


NOISE = b"\x01\x04\x40\x01\x04\x50"
"""Like the begins of answers of 32 and of 40 registers, the rest of which never comes."""


@pytest.mark.parametrize("while_asked", [False, True])
def test_an_answer_behind_noise_that_promises_more_is_found_and_of_the_time_at_which_it_came(while_asked: bool) -> None:
    case = Case()
    ask, other = case.owes(), case.ask(unit=2)
    late = NOISE + registers(1, 0, 1)
    if while_asked:
        case.exchanged(case.two, other, None, began=BEGAN + 1.5, ended=BEGAN + 2.0, seen=late)
    else:
        case.overheard(late, BEGAN + 2.0)
        assert case.window_ms is None
        case.exchanged(case.two, other, None, began=BEGAN + 2.5, ended=BEGAN + 3.0)
    assert case.window_ms == pytest.approx(window_ms(case, ask, 2.0), abs=1)
