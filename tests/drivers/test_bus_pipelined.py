"""Several questions on one Modbus TCP connection: answers are told apart by their number, and a far end that cannot
stand it is asked one at a time. All in virtual time."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.model import BusEntry
from drivers.bus import Bus, Job, Lane, Outcome
from drivers.line import PortLost
from drivers.meter import Meter
from drivers.pipelined import ALONE_S_FIRST, PipelinedBus, bus_for
from drivers.plan import TRANSACTIONS
from protocols.capture import Fault
from protocols.dialogue import Dialogue, Silence
from protocols.modbus import commands
from protocols.modbus.dialogue import Block, Item, read_blocks
from protocols.modbus.frame import Frame, TcpDeframer
from protocols.modbus.registers import Format, Type
from protocols.quantity import by_name
from simulators import virtual
from tests.modbus import exception, reply
from tests.script import meter

Said = Sequence[tuple[float, bytes]]
"""What comes after a question: (seconds, bytes)."""
ENTRY = BusEntry(name="hall", port="tcp://10.0.0.1:502", pipeline=8)
QUICK: dict[str, Any] = {"turnaround_ms_max": 300, "late_max_ms": 400, "attempts": 2}


class FarEnd:
    """A Line to a gateway that answers each question as a function says, and notes how many it had at once."""

    parity = "none"

    def __init__(self, answer: Callable[[Frame, int], Said]) -> None:
        self.asked: list[tuple[float, Frame]] = []
        self.at_once = self.most = 0
        self.opened = 0
        self._answer = answer
        self._deframer = TcpDeframer("requests")
        self._receive: Callable[[bytes], object] | None = None
        self._lost: Callable[[Exception], None] | None = None

    async def open(self, bus: BusEntry) -> "FarEnd":
        self.opened += 1
        self.at_once = 0
        return self

    def attach(self, receive: Callable[[bytes], object], lost: Callable[[Exception], None]) -> None:
        self._receive, self._lost = receive, lost

    def write(self, data: bytes, unwanted_s: float = 0.0) -> None:
        loop = asyncio.get_running_loop()
        for frame in self._deframer.feed(data):
            self.at_once += 1
            self.most = max(self.most, self.at_once)
            said = self._answer(frame, len(self.asked))
            self.asked.append((loop.time(), frame))
            for n, (after_s, came) in enumerate(said):
                loop.call_later(after_s, self._deliver, came, n == 0)

    def _deliver(self, data: bytes, first: bool) -> None:
        self.at_once -= first
        if self._receive is not None:
            self._receive(data)

    def tear(self) -> None:
        assert self._lost is not None
        self._lost(PortLost("closed by the far end"))

    def apply(self, settings: object) -> None:
        """Nothing to set."""

    async def drained(self) -> None:
        """Nothing to wait for."""

    def close(self) -> None:
        self._receive = None


class Hall:
    """A bus with many meters behind one connection, and the outcomes of its jobs."""

    def __init__(self, line: FarEnd, entry: BusEntry = ENTRY) -> None:
        self.line = line
        self.bus = bus_for(entry, open_line=line.open, now_ms=virtual.now_ms, jitter=Random(1))
        self.ended: dict[str, Outcome] = {}
        self.at: dict[str, float] = {}

    @property
    def pipelined(self) -> PipelinedBus:
        assert isinstance(self.bus, PipelinedBus)
        return self.bus

    def ask(self, one: Meter, *addresses: int, name: str, lane: Lane = Lane.CURVE, within_s: float = 1e9) -> None:
        item = Item(quantity=by_name("voltage.a"), function=4, address=0, format=Format(type=Type.UINT16))
        blocks = [
            Block(int(one.entry.address), [replace(item, address=address)], [n])
            for n, address in enumerate(addresses or (0,))
        ]
        self.job(one, blocks, name=name, lane=lane, within_s=within_s)

    def job(self, one: Meter, blocks: list[Block], *, name: str, lane: Lane, within_s: float) -> None:
        loop = asyncio.get_running_loop()

        def done(outcome: Outcome) -> None:
            assert name not in self.ended
            self.ended[name] = outcome
            self.at[name] = loop.time()

        self.bus.submit(
            Job(meter=one, dialogue=lambda: read_blocks(blocks, transactions=TRANSACTIONS), lane=lane,
                deadline=loop.time() + within_s, done=done, name=name)
        )  # fmt: skip

    def plain(self, name: str) -> list[str | None]:
        return [value.plain for value in self.ended[name].values or ()]

    def faults(self, name: str) -> list[Fault | None]:
        return [value.fault for value in self.ended[name].values or ()]


def serve(hall: Hall, script: Callable[[], Coroutine[Any, Any, None]], *, for_s: float = 100.0) -> Hall:
    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(hall.bus.run(), name="bus:hall")
            await script()
            await asyncio.sleep(for_s)
            hall.bus.stop()

    virtual.run(main(), start_ms=1_700_000_000_000)
    return hall


def right(frame: Frame) -> bytes:
    """Each meter answers with its unit and the register's address."""
    address = int.from_bytes(frame.data[:2], "big")
    return reply([frame.unit << 8 | address], unit=frame.unit, function=4, transaction=frame.transaction).encode()


def after(seconds: float) -> Callable[[Frame, int], Said]:
    return lambda frame, n: [(seconds, right(frame))]


def meters(count: int, **changes: Any) -> list[Meter]:
    return [meter(str(unit), "modbus-tcp", bus=ENTRY, **{**QUICK, **changes}) for unit in range(1, count + 1)]


def everybody(hall: Hall, many: list[Meter], *addresses: int) -> Callable[[], Coroutine[Any, Any, None]]:
    async def script() -> None:
        for one in many:
            hall.ask(one, *addresses, name=one.entry.address)

    return script


def test_only_a_bus_that_says_so_is_pipelined() -> None:
    options: dict[str, Any] = {"open_line": FarEnd(after(0.1)).open, "now_ms": virtual.now_ms}
    assert type(bus_for(replace(ENTRY, pipeline=1), **options)) is Bus
    assert type(bus_for(ENTRY, **options)) is PipelinedBus


def test_as_many_as_the_window_are_on_their_way_and_every_answer_finds_its_question() -> None:
    hall = Hall(FarEnd(lambda frame, n: [(0.2 - 0.01 * (n % 8), right(frame))]))  # the last asked answers first
    serve(hall, everybody(hall, meters(40), 0, 7))
    assert hall.line.most == 8
    assert all(hall.plain(str(unit)) == [str(unit << 8), str(unit << 8 | 7)] for unit in range(1, 41))
    assert max(hall.at.values()) < 40 * 2 * 0.2 / 8 + 1
    assert hall.pipelined.fallbacks == 0 and hall.bus.counters.answered == 40


def test_a_meter_has_one_question_at_a_time() -> None:
    hall = Hall(FarEnd(after(0.05)))
    (one,) = meters(1)

    async def script() -> None:
        for n in range(10):
            hall.ask(one, n, name=str(n))

    serve(hall, script)
    assert hall.line.most == 1 and all(hall.plain(str(n)) == [str(1 << 8 | n)] for n in range(10))


def test_a_silent_meter_is_left_alone_and_costs_the_others_nothing() -> None:
    hall = Hall(FarEnd(lambda frame, n: [] if frame.unit == 3 else [(0.02, right(frame))]))
    many = meters(12)

    async def script() -> None:
        for n in range(20):
            for one in many:
                hall.ask(one, n, name=f"{one.entry.address} {n}", within_s=30)
        await asyncio.sleep(20)

    serve(hall, script)
    assert hall.faults("3 0") == [Fault.SILENT] and hall.bus.silent == (many[2].id,)
    assert all(hall.plain(f"{unit} {n}") == [str(unit << 8 | n)] for unit in (1, 2, 12) for n in range(20))
    assert max(at for name, at in hall.at.items() if not name.startswith("3 ")) < 3
    asked = [at for at, frame in hall.line.asked if frame.unit == 3]
    assert len(asked) < 8 and all(second - first > 0.5 for first, second in pairwise(asked))
    assert hall.pipelined.fallbacks == 0


def test_a_meter_that_a_gateway_cannot_reach_is_silent_and_no_other() -> None:
    def answer(frame: Frame, n: int) -> Said:
        gone = exception(0x0B, unit=frame.unit, function=4, transaction=frame.transaction).encode()
        return [(0.02, gone if frame.unit == 2 else right(frame))]

    hall = Hall(FarEnd(answer))
    serve(hall, everybody(hall, meters(5)))
    assert hall.faults("2") == [Fault.SILENT] and len(hall.bus.silent) == 1
    assert all(hall.plain(str(unit)) == [str(unit << 8)] for unit in (1, 3, 4, 5))


def test_a_far_end_that_closes_the_connection_is_asked_one_at_a_time() -> None:
    def answer(frame: Frame, n: int) -> Said:
        if hall.line.at_once > 1:
            asyncio.get_running_loop().call_soon(hall.line.tear)
            return []
        return [(0.02, right(frame))]

    hall = Hall(FarEnd(answer))
    serve(hall, everybody(hall, meters(10)), for_s=50)
    assert all(hall.plain(str(unit)) == [str(unit << 8)] for unit in range(1, 11))
    assert hall.pipelined.fallbacks == 1 and hall.line.opened == 2
    assert hall.bus.port.counters.lost == 1


def test_a_far_end_that_drops_what_it_cannot_handle_is_asked_one_at_a_time() -> None:
    many = meters(10, attempts=4)

    def answer(frame: Frame, n: int) -> Said:
        busy = [at for at, _ in hall.line.asked if at > asyncio.get_running_loop().time() - 0.02]
        return [] if busy else [(0.02, right(frame))]

    hall = Hall(FarEnd(answer))

    async def script() -> None:
        for n in range(5):
            for one in many:
                hall.ask(one, n, name=f"{one.entry.address} {n}", within_s=60)

    serve(hall, script, for_s=55)
    assert hall.pipelined.fallbacks == 1
    good = sum(hall.plain(name) != [None] for name in hall.ended)
    assert len(hall.ended) == 50 and good >= 40


def test_a_far_end_that_mixes_answers_up_never_gives_a_wrong_value() -> None:
    def answer(frame: Frame, n: int) -> Said:
        # The registers of one meter under the number of another's question.
        other = Frame(unit=frame.unit % 10 + 1, function=4, data=b"\x02\x00\x63", transaction=frame.transaction)
        return [(0.02, other.encode() if n < 12 else right(frame))]

    hall = Hall(FarEnd(answer))
    serve(hall, everybody(hall, meters(10, attempts=3)), for_s=60)
    assert hall.pipelined.fallbacks == 1
    for unit in range(1, 11):
        assert hall.plain(str(unit)) in ([str(unit << 8)], [None])
    assert sum(hall.plain(str(unit)) != [None] for unit in range(1, 11)) >= 8


def test_the_window_opens_again_after_a_while_and_closes_for_longer() -> None:
    tears = [1]

    def answer(frame: Frame, n: int) -> Said:
        if hall.line.at_once > 1 and tears:
            tears.pop()
            asyncio.get_running_loop().call_soon(hall.line.tear)
        return [(0.02, right(frame))]

    hall = Hall(FarEnd(answer))
    many = meters(10)

    async def script() -> None:
        for one in many:
            hall.ask(one, name=f"{one.id} first")
        await asyncio.sleep(10)
        assert hall.pipelined.window == 1
        await asyncio.sleep(ALONE_S_FIRST)
        hall.line.most = 0
        for one in many:
            hall.ask(one, name=f"{one.id} again")

    serve(hall, script)
    assert hall.line.most == 8 and hall.pipelined.fallbacks == 1
    assert all(outcome.values is not None for outcome in hall.ended.values())


@pytest.mark.parametrize("cut_at", range(1, 10))  # a last byte alone may be the first one of another answer
def test_answers_that_come_in_pieces_are_found_by_their_time_out_at_the_latest(cut_at: int) -> None:
    """Some gateways send the header and the rest apart; TCP sends the rest again when it was lost."""

    def answer(frame: Frame, n: int) -> Said:
        whole = right(frame)
        begins = 0.05 + 0.03 * (n % 2)  # one after the other, as there is one stream
        return [(begins, whole[:cut_at]), (begins + 0.01, whole[cut_at:])]

    hall = Hall(FarEnd(answer), replace(ENTRY, pipeline=2))
    many = meters(4)

    async def script() -> None:
        for n in range(6):
            for one in many:
                hall.ask(one, n, name=f"{one.entry.address} {n}")
            await asyncio.sleep(2.0)

    serve(hall, script, for_s=10.0)
    assert all(hall.plain(f"{unit} {n}") == [str(unit << 8 | n)] for unit in range(1, 5) for n in range(6))
    assert hall.bus.counters.fell_silent == 0 and hall.bus.counters.retries <= 8


def test_a_late_answer_is_neither_taken_nor_held_against_the_far_end() -> None:
    def answer(frame: Frame, n: int) -> Said:
        return [(0.9 if n == 0 else 0.02, right(frame))]

    hall = Hall(FarEnd(answer))
    serve(hall, everybody(hall, meters(3, late_max_ms=1500)))
    assert all(hall.plain(str(unit)) == [str(unit << 8)] for unit in (1, 2, 3))
    assert hall.pipelined.fallbacks == 0 and hall.bus.counters.retries == 1


def test_a_lost_connection_loses_no_job() -> None:
    hall = Hall(FarEnd(after(0.5)))

    async def script() -> None:
        await everybody(hall, meters(10, turnaround_ms_max=1000, late_max_ms=1000))()
        await asyncio.sleep(0.6)
        hall.line.tear()

    serve(hall, script)
    assert all(hall.plain(str(unit)) == [str(unit << 8)] for unit in range(1, 11))


def test_a_stop_waits_for_what_is_on_its_way() -> None:
    hall = Hall(FarEnd(after(0.2)))
    serve(hall, everybody(hall, meters(8)), for_s=0.4)  # 0.3 s of which the fresh connection is only listened to
    assert len(hall.ended) == 8 and not hall.pipelined.in_flight


def test_a_cancelled_bus_leaves_its_meters_in_quarantine_and_its_jobs_in_the_queue() -> None:
    hall = Hall(FarEnd(after(0.5)))

    async def main() -> None:
        task = asyncio.ensure_future(hall.bus.run())
        await everybody(hall, meters(8))()
        await asyncio.sleep(0.4)
        assert hall.pipelined.in_flight == 8 and not hall.bus.idle()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    virtual.run(main(), start_ms=1_700_000_000_000)
    assert hall.bus.queued == 8 and hall.bus.counters.quarantines == 8
    hall.bus.abandon()
    assert len(hall.ended) == 8


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.floats(0.0, 1.5), st.sampled_from(["right", "silent", "twice", "other", "0B", "06"])),
             min_size=1, max_size=20),
    st.integers(2, 16),
)  # fmt: skip
def test_whatever_a_far_end_does_a_value_is_that_of_its_own_question(
    behaviour: list[tuple[float, str]], pipeline: int
) -> None:
    def answer(frame: Frame, n: int) -> Said:
        delay, what = behaviour[n % len(behaviour)]
        mine = right(frame)
        other = Frame(unit=frame.unit % 12 + 1, function=4, data=b"\x02\x12\x34", transaction=frame.transaction)
        said = {"right": [mine], "silent": [], "twice": [mine, mine], "other": [other.encode(), mine]}
        for code in ("0B", "06"):
            refusal = exception(int(code, 16), unit=frame.unit, function=4, transaction=frame.transaction)
            said[code] = [refusal.encode()]
        return [(delay, came) for came in said[what]]

    entry = replace(ENTRY, pipeline=pipeline)
    hall = Hall(FarEnd(answer), entry)
    many = meters(12)

    async def script() -> None:
        for n in range(3):
            for one in many:
                hall.ask(one, n, name=f"{one.entry.address} {n}", within_s=200)

    serve(hall, script, for_s=250)
    assert len(hall.ended) == 36
    for name, outcome in hall.ended.items():
        unit, register = map(int, name.split())
        assert [value.plain for value in outcome.values or ()] in ([str(unit << 8 | register)], [None], [])


def test_a_write_is_not_sent_again_when_the_connection_was_lost_with_it_on_its_way() -> None:
    def answer(frame: Frame, n: int) -> Said:
        if frame.function == 16:
            asyncio.get_running_loop().call_later(0.05, line.tear)
            return []
        return [(0.01, right(frame))]

    line = FarEnd(answer)
    hall, (one, other) = Hall(line), meters(2)
    told: list[object] = []

    def setting() -> Dialogue[Frame]:
        told.append((yield from commands.write_registers(1, 5, b"\x00\x07", transaction=next(TRANSACTIONS))))
        return []

    async def script() -> None:
        hall.bus.submit(Job(meter=one, dialogue=setting, lane=Lane.CURVE, deadline=1e9, done=lambda _: None))
        hall.ask(other, name="other")

    serve(hall, script)
    assert [frame.function for _, frame in line.asked].count(16) == 1
    assert told == [Silence()] and hall.plain("other") == ["512"]
