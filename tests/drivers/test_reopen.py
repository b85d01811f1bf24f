"""When a port that was lost is opened again: each rule by itself."""

from itertools import count
from random import Random

import pytest

from drivers.reopen import HOPELESS_AFTER, REOPEN_JITTER, REOPEN_S_FIRST, REOPEN_S_MAX, Reopening


class Middle(Random):
    """No jitter."""

    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2


def test_the_pause_doubles_at_each_failure_up_to_half_a_minute() -> None:
    reopening, now = Reopening(Middle()), 100.0
    pauses = []
    for _ in range(8):
        reopening.lost("no such device", now, 0)
        pauses.append(reopening.due_at - now)
        now = reopening.due_at
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
    for _ in range(5000):  # two days
        reopening.lost("no such device", now, 0)
    assert reopening.due_at - now == REOPEN_S_MAX


def test_buses_that_lost_their_ports_together_do_not_try_them_together() -> None:
    random = Random(1)
    pauses = []
    for _ in range(200):
        reopening = Reopening(random)
        reopening.lost("no such device", 100.0, 0)
        pauses.append(reopening.due_at - 100.0)
    least, most = (REOPEN_S_FIRST * (1 + REOPEN_JITTER * sign) for sign in (-1, 1))
    assert least <= min(pauses) < least + 0.02 and most - 0.02 < max(pauses) <= most


@pytest.mark.parametrize("opens", [True, False])
def test_a_port_that_is_taken_and_ended_again_before_anything_came_is_as_one_that_is_refused(opens: bool) -> None:
    reopening = Reopening(Middle())
    for _ in range(10):
        if opens:
            reopening.opened()
        reopening.lost("ended", 100.0, 7)
    assert reopening.due_at == 100.0 + REOPEN_S_MAX and reopening.hopeless


def test_a_port_over_which_anything_came_is_tried_soon_and_nobody_gives_it_up() -> None:
    reopening, heard = Reopening(Middle()), count(1)
    for _ in range(10):
        reopening.opened()
        reopening.lost("pulled out", 100.0, next(heard))
        assert reopening.due_at == 100.0 + REOPEN_S_FIRST and not reopening.hopeless


def test_a_port_is_hopeless_after_three_failures_in_a_row_and_only_while_it_is_away() -> None:
    reopening = Reopening(Middle())
    told = []
    for _ in range(4):
        told.append(reopening.hopeless)
        reopening.lost("no such device", 100.0, 0)
    assert told == [False, False, False, True] and HOPELESS_AFTER == 3
    reopening.opened()
    assert not reopening.hopeless and reopening.trouble is None


def test_what_is_wrong_is_news_once_and_again_when_it_changes_or_comes_back() -> None:
    reopening = Reopening(Middle())
    reasons = ("no such device", "no such device", "busy", "no such device")
    assert [reopening.lost(reason, 100.0, 0) for reason in reasons] == [True, False, True, True]
    assert reopening.trouble == "no such device"
    reopening.opened()
    assert reopening.lost("no such device", 200.0, 0)


def test_it_is_away_since_it_was_lost_and_not_since_it_was_last_tried() -> None:
    reopening = Reopening(Middle())
    assert reopening.lost_at == float("inf")
    for now in (100.0, 101.0, 103.0):
        reopening.lost("pulled out", now, 0)
        assert reopening.lost_at == 100.0
    reopening.opened()
    assert reopening.lost_at == float("inf")
    reopening.lost("pulled out", 200.0, 0)
    assert reopening.lost_at == 200.0
