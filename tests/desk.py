"""A bus over a scripted line in virtual time, and the outcomes of its jobs."""

import asyncio
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

from drivers.bus import Bus, Job, Lane, Outcome
from drivers.line import OpenLine
from drivers.meter import Meter
from protocols.dialogue import Dialogue
from protocols.dlt645 import v2007
from protocols.modbus.dialogue import Block, Item, read_blocks
from protocols.modbus.registers import Format, Type
from protocols.quantity import by_name
from simulators import virtual
from tests.script import BUS, Said, ScriptedLine, energy, opener

START_MS = 1_700_000_000_000
TURNAROUND_S = 0.02
FOREVER = float("inf")


class Desk:
    """A bus in virtual time, and the outcomes of its jobs in the order in which they ended."""

    def __init__(self, line: ScriptedLine, *, evidence: Any = None, open_line: OpenLine | None = None) -> None:
        self.line = line
        self.bus = Bus(
            BUS, open_line=open_line or opener(line), now_ms=virtual.now_ms, evidence=evidence, jitter=Random(1)
        )
        self.ended: list[tuple[str, Outcome]] = []
        self.at: dict[str, float] = {}

    def ask(
        self,
        one: Meter,
        dialogue: Callable[[], Dialogue[Any]],
        *,
        name: str,
        lane: Lane = Lane.CURVE,
        within_s: float = FOREVER,
    ) -> None:
        def done(outcome: Outcome) -> None:
            self.ended.append((name, outcome))
            self.at[name] = asyncio.get_running_loop().time()

        deadline = asyncio.get_running_loop().time() + within_s
        self.bus.submit(Job(meter=one, dialogue=dialogue, lane=lane, deadline=deadline, done=done, name=name))

    def energy(self, one: Meter, *dis: str, name: str, lane: Lane = Lane.CURVE, within_s: float = FOREVER) -> None:
        wanted = dis or ("00010000",)
        self.ask(one, lambda: v2007.read(one.entry.address, wanted), name=name, lane=lane, within_s=within_s)

    def registers(
        self, one: Meter, address: int, *, name: str, lane: Lane = Lane.CURVE, within_s: float = FOREVER
    ) -> None:
        item = Item(quantity=by_name("voltage.a"), function=4, address=address, format=Format(type=Type.UINT32))
        block = Block(int(one.entry.address), [item])
        self.ask(one, lambda: read_blocks([block]), name=name, lane=lane, within_s=within_s)

    def outcome(self, name: str) -> Outcome:
        return dict(self.ended)[name]

    def plain(self, name: str) -> list[str | None]:
        values = self.outcome(name).values
        assert values is not None
        return [value.plain for value in values]


def serve(desk: Desk, script: Callable[[], Coroutine[Any, Any, None]] | None = None, *, for_s: float = 100.0) -> Desk:
    """Run the bus for so long in virtual time, with the script beside it."""

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(desk.bus.run(), name="bus:b1")
            if script is not None:
                await script()
            await asyncio.sleep(for_s)
            desk.bus.stop()

    virtual.run(main(), start_ms=START_MS)
    return desk


def good(data: bytes, n: int) -> Said:
    """Every DL/T 645 meter answers every energy with 12.34."""
    found = data.lstrip(b"\xfe")
    address = found[1:7][::-1].hex()
    di = bytes((byte - 0x33) & 0xFF for byte in found[10:14])[::-1].hex()
    return [(TURNAROUND_S, energy(address, di=di))]
