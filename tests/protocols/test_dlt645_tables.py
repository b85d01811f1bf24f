"""The tables of DL/T 645 are as long as the standard has them, item by item."""

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
    "04000901": 1, "04000902": 1, "04000A01": 4, **{f"04000A0{n}": 2 for n in range(2, 8)},
    **{f"04000B0{n}": 2 for n in range(1, 4)}, **{f"04000C{n:02X}": 4 for n in range(1, 11)},
    **{f"04000D{n:02X}": 2 for n in range(1, 13)}, "04000E01": 3, "04000E02": 3, "04000E03": 2, "04000E04": 2,
    **{f"0400100{n}": 4 for n in range(1, 6)}, "04001101": 1, "04001104": 8, **{f"0400120{n}": 5 for n in range(1, 5)},
    "04001401": 2, "04001501": 12, "04800001": 32, "04800002": 32, "04800003": 32, "04800004": 8,
}  # fmt: skip
"""DL/T 645-2007 table A.5 with the grid's extensions: bytes of each setting."""


def test_every_setting_has_the_length_of_the_standard_and_there_is_no_other() -> None:
    found = {di: layout(di) for di in (f"04{n:06X}" for n in [*range(0x2000), *range(0x80_0000, 0x80_0010)])}
    assert {di: item.width for di, item in found.items() if item and not item.block} == SETTINGS
    assert [di for di, item in found.items() if item and item.block] == ["040005FF"]


def test_a_block_over_tariffs_has_all_that_the_edition_allows() -> None:
    assert [len(members(di)) for di in ("0001FF00", "0101FF0C", "05060101", "05060901")] == [64] * 4
    assert [len(members(di, Edition.E1997)) for di in ("901F", "A51F", "B01F")] == [15] * 3


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
