"""What waits on a bus and when any of it can be asked, with meters that are silent or left alone among the others."""

import pytest

from drivers.job import Job, Lane
from drivers.queue import Queue
from drivers.run import Run, Standing
from drivers.silent import PROBE_EVERY_S
from protocols.dlt645 import v2007
from tests.script import meter

NOW = 100.0


class Bus:
    """A queue, and the standings of its meters."""

    def __init__(self) -> None:
        self.queue = Queue()
        self.one, self.two = (Standing(meter(f"{n:012d}")) for n in (1, 2))

    def add(self, standing: Standing, *, lane: Lane = Lane.CURVE, deadline: float = 1000.0) -> Run:
        one = standing.meter
        return self.queue.add(
            Job(meter=one, dialogue=lambda: v2007.read(one.entry.address, ["00010000"]), lane=lane, deadline=deadline,
                done=print), standing
        )  # fmt: skip

    def fell_silent(self, standing: Standing) -> None:
        self.queue.fell_silent(standing, now=NOW, probe_s=0.5)


def test_jobs_of_a_silent_meter_end_at_their_deadlines_as_those_of_live_ones_do() -> None:
    bus = Bus()
    bus.fell_silent(bus.one)
    bus.add(bus.one, deadline=NOW + 20)
    bus.add(bus.two, deadline=NOW + 30)
    bus.add(bus.one, deadline=NOW + 10)
    bus.two.quiet_until = float("inf")
    ended = []
    for deadline in (10, 20, 30):
        assert bus.queue.next_event(NOW) == NOW + deadline
        assert not bus.queue.expired(NOW + deadline - 0.1)
        ended += [run.standing for run in bus.queue.expired(NOW + deadline)]
    assert ended == [bus.one, bus.one, bus.two]


def test_a_read_on_request_of_a_meter_that_falls_silent_is_asked_and_its_other_jobs_are_not() -> None:
    bus = Bus()
    bus.add(bus.one)
    now = bus.add(bus.one, lane=Lane.READ_NOW)
    bus.fell_silent(bus.one)
    assert bus.queue.live and len(bus.queue) == 2
    assert bus.queue.take(NOW) is now
    assert bus.queue.take(NOW) is None and not bus.queue.live and len(bus.queue) == 1


def test_a_read_on_request_goes_before_events_and_before_a_probe_that_is_due() -> None:
    bus = Bus()
    bus.fell_silent(bus.one)
    probe = bus.add(bus.one)
    bus.add(bus.two, lane=Lane.EVENT)
    now = bus.add(bus.two, lane=Lane.READ_NOW)
    due_at = NOW + 2 * PROBE_EVERY_S
    assert [bus.queue.take(due_at) for _ in range(2)] == [now, probe]


def test_between_two_questions_that_belong_together_no_other_job_of_the_meter_is_asked() -> None:
    bus = Bus()
    holder, other = bus.add(bus.one), bus.add(bus.one, lane=Lane.READ_NOW)
    second = bus.add(bus.two)
    bus.one.held_by = holder
    assert [bus.queue.take(NOW) for _ in range(3)] == [holder, second, None]
    bus.one.held_by = None
    assert bus.queue.take(NOW) is other


def test_jobs_of_a_meter_that_came_back_are_as_any_others() -> None:
    bus = Bus()
    bus.fell_silent(bus.one)
    other = bus.add(bus.two)
    waits = bus.add(bus.one, lane=Lane.PRIORITY)
    assert bus.queue.take(NOW) is other
    bus.queue.came_back(bus.one, now=NOW)
    bus.queue.put(other)
    assert [bus.queue.take(NOW) for _ in range(3)] == [waits, other, None]


@pytest.mark.parametrize(("lane", "ready_at"), [(Lane.READ_NOW, NOW + 5), (Lane.CURVE, NOW + 60)])
def test_a_meter_that_is_left_alone_is_asked_on_request_when_its_late_window_is_over(
    lane: Lane, ready_at: float
) -> None:
    bus = Bus()
    run = bus.add(bus.one, lane=lane)
    bus.one.quiet_until, bus.one.blocked_until = NOW + 5, NOW + 60
    assert bus.queue.next_event(NOW) == ready_at
    assert bus.queue.take(ready_at - 0.1) is None and bus.queue.take(ready_at) is run


def test_a_bus_can_serve_something_while_one_of_its_meters_can_be_asked() -> None:
    bus = Bus()
    assert bus.queue.blocked(NOW)
    bus.add(bus.one)
    bus.one.blocked_until = NOW + 60
    assert bus.queue.blocked(NOW) and not bus.queue.blocked(NOW + 60)
    bus.add(bus.two)
    assert not bus.queue.blocked(NOW)
    bus.fell_silent(bus.two)
    assert bus.queue.blocked(NOW)
    bus.add(bus.one, lane=Lane.READ_NOW)
    assert not bus.queue.blocked(NOW)


def test_a_job_of_a_silent_meter_serves_as_its_probe_and_where_none_waits_its_last_question_does() -> None:
    bus = Bus()
    bus.one.probe = bus.add(bus.one).job
    bus.fell_silent(bus.one)
    due_at = bus.queue.next_event(NOW)
    assert due_at == NOW + PROBE_EVERY_S - 0.5 and bus.queue.take(due_at - 0.1) is None
    waiting = bus.queue.take(due_at)
    assert waiting is not None and waiting.job is bus.one.probe and not waiting.bare
    bare = bus.queue.take(due_at)
    assert bare is not None and bare.bare and bare.standing is bus.one and bare.job.deadline == float("inf")
