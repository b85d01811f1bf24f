"""A bus may be ended, and its line torn, after any callback of the loop: each job ends once, with values of its own."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from config.model import SerialSettings
from drivers.bus import Job, Lane, Outcome
from drivers.confirm import confirmed
from drivers.meter import Meter
from drivers.pipelined import PipelinedBus, bus_for
from drivers.plan import TRANSACTIONS
from protocols.dialogue import Dialogue
from protocols.dlt645 import v2007
from protocols.dlt645.frame import parse
from protocols.modbus import commands
from protocols.modbus.dialogue import Block, Item, read_blocks
from protocols.modbus.frame import ERROR_BIT, Frame, RtuDeframer
from protocols.modbus.registers import Format, Type
from protocols.quantity import by_name
from simulators import virtual
from tests.desk import START_MS, TURNAROUND_S
from tests.drivers.test_bus_pipelined import ENTRY, FarEnd, Said
from tests.script import BUS, ScriptedLine, meter

QUICK: dict[str, Any] = {"turnaround_ms_max": 200, "late_max_ms": 300, "attempts": 2}
ONE, DEAD, SLOW, LONG = "1", "2", "3", "000000000009"
LATE, DAMAGED, BUSY = 30, 40, 50
"""Registers with which something is wrong when they are asked for the first time."""
OVER_S = 25.0
"""By then all jobs have ended, if nothing comes between."""


@contextmanager
def struck(after: int, strike: Callable[[], None]) -> Iterator[None]:
    """`strike` is called when the loop has run so many callbacks."""
    run: Callable[[asyncio.Handle], None] = asyncio.Handle._run
    left = iter(range(after, -1, -1))

    def counted(handle: asyncio.Handle) -> None:
        run(handle)
        if next(left, None) == 0:
            strike()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio.Handle, "_run", counted)
        yield


class Story:
    """A bus with jobs of all kinds, and what became of them. Each register holds its address."""

    def __init__(self, *, pipelined: bool) -> None:
        self.pipelined = pipelined
        self.protocol: Any = "modbus-tcp" if pipelined else "modbus-rtu"
        self.line: Any = FarEnd(self._told) if pipelined else ScriptedLine(self._answer)
        entry = replace(ENTRY, pipeline=3) if pipelined else BUS
        self.bus = bus_for(entry, open_line=self.line.open, now_ms=virtual.now_ms, jitter=Random(1))
        self.asked: Counter[Frame] = Counter()
        self.submitted: list[str] = []
        self.ended: list[str] = []
        self.told: dict[str, list[str | None]] = {}

    def _answer(self, question: bytes, n: int) -> Said:
        if question[0] == 0xFE:
            asked = parse(question.lstrip(b"\xfe"))
            first = asked.function == 0x11
            data = asked.data[:4] + bytes((2 - first, 0, 0, 0)) + (b"" if first else asked.data[4:])
            return [(TURNAROUND_S, replace(asked, control=0xB1 if first else 0x92, data=data).encode())]
        (frame,) = RtuDeframer("requests").feed(question)
        return self._told(frame, n)

    def _told(self, asked: Frame, n: int) -> Said:
        if asked.unit == int(DEAD):
            return []
        address, data = int.from_bytes(asked.data[:2], "big"), asked.data[:4]
        whole = replace(asked, data=data if asked.function == 16 else b"\x02" + data[:2]).encode()
        same = replace(asked, transaction=None)
        self.asked[same] += 1
        if self.asked[same] == 1 and address == LATE:
            return [(0.45, whole)]
        if self.asked[same] == 1 and address == DAMAGED:
            return [(TURNAROUND_S, whole[:-1])]
        if self.asked[same] == 1 and address == BUSY:
            busy = replace(asked, function=asked.function | ERROR_BIT, data=b"\x06")
            return [(TURNAROUND_S, busy.encode())]
        return [(TURNAROUND_S, whole)]

    def submit(self) -> None:
        """All jobs."""
        one, dead, slow = (meter(unit, self.protocol, **QUICK) for unit in (ONE, DEAD, SLOW))
        self._read(one, 10, LATE, DAMAGED, name="block")
        self._read(one, 20, BUSY, name="busy", lane=Lane.BILLING)
        self._read(dead, 10, name="dead", within_s=20)
        self._read(dead, 20, name="urgent", lane=Lane.READ_NOW, within_s=20)
        self._read(one, 60, name="soon", lane=Lane.BACKFILL, within_s=0.9)
        if not self.pipelined:
            slow = meter(SLOW, self.protocol, serial=SerialSettings(baud=2400, parity="N"), **QUICK)
            long = meter(LONG, **QUICK)
            self._job(long, lambda: v2007.read(LONG, ["0001FF00"]), name="long")
        self._job(slow, lambda: confirmed(lambda: self._blocks(slow, 70)), name="confirmed", lane=Lane.BILLING)
        self._job(one, self._writing, name="write", lane=Lane.CONTROL)

    def _read(self, one: Meter, *addresses: int, **options: Any) -> None:
        self._job(one, lambda: self._blocks(one, *addresses), **options)

    def _blocks(self, one: Meter, *addresses: int) -> Dialogue[Frame]:
        item = Item(quantity=by_name("voltage.a"), function=4, address=0, format=Format(type=Type.UINT16))
        blocks = [Block(int(one.entry.address), [replace(item, address=at)], [n]) for n, at in enumerate(addresses)]
        return read_blocks(blocks, transactions=TRANSACTIONS if self.pipelined else None)

    def _writing(self) -> Dialogue[Frame]:
        yield from commands.write_registers(1, 5, b"\0\7", transaction=next(TRANSACTIONS) if self.pipelined else None)
        return []

    def _job(
        self, one: Meter, dialogue: Callable[[], Dialogue[Any]], *, name: str, lane: Lane = Lane.CURVE,
        within_s: float = 1e9,
    ) -> None:  # fmt: skip
        def done(outcome: Outcome) -> None:
            self.ended.append(name)
            self.told[name] = [value.plain for value in outcome.values or ()]

        self.submitted.append(name)
        deadline = asyncio.get_running_loop().time() + within_s
        self.bus.submit(Job(meter=one, dialogue=dialogue, lane=lane, deadline=deadline, done=done, name=name))

    def judge(self) -> None:
        """Each job has ended once, and each value is of its own question."""
        assert sorted(self.ended) == sorted(self.submitted)
        true = {"block": "10 30 40", "busy": "20 50", "long": "0.01 0.02", "soon": "60", "confirmed": "70"}
        for name, values in self.told.items():
            wanted = true.get(name, "").split()
            assert all(value in (None, right) for value, right in zip(values, wanted, strict=False)), name
        writes = sum(times for question, times in self.asked.items() if question.function == 16)
        assert writes <= 1


def told(strike: str, after: int, *, pipelined: bool, again: bool = True) -> bool:
    """Whether the bus was still at work when it was struck. again: it is run once more then."""
    story = Story(pipelined=pipelined)
    tasks: list[asyncio.Task[None]] = []
    at_work: list[bool] = []

    def falls() -> None:
        at_work.append(bool(tasks) and not tasks[-1].done())
        if not at_work[-1]:
            return
        if strike == "cancel":
            tasks[-1].cancel()
        elif strike == "stop":
            story.bus.stop()
        elif story.bus.port.is_open:
            story.line.tear()

    async def main() -> None:
        story.submit()
        for _ in range(2):
            tasks.append(asyncio.ensure_future(story.bus.run()))
            await asyncio.wait(tasks[-1:], timeout=OVER_S)
            if not tasks[-1].done() or not again or strike != "cancel":
                break
        story.bus.stop()
        if again or not tasks[-1].done():
            await asyncio.wait(tasks[-1:], timeout=2.0)
        assert tasks[-1].done()
        assert tasks[-1].cancelled() or tasks[-1].exception() is None
        story.bus.abandon()

    with struck(after, falls):
        virtual.run(main(), start_ms=START_MS)
    story.judge()
    return at_work == [True]


@pytest.mark.parametrize("pipelined", [False, True])
@pytest.mark.parametrize(("strike", "again"), [("cancel", True), ("cancel", False), ("tear", True), ("stop", True)])
def test_a_bus_struck_after_any_callback_ends_each_job_once(strike: str, again: bool, pipelined: bool) -> None:
    after = 3  # by then it runs
    while told(strike, after, pipelined=pipelined, again=again):
        after += 1
    assert after > 30


def test_an_answer_that_has_come_is_not_lost_with_the_task_of_the_bus(monkeypatch: pytest.MonkeyPatch) -> None:
    """A control for the truth above: without a look at what has landed, jobs are lost."""
    monkeypatch.setattr(PipelinedBus, "run", _run_without_landing)

    def anywhere() -> None:
        for after in range(3, 40):
            told("cancel", after, pipelined=True, again=False)

    with pytest.raises(AssertionError):
        anywhere()


async def _run_without_landing(self: PipelinedBus) -> None:
    try:
        await super(PipelinedBus, self).run()
    finally:
        self._ground(asyncio.get_running_loop().time())
