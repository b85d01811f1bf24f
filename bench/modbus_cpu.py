"""Processor time of a Modbus read: Bus, Port and dialogue to Values, against pymodbus's async client, in one run.

10 uint16 registers that all change from read to read give 10 Values here, and `Decimal(register)` ten times there.
Both ask the same meters in turn, of one process that answers at once, over RTU on a pty and over Modbus TCP; there
pymodbus asks one question at a time, as it always does. The rounds of the two alternate, and the ratio is that of the
medians: a busy machine slows both. Here jobs wait on the bus all the time, as they do on a busy one.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
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

RTU_MAX, TCP_MAX = 0.55, 0.35
REGISTERS = 10
SERIAL = SerialSettings(baud=115200, parity="N")
METERS = 16
"""Behind one line, each with a job that waits on the bus."""
PROFILE = "acrel-dtsd1352"
"""Any model that serves as many registers at once; what is read is named by its register."""

Protocol = Literal["modbus-rtu", "modbus-tcp"]
Read = Callable[[int], Awaitable[None]]
"""Reads so many times."""
Found = tuple[list[float], list[float]]
"""Processor seconds a read: here and there, round by round."""


def run(reads: int = 400, rounds: int = 7) -> Iterator[Figure]:
    """RTU, then TCP; pymodbus does not keep the silence between RTU frames, so once more with it."""
    with answering(ptys=2, tcps=1) as meters:
        ours, theirs = meters.ptys
        rtu = asyncio.run(_compare("modbus-rtu", ours, theirs, reads, rounds))
        yield _figure("RTU on a pty", rtu, at_most=RTU_MAX)
        rtu = asyncio.run(_compare("modbus-rtu", ours, theirs, reads, rounds, silence_s=T35_S_MIN))
        yield _figure("RTU on a pty, pymodbus made to keep t3.5", rtu, at_most=None)
        (port,) = meters.tcps
        for pipeline, at_most, words in ((METERS, TCP_MAX, "pipelined"), (1, None, "one question at a time")):
            tcp = asyncio.run(_compare("modbus-tcp", port, port, 4 * reads, rounds, pipeline=pipeline))
            yield _figure(f"Modbus TCP, {words}", tcp, at_most=at_most)


def _figure(what: str, found: Found, *, at_most: float | None) -> Figure:
    ours, theirs = map(median, found)
    return Figure(
        bench="modbus_cpu", what=f"processor time of a read, {what}", figure=ours / theirs, unit="of pymodbus's",
        at_most=at_most,
        more={"us": round(ours * 1e6, 1), "pymodbus_us": round(theirs * 1e6, 1), "rounds": len(found[0])},
    )  # fmt: skip


async def _compare(
    protocol: Protocol, ours: str, theirs: str, reads: int, rounds: int, *, pipeline: int = 1, silence_s: float = 0.0
) -> Found:  # fmt: skip
    entry = BusEntry(name="bench", port=ours, serial=SERIAL, pipeline=pipeline)
    bus = bus_for(entry, now_ms=lambda: time.time_ns() // 1_000_000)
    client: ModbusBaseClient
    if protocol == "modbus-rtu":
        client = AsyncModbusSerialClient(theirs, baudrate=SERIAL.baud, parity="N")
    else:
        host, _, port = theirs.removeprefix("tcp://").partition(":")
        client = AsyncModbusTcpClient(host, port=int(port))
    serving = asyncio.create_task(bus.run(), name="bus:bench")
    here, there = _here(bus, serving, protocol), _there(client, silence_s)
    try:
        assert await client.connect(), f"pymodbus did not connect to {theirs}"
        await here(reads // 10)
        await there(reads // 10)
        found: Found = ([], [])
        for _ in range(rounds):
            for into, read in zip(found, (here, there), strict=True):
                began = time.process_time()
                await read(reads)
                into.append((time.process_time() - began) / reads)
        return found
    finally:
        client.close()
        bus.stop()
        await serving


def _here(bus: Bus, serving: asyncio.Task[None], protocol: Protocol) -> Read:
    profile = load_profile(PROFILE)
    items = [f"holding:{n}:uint16" for n in range(REGISTERS)]
    entries = [
        MeterEntry(id=f"m{unit}", point="p", bus="bench", address=f"{unit}", profile=PROFILE, protocol=protocol)
        for unit in range(1, METERS + 1)
    ]
    reads = [(Meter(entry, profile, bus.entry), plan(profile, entry, items, SERIAL)) for entry in entries]
    assert all(read.exchanges == 1 for _, read in reads)

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


def _there(client: ModbusBaseClient, silence_s: float) -> Read:
    async def read(count: int) -> None:
        for n in range(count):
            reply = await client.read_holding_registers(0, count=REGISTERS, device_id=1 + n % METERS)
            values = [Decimal(register) for register in reply.registers]
            assert len(values) == REGISTERS
            if silence_s:
                await asyncio.sleep(silence_s)

    return read
