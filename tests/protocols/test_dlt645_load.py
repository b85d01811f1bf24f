"""Load records (06): what a meter sent becomes values with their moment; what is damaged or uncertain becomes none."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.bcd import low_first
from protocols.capture import Fault, Quality, Value
from protocols.dlt645 import v2007
from protocols.dlt645.frame import Deframer, Frame
from protocols.dlt645.items import decode_item, encode_item, layout, quantities
from protocols.dlt645.load_record import SECTIONS, SIZES, TIME, LoadRecord, parse
from simulators.dlt645 import Dlt645Meter
from simulators.load import Load
from tests.dlt645 import VECTORS, converse

METER = "202411110002"
AT = 1_800_000_000_000
TIME_BYTES = low_first("2611151230")
FILLS = [bytes([n + 1] * size) for n, size in enumerate(SIZES)]
"""Sections that hold other digits each."""


def record(
    sections: list[bytes], *, start: bytes = b"\xa0\xa0", span: int = 5, total: int | None = None, joined: str = "each"
) -> bytes:
    """One record, written from the text of Appendix B. joined: which separators stand: each, or none of leading empty
    sections, or only of those that are not empty (own)."""
    body = TIME_BYTES
    for section in sections:
        if section or joined == "each" or (joined != "own" and len(body) > len(TIME_BYTES)):
            body += section + b"\xaa"
    head = start + bytes([len(body) + 5 - span if total is None else total]) + body
    return head + bytes([sum(head) & 0xFF, 0xE5])


def names(found: LoadRecord) -> list[str]:
    return [value.quantity.name for value in found.values]


def only(*places: int) -> list[bytes]:
    return [FILLS[n] if n in places else b"" for n in range(6)]


@pytest.mark.parametrize("span", [0, 3, 5])
@pytest.mark.parametrize("places", [(0, 1, 2, 3, 4, 5), (0,), (3,), (4,), (1, 5), ()])
def test_a_record_gives_the_values_of_its_sections(places: tuple[int, ...], span: int) -> None:
    (found,) = parse(record(only(*places), span=span))
    assert (found.time.quantity, found.time.time) == (TIME, "2026-11-15T12:30")
    assert names(found) == [quantity.name for n in places for quantity, _ in SECTIONS[n]]
    assert all(value.quality is Quality.GOOD for value in found.values)


def test_the_values_have_the_digits_of_the_standard() -> None:
    (found,) = parse(record(only(0, 1, 2, 3, 4, 5)))
    plain = {value.quantity.name: value.plain for value in found.values}
    assert plain["voltage.a.load"] == "10.1"
    assert plain["current.c.load"] == "10.101"
    assert plain["frequency.load"] == "1.01"
    assert plain["power.reactive.total.load"] == "2.0202"
    assert plain["power_factor.c.load"] == "0.303"
    assert plain["energy.reactive.combined_2.total.load"] == "40404.04"
    assert plain["energy.reactive.q4.total.load"] == "50505.05"
    assert plain["demand.reactive.present.load"] == "6.0606"


@pytest.mark.parametrize(
    ("places", "asked", "expected"),
    [
        ((0,), 0, (0,)),
        ((1,), 0, (1,)),
        ((3,), 0, (3,)),
        ((4,), 0, (4,)),
        ((4,), 5, (4,)),
        ((1, 4), 0, (1, 4)),
        ((4,), 4, None),
    ],
)
def test_leading_separators_may_be_missing(
    places: tuple[int, ...], asked: int, expected: tuple[int, ...] | None
) -> None:
    (found,) = parse(record(only(*places), joined="none"), asked)
    if expected is None:  # asked for energies, answered where quadrants stand: nobody knows which they are
        assert found.time.quality is Quality.INVALID
        assert not found.values
    else:
        assert names(found) == [quantity.name for n in expected for quantity, _ in SECTIONS[n]]


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ((0, 5), (0, 5)),
        ((0, 1, 2), (0, 1, 2)),
        ((3, 4), (3, 4)),
        ((2, 3, 4), (2, 3, 4)),
        ((3, 5), None),
        ((4, 5), None),
        ((0, 3), None),
    ],
)
def test_where_no_empty_section_has_a_separator_lengths_tell_or_nothing_does(
    places: tuple[int, ...], expected: tuple[int, ...] | None
) -> None:
    (found,) = parse(record(only(*places), joined="own"))
    if expected is None:  # energies and quadrants are as long as each other
        assert (found.time.quality, found.values) == (Quality.INVALID, ())
    else:
        assert names(found) == [quantity.name for n in expected for quantity, _ in SECTIONS[n]]


def test_without_any_separator_the_class_that_was_asked_for_tells() -> None:
    bare = TIME_BYTES + FILLS[4]
    head = b"\xa0\xa0" + bytes([len(bare)]) + bare
    whole = head + bytes([sum(head) & 0xFF, 0xE5])
    assert parse(whole)[0].time.quality is Quality.INVALID
    assert names(parse(whole, 4)[0])[0] == "energy.active.import.total.load"
    assert names(parse(whole, 5)[0])[0] == "energy.reactive.q1.total.load"


def test_a_record_that_the_meter_marks_as_invalid_has_no_values() -> None:
    found = parse(record(only(0), start=b"\xe0\xe0") + record(only(0)))
    assert [(one.time.quality, len(one.values)) for one in found] == [(Quality.INVALID, 0), (Quality.GOOD, 7)]
    assert found[0].time.detail == "marked as invalid by the meter: 2611151230"


def test_bytes_between_records_are_told_and_hide_no_record() -> None:
    whole = record(only(2))
    found = parse(b"\xa0\x01" + whole + b"\xa0\xa0\x00" + whole + b"\xe5")
    assert [one.time.quality for one in found] == [Quality.INVALID, Quality.GOOD] * 2 + [Quality.INVALID]
    assert found[0].time.detail == "no load record: A001"
    assert [len(one.values) for one in parse(b"\xa0\xa0\xa0\x09\xe0\xe0\xa0\xa0" + whole)] == [0, 4]


@pytest.mark.parametrize("at", range(len(record(only(0, 1, 2, 3, 4, 5)))))
def test_a_changed_byte_is_never_a_value(at: int) -> None:
    whole = bytearray(record(only(0, 1, 2, 3, 4, 5)))
    whole[at] ^= 0x10
    assert all(not one.values for one in parse(bytes(whole)))


@given(st.lists(st.binary(max_size=30) | st.sets(st.integers(0, 5)).map(lambda s: record(only(*s))), max_size=6))
def test_any_bytes_give_records_and_raise_nothing(parts: list[bytes]) -> None:
    for value in decode_item("06000001", b"".join(parts)):
        assert (value.plain is None) == (value.quality in (Quality.UNAVAILABLE, Quality.INVALID))


@given(st.data(), st.integers(0, 6))
def test_what_is_encoded_is_decoded_again(data: st.DataObject, asked: int) -> None:
    di = f"060{asked}0002"
    plain: list[Decimal | str | None] = ["2026-11-15T12:30"]
    for quantity in quantities(di)[1:]:
        digits = 3 if quantity.name.startswith("power_factor") else {"V": 1, "A": 3, "Hz": 2, "kWh": 2, "kvarh": 2}.get(
            quantity.unit, 4
        )  # fmt: skip
        plain.append(Decimal(data.draw(st.integers(0, 7999))).scaleb(-digits))
    payload = encode_item(di, plain)
    found = layout(di)
    assert found is not None
    assert found.width == len(payload) + (0 if not asked else sum(SIZES) - SIZES[asked - 1])
    values = decode_item(di, payload)
    assert [value.quantity for value in values] == list(quantities(di))
    assert [value.time or value.number for value in values] == plain


def read_load(di: str, blocks: int, since: str | None = None) -> tuple[list[Value], int]:
    meter = Dlt645Meter(METER, Load(11))
    dialogue = v2007.read_load(METER, di, blocks, since=since)
    values, asks = converse(dialogue, lambda question: meter.handle(question, AT) or b"")
    return values, len(asks)


def test_the_latest_records_come_in_follow_up_frames() -> None:
    values, frames = read_load("06000002", 8)
    times = [value.time for value in values if value.quantity is TIME]
    assert len(times) == 8
    assert times == sorted(times, key=str)
    assert len(values) == 8 * (1 + sum(map(len, SECTIONS)))
    assert all(value.quality is Quality.GOOD for value in values)
    assert frames == 5  # 824 bytes: 196, then 195 each


def test_the_number_of_records_is_sent_as_two_digits() -> None:
    asked = next(v2007.read_load(METER, "06000002", 12)).data
    assert asked[-3] == 0x33 + 0x12
    assert len([value for value in read_load("06000002", 12)[0] if value.quantity is TIME]) == 12


def test_records_are_asked_for_from_a_time_on() -> None:
    values, _ = read_load("06010001", 2, "2027-01-14T12:20")
    assert [value.time for value in values if value.quantity is TIME] == ["2027-01-14T12:30", "2027-01-14T12:45"]
    asked = next(v2007.read_load(METER, "06010001", 2, since="2026-11-15T12:30"))
    (recorded,) = (vector["hex"] for vector in VECTORS if vector["id"] == "V214")
    assert asked.data.hex() == recorded
    (recorded,) = (vector["hex"] for vector in VECTORS if vector["id"] == "V213")
    assert next(v2007.read_load(METER, "06000000", 3)).data.hex() == recorded


def test_no_records_are_one_value_that_says_so() -> None:
    values, _ = read_load("06010001", 2, "2099-01-14T12:20")
    assert [(value.quantity, value.quality, value.fault) for value in values] == [(TIME, Quality.UNAVAILABLE, None)]


def test_a_curve_gives_its_value_and_its_moment() -> None:
    values, _ = read_load("061003FF", 1, "2027-01-14T12:20")
    assert [value.quantity.name for value in values] == [
        *(f"power.active.{phase}.load" for phase in ("total", "a", "b", "c")), "record.time.load",
    ]  # fmt: skip
    assert values[-1].time == "2027-01-14T12:30"


@pytest.mark.parametrize(("di", "frames"), [("06100101", 2), ("061002FF", 5), ("06100604", 2), ("061007FF", 8)])
def test_a_curve_of_many_points_has_the_moment_of_the_first_and_counts_the_others(di: str, frames: int) -> None:
    values, asked = read_load(di, 96, "2027-01-14T12:20")
    each = len(quantities(di))
    points = [values[at : at + each] for at in range(0, len(values), each)]
    assert (len(points), asked) == (96, frames)
    assert [[value.quantity for value in point] for point in points] == [list(quantities(di))] * 96
    assert [point[-1].time for point in points] == ["2027-01-14T12:30"] + [None] * 95
    assert [point[-1].detail for point in points[1:3]] == [
        "1 interval after 2027-01-14T12:30", "2 intervals after 2027-01-14T12:30",
    ]  # fmt: skip
    assert {point[-1].quality for point in points[1:]} == {Quality.UNAVAILABLE}
    assert {value.quality for point in points for value in point[:-1]} == {Quality.GOOD}


def test_silence_is_one_value_for_records_of_unknown_number() -> None:
    values, _ = converse(v2007.read_load(METER, "06000002", 3), lambda _: b"")
    assert [(value.quantity, value.fault) for value in values] == [(TIME, Fault.SILENT)]


@pytest.mark.parametrize(("blocks", "since"), [(0, None), (100, None), (1, "2026-11-15"), (1, "12:30")])
def test_what_cannot_be_asked_is_refused_at_once(blocks: int, since: str | None) -> None:
    with pytest.raises(ValueError, match="expected"):
        v2007.read_load(METER, "06010001", blocks, since=since)


def test_a_reply_with_another_identifier_is_passed_over() -> None:
    other = Frame(address=METER, control=0x91, data=low_first("06020002") + record(only(1))).encode()
    values, _ = converse(v2007.read_load(METER, "06010002", 1), lambda _: other)
    assert [value.fault for value in values] == [Fault.GARBLED]
    assert Deframer().feed(other)
