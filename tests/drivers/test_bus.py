"""A bus: discipline on the wire, order among jobs, and an end with a reason for each of them."""

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.bus import QUEUE_MAX, Bus, Job, Lane, Outcome
from drivers.line import PortLost
from drivers.meter import Meter
from protocols.capture import Fault
from protocols.dialogue import Ask, Dialogue, Silence
from protocols.dlt645 import v2007
from protocols.dlt645.frame import Frame
from simulators import virtual
from tests.desk import FOREVER, START_MS, TURNAROUND_S, Desk, good, serve
from tests.script import BUS, SERIAL, Said, ScriptedLine, energy, meter, opener, registers


def test_a_job_ends_once_with_its_values_and_times() -> None:
    desk = Desk(ScriptedLine(good))

    async def script() -> None:
        desk.energy(meter(), name="a")

    serve(desk, script)
    assert [name for name, _ in desk.ended] == ["a"]
    assert desk.plain("a") == ["12.34"]
    outcome = desk.outcome("a")
    assert outcome.started_at is not None and outcome.read_at is not None
    assert START_MS < outcome.started_at < outcome.read_at
    assert desk.bus.counters.answered == 1


def test_a_late_answer_never_answers_the_next_question_of_its_meter() -> None:
    late_s = 1.3

    def answer(data: bytes, n: int) -> Said:
        first = data[2:4] == b"\x00\x00"  # the register asked for
        return (
            [(late_s, registers(1, 0, 1))]
            if first and n == 0
            else [(TURNAROUND_S, registers(1, 0, 100 if not first else 1))]
        )

    desk = Desk(ScriptedLine(answer))
    one = meter("1", "modbus-rtu", turnaround_ms_max=500, late_max_ms=1500, attempts=1)

    async def script() -> None:
        desk.registers(one, 0, name="at 0")
        desk.registers(one, 100, name="at 100")

    serve(desk, script)
    assert desk.plain("at 0") == [None]
    assert desk.plain("at 100") == ["100"]
    assert desk.bus.port.counters.stray_bytes == len(registers(1, 0, 1))


@settings(max_examples=40)
@given(st.lists(st.floats(0.0, 2.4), min_size=1, max_size=12), st.integers(1, 3))
def test_within_the_late_window_no_delay_gives_a_wrong_value(delays: list[float], attempts: int) -> None:
    def answer(data: bytes, n: int) -> Said:
        return [(delays[n % len(delays)], registers(1, 0, data[3]))]

    desk = Desk(ScriptedLine(answer))
    one = meter("1", "modbus-rtu", turnaround_ms_max=1000, late_max_ms=1500, attempts=attempts)

    async def script() -> None:
        for address in range(8):
            desk.registers(one, address, name=str(address), within_s=500)

    serve(desk, script, for_s=600)
    assert len(desk.ended) == 8
    for name, outcome in desk.ended:
        assert [value.plain for value in outcome.values or ()] in ([name], [None], [])


@pytest.mark.parametrize("after_s", [0.0, 0.002])
def test_an_answer_that_comes_twice_does_not_answer_the_next_question(after_s: float) -> None:
    def answer(data: bytes, n: int) -> Said:
        once = registers(1, 0, data[3])  # the register asked for is the value
        if n:
            return [(TURNAROUND_S, once)]
        if not after_s:
            return [(TURNAROUND_S, once + once)]
        again_s = TURNAROUND_S + len(once) * SERIAL.character_s + after_s
        bytewise = [(again_s + at * SERIAL.character_s, once[at : at + 1]) for at in range(len(once))]
        return [(TURNAROUND_S, once), *bytewise]

    desk = Desk(ScriptedLine(answer))
    one = meter("1", "modbus-rtu")

    async def script() -> None:
        desk.registers(one, 0, name="at 0")
        desk.registers(one, 100, name="at 100")

    serve(desk, script)
    assert desk.plain("at 0") == ["0"]
    assert desk.plain("at 100") == ["100"]
    assert desk.bus.counters.doubled == 1
    assert desk.line.asked[1][0] - desk.line.asked[0][0] > one.late_s


def test_a_glitch_behind_an_answer_costs_nothing() -> None:
    desk = Desk(ScriptedLine(lambda data, n: [(TURNAROUND_S, registers(1, 0, data[3]) + b"\x00\xff")]))

    async def script() -> None:
        for n in range(4):
            desk.registers(meter("1", "modbus-rtu"), n, name=str(n))

    serve(desk, script)
    assert [desk.plain(str(n)) for n in range(4)] == [["0"], ["1"], ["2"], ["3"]]
    assert desk.bus.counters.quarantines == 0


def test_another_meter_is_asked_while_one_is_in_quarantine() -> None:
    first = meter("000000000001", late_max_ms=2000)
    timeout_s = first.timeout_s(next(v2007.read("000000000001", ["00010000"])))
    second = meter("000000000002")

    def answer(data: bytes, n: int) -> Said:
        return [] if n == 0 else good(data, n)

    desk = Desk(ScriptedLine(answer))

    async def script() -> None:
        desk.energy(first, name="first")
        desk.energy(second, name="second")

    serve(desk, script)
    assert [name for name, _ in desk.ended] == ["second", "first"]
    times = [at for at, _ in desk.line.asked]
    assert times[1] - times[0] < 1.0
    assert times[2] - times[0] == pytest.approx(2.0 + timeout_s, abs=1e-3)


@pytest.mark.parametrize("bad", [b"", energy()[:-3], energy()[:-4] + b"\x00" + energy()[-3:], b"\x00\xff"])
def test_an_uncertain_end_is_asked_again_up_to_the_attempts_of_the_profile(bad: bytes) -> None:
    for attempts in (1, 3):
        desk = Desk(ScriptedLine(lambda data, n: [(TURNAROUND_S, bad)] if bad else []))
        one = meter(attempts=attempts)

        async def script(desk: Desk = desk, one: Meter = one) -> None:
            desk.energy(one, name="a", within_s=40)

        serve(desk, script, for_s=20)
        assert len(desk.line.asked) == attempts
        (value,) = desk.outcome("a").values or ()
        assert value.fault is (Fault.GARBLED if bad else Fault.SILENT)
        gaps = [b[0] - a[0] for a, b in pairwise(desk.line.asked)]
        assert all(gap > one.late_s for gap in gaps)


def test_what_may_not_be_repeated_is_asked_once() -> None:
    def dialogue() -> Dialogue[Frame]:
        answer = yield Ask(data=b"\x01\x02", reply_max=20, accepts=lambda frame: True, repeatable=False)
        assert isinstance(answer, Silence)
        return []

    desk = Desk(ScriptedLine(lambda data, n: []))

    async def script() -> None:
        desk.ask(meter(), dialogue, name="once")

    serve(desk, script, for_s=20)
    assert len(desk.line.asked) == 1


def test_after_a_cancelled_exchange_the_queue_is_left_and_the_meter_is_in_quarantine() -> None:
    line = ScriptedLine(lambda data, n: [(0.3, energy(digits="00000001"))] if n == 0 else good(data, n))
    desk = Desk(line)

    async def main() -> None:
        task = asyncio.ensure_future(desk.bus.run())
        await asyncio.sleep(0)
        desk.energy(meter(), name="a")
        await asyncio.sleep(0.5)
        assert len(line.asked) == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert line.closed
        assert desk.bus.queued == 1
        cancelled_at = asyncio.get_running_loop().time()
        again = asyncio.ensure_future(desk.bus.run())
        await asyncio.sleep(5)
        assert line.asked[1][0] - cancelled_at >= meter().late_s
        again.cancel()

    virtual.run(main(), start_ms=START_MS)
    assert desk.plain("a") == ["12.34"]


def test_stop_lets_the_question_in_hand_come_to_its_end() -> None:
    desk = Desk(ScriptedLine(good))

    async def main() -> None:
        task = asyncio.ensure_future(desk.bus.run())
        await asyncio.sleep(0.4)
        desk.energy(meter("000000000001"), name="in hand")
        desk.energy(meter("000000000002"), name="waiting")
        await asyncio.sleep(0.01)
        desk.bus.stop()
        await task
        assert [name for name, _ in desk.ended] == ["in hand"]
        desk.bus.abandon()

    virtual.run(main(), start_ms=START_MS)
    assert desk.outcome("waiting").fault is Fault.MISSED
    assert desk.bus.queued == 0


def test_a_higher_lane_goes_first_and_no_lane_starves() -> None:
    desk = Desk(ScriptedLine(good))

    async def script() -> None:
        for n in range(200):
            desk.energy(meter(f"{n:012d}"), name=f"priority {n}", lane=Lane.PRIORITY)
        for n in range(3):
            desk.energy(meter(f"{n + 500:012d}"), name=f"backfill {n}", lane=Lane.BACKFILL)
        desk.energy(meter("000000000900"), name="control", lane=Lane.CONTROL)

    serve(desk, script)
    order = [name for name, _ in desk.ended]
    assert order[0] == "control"
    turns = [order.index(f"backfill {n}") for n in range(3)]
    assert turns == [16, 33, 50]  # every 17th turn, though 200 better jobs waited


def test_within_a_lane_the_earliest_deadline_goes_first() -> None:
    desk = Desk(ScriptedLine(good))

    async def script() -> None:
        for within_s in (50, 10, 30):
            desk.energy(meter(f"{within_s:012d}"), name=str(within_s), within_s=within_s)

    serve(desk, script)
    assert [name for name, _ in desk.ended] == ["10", "30", "50"]


def test_nothing_else_is_asked_of_a_meter_between_follow_up_frames() -> None:
    def answer(data: bytes, n: int) -> Said:
        frame = data.lstrip(b"\xfe")
        address, control = frame[1:7][::-1].hex(), frame[8]
        plain = bytes((byte - 0x33) & 0xFF for byte in frame[10:-2])
        if address != "000000000001" or plain[:4] != bytes.fromhex("00000100")[::-1]:
            return good(data, n)
        if control == 0x11:
            said = Frame(address=address, control=0xB1, data=plain[:4] + b"\x01\x02").encode()
        else:
            said = Frame(address=address, control=0x92, data=plain[:4] + b"\x03\x04" + plain[4:]).encode()
        return [(TURNAROUND_S, said)]

    desk = Desk(ScriptedLine(answer))
    one, other = meter("000000000001"), meter("000000000002")

    async def script() -> None:
        desk.energy(one, "00000100", name="long", lane=Lane.BACKFILL)
        await asyncio.sleep(0.32)
        desk.energy(one, name="same meter", lane=Lane.CONTROL)
        desk.energy(other, name="other meter", lane=Lane.CONTROL)

    serve(desk, script)
    asked = [data.lstrip(b"\xfe") for _, data in desk.line.asked]
    assert [(frame[1], frame[8]) for frame in asked] == [(1, 0x11), (2, 0x11), (1, 0x12), (1, 0x11)]
    assert len(desk.ended) == 3


def test_a_job_whose_turn_never_came_is_missed() -> None:
    desk = Desk(ScriptedLine(good))

    async def script() -> None:
        for n in range(30):
            desk.energy(meter(f"{n:012d}"), name=str(n), within_s=1.0)

    serve(desk, script)
    assert len(desk.ended) == 30
    late = [outcome for _, outcome in desk.ended if outcome.fault is not None]
    assert late and all(outcome.fault is Fault.MISSED for outcome in late)


def test_a_job_cut_by_its_deadline_keeps_what_was_answered() -> None:
    desk = Desk(ScriptedLine(lambda data, n: [(0.4, good(data, n)[0][1])]))  # type: ignore[index]

    async def script() -> None:
        desk.energy(meter(), "00010000", "00020000", "00030000", "00040000", name="a", within_s=1.5)

    serve(desk, script)
    values = desk.outcome("a").values
    assert values is not None
    faults = [value.fault for value in values]
    assert faults[:2] == [None, None]
    assert faults[-1] is Fault.MISSED


def test_a_lost_port_is_opened_again_and_the_job_is_answered() -> None:
    line = ScriptedLine(good)
    desk = Desk(line)

    async def script() -> None:
        desk.energy(meter("000000000001"), name="before")
        await asyncio.sleep(0.32)
        line.tear()
        await asyncio.sleep(0.1)
        desk.energy(meter("000000000002"), name="after")

    serve(desk, script)
    assert desk.plain("before") == desk.plain("after") == ["12.34"]
    assert desk.bus.port.counters.opened == 2


def test_a_port_that_cannot_be_opened_is_tried_with_growing_pauses_and_jobs_end_with_fault_bus() -> None:
    tried: list[float] = []

    async def refuse(bus: object) -> ScriptedLine:
        tried.append(asyncio.get_running_loop().time())
        raise PortLost("no such device")

    desk = Desk(ScriptedLine(good), open_line=refuse)

    async def script() -> None:
        desk.energy(meter(), name="a", within_s=10)

    serve(desk, script, for_s=200)
    assert desk.outcome("a").fault is Fault.BUS
    assert desk.outcome("a").detail == "no such device"
    assert desk.at["a"] == pytest.approx(10, abs=0.1)
    pauses = [b - a for a, b in pairwise(tried)]
    assert pauses[0] < 1.3 and 20 < pauses[-1] < 37
    assert len(tried) < 15


@pytest.mark.parametrize(("answers", "at_least", "at_most"), [(True, 30, 35), (False, 8, 12)])
def test_a_port_that_is_lost_time_and_again_is_opened_soon_only_if_anything_was_heard(
    answers: bool, at_least: int, at_most: int
) -> None:
    line = ScriptedLine(good if answers else lambda data, n: [])
    desk = Desk(line)

    async def script() -> None:
        for n in range(200):
            desk.energy(meter("000000000001"), name=f"{n}", within_s=5)
            await asyncio.sleep(1)
            if desk.bus.port.is_open and n % 6 == 5:
                line.tear()

    serve(desk, script, for_s=210)
    assert at_least <= desk.bus.port.counters.opened <= at_most


class Kept:
    def __init__(self) -> None:
        self.notes: list[dict[str, Any]] = []

    def note(self, **what: Any) -> None:
        self.notes.append(what)


def test_a_defect_of_ours_is_kept_as_evidence_and_the_bus_goes_on() -> None:
    def broken() -> Dialogue[Frame]:
        answer = yield from ask()
        raise ZeroDivisionError(f"{answer}")

    def ask() -> Any:
        return (yield next(v2007.read("000000000001", ["00010000"])))

    kept = Kept()
    desk = Desk(ScriptedLine(good), evidence=kept)
    odd = meter("000000000001")

    async def script() -> None:
        desk.ask(odd, broken, name="odd")
        desk.energy(meter("000000000002"), name="other")
        await asyncio.sleep(1)
        desk.energy(odd, name="odd again", within_s=30)
        desk.energy(odd, name="odd later", within_s=90)

    serve(desk, script)
    assert desk.outcome("odd").fault is Fault.INTERNAL
    assert desk.plain("other") == ["12.34"]
    assert desk.outcome("odd again").fault is Fault.INTERNAL  # it is left alone for a minute
    assert desk.plain("odd later") == ["12.34"]
    assert desk.bus.counters.defects == 1
    assert desk.bus.counters.failed_internal == 2
    (note,) = kept.notes
    assert note["seen"] == energy() and "ZeroDivisionError" in note["reason"]


def test_a_dialogue_that_cannot_even_begin_ends_its_job() -> None:
    def broken() -> Dialogue[Frame]:
        raise ValueError("no such plan")

    desk = Desk(ScriptedLine(good))

    async def script() -> None:
        desk.ask(meter("000000000001"), broken, name="odd")
        desk.energy(meter("000000000002"), name="other")

    serve(desk, script)
    assert desk.outcome("odd").fault is Fault.INTERNAL
    assert desk.plain("other") == ["12.34"]


def test_an_error_of_whoever_takes_the_outcome_ends_the_task() -> None:
    def done(outcome: Outcome) -> None:
        raise OSError("the store is gone")

    bus = Bus(BUS, open_line=opener(ScriptedLine(good)), now_ms=virtual.now_ms)

    async def main() -> None:
        one = meter()
        bus.submit(Job(meter=one, dialogue=lambda: v2007.read(one.entry.address, ["00010000"]), lane=Lane.CURVE,
                       deadline=FOREVER, done=done))  # fmt: skip
        with pytest.raises(OSError, match="the store is gone"):
            await bus.run()

    virtual.run(main(), start_ms=START_MS)


def test_one_job_too_many_is_refused_as_missed() -> None:
    desk = Desk(ScriptedLine(good))

    async def main() -> None:
        one = meter()
        for n in range(QUEUE_MAX + 1):
            desk.energy(one, name=str(n))

    virtual.run(main(), start_ms=START_MS)
    assert [(name, outcome.fault) for name, outcome in desk.ended] == [(str(QUEUE_MAX), Fault.MISSED)]
    assert desk.bus.counters.refused == 1


def test_a_short_read_whose_values_would_drift_apart_starts_over() -> None:
    desk = Desk(ScriptedLine(lambda data, n: [] if n == 1 else good(data, n)))
    one = meter(late_max_ms=3000)

    async def script() -> None:
        desk.energy(one, "00010000", "00020000", name="a")

    serve(desk, script)
    asked = [data[-6:-2].hex() for _, data in desk.line.asked]
    assert asked == ["33333433", "33333533", "33333433", "33333533"]
    assert desk.plain("a") == ["12.34", "12.34"]
    outcome = desk.outcome("a")
    assert outcome.read_at is not None and outcome.started_at is not None
    assert outcome.read_at - outcome.started_at < 2000
    assert desk.bus.counters.restarts == 1
