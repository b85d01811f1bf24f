"""Where the milliseconds of a bus go: each of them into one column, whatever happens and in whatever order."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.account import Account

BEGIN = 50.0


def columns(account: Account) -> tuple[float, ...]:
    """Milliseconds: wire, turnaround, gaps, dead, idle."""
    parts = (account.wire, account.turnaround, account.gaps, account.dead, account.idle)
    return tuple(round(part, 6) for part in parts)


def test_an_exchange_is_wire_and_turnaround_with_one_gap_before_it_and_what_was_lost_is_dead() -> None:
    account = Account(at=BEGIN)
    turnaround_s = account.asked(began=BEGIN + 0.05, ended=BEGIN + 0.25, gap_s=0.03, wire_s=0.12)
    assert turnaround_s == pytest.approx(0.08)
    assert columns(account) == (120.0, 80.0, 30.0, 20.0, 0.0)
    assert account.utilisation == pytest.approx(150 / 170)


def test_a_shorter_gap_than_was_needed_counts_as_long_as_it_was() -> None:
    account = Account(at=BEGIN)
    account.asked(began=BEGIN + 0.01, ended=BEGIN + 0.11, gap_s=0.03, wire_s=0.1)
    assert columns(account) == (100.0, 0.0, 10.0, 0.0, 0.0)


def test_a_question_that_was_not_answered_is_dead_time() -> None:
    account = Account(at=BEGIN)
    assert account.asked(began=BEGIN + 0.03, ended=BEGIN + 1.03, gap_s=0.03, wire_s=None) == 0.0
    assert columns(account) == (0.0, 0.0, 30.0, 1000.0, 0.0)


def test_an_answer_that_came_in_less_time_than_its_characters_take_had_no_turnaround() -> None:
    account = Account(at=BEGIN)
    assert account.asked(began=BEGIN, ended=BEGIN + 0.1, gap_s=0.0, wire_s=0.3) == 0.0
    assert columns(account) == (100.0, 0.0, 0.0, 0.0, 0.0)


def test_waiting_is_idle_without_work_and_dead_with_it() -> None:
    account = Account(at=BEGIN)
    assert account.utilisation == 1.0
    account.waited(BEGIN + 2.0, work=False)
    assert account.utilisation == 1.0
    account.waited(BEGIN + 3.0, work=True)
    assert columns(account) == (0.0, 0.0, 0.0, 1000.0, 2000.0)
    assert account.utilisation == 0.0


TIMES = st.floats(-1.0, 5.0)
ENTRIES = st.lists(
    st.tuples(TIMES, st.floats(0.0, 3.0), st.floats(0.0, 0.1), st.none() | st.floats(0.0, 2.0))  # an exchange
    | st.tuples(TIMES, st.booleans())
)


@given(ENTRIES)
@settings(max_examples=100)
def test_no_millisecond_is_counted_twice_though_several_questions_are_on_their_way_at_once(
    entries: list[tuple[float, float, float, float | None] | tuple[float, bool]],
) -> None:
    account = Account(at=BEGIN)
    until = BEGIN
    for entry in entries:
        if len(entry) == 2:
            end = BEGIN + entry[0]
            account.waited(end, work=entry[1])
        else:
            began, took, gap_s, wire_s = entry
            end = BEGIN + began + took
            account.asked(began=BEGIN + began, ended=end, gap_s=gap_s, wire_s=wire_s)
            until = max(until, BEGIN + began)
        until = max(until, end)
        assert account.at == until
        assert account.elapsed == pytest.approx((until - BEGIN) * 1000, abs=1e-6)
        assert min(columns(account)) >= 0.0 and 0.0 <= account.utilisation <= 1.0
