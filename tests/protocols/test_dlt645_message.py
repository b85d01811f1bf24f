"""What a frame says on its own: only what stands whole in it."""

import pytest

from protocols.bcd import low_first
from protocols.dlt645.codes import Edition, identifier_of
from protocols.dlt645.frame import Frame
from protocols.dlt645.message import explain, find

METER = "202411110001"


@pytest.mark.parametrize(
    ("control", "di", "payload", "expected"),
    [
        (0x91, "00010000", "56341200", ["1234.56"]),
        (0xB1, "00010000", "56341200", []),  # the rest of a cut item comes with the next frame
        (0xB1, "0001FF00", "5634120078000000", ["1234.56", "0.78"]),
        (0xB1, "0001FF00", "563412007800", ["1234.56"]),
        (0xB1, "0001FF00", "5634", []),
        (0x92, "0001FF00", "5634120001", []),
        (0x11, "00010000", "56341200", []),
        (0xD1, "00010000", "56341200", []),
        (0x91, "0F0F0F0F", "56341200", []),
    ],
)
def test_of_a_cut_reply_the_whole_items_have_values(
    control: int, di: str, payload: str, expected: list[str]
) -> None:  # fmt: skip
    frame = Frame(address=METER, control=control, data=low_first(di) + bytes.fromhex(payload))
    assert [value.plain for value in explain(frame).values] == expected


@pytest.mark.parametrize(
    ("control", "data", "expected"),
    [
        (0x93, "010011112420", [("address", "202411110001")]),
        (0x93, "0100111124", []),
        (0x13, "010011112420", []),
        (0x08, "300815211126", [("clock", "2026-11-21T15:08:30")]),
        (0x88, "300815211126", []),
        (0x08, "3008152111", []),
    ],
)
def test_an_address_and_a_time_are_those_of_who_may_tell_them(
    control: int, data: str, expected: list[tuple[str, str]]
) -> None:
    frame = Frame(address=METER, control=control, data=bytes.fromhex(data))
    assert [(value.quantity.name, value.plain) for value in explain(frame).values] == expected


def test_of_broken_frames_the_likeliest_is_told_with_what_stands_around_it() -> None:
    whole = Frame(address=METER, control=0x91, data=low_first("02010100") + b"\x17\x23").encode(0)
    broken = whole[:-2] + bytes([whole[-2] ^ 1]) + whole[-1:]
    found = find(b"\x68\x01" + broken + b"\x00")
    assert (found.before, found.raw, found.after) == (b"\x68\x01", broken, b"\x00")
    assert found.frame is not None
    assert found.frame.data[4:] == b"\x17\x23"
    assert "checksum" in str(found.error)
    assert find(b"\x68\x01" + broken + whole).raw == whole


def test_identifiers_are_written_high_byte_first() -> None:
    frame = Frame(address="1" * 12, control=0x11, data=low_first("00010203"))
    assert identifier_of(frame, Edition.E2007) == "00010203"
    assert identifier_of(Frame(address="1" * 12, control=0x11, data=b"\1\2"), Edition.E2007) is None
