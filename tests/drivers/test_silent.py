"""Which silent meter is asked next, and when: each rule by itself."""

import pytest

from drivers.run import Standing
from drivers.silent import IDLE_FACTOR, PROBE_EVERY_S, SHARE_MAX, Silent
from tests.script import meter

PROBE_S = 2.0


class Row:
    """Silent meters, the first of which fell silent at 0, each next one a second later."""

    def __init__(self, count: int, *, probe_s: float = PROBE_S) -> None:
        self.silent = Silent()
        self.all = [Standing(meter(f"{n:012d}")) for n in range(count)]
        for n, one in enumerate(self.all):
            self.silent.add(one, now=float(n), probe_s=probe_s)

    def probed(self, standing: Standing, began: float, *, live_work: bool, took_s: float = PROBE_S) -> None:
        self.silent.probed(standing, began=began, ended=began + took_s, live_work=live_work)

    def due(self, now: float, *, live_work: bool = False) -> Standing | None:
        return self.silent.due(now, live_work=live_work)


def test_the_first_probe_ends_before_the_time_is_over_in_which_one_is_promised() -> None:
    row = Row(1)
    begins = PROBE_EVERY_S - PROBE_S
    assert row.due(begins - 0.01) is None and row.due(begins) is row.all[0]
    assert row.silent.next_due(0.0, live_work=False) == begins


def test_a_round_takes_eight_times_as_long_as_its_probes_last_took() -> None:
    row = Row(4)
    row.probed(row.all[0], 100.0, live_work=False)
    assert row.all[0].probe_at == 100.0 + max(PROBE_EVERY_S, IDLE_FACTOR * 4 * PROBE_S)
    row.probed(row.all[1], 200.0, live_work=False, took_s=10.0)
    assert row.all[1].probe_at == 200.0 + IDLE_FACTOR * (3 * PROBE_S + 10.0)


def test_a_probe_beside_live_meters_waits_for_its_credit_and_whoever_waits_is_told_how_long() -> None:
    row = Row(1)
    now = 1000.0
    assert row.due(now, live_work=True) is row.all[0]
    for _ in range(2):  # as much as is ever saved
        row.probed(row.all[0], now, live_work=True)
        now += PROBE_S
        row.all[0].probe_at = 0.0
    assert row.due(now, live_work=True) is None
    due_at = row.silent.next_due(now, live_work=True)
    left_s = SHARE_MAX * PROBE_S  # of what is saved, two probes, both are spent, and one took long enough to save more
    assert due_at == pytest.approx(now + (PROBE_S - left_s) / SHARE_MAX, abs=0.01)
    assert row.due(due_at - 0.01, live_work=True) is None and row.due(due_at, live_work=True) is row.all[0]


def test_one_that_came_back_is_in_no_sweep_and_the_others_are() -> None:
    row = Row(3)
    first, second, third = row.all
    row.silent.remove(first, now=1000.0)
    row.silent.remove(second, now=1000.5)  # on request, before its turn
    assert row.due(1001.0) is third
    row.probed(third, 1001.0, live_work=False)
    assert row.due(1003.0) is None and row.silent.meters == (third.meter.id,)


def test_in_a_sweep_every_other_turn_is_that_of_live_meters_and_nobody_s_late_window_is_broken() -> None:
    row = Row(3)
    row.silent.remove(row.all[0], now=1000.0)
    row.all[1].quiet_until = 1001.0
    assert [row.due(1000.0) for _ in range(3)] == [None] * 3
    assert row.silent.next_due(1000.0, live_work=False) == 1001.0
    assert [row.due(1001.0, live_work=True) for _ in range(4)] == [None, row.all[1], None, row.all[1]]


def test_what_a_sweep_cost_is_paid_back_before_the_next_begins() -> None:
    row = Row(4)
    first, second, third, fourth = row.all
    row.silent.remove(first, now=1000.0)
    for n, one in enumerate((second, third, fourth)):
        row.probed(one, 1000.0 + PROBE_S * n, live_work=True)
    ended = 1000.0 + 3 * PROBE_S
    row.silent.remove(second, now=ended)  # asked for, and there: no sweep, as nothing is paid back yet
    assert row.due(ended) is None
    paid = ended + 0.9 * PROBE_S / SHARE_MAX  # two probes were saved before, and some while it lasted
    assert fourth.probe_at > paid
    row.silent.remove(third, now=paid)
    assert row.due(paid) is fourth


def test_nobody_is_asked_where_nobody_is_silent() -> None:
    assert Row(0).due(1000.0) is None and Row(0).silent.next_due(1000.0, live_work=True) == float("inf")


def test_one_that_came_back_makes_the_round_of_the_others_no_longer() -> None:
    row = Row(10)
    for one in row.all[:9]:
        row.silent.remove(one, now=1000.0)
    row.probed(row.all[9], 1000.0, live_work=False)
    assert row.all[9].probe_at == 1000.0 + PROBE_EVERY_S


def test_one_that_was_asked_in_vain_in_a_sweep_is_not_asked_again_as_another_comes_back_in_it() -> None:
    row = Row(4)
    first, second, third, fourth = row.all
    row.silent.remove(first, now=1000.0)
    assert row.due(1000.0) is second
    row.probed(second, 1000.0, live_work=False)
    assert row.due(1002.0) is third
    row.silent.remove(third, now=1002.0)
    assert row.due(1002.0) is fourth
    row.probed(fourth, 1002.0, live_work=False)
    assert row.due(1004.0) is None


def test_in_a_sweep_one_is_asked_as_soon_as_its_late_window_is_over_though_its_own_time_is_far() -> None:
    row = Row(2)
    back, other = row.all
    row.probed(other, 1000.0, live_work=False)
    other.quiet_until = 1003.0
    row.silent.remove(back, now=1002.0)
    assert row.silent.next_due(1002.0, live_work=False) == 1003.0 and row.due(1003.0) is other


def test_idle_time_is_free() -> None:
    row = Row(1)
    for _ in range(2):  # all that is saved is spent
        row.probed(row.all[0], 1000.0, live_work=True)
    row.all[0].probe_at = 1002.0
    assert row.silent.next_due(1002.0, live_work=False) == 1002.0 and row.due(1002.0) is row.all[0]


def test_what_was_saved_since_anybody_looked_counts_for_whoever_asks_when() -> None:
    row = Row(1)
    for _ in range(2):
        row.probed(row.all[0], 1000.0, live_work=True)
    row.all[0].probe_at = 0.0
    due_at = row.silent.next_due(1002.0, live_work=True)
    assert row.silent.next_due((1002.0 + due_at) / 2, live_work=True) == pytest.approx(due_at, abs=0.01)


def test_one_whose_probe_takes_long_is_asked_beside_live_meters_and_others_that_take_a_moment() -> None:
    row = Row(2, probe_s=0.1)
    slow, quick = row.all
    row.probed(quick, 1000.0, live_work=False, took_s=0.1)
    row.probed(slow, 1000.1, live_work=False, took_s=5.0)
    now, asked = 1005.1, []
    for _ in range(4):
        now = row.silent.next_due(now, live_work=True)
        one = row.due(now, live_work=True)
        assert one is not None
        took_s = 5.0 if one is slow else 0.1
        row.probed(one, now, live_work=True, took_s=took_s)
        now += took_s
        asked.append(one)
    assert asked == [quick, slow, quick, slow] and now < 1005.1 + 3 * PROBE_EVERY_S
