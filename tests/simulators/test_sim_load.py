"""The simulated registers are physics, to the last digit that a meter has."""

import time
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.load import Load, decimals, plain
from simulators.trace import TraceName

START = 1_767_225_600_000  # 2026-01-01T00:00Z
TEN_YEARS = 10 * 365 * 86_400_000

seeds = st.integers(0, 2**32)
times = st.integers(START, START + TEN_YEARS)
traces = st.sampled_from(["household", "steelplant"])
loads = st.builds(Load, seeds, phases=st.sampled_from([1, 3]), tariffs=st.integers(1, 8), trace=traces,
                  reverse=st.booleans())  # fmt: skip


def number(load: Load, name: str, at_ms: int) -> Decimal:
    text = load.plain(name, at_ms)
    assert text is not None
    return Decimal(text)


@settings(max_examples=60)
@given(load=loads, at=times)
def test_power_is_voltage_times_current_times_power_factor(load: Load, at: int) -> None:
    for phase in "abc"[: load.phases]:
        u, i, pf, p = (
            number(load, f"{stem}.{phase}", at) for stem in ("voltage", "current", "power_factor", "power.active")
        )
        rounding = (u * Decimal("0.0005") + i * Decimal("0.05")) * abs(pf) + u * i * Decimal("0.0005")
        assert abs(u * i * pf / 1000 - p) <= rounding / 1000 + Decimal("0.0001")
        s, q = number(load, f"power.apparent.{phase}", at), number(load, f"power.reactive.{phase}", at)
        assert abs(s * s - p * p - q * q) <= 2 * s * Decimal("0.0012") + Decimal("0.00001")


@settings(max_examples=60)
@given(load=loads, at=times)
def test_a_total_is_the_sum_of_its_phases(load: Load, at: int) -> None:
    for stem in ("power.active", "power.reactive", "power.apparent"):
        phases = [number(load, f"{stem}.{phase}", at) for phase in "abc"[: load.phases]]
        assert number(load, f"{stem}.total", at) == sum(phases, Decimal(0))
    energies = [number(load, f"energy.active.import.{phase}", at) for phase in "abc"[: load.phases]]
    counts_lost = load.tariffs * (load.phases + 1)  # each register drops less than a count
    assert abs(number(load, "energy.active.import.total", at) - sum(energies)) <= Decimal("0.01") * counts_lost


@settings(max_examples=60)
@given(load=loads, at=times)
def test_tariff_registers_sum_to_the_total_exactly(load: Load, at: int) -> None:
    for nature in ("active.import", "active.export", "reactive.q1", "apparent.import"):
        tariffs = [number(load, f"energy.{nature}.t{n}", at) for n in range(1, load.tariffs + 1)]
        assert number(load, f"energy.{nature}.total", at) == sum(tariffs)


@settings(max_examples=60)
@given(load=loads, at=times, later=st.integers(0, 86_400_000 * 40))
def test_no_register_ever_goes_back(load: Load, at: int, later: int) -> None:
    names = [f"energy.{n}.total" for n in ("active.import", "active.export", "active.combined", "reactive.combined_1")]
    names += [f"energy.active.import.t{n}" for n in range(1, load.tariffs + 1)]
    for name in names:
        assert number(load, name, at) <= number(load, name, at + later)


@settings(max_examples=30)
@given(load=loads, at=times)
def test_energy_is_the_integral_of_power(load: Load, at: int) -> None:
    step_ms = 60_000 if load.trace.flows["p"].step_ms == 60_000 else 900_000
    at -= at % step_ms
    power = sum((abs(number(load, "power.active.total", at + n * step_ms)) for n in range(24)), Decimal(0))
    direction = "export" if load.reverse else "import"
    name = f"energy.active.{direction}.total"
    grown = number(load, name, at + 24 * step_ms) - number(load, name, at)
    lost = Decimal("0.01") * (load.tariffs + 1) + Decimal("0.0002") * step_ms * 24 / 3_600_000
    assert abs(grown - power * step_ms / 3_600_000) <= lost


@settings(max_examples=15)
@given(load=loads, at=times)
def test_the_maximum_demand_is_the_highest_quarter_of_an_hour_of_the_month(load: Load, at: int) -> None:
    direction = "export" if load.reverse else "import"
    demand = number(load, f"demand.active.{direction}.total", at)
    when = load.read(f"demand.active.{direction}.total.time", at)
    now = load.read("clock", at)
    assert isinstance(when, str)
    assert isinstance(now, str)
    assert when[:7] == now[:7]
    assert when <= now
    assert when[-2:] in ("00", "15", "30", "45")
    month = at - ((int(now[8:10]) - 1) * 86_400_000 + (at + load.utc_offset_ms) % 86_400_000)
    means = [
        abs(load.mean("active.sum", None, end + load.utc_offset_ms, 900_000))
        for end in range(month + 900_000, at + 1, 900_000)
    ]
    assert demand * 10_000 == max(means, default=0)


@settings(max_examples=30)
@given(load=loads, at=times, again=times)
def test_the_demand_of_the_total_is_the_highest_of_the_tariffs(load: Load, at: int, again: int) -> None:
    stem = f"demand.active.{'export' if load.reverse else 'import'}"
    for moment in (at, again, at):  # what one reading remembers must not show in another
        tariffs = [number(load, f"{stem}.t{n}", moment) for n in range(1, load.tariffs + 1)]
        assert number(load, f"{stem}.total", moment) == max(tariffs)


def test_a_seed_gives_the_same_meter_again_and_another_seed_another() -> None:
    name = "energy.active.import.total"
    assert Load(5).read(name, START) == Load(5).read(name, START)
    assert len({Load(seed).read(name, START) for seed in range(50)}) == 50


def test_a_reversed_meter_shows_export_and_power_below_zero() -> None:
    load = Load(3, reverse=True)
    assert number(load, "power.active.total", START) < 0
    assert number(load, "power_factor.total", START) < 0
    day = START + 86_400_000
    assert number(load, "energy.active.export.total", day) > number(load, "energy.active.export.total", START)
    assert number(load, "energy.active.import.total", day) == number(load, "energy.active.import.total", START) == 0


def test_a_settlement_day_keeps_what_the_register_showed_then() -> None:
    load = Load(9)
    first_of_month = START - load.utc_offset_ms
    at = first_of_month + 20 * 86_400_000
    for name in ("energy.active.import.total", "energy.active.import.t3"):
        assert load.read(f"{name}.last_1", at) == load.read(name, first_of_month)
    assert load.read("energy.active.import.total.last_2", at) == load.read(
        "energy.active.import.total", first_of_month - 31 * 86_400_000
    )


@pytest.mark.parametrize("name", ["voltage.b", "current.c", "power.active.b", "voltage.ab", "energy.active.import.b"])
def test_a_single_phase_meter_has_no_other_phase(name: str) -> None:
    assert Load(1, phases=1).read(name, START) is None


def test_what_no_meter_shows_is_none() -> None:
    load = Load(1)
    for name in ("balance.amount", "energy.active.import.t5", "no.such.quantity", "address"):
        assert load.read(name, START) is None


@pytest.mark.parametrize(
    ("counts", "digits", "text"),
    [(2300, 1, "230.0"), (-5, 4, "-0.0005"), (0, 2, "0.00"), (7, 0, "7"), (-123, 3, "-0.123")],
)
def test_counts_are_written_plainly(counts: int, digits: int, text: str) -> None:
    assert plain(counts, digits) == text


def test_registers_have_the_digits_of_a_meter() -> None:
    wanted = {
        "energy.active.import.total": 2,
        "voltage.a": 1,
        "current.a": 3,
        "power.active.total": 4,
        "power_factor.a": 3,
    }
    assert {name: decimals(name) for name in wanted} == wanted


@pytest.mark.parametrize("trace", ["household", "steelplant"])
def test_voltages_and_currents_are_those_of_a_meter(trace: TraceName) -> None:
    load = Load(4, trace=trace)
    for hour in range(0, 24 * 14, 5):
        at = START + hour * 3_600_000
        assert 198 <= number(load, "voltage.a", at) <= 242
        assert 0 <= number(load, "current.a", at) < 100
        assert Decimal("49.9") < number(load, "frequency", at) < Decimal("50.1")


def test_a_read_is_cheap_at_any_time() -> None:
    load = Load(1)
    names = ["energy.active.import.total", "energy.active.import.t2", "voltage.a", "current.b", "power.active.total"]
    at = [START + n * 7_919_000 for n in range(400)]
    began = time.perf_counter()
    for moment in at:
        for name in names:
            load.read(name, moment)
    assert (time.perf_counter() - began) / (len(at) * len(names)) < 200e-6  # about 8 µs on an idle core
