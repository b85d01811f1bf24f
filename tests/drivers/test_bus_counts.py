"""What a bus says of itself while it works: whether it is idle, what it heard, what it counts and keeps."""

import asyncio

import pytest

from config.model import BusEntry
from drivers.bus import QUEUE_MAX, Bus, BusCounters, Lane
from drivers.errors import ATTEMPTS_MAX, ErrorEstimate
from drivers.line import PortLost
from drivers.meter import Meter
from drivers.port import OPEN_LISTEN_S
from protocols.dlt645 import v2007
from simulators import virtual
from tests.desk import START_MS, TURNAROUND_S, Desk, good, serve
from tests.many import until
from tests.script import BUS, Said, ScriptedLine, energy, meter, registers

DAMAGED = energy()[:-3] + b"\x00\x16"


class Kept:
    """Evidence."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def note(self, *, bus: str, meter: str, at: int, reason: str, sent: bytes, seen: bytes) -> None:
        self.reasons.append(reason)


def test_a_bus_is_not_idle_while_its_last_job_is_in_hand() -> None:
    desk = Desk(ScriptedLine(lambda question, n: [(0.5, said) for _, said in good(question, n)]))
    idle: list[bool] = []

    async def script() -> None:
        await asyncio.sleep(1.0)
        idle.append(desk.bus.idle())
        desk.energy(meter(), name="a")
        for _ in range(3):
            idle.append(desk.bus.idle())
            await asyncio.sleep(0.15)
        assert desk.bus.queued == 0 and not desk.ended
        await asyncio.sleep(0.5)
        idle.append(desk.bus.idle())

    serve(desk, script, for_s=0)
    assert idle == [True, False, False, False, True] and desk.plain("a") == ["12.34"]


def test_silence_is_no_noise_and_no_evidence_and_damage_is_both() -> None:
    for damage in (False, True):
        kept = Kept()
        desk = Desk(ScriptedLine(lambda question, n, damage=damage: [(TURNAROUND_S, DAMAGED)] if damage else []),  # type: ignore[misc]
                    evidence=kept)  # fmt: skip
        one = meter(attempts=3)

        async def script(desk: Desk = desk, one: Meter = one) -> None:
            desk.energy(one, name="a", within_s=30.0)

        serve(desk, script, for_s=20.0)
        assert (desk.bus.errors.per_byte > 0) is damage
        assert kept.reasons == ["garbled"] * (3 if damage else 0)
        assert desk.bus.silent == (() if damage else (one.id,))


def test_a_meter_of_which_only_damage_comes_counts_as_noise_so_many_times_in_a_row_and_no_more() -> None:
    """It may speak another language, and others on its bus are not to be read in pieces for that."""
    desk = Desk(ScriptedLine(lambda question, n: [(TURNAROUND_S, DAMAGED)]))
    one = meter(attempts=1)
    expected = ErrorEstimate()
    for _ in range(ATTEMPTS_MAX):
        expected.damaged(next(v2007.read(one.entry.address, ["00010000"])).reply_max)

    async def script() -> None:
        for n in range(20):
            desk.energy(one, name=str(n))
            await asyncio.sleep(5.0)

    serve(desk, script)
    assert len(desk.line.asked) >= 20 and desk.bus.errors.per_byte == expected.per_byte


def test_what_was_sent_and_what_came_is_kept_with_each_outcome() -> None:
    desk = Desk(ScriptedLine(lambda question, n: [(TURNAROUND_S, DAMAGED)] if n == 0 else good(question, n)))

    async def script() -> None:
        desk.energy(meter(attempts=2), name="a")

    serve(desk, script)
    first, second = (data for _, data in desk.line.asked)
    assert desk.outcome("a").frames == ((first, DAMAGED), (second, energy()))


def test_a_meter_that_is_left_alone_for_an_answer_that_came_twice_is_counted_as_left_alone() -> None:
    def answer(question: bytes, n: int) -> Said:
        said = registers(1, 0, question[3])
        return [(TURNAROUND_S, said + said if n == 0 else said)]

    counters = BusCounters()
    desk, one = Desk(ScriptedLine(answer)), meter("1", "modbus-rtu")
    desk.bus = Bus(BUS, open_line=desk.line.open, now_ms=virtual.now_ms, counters=counters)

    async def script() -> None:
        for n in range(2):
            desk.registers(one, n, name=str(n), lane=Lane.CURVE)

    serve(desk, script)
    assert [desk.plain(name) for name in "01"] == [["0"], ["1"]]
    assert (counters.doubled, counters.quarantines, counters.jobs, counters.answered) == (1, 1, 2, 2)


def test_while_its_port_is_away_a_bus_tells_why_and_accounts_for_the_time() -> None:
    line = ScriptedLine(good)
    away = [False]

    async def open_line(bus: BusEntry) -> ScriptedLine:
        if away[0]:
            raise PortLost("no such device")
        return await line.open(bus)

    desk = Desk(line, open_line=open_line)

    async def script() -> None:
        await asyncio.sleep(10.0)
        account = desk.bus.account
        assert desk.bus.trouble is None
        away[0] = True
        line.tear()
        await asyncio.sleep(1.0)
        desk.energy(meter(), name="a")
        troubles: set[str | None] = set()
        for _ in range(100):
            await asyncio.sleep(1.0)
            troubles.add(desk.bus.trouble)
        assert troubles == {"no such device"} and not desk.bus.port.is_open
        assert account.dead == pytest.approx(100_000.0, abs=32_000.0), "but for the pause that lasts"
        away[0] = False
        await asyncio.sleep(40.0)
        assert desk.bus.trouble is None and desk.plain("a") == ["12.34"]
        assert account.dead == pytest.approx(1000.0 * desk.at["a"] - 11_000.0, abs=1000.0)

    serve(desk, script, for_s=10.0)
    assert desk.bus.account.elapsed == pytest.approx(160_700.0, abs=1.0), "but for 0.3 s of listening at first"


def test_after_a_restart_a_meter_whose_answers_name_their_item_is_asked_at_once() -> None:
    desk = Desk(ScriptedLine(good))
    desk.bus = Bus(BUS, open_line=desk.line.open, now_ms=virtual.now_ms, restarted=True)

    async def script() -> None:
        desk.energy(meter(), name="a")

    serve(desk, script)
    ((at, _),) = desk.line.asked
    assert at < OPEN_LISTEN_S + 0.05


def test_a_question_that_was_not_answered_is_dead_time_though_nothing_else_waits() -> None:
    desk, one = Desk(ScriptedLine(lambda question, n: [])), meter(attempts=1)
    time_out_s = one.timeout_s(next(v2007.read(one.entry.address, ["00010000"])))

    async def script() -> None:
        await asyncio.sleep(1.0)
        desk.energy(one, name="a")
        await asyncio.sleep(10.0)
        assert desk.bus.account.dead == pytest.approx(1000 * time_out_s, abs=1.0)

    serve(desk, script, for_s=0)


def test_a_bus_that_only_looks_whether_a_meter_is_back_is_idle() -> None:
    desk, one = Desk(ScriptedLine(lambda question, n: [])), meter(attempts=1)

    async def script() -> None:
        desk.energy(one, name="a")
        await until(lambda: len(desk.line.asked) == 2)
        assert desk.bus.silent and desk.bus.idle()

    serve(desk, script, for_s=0)


def test_with_a_port_that_nobody_can_open_a_bus_is_idle_though_jobs_wait() -> None:
    async def refuse(bus: BusEntry) -> ScriptedLine:
        raise PortLost("no such device")

    desk = Desk(ScriptedLine(good), open_line=refuse)

    async def script() -> None:
        desk.energy(meter(), name="a")
        assert not desk.bus.idle()
        await asyncio.sleep(60.0)
        assert desk.bus.idle() and desk.bus.queued == 1
        desk.bus.abandon()

    serve(desk, script, for_s=0)
    assert desk.outcome("a").detail == "no such device"


def test_a_job_that_is_turned_away_counts_as_missed() -> None:
    desk = Desk(ScriptedLine(good))

    async def main() -> None:
        one = meter()
        for n in range(QUEUE_MAX + 2):
            desk.energy(one, name=str(n))

    virtual.run(main(), start_ms=START_MS)
    counters = desk.bus.counters
    assert (counters.jobs, counters.refused, counters.failed_missed) == (QUEUE_MAX + 2, 2, 2)


@pytest.mark.parametrize("enforced", [True, False])
def test_a_line_vouches_for_its_bytes_while_parity_is_checked_and_no_noise_shows(enforced: bool) -> None:
    damaged = [False]
    line = ScriptedLine(lambda question, n: [(TURNAROUND_S, DAMAGED)] if damaged[0] else good(question, n))
    line.parity = "enforced" if enforced else "none"
    desk = Desk(line)
    certain = []

    async def script() -> None:
        for noise, answers in ((False, 20), (True, 5), (False, 1500)):
            damaged[0] = noise
            for n in range(answers):
                desk.energy(meter(f"{n % 5 + 1:012d}", attempts=1), name=f"{answers} {n}")
            await asyncio.sleep(300.0)
            certain.append(desk.bus.certain)

    serve(desk, script)
    assert certain == [enforced, False, enforced] and len(desk.ended) == 1525
