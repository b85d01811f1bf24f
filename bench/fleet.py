"""200 Modbus TCP meters of 50 registers each, every second: what the gateway sustains, and what it costs.

The gateway is `meterwire run` with a store on a real disk and a centre that lands and receipts, over a real broker;
the meters are one lean process, and all 50 registers of each change from read to read. Beside it, in the same seconds,
pymodbus reads the same registers of the same meters in a process of its own, turns them into Decimals, and drops them.

What is counted are whole rounds: every value of every whole second between two moments, as it was accepted and as it
landed. One value that is missing keeps the figure below what the meters offered.
"""

import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

from bench.answering import answering
from bench.append import REAL_DISK
from bench.daemon import memory_mib, processor_s
from bench.figure import Figure
from central.sinks import open_sink
from config.model import BusEntry, MeterEntry, Site, TaskEntry, UplinkEntry
from field.chain import Installation
from field.clock import wall_ms
from field.truth import read_accepted
from gateway.status import ask
from tests.broker import running_broker

VALUES_MIN, PROCESSOR_MAX, MIB_MAX = 10_000, 60.0, 80.0
REGISTERS = 50
PROFILE = "acrel-dtsd1352"
"""Any model that serves as many registers at once; what is read is named by its register."""
WARM_S = 10.0


def run(meters: int = 200, seconds: float = 30) -> Iterator[Figure]:
    """Values a second into the store and to the centre, the share of a core, pymodbus's beside it, and the memory."""
    directory = Path(tempfile.mkdtemp(prefix="meterwire-bench-", dir=REAL_DISK))
    try:
        with answering(tcps=meters) as fleet, running_broker() as broker:
            site = _site(directory, fleet.tcps, broker.url)
            installation = Installation(directory, site)
            try:
                installation.start()
                with _pymodbus(fleet.tcps) as other:
                    yield from _measure(installation, other, fleet.pid, seconds)
            finally:
                installation.kill()
    finally:
        shutil.rmtree(directory)


def _site(directory: Path, ports: Sequence[str], url: str) -> Site:
    items = tuple(f"holding:{n}:uint16" for n in range(REGISTERS))
    return Site(
        gateway="gw-fleet", clock_trust="always", store=directory / "store", keys=directory / "keys",
        socket=directory / "mw.sock", uplink=UplinkEntry(url=url),
        buses=tuple(BusEntry(name=f"tcp{n}", port=port) for n, port in enumerate(ports, 1)),
        meters=tuple(
            MeterEntry(id=f"m{n:03d}", point=f"p{n:03d}", bus=f"tcp{n}", address="1", profile=PROFILE,
                       protocol="modbus-tcp", tasks=("second",))
            for n in range(1, len(ports) + 1)
        ),
        tasks=(TaskEntry(name="second", every_s=1, items=items),),
    )  # fmt: skip


def _measure(installation: Installation, other: int, fleet: int, seconds: float) -> Iterator[Figure]:
    gateway, meters = installation.gateway.pid, len(installation.site.meters)
    time.sleep(min(WARM_S, seconds))
    pids = (gateway, other, fleet, installation.centre.pid)
    before, began, costs = wall_ms(), time.monotonic(), [processor_s(pid) for pid in pids]
    time.sleep(seconds)
    after, took = wall_ms(), time.monotonic() - began
    shares = [100 * (processor_s(pid) - cost) / took for pid, cost in zip(pids, costs, strict=True)]
    ours, pymodbus, served, centre = (round(share, 1) for share in shares)
    memory = memory_mib(gateway)
    waiting = _waiting(installation)
    rounds = range(-(-before // 1000) * 1000, after // 1000 * 1000, 1000)
    began = time.monotonic()
    installation.drain()
    drained_s = time.monotonic() - began

    what = f"{meters} Modbus TCP meters of {REGISTERS} registers, every second"
    offered = meters * REGISTERS
    at_least = float(offered) if offered >= VALUES_MIN else None
    accepted = sum(
        len(capture.values) - list(capture.values.values()).count(None)
        for capture in read_accepted(installation.accepted)
        if capture.slot in rounds
    )
    yield Figure(
        bench="fleet", what=f"accepted by the store: {what}", figure=accepted / len(rounds), unit="values/s",
        at_least=at_least, more={"offered": offered, "rounds": len(rounds)},
    )  # fmt: skip
    landed, late_ms = _landed(installation, rounds)
    yield Figure(
        bench="fleet", what=f"through the broker, landed and receipted: {what}", unit="values/s",
        figure=landed / len(rounds), at_least=at_least,
        more={"read_late_ms": late_ms, "waiting_after": waiting, "drained_s": round(drained_s, 1)},
    )  # fmt: skip
    yield Figure(
        bench="fleet", what=f"processor of the gateway: {what}", figure=ours, unit="% of a core",
        at_most=PROCESSOR_MAX, more={"pymodbus_reading_the_same": pymodbus, "meters": served, "centre": centre},
    )  # fmt: skip
    yield Figure(
        bench="fleet", what=f"VmRSS of the gateway: {what}", figure=memory["VmRSS"], unit="MiB", at_most=MIB_MAX,
        more={"VmHWM": memory["VmHWM"]},
    )  # fmt: skip


def _landed(installation: Installation, rounds: range) -> tuple[int, int]:
    """Values of these rounds that the centre has, and how long after its second the latest of them was read."""
    count = late_ms = 0
    sink = open_sink(installation.database)
    try:
        for reading in sink.readings(since=rounds.start, until=rounds.stop):
            assert reading.slot is not None
            if reading.plain is not None:
                count += 1
                late_ms = max(late_ms, reading.read_at - reading.slot)
    finally:
        sink.close()
    return count, late_ms


def _waiting(installation: Installation) -> dict[str, int]:
    """Between the store and the receipt."""
    buffer: Any = asyncio.run(ask(installation.site.socket))["buffer"]
    return {"records": buffer["unsealed"], "batches": buffer["batches"]}


@contextmanager
def _pymodbus(ports: Sequence[str]) -> Iterator[int]:
    """The other poller, until the block ends: its process."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.fleet"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        cwd=Path(__file__).resolve().parent.parent,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(ports) + "\n")
        process.stdin.flush()
        if process.stdout.readline().strip() != "ready":
            raise RuntimeError("pymodbus did not connect to the meters")
        yield process.pid
        if process.poll() is not None:
            raise RuntimeError("pymodbus ended by itself")
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


async def _poll_with_pymodbus(ports: Sequence[str]) -> None:
    """Every meter every second, all at once, until standard input is closed."""
    from pymodbus.client import AsyncModbusTcpClient

    clients = []
    for port in ports:
        host, _, number = port.removeprefix("tcp://").partition(":")
        clients.append(AsyncModbusTcpClient(host, port=int(number)))
        assert await clients[-1].connect()
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(sys.stdin, ended.set)
    print("ready", flush=True)

    async def read(client: AsyncModbusTcpClient) -> int:
        reply = await client.read_holding_registers(0, count=REGISTERS, device_id=1)
        return len([Decimal(register) for register in reply.registers])

    due = loop.time()
    while not ended.is_set():
        assert sum(await asyncio.gather(*map(read, clients))) == REGISTERS * len(clients)
        due += 1.0
        await asyncio.sleep(due - loop.time())


if __name__ == "__main__":
    asyncio.run(_poll_with_pymodbus(json.loads(sys.stdin.readline())))
