"""The site file and the meter archive: read whole, refused whole, documented whole."""

import json
import tomllib
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.load import ARRAYS, TABLES, TOP, load_site
from config.meters import COLUMNS
from config.mistake import ConfigError, Mistake
from config.model import SerialSettings, Site
from config.toml import REQUIRED, Key
from config.values import broker_url, period, port

ROOT = Path(__file__).parents[2]

SITE = """
[gateway]
id = "gw-1"
[uplink]
url = "mqtt://127.0.0.1:1883"
[[bus]]
name = "b1"
port = "/dev/ttyS1"
[[bus]]
name = "b2"
port = "tcp://10.0.0.2:502"
[[task]]
name = "curve"
every = "15m"
items = ["voltage.a", "energy.active.import.total"]
[[task]]
name = "day"
every = "1d"
lane = "billing"
items = ["energy.active.import.total"]
"""
METERS = """meter,point,bus,address,profile,protocol,serial,tasks,priority,ct,pt
m1,p1,b1,000000000001,dlt645-2007-3p,dlt645-2007,,curve;day,priority,80,1
m2,,b1,2,eastron-sdm630,modbus-rtu,9600-8N1,,,,
m3,,b2,0,schneider-iem3155,modbus-tcp,,curve,,,
"""


def write(directory: Path, site: str = SITE, meters: str | bytes = METERS) -> Path:
    file = directory / "site.toml"
    file.write_text(site)
    data = meters if isinstance(meters, bytes) else meters.encode()
    (directory / "meters.csv").write_bytes(data)
    return file


def mistakes(directory: Path, site: str = SITE, meters: str | bytes = METERS) -> list[Mistake]:
    with pytest.raises(ConfigError) as caught:
        load_site(write(directory, site, meters))
    return list(caught.value.mistakes)


def test_a_right_site_is_read_as_it_stands(tmp_path: Path) -> None:
    site = load_site(write(tmp_path))
    assert site.gateway == "gw-1"
    assert site.zone == "Asia/Shanghai"
    assert site.clock_trust == "kernel"
    assert [bus.name for bus in site.buses] == ["b1", "b2"]
    assert [(t.name, t.every_s, t.offset_s, t.lane) for t in site.tasks] == [
        ("curve", 900, 0, "curve"),
        ("day", 86400, 0, "billing"),
    ]
    first, second, third = site.meters
    assert (first.point, first.tasks, first.priority, first.ct) == ("p1", ("curve", "day"), "priority", Decimal(80))
    assert (second.point, second.tasks) == ("m2", ("curve", "day"))
    assert second.serial == SerialSettings(baud=9600, parity="N")
    assert (third.address, third.ct) == ("0", Decimal(1))


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_an_archive_is_read_as_spreadsheets_write_it(tmp_path: Path, mark: bytes, ending: str) -> None:
    meters = METERS.replace("\n", ending).encode()
    assert len(load_site(write(tmp_path, meters=mark + meters)).meters) == 3


def test_relative_paths_are_taken_from_the_directory_of_the_site_file(tmp_path: Path) -> None:
    site = load_site(write(tmp_path, SITE + '[store]\npath = "data"\n[keys]\npath = "/k"\n'))
    assert site.store == tmp_path / "data"
    assert site.keys == Path("/k")


SITE_MISTAKES = [
    ('id = "gw-1"', 'id = "GW 1"', "gateway.id"),
    ('id = "gw-1"', 'id = "gw-1"\nzone = "Asia/Nowhere"', "gateway.zone"),
    ('id = "gw-1"', 'id = "gw-1"\nname = "x"', "gateway.name"),
    ('id = "gw-1"', "", "gateway.id"),
    ("mqtt://127.0.0.1:1883", "mqtt://broker.example:1883", "uplink.url"),
    ("mqtt://127.0.0.1:1883", "mqtts://broker.example:8883", "uplink.ca"),
    ('port = "/dev/ttyS1"', 'port = "COM1"', "bus[1].port"),
    ('port = "/dev/ttyS1"', 'port = "/dev/ttyS1"\nserial = "2400-6E1"', "bus[1].serial"),
    ("tcp://10.0.0.2:502", "tcp://10.0.0.2", "bus[2].port"),
    ('name = "b2"', 'name = "b1"', "bus.name"),
    ('every = "15m"', 'every = "7m"', "task[1].every"),
    ('every = "15m"', "every = 900", "task[1].every"),
    ('every = "1d"', 'every = "1d"\noffset = "1d"', "task[2].offset"),
    ('lane = "billing"', 'lane = "fast"', "task[2].lane"),
    ('items = ["energy.active.import.total"]', "items = []", "task[2].items"),
    ('name = "day"', 'name = "curve"', "task.name"),
    ("[gateway]", "meters = 7\n[gateway]", "meters"),
    ("[gateway]", 'metres = "m.csv"\n[gateway]', "metres"),
    ("[uplink]", '[clock]\ntrust = "sundial"\n[uplink]', "clock.trust"),
    ("[uplink]", "[buffer]\ncurve_days = 0\n[uplink]", "buffer.curve_days"),
    ("[uplink]", "[buffer]\ncurve_days = 9\n[uplink]", "buffer.curve_days_min"),
    ("[uplink]", "[buffer]\nmax_mb = 8\n[uplink]", "buffer.max_mb"),
    ("[uplink]", "[buffer]\nballast_mb = 7\n[uplink]", "buffer.ballast_mb"),
    ("[uplink]", '[buffer]\nspare = "/var/lib/meterwire"\n[uplink]', "buffer.spare"),
    ('lane = "billing"', 'keep = "ever"', "task[2].keep"),
    ("[uplink]", "[store]\nevidence_mb = true\n[uplink]", "store.evidence_mb"),
    ('id = "gw-1"', 'id = "gw-1\\n"', "gateway.id"),
]


@pytest.mark.parametrize(("old", "new", "where"), SITE_MISTAKES)
def test_a_mistake_in_the_site_file_names_its_key(tmp_path: Path, old: str, new: str, where: str) -> None:
    assert old in SITE
    found = mistakes(tmp_path, SITE.replace(old, new, 1))
    named = [mistake for mistake in found if mistake.where == where]
    assert named, found
    assert named[0].file == str(tmp_path / "site.toml")
    assert named[0].expected
    assert named[0].got


ROW_MISTAKES = [
    ("m2,,b1", ",,b1", "row 3, meter"),
    ("m2,,b1", "m1,,b1", "row 3, meter"),
    ("m2,,b1", "m2,,b9", "row 3, bus"),
    (",2,eastron", ",248,eastron", "row 3, address"),
    (",2,eastron", ",,eastron", "row 3, address"),
    (",000000000001,", ",1,", "row 2, address"),
    ("b2,0,", "b1,2,", "row 4, address"),
    ("9600-8N1", "9600", "row 3, serial"),
    ("modbus-rtu", "modbus", "row 3, protocol"),
    ("curve;day", "curve;night", "row 2, tasks"),
    ("priority,80", "urgent,80", "row 2, priority"),
    ("priority,80,1", "priority,-1,1", "row 2, ct"),
    ("priority,80,1", "priority,80,x", "row 2, pt"),
    ("priority,80,1", "priority,80,1,9", "row 2, end"),
    ("m3,,b2", "m3,,b1", "row 4, protocol"),
    ("b1,2,eastron", "b2,2,eastron", "row 4, protocol"),
    (",ct,pt", ",ct,ct", "row 1"),
    (",ct,pt", ",ct,vt", "row 1"),
    ("meter,point", "point,point2", "row 1"),
]


@pytest.mark.parametrize(("old", "new", "where"), ROW_MISTAKES)
def test_a_mistake_in_the_archive_names_its_row_and_column(tmp_path: Path, old: str, new: str, where: str) -> None:
    assert old in METERS
    found = mistakes(tmp_path, meters=METERS.replace(old, new, 1))
    assert where in [mistake.where for mistake in found], found
    assert all(mistake.file == str(tmp_path / "meters.csv") for mistake in found)


def test_a_column_without_a_name_is_said_to_have_none(tmp_path: Path) -> None:
    (found,) = mistakes(tmp_path, meters=METERS.replace(",ct,pt", ",ct,pt,", 1))
    assert (found.where, found.got) == ("row 1", "an empty name")


@pytest.mark.parametrize("columns", [",x" * 3000, ",\0\x1b[2J", "," * 5000, ";" * 5000])
def test_a_file_that_is_no_archive_is_shown_in_one_line(tmp_path: Path, columns: str) -> None:
    found = mistakes(tmp_path, meters=METERS.replace(",ct,pt", columns, 1))
    assert found
    assert all(len(str(mistake)) < 1000 and str(mistake).isprintable() for mistake in found)


def test_a_socket_whose_path_fills_pages_is_shown_in_one_line(tmp_path: Path) -> None:
    path = "/run/" + "m\\u001b/" * 1000 + "s"
    (mistake,) = mistakes(tmp_path, SITE + f'[status]\nsocket = "{path}"\n')
    assert (mistake.where, mistake.got[:12]) == ("status.socket", "3006 bytes: ")
    assert len(str(mistake)) < 300
    assert str(mistake).isprintable()


def test_a_key_of_an_earlier_version_is_told_with_what_took_its_place(tmp_path: Path) -> None:
    (former,) = mistakes(tmp_path, SITE + "[store]\nhistory_days = 62\n")
    assert str(former).endswith(
        "store.history_days: expected buffer.curve_days, which took its place, got an unknown key"
    )


def test_all_mistakes_of_both_files_come_at_once(tmp_path: Path) -> None:
    site, rows = SITE, METERS
    for old, new, _ in SITE_MISTAKES[0], SITE_MISTAKES[10], SITE_MISTAKES[13]:
        site = site.replace(old, new, 1)
    for old, new, _ in ROW_MISTAKES[3], ROW_MISTAKES[5], ROW_MISTAKES[10]:
        rows = rows.replace(old, new, 1)
    assert {mistake.where for mistake in mistakes(tmp_path, site, rows)} == {
        "gateway.id",
        "task[1].every",
        "task[2].lane",
        "row 3, address",
        "row 2, address",
        "row 2, priority",
    }


def test_tasks_that_share_an_item_of_a_meter_share_their_offset_and_that_is_told_once(tmp_path: Path) -> None:
    site = SITE.replace('every = "1d"', 'every = "1d"\noffset = "5m"')
    assert [mistake.where for mistake in mistakes(tmp_path, site)] == ["row 2, tasks"]


@pytest.mark.parametrize(
    ("port", "pipeline", "where"),
    [("/dev/ttyS1", 0, "bus[1].pipeline"), ("/dev/ttyS1", 8, "bus b1, pipeline"),
     ("tcp://10.0.0.2:502", 65, "bus[2].pipeline")],
)  # fmt: skip
def test_only_a_bus_of_modbus_tcp_meters_is_pipelined(tmp_path: Path, port: str, pipeline: int, where: str) -> None:
    (mistake,) = mistakes(tmp_path, SITE.replace(f'"{port}"', f'"{port}"\npipeline = {pipeline}'))
    assert mistake.where == where
    right = SITE.replace('"tcp://10.0.0.2:502"', '"tcp://10.0.0.2:502"\npipeline = 8')
    (tmp_path / "right").mkdir()
    assert [bus.pipeline for bus in load_site(write(tmp_path / "right", right)).buses] == [1, 8]


@pytest.mark.parametrize(
    "name",
    ["/dev/serial/by-path/pci-0000:00:14.0-usb-0:2:1.0-port0",
     "/dev/serial/by-id/usb-FTDI_FT232R_USB_UART_A50285BI-if00-port0"],
)  # fmt: skip
def test_a_device_is_named_by_its_place_or_its_own_number_and_may_turn_its_pair(tmp_path: Path, name: str) -> None:
    site = SITE.replace('"/dev/ttyS1"', f'"{name}"\nrs485 = "rts"')
    bus = load_site(write(tmp_path, site)).buses[0]
    assert (bus.port, bus.rs485) == (name, "rts")


METERS_ON_TWO = "meter,point,bus,address,profile,protocol,tasks\n{}\n"


@pytest.mark.parametrize(
    ("ports", "second", "refused"),
    [
        (("/dev/ttyUSB0", "/dev/ttyUSB1"), "b2,7,eastron-sdm630,modbus-rtu", ["b1", "b2"]),
        (("/dev/ttyACM0", "/dev/serial/by-path/usb-1-2"), "b2,7,eastron-sdm630,modbus-rtu", ["b1"]),
        (("/dev/ttyUSB0", "/dev/ttyUSB1"), "b2,8,eastron-sdm630,modbus-rtu", []),
        (("/dev/serial/by-path/usb-1-1", "/dev/serial/by-path/usb-1-2"), "b2,7,eastron-sdm630,modbus-rtu", []),
        (("/dev/ttyUSB0", "/dev/ttyS1"), "b2,7,eastron-sdm630,modbus-rtu", []),
        (("/dev/ttyUSB0", "tcp://10.0.0.2:4001"), "b2,7,eastron-sdm630,modbus-rtu", []),
        (("/dev/ttyUSB0", "/dev/ttyUSB1"), "b2,202411110002,dlt645-2007-3p,dlt645-2007", []),
    ],
)  # fmt: skip
def test_names_that_may_lead_to_another_bus_are_refused_where_no_answer_would_show_it(
    tmp_path: Path, ports: tuple[str, str], second: str, refused: list[str]
) -> None:
    site = SITE.replace('"/dev/ttyS1"', f'"{ports[0]}"').replace('"tcp://10.0.0.2:502"', f'"{ports[1]}"')
    rows = f"m1,p1,b1,7,eastron-sdm630,modbus-rtu,curve\nm2,p2,{second},curve"
    if refused:
        found = mistakes(tmp_path, site, METERS_ON_TWO.format(rows).encode())
        assert [mistake.where for mistake in found] == [f"bus {bus}, port" for bus in refused]
        assert all("/dev/serial/by-path" in one.expected and one.expected.endswith("unit 7 too") for one in found)
    else:
        assert [bus.port for bus in load_site(write(tmp_path, site, METERS_ON_TWO.format(rows))).buses] == list(ports)


def test_nobody_turns_a_pair_behind_tcp(tmp_path: Path) -> None:
    (mistake,) = mistakes(tmp_path, SITE.replace('502"', '502"\nrs485 = "rts"'))
    assert (mistake.where, mistake.got) == ("bus b2, rs485", "tcp://10.0.0.2:502")


def test_a_bus_that_cannot_be_read_does_not_make_mistakes_of_its_meters(tmp_path: Path) -> None:
    found = mistakes(tmp_path, SITE.replace('name = "b1"', 'name = "b 1"'))
    assert [mistake.where for mistake in found] == ["bus[1].name"]


@pytest.mark.parametrize(
    ("site", "where"),
    [("[gateway", "file"), ("", "gateway.id"), ('gateway = "x"\n' + SITE.replace("[gateway]", "[g]"), "gateway")],
)
def test_a_file_that_is_no_site_is_refused_with_a_reason(tmp_path: Path, site: str, where: str) -> None:
    assert where in [mistake.where for mistake in mistakes(tmp_path, site)]


def test_files_that_are_not_there_or_not_text_are_mistakes_too(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a readable file"):
        load_site(tmp_path / "none.toml")
    assert mistakes(tmp_path, meters=b"\xff\xfe")[0].expected.startswith("CSV in UTF-8")
    assert "at least one meter" in [m.expected for m in mistakes(tmp_path, meters=METERS.splitlines()[0])]


@given(st.text(max_size=200))
def test_no_text_in_the_archive_raises_anything_but_a_config_error(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    directory = tmp_path_factory.mktemp("archive")
    file = write(directory, meters=(METERS.splitlines()[0] + "\n" + text).encode("utf-8", "surrogatepass"))
    try:
        read = load_site(file)
    except ConfigError:
        return
    assert isinstance(read, Site)


@given(st.one_of(st.text(), st.integers(), st.none(), st.lists(st.text())))
def test_a_reader_of_single_values_raises_only_value_errors(raw: object) -> None:
    for reader in (port, broker_url, period):
        try:
            read = reader(raw)
        except ValueError:
            continue
        assert read


def _keys() -> list[tuple[str, Key]]:
    named = [(key.name, key) for key in TOP]
    named += [(f"{table}.{key.name}", key) for table, keys in TABLES.items() for key in keys]
    return named + [(f"{table}.{key.name}", key) for table, keys in ARRAYS.items() for key in keys]


@pytest.mark.parametrize(("name", "key"), _keys(), ids=[name for name, _ in _keys()])
def test_every_key_is_documented_with_its_default(name: str, key: Key) -> None:
    default = {REQUIRED: "required", None: "none"}.get(key.default) if key.default in (REQUIRED, None) else None
    row = f"| `{name}` | {default or f'`{json.dumps(key.default)}`'} | {key.says} |"
    assert row in (ROOT / "docs/config.md").read_text().splitlines()


@pytest.mark.parametrize("column", COLUMNS)
def test_every_column_is_documented(column: str) -> None:
    assert f"| `{column}` | {COLUMNS[column]} |" in (ROOT / "docs/config.md").read_text().splitlines()


def test_the_sample_is_a_right_site_with_every_key_and_its_sentence() -> None:
    load_site(ROOT / "deploy/site.toml")
    text = (ROOT / "deploy/site.toml").read_text()
    for name, key in _keys():
        assert f"# {key.says}\n" in text, name
        line = f"{key.name} = "
        if key.default not in (REQUIRED, None):
            line = f"# {key.name} = {json.dumps(key.default)}\n"
        assert line in text, name
    assert (ROOT / "deploy/meters.csv").read_text().splitlines()[0] == ",".join(COLUMNS)


def test_the_defaults_shown_are_the_defaults_used(tmp_path: Path) -> None:
    shown = "\n".join(
        line.removeprefix("# ") if line.startswith("# ") and " = " in line and "`" not in line else line
        for line in (ROOT / "deploy/site.toml").read_text().splitlines()
        if not line.startswith("# ") or (" = " in line and "`" not in line)
    )
    assert tomllib.loads(shown)["buffer"]["curve_days"] == 62
    file = tmp_path / "site.toml"
    file.write_text(shown)
    (tmp_path / "meters.csv").write_text((ROOT / "deploy/meters.csv").read_text())
    with_defaults = tmp_path / "bare.toml"
    with_defaults.write_text((ROOT / "deploy/site.toml").read_text())
    example = load_site(file)
    assert example.token is not None  # it has no default, so the sample shows an example
    assert example.buffer.spare is not None
    example = replace(example, buffer=replace(example.buffer, spare=None))
    assert replace(example, token=None) == load_site(with_defaults)
