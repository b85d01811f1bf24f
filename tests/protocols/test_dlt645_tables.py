"""The tables of DL/T 645 are as long as the standard has them, item by item."""

from decimal import Decimal

import pytest

from protocols.dlt645.codes import Edition
from protocols.dlt645.items import decode_item, encode_item, layout, members, payload_max

SETTINGS = {
    "04000101": 4, "04000102": 3, "04000103": 1, "04000104": 1, "04000105": 2,
    **{f"040001{n:02X}": 5 for n in range(6, 12)}, "0400010C": 7,
    **{f"0400020{n}": 2 if n == 5 else 1 for n in range(1, 7)}, **{f"0400030{n}": 1 for n in range(1, 6)},
    "04000306": 3, "04000307": 3, "04000401": 6, "04000402": 6, "04000403": 32, "04000404": 6, "04000405": 6,
    "04000406": 6, "04000407": 4, "04000408": 4, "04000409": 3, "0400040A": 3, "0400040B": 10, "0400040C": 10,
    "0400040D": 16, "0400040E": 6, "0400040F": 11, **{f"0400050{n}": 2 for n in range(1, 8)}, "04000508": 4,
    **{f"0400060{n}": 1 for n in range(1, 4)}, **{f"0400070{n}": 1 for n in range(1, 6)}, "04000801": 1, "04000802": 1,
    **{f"0400090{n}": 1 for n in range(1, 7)}, "04000308": 1, "04000A01": 4, **{f"04000A0{n}": 2 for n in range(2, 8)},
    **{f"04000B0{n}": 2 for n in range(1, 4)}, **{f"04000C{n:02X}": 4 for n in range(1, 11)},
    **{f"04000D{n:02X}": 2 for n in range(1, 13)}, "04000E01": 3, "04000E02": 3, "04000E03": 2, "04000E04": 2,
    **{f"0400100{n}": 4 for n in range(1, 6)}, "04001101": 1, "04001104": 8, "04001201": 5, "04001202": 1,
    "04001203": 2, "04001204": 4, "04001401": 2, "04001501": 12, **{f"0480000{n}": 32 for n in range(1, 4)},
    "04800004": 8,
}  # fmt: skip
"""DL/T 645-2007 table A.5 with the grid's extensions: bytes of each setting."""

SINGLES_1997 = {
    "B210": (4, "MMDDhhmm"), "B211": (4, "MMDDhhmm"), "B212": (2, "0"), "B213": (2, "0"), "B214": (3, "0"),
    **{f"B31{n}": (2, "0") for n in range(4)}, **{f"B32{n}": (3, "0") for n in range(4)},
    **{f"B3{e}{n}": (4, "MMDDhhmm") for e in (3, 4) for n in range(4)},
    **{f"B61{n}": (2, "0") for n in (1, 2, 3)}, **{f"B62{n}": (2, "0.00") for n in (1, 2, 3)},
    **{f"B63{n}": (3, "0.0000") for n in range(4)}, "B634": (2, "0.00"), "B635": (2, "0.00"),
    **{f"B64{n}": (2, "0.00") for n in range(4)}, **{f"B65{n}": (2, "0.000") for n in range(4)},
    "C010": (4, "YYMMDDWW"), "C011": (3, "hhmmss"), "C020": (1, ""), "C021": (1, ""), "C022": (1, ""),
    "C030": (3, "0"), "C031": (3, "0"), "C032": (6, ""), "C033": (6, ""), "C034": (6, ""),
    "C111": (1, "0"), "C112": (1, "0"), **{f"C11{n}": (1, "") for n in (3, 4, 5, 6, 8)}, "C117": (2, ""),
    "C119": (4, ""), "C11A": (4, ""), "C211": (2, "0"), "C212": (4, None),
    **{f"C31{n}": (1, "0") for n in range(5)}, **{f"C32{n:X}": (3, "") for n in range(1, 15)},
    **{f"C3{table:X}{n:X}": (3, "") for table in range(3, 11) for n in range(1, 15)},
    **{f"C41{n:X}": (3, "") for n in range(1, 14)}, "C41E": (1, ""), "C510": (4, "MMDDhhmm"), "C511": (2, "0"),
}  # fmt: skip
"""Bytes, and how they are read: a number with its decimals, a moment by its parts, digits as they are (empty), not at
all (None). From the tables of a meter tester and of a concentrator (public files of unknown repositories); 9, A and B
registers are held in test_dlt645_items."""


def test_every_item_of_1997_has_the_length_and_the_form_of_its_tables() -> None:
    found = {
        di: layout(di, Edition.E1997)
        for di in (f"{n:04X}" for n in [*range(0xB200, 0xB400), *range(0xB600, 0xB700), *range(0xC000, 0xC600)])
    }
    singles = {di: item for di, item in found.items() if item and not item.block and di[3] != "F"}
    assert {di: item.width for di, item in singles.items()} == {di: size for di, (size, _) in SINGLES_1997.items()}
    sent = {"MMDDhhmm": "11211508", "YYMMDDWW": "26112106", "hhmmss": "150830"}
    read = {"MMDDhhmm": "--11-21T15:08", "YYMMDDWW": "2026-11-21", "hhmmss": "15:08:30"}
    for di, (size, form) in SINGLES_1997.items():
        digits = sent.get(form or "", "123456123456"[: 2 * size])
        value = decode_item(di, bytes.fromhex(digits)[::-1], Edition.E1997)[0]
        if form is None:
            assert value.plain is None
        elif form in read or not form:
            assert value.plain == read.get(form, digits), di
        else:
            assert value.number == Decimal(digits).scaleb(-len(form.partition(".")[2])), di


def test_the_blocks_of_1997_are_these() -> None:
    found = (f"{n:04X}" for n in range(0x9000, 0xC600) if n & 0xF == 0xF)
    blocks = {di for di in found if layout(di, Edition.E1997)}
    assert {di for di in blocks if di[0] in "9AB" and di[1] in "014589"} == {
        f"{area}{month}{row}F" for area in "9AB"
        for month, rows in (*((m, "12") for m in "048"), *((m, "123456") for m in "159")) for row in rows
    }  # fmt: skip
    assert blocks - {di for di in blocks if di[1] in "014589" and di[0] != "C"} == {
        "B21F", *(f"B3{n}F" for n in (1, 2, 3, 4)), *(f"B6{n}F" for n in range(1, 6)), "C01F", "C02F", "C03F", "C11F",
        *(f"C3{n:X}F" for n in range(1, 11)), "C41F", "C51F",
    }  # fmt: skip


def test_a_day_is_written_with_its_weekday() -> None:
    assert encode_item("04000101", ["2026-11-21", Decimal(6)]).hex() == "06211126"
    assert encode_item("04000101", ["2026-11-21", None]).hex() == "ff211126"


def test_every_setting_has_the_length_of_the_standard_and_there_is_no_other() -> None:
    found = {di: layout(di) for di in (f"04{n:06X}" for n in [*range(0x2000), *range(0x80_0000, 0x80_0010)])}
    assert {di: item.width for di, item in found.items() if item and not item.block} == SETTINGS
    assert [di for di, item in found.items() if item and item.block] == ["040005FF"]


def test_a_block_over_tariffs_has_all_that_the_edition_allows() -> None:
    assert [len(members(di)) for di in ("0001FF00", "0101FF0C", "05060101", "05060901")] == [64] * 4
    assert [len(members(di, Edition.E1997)) for di in ("901F", "A51F", "B01F")] == [15] * 3
    assert [len(members(di)) for di in ("020A01FF", "020B03FF", "020BFF15", "000100FF")] == [21, 21, 3, 13]


def test_a_block_over_tariffs_is_waited_for_as_far_as_the_meter_has_them() -> None:
    assert [payload_max(di, tariffs=4) for di in ("0001FF00", "05060101", "0101FF00", "05060901")] == [20, 20, 40, 40]
    assert [payload_max(di, tariffs=4) for di in ("0203FF00", "05061001", "000100FF")] == [12, 24, 52]


def test_a_ratio_is_a_whole_number() -> None:
    for di in ("04000306", "04000307"):
        assert [value.plain for value in decode_item(di, bytes.fromhex("000100"))] == ["100"]


def test_a_table_without_an_entry_is_not_written() -> None:
    for text in ("", "0101"):
        with pytest.raises(ValueError, match="entries"):
            encode_item("04010000", [text])


@pytest.mark.parametrize(
    ("di", "expected"),
    [
        ("04050101", {"price.tariff.first.entry_1": "0.5230"}),
        ("0405023F", {"price.tariff.second.entry_63": "0.5230"}),
        ("04050240", {}),
        ("04060001", {"step.first.entry_1": "52.30"}),
        ("040603FE", {"price.step.second.entry_254": "0.5230"}),
        ("04060400", {}),
    ],
)
def test_prices_and_steps_are_those_of_two_sets(di: str, expected: dict[str, str]) -> None:
    values = decode_item(di, bytes.fromhex("30520000"))
    assert {value.quantity.name: value.plain for value in values} == expected
