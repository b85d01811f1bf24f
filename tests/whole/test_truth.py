"""The truth check finds each kind of lie, and passes the truth."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

import pytest

from config.model import BusEntry, MeterEntry, Site, TaskEntry, UplinkEntry
from field.truth import AcceptedCapture, AcceptedLog, SlotKey, Truth, check, planned_slots, read_accepted
from protocols.capture import Capture, Fault, Gap, Source, TimeState, Value
from protocols.quantity import by_name


@dataclass(frozen=True)
class Row:
    meter: str
    quantity: str
    stamp: int
    source: str
    plain: str | None
    slot: int | None
    read_at: int


SLOT = 1_700_000_100_000
SERVED = [("m1", SLOT + 500, {"voltage.a": "230.0", "frequency": "50.02"})]
ACCEPTED = [AcceptedCapture("m1", "curve", SLOT, SLOT, "meter_live", {"voltage.a": "230.0", "frequency": "50.02"})]
ROW = Row("m1", "voltage.a", SLOT, "meter_live", "230.00", SLOT, SLOT + 700)
LANDED = [ROW, replace(ROW, quantity="frequency", plain="50.02")]
PLANNED = [SlotKey("m1", "curve", SLOT), SlotKey("m1", "curve", SLOT + 900_000)]
GAPS = [("m1", "curve", SLOT + 900_000)]
ITEMS = {"curve": frozenset({"voltage.a", "frequency"})}


def verdict(
    *,
    served: Iterable[tuple[str, int, dict[str, str]]] = SERVED,
    accepted: Iterable[AcceptedCapture] = ACCEPTED,
    landed: Iterable[Row] = LANDED,
    gaps: Iterable[tuple[str, str, int]] = GAPS,
) -> Truth:
    return check(served=served, accepted=accepted, landed=landed, gaps=gaps, planned=PLANNED, items=ITEMS)


def test_the_truth_passes() -> None:
    truth = verdict()
    assert truth.passed
    assert (truth.planned, truth.served, truth.accepted, truth.landed, truth.gaps) == (2, 1, 1, 2, 1)


def test_nothing_landed_is_not_a_pass() -> None:
    assert not check(served=[], accepted=[], landed=[], gaps=[], planned=[], items=ITEMS).passed


def test_an_accepted_value_that_did_not_land_is_missing() -> None:
    truth = verdict(landed=LANDED[:1])
    assert truth.missing == 1
    assert not truth.passed


def test_a_value_that_landed_twice_is_a_duplicate() -> None:
    truth = verdict(landed=[*LANDED, ROW])
    assert truth.duplicate == 1
    assert not truth.passed


@pytest.mark.parametrize(
    "row",
    [
        replace(ROW, plain="230.1"),
        replace(ROW, read_at=SLOT + 700 + 10_000),
        replace(ROW, meter="m2"),
    ],
)
def test_a_landed_value_that_was_not_served_then_is_different(row: Row) -> None:
    truth = verdict(landed=[row, LANDED[1]])
    assert truth.different >= 1
    assert not truth.passed


def test_a_slot_without_value_and_without_gap_is_unexplained() -> None:
    truth = verdict(gaps=[])
    assert truth.unexplained == 1
    assert not truth.passed


def test_the_observer_writes_what_it_was_told_and_a_torn_last_line_is_no_record(tmp_path: Path) -> None:
    value = Value(quantity=by_name("voltage.a"), number=Decimal("230.0"))
    capture = Capture(
        meter="m1",
        point="p1",
        task="curve",
        slot=SLOT,
        stamp=SLOT,
        read_at=SLOT + 5,
        time_state=TimeState.TRUSTED,
        clock_error_ms=None,
        source=Source.METER_LIVE,
        values=(value,),
    )
    log = tmp_path / "accepted.jsonl"
    AcceptedLog(log)([capture, Gap(meter="m1", task="curve", slot=SLOT, fault=Fault.SILENT, opened_at=SLOT)])
    with log.open("a") as file:
        file.write('{"meter": "m1", "ta')
    accepted = AcceptedCapture("m1", "curve", SLOT, SLOT, "meter_live", {"voltage.a": "230.0"})
    assert read_accepted(log) == [accepted]
    AcceptedLog(log)([capture])  # the next life of the gateway
    assert read_accepted(log) == [accepted, accepted]


def test_planned_slots_stand_on_the_local_clock_and_include_the_one_in_force_at_the_start() -> None:
    site = Site(
        gateway="gw",
        zone="Asia/Shanghai",
        uplink=UplinkEntry(url="mqtt://127.0.0.1:1883"),
        buses=(BusEntry(name="b", port="/dev/null"),),
        meters=(
            MeterEntry(
                id="m1",
                point="p",
                bus="b",
                address="1",
                profile="x",
                protocol="modbus-rtu",
                tasks=("daily", "curve"),
            ),
        ),
        tasks=(
            TaskEntry(name="daily", every_s=86_400, items=("voltage.a",)),
            TaskEntry(name="curve", every_s=900, items=("voltage.a",)),
        ),
    )
    midnight = 1_700_064_000_000  # 2023-11-16T00:00 in Shanghai
    start = midnight + 10 * 60_000
    slots = list(planned_slots(site, start, start + 35 * 60_000))
    assert [s.slot for s in slots if s.task == "daily"] == [midnight]
    assert [s.slot - midnight for s in slots if s.task == "curve"] == [0, 900_000, 1_800_000]
