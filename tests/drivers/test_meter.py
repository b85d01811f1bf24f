"""A meter: how long it is waited for, and what an outcome says about a slot."""

from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.model import BusEntry, SerialSettings, TaskEntry
from drivers.meter import INTER_BYTE_S_645, INTER_BYTE_S_ASCII, INTER_BYTE_S_MODBUS, Meter, clock_error_ms
from drivers.outcome import Outcome
from protocols.capture import Capture, Fault, Gap, Quality, Source, TimeState, Value, faulty
from protocols.dialogue import Ask
from protocols.quantity import by_name
from tests.script import meter

SLOT = 1_700_000_100_000
ZONE = ZoneInfo("Asia/Shanghai")
TASK = TaskEntry(name="curve", every_s=900, items=("voltage.a",), slot_tolerance_s=60)
VOLTS = Value(quantity=by_name("voltage.a"), number=Decimal("230.1"))


def ask(sent: int = 16, reply_max: int = 40) -> Ask[object]:
    return Ask(data=b"\x00" * sent, reply_max=reply_max, accepts=lambda frame: True)


def outcome(*values: Value, read_at: int = SLOT + 1000) -> Outcome:
    return Outcome(values=values, started_at=read_at - 300, read_at=read_at)


def capture(one: Meter, what: Outcome) -> Capture | Gap:
    return one.capture(TASK, SLOT, what, now_ms=SLOT + 5000, zone=ZONE)


@pytest.mark.parametrize(
    ("protocol", "baud", "gap_ms", "inter_byte_s"),
    [
        ("dlt645-2007", 2400, 30.0, INTER_BYTE_S_645),
        ("modbus-rtu", 2400, 3.5 * 11 / 2.4, INTER_BYTE_S_MODBUS),
        ("modbus-rtu", 1200, 3.5 * 11 / 1.2, INTER_BYTE_S_MODBUS),
        ("modbus-rtu", 600, 3.5 * 11 / 0.6, 3.5 * 11 / 600),
        ("modbus-rtu", 19200, 3.5 * 11 / 19.2, INTER_BYTE_S_MODBUS),
        ("modbus-rtu", 115200, 1.75, INTER_BYTE_S_MODBUS),
        ("modbus-tcp", 9600, 0.0, INTER_BYTE_S_645),
        ("modbus-ascii", 9600, 0.0, INTER_BYTE_S_ASCII),
    ],
)
def test_gap_and_inter_byte_limit_follow_protocol_and_speed(
    protocol: str, baud: int, gap_ms: float, inter_byte_s: float
) -> None:
    serial = SerialSettings(baud=baud, parity="E")
    one = meter("1" if "modbus" in protocol else "0" * 12, protocol, serial=serial)  # type: ignore[arg-type]
    assert one.gap_s * 1000 == pytest.approx(gap_ms)
    assert one.inter_byte_s == pytest.approx(inter_byte_s)


def test_a_meter_with_a_longer_gap_of_its_own_gets_it() -> None:
    assert meter("1", "modbus-rtu", min_gap_ms=40).gap_s == pytest.approx(0.040)


def test_a_time_out_is_wire_time_and_turnaround_and_a_margin() -> None:
    one = meter(serial=SerialSettings(baud=2400, parity="E"), turnaround_ms_max=500)
    wire_s = 56 * 11 / 2400
    assert wire_s + 0.5 < one.timeout_s(ask()) < wire_s + 0.6


def test_an_answering_meter_is_waited_for_less_and_a_silent_one_as_long_as_at_first() -> None:
    one = meter(turnaround_ms_max=500)
    at_first = one.timeout_s(ask())
    one.answered(0.09)
    learned = one.timeout_s(ask())
    assert at_first - learned == pytest.approx(0.5 - 0.18)
    for _ in range(1000):
        one.answered(0.001)
    assert one.turnaround_s == pytest.approx(0.1)
    one.unanswered()
    assert one.timeout_s(ask()) == at_first


def test_a_shorter_time_out_leaves_a_longer_window_for_late_answers() -> None:
    one = meter(turnaround_ms_max=500, late_max_ms=1000)
    together = one.timeout_s(ask()) + one.late_s
    one.answered(0.02)
    assert one.late_s == pytest.approx(1.4)
    assert one.timeout_s(ask()) + one.late_s == pytest.approx(together)


@given(st.lists(st.floats(0.0, 5.0), max_size=20))
def test_the_learned_turnaround_stays_within_the_profile(samples: list[float]) -> None:
    one = meter(turnaround_ms_max=500)
    for sample in samples:
        one.answered(sample)
        assert 0.1 <= one.turnaround_s <= 0.5


def test_modbus_over_tcp_has_no_wire_time_of_its_own() -> None:
    one = meter("1", "modbus-tcp", bus=BusEntry(name="t", port="tcp://10.0.0.1:502"))
    assert one.timeout_s(ask(12, 200)) == one.timeout_s(ask(12, 9))


@pytest.mark.parametrize(
    ("read_at", "stamp"),
    [(SLOT, SLOT), (SLOT + 60_000, SLOT), (SLOT + 60_001, SLOT + 60_001), (SLOT - 60_001, SLOT - 60_001)],
)
def test_a_read_far_from_its_slot_is_stamped_with_its_own_time_and_still_fills_the_slot(
    read_at: int, stamp: int
) -> None:
    found = capture(meter(), outcome(VOLTS, read_at=read_at))
    assert isinstance(found, Capture)
    assert (found.slot, found.stamp, found.read_at) == (SLOT, stamp, read_at)
    assert found.source is Source.METER_LIVE
    assert found.time_state is TimeState.TRUSTED


def test_a_slot_with_one_value_is_a_capture_with_its_failures() -> None:
    failed = faulty(by_name("current.a"), Fault.ABSENT)
    found = capture(meter(), outcome(failed, VOLTS))
    assert isinstance(found, Capture)
    assert found.values == (failed, VOLTS)


def test_what_the_meter_says_it_has_not_is_an_answer_and_no_gap() -> None:
    filler = Value(quantity=by_name("voltage.b"), quality=Quality.UNAVAILABLE)
    assert isinstance(capture(meter(), outcome(filler)), Capture)


@pytest.mark.parametrize(
    ("faults", "reason"),
    [
        ([Fault.ABSENT, Fault.SILENT], Fault.SILENT),
        ([Fault.SILENT, Fault.GARBLED], Fault.GARBLED),
        ([Fault.ABSENT, Fault.REFUSED], Fault.REFUSED),
        ([Fault.MISSED, Fault.ABSENT], Fault.ABSENT),
        ([Fault.ABSENT, Fault.ABSENT], Fault.ABSENT),
    ],
)
def test_a_slot_whose_every_item_failed_is_a_gap_with_the_most_telling_reason(
    faults: list[Fault], reason: Fault
) -> None:
    values = [faulty(by_name("voltage.a"), fault, f"because {fault.value}") for fault in faults]
    found = capture(meter(), outcome(*values))
    assert found == Gap(meter=meter().id, task="curve", slot=SLOT, fault=reason, detail=f"because {reason.value}",
                        opened_at=SLOT + 5000)  # fmt: skip


def test_a_job_without_values_is_a_gap_with_its_reason() -> None:
    found = capture(meter(), Outcome(fault=Fault.BUS, detail="no such device"))
    assert isinstance(found, Gap)
    assert (found.fault, found.detail) == (Fault.BUS, "no such device")


def test_every_fault_has_its_place_among_the_reasons() -> None:
    for fault in Fault:
        found = capture(meter(), outcome(faulty(by_name("voltage.a"), fault)))
        assert isinstance(found, Gap)
        assert found.fault is fault


def clock(**times: str) -> list[Value]:
    return [Value(quantity=by_name(name.replace("_", ".")), time=text) for name, text in times.items()]


NOON_MS = 1_767_240_000_000  # 2026-01-01T12:00:00 in Shanghai


@pytest.mark.parametrize(
    ("values", "error_ms"),
    [
        (clock(clock="2026-01-01T12:00:03"), 3000),
        (clock(clock_date="2026-01-01", clock_time="11:59:00"), -60_000),
        (clock(clock_time="11:59:00"), None),
        (clock(clock="--01-01T12:00:03"), None),
        ([VOLTS], None),
    ],
)
def test_the_clock_error_is_the_meters_civil_time_minus_ours(values: list[Value], error_ms: int | None) -> None:
    assert clock_error_ms(values, read_at=NOON_MS, zone=ZONE) == error_ms


def test_where_an_hour_comes_twice_the_nearer_reading_of_the_clock_counts() -> None:
    zone = ZoneInfo("Europe/Berlin")
    second_0230_ms = 1_792_891_800_000  # 2026-10-25T02:30 for the second time (01:30 UTC)
    values = clock(clock="2026-10-25T02:30:05")
    for at in (second_0230_ms, second_0230_ms - 3_600_000):
        assert clock_error_ms(values, read_at=at, zone=zone) == 5000
