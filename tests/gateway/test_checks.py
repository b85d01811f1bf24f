"""What cannot quite be true is flagged, with its reason; nothing is altered and nothing dropped."""

from decimal import Decimal

import pytest

from gateway.checks import Checks
from protocols.capture import Capture, Quality, Source, TimeState, Value
from protocols.quantity import by_name

MINUTE_MS = 60_000
TOTAL = "energy.active.import.total"
TARIFFS = [f"energy.active.import.t{n}" for n in range(1, 5)]


def capture(values: dict[str, str], *, at: int = 0, meter: str = "m1") -> Capture:
    return Capture(
        meter=meter, point="p1", task="t", slot=at, stamp=at, read_at=at, time_state=TimeState.TRUSTED,
        clock_error_ms=None, source=Source.METER_LIVE,
        values=tuple(Value(quantity=by_name(name), number=Decimal(text)) for name, text in values.items()),
    )  # fmt: skip


def doubts(checks: Checks, one: Capture) -> dict[str, str | None]:
    flagged = checks.flag(one)
    assert [value.number for value in flagged.values] == [value.number for value in one.values]
    return {value.quantity.name: value.detail for value in flagged.values if value.quality is Quality.DOUBTFUL}


def test_a_register_that_rises_as_energy_does_is_believed() -> None:
    checks = Checks({"m1": 20})
    for minute, text in enumerate(("100.00", "100.00", "100.39", "100.40")):
        assert doubts(checks, capture({TOTAL: text}, at=minute * MINUTE_MS)) == {}


def test_a_register_that_falls_is_doubtful() -> None:
    checks = Checks()
    checks.flag(capture({TOTAL: "100.00"}))
    assert doubts(checks, capture({TOTAL: "99.99"}, at=MINUTE_MS)) == {TOTAL: "fell from 100.00"}
    assert checks.counters.fell == 1


@pytest.mark.parametrize(("power_kw", "step", "plausible"), [
    (20, "0.40", True), (20, "0.43", False), (600, "12.00", True), (600, "12.03", False),
])  # fmt: skip
def test_energy_rises_at_most_by_the_power_of_the_meter_over_the_time(
    power_kw: int, step: str, plausible: bool
) -> None:
    checks = Checks({"m1": power_kw})
    checks.flag(capture({TOTAL: "100.00"}))
    found = doubts(checks, capture({TOTAL: str(100 + Decimal(step))}, at=MINUTE_MS))
    assert (found == {}) is plausible
    assert checks.counters.rose_too_fast == (not plausible)


@pytest.mark.parametrize("frozen", ["last_1", "daily_1"])
def test_what_is_frozen_anew_steps_by_a_whole_day_at_once(frozen: str) -> None:
    checks = Checks({"m1": 20})
    for minute, text in enumerate(("100.00", "180.00", "180.00")):
        assert doubts(checks, capture({f"{TOTAL}.{frozen}": text}, at=minute * MINUTE_MS)) == {}
    assert checks.flag(capture({TOTAL: "100.00"})) and doubts(checks, capture({TOTAL: "180.00"}, at=MINUTE_MS))


@pytest.mark.parametrize("by_ms", [MINUTE_MS, 15 * MINUTE_MS, 365 * 24 * 60 * MINUTE_MS])
@pytest.mark.parametrize("way", [1, -1])
def test_a_clock_that_is_set_casts_doubt_on_one_reading_at_most(by_ms: int, way: int) -> None:
    checks, doubtful = Checks({"m1": 20}), 0
    for n in range(10):
        at = n * 15 * MINUTE_MS + (way * by_ms if n >= 5 else 0)
        doubtful += bool(doubts(checks, capture({TOTAL: f"{100 + 4 * n}.00"}, at=10**12 + at)))
    assert doubtful <= 1


def test_one_count_may_turn_over_at_any_moment() -> None:
    checks = Checks({"m1": 1})
    checks.flag(capture({TOTAL: "100.00"}))
    assert doubts(checks, capture({TOTAL: "100.01"}, at=1)) == {}


def test_a_total_is_the_sum_of_its_tariffs_within_a_few_counts() -> None:
    checks = Checks()
    parts = dict(zip(TARIFFS, ("10.00", "20.00", "30.00", "40.00"), strict=True))
    assert doubts(checks, capture({TOTAL: "100.04", **parts})) == {}
    assert doubts(checks, capture({TOTAL: "100.04", **parts} | {TARIFFS[0]: "11.00"}, at=900_000)) == {
        TOTAL: "its tariffs add up to 101.00"
    }
    assert checks.counters.sums == 1


def test_a_meter_with_tariffs_that_are_not_read_has_a_larger_total() -> None:
    checks = Checks()
    some = {TOTAL: "100.00", TARIFFS[0]: "10.00", TARIFFS[1]: "20.00"}
    for n in range(3):
        assert doubts(checks, capture(some, at=n * MINUTE_MS)) == {}


def test_once_tariffs_added_up_a_total_above_them_is_doubtful_of_that_meter_alone() -> None:
    checks = Checks()
    parts = dict(zip(TARIFFS, ("10.00", "20.00", "30.00", "40.00"), strict=True))
    checks.flag(capture({TOTAL: "100.00", **parts}))
    assert doubts(checks, capture({TOTAL: "108.00", **parts}, at=900_000)) == {TOTAL: "its tariffs add up to 100.00"}
    assert doubts(checks, capture({TOTAL: "108.00", **parts}, at=900_000, meter="m2")) == {}


@pytest.mark.parametrize(("name", "good", "bad"), [
    ("voltage.a", "230.1", "-1"), ("frequency", "50.00", "5.00"), ("power_factor.total", "-0.98", "1.01"),
])  # fmt: skip
def test_what_physics_does_not_allow_is_doubtful(name: str, good: str, bad: str) -> None:
    checks = Checks()
    assert doubts(checks, capture({name: good})) == {}
    assert list(doubts(checks, capture({name: bad}))) == [name]
    assert checks.counters.out_of_bounds == 1


def test_combined_energy_may_fall_and_be_negative() -> None:
    checks = Checks()
    for text in ("1.00", "-1.00", "-2.00"):
        assert doubts(checks, capture({"energy.active.combined.total": text})) == {}
