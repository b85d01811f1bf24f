"""The words that every layer shares are valid, or they are not built."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from protocols.capture import Capture, Fault, Quality, Source, TimeState, Value, faulty
from protocols.quantity import by_name

VOLTAGE = by_name("voltage.a")
CAPTURE = Capture(
    meter="m1", point="p1", task="curve", slot=None, stamp=1, read_at=2, time_state=TimeState.TRUSTED,
    clock_error_ms=None, source=Source.METER_LIVE, values=(Value(quantity=VOLTAGE, number=Decimal("230.10")),),
)  # fmt: skip


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ({"number": Decimal(1), "text": "1"}, "more than one"),
        ({"number": Decimal(1), "time": "12:00"}, "more than one"),
        ({"time": "12:00", "text": "noon"}, "more than one"),
        ({"number": Decimal("NaN")}, "not a finite number"),
        ({"number": Decimal("Infinity")}, "not a finite number"),
        ({}, "without a value"),
        ({"quality": Quality.DOUBTFUL}, "without a value"),
        ({"number": Decimal(1), "quality": Quality.UNAVAILABLE}, "with quality unavailable"),
        ({"text": "1", "quality": Quality.INVALID}, "with quality invalid"),
        ({"number": Decimal(1), "fault": Fault.SILENT}, "with quality good, fault"),
    ],
)
def test_a_value_that_contradicts_itself_is_not_built(parts: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Value(quantity=VOLTAGE, **parts)


@pytest.mark.parametrize("fault", list(Fault))
def test_a_fault_has_no_value_and_the_quality_that_belongs_to_it(fault: Fault) -> None:
    value = faulty(VOLTAGE, fault, "why")
    wrong = fault in (Fault.GARBLED, Fault.IMPLAUSIBLE)
    assert (value.plain, value.fault, value.detail) == (None, fault, "why")
    assert value.quality is (Quality.INVALID if wrong else Quality.UNAVAILABLE)


def test_a_number_is_told_without_an_exponent_and_with_its_last_zeros() -> None:
    numbers = ("230.10", "1E+3", "1E-7", "-0.0")
    assert [Value(quantity=VOLTAGE, number=Decimal(text)).plain for text in numbers] == [
        "230.10", "1000", "0.0000001", "-0.0"
    ]  # fmt: skip


@pytest.mark.parametrize("parts", [{"meter": ""}, {"task": ""}, {"values": ()}])
def test_a_capture_has_its_meter_its_task_and_values(parts: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="capture"):
        replace(CAPTURE, **parts)
