"""`meterwire doctor` over real ports, and how it says what it found."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from config.model import BusEntry, SerialSettings
from drivers.port import open_line
from field import port as ports
from field.clock import wall_ms
from field.diagnosis import examination
from field.main import main
from simulators.endpoints import ModbusTcpEndpoint, PtyEndpoint, TcpEndpoint
from simulators.noise import QUIET, Faults
from simulators.wire import Wire
from tests import sites
from tests.beside import serving, telling
from tests.field.test_cli_words import HAN, prose
from tests.peers import peer
from tests.processes import free_port
from tests.sick import BehindDlt645, TurnDlt645, Turns, dlt645, modbus
from tests.standstill import undisturbed
from tests.told import PEERS

FAST = SerialSettings.parse("115200-8N1")
METER = "000000000001"


def wire(*meters: Any, faults: Faults = QUIET) -> Wire:
    return Wire(meters, serial=FAST, now_ms=wall_ms, faults=faults, match="none")


def doctor(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["doctor", *arguments], catch_exceptions=False)


def objects(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real time is dear."""
    monkeypatch.setattr(examination, "PATIENCE_S", 3.0)


QUICK = ["--questions", "4", "--listen", "0.3"]
ALLOWED_S = 0.5
"""Beyond that, an answer of a DL/T 645 meter is late: it, and whoever examines it, have to run as soon as that."""


@pytest.mark.slow
@pytest.mark.real
def test_a_healthy_bus_on_a_tty_is_all_good() -> None:
    def examined() -> Result:
        with serving(PtyEndpoint(wire(dlt645(turnaround_ms=(5, 9))))) as port:
            return doctor("--port", port, "--serial", str(FAST), "--meter", METER, *QUICK, "--json")

    result = undisturbed(examined, shorter_than_s=ALLOWED_S)
    assert result.exit_code == 0, result.stdout
    how, *found = objects(result)
    assert list(how) == ["kind", "meter", "asked", "answered", "silent", "damaged", "wrong", "turnaround_ms"]
    assert (how["asked"], how["answered"]) == (4, 4)
    least, median, most = how["turnaround_ms"]
    assert least <= median <= most
    assert median >= 4  # one alone looks shorter where the process was held up between asking and looking at the clock
    assert {one["severity"] for one in found} == {"ok"}
    assert all(list(one) == ["kind", "check", "severity", "meter", "text", "facts"] for one in found)


@pytest.mark.slow
@pytest.mark.real
def test_a_sick_meter_behind_a_serial_server_is_told_in_both_languages() -> None:
    sick, echoing = dlt645(kind=BehindDlt645, turnaround_ms=(5, 9)), dlt645(turnaround_ms=(5, 9))
    with serving(TcpEndpoint(wire(sick))) as port:
        english = doctor("--port", port, "--meter", METER, *QUICK, "--lang", "en")
    with serving(TcpEndpoint(wire(echoing, faults=Faults(echo=True)))) as port:
        chinese = doctor("--port", port, "--meter", METER, *QUICK, "--lang", "zh")
    assert english.exit_code == chinese.exit_code == 1
    assert f"BAD  meter {METER}: always one question behind" in english.stdout
    assert "ok   idle" in english.stdout and "takes about" in english.stderr
    assert "注意 回显：" in chinese.stdout
    assert HAN.search(chinese.stderr) and not prose(chinese.stdout + chinese.stderr)


@pytest.mark.slow
@pytest.mark.real
def test_modbus_tcp_is_examined_and_its_gateway_believed() -> None:
    with serving(ModbusTcpEndpoint([modbus(1), modbus(2, turnaround_ms=(1400, 1420))], now_ms=wall_ms)) as port:
        options = ["--port", port, "--protocol", "modbus-tcp", *QUICK, "--profile", "eastron-sdm630", "--json"]
        result = doctor(*options, "--meter", "1", "--meter", "9")
        late = doctor(*options, "--meter", "2")
    assert result.exit_code == 1
    assert [(one["check"], one["meter"]) for one in objects(result)[2:] if one["severity"] != "ok"] == [("silent", "9")]
    assert "gateway" in objects(result)[-1]["text"]
    assert objects(result)[2]["text"].startswith("parity: none on Modbus TCP")
    assert late.exit_code == 1
    assert [one["check"] for one in objects(late)[1:] if one["severity"] != "ok"] == ["late"]


@pytest.mark.slow
@pytest.mark.real
def test_meters_of_both_families_are_named_by_their_addresses_alone() -> None:
    meters = [dlt645(turnaround_ms=(5, 9)), modbus(7, seed=2, turnaround_ms=(5, 9))]
    with serving(PtyEndpoint(wire(*meters))) as port:
        result = doctor("--port", port, "--serial", str(FAST), "--meter", METER, "--meter", "7", *QUICK, "--json")
    assert result.exit_code == 0, result.stdout
    parities = [one["facts"] for one in objects(result) if one.get("check") == "parity"]
    assert parities == [{"parity": "none", "serial": str(FAST)}]
    told = [(one["meter"], one["asked"], one["answered"]) for one in objects(result)[:2]]
    assert told == [(METER, 4, 4), ("7", 4, 4)]


@pytest.mark.slow
@pytest.mark.real
def test_an_independent_meter_is_healthy() -> None:
    port = free_port()
    endpoint = f"tcp://127.0.0.1:{port}"
    told = PEERS["modbus-tcp"][0]
    options = ["--protocol", "modbus-tcp", "--meter", told.address, "--profile", told.profile]
    with peer("modbus-tcp", endpoint):
        result = doctor("--port", endpoint, *options, *QUICK, "--json")
    assert result.exit_code == 0, result.stdout


@pytest.mark.slow
@pytest.mark.real
def test_where_no_meter_is_named_the_bus_is_scanned_first() -> None:
    turns = Turns()
    meters = [
        dlt645(seed=n + 1, turnaround_ms=(5, 9), kind=lambda *a, n=n, **o: TurnDlt645(turns, n, *a, **o))
        for n in range(2)
    ]
    with serving(TcpEndpoint(wire(*meters))) as port:
        result = doctor("--port", port, "--protocol", "dlt645-2007", "--questions", "8", "--listen", "0.3", "--json")
    assert result.exit_code == 1
    assert [(one["check"], one["meter"]) for one in objects(result)[1:] if one["severity"] == "bad"] == [
        ("duplicate", METER)
    ]


def test_a_port_in_use_is_busy() -> None:
    with serving(PtyEndpoint(wire())) as pty:

        async def both() -> Result:
            line = await open_line(BusEntry(name="held", port=pty, serial=FAST))
            try:
                return await asyncio.to_thread(doctor, "--port", pty, "--serial", str(FAST), "--meter", "1")
            finally:
                line.close()

        assert asyncio.run(both()).exit_code == 4


def polling(port: str) -> dict[str, object]:
    """What a gateway says that has this port."""
    return {"buses": [{"name": "b1", "port": port}]}


def test_what_the_gateway_polls_is_busy_also_behind_a_serial_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ports, "GATEWAY_SOCKET", tmp_path / "s.sock")
    with telling(tmp_path / "s.sock", polling("tcp://127.0.0.1:9")):
        read = ("--protocol", "modbus-rtu", "--meter", "1", "holding:0")
        commands = {"doctor": ("--meter", "1"), "scan": (), "probe": ("--meter", "1"), "sniff": (), "read": read}
        for name, options in commands.items():
            arguments = [name, "--port", "tcp://127.0.0.1:9", *options, "--lang", "en"]
            result = CliRunner().invoke(main, arguments, catch_exceptions=False)
            assert (result.exit_code, "stop it first" in result.stderr) == (4, True), name
        other = doctor("--port", "tcp://127.0.0.1:1", "--meter", "1", "--lang", "en")
        assert other.exit_code == 3, "another port is not the gateway's"


@pytest.mark.slow
@pytest.mark.real
def test_a_bus_of_a_site_is_examined_with_its_meters(tmp_path: Path) -> None:
    with serving(PtyEndpoint(wire(dlt645(turnaround_ms=(5, 9)), modbus(7)))) as port:
        line = f'"{port}"\nserial = "115200-8N1"'
        rows = (sites.METER, "m2,b1,7,eastron-sdm630,modbus-rtu\n")
        file = sites.gateway(tmp_path, *rows, site=sites.GATEWAY.replace('"/dev/ttyNONE"', line))
        options = ["-c", str(file), "--bus", "b1", *QUICK, "--json"]
        result = doctor(*options)
        assert result.exit_code == 0, result.stdout
        assert [one["meter"] for one in objects(result) if one["kind"] == "meter"] == [METER, "7"]
        with telling(tmp_path / "s.sock", polling(port)):
            assert doctor(*options).exit_code == 4
    assert "m1, m2" not in doctor(*options, "--meter", "m9").stdout
    assert doctor(*options, "--meter", "m9").exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--port, or -c and --bus"),
        (["--port", "/dev/x", "--bus", "b1"], "--port, or -c and --bus"),
        (["--port", "/dev/x", "--meter", "248"], "1 to 247"),
        (["--port", "/dev/x", "--meter", "1", "--protocol", "modbus-tcp"], "tcp://host:port"),
        (["--port", "/dev/x", "--meter", "1", "--protocol", "dlt645-2007"], "12 digits"),
        (["--port", "/dev/x", "--meter", "1", "--serial", "9600-7E1"], "8 data bits"),
    ],
)
def test_a_mistake_in_the_options_is_named(arguments: list[str], said: str) -> None:
    result = doctor(*arguments, "--lang", "en")
    assert result.exit_code == 2
    assert said in result.stderr
    chinese = doctor(*arguments, "--lang", "zh")
    assert not prose(chinese.stderr), chinese.stderr


def test_a_missing_port_is_nothing() -> None:
    result = doctor("--port", "/dev/ttyNONE", "--meter", "1", "--lang", "en")
    assert result.exit_code == 3
    assert "no such device" in result.stderr
