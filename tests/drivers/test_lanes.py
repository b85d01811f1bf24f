"""Which of the jobs that wait goes next: each rule by itself."""

from itertools import count, pairwise

import pytest

from drivers.job import URGENT, Job, Lane
from drivers.lanes import PASSED_OVER_MAX, Lanes
from drivers.run import Run, Standing
from protocols.dialogue import Ask
from protocols.dlt645 import v2007
from tests.script import meter

PATIENT = tuple(lane for lane in Lane if lane not in URGENT)


class Row:
    """Jobs of one bus, each of a meter of its own, named by who waits."""

    def __init__(self) -> None:
        self.lanes = Lanes()
        self.away: set[str] = set()
        """Who cannot be asked now."""
        self._order = count()

    def put(self, name: str, lane: Lane, *, deadline: float = 1000.0) -> Run:
        one = meter(name=name)
        job = Job(meter=one, dialogue=lambda: v2007.read(one.entry.address, ["00010000"]), lane=lane,
                  deadline=deadline, done=print, name=name)  # fmt: skip
        run = Run(job, Standing(one), next(self._order))
        self.lanes.put(run)
        return run

    def begun(self, name: str, lane: Lane, *, pause_s: float = 0.0, deadline: float = 1000.0) -> Run:
        """A job one of whose questions is answered and the next one is due, after a pause; it does not wait yet."""
        run = self.put(name, lane, deadline=deadline)
        self.lanes.remove(lambda one: one is run)
        run.asked, run.replies = True, 1
        run.ask = Ask(data=b"?", reply_max=1, accepts=lambda frame: True, pause_s=pause_s)
        return run

    def take(self) -> Run | None:
        return self.lanes.take(lambda run: run.job.name not in self.away)

    def order(self, turns: int) -> list[str]:
        """Who goes in so many turns."""
        taken = [self.take() for _ in range(turns)]
        return [run.job.name for run in taken if run is not None]

    def expired(self, now: float) -> list[str]:
        return [run.job.name for run in self.lanes.expired(now)]


@pytest.mark.parametrize(("higher", "lower"), [*pairwise(PATIENT), (PATIENT[0], PATIENT[-1])])
def test_no_lane_waits_for_more_than_so_many_turns_of_a_higher_one(higher: Lane, lower: Lane) -> None:
    row = Row()
    for _ in range(3 * PASSED_OVER_MAX):
        row.put("higher", higher)
    for _ in range(2):
        row.put("lower", lower)
    assert row.order(2 * PASSED_OVER_MAX + 2) == [*["higher"] * PASSED_OVER_MAX, "lower"] * 2


def test_a_lane_is_passed_over_only_while_it_has_work() -> None:
    row = Row()
    row.put("billing", Lane.BILLING)  # so that there is more than one lane
    for _ in range(4 * PASSED_OVER_MAX):
        row.put("priority", Lane.PRIORITY)
    row.order(2 * PASSED_OVER_MAX)
    row.put("backfill", Lane.BACKFILL)
    row.put("billing", Lane.BILLING)
    assert row.order(PASSED_OVER_MAX // 2) == ["priority"] * (PASSED_OVER_MAX // 2)


def test_within_a_lane_what_was_asked_goes_before_what_was_not_then_the_earliest_deadline_then_who_came_first() -> None:
    row = Row()
    for name, deadline in (("late", 30.0), ("first", 20.0), ("second", 20.0), ("soon", 10.0)):
        row.put(name, Lane.CURVE, deadline=deadline)
    row.lanes.put(row.begun("begun late", Lane.CURVE, pause_s=0.1, deadline=50.0))
    row.lanes.put(row.begun("begun", Lane.CURVE, pause_s=0.1, deadline=40.0))
    assert row.order(9) == ["begun", "begun late", "soon", "first", "second", "late"]


def test_a_reading_that_leaves_its_meter_alone_for_a_while_goes_by_its_lane() -> None:
    row = Row()
    row.put("priority", Lane.PRIORITY)
    row.lanes.put(row.begun("bill", Lane.BILLING, pause_s=0.1))
    assert row.order(2) == ["priority", "bill"]


def test_a_job_that_cannot_be_asked_brings_no_other_forward() -> None:
    row = Row()
    row.put("away", Lane.EVENT)
    row.away.add("away")
    for _ in range(2 * PASSED_OVER_MAX):
        row.put("priority", Lane.PRIORITY)
    row.put("backfill", Lane.BACKFILL)
    assert row.order(PASSED_OVER_MAX + 1) == [*["priority"] * PASSED_OVER_MAX, "backfill"]


def test_events_go_between_the_frames_of_a_reading_and_a_reading_goes_on_between_events() -> None:
    row = Row()
    for _ in range(5 * PASSED_OVER_MAX):
        row.put("event", Lane.EVENT)
    reading = row.begun("reading", Lane.CURVE)
    for _ in range(3):
        row.lanes.put(reading)
        assert row.order(PASSED_OVER_MAX + 1) == [*["event"] * PASSED_OVER_MAX, "reading"]


def test_a_lane_that_waits_long_keeps_events_back_only_if_one_of_its_jobs_can_be_asked() -> None:
    row = Row()
    row.away.add("away")
    row.put("away", Lane.CURVE)
    for _ in range(5 * PASSED_OVER_MAX):
        row.put("event", Lane.EVENT)
    reading = row.begun("reading", Lane.BILLING)
    for _ in range(2):
        row.lanes.put(reading)
        assert row.order(PASSED_OVER_MAX + 1) == [*["event"] * PASSED_OVER_MAX, "reading"]
    row.put("curve", Lane.CURVE)
    assert row.order(2) == ["curve", "event"]


def test_each_job_ends_at_its_own_deadline() -> None:
    row = Row()
    for name, lane, deadline in (("c", Lane.EVENT, 30.0), ("a", Lane.CURVE, 10.0), ("b", Lane.CURVE, 20.0)):
        row.put(name, lane, deadline=deadline)
    assert [row.expired(now) for now in (9.9, 10.0, 19.9, 20.0, 30.0)] == [[], ["a"], [], ["b"], ["c"]]
    assert row.lanes.waiting == 0 and row.lanes.soonest == float("inf")


def test_a_job_ends_at_its_deadline_though_others_went_before() -> None:
    row = Row()
    for name, lane in (("a", Lane.PRIORITY), ("b", Lane.CURVE), ("c", Lane.CURVE)):
        row.put(name, lane, deadline=10.0)
    assert row.order(2) == ["a", "b"] and row.lanes.soonest <= 10.0
    assert row.expired(10.0) == ["c"]


def test_whatever_interrupts_a_reading_goes_before_it_even_when_it_has_begun_itself() -> None:
    row = Row()
    for name, lane in (("reading", Lane.PRIORITY), ("event", Lane.EVENT), ("now", Lane.READ_NOW)):
        row.lanes.put(row.begun(name, lane))
    assert row.order(3) == ["now", "event", "reading"]


def test_a_reading_that_has_begun_goes_on_before_others_of_higher_lanes_begin() -> None:
    row = Row()
    row.put("priority", Lane.PRIORITY)
    row.lanes.put(row.begun("reading", Lane.BACKFILL))
    row.put("billing", Lane.BILLING)
    assert row.order(3) == ["reading", "priority", "billing"]
