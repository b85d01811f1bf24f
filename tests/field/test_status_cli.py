"""The commands of the site file and of a running gateway, as an engineer types them."""

import asyncio
import configparser
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from config.model import BusEntry, SerialSettings, TaskEntry
from drivers.line import Line, PortLost
from field.main import main
from gateway.notify import notify, watchdog_s
from gateway.snapshot import Snapshot
from simulators import virtual
from simulators.describe import BusPlan, MeterGroup, SitePlan
from simulators.virtual import now_ms
from tests.beside import telling
from tests.chain import START, Chain
from tests.sites import GATEWAY, METER, gateway

ROOT = Path(__file__).parents[2]
ROWS = (METER, "m2,b1,000000000002,dlt645-2007-3p,dlt645-2007\n")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return gateway(tmp_path, *ROWS)


def meterwire(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def objects(result: Result) -> list[dict[str, object]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_a_right_site_is_called_good(site: Path) -> None:
    result = meterwire("config", "check", "-c", site, "--json")
    assert result.exit_code == 0
    assert objects(result) == [{"file": str(site), "good": True, "buses": 1, "meters": 2, "tasks": 1}]


def test_mistakes_of_files_and_profiles_come_in_one_list(site: Path) -> None:
    wrong = GATEWAY.replace('"voltage.a"', '"weather"').replace('id = "gw-1"', 'id = "gw-1"\nzone = "Mars/Base"')
    rows = ("m3,b1,3,dlt645-2007-3p,dlt645-2007\n", "m4,b1,000000000004,none,dlt645-2007\n")
    gateway(site.parent, *ROWS, *rows, site=wrong)
    for command in ("check", "show"):
        result = meterwire("config", command, "-c", site, "--json")
        assert result.exit_code == 2
        wheres = [mistake["where"] for mistake in objects(result)]
        assert wheres == ["gateway.zone", "row 4, address", "task curve, items", "meter m4, profile"]
    site.write_text(site.read_text().replace("Mars/Base", "Asia/Urumqi"))
    result = meterwire("config", "check", "-c", site, "--json", "--lang", "zh")
    assert result.exit_code == 2
    wheres = [mistake["where"] for mistake in objects(result)]
    assert wheres == ["row 4, address", "task curve, items", "meter m4, profile"]
    assert result.stderr.count("应为") == len(wheres)


def test_the_site_is_shown_with_its_defaults_and_loads(site: Path) -> None:
    shown = objects(meterwire("config", "show", "-c", site, "--json"))[0]
    assert shown["zone"] == "Asia/Shanghai"
    assert shown["socket"] == str(site.parent / "s.sock")
    buses = shown["buses"]
    assert isinstance(buses, list)
    (bus,) = buses
    assert (bus["name"], bus["port"], bus["serial"]) == ("b1", "/dev/ttyNONE", "2400-8E1")
    assert (bus["rs485"], bus["pipeline"]) == ("auto", 1)
    assert json.dumps(shown["meters"]).count('"ct": "1"') == 2
    loads = shown["loads"]
    assert isinstance(loads, dict)
    assert 0 < loads["b1"] < 0.01
    text = meterwire("config", "show", "-c", site)
    assert text.exit_code == 0
    assert "dlt645-2007-3p" in text.stdout


def test_run_starts_nothing_while_the_configuration_has_a_mistake(site: Path) -> None:
    site.write_text(GATEWAY.replace("15m", "13m"))
    result = meterwire("run", "-c", site)
    assert result.exit_code == 2
    assert "task[1].every: expected a time span that divides the day" in result.stderr
    assert not (site.parent / "store").exists()


def test_run_refuses_keys_that_are_missing_or_that_others_can_read(site: Path) -> None:
    missing = meterwire("run", "-c", site)
    assert missing.exit_code == 2
    assert "keys" in missing.stderr
    made = meterwire("keys", "init", "gateway", "--id", "gw-1", "--dir", site.parent / "keys")
    assert made.exit_code == 0, made.output
    (site.parent / "keys" / "gateway.key").chmod(0o644)
    readable = meterwire("run", "-c", site)
    assert readable.exit_code == 2
    assert "gateway.key" in readable.stderr
    assert "0644" in readable.stderr or "644" in readable.stderr
    assert not (site.parent / "store").exists()


def test_status_says_when_no_gateway_answers(site: Path) -> None:
    result = meterwire("status", "-c", site, "--json")
    assert result.exit_code == 3
    assert str(site.parent / "s.sock") in result.stderr


def snapshot_of(directory: Path, *groups: MeterGroup, broken: bool = False) -> dict[str, Any]:
    """What a gateway of these meters on one pair says after some minutes, as it comes out of its socket. broken: there
    is no such port."""

    async def no_line(bus: BusEntry) -> Line:
        raise PortLost(f"{bus.port}: no such device")

    plan = SitePlan(buses=(BusPlan(name="b1", meters=groups),))

    async def scenario() -> dict[str, Any]:
        chain = Chain(directory, plan, [TaskEntry(name="minute", every_s=60, items=("voltage.a",))])
        if broken:
            chain.simulated.open_line = no_line  # type: ignore[method-assign]
        async with chain.running() as daemon:
            await asyncio.sleep(200)
            assert daemon.parts is not None
            said: dict[str, Any] = json.loads(json.dumps(Snapshot(daemon.parts, now_ms=now_ms)()))
        chain.close()
        return said

    directory.mkdir()
    return virtual.run(scenario(), start_ms=START)


TWO = MeterGroup(profile="dlt645-2007-3p", address="000000000001", count=2)


@pytest.mark.parametrize(("dead", "code"), [(False, 0), (True, 1)])
def test_status_shows_what_the_gateway_says_and_its_exit_code_says_whether_all_is_good(
    site: Path, tmp_path: Path, dead: bool, code: int
) -> None:
    missing = MeterGroup(profile="dlt645-2007-3p", address="000000000009", present=False)
    said = snapshot_of(tmp_path / "chain", TWO, *[missing] * dead)
    with telling(site.parent / "s.sock", said):
        result = meterwire("status", "-c", site, "--json")
        shown = {lang: meterwire("status", "-c", site, "--lang", lang) for lang in ("zh", "en")}
    assert result.exit_code == code, result.output
    assert objects(result) == [said]
    assert said["today"] == {"captured": 8, "gaps": 3 * dead, "rate": 8 / (8 + 3 * dead)}
    assert "今日采集成功率" in shown["zh"].stdout
    assert shown["en"].exit_code == code
    assert ("silent: b1-000000000009" in shown["en"].stdout) is dead


OWN = MeterGroup(profile="eastron-sdm120", address="7", serial=SerialSettings.parse("9600-8N1"))
ENFORCED, MIXED = {"2400-8E1": "enforced"}, {"2400-8E1": "enforced", "9600-8N1": "none"}


@pytest.mark.parametrize(
    ("groups", "parities", "weakest", "english", "chinese"),
    [
        ((TWO,), ENFORCED, "enforced", " enforced ", " 内核校验 "),
        ((TWO, OWN), MIXED, "none", "2400-8E1 enforced, 9600-8N1 none", "2400-8E1 内核校验, 9600-8N1 无校验"),
        ((OWN, TWO), MIXED, "none", "9600-8N1 none, 2400-8E1 enforced", "9600-8N1 无校验, 2400-8E1 内核校验"),
    ],
)
def test_parity_is_told_of_every_setting_on_a_pair_whoever_was_asked_last(
    site: Path, groups: Sequence[MeterGroup], parities: dict[str, str], weakest: str, english: str, chinese: str
) -> None:
    said = snapshot_of(site.parent / "chain", *groups)
    (bus,) = said["buses"]
    assert (bus["parities"], bus["parity"]) == (parities, weakest)
    for meter in said["meters"]:
        assert meter["parity"] == ("none" if meter["meter"] == "b1-7" else "enforced")
    with telling(site.parent / "s.sock", said):
        for lang, words in (("en", english), ("zh", chinese)):
            assert words in meterwire("status", "-c", site, "--lang", lang).stdout


def test_parity_of_a_port_that_was_never_open_is_not_told(site: Path) -> None:
    said = snapshot_of(site.parent / "chain", TWO, broken=True)
    (bus,) = said["buses"]
    assert (bus["parities"], bus["parity"], bus["open"]) == ({"2400-8E1": None}, None, False)


def test_the_supervisor_is_told_where_it_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert notify("READY=1") is False
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind(str(path))
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        assert notify("READY=1", "STATUS=good") is True
        assert supervisor.recv(100) == b"READY=1\nSTATUS=good"
    monkeypatch.setenv("WATCHDOG_USEC", "60000000")
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert watchdog_s() is None
    monkeypatch.delenv("WATCHDOG_PID")
    assert watchdog_s() == 60.0


def test_the_unit_waits_for_readiness_watches_and_never_gives_up() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(ROOT / "deploy/meterwire.service")
    service = unit["Service"]
    assert service["Type"] == "notify"
    assert service["Restart"] == "always"
    assert unit["Unit"]["StartLimitIntervalSec"] == "0"
    assert service["RestartPreventExitStatus"] == "2"
    assert service["WatchdogSec"] == "60s"
    assert service["CapabilityBoundingSet"] == ""
    for sandbox in ("NoNewPrivileges", "PrivateTmp", "MemoryDenyWriteExecute", "RestrictNamespaces"):
        assert service[sandbox] == "yes"
