"""Long outages of the broker in virtual time: nothing is lost, nothing is invented."""

import time
from statistics import median

import pytest

from bench import calibrate
from tests.days import BUSES, MEGABYTES_A_DAY, METERS, SLOTS_A_DAY, Outage, Story, live
from tests.scratch import scratch

DAY_S_MAX, WEEK_S_MAX = 40.0, 60.0
"""Of processor time, which is what they take on a machine that does nothing else: virtual time waits for nothing. As on
the machine that times are told for (`bench.calibrate`)."""
WALL_S_MAX = 1_200
"""They are held to processor time alone: a tenth of a core is all that they may get."""


@pytest.mark.slow
@pytest.mark.timeout(WALL_S_MAX)
def test_a_day_of_eight_buses_with_the_broker_away_for_six_hours_is_told_truly() -> None:
    story, spent_s = timed(days=1, outage=Outage(after_h=9, hours=6), seed=20_260_921)
    truth = story.truth
    assert truth.passed, dict(truth.examples)
    assert truth.planned == story.captures == SLOTS_A_DAY == 49_152
    assert truth.landed == 8 * story.captures
    assert truth.gaps == 0
    assert story.asked == story.answered == story.captures, "a capture is one read of one block"
    assert story.backlog >= 6 * 4 * BUSES * METERS, "the outage was one"
    assert spent_s < DAY_S_MAX


@pytest.mark.slow
@pytest.mark.timeout(WALL_S_MAX)
def test_a_broker_that_is_away_for_seven_days_costs_sixty_four_meters_nothing() -> None:
    story, spent_s = timed(days=8, outage=Outage(after_h=6, hours=7 * 24), seed=20_261_122, meters=8)
    truth = story.truth
    assert truth.passed, dict(truth.examples)
    assert truth.planned == story.captures == 8 * 64 * 96
    assert truth.landed == 8 * story.captures
    assert truth.gaps == 0
    assert story.backlog >= 7 * 64 * 96, "the outage was one"
    assert spent_s < WEEK_S_MAX


def timed(*, days: int, outage: Outage, seed: int, meters: int = METERS) -> tuple[Story, float]:
    """A life of the site, and the seconds of processor time that it took, scaled."""
    machine = [calibrate.now() for _ in range(5)]
    began = time.process_time()
    with scratch(MEGABYTES_A_DAY) as directory:
        story = live(directory, days=days, outage=outage, seed=seed, meters=meters)
    raw_s = time.process_time() - began
    factor = median(machine + [calibrate.now() for _ in range(5)])
    spent_s = raw_s / factor
    print(f"processor time: raw {raw_s:.1f} s, factor {factor:.2f}, scaled {spent_s:.1f} s")
    return story, spent_s
