"""Modbus over real sockets: many meters behind one pipelined connection, and pymodbus as the other side of ours."""

import asyncio
from collections.abc import Coroutine
from decimal import Decimal
from typing import Any

import pytest
from pymodbus.client import AsyncModbusTcpClient
from pymodbus.framer import FramerType
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from config.model import BusEntry, MeterEntry, ProtocolName, SerialSettings
from drivers.bus import Job, Lane, Outcome
from drivers.meter import Meter
from drivers.pipelined import PipelinedBus, bus_for
from drivers.plan import plan
from drivers.profile import load_profile
from field.clock import wall_ms
from simulators.endpoints import ModbusTcpEndpoint, TcpEndpoint
from simulators.meter import SimulatedMeter, build_meter
from simulators.wire import Wire
from tests.processes import free_port

SERIAL = SerialSettings(baud=115200, parity="N")
ITEMS = ("voltage.a", "frequency", "power.active.total", "energy.active.import.total")


def entry(unit: int, protocol: ProtocolName, profile: str = "eastron-sdm630") -> MeterEntry:
    return MeterEntry(id=f"m{unit}", point="p", bus="b", address=str(unit), profile=profile, protocol=protocol)


def simulated(units: range, protocol: ProtocolName) -> list[SimulatedMeter]:
    profile = load_profile("eastron-sdm630")
    return [build_meter(profile, meter_id=f"m{unit}", address=str(unit), protocol=protocol) for unit in units]


async def read(bus_entry: BusEntry, meters: list[MeterEntry], items: tuple[str, ...]) -> dict[str, Outcome]:
    """Each of these meters once, over one bus."""
    loop = asyncio.get_running_loop()
    ended: dict[str, Outcome] = {}
    whole = loop.create_future()
    bus = bus_for(bus_entry, now_ms=wall_ms)

    def job(meter: MeterEntry) -> Job:
        def done(outcome: Outcome) -> None:
            ended[meter.id] = outcome
            if len(ended) == len(meters):
                whole.set_result(None)

        profile = load_profile(meter.profile)
        reading = plan(profile, meter, items, SERIAL)
        return Job(meter=Meter(meter, profile, bus_entry), dialogue=reading.dialogue, lane=Lane.CURVE,
                   deadline=loop.time() + 20, done=done)  # fmt: skip

    for meter in meters:
        bus.submit(job(meter))
    async with asyncio.TaskGroup() as group:
        group.create_task(bus.run(), name="bus")
        await asyncio.wait_for(whole, 20)
        bus.stop()
    assert not isinstance(bus, PipelinedBus) or bus.fallbacks == 0
    return ended


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(main, 40))


def test_thirty_meters_behind_one_pipelined_connection_each_give_their_own_values() -> None:
    async def main() -> None:
        meters = simulated(range(1, 31), "modbus-tcp")
        endpoint = ModbusTcpEndpoint(meters, now_ms=wall_ms)
        await endpoint.start()
        try:
            bus_entry = BusEntry(name="b", port=endpoint.endpoint, serial=SERIAL, pipeline=8)
            ended = await read(bus_entry, [entry(unit, "modbus-tcp") for unit in range(1, 31)], ITEMS)
        finally:
            await endpoint.stop()
        served = {one.meter: one.values for one in endpoint.log.entries}
        for meter, outcome in ended.items():
            assert outcome.values is not None
            for value in outcome.values:
                assert value.plain is not None
                assert Decimal(value.plain) == Decimal(served[meter][value.quantity.name])

    run(main())


@pytest.mark.parametrize(("framer", "protocol"), [(FramerType.RTU, "modbus-rtu"), (FramerType.ASCII, "modbus-ascii")])
def test_pymodbus_reads_our_simulated_meters_over_a_serial_server(framer: FramerType, protocol: ProtocolName) -> None:
    async def main() -> None:
        endpoint = TcpEndpoint(Wire(simulated(range(7, 9), "modbus-rtu"), serial=SERIAL, now_ms=wall_ms, match="none"))
        await endpoint.start()
        client = AsyncModbusTcpClient(endpoint.host, port=endpoint.port, framer=framer, timeout=2)
        try:
            assert await client.connect()
            answer = await client.read_input_registers(0, count=2, device_id=8)
            volts = client.convert_from_registers(answer.registers, client.DATATYPE.FLOAT32)
            assert isinstance(volts, float) and 180 < volts < 260
            refused = await client.read_holding_registers(0, count=2, device_id=8)
            assert refused.exception_code == 2
        finally:
            client.close()
            await endpoint.stop()

    run(main())


@pytest.mark.parametrize(
    ("framer", "protocol"),
    [(FramerType.RTU, "modbus-rtu"), (FramerType.ASCII, "modbus-ascii"), (FramerType.SOCKET, "modbus-tcp")],
)
def test_we_read_a_pymodbus_server_in_every_framing_over_tcp(framer: FramerType, protocol: ProtocolName) -> None:
    async def main() -> None:
        device = SimDevice(id=5, simdata=[SimData(100, values=list(range(500, 520)), datatype=DataType.REGISTERS)])
        port = free_port()
        server = ModbusTcpServer(device, address=("127.0.0.1", port), framer=framer)
        await server.serve_forever(background=True)
        try:
            bus_entry = BusEntry(name="b", port=f"tcp://127.0.0.1:{port}", serial=SERIAL)
            items = ("holding:100:uint16:10", "holding:110:uint32")
            ended = await read(bus_entry, [entry(5, protocol, "modbus-generic")], items)
        finally:
            await server.shutdown()
        values = [value.plain for value in ended["m5"].values or ()]
        assert values == [*map(str, range(500, 510)), str(510 << 16 | 511)]

    run(main())
