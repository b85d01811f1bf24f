"""Data identifiers of DL/T 645: what stands behind each, and that nothing but a right payload becomes a number."""

from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.capture import Quality
from protocols.catalogue_events import BY_PHASE
from protocols.dlt645.codes import Edition
from protocols.dlt645.compound import Either, Fields, Groups, Opaque, Record, Secret, Several, Timed
from protocols.dlt645.items import (
    block_of,
    days_block_of,
    decode_item,
    encode_item,
    layout,
    members,
    payload_max,
    quantities,
    reply_max,
)
from protocols.dlt645.shapes import Ascii, Demand, Digits, Number, Shape, Sign, When
from protocols.quantity import BASES

EVENTS = [
    *(f"03{n:02X}0000" for n in range(1, 16)),
    *(f"03{n}{phase}{nth}" for n in BY_PHASE for phase in ("01", "02", "03") for nth in ("01", "0A")),
    *(f"03{n:02X}00{nth:02X}" for n in range(5, 11) for nth in (1, 10)),
    *(f"0310{phase:02X}{month:02X}" for phase in range(4) for month in (0, 1, 12)),
    "03110001", "0311000A", *(f"03120{q}{nth:02X}" for q in range(1, 7) for nth in (1, 10)),
    *(f"0330{n:02X}{nth:02X}" for n in range(15) for nth in (0, 1, 10)),
    *(f"{n:02X}000001" for n in range(0x10, 0x24)), *(f"{n:02X}000002" for n in range(0x10, 0x1D)),
    *(f"{n}0{p}0001" for n in (10, 13, 18, "1C") for p in (1, 3)), "10020002",
    *(f"{n}0{p}FF{nth}" for n in (10, 13, 18, "1A", "1B", "1C") for p in (1, 3) for nth in ("01", "0A")),
    *(f"{n}00FF01" for n in (14, 15, 16, 17, "1D", "1E", "1F")), *(f"03{n}000{i}" for n in (35, 37) for i in (0, 9)),
]  # fmt: skip
FREEZES = [f"05{kind:02X}00{nth:02X}" for kind in (0, 1, 2, 3, 4, 5, 6, 7, 9, 10) for nth in (1, 62, 254)]
CURVES = [f"0610{what:02X}{phase}" for what in range(1, 8) for phase in ("01", "03", "FF")] + [
    "06100300", "06100604", "06100704", "06100801", "06100802", "061008FF",
]  # fmt: skip
HOURS = ["0504FF01", "0504FFFE"]
TABLES = [
    "04050101",
    "04060205",
    "04010000",
    "04020000",
    "04010001",
    "04020008",
    "04030001",
    "040300FE",
    "040401FE",
    "04040201",
]
USED = ["000B0001", "000C000C", "000D0001"]
SINGLES_2007 = [
    *(quantity.di for quantity in BASES if quantity.di), "00010203", "00013F0C", "01010C01",
    *EVENTS, *FREEZES, *HOURS, *CURVES, *TABLES, *USED,
]  # fmt: skip
SINGLES_1997 = [
    di for di in (f"{number:04X}" for number in range(0x9000, 0xC600))
    if not members(di, Edition.E1997) and quantities(di, Edition.E1997)
]  # fmt: skip
SINGLES = [*((di, Edition.E2007) for di in SINGLES_2007), *((di, Edition.E1997) for di in SINGLES_1997)]
BLOCKS = [
    (di, Edition.E2007)
    for di in ("0001FF00", "0000FF01", "000102FF", "0003FF00", "0101FF00", "0201FF00", "0202FF00", "0203FF00",
               "0206FF00", "020CFF00", "040005FF", "020A01FF", "020BFF15", "0080FF00", "05060101", "0500080C",
               "050409FE", "05060A01", "05061001")
] + [
    (di, Edition.E1997)
    for di in ("901F", "911F", "955F", "A01F", "B01F", "B61F", "B63F", "B31F", "B33F", "C32F", "C33F", "C3AF", "C41F")
]  # fmt: skip

ISO_FORMS = {
    "YYMMDD": "%Y-%m-%d", "hhmmss": "%H:%M:%S", "YYMMDDhhmmss": "%Y-%m-%dT%H:%M:%S", "YYMMDDhhmm": "%Y-%m-%dT%H:%M",
    "MMDDhhmm": "--%m-%dT%H:%M",
}  # fmt: skip


@pytest.mark.parametrize(
    ("di", "wire", "expected"),
    [
        ("00000000", "00000080", ["0.00"]),
        ("00000000", "56341292", ["-121234.56"]),
        ("00010000", "56341292", ["921234.56"]),
        ("00010000", "FFFFFFFF", ["unavailable"]),
        ("00010000", "FFFFFF12", ["invalid"]),
        ("00010000", "000000", ["invalid"]),
        ("00010000", "", ["unavailable"]),
        ("00010000", "7856341290", ["901234.5678"]),
        ("00000003", "0000000003", ["30000.0000"]),
        ("0003FF00", "0100000002000080FFFFFFFF", ["0.01", "-0.02", "unavailable"]),
        ("0001FF00", "01000000020000", ["invalid", "invalid"]),
        ("000100FF", "0100000002000000", ["0.01", "0.02"]),
        ("01010000", "000078001201 0123".replace(" ", ""), ["78.0000", "2023-01-01T12:00"]),
        ("01010000", "FFFFFFFFFFFFFFFF", ["unavailable", "unavailable"]),
        ("01010000", "0000000000000000", ["0.0000", "unavailable"]),
        ("01010000", "0000780012320123", ["78.0000", "invalid"]),
        ("01010000", "00007800123002 23".replace(" ", ""), ["78.0000", "invalid"]),
        ("01010000", "000078FF12010123", ["78.0000", "2023-01-01T12"]),
        ("01010000", "000078FFFF010123", ["78.0000", "2023-01-01"]),
        ("01010000", "0000780012FF0123", ["78.0000", "invalid"]),
        ("01010000", "00007800120101FF", ["78.0000", "--01-01T12:00"]),
        ("01030000", "0100800012010123", ["-0.0001", "2023-01-01T12:00"]),
        ("0201FF00", "9722FFFFFFFF", ["229.7", "unavailable", "unavailable"]),
        ("0201FF00", "9722", ["229.7"]),
        ("0201FF00", "97229722972200", ["invalid", "invalid", "invalid"]),
        ("0201FF00", "97229722", ["invalid"] * 3),
        ("02010400", "9722", []),
        ("02010001", "9722", []),
        ("0201FF00", "9722972297229722", ["229.7"] * 3),
        ("0203FF00", "010000", ["0.0001"]),
        ("0203FF00", "010000" * 3, ["invalid"] * 4),
        ("0203FF00", "010000" * 4, ["0.0001"] * 4),
        ("020A01FF", "0001" * 4, ["1.00"] * 4),
        ("02060300", "0590", ["-1.005"]),
        ("02070100", "0036", ["360.0"]),
        ("00860000", "56341200", ["1234.56"]),
        ("00C20000", "56341200", ["1234.56"]),
        ("020A0315", "2503", ["3.25"]),
        ("020B01FF", "00012503", ["1.00", "3.25"]),
        ("020BFF03", "000125039901", ["1.00", "3.25", "1.99"]),
        ("02800002", "0350", ["50.03"]),
        ("0280000A", "78563412", ["12345678"]),
        ("02800020", "00500000", ["0.5000"]),
        ("04000101", "00011223", ["2023-12-01", "0"]),
        ("04000101", "FF011223", ["2023-12-01", "unavailable"]),
        ("04000101", "08011223", ["invalid", "invalid"]),
        ("04000102", "FFFF18", ["18"]),
        ("04000102", "FF53FF", ["invalid"]),
        ("04000102", "000000", ["00:00:00"]),
        ("04000102", "000024", ["invalid"]),
        ("0400010C", "59592306311299", ["2099-12-31T23:59:59", "6"]),
        ("04000401", "123456789012", ["129078563412"]),
        ("04000401", "1234567890AB", ["invalid"]),
        ("04000403", "00000041", ["A"]),
        ("04000403", "00" * 32, ["unavailable"]),
        ("04000403", "07" * 32, ["invalid"]),
        ("04000501", "0A00", ["000A"]),
        ("000B0001", "56341200", ["1234.56"]),
        ("000C0000", "56341280", ["801234.56"]),
        ("0280000E", "340580", ["-0.534"]),
        ("02800022", "0500", ["5"]),
        ("04000105", "8000", ["80"]),
        ("04000107", "0000010126", ["2026-01-01T00:00"]),
        ("04000205", "5402", ["254"]),
        ("04000508", "0100FFFF", ["FFFF0001"]),
        ("04000801", "05", ["05"]),
        ("04000A01", "00000101", ["--01-01T00:00"]),
        ("04000A02", "1500", ["15"]),
        ("04000B01", "0001", ["0100"]),
        ("04000B02", "9999", ["unavailable"]),
        ("04000C05", "56341202", ["unavailable"]),
        ("04000D12", "3412", []),
        ("04000D0C", "3412", ["1.234"]),
        ("04000E01", "563412", ["12.3456"]),
        ("04000E03", "4026", ["264.0"]),
        ("04001001", "00200000", ["20.00"]),
        ("04001501", "FF" * 12, ["unavailable"]),
        ("04010000", "010101020701FFFFFF", ["010101 010702"]),
        ("04020003", "0100000208AA", ["invalid"]),
        ("04020003", "01000002", ["invalid"]),
        ("040300FE", "01011026", ["26100101"]),
        ("04040102", "0000010001", ["0100010000"]),
        ("04800001", "00003130", ["01"]),
        ("05060001", "0000211126", ["2026-11-21T00:00"]),
        ("05060001", "FFFFFFFFFF", ["unavailable"]),
        ("05060001", "FFFFFFFF26", ["2026"]),
        ("05060001", "FFFFFF1126", ["2026-11"]),
        ("05060001", "FFFF21FF26", ["invalid"]),
        ("05060001", "FFFFFF11FF", ["invalid"]),
        ("050600FE", "0000211126", ["2026-11-21T00:00"]),
        ("050600FF", "0000211126", []),
        ("050B0001", "0000211126", []),
        ("05060101", "56341200780000000000", ["invalid"] * 3),
        ("05060101", "5634120078000000", ["1234.56", "0.78"]),
        ("0500033C", "56341280", ["-1234.56"]),
        ("05060901", "0100000000211126", ["0.0001", "2026-11-21T00:00"]),
        ("05041003", "000180" * 8, ["-0.0100"] * 8),
        ("05041003", "000180" * 2, ["invalid"] * 3),
        ("0506FF01", "00", []),
        ("05080101", "00", []),
        ("05060100", "00", []),
        ("06100101", "0013250822 3022".replace(" ", ""), ["223.0", "2022-08-25T13:00"]),
        ("061002FF", "0013250822340580340500FFFFFF", ["-0.534", "0.534", "unavailable", "2022-08-25T13:00"]),
        ("06100100", "00132508223022", []),
        ("06100104", "00132508223022", []),
        ("06100304", "001325082200000080", []),
        ("06100601", "001325082278563412", ["123456.78", "2022-08-25T13:00"]),
        ("06100603", "001325082278563492", ["-123456.78", "2022-08-25T13:00"]),
        ("06100601", "001325082278563492", ["923456.78", "2022-08-25T13:00"]),
        ("06100605", "001325082278563412", []),
        ("06100600", "001325082278563412", []),
        ("061007FF", "0013250822" + "78563412" * 4, ["123456.78"] * 4 + ["2022-08-25T13:00"]),
        ("06100802", "0013250822563482", ["-2.3456", "2022-08-25T13:00"]),
        ("06100803", "0013250822563482", []),
        ("06100901", "001325082278563412", []),
        (
            "06100101",
            "0013250822" + "3022" + "FFFF" + "3122",
            ["223.0", "2022-08-25T13:00", "unavailable", "unavailable", "223.1", "unavailable"],
        ),
        ("06100101", "0013250822" + "3022" + "30", ["invalid"] * 2),
        ("06100101", "FFFFFFFFFF" + "3022", ["unavailable"] * 2),
        ("061002FF", "0000000000" + "000000" * 3, ["unavailable"] * 4),
        ("06100101", "0024250822" + "3022", ["invalid"] * 2),
        ("0504FF01", "0013250822" + "56341200" + "78000000", ["1234.56", "0.78", "2022-08-25T13:00"]),
        ("0504FF01", "0013250822" + "56341200", ["invalid"] * 3),
        ("0504FF01", "0013250822" + "56341200" * 3, ["invalid"] * 3),
        ("0504FF01", "00" * 13, ["unavailable"] * 3),
        ("0504FF00", "00" * 13, []),
        ("06070001", "00", []),
        ("0400010F", "00", []),
        ("00FF0000", "00000000", []),
        ("0001FFFF", "00000000", []),
    ],
)
def test_an_item_becomes_these_values_2007(di: str, wire: str, expected: list[str]) -> None:
    values = decode_item(di, bytes.fromhex(wire))
    assert [value.plain or value.quality.value for value in values] == expected
    assert [value.quantity for value in values] == (list(quantities(di)) * 3)[: len(values)], "of each point"


@pytest.mark.parametrize(
    ("di", "wire", "expected"),
    [
        ("9010", "56341200", {"energy.active.import.total": "1234.56"}),
        ("9023", "56341200", {"energy.active.export.t3": "1234.56"}),
        ("9410", "56341200", {"energy.active.import.total.last_1": "1234.56"}),
        ("9952", "56341200", {"energy.reactive.q2.t2.last_2": "1234.56"}),
        ("9140", "56341200", {"energy.reactive.q4.total": "1234.56"}),
        ("911F", "0100000002000000", {"energy.reactive.import.total": "0.01", "energy.reactive.import.t1": "0.02"}),
        ("A010", "563412", {"demand.active.import.total": "12.3456"}),
        ("B010", "30120107", {"demand.active.import.total.time": "--07-01T12:30"}),
        ("B010", "30122902", {"demand.active.import.total.time": "--02-29T12:30"}),
        ("B010", "30123002", {"demand.active.import.total.time": None}),
        ("B612", "3102", {"voltage.b": "231"}),
        ("B61F", "310232023302", {"voltage.a": "231", "voltage.b": "232", "voltage.c": "233"}),
        ("B621", "0512", {"current.a": "12.05"}),
        ("B630", "563412", {"power.active.total": "12.3456"}),
        ("B650", "9909", {"power_factor.total": "0.999"}),
        ("C011", "325318", {"clock.time": "18:53:32"}),
        ("C032", "123456789012", {"meter.number": "129078563412"}),
        ("B660", "0350", {}),
        ("B210", "30120107", {"event.programming.start": "--07-01T12:30"}),
        ("B213", "0300", {"event.demand_clear.count": "3"}),
        ("B214", "563412", {"battery.run_time": "123456"}),
        (
            "B31F",
            "0300020001000000",
            {
                "event.phase_loss.count": "3",
                "event.phase_loss.a.count": "2",
                "event.phase_loss.b.count": "1",
                "event.phase_loss.c.count": "0",
            },
        ),
        ("B342", "30120107", {"event.phase_loss.b.end": "--07-01T12:30"}),
        ("B635", "5012", {"limit.power.export": "12.50"}),
        ("C020", "05", {"status.meter": "05"}),
        ("C033", "123456789012", {"customer.number": "129078563412"}),
        ("C111", "15", {"demand.period": "15"}),
        ("C113", "06", {"display.cycle": "06"}),
        ("C114", "13", {"display.pause": "13"}),
        ("C115", "02", {"display.energy.decimals": "02"}),
        ("C116", "04", {"display.power.decimals": "04"}),
        ("C117", "0001", {"read.day": "0100"}),
        ("C118", "01", {"load.day": "01"}),
        ("C119", "78563412", {"start.active": "12345678"}),
        ("C11A", "78563412", {"start.reactive": "12345678"}),
        ("C212", "00000000", {"password.level_0": None}),
        ("C321", "010101", {"zones.first.entry_1": "010101"}),
        ("C3AE", "010008", {"slots.table_8.entry_14": "080001"}),
        ("C41E", "05", {"weekend.word": "05"}),
        ("C510", "00000101", {"load.start": "--01-01T00:00"}),
        ("C511", "6000", {"load.interval": "60"}),
        ("C3BE", "010008", {}),
        (
            "B21F",
            "30120107" + "00000000" + "0300" + "0400" + "563412",
            {
                "event.programming.start": "--07-01T12:30",
                "event.demand_clear.start": None,
                "event.programming.count": "3",
                "event.demand_clear.count": "4",
                "battery.run_time": "123456",
            },
        ),
        (
            "B21F",
            "30120107" + "00000000" + "0300" + "0400",
            {
                "event.programming.start": "--07-01T12:30",
                "event.demand_clear.start": None,
                "event.programming.count": "3",
                "event.demand_clear.count": "4",
            },
        ),
        ("C01F", "06211126" + "325318", {"clock.date": "2026-11-21", "clock.time": "18:53:32"}),
        ("C02F", "0500", {"status.meter": None, "status.grid": None, "status.c022": None}),
        ("C51F", "00000101" + "6000", {"load.start": "--01-01T00:00", "load.interval": "60"}),
        ("C33F", "010007" + "030012", {"slots.table_1.entry_1": "070001", "slots.table_1.entry_2": "120003"}),
        ("90FF", "00000000", {}),
        ("9210", "00000000", {}),
        ("9C10", "00000000", {}),
        ("A03F", "000000", {}),
    ],
)
def test_an_item_becomes_these_values_1997(di: str, wire: str, expected: dict[str, str | None]) -> None:
    values = decode_item(di, bytes.fromhex(wire), Edition.E1997)
    assert {value.quantity.name: value.plain for value in values} == expected


def test_a_combined_consumption_may_have_a_sign() -> None:
    (value,) = decode_item("000C0000", bytes.fromhex("56341280"))
    assert value.quality is Quality.DOUBTFUL


def test_a_password_that_a_meter_tells_is_not_shown() -> None:
    (value,) = decode_item("04000C05", bytes.fromhex("56341202"))
    assert (value.quality, value.detail) == (Quality.UNAVAILABLE, "4 bytes of a password, not shown")


@given(
    st.builds(
        lambda area, rest: (area + rest)[:8],
        st.sampled_from(
            ["", "00", "02", "0301", "0310", "0312", "0330", "0404", "0506", "060", "0610", "1D00", "B3", "C3"]
        ),
        st.text("0123456789ABCDEF", min_size=8, max_size=8),
    ),
    st.binary(max_size=60),
)
def test_any_identifier_has_a_form_or_none(di: str, payload: bytes) -> None:
    for edition, name in ((Edition.E2007, di), (Edition.E1997, di[:4])):
        values = decode_item(name, payload, edition)
        assert not payload or bool(values) == (layout(name, edition) is not None)


def test_what_may_be_a_sign_in_1997_is_doubtful() -> None:
    (value,) = decode_item("B630", bytes.fromhex("000580"), Edition.E1997)
    assert (value.quality, value.plain) == (Quality.DOUBTFUL, "80.0500")
    assert value.detail == "top bit set, a sign in some meters: 800500"


def test_every_identifier_of_the_catalogue_has_a_form() -> None:
    for di, edition in [*SINGLES, *BLOCKS]:
        found = layout(di, edition)
        assert found is not None, di
        filler = encode_item(di, [None] * len(quantities(di, edition)), edition)
        assert filler == b"\xff" * (found.width * len(found.items)), di
        assert {value.quality for value in found.decode(filler)} == {Quality.UNAVAILABLE}, di
        assert reply_max(di, edition) == 4 + 12 + edition.di_length + payload_max(di, edition) <= 216, di


def _plain_for(shape: Shape) -> list[st.SearchStrategy[Any]]:
    """Values that could stand in this form, one strategy for each."""
    match shape:
        case Demand(number=number, when=when):
            return [*_plain_for(number), *_plain_for(when)]
        case Number(length=length, decimals=decimals, sign=sign):
            top = 10 ** (2 * length) * (10 if sign is Sign.NONE else 8) // 10
            least = 1 - top if sign is Sign.TOP else 0
            return [st.integers(least, top - 1).map(lambda n: Decimal(n).scaleb(-decimals)) | st.none()]
        case When(parts=parts):
            form = ISO_FORMS[parts.replace("WW", "")]
            moments = st.datetimes(datetime(2000, 1, 1), datetime(2099, 12, 31))  # noqa: DTZ001
            iso: st.SearchStrategy[Any] = moments.map(lambda moment: moment.strftime(form))
            return [iso, st.integers(0, 6).map(Decimal)] if "WW" in parts else [iso]
        case Fields(parts=parts, tail=tail, total=total):
            left = (total or sum(part.length for part in parts)) - sum(part.length for part in parts[:-1])
            last: Shape = Opaque(length=left, fixed=total is not None) if tail else parts[-1]
            return [form for part in (*parts[:-1], last) for form in _plain_for(part)]
        case Either(forms=(form, *_)):
            return _plain_for(form)
        case Several(parts=parts):
            return [_plain_for(part)[0] for part in parts]
        case Record(whole=whole):
            return [*_plain_for(whole), st.none()]
        case Timed(when=moment, parts=parts):
            return [form for part in (*parts, moment) for form in _plain_for(part)]
        case Opaque(length=length, fixed=fixed):
            sizes = st.just(length) if fixed else st.integers(1, 40)
            text = sizes.flatmap(lambda size: st.binary(min_size=size, max_size=size))
            return [text.filter(lambda data: bool(data.strip(b"\xff"))).map(lambda data: data.hex().upper())]
        case Secret():
            return [st.none()]
        case Groups(size=size, most=most):
            entries = st.lists(st.integers(0, 10 ** (2 * size) - 1), min_size=1, max_size=min(most, 14))
            return [entries.map(lambda numbers: " ".join(f"{number:0{2 * size}d}" for number in numbers))]
        case Digits(length=length, unset="9999"):
            return [st.integers(0, 9998).map(lambda n: f"{n:04d}")]
        case Digits(length=length, every=True):
            return [st.integers(0, 10 ** (2 * length) - 1).map(lambda n: f"{n:0{2 * length}d}")]
        case Digits(length=length):
            return [st.integers(0, 10 ** (2 * length) - 1).map(lambda n: f"{n:0{2 * length}d}") | st.none()]
        case Ascii(length=length):
            return [st.text("0123456789.AV", min_size=1, max_size=length) | st.none()]
    raise AssertionError(shape)


@given(st.data())
def test_what_is_encoded_is_decoded_again(data: st.DataObject) -> None:
    di, edition = data.draw(st.sampled_from([*SINGLES, *BLOCKS]))
    found = layout(di, edition)
    assert found is not None
    some = st.sampled_from((1, len(found.items))) if found.by_phase else st.integers(1, len(found.items))
    items = data.draw(some) if found.block else 1
    plain = [data.draw(form) for item in found.items[:items] for form in _plain_for(item.shape)]
    payload = encode_item(di, plain, edition)
    values = decode_item(di, payload, edition)
    if isinstance(found.items[0].shape, Record):
        assert plain.pop() is None  # nothing is left of a record that has the standard's length
    assert [value.number if value.number is not None else value.plain for value in values] == plain


@given(st.sampled_from([*SINGLES, *BLOCKS]), st.binary(max_size=60))
def test_random_payloads_give_values_and_raise_nothing(item: tuple[str, Edition], payload: bytes) -> None:
    for value in decode_item(item[0], payload, item[1]):
        assert (value.plain is None) == (value.quality in (Quality.UNAVAILABLE, Quality.INVALID))
        assert value.fault is None


@given(st.sampled_from(SINGLES), st.binary(max_size=20))
def test_a_wrong_length_is_never_a_number(item: tuple[str, Edition], payload: bytes) -> None:
    found = layout(*item)
    assert found is not None
    if not found.items[0].shape.takes(len(payload)):
        assert all(value.number is None for value in found.decode(payload))


@pytest.mark.parametrize(
    ("di", "edition", "block"),
    [
        ("00010000", Edition.E2007, "0001FF00"),
        ("00010203", Edition.E2007, "0001FF03"),
        ("01010000", Edition.E2007, "0101FF00"),
        ("02010100", Edition.E2007, "0201FF00"),
        ("02030000", Edition.E2007, "0203FF00"),
        ("04000503", Edition.E2007, "040005FF"),
        ("00150000", Edition.E2007, None),
        ("02800002", Edition.E2007, None),
        ("04000101", Edition.E2007, None),
        ("00900100", Edition.E2007, None),
        ("9012", Edition.E1997, "901F"),
        ("B621", Edition.E1997, "B62F"),
        ("C010", Edition.E1997, None),
    ],
)
def test_a_single_identifier_knows_its_block(di: str, edition: Edition, block: str | None) -> None:
    assert block_of(di, edition) == block
    if block is not None:
        assert di in members(block, edition)


def test_settlement_days_have_a_block_of_thirteen() -> None:
    assert days_block_of("00010100") == "000101FF"
    assert len(members("000101FF")) == 13
    assert [q.name for q in quantities("000100FF")][:2] == [
        "energy.active.import.total",
        "energy.active.import.total.last_1",
    ]
    assert days_block_of("02010100") is None


@pytest.mark.parametrize(
    ("di", "plain"),
    [
        ("02010100", [Decimal("229.75")]),
        ("02010100", [Decimal(-1)]),
        ("02010100", [Decimal(1000)]),
        ("02030000", [Decimal("80.0001")]),
        ("02010100", [Decimal(1), Decimal(2)]),
        ("01010000", [Decimal(1)]),
        ("04000401", ["123"]),
        ("04000404", ["1234567"]),
        ("04000101", ["2023-13-01", None]),
        ("04000102", ["nonsense"]),
        ("0400010F", [None]),
    ],
    ids=str,
)
def test_what_does_not_fit_its_form_is_not_encoded(di: str, plain: list[Any]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        encode_item(di, plain)
