"""What is one meter's own trouble costs the others behind its gateway nothing for long."""

import asyncio
from typing import Any

import pytest

from drivers.bus import Job, Lane, Outcome
from drivers.flights import Flights
from drivers.line import PortLost
from drivers.pipelined import ALONE_S_FIRST, bus_for
from drivers.plan import TRANSACTIONS
from drivers.run import INTERNAL_S_FIRST
from protocols.capture import Fault
from protocols.dialogue import Ask, Dialogue
from protocols.modbus.frame import Frame, read_request
from simulators import virtual
from tests.drivers.test_bus_pipelined import ENTRY, FarEnd, Hall, Said, everybody, meters, right, serve
from tests.modbus import exception, reply


@pytest.mark.parametrize("silent", [10, 20])
def test_a_gateway_that_says_who_does_not_answer_drops_no_question(silent: int) -> None:
    def answer(frame: Frame, n: int) -> Said:
        gone = exception(0x0B, unit=frame.unit, function=4, transaction=frame.transaction)
        return [(0.02, gone.encode() if frame.unit <= silent else right(frame))]

    hall = Hall(FarEnd(answer))
    serve(hall, everybody(hall, meters(20)))
    assert len(hall.bus.silent) == silent
    assert hall.pipelined.fallbacks == 0 and hall.line.most == 8
    assert all(hall.plain(str(unit)) == [str(unit << 8)] for unit in range(silent + 1, 21))


def test_a_gateway_that_drops_questions_is_still_found_out() -> None:
    hall = Hall(FarEnd(lambda frame, n: [] if n % 8 else [(0.02, right(frame))]))
    serve(hall, everybody(hall, meters(20)))
    assert hall.pipelined.fallbacks == 1


def fallbacks(hours: int) -> int:
    """How often a gateway is asked one question at a time since one of its meters gives more than it is asked for."""

    def answer(frame: Frame, n: int) -> Said:
        odd = reply([1, 2], unit=frame.unit, function=4, transaction=frame.transaction).encode()
        return [(0.02, odd if frame.unit == 1 else right(frame))]

    hall, many = Hall(FarEnd(answer)), meters(8)

    async def script() -> None:
        for n in range(60 * hours):
            for one in many:
                hall.ask(one, n, name=f"{one.entry.address} {n}", within_s=50)
            await asyncio.sleep(60)

    serve(hall, script)
    assert all(hall.plain(f"{unit} {n}") == [str(unit << 8 | n)] for unit in range(2, 9) for n in range(60 * hours))
    assert not any(hall.plain(f"1 {n}")[:1] != [None] for n in range(60 * hours) if hall.ended[f"1 {n}"].values)
    return hall.pipelined.fallbacks


def test_a_meter_whose_answers_never_fit_costs_one_time_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ALONE_S_FIRST < 120 and fallbacks(3) == 1
    monkeypatch.setattr(Flights, "_unfit", lambda *_: False)
    assert fallbacks(3) > 4


def window_after(pause_s: float) -> tuple[int, float]:
    """How often the connection was lost with several questions on their way, so long after the window was open again
    each time; and how long one at a time is asked after the last."""
    tears: list[float] = []

    def answer(frame: Frame, n: int) -> Said:
        if tears and hall.line.at_once > 1:
            tears.clear()
            asyncio.get_running_loop().call_soon(hall.line.tear)
        return [(0.02, right(frame))]

    hall, many = Hall(FarEnd(answer)), meters(8)
    alone: list[float] = []

    async def script() -> None:
        loop = asyncio.get_running_loop()
        for n in range(6):
            tears.append(n)
            for one in many:
                hall.ask(one, n, name=f"{one.entry.address} {n}", within_s=50)
            await asyncio.sleep(20)
            began = loop.time()
            while hall.pipelined.window == 1:
                hall.ask(many[0], name=f"{n} {loop.time()}")
                await asyncio.sleep(5)
            alone.append(loop.time() - began)
            await asyncio.sleep(pause_s)

    serve(hall, script)
    return hall.pipelined.fallbacks, alone[-1]


def test_a_far_end_that_has_stood_it_for_long_is_not_asked_alone_for_longer_each_time() -> None:
    for pause_s, times in ((1.0, 32), (7200.0, 1)):
        fallbacks, alone_s = window_after(pause_s)
        assert fallbacks == 6
        assert abs(alone_s - (times * ALONE_S_FIRST - 20)) < 10


@pytest.mark.parametrize("nth", range(6))
def test_a_line_that_is_found_gone_when_it_is_written_to_is_opened_again(nth: int) -> None:
    class Gone(FarEnd):
        written = 0

        def write(self, data: bytes, unwanted_s: float = 0.0) -> None:
            self.written += 1
            if self.written == nth + 1:
                raise PortLost("gone")
            super().write(data, unwanted_s)

    hall = Hall(Gone(lambda frame, n: [(0.02, right(frame))]))
    serve(hall, everybody(hall, meters(12), 0, 7, 9))
    assert all(hall.plain(str(unit)) == [str(unit << 8 | n) for n in (0, 7, 9)] for unit in range(1, 13))
    assert hall.line.opened == 2 and hall.bus.port.counters.lost == 1
    assert max(hall.at.values()) < 4.0


class Kept:
    """Evidence in memory."""

    def __init__(self) -> None:
        self.notes: list[dict[str, Any]] = []

    def note(self, **what: Any) -> None:
        self.notes.append(what)


@pytest.mark.parametrize("where", ["accepts", "dialogue"])
def test_a_defect_of_ours_on_one_meter_ends_its_job_alone_and_keeps_the_frame(where: str) -> None:
    def raises(_: object) -> bool:
        raise ZeroDivisionError("a defect")

    def broken() -> Dialogue[Frame]:
        transaction = next(TRANSACTIONS)
        question = read_request(1, 4, 0, 1, transaction=transaction)
        accepts = raises if where == "accepts" else lambda frame: bool(frame.transaction == transaction)
        raises((yield Ask(data=question.encode(), reply_max=11, accepts=accepts)))
        return []

    kept = Kept()
    hall, many = Hall(FarEnd(lambda frame, n: [(0.02, right(frame))])), meters(8)
    hall.bus = bus_for(ENTRY, open_line=hall.line.open, now_ms=virtual.now_ms, evidence=kept)

    async def script() -> None:
        hall.bus.submit(Job(meter=many[0], dialogue=broken, lane=Lane.CURVE, deadline=60.0, done=ended.append))
        for one in many[1:]:
            hall.ask(one, name=one.entry.address)
        await asyncio.sleep(1)
        hall.ask(many[0], name="1", within_s=90)

    ended: list[Outcome] = []
    serve(hall, script)
    assert [outcome.fault for outcome in ended] == [Fault.INTERNAL]
    assert all(hall.plain(str(unit)) == [str(unit << 8)] for unit in range(1, 9))
    assert hall.at["1"] > INTERNAL_S_FIRST  # it is left alone for a minute
    assert hall.line.opened == 1 and hall.bus.counters.defects == 1
    (note,) = kept.notes
    assert note["seen"][7:] == bytes((4, 2, 1, 0)) and "ZeroDivisionError" in note["reason"]
