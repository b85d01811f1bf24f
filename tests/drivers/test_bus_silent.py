"""Silent meters: what they cost the others, and how soon one that comes back is found."""

import asyncio

import pytest

from drivers.bus import Lane
from drivers.run import INTERNAL_S_FIRST
from drivers.silent import PROBE_EVERY_S, SHARE_MAX
from protocols.capture import Fault
from protocols.dialogue import Dialogue
from protocols.dlt645 import v2007
from protocols.dlt645.frame import Frame
from tests.desk import Desk, good, serve
from tests.script import Said, ScriptedLine, meter

LIVE = "000000000999"


class Site:
    """Meters by number of which some are dead; each question and its time is noted by meter."""

    def __init__(self, dead: int) -> None:
        self.dead = set(range(dead))
        self.asked: list[tuple[int, float, bool]] = []
        self.line = ScriptedLine(self._answer)
        self.desk = Desk(self.line)
        self.first_asked = asyncio.Event()
        self.meters = [meter(f"{n:012d}") for n in range(dead)]

    def _answer(self, data: bytes, n: int) -> Said:
        number = int(data.lstrip(b"\xfe")[1:7][::-1].hex())
        alive = number not in self.dead
        if number == 0:
            self.first_asked.set()
        self.asked.append((number, asyncio.get_running_loop().time(), alive))
        return good(data, n) if alive else []

    async def feed(self, seconds: float, *, lane: Lane = Lane.CURVE) -> None:
        """Keep two live meters asked without a pause for so long."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        live = [meter(LIVE), meter("000000000998")]
        n = 0
        while loop.time() < end:
            while self.desk.bus.queued < len(self.dead) + 4:
                self.desk.energy(live[n % 2], name=f"live {n}", lane=lane)
                n += 1
            await asyncio.sleep(0.2)

    def submit(self, *, within_s: float) -> None:
        for one in self.meters:
            self.desk.energy(one, name=one.id, within_s=within_s)

    def of(self, number: int) -> list[float]:
        return [at for asked, at, _ in self.asked if asked == number]


@pytest.mark.parametrize("dead", [1, 12])
def test_silent_meters_take_at_most_a_tenth_of_the_bus_while_live_ones_have_work(dead: int) -> None:
    site = Site(dead)

    async def script() -> None:
        site.submit(within_s=1000)
        await site.feed(30.0 + 8 * dead)  # until all of them are known to be silent
        site.asked.clear()
        began = asyncio.get_running_loop().time()
        await site.feed(600.0)
        ended = asyncio.get_running_loop().time()
        gap_s = site.meters[0].gap_s
        ends = [at for _, at, _ in site.asked[1:]] + [ended]
        probing = sum(end - at - gap_s for (_, at, alive), end in zip(site.asked, ends, strict=True) if not alive)
        assert 0 < probing <= SHARE_MAX * (ended - began) + 1.0

    serve(site.desk, script, for_s=0)


@pytest.mark.parametrize(("dead", "busy"), [(1, True), (12, True), (30, True), (12, False), (30, False)])
def test_a_meter_that_comes_back_is_found_in_time_and_all_others_are_asked_then(dead: int, busy: bool) -> None:
    site = Site(dead)
    probe_s = site.meters[0].timeout_s(next(v2007.read(LIVE, ["00010000"]))) + site.meters[0].gap_s
    bound_s = max(60.0, 10 * dead * probe_s)

    async def script() -> None:
        site.submit(within_s=50_000)
        await site.feed(60.0 + 8 * dead)
        feeding = asyncio.ensure_future(site.feed(1.2 * bound_s if busy else 0.0))
        site.first_asked.clear()
        await site.first_asked.wait()  # it comes back just after it was asked in vain: the worst moment
        site.dead.discard(0)
        back_at = asyncio.get_running_loop().time()
        await asyncio.sleep(1.1 * bound_s)
        await feeding
        found_at = next(at for number, at, alive in site.asked if number == 0 and alive)
        assert found_at - back_at <= bound_s
        for n in range(1, dead):
            soonest = min(at for at in site.of(n) if at > found_at)
            assert soonest - found_at <= 3 * dead * probe_s

    serve(site.desk, script, for_s=30)
    assert site.desk.bus.counters.came_back == 1


def test_a_silent_meter_is_asked_once_a_probe_and_its_jobs_end_silent_at_their_deadline() -> None:
    site = Site(1)

    async def script() -> None:
        one = site.meters[0]
        site.desk.energy(one, name="first", within_s=900)
        await asyncio.sleep(10)
        assert site.desk.bus.silent == (one.id,)
        assert len(site.of(0)) == one.attempts
        site.desk.energy(one, name="second", within_s=100)
        await asyncio.sleep(2 * PROBE_EVERY_S)
        assert len(site.of(0)) == one.attempts + 2

    serve(site.desk, script)
    (value,) = site.desk.outcome("first").values or ()
    assert value.fault is Fault.SILENT
    assert site.desk.outcome("second").fault is Fault.SILENT


def test_a_job_that_waits_for_a_silent_meter_is_answered_when_it_comes_back() -> None:
    site = Site(1)

    async def script() -> None:
        one = site.meters[0]
        site.desk.energy(one, name="first")
        await asyncio.sleep(10)
        site.desk.energy(one, "00010000", "00020000", name="second", within_s=900)
        assert site.desk.bus.idle()
        await asyncio.sleep(5)
        site.dead.clear()

    serve(site.desk, script)
    assert site.desk.plain("second") == ["12.34", "12.34"]
    assert site.desk.bus.silent == ()


def test_a_meter_that_answers_one_question_and_not_another_is_not_silent() -> None:
    desk = Desk(ScriptedLine(lambda data, n: [] if n < 3 else good(data, n)))

    async def script() -> None:
        desk.energy(meter(), "00010000", "00020000", name="a")

    serve(desk, script)
    assert desk.plain("a") == [None, "12.34"]
    assert desk.bus.silent == ()


def test_a_dead_meter_with_a_long_job_costs_its_attempts_and_one_question_more() -> None:
    site = Site(1)

    async def script() -> None:
        site.desk.energy(site.meters[0], *[f"00{n:02X}0000" for n in range(1, 9)], name="long")
        await asyncio.sleep(20)
        assert len(site.of(0)) == site.meters[0].attempts + 1

    serve(site.desk, script, for_s=0)
    values = site.desk.outcome("long").values or ()
    assert [value.fault for value in values] == [Fault.SILENT] * 8


def test_a_bus_of_only_silent_meters_sleeps_between_probes() -> None:
    site = Site(30)

    async def script() -> None:
        site.submit(within_s=10_000)
        await asyncio.sleep(200)
        site.asked.clear()
        await asyncio.sleep(2000)
        assert 30 * 4 <= len(site.asked) <= 30 * 2000 / PROBE_EVERY_S

    serve(site.desk, script, for_s=0)


def test_a_silent_meter_is_found_while_all_that_waits_is_of_one_that_is_left_alone() -> None:
    site = Site(1)

    def odd() -> Dialogue[Frame]:
        yield next(v2007.read(LIVE, ["00010000"]))
        raise ZeroDivisionError

    async def script() -> None:
        site.submit(within_s=5000)
        await asyncio.sleep(20)
        alone_s = INTERNAL_S_FIRST
        for n in range(4):  # of a defect of ours, longer each time
            site.desk.ask(meter(LIVE), odd, name=f"odd {n}")
            await asyncio.sleep(alone_s + 1.0)
            alone_s *= 2
        site.desk.ask(meter(LIVE), odd, name="odd again")
        await asyncio.sleep(1.0)
        site.desk.energy(meter(LIVE), name="left alone", within_s=5000)
        await asyncio.sleep(2 * PROBE_EVERY_S)
        assert site.desk.bus.silent and site.desk.outcome("odd again").fault is Fault.INTERNAL
        assert site.desk.bus.idle(), "nothing that waits can be served soon"
        site.dead.clear()
        await asyncio.sleep(60.0)
        assert not site.desk.bus.silent and "left alone" not in dict(site.desk.ended)

    serve(site.desk, script, for_s=0)


def test_what_a_meter_began_before_it_fell_silent_is_begun_anew_when_it_is_back() -> None:
    dead = [False]

    def answer(question: bytes, n: int) -> Said:
        return [] if dead[0] else good(question, n)

    desk, one = Desk(ScriptedLine(answer)), meter(attempts=1)

    async def script() -> None:
        desk.energy(one, "00010000", "00020000", "00030000", name="three", within_s=900)
        await asyncio.sleep(0.36)  # the first is answered
        dead[0] = True
        desk.energy(one, name="now", lane=Lane.READ_NOW)
        await asyncio.sleep(10)
        assert desk.bus.silent == (one.id,) and desk.bus.idle()
        desk.energy(meter(LIVE), name="other", within_s=900)
        assert not desk.bus.idle()
        dead[0] = False

    serve(desk, script)
    assert desk.plain("three") == ["12.34"] * 3
    outcome = desk.outcome("three")
    assert outcome.started_at is not None and outcome.read_at is not None
    assert outcome.read_at - outcome.started_at < 1000
