"""Which silent meter is asked next, and when: each rule by itself."""

import pytest

from drivers.run import Standing
from drivers.silent import IDLE_FACTOR, PROBE_EVERY_S, SHARE_MAX, Silent
from tests.script import meter

PROBE_S = 2.0


class Row:
    """Silent meters, the first of which fell silent at 0, each next one a second later."""

    def __init__(self, count: int) -> None:
        self.silent = Silent()
        self.all = [Standing(meter(f"{n:012d}")) for n in range(count)]
        for n, one in enumerate(self.all):
            self.silent.add(one, now=float(n), probe_s=PROBE_S)

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
