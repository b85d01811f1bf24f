"""What utilities report and take out, on both databases: hand-counted days, exact values, and days let go."""

import csv
import io
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from errno import ENOSPC
from os import strerror
from pathlib import Path
from typing import Any, TextIO
from zoneinfo import ZoneInfo

import pytest
from click.testing import CliRunner, Result

from central.config import load_central
from central.kpi import bounds, days_between, kpi
from central.look import looking
from central.sinks import open_sink
from central.sinks.base import Arrival, Letter, Sink
from field.main import main
from protocols.capture import Capture, Fault, Gap, Record, Source, Value, faulty
from protocols.quantity import by_name
from tests.central.test_sinks import arrival, capture, number

DAY = date(2026, 5, 3)
ZONE = ZoneInfo("Asia/Shanghai")
START, END = bounds(DAY, ZONE)
QUARTER_MS = 900_000


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["central", *map(str, arguments)])


def told(result: Result) -> list[dict[str, object]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.output.splitlines()]


@pytest.fixture(params=["sqlite", "postgresql"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    url = "sqlite:///central.db" if request.param == "sqlite" else request.getfixturevalue("postgres")
    made = tmp_path / "central.toml"
    made.write_text(f'[broker]\nurl = "mqtt://127.0.0.1:1"\n[database]\nurl = "{url}"\n', encoding="utf-8")
    return made


def opened(file: Path) -> Sink:
    return open_sink(load_central(file).database)


def at(slot: int, *values: Value, meter: str = "m-1", late_ms: int = 0) -> Capture:
    one = capture(*values, meter=meter)
    return replace(one, slot=slot, stamp=slot, read_at=slot + 1_000 + late_ms)


def gap(slot: int, meter: str = "m-1") -> Gap:
    return Gap(meter=meter, task="curve", slot=slot, fault=Fault.SILENT, opened_at=slot + 5_000)


def land(sink: Sink, seq: int, records: list[Record], *, gateway: str, received_at: int) -> None:
    made: Arrival = arrival(seq, records)
    sink.land(replace(made, gateway=gateway, received_at=received_at))


@pytest.fixture
def filled(file: Path) -> Path:
    """One local day of two gateways. gw-a: m-1 misses 2 of 8 slots at first, one of them for good; m-2 all of 4 slots
    but 1, with half of its items absent. gw-b: m-3 has only gaps, but was read the day before."""
    sink = opened(file)
    slots = [START + n * QUARTER_MS for n in range(8)]
    none = faulty(by_name("voltage.b"), Fault.ABSENT)
    first: list[Record] = [at(slot) for slot in slots[:6]]
    land(sink, 1, [*first, gap(slots[6]), gap(slots[7])], gateway="gw-a", received_at=slots[7] + 60_000)
    land(sink, 2, [at(slots[6], late_ms=QUARTER_MS)], gateway="gw-a", received_at=slots[7] + 120_000)
    second: list[Record] = [at(slot, number("voltage.a", "230.1"), none, meter="m-2") for slot in slots[:3]]
    land(sink, 3, [*second, gap(slots[3], "m-2")], gateway="gw-a", received_at=slots[3] + 60_000)
    land(sink, 1, [at(START - QUARTER_MS, meter="m-3")], gateway="gw-b", received_at=START)
    land(sink, 2, [gap(START, "m-3"), gap(END, "m-3")], gateway="gw-b", received_at=START + 60_000)
    sink.note("gw-a", f"manifest.{(DAY - date(1970, 1, 1)).days}.0", json.dumps({"parts": 1, "differs": []}), START)
    sink.close()
    return file


def test_a_day_by_gateway_is_as_counted_by_hand(filled: Path) -> None:
    first, second = told(invoke("kpi", "-c", filled, "--day", DAY, "--json"))
    assert first["gateway"] == "gw-a"
    assert first["meters"] == 2
    assert [first[name] for name in ("planned", "captured", "left", "late")] == [12, 10, 2, 1]
    assert first["success"] == 83.33  # 10 of 12
    assert first["one_shot"] == 75.0  # 9 of 12
    assert [first["items"], first["values"], first["completeness"]] == [13, 10, 76.92]
    # m-1: 8 captures; the six of the first batch are 59 s after their slot's quarter, ... m-2: three
    delays = sorted([*(QUARTER_MS * (7 - n) + 59_000 for n in range(6)), 119_000 + QUARTER_MS - QUARTER_MS,
                     *(QUARTER_MS * (3 - n) + 59_000 for n in range(3))])  # fmt: skip
    assert [first["p50_s"], first["p99_s"]] == [delays[4] / 1000, delays[9] / 1000]
    assert first["account"] == "agrees"
    assert (second["gateway"], second["planned"], second["success"], second["p50_s"]) == ("gw-b", 1, 0.0, None)
    assert (second["completeness"], second["account"]) == (None, "none")


def test_a_day_by_meter_names_each(filled: Path) -> None:
    lines = told(invoke("kpi", "-c", filled, "--day", DAY, "--by", "meter", "--json"))
    assert [(line["gateway"], line["meter"], line["success"]) for line in lines] == [
        ("gw-a", "m-1", 87.5), ("gw-a", "m-2", 75.0), ("gw-b", "m-3", 0.0),
    ]  # fmt: skip


def test_a_meter_that_was_not_read_that_day_counts_for_the_gateway_that_read_it_last(file: Path) -> None:
    day_ms, dead = 86_400_000, [f"m-{n}" for n in range(10, 40)]
    sink = opened(file)
    land(sink, 1, [at(START - 20 * day_ms, meter=meter) for meter in dead], gateway="gw-a", received_at=START)
    land(sink, 1, [at(START - 19 * day_ms, meter="m-10"), at(START - 40 * day_ms, meter="m-5")], gateway="gw-b",
         received_at=START)  # fmt: skip
    land(sink, 2, [gap(START, meter) for meter in (*dead, "m-5")], gateway="gw-a", received_at=START)
    sink.close()
    lines = told(invoke("kpi", "-c", file, "--day", DAY, "--by", "meter", "--json"))
    found = {line["meter"]: line["gateway"] for line in lines}
    assert found == {**dict.fromkeys(dead, "gw-a"), "m-10": "gw-b", "m-5": ""}
    asked: list[str] = []
    with looking(load_central(file).database) as look:

        class Counting:
            time, ms = staticmethod(look.time), staticmethod(look.ms)

            @staticmethod
            def rows(statement: str, arguments: Sequence[object] = ()) -> Iterator[tuple[Any, ...]]:
                asked.append(statement)
                return look.rows(statement, arguments)

        assert len(list(kpi(Counting(), days=[DAY], zone=ZONE, by_meter=True))) == 31
    assert sum("meter IN" in statement for statement in asked) == 5, "a span each, not a meter each"


def test_a_day_by_area_is_as_counted_by_hand(filled: Path, tmp_path: Path) -> None:
    archive = tmp_path / "archive.csv"
    archive.write_text("\ufeffmeter,area,class\nm-1,north,A\nm-2,south,B\n\nm-4,south,B\nm-5,,A\n", encoding="utf-8")
    by = ("--day", DAY, "--archive", archive, "--by")
    lines = told(invoke("kpi", "-c", filled, *by, "area", "--json"))
    assert [(line["group"], line["meters"], line["absent"], line["planned"], line["success"]) for line in lines] == [
        ("", 1, 1, 1, 0.0),  # m-3, which the archive does not name, and m-5, of which nothing came
        ("north", 1, 0, 8, 87.5), ("south", 1, 1, 4, 75.0),
    ]  # fmt: skip
    assert [line["account"] for line in lines] == ["none", "agrees", "agrees"]
    assert [(line["gateway"], line["meter"]) for line in lines] == [("", None)] * 3
    lines = told(invoke("kpi", "-c", filled, *by, "class", "--json"))
    assert [(line["group"], line["absent"]) for line in lines] == [("", 0), ("A", 1), ("B", 1)]
    shown = invoke("kpi", "-c", filled, *by, "area", "--lang", "zh").output
    assert "未上报" in shown


@pytest.mark.parametrize(
    ("text", "by", "said"),
    [
        ("meter,area\n", "zone", "the column zone"), ("id,area\n", "area", "the column meter"), ("", "area", "column"),
        ("meter,area\nm-1,a\nm-1,b\n", "area", "m-1 in a, as before, got b"), ("meter,area,area\n", "area", "column"),
        ("meter,area\n", "gateway", "need each other"), (None, "area", "readable"), ("m\xe9ter", "area", "UTF-8"),
    ],
)  # fmt: skip
def test_an_archive_that_cannot_be_used_is_told(
    filled: Path, tmp_path: Path, text: str | None, by: str, said: str
) -> None:
    archive = tmp_path / "archive.csv"
    if text is not None:
        archive.write_bytes(text.encode("latin-1"))
    result = invoke("kpi", "-c", filled, "--day", DAY, "--archive", archive, "--by", by, "--lang", "en")
    assert (result.exit_code, said in result.stderr) == (2, True), result.stderr
    assert invoke("kpi", "-c", filled, "--day", DAY, "--by", "area").exit_code == 2


def test_conflicts_are_told(filled: Path) -> None:
    sink = opened(filled)
    land(sink, 7, [at(START, number("voltage.a", "99.9"))], gateway="gw-a", received_at=START)
    sink.close()
    lines = told(invoke("kpi", "-c", filled, "--day", DAY, "--json"))
    assert [line["conflicts"] for line in lines] == [1, 0]


def test_several_days_are_told_one_after_the_other(filled: Path) -> None:
    lines = told(invoke("kpi", "-c", filled, "--day", "2026-05-02", "--to", "2026-05-04", "--json"))
    assert [(line["day"], line["gateway"]) for line in lines] == [
        ("2026-05-02", "gw-b"), ("2026-05-03", "gw-a"), ("2026-05-03", "gw-b"), ("2026-05-04", "gw-b"),
    ]  # fmt: skip


def test_people_are_told_in_their_language(filled: Path) -> None:
    assert "success %" in invoke("kpi", "-c", filled, "--day", DAY, "--lang", "en").output
    assert "成功率 %" in invoke("kpi", "-c", filled, "--day", DAY, "--lang", "zh").output


def test_without_readings_there_is_no_report(filled: Path) -> None:
    assert invoke("kpi", "-c", filled, "--day", "2020-01-01").exit_code == 3
    assert invoke("kpi", "-c", filled, "--day", DAY, "--to", "2026-05-02").exit_code == 2
    assert invoke("kpi", "-c", filled, "--day", "may").exit_code == 2


def test_a_local_day_of_summer_time_has_its_own_length() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    hours = [(bounds(day, berlin)[1] - bounds(day, berlin)[0]) / 3_600_000 for day in days_between(
        date(2026, 3, 28), date(2026, 3, 30))]  # fmt: skip
    assert hours == [24, 23, 24]


@pytest.fixture
def readings(file: Path) -> Path:
    """A few readings of every kind."""
    sink = opened(file)
    slot = START
    curve = at(slot, number("voltage.a", "230.10"), faulty(by_name("voltage.b"), Fault.ABSENT, "not fitted"))
    text = Value(quantity=by_name("clock"), time="2026-05-03T00:00:01")
    unplanned = replace(at(slot, text), slot=None, source=Source.MANUAL)
    energy = at(slot, number("energy.active.import.total", "1234567890.12"), meter='m-"2",x')
    land(sink, 1, [curve, unplanned, energy], gateway="gw-a", received_at=slot + 9_000)
    sink.close()
    return file


SPAN = ("--since", "2026-05-03T00:00+08:00", "--until", "2026-05-04T00:00+08:00")


def test_csv_has_every_reading_exact(readings: Path) -> None:
    result = invoke("export", "-c", readings, *SPAN)
    rows = list(csv.DictReader(io.StringIO(result.output)))
    assert result.exit_code == 0
    assert [(row["meter"], row["quantity"], row["value"], row["text"], row["unit"]) for row in rows] == [
        ("m-\"2\",x", "energy.active.import.total", "1234567890.12", "", "kWh"),
        ("m-1", "clock", "", "2026-05-03T00:00:01", ""),
        ("m-1", "voltage.a", "230.10", "", "V"), ("m-1", "voltage.b", "", "", "V"),
    ]  # fmt: skip
    assert rows[2]["stamp"] == "2026-05-02T16:00:00.000Z"
    assert Decimal(rows[0]["ratio"]) == 4000
    assert (rows[3]["quality"], rows[3]["fault"], rows[3]["detail"]) == ("unavailable", "absent", "not fitted")


@pytest.mark.parametrize(
    ("options", "count"),
    [(["--meter", "m-1"], 3), (["--quantity", "voltage.a", "--quantity", "voltage.b"], 2), (["--meter", "none"], 0)],
)
def test_readings_are_chosen(readings: Path, tmp_path: Path, options: list[str], count: int) -> None:
    target = tmp_path / "out.csv"
    (line,) = told(invoke("export", "-c", readings, *SPAN, *options, "-o", target, "--json"))
    assert line == {"readings": count, "format": "csv", "output": str(target)}
    assert len(target.read_text(encoding="utf-8").splitlines()) == count + 1
    assert list(tmp_path.glob("*.part")) == []


def test_what_came_late_is_exported_alone(filled: Path) -> None:
    wanted = ("--since", DAY, "--until", "2026-05-04", "--meter", "m-1", "--landed-since")
    start = datetime.fromtimestamp(START / 1000, UTC) + timedelta(milliseconds=7 * QUARTER_MS)
    late = {seconds: invoke("export", "-c", filled, *wanted, (start + timedelta(seconds=seconds)).isoformat())
            for seconds in (60, 61, 120, 121)}  # fmt: skip
    assert [len(result.output.splitlines()) - 1 for result in late.values()] == [7, 1, 1, 0]
    sink = opened(filled)
    land(sink, 8, [at(START, number("voltage.a", "230.1"), number("voltage.b", "230.2"))], gateway="gw-a",
         received_at=END + 1)  # fmt: skip
    sink.close()
    again = invoke("export", "-c", filled, *wanted, "2026-05-04").output
    assert [row["quantity"] for row in csv.DictReader(io.StringIO(again))] == ["voltage.b"]


def test_a_file_that_cannot_be_written_is_told_and_leaves_nothing(
    readings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(rows: Iterator[object], text: TextIO) -> int:
        next(rows)
        text.write("half a row")
        raise OSError(ENOSPC, strerror(ENOSPC))

    monkeypatch.setattr("central.export.write_csv", full)
    target = tmp_path / "all.csv"
    result = invoke("export", "-c", readings, *SPAN, "-o", target, "--lang", "en")
    assert (result.exit_code, result.stderr) == (3, f"{target}: No space left on device\n")
    assert not list(tmp_path.glob("all.csv*"))
    nowhere = tmp_path / "central.toml" / "all.csv"
    result = invoke("export", "-c", readings, *SPAN, "-o", nowhere, "--lang", "en")
    assert (result.exit_code, result.stderr) == (3, f"{nowhere}: Not a directory\n")


def test_the_end_of_the_span_is_not_in_it(readings: Path) -> None:
    result = invoke("export", "-c", readings, "--since", "2026-05-02", "--until", "2026-05-03")
    assert len(result.output.splitlines()) == 1


def test_a_day_is_one_of_the_utility(readings: Path) -> None:
    result = invoke("export", "-c", readings, "--since", "2026-05-03", "--until", "2026-05-04")
    assert result.output == invoke("export", "-c", readings, *SPAN).output
    assert len(result.output.splitlines()) == 5


def test_cim_meter_readings_have_types_qualities_and_intervals(readings: Path) -> None:
    message = json.loads(invoke("export", "-c", readings, "--format", "cim", *SPAN).output)
    assert message["Header"] | {"Timestamp": ""} == {
        "Verb": "created", "Noun": "MeterReadings", "Timestamp": "", "Source": "meterwire",
    }  # fmt: skip
    assert datetime.fromisoformat(message["Header"]["Timestamp"]) <= datetime.now(UTC)
    energy, voltage = message["Payload"]["MeterReadings"]["MeterReading"]
    assert energy["Meter"] == {"Names": [{"name": 'm-"2",x'}]}
    (block,) = energy["IntervalBlocks"]
    assert block["ReadingType"]["ref"] == "0.0.0.1.1.1.12.0.0.0.0.0.0.0.0.3.72.0"
    assert block["PendingCalculation"] == {
        "scalarNumerator": 4000, "scalarDenominator": 1, "ReadingType": block["ReadingType"],
    }  # fmt: skip
    assert block["IntervalReadings"] == [
        {"timeStamp": "2026-05-02T16:00:00.000Z", "reportedDateTime": "2026-05-02T16:00:01.000Z",
         "source": "meter_live", "value": "1234567890.12",
         "ReadingQualities": [{"ReadingQualityType": {"ref": "1.0.0"}}]}
    ]  # fmt: skip
    assert voltage["Readings"][0]["value"] == "2026-05-03T00:00:01"
    qualities = [quality["ReadingQualityType"] for quality in voltage["Readings"][0]["ReadingQualities"]]
    assert qualities == [{"ref": "1.0.0"}, {"ref": "1.4.131"}]
    missing = voltage["IntervalBlocks"][1]["IntervalReadings"][0]
    assert "value" not in missing
    assert missing["ReadingQualities"] == [{"ReadingQualityType": {"ref": "2.5.259"}, "comment": "absent not fitted"}]


def test_an_empty_cim_message_is_one(readings: Path) -> None:
    result = invoke("export", "-c", readings, "--format", "cim", *SPAN, "--meter", "none")
    assert json.loads(result.output)["Payload"] == {"MeterReadings": {"MeterReading": []}}


def test_cim_tells_every_factor_and_never_multiplies(file: Path) -> None:
    sink = opened(file)
    planned = replace(at(START, number("current.a", "1.5")), ct=Decimal("0.4"))
    land(sink, 1, [planned, replace(planned, slot=None, stamp=START + 60_000)], gateway="gw-a", received_at=START)
    sink.close()
    message = json.loads(invoke("export", "-c", file, "--format", "cim", *SPAN).output)
    (meter,) = message["Payload"]["MeterReadings"]["MeterReading"]
    (block,) = meter["IntervalBlocks"]
    assert "Readings" not in meter
    assert [reading["value"] for reading in block["IntervalReadings"]] == ["1.5", "1.5"]
    factor = block["PendingCalculation"]
    assert (factor["scalarNumerator"], factor["scalarDenominator"]) == (2, 5)


def test_parquet_has_the_same_rows(readings: Path, tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    target = tmp_path / "day.parquet"
    assert (
        told(invoke("export", "-c", readings, "--format", "parquet", *SPAN, "-o", target, "--json"))[0]["readings"] == 4
    )
    table = pq.read_table(target)
    assert table.column("value").to_pylist() == ["1234567890.12", None, "230.10", None]
    assert table.column("number").to_pylist() == [1234567890.12, None, 230.1, None]
    assert table.column("stamp").to_pylist()[0] == datetime(2026, 5, 2, 16, tzinfo=UTC)


def test_parquet_says_what_is_missing(readings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    result = invoke("export", "-c", readings, "--format", "parquet", *SPAN, "-o", tmp_path / "x")
    assert (result.exit_code, "requirements/parquet.txt" in result.stderr) == (2, True)
    assert invoke("export", "-c", readings, "--format", "parquet", *SPAN).exit_code == 2


def test_dead_letters_are_listed_with_their_reasons(file: Path) -> None:
    sink = opened(file)
    for n, (gateway, reason) in enumerate([("gw-a", "forged"), ("gw-b", "forged"), ("gw-a", "bad_body")]):
        letter = Letter(
            topic="mw/v1/x", gateway=gateway, reason=reason, detail="why", payload=b"x" * n, received_at=n * 1000
        )
        sink.set_aside(letter, keep=9)
    sink.close()
    lines = told(invoke("letters", "-c", file, "--json"))
    assert [(line["gateway"], line["reason"], line["bytes"]) for line in lines] == [
        ("gw-a", "forged", 0), ("gw-b", "forged", 1), ("gw-a", "bad_body", 2),
    ]  # fmt: skip
    assert lines[2]["first_at"] == "1970-01-01T00:00:02Z"
    assert len(told(invoke("letters", "-c", file, "--json", "--gateway", "gw-a", "--reason", "forged"))) == 1
    assert "3 messages set aside" in invoke("letters", "-c", file, "--lang", "en").output


def test_old_days_are_dropped_when_told_so_and_stay_dropped(filled: Path) -> None:
    sink = opened(filled)
    land(sink, 9, [at(START - 40 * 86_400_000)], gateway="gw-a", received_at=START)
    (line,) = told(invoke("drop", "-c", filled, "--before", "2026-05-02", "--json"))
    assert (line["done"], line["readings"]) == (False, 1)
    before = len(list(sink.readings()))
    (line,) = told(invoke("drop", "-c", filled, "--before", "2026-05-02", "--yes", "--json"))
    assert line["done"] is True
    assert line["partitions"] == ["reading_20260323"] or line["rows"] == 1
    assert len(list(sink.readings())) == before - 1
    land(sink, 9, [at(START - 40 * 86_400_000)], gateway="gw-a", received_at=START)  # the inbox knows it
    assert len(list(sink.readings())) == before - 1
    land(sink, 10, [at(START - 40 * 86_400_000)], gateway="gw-a", received_at=START)  # another batch lands as ever
    assert len(list(sink.readings())) == before
    invoke("drop", "-c", filled, "--before", "2027-01-01", "--yes")
    assert (list(sink.readings()), list(sink.gaps())) == ([], [])
    sink.close()


LOOKING = [["gaps"], ["kpi"], ["export", *SPAN], ["letters"], ["drop", "--before", "2026-01-01"],
           ["drop", "--before", "2026-01-01", "--yes"]]  # fmt: skip


@pytest.mark.parametrize("command", LOOKING)
def test_looking_makes_no_tables(file: Path, tmp_path: Path, command: list[str]) -> None:
    result = invoke(command[0], "-c", file, *command[1:])
    assert (result.exit_code, "`meterwire central run` makes" in result.stderr) == (3, True)
    assert not (tmp_path / "central.db").exists()
    assert invoke(command[0], "-c", file, *command[1:]).exit_code == 3


@pytest.mark.parametrize("command", LOOKING)
def test_a_missing_package_is_named(tmp_path: Path, command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    for module in ("postgres", "postgres_look"):
        monkeypatch.delitem(sys.modules, f"central.sinks.{module}", raising=False)
    file = tmp_path / "central.toml"
    file.write_text('[broker]\nurl = "mqtt://127.0.0.1:1"\n[database]\nurl = "postgresql://nobody@127.0.0.1:1/none"\n')
    result = invoke(command[0], "-c", file, *command[1:])
    assert (result.exit_code, "psycopg is not installed" in result.stderr) == (3, True)
