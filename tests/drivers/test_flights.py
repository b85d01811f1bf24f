"""Questions on their way over one connection, told apart by their number: each rule by itself."""

import asyncio
from collections.abc import Callable

import pytest

from drivers.flights import PAST_MAX, STALLED_S, Flight, Flights
from drivers.job import Job, Lane
from drivers.run import Run, Standing
from protocols.dialogue import Reply
from protocols.modbus.dialogue import Block, Item
from protocols.modbus.frame import Frame
from protocols.modbus.registers import Format, Type
from protocols.quantity import by_name
from simulators import virtual
from tests.script import meter

ENDS_S = 10.0
START_MS = 1_700_000_000_000


class Sky:
    """Questions to meters of several units, by their number."""

    def __init__(self) -> None:
        self.woken = 0
        self.flights = Flights(now_ms=virtual.now_ms, wake=self._wake)
        self._standings: dict[int, Standing] = {}

    def _wake(self) -> None:
        self.woken += 1

    def put(self, number: int, *, unit: int = 1, ends_s: float = ENDS_S) -> Flight:
        """A question for one register, under this number, that is given up so long from now."""
        standing = self._standings.setdefault(unit, Standing(meter(str(unit), "modbus-tcp")))
        item = Item(quantity=by_name("voltage.a"), function=4, address=0, format=Format(type=Type.UINT16))
        ask = Block(unit, [item]).ask(number)
        job = Job(meter=standing.meter, dialogue=iter, lane=Lane.CURVE, deadline=1e9, done=print)  # type: ignore[arg-type]
        now = asyncio.get_running_loop().time()
        flight = Flight(
            Run(job, standing, number), ask, began=now, ends=now + ends_s, sent_at=virtual.now_ms(), live=True
        )
        assert self.flights.put(flight)
        return flight

    def landed(self) -> list[tuple[int, str]]:
        """Numbers of what has landed since this was last asked, and what came of each."""
        landed, self.flights.landed = self.flights.landed, []
        return [(int.from_bytes(one.ask.data[:2], "big"), type(one.answer).__name__) for one in landed]


def told(number: int, *, unit: int = 1, count: int = 1) -> bytes:
    """An answer of so many registers."""
    return Frame(unit=unit, function=4, data=bytes((2 * count,)) + b"\0\7" * count, transaction=number).encode()


def aloft(script: Callable[[Sky], object]) -> None:
    async def main() -> None:
        sky = Sky()
        result = script(sky)
        if asyncio.iscoroutine(result):
            await result

    virtual.run(main(), start_ms=START_MS)


def test_answers_find_their_questions_in_any_order_and_whoever_waits_is_woken_once_a_piece() -> None:
    async def script(sky: Sky) -> None:
        for number in (1, 2, 3):
            sky.put(number, unit=number)
        await asyncio.sleep(1.0)
        sky.flights.receive(told(3, unit=3) + told(1))
        assert sky.woken == 1
        flight = sky.flights.landed[0]
        assert isinstance(flight.answer, Reply)
        assert (flight.answer.sent_at, flight.answer.ended_at) == (START_MS, START_MS + 1000)
        assert sky.landed() == [(3, "Reply"), (1, "Reply")]
        assert list(sky.flights.flying) == [2] and sky.flights.any
        sky.flights.receive(told(2, unit=2))
        assert sky.flights.any, "it has landed, and was not dealt with"
        assert sky.landed() == [(2, "Reply")] and not sky.flights.any and sky.woken == 2

    aloft(script)


def test_an_answer_was_not_sent_after_it_came_though_the_clock_was_set_back() -> None:
    def script(sky: Sky) -> None:
        flight = sky.put(1)
        flight.sent_at += 60_000
        sky.flights.receive(told(1))
        assert isinstance(flight.answer, Reply) and flight.answer.sent_at == flight.answer.ended_at == START_MS

    aloft(script)


def test_company_is_whoever_is_on_the_way_at_any_time_together_with_another() -> None:
    def script(sky: Sky) -> None:
        first = sky.put(1, unit=1)
        assert not first.company
        sky.flights.receive(told(1))
        second = sky.put(2, unit=2)
        assert not (first.company or second.company)
        third, fourth = sky.put(3, unit=3), sky.put(4, unit=4)
        assert second.company and third.company and fourth.company and not first.company

    aloft(script)


def test_no_number_is_on_its_way_twice() -> None:
    def script(sky: Sky) -> None:
        first = sky.put(1)
        again = Flight(first.run, first.ask, began=0.0, ends=1.0, sent_at=0, live=True)
        assert not sky.flights.put(again) and sky.flights.flying == {1: first} and sky.flights.soonest == ENDS_S
        sky.flights.receive(told(1))
        assert sky.flights.put(again)

    aloft(script)


def test_whoever_is_not_answered_in_time_lands_in_silence_and_no_other_does() -> None:
    async def script(sky: Sky) -> None:
        for number, ends_s in ((1, 3.0), (2, 2.0), (3, 4.0)):
            sky.put(number, unit=number, ends_s=ends_s)
        assert sky.flights.soonest == 2.0
        sky.flights.overdue(1.9)
        assert sky.landed() == [] and sky.flights.soonest == 2.0
        sky.flights.overdue(2.0)
        assert sky.landed() == [(2, "Silence")] and sky.flights.soonest == 3.0
        sky.flights.overdue(5.0)
        assert sky.landed() == [(1, "Silence"), (3, "Silence")] and sky.flights.soonest == float("inf")

    aloft(script)


def test_an_answer_to_what_was_given_up_is_late_and_to_what_was_never_asked_it_is_mixed_up() -> None:
    def script(sky: Sky) -> None:
        flights = sky.flights
        sky.put(1, ends_s=1.0)
        flights.overdue(1.0)
        assert sky.landed() == [(1, "Silence")]
        sky.put(2)
        flights.receive(told(1))
        assert (flights.late, flights.mixed_up) == (1, 0)
        flights.receive(told(9) + told(2))
        assert (flights.late, flights.mixed_up) == (1, 1)
        assert sky.landed() == [(2, "Reply")]

    aloft(script)


def test_so_many_given_up_are_remembered_and_no_more() -> None:
    def script(sky: Sky) -> None:
        flights = sky.flights
        for number in range(PAST_MAX + 1):
            sky.put(number, ends_s=1.0)
            flights.overdue(1.0)
        flights.receive(told(1))
        assert (flights.late, flights.mixed_up) == (1, 0)
        flights.receive(told(0))
        assert (flights.late, flights.mixed_up) == (1, 1)

    aloft(script)


def test_an_answer_that_does_not_fit_is_mixed_up_unless_its_meter_gives_such_when_it_is_asked_alone() -> None:
    def script(sky: Sky) -> None:
        flights = sky.flights
        sky.put(1, unit=1)
        sky.put(2, unit=2)
        flights.receive(told(1, count=3))
        assert flights.mixed_up == 1 and 1 in flights.flying and not flights.landed
        flights.receive(told(1) + told(2, unit=2))
        assert len(sky.landed()) == 2
        sky.put(3, unit=3)
        flights.receive(told(3, unit=3, count=3))
        assert flights.mixed_up == 1 and 3 in flights.flying
        sky.put(4, unit=4)
        flights.receive(told(3, unit=3, count=3))
        assert flights.mixed_up == 1
        flights.receive(told(4, unit=4, count=3))
        assert flights.mixed_up == 2

    aloft(script)


def test_what_came_in_part_is_given_up_after_a_pause_and_what_stands_behind_it_is_found() -> None:
    async def script(sky: Sky) -> None:
        flights = sky.flights
        sky.put(1, unit=1)
        sky.put(2, unit=2)
        flights.receive(told(1)[:-1])
        assert flights.soonest == STALLED_S and sky.woken == 1 and not flights.landed
        flights.overdue(STALLED_S - 0.01)
        assert flights.soonest == STALLED_S
        await asyncio.sleep(STALLED_S)
        flights.overdue(STALLED_S)
        assert not flights.landed and flights.soonest == ENDS_S
        flights.receive(told(2, unit=2))
        assert sky.landed() == [(2, "Reply")] and list(flights.flying) == [1]
        assert flights.mixed_up == 0

    aloft(script)


def test_what_comes_in_two_parts_without_such_a_pause_is_one_answer() -> None:
    async def script(sky: Sky) -> None:
        flights = sky.flights
        sky.put(1)
        flights.receive(told(1)[:7])
        await asyncio.sleep(STALLED_S - 0.01)
        flights.overdue(STALLED_S - 0.01)
        flights.receive(told(1)[7:])
        await asyncio.sleep(STALLED_S)
        flights.overdue(2 * STALLED_S)
        assert sky.landed() == [(1, "Reply")] and not flights.any

    aloft(script)


def test_nothing_of_a_lost_connection_is_left_in_the_next() -> None:
    async def script(sky: Sky) -> None:
        flights = sky.flights
        sky.put(1, unit=1)
        sky.put(2, unit=2)
        flights.receive(told(1))
        flights.receive(told(2, unit=2)[:7])
        assert [flight.run.standing.meter.id for flight in flights] == ["meter-2", "meter-1"]
        assert [flight.ask.data[1] for flight in flights.ground()] == [2]
        assert not flights.flying and sky.landed() == [(1, "Reply")]
        flights.connected()
        sky.put(3)
        flights.receive(told(3))
        assert sky.landed() == [(3, "Reply")]
        flights.overdue(ENDS_S)
        assert flights.soonest == float("inf") and not flights.any

    aloft(script)


@pytest.mark.parametrize("ends_s", [0.3, ENDS_S])
def test_an_answer_that_came_in_pieces_lands_by_its_time_out_or_after_a_pause(ends_s: float) -> None:
    async def script(sky: Sky) -> None:
        flights = sky.flights
        flight = sky.put(1, ends_s=ends_s)
        sky.put(2, unit=2, ends_s=ends_s)
        flights.receive(told(1)[:10])
        flights.receive(told(1)[10:])
        assert not flights.landed, "what follows may show that it was cut short"
        until = min(ends_s, STALLED_S)
        await asyncio.sleep(until)
        flights.overdue(until)
        assert isinstance(flight.answer, Reply) and (1, "Reply") in sky.landed()

    aloft(script)
