"""The far end of a bus for the table of faults: in memory, behind a pty, behind a TCP port."""

import asyncio
import os
import tty
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from functools import partial
from random import Random
from typing import Final

from config.model import BusEntry, ProtocolName, SerialSettings
from drivers.bus import Bus, Job, Lane, Outcome
from drivers.line import OpenLine
from drivers.meter import Meter
from drivers.plan import TRANSACTIONS
from drivers.port import open_line
from protocols.dialogue import Dialogue
from protocols.dlt645 import v2007
from protocols.modbus.dialogue import Block, Item, read_blocks
from protocols.modbus.registers import Format, Type
from protocols.quantity import by_name
from tests.faults.rows import ADDRESS, IDENTIFIERS, REGISTERS, TURNAROUND_S, Heard, Row, Said
from tests.script import ScriptedLine, meter

HUNDREDTH: Final = Decimal("0.01")
SERIAL: Final = SerialSettings(baud=115_200, parity="E")
PATIENCE_S: Final = 20.0
"""What a row may take of real time, on a machine with other things to do."""


class FarEnd:
    """A meter that does one thing wrong, once, and answers rightly before and after. It may be asked in any pieces."""

    def __init__(self, protocol: ProtocolName, row: Row) -> None:
        self.protocol: ProtocolName = protocol
        self.row = row
        self.asked: list[str] = []
        """The items it was asked for."""

    def answer(self, question: bytes, number: int = 0) -> Said:
        """What comes after a question."""
        heard = Heard(self.protocol, question)
        first = heard.item == "a" and "a" not in self.asked
        self.asked.append(heard.item)
        return self.row.said(heard) if first else [(TURNAROUND_S, heard.frame())]

    def play(self, question: bytes, send: Callable[[bytes], None]) -> None:
        """Answer in real time."""
        for after_s, data in self.answer(question):
            asyncio.get_running_loop().call_later(after_s, send, data)


def dialogue(protocol: ProtocolName, item: str) -> Dialogue[object]:
    """Reads one of the two items."""
    if protocol == "dlt645-2007":
        return v2007.read(ADDRESS, [IDENTIFIERS[item]])  # type: ignore[return-value]
    hundredths = Format(type=Type.UINT32, scale=HUNDREDTH)
    one = Item(quantity=by_name("voltage.a"), function=4, address=REGISTERS[item], format=hundredths)
    block = Block(1, [one], as_ascii=protocol == "modbus-ascii")
    transactions = TRANSACTIONS if protocol == "modbus-tcp" else None
    return read_blocks([block], transactions=transactions)  # type: ignore[return-value]


class Near:
    """The gateway's side: a bus that reads a, b, a and b again."""

    def __init__(
        self, protocol: ProtocolName, port: str, open_line: OpenLine, now_ms: Callable[[], int], *, seed: int = 1
    ) -> None:
        entry = BusEntry(name="b1", port=port, serial=SERIAL)
        self.protocol: ProtocolName = protocol
        self.bus = Bus(entry, open_line=open_line, now_ms=now_ms, jitter=Random(seed))
        address = ADDRESS if protocol == "dlt645-2007" else "1"
        self.meter: Meter = meter(address, protocol, bus=entry, turnaround_ms_max=120, late_max_ms=600, attempts=3)
        self.read: list[tuple[str, Outcome]] = []

    async def run(self) -> None:
        """Read all; returns when all has ended."""
        wanted = ["a", "b", "a", "b"]
        for item in wanted:
            self.bus.submit(Job(meter=self.meter, dialogue=partial(dialogue, self.protocol, item), lane=Lane.CURVE,
                                deadline=float("inf"), done=partial(self._took, item, len(wanted))))  # fmt: skip
        await self.bus.run()

    def _took(self, item: str, wanted: int, outcome: Outcome) -> None:
        self.read.append((item, outcome))
        if len(self.read) == wanted:
            self.bus.stop()


async def in_memory(far: FarEnd, now_ms: Callable[[], int]) -> Near:
    """Over a line in memory, in virtual time."""
    near = Near(far.protocol, "/memory/b1", ScriptedLine(far.answer, SERIAL).open, now_ms)
    await near.run()
    return near


async def over_pty(far: FarEnd, now_ms: Callable[[], int]) -> Near:
    """Over a pty, in real time."""
    async with _pty(far) as name:
        near = Near(far.protocol, name, open_line, now_ms)
        async with asyncio.timeout(PATIENCE_S):
            await near.run()
        return near


async def over_tcp(far: FarEnd, now_ms: Callable[[], int]) -> Near:
    """Over TCP, in real time: a serial server, or a Modbus TCP meter."""
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(far), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        near = Near(far.protocol, f"tcp://127.0.0.1:{port}", open_line, now_ms)
        async with asyncio.timeout(PATIENCE_S):
            await near.run()
        return near
    finally:
        server.close()


@asynccontextmanager
async def _pty(far: FarEnd) -> AsyncIterator[str]:
    ours, theirs = os.openpty()
    tty.setraw(theirs)
    loop = asyncio.get_running_loop()

    def send(data: bytes) -> None:
        if not closed:
            os.write(ours, data)

    def listen() -> None:
        far.play(os.read(ours, 4096), send)

    closed = False
    loop.add_reader(ours, listen)
    try:
        yield os.ttyname(theirs)
    finally:
        closed = True
        loop.remove_reader(ours)
        os.close(ours)
        os.close(theirs)


class _Connection(asyncio.Protocol):
    def __init__(self, far: FarEnd) -> None:
        self._far = far
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._far.play(data, self._transport.write)
