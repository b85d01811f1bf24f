"""Meters that were not written here, polled for real: what they were told to serve is what lands, to the digit.

The package `dlt645` behind a serial server and on a tty, pymodbus and libmodbus on a tty and over Modbus TCP, each as a
process of its own. All are on the site of one gateway (`meterwire run`), which publishes over TLS with a client
certificate to mosquitto; `meterwire central run` lands. The tables are then read with plain SQL.
"""

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest
from click.testing import CliRunner

from config.model import BusEntry, MeterEntry, ProtocolName, SerialSettings, Site, TaskEntry, UplinkEntry
from drivers.plan import plan
from drivers.profile import load_profile
from field.chain import Installation
from field.main import main
from field.truth import read_accepted
from tests.broker import CENTRE, Broker
from tests.peers import build_libmodbus, cable, libmodbus_command, peer
from tests.processes import free_port
from tests.substitution import Substituted, required_as_root
from tests.told import PEERS, Told

pytestmark = pytest.mark.slow

GATEWAY = "gw-peers"
EVERY_S = 5
CAPTURES_MIN = 2
RUN_S_MAX = 40.0
LINE = SerialSettings.parse("9600-8N1")
PROTOCOLS: dict[str, ProtocolName] = {
    "dlt645-tcp": "dlt645-2007", "dlt645-pty": "dlt645-2007", "modbus-rtu": "modbus-rtu", "modbus-tcp": "modbus-tcp",
    "libmodbus-rtu": "modbus-rtu", "libmodbus-tcp": "modbus-tcp",
}  # fmt: skip
TOLD = [(name, told) for name, meters in PEERS.items() for told in meters]
METERS = [pytest.param(name, told, id=f"{name}-{told.address}") for name, told in TOLD]
TEXTS = {"address", "demand.active.import.total.time"}
REFUSED = {
    "dlt645-tcp": ["0001FF00"], "dlt645-pty": ["0001FF00"],
    "eastron-sdm630": ["input:8"], "acrel-dtsd1352": ["holding:12"],
    "libmodbus-tcp": ["input:75:float32", "input:76"], "libmodbus-rtu": ["holding:383:uint32", "holding:65535"],
}  # fmt: skip
"""A block that the package has not; registers in the midst of those that pymodbus was told of; what lies beyond the
last of libmodbus, or begins with it and ends beyond. By peer, or by model."""


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory, substituted: Substituted) -> Iterator[dict[str, str]]:
    """All servers, by name; where the gateway reaches each."""
    reached: dict[str, str] = {}
    libmodbus = build_libmodbus(tmp_path_factory.mktemp("libmodbus"))
    if libmodbus is None:
        required_as_root("libmodbus-dev")
        substituted("the libmodbus server (libmodbus-dev, gcc)", "pymodbus's server alone")
    with ExitStack() as running:
        for name in PEERS:
            if name.startswith("libmodbus") and libmodbus is None:
                continue
            if name.endswith("tcp"):
                reached[name] = served = f"tcp://127.0.0.1:{free_port()}"
            else:
                wire = running.enter_context(cable())
                reached[name], served = wire.near, wire.far
            built = libmodbus if name.startswith("libmodbus") else None
            running.enter_context(peer(name, served, libmodbus_command(built, name, served) if built else ()))
        yield reached


def site(directory: Path, ports: dict[str, str], uplink: UplinkEntry) -> Site:
    """A bus for each server, every meter with a task of its own model."""
    told = [(name, meter) for name, meter in TOLD if name in ports]
    items = {meter.profile: tuple(meter.expected) for _, meter in told}
    return Site(
        gateway=GATEWAY, clock_trust="always", uplink=uplink, store=directory / "store", keys=directory / "keys",
        socket=directory / "meterwire.sock", origin=directory / "site.toml",
        buses=tuple(BusEntry(name=name, port=port, serial=LINE) for name, port in ports.items()),
        meters=tuple(entry(name, meter) for name, meter in told),
        tasks=tuple(TaskEntry(name=profile, every_s=EVERY_S, items=names) for profile, names in items.items()),
    )  # fmt: skip


def entry(bus: str, told: Told) -> MeterEntry:
    return MeterEntry(
        id=meter_id(bus, told), point="", bus=bus, address=told.address, profile=told.profile,
        protocol=PROTOCOLS[bus], tasks=(told.profile,),
    )  # fmt: skip


def meter_id(bus: str, told: Told) -> str:
    return f"{bus}-{told.address}"


class Row(NamedTuple):
    """A row of the central table, its value as the database spells it."""

    meter: str
    quantity: str
    value: str | None
    text: str | None
    quality: str
    fault: str | None


def select(database: str, columns: str, table: str) -> list[tuple[str | None, ...]]:
    if database.startswith("sqlite"):
        with closing(sqlite3.connect(database.removeprefix("sqlite:///"))) as file:
            return file.execute(f"SELECT {columns} FROM {table}").fetchall()
    with psycopg.connect(database) as server:
        return server.execute(f"SELECT {columns} FROM {table}".encode()).fetchall()


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_what_independent_meters_were_told_to_serve_is_what_lands(
    ports: dict[str, str], tls_broker: Broker, tmp_path: Path, database: str, request: pytest.FixtureRequest
) -> None:
    assert tls_broker.certificates is not None
    ours, theirs = tls_broker.certificates.client(GATEWAY), tls_broker.certificates.client(CENTRE)
    ca = tls_broker.certificates.ca
    uplink = UplinkEntry(url=tls_broker.url, ca=ca, certificate=ours.certificate, key=ours.key)
    polled = Installation(
        tmp_path, site(tmp_path, ports, uplink),
        broker=[f'ca = "{ca}"', f'certificate = "{theirs.certificate}"', f'key = "{theirs.key}"'],
        database=None if database == "sqlite" else request.getfixturevalue("postgres"),
    )  # fmt: skip
    try:
        polled.start()
        wait_for_captures(polled, CAPTURES_MIN)
        polled.drain()
        polled.stop()
    finally:
        polled.kill()

    told = {meter_id(name, meter): meter.expected for name, meter in TOLD if name in ports}
    columns = "meter, quantity, CAST(value AS text), text, quality, fault"
    rows = [Row(*row) for row in select(polled.database, columns, "reading")]  # type: ignore[arg-type]
    good = [row for row in rows if row.fault is None]
    assert {row.quality for row in good} == {"good"}
    assert {(row.meter, row.quantity) for row in good} == {(m, q) for m in told for q in told[m]}
    for row in good:
        plain = told[row.meter][row.quantity]
        if row.quantity in TEXTS:
            assert (row.value, row.text) == (None, plain)
        else:
            assert (row.value, row.text) == (plain, None)
            assert Decimal(row.value or "") == Decimal(plain)
    times = range(polled.started_at, polled.ended_at + 10_000, 1_000)  # they serve the same all the time
    truth = polled.verdict((meter, at, values) for meter, values in told.items() for at in times)
    assert truth.passed, dict(truth.examples)
    assert truth.landed == len(rows)
    # The slot in force at the start is cut short where the next one begins soon: of that one a part may be missed.
    assert {row.fault for row in rows} | {f for (f,) in select(polled.database, "fault", "gap")} <= {None, "missed"}
    assert len(rows) - len(good) < len({(row.meter, row.quantity) for row in good})
    assert truth.accepted >= CAPTURES_MIN * len(told)


def wait_for_captures(polled: Installation, count: int) -> None:
    """Return when every meter has been captured so often, whole."""
    end = time.monotonic() + RUN_S_MAX
    meters = [meter.id for meter in polled.site.meters]
    while time.monotonic() < end:
        accepted = read_accepted(polled.accepted) if polled.accepted.exists() else []
        captured = [capture.meter for capture in accepted if None not in capture.values.values()]
        if all(captured.count(meter) >= count for meter in meters):
            return
        assert polled.gateway.running, polled.gateway.said()
        time.sleep(0.1)  # another process's file has no event to wait on
    raise AssertionError(f"not every meter was captured {count} times: {captured}\n{polled.gateway.said()}")


def live(port: str, name: str, told: Told, *items: str) -> tuple[int, list[dict[str, str | None]]]:
    """The exit code of `meterwire read`, and what it printed."""
    options = ["--profile", told.profile] if PROTOCOLS[name].startswith("modbus") else []
    result = CliRunner().invoke(
        main,
        ["read", "--port", port, "--protocol", PROTOCOLS[name], "--serial", str(LINE), "--meter", told.address,
         *options, "--json", *items],
    )  # fmt: skip
    return result.exit_code, [json.loads(line) for line in result.stdout.splitlines()]


def reached(ports: dict[str, str], name: str) -> str:
    if name not in ports:
        pytest.skip("needs libmodbus-dev (Debian)")
    return ports[name]


@pytest.mark.parametrize(("name", "told"), METERS)
def test_a_live_read_shows_the_same_values(ports: dict[str, str], name: str, told: Told) -> None:
    code, lines = live(reached(ports, name), name, told, *told.expected)
    assert {line["quantity"]: line["value"] for line in lines} == told.expected
    assert {(line["quality"], line["fault"]) for line in lines} == {("good", None)}
    assert code == 0


@pytest.mark.parametrize(("name", "told"), METERS)
def test_the_peers_refuse_what_is_asked_of_them_at_once(ports: dict[str, str], name: str, told: Told) -> None:
    """So that what lands above was first refused, and then read in parts; but libmodbus has all up to its last."""
    at_once = plan(load_profile(told.profile), entry(name, told), tuple(told.expected), LINE)
    assert at_once.exchanges < len({item.at for item in told.items})
    refused = REFUSED.get(name) or REFUSED[told.profile]
    code, lines = live(reached(ports, name), name, told, *refused)
    assert len(lines) >= len(refused)
    assert {(line["value"], line["fault"]) for line in lines} == {(None, "absent")}
    assert code == 3
