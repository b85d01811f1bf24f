"""What becomes of a job, its meter and its counts as questions are answered or not: each turn it takes by itself."""

import asyncio
from dataclasses import replace

import pytest

from drivers.bus import Lane
from drivers.run import INTERNAL_S_FIRST
from drivers.silent import PROBE_EVERY_S
from protocols.capture import Fault, Value
from protocols.dialogue import Dialogue
from protocols.dlt645 import v2007
from protocols.dlt645.frame import Frame, parse
from protocols.modbus import commands
from protocols.modbus.frame import Frame as ModbusFrame
from protocols.quantity import by_name
from simulators import virtual
from tests.desk import START_MS, TURNAROUND_S, Desk, good, serve
from tests.script import Said, ScriptedLine, energy, meter, registers

ADDRESS = "000000000001"
DAMAGED = energy()[:-3] + b"\x00\x16"
THREE = ("00010000", "00020000", "00030000")


def dis(desk: Desk) -> list[str]:
    """The items that were asked for."""
    return [parse(data.lstrip(b"\xfe")).data[:4][::-1].hex() for _, data in desk.line.asked]


def test_a_job_that_has_nothing_to_ask_ends_at_once_with_its_values() -> None:
    def nothing() -> Dialogue[Frame]:
        return [Value(quantity=by_name("meter.number"), text="7")]
        yield

    desk = Desk(ScriptedLine(good))

    async def script() -> None:
        await asyncio.sleep(1.0)
        desk.ask(meter(), nothing, name="nothing")
        await asyncio.sleep(0.01)
        assert desk.plain("nothing") == ["7"] and desk.outcome("nothing").read_at is None
        desk.energy(meter(), name="after")

    serve(desk, script)
    assert desk.plain("after") == ["12.34"] and len(desk.line.asked) == 1


def test_a_probe_is_one_question_and_what_it_costs_is_counted() -> None:
    back = [False]
    desk = Desk(ScriptedLine(lambda question, n: good(question, n) if back[0] else []))
    one = meter(attempts=2)

    async def script() -> None:
        counters = desk.bus.counters
        desk.energy(one, *THREE, name="long", within_s=20.0)
        await asyncio.sleep(30.0)
        before = len(desk.line.asked)
        assert (counters.fell_silent, counters.probes, counters.came_back) == (1, 0, 0)
        await asyncio.sleep(2 * PROBE_EVERY_S)
        assert len(desk.line.asked) - before == counters.probes == 2 and desk.bus.queued == 0
        back[0] = True
        await asyncio.sleep(PROBE_EVERY_S)
        assert len(desk.line.asked) - before == 3 and desk.bus.queued == 0
        assert (counters.fell_silent, counters.probes, counters.came_back) == (1, 2, 1)
        await asyncio.sleep(10 * PROBE_EVERY_S)
        assert len(desk.line.asked) - before == 3 and [name for name, _ in desk.ended] == ["long"]
        desk.energy(one, name="back")
        await asyncio.sleep(1.0)
        assert desk.plain("back") == ["12.34"] and counters.defects == 0

    serve(desk, script, for_s=0)


@pytest.mark.parametrize(("bad", "as_learned"), [(b"", False), (DAMAGED, True)])
def test_after_a_silence_the_time_out_is_that_of_the_profile_and_after_damage_it_is_as_learned(
    bad: bytes, as_learned: bool
) -> None:
    desk = Desk(ScriptedLine(lambda question, n: good(question, n) if n < 9 else [(TURNAROUND_S, bad)] if bad else []))
    one = meter(turnaround_ms_max=2000)
    ask = next(v2007.read(ADDRESS, ["00010000"]))

    async def script() -> None:
        at_first = one.timeout_s(ask)
        for n in range(9):
            desk.energy(one, name=str(n))
        await asyncio.sleep(5.0)
        learned = one.timeout_s(ask)
        assert learned < at_first - 1.0
        desk.energy(one, name="bad")
        await asyncio.sleep(2.5)
        assert one.timeout_s(ask) == pytest.approx(learned if as_learned else at_first)

    serve(desk, script, for_s=30.0)


def odd(address: str) -> Dialogue[Frame]:
    """A defect of ours shows on what the meter answers."""
    yield next(v2007.read(address, ["00010000"]))
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("between", "factor"), [(["an answer"], 1), (["an answer", "a silence"], 1), (["a silence"], 2)]
)
def test_a_meter_is_left_alone_for_longer_at_each_defect_until_one_of_its_answers_is_read(
    between: list[str], factor: int
) -> None:
    told = ["an answer", *between]
    desk = Desk(ScriptedLine(lambda question, n: [] if told[n:] and told[n] == "a silence" else good(question, n)))
    one = meter(attempts=1)

    async def script() -> None:
        desk.ask(one, lambda: odd(ADDRESS), name="odd")
        await asyncio.sleep(INTERNAL_S_FIRST + 1.0)
        desk.energy(one, *THREE[: len(between)], name="between")
        await asyncio.sleep(5.0)
        desk.ask(one, lambda: odd(ADDRESS), name="odd again", lane=Lane.READ_NOW)
        await asyncio.sleep(1.0)
        desk.energy(one, name="after")
        await asyncio.sleep(200.0)
        assert desk.at["after"] - desk.at["odd again"] == pytest.approx(factor * INTERNAL_S_FIRST, abs=1.0)

    serve(desk, script, for_s=0)


class Kept:
    """Evidence."""

    def __init__(self) -> None:
        self.notes: list[tuple[bytes, bytes]] = []
        """What was sent, and what came."""

    def note(self, *, bus: str, meter: str, at: int, reason: str, sent: bytes, seen: bytes) -> None:
        self.notes.append((sent, seen))


def test_damage_and_defects_are_kept_with_the_question_that_was_asked_where_one_was() -> None:
    def broken() -> Dialogue[Frame]:
        raise ValueError("no such plan")

    kept = Kept()
    desk = Desk(
        ScriptedLine(lambda question, n: [(TURNAROUND_S, DAMAGED)] if n == 0 else good(question, n)), evidence=kept
    )
    one = meter(attempts=1)

    async def script() -> None:
        desk.energy(one, name="damaged")
        await asyncio.sleep(5.0)
        desk.ask(one, lambda: odd(ADDRESS), name="odd")
        await asyncio.sleep(5.0)
        desk.ask(meter("000000000002"), broken, name="broken")

    serve(desk, script)
    (_, first), (_, second) = desk.line.asked
    assert [sent for sent, _ in kept.notes] == [first, second, b""]
    assert [seen for _, seen in kept.notes][:2] == [DAMAGED, energy()]


def test_a_defect_that_shows_as_a_job_is_cut_ends_it_once_and_no_other() -> None:
    def fragile() -> Dialogue[Frame]:
        yield next(v2007.read(ADDRESS, ["00010000"]))
        answer = yield next(v2007.read(ADDRESS, ["00020000"]))
        raise ZeroDivisionError(f"{answer}")

    desk = Desk(ScriptedLine(lambda question, n: good(question, n) if n == 0 else []))

    async def script() -> None:
        one = meter(attempts=2, turnaround_ms_max=300, late_max_ms=900)
        desk.ask(one, fragile, name="fragile", within_s=1.2)  # in the late window of its second question
        desk.energy(meter("000000000002"), name="other", within_s=1.2)

    serve(desk, script)
    assert sorted(name for name, _ in desk.ended) == ["fragile", "other"]
    assert desk.outcome("fragile").fault is Fault.INTERNAL and desk.bus.counters.defects == 1


def test_a_defect_in_looking_at_what_came_is_that_of_its_meter_alone() -> None:
    def broken(frame: object) -> bool:
        raise ZeroDivisionError

    def odd_ask() -> Dialogue[Frame]:
        yield replace(next(v2007.read(ADDRESS, ["00010000"])), accepts=broken)
        return []

    kept = Kept()
    desk, one = Desk(ScriptedLine(good), evidence=kept), meter()

    async def script() -> None:
        desk.ask(one, odd_ask, name="odd")
        desk.energy(meter("000000000002"), name="other")
        await asyncio.sleep(1.0)
        assert desk.outcome("odd").fault is Fault.INTERNAL and desk.plain("other") == ["12.34"]
        desk.energy(one, name="now", lane=Lane.READ_NOW)
        desk.energy(one, name="after")

    serve(desk, script)
    asked_now = [at for at, data in desk.line.asked if parse(data.lstrip(b"\xfe")).address == ADDRESS][1]
    assert asked_now - desk.at["odd"] >= one.late_s, "what it was asked had no certain end"
    assert desk.at["after"] - desk.at["odd"] == pytest.approx(INTERNAL_S_FIRST, abs=1.0)
    assert desk.plain("after") == ["12.34"] and len(kept.notes) == desk.bus.counters.defects == 1


def test_a_write_that_waited_for_the_line_to_fall_quiet_when_the_port_was_lost_is_sent_once_it_is_open() -> None:
    told: list[object] = []

    def setting() -> Dialogue[ModbusFrame]:
        told.append((yield from commands.write_registers(1, 5, b"\x00\x07")))
        return []

    wrote = ModbusFrame(unit=1, function=16, data=b"\x00\x05\x00\x01").encode()
    line = ScriptedLine(lambda question, n: [(TURNAROUND_S, wrote)])
    desk = Desk(line)

    async def script() -> None:
        await asyncio.sleep(1.0)
        for n in range(100):  # the line babbles, and the port is lost in the midst of it
            line.say(b"\x55")
            if n == 20:
                desk.ask(meter("1", "modbus-rtu"), setting, name="write", lane=Lane.CONTROL)
            if n == 50:
                line.tear()
            await asyncio.sleep(0.002)
        assert not line.asked

    serve(desk, script)
    assert [type(one).__name__ for one in told] == ["Written"] and len(line.asked) == 1
    assert desk.bus.port.counters.opened == 2


def test_a_job_without_any_answer_is_counted_by_its_fault_and_any_other_as_answered() -> None:
    told = {"000000000001": [], "000000000002": [(TURNAROUND_S, DAMAGED)]}
    desk = Desk(ScriptedLine(lambda question, n: told.get(parse(question.lstrip(b"\xfe")).address, good(question, n))))
    ones = [meter(f"{n:012d}", attempts=1) for n in (1, 2, 3)]

    async def script() -> None:
        for one in ones:
            desk.energy(one, name=one.id)

    serve(desk, script)
    counters = desk.bus.counters
    assert (counters.failed_silent, counters.failed_garbled, counters.answered) == (1, 1, 1)


def test_a_read_on_request_of_a_silent_meter_is_asked_once_and_it_does_not_fall_silent_again() -> None:
    desk, one = Desk(ScriptedLine(lambda question, n: [])), meter(attempts=3)

    async def script() -> None:
        desk.energy(one, name="first", within_s=20.0)
        await asyncio.sleep(30.0)
        before = len(desk.line.asked)
        desk.energy(one, name="now", lane=Lane.READ_NOW)
        await asyncio.sleep(5.0)
        assert len(desk.line.asked) - before == 1
        assert [value.fault for value in desk.outcome("now").values or ()] == [Fault.SILENT]
        assert desk.bus.counters.fell_silent == 1

    serve(desk, script, for_s=0)


def test_vain_probes_take_none_of_the_attempts_of_a_job_that_waits_for_its_meter() -> None:
    since_back: list[bytes] = []
    back = [False]

    def answer(question: bytes, n: int) -> Said:
        if not back[0]:
            return []
        since_back.append(question)
        return [(TURNAROUND_S, DAMAGED)] if len(since_back) == 2 else good(question, n)

    desk, one = Desk(ScriptedLine(answer)), meter(attempts=2)

    async def script() -> None:
        desk.energy(one, name="first")
        await asyncio.sleep(20.0)
        desk.energy(one, "00020000", name="waits")
        await asyncio.sleep(4 * PROBE_EVERY_S)
        back[0] = True
        desk.energy(one, name="now", lane=Lane.READ_NOW)

    serve(desk, script)
    assert desk.plain("now") == desk.plain("waits") == ["12.34"] and len(since_back) == 3


@pytest.mark.parametrize(
    ("late_max_ms", "apart_s", "asked"),
    [
        (3000, TURNAROUND_S, [0, 1, 2, 0, 1, 2]),  # waited for the late window, they would be of two moments
        (300, TURNAROUND_S, [0, 1, 2, 2]),
        (3000, 0.9, [0, 1, 2, 2]),  # they are of two already
    ],
)
def test_a_reading_starts_over_only_where_waiting_would_tear_it_into_two_moments(
    late_max_ms: int, apart_s: float, asked: list[int]
) -> None:
    def answer(question: bytes, n: int) -> Said:
        return [] if n == 2 else [(apart_s, said) for _, said in good(question, n)]

    desk = Desk(ScriptedLine(answer))
    one = meter(late_max_ms=late_max_ms, turnaround_ms_max=500 if late_max_ms < 1000 else 1000)

    async def script() -> None:
        await asyncio.sleep(500.0)
        desk.energy(one, *THREE, name="three")

    serve(desk, script)
    assert dis(desk) == [THREE[n] for n in asked] and desk.plain("three") == ["12.34"] * 3


def test_a_reading_starts_over_no_more_often_than_a_question_is_asked() -> None:
    desk = Desk(ScriptedLine(lambda question, n: good(question, n) if b"\x33\x33\x34\x33" in question else []))
    one = meter(late_max_ms=3000, attempts=3)

    async def script() -> None:
        desk.energy(one, "00010000", "00020000", name="two")

    serve(desk, script)
    assert desk.plain("two") == ["12.34", None]
    assert dis(desk) == [*["00010000", "00020000"] * 3, "00020000", "00020000"]
    assert desk.bus.counters.restarts == 2


def chain(question: bytes, n: int) -> Said:
    """Meter 1 gives item 00000100 in four frames, all else is as always."""
    asked = parse(question.lstrip(b"\xfe"))
    if asked.address != ADDRESS or asked.data[:4][::-1].hex() != "00000100":
        return good(question, n)
    if asked.control == 0x11:
        said = Frame(address=ADDRESS, control=0xB1, data=asked.data[:4] + b"\x01\x02")
    else:
        sequence = asked.data[4]
        control = 0xB2 if sequence < 3 else 0x92
        said = Frame(address=ADDRESS, control=control, data=asked.data[:4] + b"\x03\x04" + asked.data[4:])
    return [(TURNAROUND_S, said.encode())]


def test_a_job_that_ends_at_its_deadline_does_not_let_others_between_the_frames_of_an_answer() -> None:
    desk, one = Desk(ScriptedLine(chain)), meter()

    async def script() -> None:
        await asyncio.sleep(1.0)
        desk.energy(one, "00000100", name="long")
        await asyncio.sleep(0.02)
        desk.energy(one, name="short of time", within_s=0.15)
        desk.energy(one, name="now", lane=Lane.READ_NOW)

    serve(desk, script)
    assert desk.outcome("short of time").fault is Fault.MISSED
    assert [parse(data.lstrip(b"\xfe")).control for _, data in desk.line.asked] == [0x11, 0x12, 0x12, 0x12, 0x11]


@pytest.mark.parametrize("lost", ["the port", "a frame"])
def test_an_answer_in_several_frames_that_is_begun_anew_holds_nobody_up_meanwhile(lost: str) -> None:
    def answer(question: bytes, n: int) -> Said:
        if n == 1:
            if lost == "the port":
                asyncio.get_running_loop().call_later(0.05, desk.line.tear)
            return []
        return chain(question, n)

    desk, one = Desk(ScriptedLine(answer)), meter(late_max_ms=3000)

    async def script() -> None:
        await asyncio.sleep(1.0)
        desk.energy(one, "00000100", name="long")
        await asyncio.sleep(0.3)
        desk.energy(one, name="now", lane=Lane.READ_NOW)

    serve(desk, script)
    assert [name for name, _ in desk.ended] == ["now", "long"]


def test_behind_the_last_frame_of_an_answer_others_of_the_meter_may_be_asked_before_the_rest_of_the_reading() -> None:
    desk, one = Desk(ScriptedLine(chain)), meter()

    async def script() -> None:
        await asyncio.sleep(1.0)
        desk.energy(one, "00000100", "00020000", name="two")
        await asyncio.sleep(0.3)
        desk.energy(one, "00030000", name="now", lane=Lane.READ_NOW)

    serve(desk, script)
    assert dis(desk) == [*["00000100"] * 4, "00030000", "00020000"]


async def read_after_a_cut(after_s: float) -> str | None:
    """What a register of 20 is said to hold when the question for another was cut off, and is answered so late."""

    def answer(question: bytes, n: int) -> Said:
        return [(TURNAROUND_S if n else after_s, registers(1, 0, int.from_bytes(question[2:4], "big")))]

    desk = Desk(ScriptedLine(answer))
    one = meter("1", "modbus-rtu", turnaround_ms_max=1000, late_max_ms=600, attempts=1)
    task = asyncio.ensure_future(desk.bus.run())
    desk.registers(one, 10, name="cut", within_s=0.5)
    await asyncio.sleep(0.35)
    task.cancel()
    await asyncio.wait({task})
    desk.registers(one, 20, name="next")
    again = asyncio.ensure_future(desk.bus.run())
    await asyncio.sleep(10.0)
    desk.bus.stop()
    await again
    assert len(desk.line.asked) == 2
    return desk.plain("next")[0]


def test_a_question_that_was_cut_off_may_be_answered_until_its_time_out_and_the_late_window_are_over() -> None:
    told = {virtual.run(read_after_a_cut(0.02 * n), start_ms=START_MS) for n in range(1, 80)}
    assert told == {"20"}
