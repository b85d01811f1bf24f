"""Events (03 and the grid's classes): counters, and records whose fields nobody but their length tells."""

import pytest

from protocols.bcd import low_first
from protocols.capture import Fault
from protocols.dlt645 import v1997, v2007
from protocols.dlt645.codes import Edition
from protocols.dlt645.compound import Record, widths
from protocols.dlt645.frame import Frame
from protocols.dlt645.items import decode_item, layout, payload_max, quantities
from protocols.dlt645.reading import ReadItem
from protocols.quantity import by_name
from tests.dlt645 import converse
from tests.protocols.test_dlt645_items import EVENTS

METER = "202411110002"


def answer(control: int, data: bytes) -> bytes:
    return Frame(address=METER, control=control, data=data).encode()


@pytest.mark.parametrize(
    ("di", "wire", "expected"),
    [
        ("03010000", "010000300000020000FFFFFF000000000000", ["1", "30", "2", "unavailable", "0", "0"]),
        ("03010000", "010000300000", ["invalid"] * 6),
        (
            "03010101",
            "300815211126300915211126" + "01" * 119,
            [
                "2026-11-21T15:08:30",
                "2026-11-21T15:09:30",
                *["10101.01"] * 8,
                *["10.1", "10.101", "1.0101", "1.0101", "0.101", *["10101.01"] * 4] * 2,
                "10.1",
                "10.101",
                "1.0101",
                "1.0101",
                "0.101",
                *["10101.01"] * 4,
            ],
        ),
        (
            "03010101",
            "300815211126300915211126" + "01" * 118,
            ["2026-11-21T15:08:30", "2026-11-21T15:09:30", "01" * 118],
        ),
        ("03010101", "00" * 131, ["unavailable"] * 37),
        ("03010101", "00" * 50, ["unavailable"] * 2),
        ("03010101", "", ["unavailable"] * 2),
        ("03010101", "300815211126300915211126", ["invalid"] * 38),
        ("030B0302", "3008152111263009152111260102", ["2026-11-21T15:08:30", "2026-11-21T15:09:30", "0201"]),
        ("0305000A", "30081521112601", ["2026-11-21T15:08:30", "01"]),
        (
            "03050001",
            "300815211126" + "340500" + "300915211126",
            ["2026-11-21T15:08:30", "0.534", "2026-11-21T15:09:30"],
        ),
        ("03060001", "300815211126" + "00" * 6, ["2026-11-21T15:08:30", "unavailable"]),
        (
            "03090001",
            "300815211126300915211126" + "5030" + "01000000010000000100008002000080" + "00" * 48,
            ["2026-11-21T15:08:30", "2026-11-21T15:09:30", "30.50", "0.01", "0.01", "-0.01", "-0.02", *["0.00"] * 12],
        ),
        (
            "1600FF01",
            "300815211126" + "01000000" * 16 + "503000" + "00" * 6 + "00" * 64,
            ["2026-11-21T15:08:30", *["0.01"] * 16, "30.50", *["unavailable"] * 17],
        ),
        (
            "1600FF01",
            "300815211126" + "01000000" * 16 + "5030" + "300915211126" + "02000000" * 16,
            ["2026-11-21T15:08:30", *["0.01"] * 16, "30.50", "2026-11-21T15:09:30", *["0.02"] * 16],
        ),
        ("1D00FF01", "30081521112678563412" + "56341200" * 6, ["2026-11-21T15:08:30", "12345678", *["1234.56"] * 6]),
        ("03350000", "020000", ["2"]),
        (
            "03350001",
            "300815211126300915211126" + "01000000" * 2 + "02000000" * 2,
            ["2026-11-21T15:08:30", "2026-11-21T15:09:30", "0.01", "0.01", "0.02", "0.02"],
        ),
        (
            "03360002",
            "300815211126" + "00" * 6 + "01" + "01000000" * 2 + "00" * 8,
            ["2026-11-21T15:08:30", "unavailable", "01", "0.01", "0.01", "unavailable", "unavailable"],
        ),
        (
            "0337000A",
            "300815211126300915211126" + "01000000" * 2,
            ["2026-11-21T15:08:30", "2026-11-21T15:09:30", "0.01", "0.01"],
        ),
        ("03370100", "020000", []),
        ("0337000B", "020000", []),
        ("1D00FF0B", "00", []),
        ("1D000101", "300815211126", ["2026-11-21T15:08:30"]),
        ("1D00080A", "56341200", ["1234.56"]),
        ("1D000901", "00", []),
        ("10020A01", "3022", ["223.0"]),
        ("10022501", "300815211126", ["2026-11-21T15:08:30"]),
        ("10023501", "56341280", ["-1234.56"]),
        ("10003501", "00", []),
        ("21000101", "00", []),
        ("1F00FF01", "300815211126" + "01000080" * 2, ["2026-11-21T15:08:30", "8000000180000001"]),
        ("10000002", "300000", ["30"]),
        ("10030001", "030000", ["3"]),
        ("10040001", "030000", []),
        ("1000FF01", "030000", []),
        ("14010001", "030000", []),
        ("1D000002", "030000", []),
        ("03080000", "010000300000", ["1", "30"]),
        (
            "03100000",
            "004000309900500000100000200000602301182111501801182111",
            ["4000", "99.30", "0.50", "10", "20", "236.0", "--11-21T18:01", "185.0", "--11-21T18:01"],
        ),
        ("03110000", "030000", ["3"]),
        ("03110001", "300815211126000000000000", ["2026-11-21T15:08:30", "unavailable"]),
        ("03120000", "010000" * 6, ["1"] * 6),
        ("03120601", "00", ["invalid"] * 5),
        (
            "03120301",
            "300815211126300915211126" + "341200" + "0915211126",
            ["2026-11-21T15:08:30", "2026-11-21T15:09:30", "0.1234", "2026-11-21T15:09"],
        ),
        (
            "03100102",
            "00400099305000100000200000602301182111501801182111",
            ["4000", "30.99", "0.50", "10", "20", "236.0", "--11-21T18:01", "185.0", "--11-21T18:01"],
        ),
        ("03120701", "00", []),
        ("03120001", "00", []),
        ("0312010B", "00", []),
        ("03300601", "3008152111267856", ["invalid"] * 5),
        (
            "03300001",
            "30081521112678563412" + "01010004" + "0C010004" + "FF" * 32,
            ["2026-11-21T15:08:30", "12345678", "04000101 0400010C"],
        ),
        ("03300301", "30081521112678563412" + "FF" * 4, ["2026-11-21T15:08:30", "12345678", "FFFFFFFF"]),
        ("03300301", "FF" * 14, ["unavailable"] * 3),
        (
            "03300C01",
            "30081521112678563412" + "000199999999",
            ["2026-11-21T15:08:30", "12345678", "0100", *["unavailable"] * 2],
        ),
        ("03300401", "78563412" + "300815211126", ["invalid"] * 3),
        ("03300000", "030000", ["3"]),
        (
            "03300401",
            "78563412" + "300815211126" + "050915211126",
            ["12345678", "2026-11-21T15:08:30", "2026-11-21T15:09:05"],
        ),
        ("03300601", "30081521112678563412" + "00" * 12, ["2026-11-21T15:08:30", "12345678", "00" * 12]),
        ("03300001", "30081521112678563412" + "00" * 12, ["2026-11-21T15:08:30", "12345678", "00" * 12]),
        (
            "03300D01",
            "300815211126" + "00" * 6 + "56341200" * 6 + "00" * 24,
            ["2026-11-21T15:08:30", "unavailable", *["1234.56"] * 6, *["unavailable"] * 6],
        ),
        ("1D000001", "000000", ["0"]),
        ("1D010001", "000000", []),
    ],
)
def test_an_event_becomes_these_values(di: str, wire: str, expected: list[str]) -> None:
    values = decode_item(di, bytes.fromhex(wire))
    assert [value.plain or value.quality.value for value in values] == expected
    names = [quantity.name for quantity in quantities(di)]
    if values and values[-1].quantity.name == names[-1]:  # of a record of another length, its rest
        names[len(values) - 1 :] = names[-1:]
    assert [value.quantity.name for value in values] == names[: len(values)]


def test_a_record_is_asked_for_by_its_fields_and_a_short_one_says_which_it_lacks() -> None:
    wants = tuple(
        by_name(f"event.overvoltage.b.{field}.record_2") for field in ("charge.total", "start", "detail", "voltage.c")
    )
    item = ReadItem(di="03030202", wants=wants)
    span = bytes.fromhex("300815211126300915211126")
    whole = low_first("03030202") + span + bytes([1] * 119)
    values, _ = converse(v2007.read_items(METER, [item]), lambda _: answer(0x91, whole))
    assert [(value.plain, value.fault) for value in values] == [
        ("10101.01", None), ("2026-11-21T15:08:30", None), (None, Fault.ABSENT), ("10.1", None),
    ]  # fmt: skip
    values, _ = converse(v2007.read_items(METER, [item]), lambda _: answer(0x91, whole[:33]))
    assert [(value.plain, value.fault) for value in values] == [
        (None, Fault.ABSENT), ("2026-11-21T15:08:30", None), ("01" * 17, None), (None, Fault.ABSENT),
    ]  # fmt: skip


def test_a_record_that_no_frame_can_hold_comes_in_two() -> None:
    payload = bytes.fromhex("30081521112678563412") + (bytes.fromhex("341200") + bytes.fromhex("0915211126")) * 24
    di = low_first("03300201")
    replies = iter([answer(0xB1, di + payload[:196]), answer(0x92, di + payload[196:] + b"\x01")])
    values, asks = converse(v2007.read(METER, ["03300201"]), lambda _: next(replies))
    assert [value.plain for value in values[2:]] == ["0.1234", "2026-11-21T15:09"] * 24
    assert values[-1].quantity.name == "event.demand_clear.before.demand.reactive.q4.c.moment.record_1"
    assert len(asks) == 2


def test_an_event_record_of_unknown_length_is_one_value_while_the_meter_is_silent() -> None:
    values, _ = converse(v2007.read(METER, ["1001FF01"]), lambda _: b"")
    assert [(value.quantity.name, value.fault) for value in values] == [
        ("event.voltage_loss.a.start.record_1", Fault.SILENT)
    ]
    assert payload_max("1001FF01") == 196


@pytest.mark.parametrize("least", [0, 17])
def test_the_fields_of_a_record_are_as_wide_as_it_together(least: int) -> None:
    for di in EVENTS:
        found = layout(di)
        assert found is not None
        shape = found.items[0].shape
        length = found.width + (least if isinstance(shape, Record) else 0)
        sizes = widths(shape, length)
        assert sum(sizes) == length, di
        assert len(sizes) == len(decode_item(di, b"\x01" * length)), di


def test_a_block_of_unlike_items_may_lack_its_last() -> None:
    found = layout("B21F", Edition.E1997)
    assert found is not None
    shape = found.items[0].shape
    assert [widths(shape, length) for length in (15, 12)] == [(4, 4, 2, 2, 3), (4, 4, 2, 2)]
    assert [shape.takes(length) for length in (15, 12, 10, 14)] == [True, True, False, False]


@pytest.mark.parametrize(("di", "count"), [("B21F", 1), ("C02F", 3)])
def test_a_block_of_unlike_items_is_silent_in_as_many_values_as_are_certain(di: str, count: int) -> None:
    values, _ = converse(v1997.read(METER, [di]), lambda _: b"")
    assert [value.fault for value in values] == [Fault.SILENT] * count


@pytest.mark.parametrize(
    "di", ["03010001", "030C0501", "03060101", "03080101", "03990001", "0301000B", "03100401", "0310010D"]
)
def test_a_phase_or_a_number_that_an_event_does_not_have_is_no_record(di: str) -> None:
    assert layout(di) is None


@pytest.mark.parametrize("di", ["03010101", "03050001", "03080001", "0301010A"])
def test_a_phase_that_an_event_has_is_a_record(di: str) -> None:
    assert ".start.record_" in quantities(di)[0].name
