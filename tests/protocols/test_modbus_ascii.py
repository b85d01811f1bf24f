"""Modbus in characters: frames are found whole whatever stands around them, and damage is never a reading."""

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from protocols.checksum import lrc8
from protocols.modbus.ascii import CHARACTERS_MAX, AsciiDeframer
from protocols.modbus.dialogue import Block, Item, read_blocks
from protocols.modbus.frame import Frame, read_request
from protocols.modbus.registers import Format, Type
from protocols.quantity import by_name
from tests.modbus import always, converse, cut, deframe, exception, reply

FRAMES = st.builds(
    lambda unit, function, data: Frame(unit=unit, function=function, data=data, ascii=True),
    st.integers(0, 247), st.integers(1, 255), st.binary(max_size=252),
)  # fmt: skip
CUTS = st.lists(st.integers(0, 3000), max_size=12)


def test_a_request_stands_as_the_specification_prints_it() -> None:
    # [APP] §6.3, read holding registers 108 to 110 of unit 17, in the framing of [SER] §2.5.2.
    assert read_request(0x11, 3, 0x6B, 3, as_ascii=True).encode() == b":1103006B00037E\r\n"
    assert lrc8(bytes.fromhex("1103006b0003")) == 0x7E


@given(st.binary(max_size=40), FRAMES, st.binary(max_size=40), CUTS)
@settings(max_examples=80)
def test_noise_on_both_sides_hides_no_frame(before: bytes, frame: Frame, after: bytes, cuts: list[int]) -> None:
    assume(not after.startswith(b":") or b"\r\n" not in after)
    deframer = AsciiDeframer()
    found = deframe(deframer, cut(before + frame.encode() + after, cuts))
    assert found == [frame]
    assert deframer.skipped == len(before) + len(after)


@given(st.binary(max_size=1500), CUTS)
@settings(max_examples=60)
def test_any_bytes_are_taken_in_bounded_memory(noise: bytes, cuts: list[int]) -> None:
    deframer = AsciiDeframer()
    for piece in cut(b":" + noise.hex().upper().encode() + noise, cuts):
        deframer.feed(piece)
        assert deframer.pending < CHARACTERS_MAX
    deframer.expire()
    assert deframer.pending == 0


GOOD = reply([2301, 2299], unit=7, as_ascii=True)
IN_FRONT = {
    "a colon": b":",
    "the same frame, cut short": GOOD.encode()[:-5],
    "the same frame without its end": GOOD.encode()[:-2],
    "our own question": read_request(7, 3, 0, 2, as_ascii=True).encode(),
    "another meter's answer": reply([1, 2, 3], unit=9, as_ascii=True).encode(),
    "an RTU frame": reply([1, 2], unit=7).encode(),
    "a frame with another LRC": GOOD.encode()[:-4] + b"00\r\n",
    "small letters": GOOD.encode().lower(),
    "digits without end": b":" + b"0" * 600,
}


@pytest.mark.parametrize("what", IN_FRONT)
def test_the_good_frame_behind_is_found(what: str) -> None:
    stream = IN_FRONT[what] + GOOD.encode()
    for pieces in ([stream], [bytes([byte]) for byte in stream]):
        found = deframe(AsciiDeframer(), pieces)
        assert found[-1] == GOOD
        assert [frame for frame in found if frame.unit == 7 and len(frame.data) == 5] == [GOOD]


def test_what_has_begun_and_stops_is_dropped_by_the_quiet_line() -> None:
    deframer = AsciiDeframer()
    assert deframer.feed(GOOD.encode()[:-1]) == [] and deframer.pending == len(GOOD.encode()) - 1
    assert deframer.expire() == [] and deframer.pending == 0
    assert deframer.feed(b"\n") == [] and deframer.feed(GOOD.encode()) == [GOOD]


@pytest.mark.parametrize("frame", [reply([2301, 2299], as_ascii=True), exception(2, as_ascii=True)])
def test_a_flipped_bit_is_never_a_reading(frame: Frame) -> None:
    form = Format(type=Type.UINT32)
    block = Block(1, [Item(quantity=by_name("voltage.a"), function=3, address=0, format=form)], as_ascii=True)
    whole = frame.encode()
    for bit in range(8 * len(whole)):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        (value,) = converse(read_blocks([block]), always(bytes(flipped)))
        assert value.plain is None and value.fault is not None and value.fault.value == "garbled", bit
