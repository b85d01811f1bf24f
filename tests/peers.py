"""Meters that were not written here, as processes of their own: `python -m tests.peers KIND ENDPOINT`.

The package `dlt645` (its meter server) and pymodbus (its SimDevice server), on TCP or on a tty. Each is told to serve
the values of the tables below, prints `ready`, and serves until it is ended. The tables are what must land, exactly.
"""

import asyncio
import os
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

DLT645_ADDRESS: Final = "202411110002"
DLT645_VALUES: Final = {
    "energy.active.import.total": (0x00010000, "1234.56"),
    "energy.active.export.total": (0x00020000, "7.08"),
    "energy.active.import.t1": (0x00010100, "234.50"),
    "voltage.a": (0x02010100, "231.7"),
    "current.a": (0x02020100, "4.999"),
    "power.active.total": (0x02030000, "1.1583"),
    "power_factor.total": (0x02060000, "0.987"),
    "frequency": (0x02800002, "50.03"),
}
"""Quantity, data identifier, and the value that the server is told to serve."""

MODBUS_UNITS: Final = (1, 17)
SDM630_VALUES: Final = {
    "voltage.a": (0x0000, "230.1"),
    "voltage.b": (0x0002, "229.9"),
    "voltage.c": (0x0004, "231.25"),
    "current.a": (0x0006, "4.125"),
    "frequency": (0x0046, "50.02"),
    "energy.active.import.total": (0x0048, "12345.67"),
    "energy.active.export.total": (0x004A, "0.5"),
}
"""Quantity, 0-based input register of an SDM630, and the float32 that is served there (as its shortest decimal)."""
SDM630_REGISTERS: Final = 0x180


def serve_dlt645(endpoint: str) -> None:
    """The package's own meter server, on `tcp://127.0.0.1:PORT` or a tty."""
    from dlt645 import MeterServerService

    if endpoint.startswith("tcp://"):
        host, port = endpoint.removeprefix("tcp://").rsplit(":", 1)
        server = MeterServerService.new_tcp_server(host, int(port), 3000)
    else:
        server = MeterServerService.new_rtu_server(
            port=endpoint, data_bits=8, stop_bits=1, baud_rate=9600, parity="N", timeout=1.0
        )
    # The package takes the address in wire order.
    server.set_address(bytes.fromhex(DLT645_ADDRESS)[::-1])
    for di, text in DLT645_VALUES.values():
        setter = server.set_00 if di >> 24 == 0 else server.set_02
        assert setter(di, float(text)), f"the peer refused {di:08X}"
    server.server.start()
    print("ready", flush=True)
    while True:
        time.sleep(3600)


async def serve_modbus(endpoint: str) -> None:
    """pymodbus's server with SimDevices: input registers of an SDM630, two units."""
    from pymodbus.server import ModbusSerialServer, ModbusTcpServer
    from pymodbus.simulator import DataType, SimData, SimDevice

    registers = [0] * SDM630_REGISTERS
    for register, text in SDM630_VALUES.values():
        registers[register : register + 2] = struct.unpack(">HH", struct.pack(">f", float(text)))
    bits = [SimData(0, values=[False] * 16, datatype=DataType.BITS)]
    words = [SimData(0, values=registers, datatype=DataType.REGISTERS)]
    devices = [SimDevice(id=unit, simdata=(bits, bits, words, words)) for unit in MODBUS_UNITS]
    server: ModbusTcpServer | ModbusSerialServer
    if endpoint.startswith("tcp://"):
        host, port = endpoint.removeprefix("tcp://").rsplit(":", 1)
        server = ModbusTcpServer(devices, address=(host, int(port)))
    else:
        server = ModbusSerialServer(devices, port=endpoint, baudrate=9600, parity="N")
    serving = asyncio.create_task(server.serve_forever(), name="serve")
    await asyncio.sleep(0.2)
    print("ready", flush=True)
    await serving


@contextmanager
def peer(kind: str, endpoint: str) -> Iterator[None]:
    """Run an independent meter in a process of its own until the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.peers", kind, endpoint],
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
            raise RuntimeError(f"{kind} at {endpoint} did not start: {process.stderr.read()}")
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


def main(kind: str, endpoint: str) -> None:
    """Serve what was asked for."""
    if kind == "dlt645":
        serve_dlt645(endpoint)
    elif kind == "modbus":
        asyncio.run(serve_modbus(endpoint))
    elif kind == "cable":
        asyncio.run(serve_cable())
    else:
        raise SystemExit(f"expected dlt645, modbus or cable, got {kind!r}")


if __name__ == "__main__":
    main(*sys.argv[1:3])
