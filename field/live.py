"""Items of one meter, read now on one open port, with the frames that brought them."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from config.model import BusEntry
from drivers.bus import Bus, Job, Lane, Outcome
from drivers.line import Line, PortLost
from drivers.meter import Meter
from drivers.plan import ReadPlan
from drivers.port import open_line
from field.clock import wall_ms
from protocols.capture import Fault, Value, faulty
from protocols.dialogue import Dialogue, Garbled, Reply
from protocols.dlt645.frame import Frame as Dlt645Frame
from protocols.modbus.frame import Frame as ModbusFrame


@dataclass(frozen=True, slots=True)
class ItemRead:
    """One item as it was asked for: its values, and the replies in hex, one after the other with a space between.

    raw is what came instead when it was damaged, and None when nothing came.
    """

    item: str
    values: tuple[Value, ...]
    raw: str | None


class _Recorded:
    """The dialogue of a plan, item by item, with what came for each."""

    def __init__(self, plan: ReadPlan) -> None:
        self._plan = plan
        self.parts: list[tuple[str, int, list[str]]] = []
        """Item, number of its values, and what came."""

    def dialogue(self) -> Dialogue[Any]:
        """A fresh one; what was recorded before is forgotten."""
        self.parts = []
        values: list[Value] = []
        for part in self._plan.parts:
            came: list[str] = []
            got = yield from _overheard(part.dialogue(), came)
            self.parts.append((part.items[0], len(got), came))
            values += got
        return values


def _overheard(dialogue: Dialogue[Any], came: list[str]) -> Dialogue[Any]:
    try:
        ask = next(dialogue)
        while True:
            answer = yield ask
            if isinstance(answer, Reply):
                came.append(_hex(answer.frame))
            elif isinstance(answer, Garbled) and answer.seen:
                came.append(answer.seen.hex().upper())
            ask = dialogue.send(answer)
    except StopIteration as end:
        values: list[Value] = end.value
        return values


def _hex(frame: Dlt645Frame | ModbusFrame) -> str:
    data = frame.encode(preamble=0) if isinstance(frame, Dlt645Frame) else frame.encode()
    return data.hex().upper()


def failed(plan: ReadPlan, fault: Fault, detail: str | None) -> list[ItemRead]:
    """Every item with the same reason why there is nothing."""
    return [
        ItemRead(part.items[0], tuple(faulty(quantity, fault, detail) for quantity in part.quantities), None)
        for part in plan.parts
    ]


async def read_live(entry: BusEntry, meter: Meter, plan: ReadPlan) -> list[ItemRead]:
    """Open the port, read the items in their order, close it. plan: of `drivers.plan.plan_items`.

    Asks again as often as the meter's profile says. Raises PortLost (PortBusy) when the port cannot be opened; a port
    that goes away later gives fault bus.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[Outcome] = loop.create_future()
    unused: list[Line] = [await open_line(entry)]

    async def open_once(_: BusEntry) -> Line:
        if unused:
            return unused.pop()
        lost = PortLost(bus.trouble or f"{entry.port}: lost")
        if not ended.done():
            ended.set_result(Outcome(fault=Fault.BUS, detail=str(lost)))
        raise lost

    recorded = _Recorded(plan)
    bus = Bus(entry, open_line=open_once, now_ms=wall_ms)

    def done(outcome: Outcome) -> None:
        if not ended.done():
            ended.set_result(outcome)

    bus.submit(
        Job(meter=meter, dialogue=recorded.dialogue, lane=Lane.READ_NOW, deadline=float("inf"), done=done, name="read")
    )
    async with asyncio.TaskGroup() as group:
        group.create_task(bus.run(), name=f"bus:{entry.name}")
        outcome = await ended
        bus.stop()
    if outcome.values is None:
        assert outcome.fault is not None
        return failed(plan, outcome.fault, outcome.detail)
    return _by_item(recorded.parts, outcome.values)


def _by_item(parts: Sequence[tuple[str, int, list[str]]], values: Sequence[Value]) -> list[ItemRead]:
    reads, at = [], 0
    for item, count, came in parts:
        reads.append(ItemRead(item, tuple(values[at : at + count]), " ".join(came) or None))
        at += count
    return reads
