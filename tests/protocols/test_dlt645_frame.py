"""Frames of DL/T 645: encode and find, whatever stands around them and however the bytes are cut."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from protocols.dlt645.frame import END, LENGTH_MAX, OVERHEAD, START, Deframer, Frame, parse
from protocols.errors import Malformed, ProtocolError
from tests.dlt645 import BROKEN, WHOLE, drain, label

frames = st.builds(
    Frame,
    address=st.text("0123456789", min_size=12, max_size=12) | st.text("0123456789A", min_size=12, max_size=12),
    control=st.integers(0, 255),
    data=st.binary(max_size=40) | st.binary(max_size=LENGTH_MAX),
)
noise = st.binary(max_size=40) | st.lists(st.sampled_from([START, END, 0xFE, 0, 4, 0xFF]), max_size=30).map(bytes)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """The bytes in pieces, cut at these places."""
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


def found_in(pieces: list[bytes]) -> list[Frame]:
    """Frames of a stream that comes in these pieces and then falls quiet."""
    deframer = Deframer()
    found = [frame for piece in pieces for frame in deframer.feed(piece)]
    return found + drain(deframer)


def leftmost(stream: bytes) -> list[Frame]:
    """The definition: the first offset at which a whole frame stands, then on behind it."""
    at = 0
    while at + OVERHEAD <= len(stream):
        try:
            frame = parse(stream[at : at + OVERHEAD + stream[at + 9]])
        except Malformed:
            at += 1
            continue
        end = at + OVERHEAD + len(frame.data)
        return [frame, *leftmost(stream[end:])]
    return []


@pytest.mark.parametrize("vector", WHOLE, ids=label)
def test_a_recorded_frame_is_found_and_encodes_to_the_same_bytes(vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["hex"])
    (frame,) = Deframer().feed(data)
    meaning = vector["meaning"]
    assert frame == parse(data[vector["preamble_fe"] :])
    assert (frame.address, f"{frame.control:02X}") == (meaning["address"], meaning["control"])
    assert (len(frame.data), frame.data.hex(" ").upper()) == (meaning["length"], meaning["data_minus33"])
    assert frame.from_meter == (vector["direction"] == "response")
    assert frame.encode(vector["preamble_fe"]) == data


@pytest.mark.parametrize("vector", BROKEN, ids=label)
def test_a_recorded_broken_frame_is_not_found_and_says_what_was_expected_and_got(vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["hex"])
    assert found_in([data]) == []
    _, _, got, _, expected = vector["invalid_reason"].split()  # checksum: frame E8 computed E7
    with pytest.raises(Malformed, match=f"checksum: expected {expected}, got {got}"):
        parse(data[vector["preamble_fe"] :])


@given(frames, st.integers(0, 8))
def test_what_is_encoded_is_found_again(frame: Frame, preamble: int) -> None:
    assert found_in([frame.encode(preamble)]) == [frame]


@given(st.lists(frames, min_size=1, max_size=3), noise, noise, st.lists(st.integers(0, 2000), max_size=8))
def test_every_cut_gives_the_same_frames_with_noise_around_them(
    sent: list[Frame], before: bytes, after: bytes, places: list[int]
) -> None:
    stream = before + b"".join(frame.encode() for frame in sent) + after
    expected = leftmost(stream)
    assert found_in([stream]) == expected
    assert found_in(cut(stream, places)) == expected
    assert found_in([bytes([byte]) for byte in stream]) == expected
    if any(frame not in sent for frame in expected):  # a checksum of noise came out right, which no parser can tell
        return
    assert [frame for frame in expected if frame in sent] == sent


@given(frames, noise, noise, st.lists(st.integers(0, 2000), max_size=6))
def test_noise_that_holds_no_start_changes_nothing(sent: Frame, before: bytes, after: bytes, places: list[int]) -> None:
    before, after = before.replace(b"\x68", b""), after.replace(b"\x68", b"")
    assert found_in(cut(before + sent.encode() + after, places)) == [sent]


@given(frames, st.binary(min_size=6, max_size=6), st.integers(0, 255), st.integers(0, 255), st.binary(max_size=20))
def test_a_false_header_in_front_hides_no_frame(
    sent: Frame, address: bytes, control: int, length: int, more: bytes
) -> None:
    header = b"\x68" + address + b"\x68" + bytes([control, length]) + more
    found = found_in([header + sent.encode()])
    assume(not any(frame != sent for frame in found))  # 1 in 65536: the false header's checksum came out right
    assert found == [sent]


@given(frames)
def test_a_frame_inside_another_frame_is_its_data(inner: Frame) -> None:
    assume(len(inner.data) <= LENGTH_MAX - OVERHEAD)
    carried = bytes((byte - 0x33) & 0xFF for byte in inner.encode(0))
    outer = Frame(address="000000000001", control=0x91, data=carried)
    stream = outer.encode()
    assert found_in([stream]) == found_in([bytes([byte]) for byte in stream]) == [outer]


@given(st.lists(st.binary(max_size=600) | noise, max_size=8))
def test_random_bytes_raise_nothing_and_little_is_held(pieces: list[bytes]) -> None:
    deframer = Deframer()
    for piece in pieces:
        deframer.feed(piece)
        assert deframer.pending < OVERHEAD + LENGTH_MAX
    drain(deframer)
    assert deframer.pending == 0


@given(st.binary(max_size=40) | frames.map(lambda frame: frame.encode(0)), st.integers(0, 300))
def test_parse_gives_a_frame_or_a_protocol_error(data: bytes, end: int) -> None:
    try:
        frame = parse(data[:end])
    except ProtocolError:
        return
    assert frame.encode(0) == data[:end]


@pytest.mark.parametrize("vector", WHOLE[::6], ids=label)
def test_a_frame_cut_short_is_never_found_and_is_waited_for(vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["hex"])
    for end in range(len(data)):
        deframer = Deframer()
        assert deframer.feed(data[:end]) == []
        assert len(deframer.feed(data[end:])) == 1


@pytest.mark.parametrize("vector", WHOLE, ids=label)
def test_a_flipped_bit_gives_no_frame_that_was_not_sent(vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["hex"])
    (sent,) = Deframer().feed(data)
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        assert found_in([bytes(flipped)]) in ([], [sent])  # the same frame: the flip was in the preamble


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("", "length: expected at least 12 bytes, got 0"),
        ("69AAAAAAAAAAAA681300DF16", "start: expected 68, got 69"),
        ("68AAAAAAAAAAAA691300DF16", "second start: expected 68 after the address, got 69"),
        ("68AAAAAAAAAAAA681301DF16", r"length: expected 13 bytes \(L=1\), got 12"),
        ("68AAAAAAAAAAAA681300DF17", "end: expected 16, got 17"),
        ("68AAAAAAAAAAAA681300DE16", "checksum: expected DF, got DE"),
    ],
)
def test_a_broken_frame_says_what_is_wrong(wrong: str, says: str) -> None:
    with pytest.raises(Malformed, match=says):
        parse(bytes.fromhex(wrong))


@pytest.mark.parametrize(
    "wrong",
    [{"address": "12345678901"}, {"address": "12345678901G"}, {"control": 256}, {"data": bytes(256)}],
    ids=str,
)
def test_a_frame_that_cannot_be_sent_is_not_built(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        Frame(**{"address": "123456789012", "control": 0x11, **wrong})
