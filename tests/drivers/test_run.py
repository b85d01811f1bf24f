"""A job on its way, and how its meter stands on the bus: each rule by itself."""

import weakref
from collections.abc import Sequence
from typing import Any

import pytest

from drivers.job import Job, Lane
from drivers.outcome import Outcome
from drivers.run import ANSWERS_MAX, FRAMES_MAX, INTERNAL_S_FIRST, INTERNAL_S_MAX, Run, Standing
from protocols.capture import Fault, Value, faulty
from protocols.dialogue import Ask, Dialogue, Garbled, Reply, Silence
from protocols.dlt645 import v2007
from protocols.dlt645.frame import Frame as Dlt645Frame
from protocols.modbus.dialogue import Block, Item
from protocols.modbus.frame import Frame
from protocols.modbus.registers import Format, Type
from protocols.quantity import by_name
from tests.script import energy, meter

NOW = 100.0
ITEMS = tuple(by_name(f"voltage.{phase}") for phase in "abc")
SILENT, GARBLED, MISSED = Fault.SILENT, Fault.GARBLED, Fault.MISSED


# How a meter stands.


def words(address: int, count: int = 1) -> Ask[Frame]:
    """A question for registers."""
    items = [Item(quantity=ITEMS[0], function=4, address=address + n, format=Format(type=Type.UINT16))
             for n in range(count)]  # fmt: skip
    return Block(1, items).ask()


def told(count: int = 1) -> Frame:
    return Frame(unit=1, function=4, data=bytes((2 * count,)) + b"\0\1" * count)


def answered(standing: Standing, ask: Ask[Any], frame: Any, *, began: float = NOW, took_s: float = 0.1) -> float:
    """The meter answered this; when it had."""
    standing.asked = ask
    standing.answered(frame, began, began + took_s)
    return began + took_s


def test_another_question_that_the_last_answer_fits_waits_until_that_cannot_come_twice_any_more() -> None:
    standing = Standing(meter("1", "modbus-rtu"))
    ended = answered(standing, words(0), told())
    assert standing.clear_at(words(10), ended) == pytest.approx(ended + standing.meter.double_s)
    assert standing.clear_at(words(10, 2), ended) == 0.0, "of as many registers alone"
    assert standing.clear_at(words(0), ended) == 0.0, "to the same question it would be no wrong answer"
    assert standing.clear_at(words(10), ended + standing.meter.double_s) == 0.0


def test_where_the_same_was_asked_just_before_the_answer_to_this_may_still_be_to_come() -> None:
    standing = Standing(meter("1", "modbus-rtu"))
    ended = answered(standing, words(0), told())
    ended = answered(standing, words(0), told(), began=ended + 0.01)
    after = standing.meter.turnaround_s + standing.meter.double_s
    assert standing.clear_at(words(10), ended) == pytest.approx(ended + after)
    # What was asked behind that is no reason to wait for less.
    later = answered(standing, words(20), told(), began=ended + 0.01)
    assert standing.clear_at(words(10), later) == pytest.approx(ended + after)


def test_where_the_same_was_asked_long_before_nothing_of_that_is_to_come() -> None:
    standing = Standing(meter("1", "modbus-rtu"))
    ended = answered(standing, words(0), told())
    ended = answered(standing, words(0), told(), began=ended + 60.0)
    assert standing.clear_at(words(10), ended) == pytest.approx(ended + standing.meter.double_s)


def test_no_more_answers_are_remembered_than_may_come_twice() -> None:
    class Told:
        """A frame of which it is known how long it is kept."""

    standing = Standing(meter("1", "modbus-rtu"))
    kept: list[weakref.ref[Told]] = []
    for n in range(20 * ANSWERS_MAX):
        frame = Told()
        kept.append(weakref.ref(frame))
        answered(standing, words(n), frame, began=NOW + n)
    del frame
    assert 0 < sum(ref() is not None for ref in kept) <= ANSWERS_MAX


def test_what_stands_behind_an_answer_may_be_anything_where_answers_name_nothing() -> None:
    standing = Standing(meter("1", "modbus-rtu"))
    answered(standing, words(0), told())
    assert standing.confused_by_double(words(0, 4))


def test_where_answers_name_their_item_only_the_last_one_again_confuses_and_only_if_it_would_fit() -> None:
    standing = Standing(meter())
    one, other = (next(v2007.read("000000000001", [di])) for di in ("00010000", "00020000"))
    refusal = Dlt645Frame(address="000000000001", control=0xD1, data=b"\x02")
    value = Dlt645Frame(address="000000000001", control=0x91, data=bytes.fromhex("0000010034120000"))
    assert value.encode() == energy()
    assert not standing.confused_by_double(one)
    ended = answered(standing, one, refusal)
    assert standing.confused_by_double(other)
    answered(
        standing, other, Dlt645Frame(address="000000000001", control=0x91, data=b"\0\0\2\0" + b"\0" * 4), began=ended
    )
    assert not standing.confused_by_double(one)
    assert standing.confused_by_double(other)


@pytest.mark.parametrize(("quiet_until", "rests"), [(NOW, False), (NOW + 1.0, True)])
def test_a_meter_that_owed_an_answer_when_the_port_was_lost_is_left_alone_anew_and_no_other_is(
    quiet_until: float, rests: bool
) -> None:
    standing = Standing(meter())
    standing.quiet_until = quiet_until
    standing.reopened(NOW, NOW + 30.0)
    assert standing.quiet_until == (NOW + 30.0 + standing.meter.late_s if rests else quiet_until)


@pytest.mark.parametrize(
    ("lost_at", "probe_at", "then"),
    [
        (NOW, NOW + 500.0, NOW + 30.0),
        (NOW, NOW + 10.0, NOW + 10.0),
        (float("inf"), NOW + 500.0, NOW + 500.0),  # the port was never open before
    ],
)
def test_a_meter_that_was_silent_before_a_lost_port_is_asked_soon(lost_at: float, probe_at: float, then: float) -> None:
    standing = Standing(meter())
    standing.probe_at = probe_at
    standing.reopened(lost_at, NOW + 30.0)
    assert standing.probe_at == then


def test_damage_counts_as_in_a_row_until_an_answer_comes() -> None:
    standing = Standing(meter("1", "modbus-rtu"))
    standing.garbled = 5
    answered(standing, words(0), told())
    assert standing.garbled == 0


def test_a_longer_rest_is_not_cut_short_by_a_lost_port() -> None:
    standing = Standing(meter())
    standing.quiet_until = NOW + 600.0
    standing.reopened(NOW, NOW + 30.0)
    assert standing.quiet_until == NOW + 600.0


def test_a_meter_is_left_alone_for_a_minute_after_a_defect_twice_as_long_after_the_next_and_never_over_an_hour() -> (
    None
):
    standing = Standing(meter())
    alone = []
    for _ in range(8):
        standing.back_off(NOW)
        alone.append(standing.blocked_until - NOW)
    assert alone[:3] == [INTERNAL_S_FIRST, 2 * INTERNAL_S_FIRST, 4 * INTERNAL_S_FIRST] == [60.0, 120.0, 240.0]
    assert alone[-1] == INTERNAL_S_MAX == 3600.0
    for _ in range(5000):
        standing.back_off(NOW)
    assert standing.blocked_until - NOW == INTERNAL_S_MAX


# A job on its way.


def three(*, pause_s: float = 0.0) -> Dialogue[str]:
    """Asks for three items, one at a time; pause_s is before the last."""
    values = []
    for n, item in enumerate(ITEMS):
        answer = yield Ask(data=b"%d" % n, reply_max=9, accepts=lambda frame: True, wants=(item,),
                           pause_s=pause_s if n == 2 else 0.0)  # fmt: skip
        match answer:
            case Reply():
                values.append(Value(quantity=item, text=answer.frame))
            case Garbled():
                values.append(faulty(item, GARBLED))
            case Silence():
                values.append(faulty(item, SILENT))
    return values


def a_run(dialogue: Any = three) -> Run:
    job = Job(meter=meter(), dialogue=dialogue, lane=Lane.CURVE, deadline=1000.0, done=print, name="job")
    run = Run(job, Standing(job.meter), 0)
    run.start()
    return run


def replied(run: Run, n: int) -> list[Value] | None:
    """The question in hand was answered, n seconds after the first."""
    return run.answer(Reply(frame=f"{n}", sent_at=1000 * n, ended_at=1000 * n + 500), NOW + n)


def given_up(run: Run, answer: Silence | Garbled) -> list[Value] | None:
    run.failed(answer)
    return run.answer(answer, NOW)


def faults(outcome: Outcome) -> list[Fault | None]:
    return [value.fault for value in outcome.values or ()]


def test_an_outcome_is_of_the_time_from_the_first_answered_question_to_the_last_answer() -> None:
    run = a_run()
    given_up(run, Silence())
    replied(run, 3)
    values = replied(run, 7)
    assert values is not None
    outcome = run.outcome(values)
    assert (outcome.started_at, outcome.read_at) == (3000, 7500)
    assert outcome.answers == (((ITEMS[1],), 3500), ((ITEMS[2],), 7500))
    assert faults(outcome) == [SILENT, None, None]


def test_a_job_that_is_begun_anew_says_nothing_of_before() -> None:
    run = a_run()
    replied(run, 3)
    run.drop()
    run.start()
    assert not run.midway
    values: Sequence[Value] | None = None
    for _ in ITEMS:
        values = given_up(run, Silence())
    assert values is not None
    outcome = run.outcome(list(values))
    assert (outcome.started_at, outcome.read_at, outcome.answers) == (None, None, ())
    assert faults(outcome) == [SILENT] * 3


def test_a_job_is_midway_between_its_first_answer_and_its_last_but_for_a_pause_of_its_own() -> None:
    run = a_run(lambda: three(pause_s=0.5))
    midway = [run.midway]
    for n in (1, 2, 3):
        replied(run, n)
        midway.append(run.midway)
    assert midway == [False, True, False, False]


def test_the_latest_exchanges_are_kept_for_evidence() -> None:
    run = a_run()
    for n in range(FRAMES_MAX + 5):
        run.keep(b"%d" % n, b"")
    assert run.outcome([]).frames == tuple((b"%d" % n, b"") for n in range(5, FRAMES_MAX + 5))


def test_what_is_cut_off_between_answers_keeps_them_and_the_rest_has_the_reason_of_the_cut() -> None:
    run = a_run()
    replied(run, 1)
    outcome = run.cut(MISSED, "its turn did not come")
    assert faults(outcome) == [None, MISSED, MISSED]
    assert [value.detail for value in outcome.values or ()][1:] == ["its turn did not come"] * 2


@pytest.mark.parametrize("before", [True, False])
def test_what_is_cut_off_after_a_silence_says_that_it_was_silent(before: bool) -> None:
    run = a_run()
    if before:  # of a question that was given up
        given_up(run, Silence())
        replied(run, 1)
    else:  # of the one in hand
        replied(run, 1)
        run.failed(Silence())
    assert faults(run.cut(MISSED, "its turn did not come")) == (
        [SILENT, None, SILENT] if before else [None, SILENT, SILENT]
    )


def test_a_part_that_is_asked_for_in_pieces_because_of_noise_was_not_silent() -> None:
    run = a_run()
    replied(run, 1)
    run.answer(Garbled(too_long=True), NOW)
    assert run.unanswered == 0
    assert faults(run.cut(MISSED, "its turn did not come")) == [None, GARBLED, MISSED]


def test_what_is_cut_off_before_any_answer_is_the_reason_alone() -> None:
    for run in (a_run(), a_run()):
        run.failed(Silence())
        assert run.cut(MISSED, "why") == Outcome(fault=MISSED, detail="why")
    run.drop()
    assert run.cut(MISSED, "why") == Outcome(fault=MISSED, detail="why")


def test_a_dialogue_that_never_ends_is_a_defect_of_ours() -> None:
    def endless() -> Dialogue[str]:
        while True:
            yield Ask(data=b"?", reply_max=9, accepts=lambda frame: True)

    run = a_run(endless)
    replied(run, 1)
    with pytest.raises(RuntimeError, match="asks on"):
        run.cut(MISSED, "why")


def test_why_a_job_has_no_values_at_its_deadline() -> None:
    run = a_run()
    reasons = [run.reason(NOW, None)[0]]
    for answer in (Garbled(), Silence()):
        run.failed(answer)
        reasons.append(run.reason(NOW, None)[0])
    run.standing.blocked_until = NOW + 1.0
    reasons += [run.reason(NOW, None)[0], run.reason(NOW + 1.0, None)[0]]
    reasons.append(run.reason(NOW, "no such device")[0])
    run.standing.silent = True
    reasons += [run.reason(NOW, "no such device")[0], run.reason(NOW, None)[0]]
    assert reasons == [MISSED, GARBLED, SILENT, Fault.INTERNAL, SILENT, Fault.BUS, Fault.BUS, SILENT]
    replied(run, 1)
    run.standing.silent = False
    assert run.reason(NOW + 1.0, None)[0] is MISSED


def test_a_meter_of_which_only_damage_came_was_heard() -> None:
    run = a_run()
    run.failed(Silence())
    heard = [run.heard]
    for answer in (Garbled(), Silence()):
        run.failed(answer)
        heard.append(run.heard)
    assert heard == [False, True, True]


def test_each_question_has_attempts_of_its_own_and_those_given_up_count_while_in_a_row() -> None:
    run = a_run()
    run.failed(Silence())
    given_up(run, Garbled())
    assert (run.attempts, run.unanswered) == (0, 1)
    run.failed(Silence())
    assert run.attempts == 1
    replied(run, 1)
    assert (run.attempts, run.unanswered) == (0, 0)
