"""Meters that were not written here, as processes of their own: `python -m tests.peers NAME ENDPOINT`.

The package `dlt645` (its meter server), pymodbus (its SimDevice server) and, as a program in C, libmodbus, on TCP or on
a tty. Each is told to serve the values of its table in `tests.told`, prints `ready`, and serves until it is ended.
"""

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from pathlib import Path

from tests.told import PEERS, Told


def serve_dlt645(endpoint: str, told: Told) -> None:
    """The package's own meter server, on `tcp://127.0.0.1:PORT` or a tty."""
    from dlt645 import MeterServerService
    from dlt645.model.types.dlt645_type import Demand

    if endpoint.startswith("tcp://"):
        host, port = endpoint.removeprefix("tcp://").rsplit(":", 1)
        server = MeterServerService.new_tcp_server(host, int(port), 3000)
    else:
        server = MeterServerService.new_rtu_server(
            port=endpoint, data_bits=8, stop_bits=1, baud_rate=9600, parity="N", timeout=1.0
        )
    # The package takes the address in wire order.
    server.set_address(bytes.fromhex(told.address)[::-1])
    for di, group in groupby(told.items, key=attrgetter("at")):
        values = [item.told for item in group]
        match di >> 24:
            case 0:
                taken = server.set_00(di, float(values[0]))
            case 1:
                taken = server.set_01(di, Demand(float(values[0]), datetime.fromisoformat(values[1])))
            case 2:
                taken = server.set_02(di, float(values[0]))
            case _:
                taken = server.set_04(di, values[0])
        assert taken, f"the peer refused {di:08X}"
    assert server.server.start(), f"the peer did not start at {endpoint}"
    print("ready", flush=True)
    while True:
        time.sleep(3600)


async def serve_modbus(endpoint: str, meters: Sequence[Told]) -> None:
    """pymodbus's server with a SimDevice for each meter. Registers of which it was told nothing are refused."""
    from pymodbus.server import ModbusSerialServer, ModbusTcpServer
    from pymodbus.simulator import DataType, SimData, SimDevice

    devices = []
    for told in meters:
        registers = [
            SimData(item.at, values=float(item.told) if "FLOAT" in item.kind else int(item.told),
                    datatype=DataType[item.kind])
            for item in told.items
        ]  # fmt: skip
        bits = [SimData(0, values=[False] * 16, datatype=DataType.BITS)]
        nothing = [SimData(0xFFFF, values=0, datatype=DataType.REGISTERS)]
        holding, inputs = (registers, nothing) if told.table == "holding" else (nothing, registers)
        devices.append(SimDevice(id=int(told.address), simdata=(bits, bits, holding, inputs)))
    server: ModbusTcpServer | ModbusSerialServer
    if endpoint.startswith("tcp://"):
        host, port = endpoint.removeprefix("tcp://").rsplit(":", 1)
        server = ModbusTcpServer(devices, address=(host, int(port)))
    else:
        server = ModbusSerialServer(devices, port=endpoint, baudrate=9600, parity="N")
    await server.serve_forever(background=True)
    print("ready", flush=True)
    await server.serving


SOURCE = Path(__file__).with_name("peer_libmodbus.c")
LIBMODBUS = Path("/usr/include/modbus/modbus.h")


def build_libmodbus(directory: Path) -> Path | None:
    """The server of libmodbus, built there; None where the library or a compiler (libmodbus-dev, gcc) is missing."""
    compiler = shutil.which("gcc")
    if compiler is None or not LIBMODBUS.exists():
        return None
    built = directory / SOURCE.stem
    subprocess.run(
        [compiler, "-Wall", "-Wextra", "-Werror", "-o", str(built), str(SOURCE), "-lmodbus"], check=True, timeout=120
    )
    return built


def libmodbus_command(built: Path, name: str, endpoint: str) -> list[str]:
    """How the server is told to be the one meter of this table."""
    (told,) = PEERS[name]
    at = endpoint.replace("tcp://127.0.0.1", "tcp") if endpoint.startswith("tcp://") else endpoint
    return [str(built), at, told.address, told.table, *(f"{item.kind}:{item.at}:{item.told}" for item in told.items)]


@contextmanager
def peer(name: str, endpoint: str, command: Sequence[str] = ()) -> Iterator[None]:
    """Run an independent meter in a process of its own until the block ends. command: of one that is no Python."""
    process = subprocess.Popen(
        command or [sys.executable, "-m", "tests.peers", name, endpoint],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parent.parent,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        for line in process.stdout:
            if line.strip() == "ready":
                break
        else:
            raise RuntimeError(f"{name} at {endpoint} did not start: {process.stderr.read()}")
        yield
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


@dataclass(frozen=True)
class Cable:
    """Two ttys with a wire between them: what is written to one is read from the other."""

    near: str
    far: str


@contextmanager
def cable() -> Iterator[Cable]:
    """A pair of ptys, bridged by a process of their own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.peers", "cable", "-"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parent.parent,
    )
    assert process.stdout is not None
    try:
        near, far = process.stdout.readline().split()
        yield Cable(near, far)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


async def serve_cable() -> None:
    """Carry bytes between two ptys for ever; print the names of their far ends."""
    import tty

    masters: list[int] = []
    names: list[str] = []
    slaves: list[int] = []
    for _ in range(2):
        master, slave = os.openpty()
        tty.setraw(slave)
        os.set_blocking(master, False)
        masters.append(master)
        slaves.append(slave)  # kept open, so that the master never sees a hang-up between two users
        names.append(os.ttyname(slave))
    loop = asyncio.get_running_loop()

    def carry(source: int, target: int) -> None:
        os.write(target, os.read(source, 4096))

    loop.add_reader(masters[0], carry, masters[0], masters[1])
    loop.add_reader(masters[1], carry, masters[1], masters[0])
    print(*names, flush=True)
    await asyncio.Event().wait()


def main(name: str, endpoint: str) -> None:
    """Serve what was asked for."""
    if name == "cable":
        asyncio.run(serve_cable())
    elif name.startswith("dlt645"):
        serve_dlt645(endpoint, *PEERS[name])
    else:
        asyncio.run(serve_modbus(endpoint, PEERS[name]))


if __name__ == "__main__":
    main(*sys.argv[1:3])
