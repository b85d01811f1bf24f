"""Tables that can be read on any terminal, and a standard output that takes nothing."""

import subprocess
import sys
from pathlib import Path

import pytest
from rich.cells import cell_len

from field.output import Output

LOADS = [("rs485-1", "/dev/serial/by-path/pci-0000:00:14.0-usb-0:2:1.0-port0", "16660"), ("panel", "-", "7")]


def shown(capsys: pytest.CaptureFixture[str], lang: str = "en", rows: list[tuple[str, str, str]] = LOADS) -> list[str]:
    out = Output(as_json=False, lang=lang)
    table = out.table(("bus", "总线"), ("port", "端口"), ("bus ms", "总线毫秒"), right=("bus ms",))
    for row in rows:
        table.add_row(*row)
    out.show(table)
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("columns", [12, 20, 26, 30, 40, 80])
@pytest.mark.parametrize("lang", ["en", "zh"])
def test_a_number_is_never_broken(
    columns: int, lang: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = shown(capsys, lang)
    assert all(cell_len(line) <= columns for line in lines)
    assert sum("16660" in line for line in lines) == 1 or columns == 12  # head and figure need 13 there
    path = "".join("".join(lines).split())
    assert "usb" in path and "port0" in path, "what is too wide is folded, never cut off"


def test_where_a_table_finds_no_room_each_row_is_told_by_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "24")
    rows = [("b1", "/dev/ttyS1", "16660"), ("panel", "", "7")]
    assert shown(capsys, "zh", rows) == [
        "总线      b1", "端口      /dev/ttyS1", "总线毫秒  16660", "", "总线      panel", "总线毫秒  7",
    ]  # fmt: skip
    monkeypatch.setenv("COLUMNS", "40")
    assert [line.split() for line in shown(capsys, "zh", rows)[2:]] == [["b1", "/dev/ttyS1", "16660"], ["panel", "7"]]


@pytest.mark.parametrize("columns", [24, 30, 42, 60])
def test_names_and_times_are_never_broken_and_words_are(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    rows = [("eastron-sdm120", "11-22 19:50", "no such device"), ("rs485-1", "-", "")]
    out = Output(as_json=False, lang="en")
    table = out.table(("profile", "型号"), ("last", "最近"), ("trouble", "故障"))
    for row in rows:
        table.add_row(*row)
    out.show(table)
    lines = capsys.readouterr().out.splitlines()
    assert all(cell_len(line) <= columns for line in lines)
    for whole in ("eastron-sdm120", "11-22 19:50", "rs485-1"):
        assert sum(whole in line for line in lines) == 1
    assert any("no such device" in line for line in lines) is (columns != 42), "folded, where a table just fits"


def test_what_a_cell_says_is_shown_as_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, rows=[("b:on:1", "tcp://[fe80::1]:502", "1")])
    assert lines[2].split() == ["b:on:1", "tcp://[fe80::1]:502", "1"]


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.parametrize("line", ["read --help", "--help", "decode 68", "decode 68 --json"])
def test_what_cannot_be_written_is_told_without_a_traceback(line: str) -> None:
    program = [sys.executable, "-c", "from field.main import main; main()", *line.split(), "--lang", "zh"]
    with Path("/dev/full").open("wb") as full:
        run = subprocess.run(program, stdout=full, stderr=subprocess.PIPE, timeout=20, encoding="utf-8", check=False)
    assert (run.returncode, run.stderr) == (3, "存储空间已满\n")


@pytest.mark.slow
@pytest.mark.real
def test_a_closed_standard_input_holds_no_frames() -> None:
    program = f"exec '{sys.executable}' -c 'from field.main import main; main()' decode <&-"
    run = subprocess.run(["sh", "-c", program], capture_output=True, timeout=20, encoding="utf-8", check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
