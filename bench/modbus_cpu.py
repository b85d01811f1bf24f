"""Processor time of a Modbus read: Bus, Port and dialogue to Values, against pymodbus's async client, in one run.

10 uint16 registers that all change from read to read give 10 Values here, and `Decimal(register)` ten times there.
Both ask the same meters in turn, of another process that answers at once, over RTU on a pty and over Modbus TCP; there
pymodbus asks one question at a time, as it always does. Only the time of this process counts. The rounds of all that
are compared alternate, and a ratio is that of the medians: a busy machine slows all. Here jobs wait on the bus all the
time, as they do on a busy one.

First RTU as it is on a wire: the pty carries it at 9600 baud, every byte of a reply arriving at its own moment. Both
sides then sleep between bytes, and we sleep through those that cannot end a frame.

With meters that answer at once the two do not do the same over RTU: we keep the silence of t3.5 before each question
and pymodbus keeps none, so it never sleeps, and finds the processor's caches as it left them. What that is worth is
told beside it: both with the silence, both without, and the least that keeps it, with nothing decoded: one `write`, one
wait, one `read` and one sleep a question, as system calls in a row and as callbacks of asyncio.
"""

import asyncio
import os
import select
import time
import tty
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from statistics import median
from typing import Literal

from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient
from pymodbus.client.base import ModbusBaseClient

from bench.answering import answering
from bench.figure import Figure
from config.model import BusEntry, MeterEntry, SerialSettings
from drivers.bus import Bus, Job, Lane, Outcome
from drivers.meter import T35_S_MIN, Meter
from drivers.pipelined import bus_for
from drivers.plan import plan
from drivers.profile import load_profile
from field.clock import wall_ms
from protocols.modbus.frame import read_request

RTU_MAX, TCP_MAX = 0.55, 0.35
REGISTERS = 10
SERIAL = SerialSettings(baud=115200, parity="N")
PACED = SerialSettings(baud=9600, parity="N")
METERS = 16
"""Behind one line, each with a job that waits on the bus."""
PROFILE = "acrel-dtsd1352"
"""Any model that serves as many registers at once; what is read is named by its register."""

Protocol = Literal["modbus-rtu", "modbus-tcp"]
Read = Callable[[int], Awaitable[None]]
"""Reads so many times."""


def run(reads: int = 400, rounds: int = 7) -> Iterator[Figure]:
    """RTU, then TCP."""
    with answering(ptys=2, baud=PACED.baud) as meters:
        yield asyncio.run(_paced(meters.ptys, reads // 10, rounds))
    with answering(ptys=5, tcps=1) as meters:
        yield from asyncio.run(_rtu(meters.ptys, reads, rounds))
        (port,) = meters.tcps
        for pipeline, at_most, words in ((METERS, TCP_MAX, "pipelined"), (1, None, "one question at a time")):
            yield asyncio.run(_tcp(port, 4 * reads, rounds, pipeline, f"Modbus TCP, {words}", at_most))


async def _paced(ptys: Sequence[str], reads: int, rounds: int) -> Figure:
    ours, theirs = ptys
    async with (
        _here("modbus-rtu", BusEntry(name="paced", port=ours, serial=PACED)) as here,
        _there(AsyncModbusSerialClient(theirs, baudrate=PACED.baud, parity="N")) as there,
    ):
        of_here, of_there = await _costs((here, there), reads, rounds)
    return _figure(f"RTU on a pty paced by the byte, {PACED.baud} baud", of_here, of_there, rounds, at_most=RTU_MAX)


async def _rtu(ptys: Sequence[str], reads: int, rounds: int) -> list[Figure]:
    ours, hasty, theirs, bare, called = ptys
    async with (
        _here("modbus-rtu", BusEntry(name="bench", port=ours, serial=SERIAL)) as here,
        _here("modbus-rtu", BusEntry(name="hasty", port=hasty, serial=SERIAL), silence=False) as here_hasty,
        _there(AsyncModbusSerialClient(theirs, baudrate=SERIAL.baud, parity="N")) as there,
    ):
        readers = (here, here_hasty, there, _silent(there), _bare(bare), _called(called))
        of_here, of_hasty, of_there, of_silent, of_bare, of_called = await _costs(readers, reads, rounds)
    return [
        _figure("RTU on a pty that takes no time", of_here, of_there, rounds, at_most=RTU_MAX),
        _figure("RTU on a pty that takes no time, both keeping t3.5", of_here, of_silent, rounds),
        _figure("RTU on a pty that takes no time, neither keeping t3.5", of_hasty, of_there, rounds),
        _figure("RTU on a pty that takes no time, system calls that keep t3.5 and no more", of_bare, of_there, rounds),
        _figure("RTU on a pty that takes no time, asyncio that keeps t3.5 and no more", of_called, of_there, rounds),
    ]


async def _tcp(port: str, reads: int, rounds: int, pipeline: int, what: str, at_most: float | None) -> Figure:
    host, _, number = port.removeprefix("tcp://").partition(":")
    async with (
        _here("modbus-tcp", BusEntry(name="bench", port=port, pipeline=pipeline)) as here,
        _there(AsyncModbusTcpClient(host, port=int(number))) as there,
    ):
        of_here, of_there = await _costs((here, there), reads, rounds)
    return _figure(what, of_here, of_there, rounds, at_most=at_most)


def _figure(what: str, ours: float, theirs: float, rounds: int, *, at_most: float | None = None) -> Figure:
    return Figure(
        bench="modbus_cpu", what=f"processor time of a read, {what}", figure=ours / theirs, unit="of pymodbus's",
        at_most=at_most,
        more={"us": round(ours * 1e6, 1), "pymodbus_us": round(theirs * 1e6, 1), "rounds": rounds},
    )  # fmt: skip


async def _costs(readers: Sequence[Read], reads: int, rounds: int) -> list[float]:
    """Processor seconds that a read takes each of them."""
    found: list[list[float]] = [[] for _ in readers]
    for read in readers:
        await read(max(reads // 10, 1))
    for _ in range(rounds):
        for into, read in zip(found, readers, strict=True):
            began = time.process_time()
            await read(reads)
            into.append((time.process_time() - began) / reads)
    return [median(one) for one in found]


@asynccontextmanager
async def _here(protocol: Protocol, entry: BusEntry, *, silence: bool = True) -> AsyncIterator[Read]:
    bus = bus_for(entry, now_ms=wall_ms)
    serving = asyncio.create_task(bus.run(), name="bus:bench")
    try:
        yield _jobs(bus, serving, protocol, silence)
    finally:
        bus.stop()
        await serving


def _jobs(bus: Bus, serving: asyncio.Task[None], protocol: Protocol, silence: bool) -> Read:
    profile = load_profile(PROFILE)
    items = [f"holding:{n}:uint16" for n in range(REGISTERS)]
    entries = [
        MeterEntry(id=f"m{unit}", point="p", bus="bench", address=f"{unit}", profile=PROFILE, protocol=protocol)
        for unit in range(1, METERS + 1)
    ]
    reads = [(Meter(entry, profile, bus.entry), plan(profile, entry, items, SERIAL)) for entry in entries]
    assert all(read.exchanges == 1 for _, read in reads)
    if not silence:
        for meter, _ in reads:
            meter.gap_s = meter.silence_s = 0.0

    async def read(count: int) -> None:
        loop = asyncio.get_running_loop()
        finished = loop.create_future()
        deadline = loop.time() + 600
        waiting = iter([reads[n % METERS] for n in range(count)])
        answered = 0

        def submit() -> None:
            if (following := next(waiting, None)) is not None:
                meter, read = following
                bus.submit(Job(meter=meter, dialogue=read.dialogue, lane=Lane.CURVE, deadline=deadline, done=done))

        def done(outcome: Outcome) -> None:
            nonlocal answered
            assert outcome.values is not None, outcome
            assert len(outcome.values) == REGISTERS, outcome
            assert outcome.values[0].number is not None, outcome
            answered += 1
            if answered == count:
                finished.set_result(None)
            submit()

        for _ in range(METERS):
            submit()
        await asyncio.wait({finished, serving}, return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            await serving
        assert answered == count

    return read


@asynccontextmanager
async def _there(client: ModbusBaseClient) -> AsyncIterator[Read]:
    async def read(count: int) -> None:
        for n in range(count):
            reply = await client.read_holding_registers(0, count=REGISTERS, device_id=1 + n % METERS)
            values = [Decimal(register) for register in reply.registers]
            assert len(values) == REGISTERS

    assert await client.connect(), "pymodbus did not connect"
    try:
        yield read
    finally:
        client.close()


def _silent(read: Read) -> Read:
    """The same with the silence behind each answer."""

    async def silent(count: int) -> None:
        for _ in range(count):
            await read(1)
            await asyncio.sleep(T35_S_MIN)

    return silent


QUESTIONS = [read_request(unit, 3, 0, REGISTERS).encode() for unit in range(1, METERS + 1)]
ANSWER_BYTES = 5 + 2 * REGISTERS


def _raw(pty: str) -> int:
    fd = os.open(pty, os.O_RDWR | os.O_NOCTTY)
    tty.setraw(fd)
    return fd


def _bare(pty: str) -> Read:
    """What is left of a read without all that makes it one."""
    fd = _raw(pty)

    def ask(question: bytes) -> None:
        os.write(fd, question)
        missing = ANSWER_BYTES
        while missing:
            select.select([fd], [], [])
            missing -= len(os.read(fd, missing))
        time.sleep(T35_S_MIN)

    async def read(count: int) -> None:
        for n in range(count):
            ask(QUESTIONS[n % METERS])

    return read


def _called(pty: str) -> Read:
    """The same by the loop that everything here runs in."""
    fd = _raw(pty)

    async def read(count: int) -> None:
        loop = asyncio.get_running_loop()
        finished = loop.create_future()
        missing, asked = 0, 0

        def ask() -> None:
            nonlocal missing, asked
            if asked == count:
                finished.set_result(None)
                return
            missing = ANSWER_BYTES
            os.write(fd, QUESTIONS[asked % METERS])
            asked += 1

        def answered() -> None:
            nonlocal missing
            missing -= len(os.read(fd, missing))
            if not missing:
                loop.call_later(T35_S_MIN, ask)

        loop.add_reader(fd, answered)
        ask()
        await finished
        loop.remove_reader(fd)

    return read
