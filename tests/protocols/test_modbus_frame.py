"""Modbus frames are found whole, wherever they stand in a stream and however it is cut; nothing else is."""

from collections.abc import Callable

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from protocols.checksum import crc16_modbus
from protocols.modbus import frame as frame_module
from protocols.modbus.ascii import AsciiDeframer
from protocols.modbus.frame import Frame, Held, RtuDeframer, Side, TcpDeframer, read_request, rtu_frame_at
from tests.modbus import cut, deframe, exception, holds_rtu_frame, reply
from tests.protocols.test_modbus_ascii import FRAMES as ASCII

REGISTERS = st.lists(st.integers(0, 0xFFFF), min_size=1, max_size=125)
UNIT = st.integers(1, 247)
FUNCTION = st.sampled_from([3, 4])
TRANSACTION = st.integers(0, 0xFFFF)
CUTS = st.lists(st.integers(0, 3000), max_size=12)
GARBAGE = st.binary(max_size=24)


def replies(transaction: st.SearchStrategy[int | None]) -> st.SearchStrategy[Frame]:
    """Answers and refusals."""
    return st.one_of(
        st.builds(
            lambda u, f, r, t: reply(r, unit=u, function=f, transaction=t),
            UNIT, FUNCTION, REGISTERS, transaction,
        ),
        st.builds(
            lambda u, f, c, t: exception(c, unit=u, function=f, transaction=t),
            UNIT, FUNCTION, st.integers(1, 11), transaction,
        ),
    )  # fmt: skip


RTU, TCP = replies(st.none()), replies(TRANSACTION)
REQUESTS = st.builds(
    lambda u, f, a, c: read_request(u, f, a, c), UNIT, FUNCTION, st.integers(0, 0xFF00), st.integers(1, 125)
)


def test_a_request_stands_as_the_specification_prints_it() -> None:
    # [APP] §6.3: read holding registers 108-110 of unit 17 is 11 03 006B 0003, and its CRC [SER] is 76 87.
    assert read_request(0x11, 3, 0x6B, 3).encode().hex() == "1103006b00037687"
    assert read_request(0x11, 3, 0x6B, 3, transaction=1).encode().hex() == "0001000000061103006b0003"


@pytest.mark.parametrize(
    ("function", "address", "count"), [(1, 0, 1), (3, 0, 0), (3, 0, 126), (4, 65535, 2), (4, -1, 1)]
)
def test_a_read_that_cannot_be_asked_is_not_built(function: int, address: int, count: int) -> None:
    with pytest.raises(ValueError, match="registers"):
        read_request(1, function, address, count)


@pytest.mark.parametrize(("address", "count", "words"), [(65535, 1, "ffff0001"), (65411, 125, "ff83007d")])
def test_the_last_register_can_be_asked_for(address: int, count: int, words: str) -> None:
    assert read_request(1, 4, address, count).data.hex() == words


CARRIERS: dict[str, tuple[st.SearchStrategy[Frame], Callable[[], Held]]] = {
    "RTU": (RTU, RtuDeframer),
    "RTU questions": (REQUESTS, lambda: RtuDeframer("requests")),
    "TCP": (TCP, TcpDeframer),
    "ASCII": (ASCII, AsciiDeframer),
}


@pytest.mark.parametrize("carrier", CARRIERS)
@given(data=st.data(), cuts=CUTS)
@settings(max_examples=50)
def test_frames_come_back_for_every_way_of_cutting_them(carrier: str, data: st.DataObject, cuts: list[int]) -> None:
    frames_of, deframer_of = CARRIERS[carrier]
    frames = data.draw(st.lists(frames_of, min_size=1, max_size=4))
    stream = b"".join(frame.encode() for frame in frames)
    deframer = deframer_of()
    assert [frame for piece in cut(stream, cuts) for frame in deframer.feed(piece)] == frames
    assert deframer.pending == 0 and deframer.skipped == 0


@given(GARBAGE, RTU, GARBAGE, CUTS)
@settings(max_examples=80)
def test_noise_on_both_sides_hides_no_rtu_frame(before: bytes, frame: Frame, after: bytes, cuts: list[int]) -> None:
    stream = before + frame.encode() + after
    noise = [*range(len(before)), *range(len(stream) - len(after), len(stream))]
    assume(not holds_rtu_frame(stream, noise))
    deframer = RtuDeframer()
    assert deframe(deframer, cut(stream, cuts)) == [frame]
    assert deframer.skipped == len(before) + len(after)


@given(st.binary(max_size=24).filter(lambda noise: b"\0\0\0" not in noise), TCP, CUTS)
@settings(max_examples=60)
def test_noise_in_front_hides_no_tcp_frame(before: bytes, frame: Frame, cuts: list[int]) -> None:
    # A transaction and unit without zeros, so that noise and header do not make another header together.
    whole = Frame(unit=frame.unit, function=frame.function, data=frame.data, transaction=0x1234)
    assert deframe(TcpDeframer(), cut(before.rstrip(b"\0") + whole.encode(), cuts)) == [whole]


@pytest.mark.parametrize("side", ["replies", "requests"])
@given(st.binary(max_size=600), CUTS)
@settings(max_examples=60)
def test_any_bytes_are_taken_in_bounded_memory(side: Side, noise: bytes, cuts: list[int]) -> None:
    for deframer in (RtuDeframer(side), TcpDeframer(side)):
        for piece in cut(noise, cuts):
            deframer.feed(piece)
            assert deframer.pending <= 264
        while before := deframer.pending:
            deframer.expire()
            assert deframer.pending < before


@given(st.binary(max_size=300), CUTS)
@settings(max_examples=60)
def test_what_is_found_does_not_depend_on_the_cuts(noise: bytes, cuts: list[int]) -> None:
    stream = noise + reply([1, 2]).encode() + noise
    assert deframe(RtuDeframer(), cut(stream, cuts)) == deframe(RtuDeframer(), [stream])
    assert deframe(TcpDeframer(), cut(stream, cuts)) == deframe(TcpDeframer(), [stream])


GOOD = reply([2301, 2299], unit=7)
DAMAGED = GOOD.encode()[:-1] + bytes([GOOD.encode()[-1] ^ 1])
IN_FRONT = {
    "one 00 byte": b"\x00",
    "FF FF 00": b"\xff\xff\x00",
    "a fragment of a header": b"\x01\x03",
    "a header that promises 250 bytes": b"\x07\x03\xfa",
    "our own question": read_request(7, 3, 0, 2).encode(),
    "our own question, its address read as a byte count": read_request(7, 3, 0x0C00, 2).encode(),
    "another meter's answer": reply([1, 2, 3], unit=9).encode(),
    "a damaged frame": DAMAGED,
    "the same frame, cut short": GOOD.encode()[:-3],
}


@pytest.mark.parametrize("what", IN_FRONT)
def test_the_good_frame_behind_is_found(what: str) -> None:
    stream = IN_FRONT[what] + GOOD.encode()
    for pieces in ([stream], [bytes([byte]) for byte in stream]):
        found = deframe(RtuDeframer(), pieces)
        assert found[-1] == GOOD
        assert [frame for frame in found if frame.unit == 7] == [GOOD]


def test_a_frame_carried_inside_another_is_not_found() -> None:
    inner = reply([5]).encode() + b"\0"
    outer = reply([int.from_bytes(inner[n : n + 2], "big") for n in range(0, len(inner), 2)], unit=9)
    assert deframe(RtuDeframer(), [bytes([byte]) for byte in outer.encode()]) == [outer]


def test_a_write_request_is_found_by_its_own_byte_count() -> None:
    # [APP] §6.12: write registers 1 and 2.
    write = Frame(unit=1, function=16, data=bytes.fromhex("00010002 04 000A0102"))
    assert deframe(RtuDeframer("requests"), [b"\x01\x10" + write.encode()]) == [write]
    over_tcp = Frame(unit=1, function=16, data=write.data, transaction=9)
    assert deframe(TcpDeframer("requests"), [over_tcp.encode()]) == [over_tcp]


@pytest.mark.parametrize(
    ("function", "data"),
    [(n, "00010002") for n in range(1, 7)] + [(15, "00010003 01 05"), (16, "00010002 04 000A0102"), (0x2B, "0E0100")],
)  # fmt: skip
def test_a_question_over_tcp_has_the_length_of_its_function(function: int, data: str) -> None:
    question = Frame(unit=1, function=function, data=bytes.fromhex(data), transaction=9)
    assert deframe(TcpDeframer("requests"), [question.encode()]) == [question]
    for other in (question.data + b"\0", question.data[:-1]):
        wrong = Frame(unit=1, function=function, data=other, transaction=9)
        assert deframe(TcpDeframer("requests"), [wrong.encode(), question.encode()]) == [question]


@pytest.mark.parametrize("function", [5, 6, 15, 16])
def test_a_confirmation_over_tcp_has_four_bytes(function: int) -> None:
    right, short, long = (
        Frame(unit=1, function=function, data=bytes(size), transaction=9).encode() for size in (4, 3, 5)
    )  # fmt: skip
    assert [frame.encode() for frame in deframe(TcpDeframer(), [short, right, long, right])] == [right, right]


@pytest.mark.parametrize("make", [RtuDeframer, TcpDeframer])
def test_a_quiet_line_drops_nothing_where_nothing_is_held(make: Callable[[], Held]) -> None:
    deframer = make()
    assert deframer.expire() == [] and deframer.skipped == 0
    deframer.feed(b"\1")
    assert deframer.expire() == [] and (deframer.pending, deframer.skipped) == (0, 1)


def test_a_frame_is_found_where_it_begins_and_nowhere_else() -> None:
    sides: tuple[tuple[Side, Frame], ...] = (
        ("replies", reply([7, 8])), ("requests", read_request(9, 4, 1, 2)), ("replies", exception(2))
    )  # fmt: skip
    for side, frame in sides:
        stream = b"\0" + frame.encode() + b"\0"
        assert rtu_frame_at(stream, 1, side) == frame
        damaged = stream[:4] + bytes((stream[4] ^ 1,)) + stream[5:]
        for bytes_, at in ((stream, 0), (stream, 2), (stream[:-3], 1), (stream[:2], 1), (damaged, 1)):
            assert rtu_frame_at(bytes_, at, side) is None


def test_a_frame_has_at_most_252_bytes_of_data() -> None:
    assert len(Frame(unit=1, function=3, data=bytes(252)).encode()) == 256
    with pytest.raises(ValueError, match="not a Modbus frame"):
        Frame(unit=1, function=3, data=bytes(253))


HEADER = reply([7], transaction=0x1234).encode()


@pytest.mark.parametrize(
    ("at", "byte"), [(2, 1), (3, 1), (4, 1), (5, 0), (5, 2), (5, 4), (5, 254), (8, 4), (8, 0)],
)  # fmt: skip
def test_a_header_that_contradicts_itself_gives_no_frame(at: int, byte: int) -> None:
    broken = HEADER[:at] + bytes([byte]) + HEADER[at + 1 :]
    deframer = TcpDeframer()
    assert deframe(deframer, [broken]) == [] and deframer.skipped == len(broken)
    assert deframe(deframer, [broken + HEADER])[-1] == reply([7], transaction=0x1234)


def test_the_work_on_false_headers_grows_with_the_stream_and_no_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    # Each third byte begins a candidate of 255 bytes: the dearest stream there is.
    checked: list[int] = []

    def counted(data: bytes) -> int:
        checked.append(len(data))
        return crc16_modbus(data)

    monkeypatch.setattr(frame_module, "crc16_modbus", counted)
    deframer, stream = RtuDeframer(), b"\x01\x03\xfa" * 1000
    for byte in stream:
        deframer.feed(bytes([byte]))
    assert len(checked) <= len(stream) / 3 and max(checked) == 255
    assert deframer.pending <= 255 and deframer.skipped + deframer.pending == len(stream)
