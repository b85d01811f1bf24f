"""A far end that is asked several questions at once: what is held against it and what is not, and what is counted."""

import asyncio
from itertools import pairwise, repeat

import pytest

from drivers.bus import Job, Lane
from drivers.line import PortLost
from drivers.plan import TRANSACTIONS
from protocols.capture import Fault
from protocols.dialogue import Dialogue
from protocols.modbus import commands
from protocols.modbus.dialogue import Block, Item
from protocols.modbus.frame import Frame
from protocols.modbus.registers import Format, Type
from protocols.quantity import by_name
from simulators import virtual
from tests.drivers import test_bus_pipelined
from tests.drivers.test_bus_pipelined import FarEnd, Hall, Said, after, everybody, meters, right, serve

PIPELINE = 8
"""Questions on their way at most."""


@pytest.mark.parametrize(("at_once", "fallbacks"), [(1, 0), (2, 1)])
def test_a_connection_that_is_closed_is_held_against_the_far_end_if_several_questions_were_on_their_way(
    at_once: int, fallbacks: int
) -> None:
    def answer(frame: Frame, n: int) -> Said:
        if n == at_once - 1:
            asyncio.get_running_loop().call_soon(hall.line.tear)
        return [(0.02, right(frame))]

    hall = Hall(FarEnd(answer))
    serve(hall, everybody(hall, meters(at_once)))
    assert hall.pipelined.fallbacks == fallbacks and hall.bus.port.counters.lost == 1
    assert all(hall.plain(str(unit)) == [str(unit << 8)] for unit in range(1, at_once + 1))


def test_a_far_end_that_never_stands_it_is_tried_less_and_less_often() -> None:
    def answer(frame: Frame, n: int) -> Said:
        if hall.line.at_once > 1:
            asyncio.get_running_loop().call_soon(hall.line.tear)
        return [(0.02, right(frame))]

    hall = Hall(FarEnd(answer))
    many = meters(4)

    async def script() -> None:
        for n in range(100):
            for one in many:
                hall.ask(one, name=f"{one.id} {n}")
            await asyncio.sleep(10.0)

    serve(hall, script)
    assert hall.pipelined.fallbacks == 5  # at 0, 1, 3, 7 and 15 minutes
    assert len(hall.ended) == 400


def test_answers_that_are_lost_now_and_then_are_not_held_against_a_far_end_that_answers_others_meanwhile() -> None:
    hall = Hall(FarEnd(lambda frame, n: [] if n % 30 == 29 else [(0.02 + 0.01 * (n % 3), right(frame))]))
    many = meters(12, attempts=4)

    async def script() -> None:
        for n in range(60):
            for one in many:
                hall.ask(one, n, name=f"{one.entry.address} {n}")

    serve(hall, script)
    assert hall.bus.port.counters.silences > 2 * PIPELINE
    assert hall.pipelined.fallbacks == 0 and hall.pipelined.window == PIPELINE


def test_a_meter_that_does_not_answer_when_it_is_asked_alone_is_not_held_against_the_far_end() -> None:
    hall = Hall(FarEnd(lambda frame, n: []))
    (one,) = meters(1, attempts=2 * PIPELINE)
    serve(hall, everybody(hall, [one]))
    assert len(hall.line.asked) >= 2 * PIPELINE and hall.pipelined.fallbacks == 0


def test_jobs_that_wait_for_room_end_at_their_deadlines() -> None:
    hall = Hall(FarEnd(lambda frame, n: []))
    many = meters(PIPELINE + 1, turnaround_ms_max=5000)

    async def script() -> None:
        await asyncio.sleep(1.0)
        for one in many:
            hall.ask(one, name=one.entry.address, within_s=2.0)
        assert not hall.bus.idle()

    serve(hall, script, for_s=4.0)
    assert [name for name, at in hall.at.items() if at == pytest.approx(3.0, abs=0.01)] == [str(PIPELINE + 1)]
    assert hall.ended[str(PIPELINE + 1)].fault is Fault.MISSED


def test_a_reading_that_has_begun_goes_on_before_others_begin() -> None:
    hall = Hall(FarEnd(after(0.02)))
    many = meters(4 * PIPELINE)

    async def script() -> None:
        await asyncio.sleep(1.0)
        for n, one in enumerate(many):
            hall.ask(one, 1, 2, 3, name=one.entry.address, within_s=50.0 - n)  # the later, the earlier its deadline
            if n == PIPELINE - 1:
                await asyncio.sleep(0.01)

    serve(hall, script)
    asked = [frame.unit for _, frame in hall.line.asked]
    first = range(1, PIPELINE + 1)
    assert sorted(asked[: 3 * PIPELINE]) == sorted([*first] * 3) and len(asked) == 3 * len(many)


def test_an_answer_that_came_before_the_connection_was_closed_counts() -> None:
    def answer(frame: Frame, n: int) -> Said:
        if n == PIPELINE - 1:
            asyncio.get_running_loop().call_later(0.02, hall.line.tear)
        return [(0.02 if n % 2 == 0 else 0.1, right(frame))]

    hall = Hall(FarEnd(answer))
    serve(hall, everybody(hall, meters(PIPELINE)))
    assert all(hall.plain(str(unit)) == [str(unit << 8)] for unit in range(1, PIPELINE + 1))
    assert sorted(frame.unit for _, frame in hall.line.asked) == sorted([*range(1, PIPELINE + 1), 2, 4, 6, 8])


def test_a_bus_that_is_to_stop_when_its_connection_is_lost_opens_it_no_more() -> None:
    hall = Hall(FarEnd(lambda frame, n: []))

    async def main() -> None:
        task = asyncio.ensure_future(hall.bus.run())
        await everybody(hall, meters(3))()
        await asyncio.sleep(0.4)
        hall.bus.stop()
        await asyncio.sleep(0.01)
        assert not task.done() and hall.pipelined.in_flight == 3
        hall.line.tear()
        await asyncio.wait_for(task, 0.1)

    virtual.run(main(), start_ms=1_700_000_000_000)
    assert hall.line.opened == 1 and hall.bus.queued == 3 and not hall.ended


def test_a_bus_whose_far_end_takes_its_time_loses_none_of_it() -> None:
    hall = Hall(FarEnd(after(0.2)))
    many = meters(3 * PIPELINE)

    async def script() -> None:
        for n in range(10):
            for one in many:
                hall.ask(one, n, name=f"{one.entry.address} {n}")
        await asyncio.sleep(5.0)
        account = hall.bus.account
        assert account.turnaround > 4400.0 and account.dead == pytest.approx(0.0, abs=1.0)
        assert account.elapsed == pytest.approx(4700.0, abs=201.0), "0.3 s of which it was only listened to"
        assert hall.bus.utilisation == 1.0

    serve(hall, script)
    assert hall.bus.account.idle > 90_000.0


def test_a_meter_is_left_alone_for_its_gap_between_two_questions() -> None:
    hall = Hall(FarEnd(after(0.02)))
    (one,) = meters(1, min_gap_ms=70)
    serve(hall, lambda: everybody(hall, [one], 1, 2, 3, 4)())
    times = [at for at, _ in hall.line.asked]
    assert all(second - first == pytest.approx(0.09, abs=1e-6) for first, second in pairwise(times))


def test_what_was_asked_and_answered_is_counted_kept_and_learned_from() -> None:
    hall = Hall(FarEnd(lambda frame, n: [] if frame.unit == 2 else [(0.2, right(frame))]))
    one, two = meters(2, turnaround_ms_max=2000, attempts=1)
    given_up_s = two.timeout_s(block(2).ask(1)) + two.turnaround_s  # one more was on its way already

    async def script() -> None:
        await asyncio.sleep(1.0)
        hall.ask(one, 1, 2, name="1")
        hall.ask(two, name="2")
        await asyncio.sleep(9.0)
        counters, account = hall.bus.port.counters, hall.bus.account
        assert (counters.replies, counters.silences) == (2, 1)
        assert one.turnaround_s == pytest.approx(0.4) and two.turnaround_s == 2.0
        assert account.turnaround == pytest.approx(400.0)
        assert account.dead == pytest.approx(1000 * given_up_s - 400.0)
        assert account.wire == account.gaps == 0.0

    serve(hall, script)
    one_s = [frame for _, frame in hall.line.asked if frame.unit == 1]
    two_s = next(frame for _, frame in hall.line.asked if frame.unit == 2)
    assert hall.ended["1"].frames == tuple((frame.encode(), right(frame)) for frame in one_s)
    assert hall.ended["2"].frames == ((two_s.encode(), b""),)


def block(unit: int, address: int = 0) -> Block:
    item = Item(quantity=by_name("voltage.a"), function=4, address=address, format=Format(type=Type.UINT16))
    return Block(unit, [item])


def test_a_question_whose_number_is_still_on_its_way_waits_until_that_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Numbers begin anew after 65,535 questions."""
    hall = Hall(FarEnd(after(0.4)))

    async def script() -> None:
        for one in meters(3):
            hall.job(one, [block(int(one.entry.address))], name=one.entry.address, lane=Lane.CURVE, within_s=1e9)

    monkeypatch.setattr(test_bus_pipelined, "TRANSACTIONS", repeat(7))
    serve(hall, script)
    assert [hall.plain(str(unit)) for unit in (1, 2, 3)] == [["256"], ["512"], ["768"]]
    assert hall.line.most == 1 and len(hall.line.asked) == 3 and hall.bus.counters.quarantines == 0


def test_a_job_without_a_question_and_one_that_cannot_begin_hold_up_nobody() -> None:
    def broken() -> Dialogue[Frame]:
        raise ValueError("no such plan")

    def nothing() -> Dialogue[Frame]:
        return []
        yield

    hall = Hall(FarEnd(after(0.02)))
    one, two, three = meters(3)
    ended: list[Fault | None] = []

    async def script() -> None:
        for other, dialogue in ((one, broken), (two, nothing)):
            hall.bus.submit(Job(meter=other, dialogue=dialogue, lane=Lane.CURVE, deadline=1e9,
                                done=lambda outcome: ended.append(outcome.fault)))  # fmt: skip
        hall.ask(three, name="3")

    serve(hall, script)
    assert ended == [Fault.INTERNAL, None] and hall.plain("3") == ["768"]


def test_a_write_and_a_read_of_bits_are_answered_like_any_other_question() -> None:
    told: list[object] = []

    def answer(frame: Frame, n: int) -> Said:
        if frame.function == 6:
            return [(0.02, frame.encode())]
        return [(0.02, Frame(unit=1, function=1, data=b"\x01\x05", transaction=frame.transaction).encode())]

    def both() -> Dialogue[Frame]:
        told.append((yield from commands.write_register(1, 5, 7, transaction=next(TRANSACTIONS))))
        told.append((yield from commands.read_bits(1, 1, 0, 8, transaction=next(TRANSACTIONS))))
        return []

    hall = Hall(FarEnd(answer))
    (one,) = meters(1)

    async def script() -> None:
        hall.bus.submit(Job(meter=one, dialogue=both, lane=Lane.CONTROL, deadline=1e9, done=lambda _: None))

    serve(hall, script)
    assert isinstance(told[0], commands.Written) and len(told) == 2
    assert hall.bus.counters.defects == 0


def test_a_bus_stops_though_its_port_is_away() -> None:
    hall = Hall(FarEnd(after(0.02)))

    async def refuse(bus: object) -> FarEnd:
        raise PortLost("connection refused")

    hall.line.open = refuse  # type: ignore[method-assign]
    hall = Hall(hall.line)

    async def main() -> None:
        task = asyncio.ensure_future(hall.bus.run())
        await everybody(hall, meters(2))()
        await asyncio.sleep(10.0)
        hall.bus.stop()
        await asyncio.wait_for(task, 0.1)
        hall.bus.abandon()

    virtual.run(main(), start_ms=1_700_000_000_000)
    assert [outcome.fault for outcome in hall.ended.values()] == [Fault.BUS, Fault.BUS]
