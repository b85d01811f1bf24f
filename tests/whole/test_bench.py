"""The benchmarks run, say what they found in the form that is promised, and what does not depend on the machine holds.

What takes long or needs a quiet machine is run small here; `make bench` runs it whole.
"""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import append, body, chain, daemon, decode, fleet, landing, modbus_cpu, start, uplink, utilisation, wear
from bench.__main__ import NAMES, main
from bench.figure import Figure, rate, took
from bench.rig import rig

FORM = {"bench", "what", "figure", "unit", "bound", "ok"}
TIMED = {"raw", "factor", "scaled"}


def told(figures: Iterator[Figure], *, timed: bool = False) -> list[dict[str, object]]:
    """The lines of a benchmark, read back."""
    lines = [figure.line() for figure in figures]
    found = [json.loads(line) for line in lines]
    assert found
    for line, one in zip(lines, found, strict=True):
        assert "\n" not in line
        assert one.keys() >= FORM | (TIMED if timed else set())
        assert one["bench"] in NAMES
    return found


def test_an_hour_of_the_reference_load_is_sealed_in_at_most_one_and_a_half_bytes_a_value() -> None:
    reference, float32, *traces = told(uplink.run(meters=10, hours=1))
    assert reference["bound"] == {"at_most": 1.5}
    assert reference["ok"] is True
    assert reference["values"] == 8000
    assert reference["envelope_bytes"] == 54
    assert float32["values"] == 8000
    assert [str(line["what"]).split()[0] for line in traces][:2] == ["household", "steelplant"]


def test_a_residential_trace_is_read_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = ["time_end,m001_wh,m002_wh", *(f"2018-10-29T0{n // 4}:{n % 4 * 15:02d}:00+01:00,10,{n}" for n in range(8))]
    trace = tmp_path / "trace.csv.gz"
    trace.write_bytes(gzip.compress("\n".join(rows).encode()))
    batches = list(uplink.residential_hours(trace, 2))
    assert [len(batch) for batch in batches] == [8, 8]
    monkeypatch.setenv(uplink.RESIDENTIAL, str(trace))
    *_, last = told(uplink.run(meters=1, hours=1))
    assert last["values"] == 8
    monkeypatch.setenv(uplink.RESIDENTIAL, str(tmp_path / "absent"))
    assert len(told(uplink.run(meters=1, hours=1))) == 4


@pytest.mark.slow
def test_bodies_are_written_and_read_at_three_hundred_thousand_values_a_second() -> None:
    encoded, decoded, *_ = told(body.run(), timed=True)
    for line in (encoded, decoded):
        assert line["bound"] == {"at_least": 300_000}
        assert line["ok"] is True, line


def test_in_virtual_time_the_wire_is_used_to_99_percent() -> None:
    slow, fast, _ = told(utilisation.run(rounds=1, tries=1))
    for line in (slow, fast):
        assert line["bound"] == {"at_least": 0.99}
        assert line["ok"] is True


def test_rates_are_told_raw_and_scaled() -> None:
    for figures in (decode.run(frames=50), append.run(count=512, singly=3), chain.run(buses=1, meters=2, slots=2)):
        for line in told(figures, timed=True):
            raw, factor, figure = line["raw"], line["factor"], line["figure"]
            assert isinstance(raw, float | int)
            assert isinstance(factor, float)
            assert figure == pytest.approx(raw * factor, rel=0.01)


@pytest.mark.real
def test_the_daemon_is_started_and_weighed() -> None:
    with rig(buses=1, meters=2, compiled=False) as made:
        (line,) = told(iter([start.measure(made, tries=1)]), timed=True)
        resident, peak, processor = told(daemon.measure(made, idle_s=0.1))
    assert line["bound"] == {"at_most": 2.0}
    assert resident["captures"] == 2
    assert isinstance(resident["figure"], float)
    assert isinstance(peak["figure"], float)
    assert 20 < resident["figure"] <= peak["figure"]
    assert processor["unit"] == "% of a core"


@pytest.mark.real
def test_a_modbus_read_is_weighed_against_pymodbus() -> None:
    paced, rtu, _, hasty, bare, called, pipelined, _ = told(modbus_cpu.run(reads=40, rounds=1))
    assert paced["bound"] == rtu["bound"] == {"at_most": 0.55}
    assert pipelined["bound"] == {"at_most": 0.35}
    for line in (paced, rtu, hasty, bare, called, pipelined):
        assert isinstance(line["us"], float)
        assert isinstance(line["pymodbus_us"], float)
        assert line["figure"] == pytest.approx(line["us"] / line["pymodbus_us"], rel=0.01)


@pytest.mark.real
def test_a_fleet_on_modbus_tcp_is_read_and_weighed_beside_pymodbus() -> None:
    accepted, landed, processor, memory = told(fleet.run(meters=3, seconds=3))
    for line in (accepted, landed):
        assert isinstance(line["figure"], float | int)
        assert line["figure"] == 3 * 50, "every value of every whole second"
    assert accepted["rounds"] in (2, 3)
    assert processor["bound"] == {"at_most": 60.0}
    assert processor["pymodbus_reading_the_same"] != 0
    assert memory["bound"] == {"at_most": 80.0}


@pytest.mark.real
@pytest.mark.slow
def test_sealed_batches_are_landed_by_one_worker_and_by_two(postgres_cluster: object) -> None:
    alone, both, small, times = told(landing.run(batches=2, meters=5, rounds=1, gateways=10))
    assert alone["bound"] == {"at_least": 100_000}
    for line in (alone, both, small):
        assert isinstance(line["figure"], float | int)
        assert line["figure"] > 0
    assert times["unit"] == "times"


def test_a_bound_that_is_not_kept_is_told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert not Figure(bench="uplink", what="", figure=1.6, unit="", at_most=1.5).ok
    assert not Figure(bench="uplink", what="", figure=0.96, unit="", at_least=0.97).ok
    assert not took("start", "", 1e9, at_most=2.0).ok
    assert rate("decode", "", 10, 1.0, "decodes/s").ok

    def too_heavy() -> Iterator[Figure]:
        yield Figure(bench="uplink", what="too heavy", figure=2.0, unit="bytes/value", at_most=1.5)

    monkeypatch.setattr(uplink, "run", too_heavy)
    assert main(["uplink"]) == 1
    assert json.loads(capsys.readouterr().out)["ok"] is False
    assert main(["nonsense"]) == 2


@pytest.mark.slow
def test_the_device_takes_at_most_twelve_bytes_for_each_that_is_packed() -> None:
    """Over append, seal, settle and purge together."""
    for line in told(wear.run(hours=8, buses=[8], history_days=0.25)):
        assert line["bound"] == {"at_most": 12.0}
        assert line["ok"] is True
        assert line["appended"] == 3_200
        assert isinstance(line["purged"], int) and line["purged"] > 500
