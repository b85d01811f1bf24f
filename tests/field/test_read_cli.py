"""`meterwire read`: live reads of simulated meters over ptys and TCP, and what goes wrong said in words."""

import asyncio
import json
from collections.abc import Generator
from decimal import Decimal
from typing import Any

import pytest
from click.testing import CliRunner, Result

from config.model import BusEntry, SerialSettings
from drivers.port import open_line
from drivers.profile import load_profile
from field.clock import wall_ms
from field.main import main
from protocols.dlt645.frame import parse
from simulators.dlt645 import Dlt645Meter
from simulators.endpoints import ModbusTcpEndpoint, PtyEndpoint, TcpEndpoint
from simulators.load import Load
from simulators.meter import SimulatedMeter
from simulators.modbus import ModbusMeter
from simulators.noise import QUIET, Faults
from simulators.wire import Wire
from tests.beside import serving

pytestmark = pytest.mark.slow
"""Each read opens a real port, and listens to it before it asks."""

KEYS = ["item", "quantity", "value", "unit", "quality", "fault", "detail", "raw"]
ADDRESS = "000000000001"
FAST = SerialSettings(baud=115200, parity="E")


def meters() -> list[SimulatedMeter]:
    dlt645 = Dlt645Meter(ADDRESS, Load(1), extra={"00000100": bytes(range(250))})
    single = Dlt645Meter("000000000003", Load(3, phases=1))
    modbus = ModbusMeter(7, load_profile("eastron-sdm630"), Load(2))
    named: dict[str, Dlt645Meter | ModbusMeter] = {"d": dlt645, "s": single, "m": modbus}
    return [SimulatedMeter(id=name, meter=one, turnaround_ms=(1.0, 1.0)) for name, one in named.items()]


def wire(faults: Faults = QUIET) -> Wire:
    return Wire(meters(), serial=FAST, now_ms=wall_ms, faults=faults, match="none")


@pytest.fixture(scope="module")
def pty() -> Generator[str, None, None]:
    with serving(PtyEndpoint(wire())) as port:
        yield port


def read(port: str, protocol: str, meter: str, *rest: str) -> Result:
    arguments = ["read", "--port", port, "--protocol", protocol, "--meter", meter, *rest]
    if not port.startswith("tcp") and "--serial" not in rest:
        arguments += ["--serial", str(FAST)]
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


def objects(result: Result) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert all(list(line) == KEYS for line in lines)
    return lines


def test_items_are_read_in_the_order_given_with_the_frames_that_brought_them(pty: str) -> None:
    result = read(pty, "dlt645-2007", ADDRESS, "--json", "voltage.a", "00010000", "04000401", "0400010C")
    assert result.exit_code == 0
    lines = objects(result)
    volts, energy, address, clock, weekday = lines
    assert [line["item"] for line in lines] == ["voltage.a", "00010000", "04000401", "0400010C", "0400010C"]
    assert (volts["quantity"], volts["unit"], volts["quality"], volts["fault"]) == ("voltage.a", "V", "good", None)
    assert energy["quantity"] == "energy.active.import.total"
    assert Decimal(energy["value"]) > 0 and "E" not in energy["value"]
    assert address["value"] == ADDRESS
    assert sorted([clock["quantity"], weekday["quantity"]]) == ["clock", "clock.weekday"]
    assert {clock["raw"]} == {weekday["raw"]}
    frame = parse(bytes.fromhex(energy["raw"]))
    assert (frame.address, frame.control, frame.data[:4].hex()) == (ADDRESS, 0x91, "00000100")


def test_a_block_gives_a_line_for_each_of_its_values(pty: str) -> None:
    lines = objects(read(pty, "dlt645-2007", ADDRESS, "--json", "0201FF00"))
    assert [line["quantity"] for line in lines] == ["voltage.a", "voltage.b", "voltage.c"]
    assert len({line["raw"] for line in lines}) == 1


def test_an_item_the_meter_has_not_is_absent_and_the_others_are_read(pty: str) -> None:
    result = read(pty, "dlt645-2007", "000000000003", "--json", "02010200", "02010100")
    assert result.exit_code == 1
    lacking, volts = objects(result)
    assert (lacking["value"], lacking["quality"], lacking["fault"]) == (None, "unavailable", "absent")
    assert parse(bytes.fromhex(lacking["raw"])).abnormal
    assert volts["fault"] is None and Decimal(volts["value"]) > 100


def test_follow_up_frames_are_all_shown(pty: str) -> None:
    result = read(pty, "dlt645-2007", ADDRESS, "--json", "00000100")
    frames = [parse(bytes.fromhex(raw)) for raw in objects(result)[0]["raw"].split()]
    assert [frame.control for frame in frames] == [0xB1, 0x92]


def test_modbus_registers_and_names_are_read_over_the_same_kinds_of_port(pty: str) -> None:
    with serving(TcpEndpoint(wire())) as server, serving(ModbusTcpEndpoint(meters()[2:], now_ms=wall_ms)) as tcp:
        for port, protocol in [(pty, "modbus-rtu"), (server, "modbus-rtu"), (tcp, "modbus-tcp"),
                               (pty, "modbus-ascii"), (server, "modbus-ascii")]:  # fmt: skip
            result = read(port, protocol, "7", "--json", "input:0:float32", "input:0:uint16:2")
            assert result.exit_code == 0, result.stderr
            volts, *words = objects(result)
            assert Decimal(volts["value"]) > 100
            assert volts["raw"] and len(words) == 2
            if protocol == "modbus-ascii":
                assert bytes.fromhex(volts["raw"]).startswith(b":07")
                continue
            named = read(port, protocol, "7", "--json", "--profile", "eastron-sdm630", "voltage.a")
            assert objects(named)[0]["quantity"] == "voltage.a"


def test_a_table_for_people_in_two_languages(pty: str) -> None:
    english = read(pty, "dlt645-2007", ADDRESS, "voltage.a", "frequency", "--lang", "en").stdout
    assert "voltage.a" in english and "Hz" in english and "quantity" in english
    chinese = read(pty, "dlt645-2007", ADDRESS, "voltage.a", "--lang", "zh").stdout
    assert "A相电压" in chinese and "名称" in chinese


def test_a_meter_that_is_not_there_is_silent_and_nothing_worked(pty: str) -> None:
    result = read(
        pty, "dlt645-2007", "000000000009", "--json", "--timeout", "0.02", "--attempts", "1", "voltage.a", "frequency"
    )
    assert result.exit_code == 3
    assert [(line["fault"], line["quality"], line["value"], line["raw"]) for line in objects(result)] == [
        ("silent", "unavailable", None, None)
    ] * 2


def test_damaged_answers_are_garbled_and_shown() -> None:
    with serving(PtyEndpoint(wire(Faults(ber=0.05)))) as port:
        result = read(port, "dlt645-2007", ADDRESS, "--json", "--attempts", "1", "--timeout", "0.02", "0201FF00")
    assert result.exit_code == 3
    for line in objects(result):
        assert line["fault"] in ("garbled", "silent")
        assert line["quality"] == ("invalid" if line["fault"] == "garbled" else "unavailable")
        assert (line["raw"] is not None) == (line["fault"] == "garbled")


def test_a_port_that_is_missing_says_so_and_every_value_has_fault_bus() -> None:
    result = read("/dev/no-such-device", "dlt645-2007", ADDRESS, "--json", "voltage.a", "--lang", "en")
    assert result.exit_code == 3
    assert "cannot open the port" in result.stderr and "no such device" in result.stderr
    assert [line["fault"] for line in objects(result)] == ["bus"]


def test_a_port_in_use_is_busy(pty: str) -> None:
    async def both() -> Result:
        line = await open_line(BusEntry(name="held", port=pty, serial=FAST))
        try:
            return await asyncio.to_thread(read, pty, "dlt645-2007", ADDRESS, "voltage.a", "--lang", "en")
        finally:
            line.close()

    result = asyncio.run(both())
    assert result.exit_code == 4
    assert "in use by another program" in result.stderr


def test_a_far_end_that_hangs_up_is_fault_bus() -> None:
    class Rude(TcpEndpoint):
        async def start(self) -> None:
            async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await reader.readuntil(b"\x16")
                writer.close()

            self._rude = await asyncio.start_server(hang_up, "127.0.0.1", 0)
            self.port = self._rude.sockets[0].getsockname()[1]

        async def stop(self) -> None:
            self._rude.close()

    with serving(Rude(wire())) as port:
        result = read(port, "dlt645-2007", ADDRESS, "--json", "voltage.a")
    assert result.exit_code == 3
    assert [line["fault"] for line in objects(result)] == ["bus"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["/dev/x", "dlt645-2007", "12", "voltage.a"], "12 digits"),
        (["/dev/x", "dlt645-2007", "00000000000x", "voltage.a"], "12 digits"),
        (["/dev/x", "modbus-rtu", "248", "holding:0"], "1 to 247"),
        (["/dev/x", "modbus-tcp", "1", "holding:0"], "tcp://host:port"),
        (["/dev/x", "modbus-rtu", "1", "holding:0", "--serial", "9600-7E1"], "8 data bits"),
        (["/dev/x", "modbus-ascii", "248", "holding:0"], "1 to 247"),
        (["/dev/x", "modbus-ascii", "1", "voltage.a", "--profile", "eastron-sdm630"], "one that speaks"),
        (["/dev/x", "dlt645-2007", ADDRESS, "no.such.item"], "no.such.item"),
        (["/dev/x", "modbus-rtu", "1", "holding:70000"], "holding:70000"),
        (["/dev/x", "dlt645-2007", ADDRESS, "voltage.a", "--serial", "2400-6E1"], "2400-8E1"),
        (["/dev/x", "dlt645-2007", ADDRESS, "voltage.a", "--profile", "eastron-sdm120"], "one that speaks"),
    ],
)
def test_a_mistake_in_options_or_items_is_named_and_exits_2(arguments: list[str], said: str) -> None:
    result = read(*arguments)
    assert result.exit_code == 2
    assert said in result.stderr


def test_all_mistakes_are_named_at_once() -> None:
    result = read("/dev/x", "modbus-tcp", "300", "--json", "holding:0")
    assert result.exit_code == 2
    assert [json.loads(line)["where"] for line in result.stdout.splitlines()] == ["--meter", "--port"]
