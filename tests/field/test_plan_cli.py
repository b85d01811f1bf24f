"""`meterwire plan`: the load of each bus for people and for machines, refused over 90 %, with a word over 70 %."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from field.main import main
from tests.sites import GATEWAY, gateway

ONE_MS = (2 * (4 + 12 + 4) + 2) * 11 / 2.4


def run(directory: Path, command: str, *options: str, every: str = "1m", meters: int = 3) -> Result:
    file = gateway(directory, *rows(meters), site=GATEWAY.replace("15m", every))
    return CliRunner().invoke(main, ["plan", command, "-c", str(file), *options])


def rows(meters: int) -> list[str]:
    return [f"m{n},b1,{n:012d},dlt645-2007-3p,dlt645-2007\n" for n in range(meters)]


def test_the_load_of_each_bus_is_shown_with_its_milliseconds(tmp_path: Path) -> None:
    result = run(tmp_path, "show", "--json")
    assert result.exit_code == 0
    (told,) = (json.loads(line) for line in result.stdout.splitlines())
    (task,) = told.pop("tasks")
    assert told == {
        "bus": "b1", "port": "/dev/ttyNONE", "serial": "2400-8E1",
        "meters": 3, "load": 0.0161, "fits": True,
    }  # fmt: skip
    assert task == {
        "task": "curve", "every_s": 60, "offset_s": 0, "meters": 3, "exchanges": 3, "wire_ms": round(3 * ONE_MS, 1),
        "bus_ms": round(3 * (ONE_MS + 130), 1), "load": 0.0161,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("meters", "code", "english", "zh"),
    [(100, 0, "the schedule fits: b1 53.8%", "采集计划可行"),
     (140, 0, "bus b1: 75.2% of its time is planned, over 70%", "已计划 75.2% 的时间"),
     (168, 2, "expected a schedule that takes at most 90% of the bus, got 90.3% (curve 90.3%)", "应为占用总线不超过")],
)  # fmt: skip
def test_a_schedule_that_does_not_fit_is_refused_and_a_tight_one_gets_a_word(
    tmp_path: Path, meters: int, code: int, english: str, zh: str
) -> None:
    for lang, said in (("en", english), ("zh", zh)):
        result = run(tmp_path, "check", "--lang", lang, meters=meters)
        assert result.exit_code == code
        assert said in result.output
        assert run(tmp_path, "show", "--lang", lang, meters=meters).exit_code == code


def test_machines_are_told_the_same(tmp_path: Path) -> None:
    good = json.loads(run(tmp_path, "check", "--json", meters=140).stdout)
    assert good["good"] is True and good["loads"] == {"b1": 0.7525}
    assert [text.startswith("bus b1: 75.2% of its time") for text in good["warnings"]] == [True]
    wrong = json.loads(run(tmp_path, "check", "--json", meters=168).stdout)
    assert wrong.keys() == {"file", "where", "expected", "got"} and wrong["where"] == "bus b1"
    full = json.loads(run(tmp_path, "show", "--json", meters=168).stdout.splitlines()[0])
    assert full["fits"] is False


@pytest.mark.parametrize("command", ["show", "check"])
def test_ratios_that_would_be_multiplied_twice_get_a_word_in_both_languages(tmp_path: Path, command: str) -> None:
    for lang, words in (("en", "values come out multiplied twice, unless"), ("zh", "数值会被乘两次")):
        run(tmp_path, command)
        rows = [f"m{n},b1,{n},eastron-sdm630,modbus-rtu,40" for n in range(1, 8)]
        (tmp_path / "meters.csv").write_text("\n".join(["meter,bus,address,profile,protocol,ct", *rows]))
        result = CliRunner().invoke(main, ["plan", command, "-c", str(tmp_path / "site.toml"), "--lang", lang])
        assert result.exit_code == 0
        assert words in result.stderr and "m1, m2, m3, m4, m5, ..." in result.stderr and "m6" not in result.stderr


def test_a_mistake_elsewhere_is_listed_and_no_load_is_shown(tmp_path: Path) -> None:
    for command in ("show", "check"):
        result = run(tmp_path, command, every="7m")
        assert result.exit_code == 2
        assert "task[1].every" in result.stderr and result.stdout == ""


@pytest.mark.parametrize("command", ["plan show", "config show"])
def test_every_setting_of_the_line_that_a_bus_is_asked_with_is_shown(tmp_path: Path, command: str) -> None:
    tcp = '[[bus]]\nname = "ip"\nport = "tcp://10.0.0.2:502"\n'
    (tmp_path / "site.toml").write_text(GATEWAY.replace("15m", "1m").replace("[[task]]", f"{tcp}[[task]]"))
    rows = ["m1,b1,000000000001,dlt645-2007-3p,dlt645-2007,", "m2,b1,5,eastron-sdm630,modbus-rtu,9600-8N1",
            "m3,ip,1,schneider-iem3155,modbus-tcp,"]  # fmt: skip
    (tmp_path / "meters.csv").write_text("\n".join(["meter,bus,address,profile,protocol,serial", *rows]))
    result = CliRunner().invoke(main, [*command.split(), "-c", str(tmp_path / "site.toml")])
    lines = [line.split() for line in result.output.splitlines()]
    assert ["2400-8E1,", "9600-8N1", "2", "0.7%"] in [line[-4:] for line in lines]
    assert ["ip", "tcp://10.0.0.2:502", "-", "1", "0.1%"] in lines


def test_tasks_that_no_meter_can_share_are_told_once_and_not_for_each_meter(tmp_path: Path) -> None:
    offset = '[[task]]\nname = "late"\nevery = "5m"\noffset = "30s"\nitems = ["voltage.a"]\n'
    result = run(tmp_path, "check", meters=1)
    assert result.exit_code == 0
    file = gateway(tmp_path, *rows(50), site=GATEWAY.replace("15m", "1m") + offset)
    result = CliRunner().invoke(main, ["config", "check", "-c", str(file)])
    assert result.exit_code == 2
    (told,) = result.stderr.splitlines()
    assert "row 2, tasks: expected one offset of the tasks curve and late, which share voltage.a" in told
