"""A meter that answers later than its profile says is found out, and left alone for as long as it takes."""

import asyncio
from collections import Counter
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from drivers import late
from drivers.bus import Bus
from drivers.habits import DAYS_MAX, IN_TIME_MAX, LATE_MS_MAX, Habits
from drivers.meter import Meter
from drivers.run import Standing
from gateway.learned import DAY_MS, Learned
from protocols.capture import Quality
from protocols.dialogue import Ask
from simulators import virtual
from tests.desk import START_MS, Desk, serve
from tests.drivers.test_learned import Book
from tests.script import BUS, Said, ScriptedLine, energy, meter, registers

LATE_S = 1.4
"""How long after each question the late meter answers."""
QUICK_S = 0.02
TIMES: dict[str, Any] = {"turnaround_ms_max": 300, "late_max_ms": 600, "attempts": 2}
ADDRESSES = (10, 20, 30, 40)
FOR_S = 120.0


class TwoMeters:
    """A bus with unit 1, which is late, and unit 2, which is quick; each register holds the number of its place. Both
    are asked all the time, for one item of the same size after the other."""

    def __init__(self, *, late_s: float = LATE_S, others: bool = True, sometimes: int = 1) -> None:
        self.late_s = late_s
        self.sometimes = sometimes
        self.line = ScriptedLine(self._answer)
        self.desk = Desk(self.line)
        self.slow = meter("1", "modbus-rtu", **TIMES)
        self.quick = meter("2", "modbus-rtu", **TIMES)
        self.meters = [self.slow, self.quick] if others else [self.quick]
        self.reads: Counter[str] = Counter()
        """Good values, by meter."""
        self.wrong_at: list[float] = []
        """When a wrong value was given as good (loop time)."""
        self.known_at: float | None = None
        """When it was first known that the slow meter is late."""

    def _answer(self, question: bytes, n: int) -> Said:
        unit, address = question[0], int.from_bytes(question[2:4], "big")
        is_late = unit == 1 and n % self.sometimes == 0
        return [(self.late_s if is_late else QUICK_S, registers(unit, 0, address))]

    def run(self) -> "TwoMeters":
        """Ask for FOR_S."""
        serve(self.desk, self._script, for_s=0.0)
        return self

    async def _script(self) -> None:
        loop = asyncio.get_running_loop()
        asked: list[tuple[Meter, int, str]] = []
        for n in count():
            for one in self.meters:
                asked.append((one, ADDRESSES[n % len(ADDRESSES)], f"{one.id} {n}"))
                self.desk.registers(*asked[-1][:2], name=asked[-1][2], within_s=20.0)
            for _ in range(5):
                await asyncio.sleep(0.05)
                if self.known_at is None and self.slow.habits.late is not None:
                    self.known_at = loop.time()
            if loop.time() > FOR_S:
                break
        outcomes = dict(self.desk.ended)
        for one, address, name in asked:
            for value in (outcomes[name].values or ()) if name in outcomes else ():
                if value.number is not None and value.quality is Quality.GOOD:
                    self.reads[one.id] += 1
                    if value.number != address:
                        self.wrong_at.append(self.desk.at[name])


def never(self: late.Latecomers, *args: object) -> None:
    """Nobody remembers what a meter owes."""


@pytest.mark.parametrize("late_s", [1.1, 1.2, LATE_S, 2.0, 4.0])
@pytest.mark.parametrize("sometimes", [1, 2, 3, 5, 7])
def test_a_meter_that_is_later_than_its_profile_says_gives_no_wrong_value_once_it_is_known(
    late_s: float, sometimes: int
) -> None:
    two = TwoMeters(late_s=late_s, sometimes=sometimes)
    profile_s = two.slow.late_s
    two.run()
    assert two.known_at is not None
    assert [at for at in two.wrong_at if at > two.known_at] == []
    assert two.slow.late_s > profile_s and two.slow.late_s + two.slow.turnaround_s > late_s
    assert two.quick.habits.late is None


@pytest.mark.parametrize(("late_s", "sometimes"), [(1.2, 1), (1.2, 5), (LATE_S, 5), (2.0, 5)])
def test_without_learning_it_gives_wrong_values_all_the_time(
    late_s: float, sometimes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(late.Latecomers, "owes", never)
    two = TwoMeters(late_s=late_s, sometimes=sometimes).run()
    assert two.known_at is None
    assert max(two.wrong_at) > 90


def test_nobody_else_waits_for_it() -> None:
    alone, two = TwoMeters(others=False).run(), TwoMeters().run()
    assert two.reads[two.quick.id] >= 0.98 * alone.reads[alone.quick.id]
    assert two.quick.late_s == alone.quick.late_s


def test_a_meter_of_dlt645_is_found_out_by_the_item_that_it_names() -> None:
    def answer(question: bytes, n: int) -> Said:
        asked = question.lstrip(b"\xfe")
        di = bytes((byte - 0x33) & 0xFF for byte in asked[10:14])[::-1].hex()
        return [(LATE_S, energy(di=di))]

    desk = Desk(ScriptedLine(answer))
    one = meter(**TIMES)

    async def script() -> None:
        desk.energy(one, "00010000", name="a")
        desk.energy(one, "00020000", name="b")

    serve(desk, script, for_s=20.0)
    assert one.habits.late is not None
    assert one.late_s + one.turnaround_s > LATE_S


def test_answers_within_the_window_of_the_profile_teach_nothing_and_neither_do_doubles_and_nonsense() -> None:
    def answer(question: bytes, n: int) -> Said:
        whole = registers(1, 0, int.from_bytes(question[2:4], "big"))
        match n % 5:
            case 0:
                return [(0.7, whole)]
            case 2:
                return [(QUICK_S, whole), (0.2, whole)]
            case 3:
                return [(QUICK_S, whole[:-1] + b"\0"), (0.9, bytes(range(40)))]
            case _:
                return [(QUICK_S, whole)]

    desk = Desk(ScriptedLine(answer))
    one = meter("1", "modbus-rtu", **TIMES)

    async def script() -> None:
        for n in range(400):
            desk.registers(one, ADDRESSES[n % len(ADDRESSES)], name=str(n), within_s=30.0)
            await asyncio.sleep(0.4)

    serve(desk, script, for_s=30.0)
    assert sum(outcome.values is not None for _, outcome in desk.ended) > 100
    assert one.habits.late is None


@pytest.mark.parametrize("after_s", [0.3, 0.8, 1.1, 1.5])
def test_a_read_that_was_cancelled_at_once_owes_its_answer_for_the_time_out_and_the_late_window(after_s: float) -> None:
    one = meter("1", "modbus-rtu", turnaround_ms_max=1000, late_max_ms=600, attempts=1)

    def answer(question: bytes, n: int) -> Said:
        return [(after_s if n == 0 else QUICK_S, registers(1, 0, int.from_bytes(question[2:4], "big")))]

    desk = Desk(ScriptedLine(answer))

    async def cancelled() -> None:
        task = asyncio.ensure_future(desk.bus.run())
        desk.registers(one, 10, name="a", within_s=0.9)
        await asyncio.sleep(0.33)
        task.cancel()
        await asyncio.wait({task})
        desk.registers(one, 20, name="b")
        rest = asyncio.ensure_future(desk.bus.run())
        await asyncio.sleep(10.0)
        desk.bus.stop()
        await rest

    virtual.run(cancelled(), start_ms=START_MS)
    assert len(desk.line.asked) == 2
    assert desk.plain("b") == ["20"]


def test_what_was_learned_is_bounded_dated_and_forgotten_on_evidence_or_after_a_month() -> None:
    habits = Habits()
    habits.today = 20_000
    assert not habits.was_late(600, profile_ms=600) and habits.late is None
    assert habits.was_late(800, profile_ms=600) and habits.late == (1100, 20_000)
    habits.today += 3
    assert not habits.was_late(700, profile_ms=600) and habits.late == (1100, 20_003)
    assert habits.was_late(60_000, profile_ms=600) and habits.late == (LATE_MS_MAX, 20_003)
    for _ in range(IN_TIME_MAX):
        habits.answers_again()
    assert habits.late is not None
    assert not habits.was_late(601, profile_ms=600)
    for _ in range(IN_TIME_MAX):
        habits.answers_again()
    assert habits.late is not None
    habits.answers_again()
    assert habits.late is None
    habits.was_late(800, profile_ms=600)
    habits.today += DAYS_MAX
    habits.forget()
    assert habits.late is not None
    habits.today += 1
    habits.forget()
    assert habits.late is None


def test_a_clock_that_is_set_does_not_narrow_a_window_and_time_that_passes_does() -> None:
    habits = Habits()
    habits.today = 20_000
    habits.forget()
    habits.was_late(800, profile_ms=600)
    for today in (20_365, 20_000, 0, 20_366, 20_335, 20_336):  # years forth and back, a battery that died, a month
        habits.today = today
        habits.forget()
        assert habits.late == (1100, today - (today == 20_336))
    for _ in range(DAYS_MAX - 1):
        habits.today += 1
        habits.forget()
        assert habits.late == (1100, 20_335)
    habits.today += 1
    habits.forget()
    assert habits.late is None


def test_a_gateway_that_wakes_without_the_time_of_day_keeps_its_windows() -> None:
    """It has no clock that runs on without power: it begins in 1970, and is set when it hears the time."""
    before, after, book = meter("1", "modbus-rtu"), meter("1", "modbus-rtu"), Book()
    day = 20_000
    learned = Learned(book, {before.id: before}, now_ms=lambda: day * DAY_MS)
    assert before.was_late(2.0)
    asyncio.run(learned.keep())
    day = 0
    learned = Learned(book, {after.id: after}, now_ms=lambda: day * DAY_MS)
    asyncio.run(learned.keep())
    day = 20_001
    asyncio.run(learned.keep())
    assert after.late_s == before.late_s > meter("1", "modbus-rtu").late_s


def test_the_window_is_never_narrower_than_the_profile_says() -> None:
    one = meter("1", "modbus-rtu", turnaround_ms_max=1000, late_max_ms=1500)
    for _ in range(1000):
        one.unanswered()
        one.answered(0.02)
    assert one.late_s + one.turnaround_s >= 2.5


def test_a_defect_of_ours_in_looking_for_late_answers_ends_neither_the_bus_nor_the_reading() -> None:
    def broken(frame: object) -> bool:
        raise RuntimeError("a defect")

    two = TwoMeters(sometimes=2)
    owes = late.Latecomers.owes

    def owes_badly(self: late.Latecomers, standing: Standing, ask: Ask[Any], began: float) -> None:
        owes(self, standing, replace(ask, accepts=broken), began)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(late.Latecomers, "owes", owes_badly)
        two.run()
    assert two.reads[two.quick.id] > 400
    assert two.desk.bus.counters.defects == 0


def after_a_restart(late_s: float, *, restarted: bool) -> list[str | None]:
    """What a register of 100 is said to hold by a gateway that was killed with a question for another on its way."""

    def answer(question: bytes, n: int) -> Said:
        return [(late_s if n == 0 else QUICK_S, registers(1, 0, int.from_bytes(question[2:4], "big")))]

    line = ScriptedLine(answer)
    times: dict[str, Any] = {"turnaround_ms_max": 1000, "late_max_ms": 1500}

    async def killed() -> list[str | None]:
        before = Desk(line)
        task = asyncio.ensure_future(before.bus.run())
        before.registers(meter("1", "modbus-rtu", **times), 7, name="before")
        await asyncio.sleep(0.35)
        task.cancel()
        await asyncio.wait({task})
        again = Desk(line)
        again.bus = Bus(BUS, open_line=line.open, now_ms=virtual.now_ms, restarted=restarted)
        task = asyncio.ensure_future(again.bus.run())
        await asyncio.sleep(0.1 if late_s < 1 else 0.4)  # known before or after the port is open
        again.registers(meter("1", "modbus-rtu", **times), 100, name="after")
        await asyncio.sleep(10.0)
        again.bus.stop()
        await task
        return again.plain("after")

    return virtual.run(killed(), start_ms=START_MS)


@pytest.mark.parametrize("late_s", [0.36, 0.5, 1.0, 1.5, 2.0, 2.3])
def test_the_answer_to_a_question_of_a_gateway_that_was_killed_answers_nothing_of_the_next(late_s: float) -> None:
    assert after_a_restart(late_s, restarted=True) == ["100"]


def test_without_waiting_for_it_it_would() -> None:
    assert after_a_restart(0.36, restarted=False) == ["7"]


@pytest.mark.parametrize("known_at", [0.0, 1.0])
def test_after_a_restart_a_meter_whose_answers_name_nothing_is_left_alone_whenever_it_is_first_known(
    known_at: float,
) -> None:
    desk = Desk(ScriptedLine(lambda question, n: [(QUICK_S, registers(1, 0, 100))]))
    desk.bus = Bus(BUS, open_line=desk.line.open, now_ms=virtual.now_ms, restarted=True)
    one = meter("1", "modbus-rtu", turnaround_ms_max=1000, late_max_ms=1500)

    async def script() -> None:
        await asyncio.sleep(known_at)
        desk.registers(one, 100, name="first")

    serve(desk, script, for_s=10.0)
    ((at, _),) = desk.line.asked
    assert at == pytest.approx(2.5, abs=0.05)


def test_on_a_line_that_is_never_idle_a_late_meter_is_found_out_by_what_comes_in_place_of_others_answers() -> None:
    def answer(question: bytes, n: int) -> Said:
        unit, address = question[0], int.from_bytes(question[2:4], "big")
        return [(LATE_S if unit == 1 else 0.25, registers(unit, 0, address))]

    desk = Desk(ScriptedLine(answer))
    slow, other = (meter(unit, "modbus-rtu", **TIMES) for unit in "12")

    async def script() -> None:
        for n in range(200):
            desk.registers(other, ADDRESSES[n % 4], name=f"other {n}")
        desk.registers(slow, 10, name="slow", within_s=20.0)
        await asyncio.sleep(10.0)

    serve(desk, script, for_s=0.0)
    assert slow.habits.late is not None and other.habits.late is None
    told = [desk.plain(name) for name, _ in desk.ended if name.startswith("other")]
    assert len(told) > 10 and {plain for (plain,) in told} <= {str(address) for address in ADDRESSES}
