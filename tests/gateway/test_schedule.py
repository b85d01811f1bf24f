"""Slots, and the flags on what is read in them."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from config.model import BusEntry, MeterEntry, Site, TaskEntry, UplinkEntry
from field.truth import planned_slots
from gateway.checks import Checks
from gateway.slots import Slots
from gateway.today import Today
from protocols.capture import Capture, Fault, Gap, Quality, Source, TimeState, Value, faulty
from protocols.quantity import by_name

ZONES = ("Asia/Shanghai", "Asia/Urumqi", "Europe/Berlin", "America/St_Johns", "Asia/Kathmandu", "Pacific/Apia")
PERIODS = (60, 300, 900, 1800, 3600, 21600, 86400)
AT = st.integers(1_600_000_000_000, 1_900_000_000_000)
HOUR_MS = 3_600_000


@given(AT, st.sampled_from(ZONES), st.sampled_from(PERIODS))
@example(1_774_746_000_000, "Europe/Berlin", 3600)  # an hour before the clocks go forward
@example(1_792_890_000_000, "Europe/Berlin", 3600)  # an hour before they go back
@example(1_792_890_000_000, "Europe/Berlin", 86400)
def test_the_slots_are_those_that_the_truth_check_plans(at: int, zone: str, every_s: int) -> None:
    end = at + 30 * HOUR_MS
    slots = Slots(zone)
    first = slots.current(every_s, at)
    found = [first, *slots.between(every_s, first, end)]
    assert found == [key.slot for key in planned_slots(_site(zone, every_s), at, end)]


def _site(zone: str, every_s: int) -> Site:
    meter = MeterEntry(
        id="m", point="p", bus="b", address="1", profile="x", protocol="modbus-rtu", tasks=("t",)
    )  # fmt: skip
    return Site(
        gateway="g",
        zone=zone,
        uplink=UplinkEntry(url="mqtt://127.0.0.1:1883"),
        buses=(BusEntry(name="b", port="/dev/null"),),
        meters=(meter,),
        tasks=(TaskEntry(name="t", every_s=every_s, items=("voltage.a",)),),
        origin=Path("site.toml"),
    )


@given(AT, st.sampled_from(ZONES), st.sampled_from(PERIODS))
def test_a_slot_is_current_until_the_following_one(at: int, zone: str, every_s: int) -> None:
    slots = Slots(zone)
    current = slots.current(every_s, at)
    following = slots.following(every_s, current)
    assert current <= at < following
    assert following - current <= every_s * 1000
    assert slots.current(every_s, following) == following
    assert slots.current(every_s, following - 1) == current
    local = datetime.fromtimestamp(current / 1000, ZoneInfo(zone))
    assert (
        slots.day(at)
        == (datetime.fromtimestamp(at / 1000, ZoneInfo(zone)).date() - datetime.fromtimestamp(0, UTC).date()).days
    )
    if every_s <= HOUR_MS // 1000 and zone == "Asia/Shanghai":
        assert (local.hour * 3600 + local.minute * 60 + local.second) % every_s == 0


def capture(**numbers: str | None) -> Capture:
    values = tuple(
        faulty(by_name(name.replace("__", ".")), Fault.SILENT)
        if number is None
        else Value(quantity=by_name(name.replace("__", ".")), number=Decimal(number))
        for name, number in numbers.items()
    )
    return Capture(
        meter="m", point="p", task="t", slot=0, stamp=0, read_at=0, time_state=TimeState.TRUSTED, clock_error_ms=None,
        source=Source.METER_LIVE, values=values,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "number", "flag"),
    [
        ("voltage__a", "230.1", None),
        ("voltage__a", "-1", "below 0"),
        ("power_factor__total", "-0.998", None),
        ("power_factor__total", "1.002", "above 1"),
        ("frequency", "50.02", None),
        ("frequency", "0", "below 40"),
        ("energy__active__import__total", "-0.01", "below 0"),
        ("energy__active__combined__total", "-100", None),
        ("power__active__total", "-400", None),
    ],
)
def test_a_value_that_cannot_be_true_is_flagged_and_kept_as_it_is(name: str, number: str, flag: str | None) -> None:
    value = Checks().flag(capture(**{name: number})).values[0]
    assert value.number == Decimal(number)
    assert value.quality is (Quality.DOUBTFUL if flag else Quality.GOOD)
    assert value.detail == flag


def test_an_energy_register_that_falls_is_flagged_once_and_its_fault_never() -> None:
    checks, name = Checks(), "energy__active__import__t1"
    details = [
        checks.flag(capture(**{name: number})).values[0].detail
        for number in ("100.00", "100.00", "100.01", "99.50", "99.51", None, "99.50")
    ]
    assert details == [None, None, None, "fell from 100.01", None, None, "fell from 99.51"]
    assert checks.counters.fell == 2


def test_a_capture_without_anything_odd_is_the_same_object() -> None:
    sound = capture(voltage__a="230.0", current__a="1.5", frequency=None)
    assert Checks().flag(sound) is sound


def test_today_counts_slots_and_begins_anew_at_local_midnight() -> None:
    midnight = 1_790_006_400_000  # 2026-09-22 00:00 at Shanghai
    today = Today(Slots("Asia/Shanghai"), ["m"])
    gap = Gap(meter="m", task="t", slot=0, fault=Fault.SILENT, opened_at=0)
    today.take(capture(voltage__a="230.0"), midnight - 2)
    today.take(gap, midnight - 1)
    assert (today.captured, today.gaps, today.meters["m"].rate) == (1, 1, 0.5)
    assert today.meters["m"].fault is Fault.SILENT
    today.take(capture(voltage__a="230.0"), midnight)
    assert (today.captured, today.gaps, today.meters["m"].rate) == (1, 0, 1.0)
    assert today.meters["m"].fault is None
