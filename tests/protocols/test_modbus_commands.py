"""Bits, writes and identification: asked as the specification prints them, and answered by nothing else."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.dialogue import Ask, Garbled, Reply, Silence
from protocols.errors import Malformed, Refused
from protocols.modbus import commands, requests
from protocols.modbus.frame import Frame, RtuDeframer, TcpDeframer
from tests.modbus import cut, deframe, exception

# [APP] §6.1, §6.2, §6.5, §6.6, §6.11, §6.12, §6.21: question and answer as they stand there, behind unit 17.
EXAMPLES = [
    (requests.read_bits_request(17, 1, 19, 19), "0100130013", "0103CD6B05"),
    (requests.read_bits_request(17, 2, 196, 22), "0200C40016", "0203ACDB35"),
    (requests.write_coil_request(17, 172, True), "0500ACFF00", "0500ACFF00"),
    (requests.write_register_request(17, 1, 3), "0600010003", "0600010003"),
    (
        requests.write_coils_request(17, 19, [n in (0, 2, 3, 6, 7, 8) for n in range(10)]),
        "0F0013000A02CD01", "0F0013000A",
    ),
    (requests.write_registers_request(17, 1, bytes.fromhex("000A0102")), "100001000204000A0102", "1000010002"),
    (
        requests.identify_request(17), "2B0E0100",
        "2B0E010100000300164D7576696E2053797374656D7320496E7465726E61010250440202056576312E30",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("question", "asked", "answered"), EXAMPLES)
def test_questions_stand_as_the_specification_prints_them_and_answers_are_found(
    question: Frame, asked: str, answered: str
) -> None:
    assert (bytes((question.function,)) + question.data).hex().upper() == asked
    assert deframe(RtuDeframer("requests"), [question.encode()]) == [question]
    raw = bytes.fromhex(answered)
    if question.function == 0x2B:  # the printed example cuts the vendor's name short; its own lengths are kept here
        raw = bytes.fromhex("2B0E0101000003") + b"\0\5Muvin\1\2PD\2\5V1.00"
    answer = Frame(unit=17, function=raw[0], data=raw[1:])
    for stray in (b"", b"\0", b"\xff\xff", b"\x11\x2b"):
        found = deframe(RtuDeframer(), [stray + answer.encode()])
        assert found == [answer], stray
    over = Frame(unit=17, function=raw[0], data=raw[1:], transaction=5)
    assert deframe(TcpDeframer(), [over.encode()]) == [over]


@given(st.lists(st.booleans(), min_size=1, max_size=2000))
@settings(max_examples=60)
def test_bits_come_back_from_bytes(bits: list[bool]) -> None:
    assert requests.unpack_bits(requests.pack_bits(bits), len(bits)) == tuple(bits)


@pytest.mark.parametrize(
    "build",
    [
        lambda: requests.read_bits_request(1, 3, 0, 1),
        lambda: requests.read_bits_request(1, 1, 0, 2001),
        lambda: requests.read_bits_request(1, 1, 65535, 2),
        lambda: requests.write_coil_request(1, 65536, True),
        lambda: requests.write_register_request(1, 0, 65536),
        lambda: requests.write_coils_request(1, 0, []),
        lambda: requests.write_coils_request(1, 0, [True] * 1969),
        lambda: requests.write_registers_request(1, 0, b"\0\0\0"),
        lambda: requests.write_registers_request(1, 0, bytes(248)),
        lambda: requests.identify_request(1, code=5),
    ],
)
def test_what_cannot_be_asked_is_not_built(build: Any) -> None:
    with pytest.raises(ValueError):
        build()


def test_as_much_as_the_specification_allows_is_asked_at_once() -> None:
    # [APP] §6.1, §6.11, §6.12.
    assert requests.read_bits_request(1, 1, 0, 2000).data == bytes.fromhex("0000 07D0")
    assert len(requests.write_coils_request(1, 0, [True] * 1968).data) == 5 + 246
    assert len(requests.write_registers_request(1, 0, bytes(246)).data) == 5 + 246


def test_the_last_bit_and_the_last_register_can_be_asked_for() -> None:
    assert requests.read_bits_request(1, 2, 65535, 1).data == bytes.fromhex("FFFF 0001")
    assert requests.write_coil_request(1, 65535, True).data == bytes.fromhex("FFFF FF00")
    assert requests.write_register_request(1, 65535, 65535).data == bytes.fromhex("FFFF FFFF")
    assert requests.write_registers_request(1, 65534, bytes(4)).data == bytes.fromhex("FFFE 0002 04 00000000")


WRITES = {
    "coil": lambda: commands.write_coil(1, 5, True),
    "register": lambda: commands.write_register(1, 5, 0x0102),
    "coils": lambda: commands.write_coils(1, 5, [True, False, True]),
    "registers": lambda: commands.write_registers(1, 5, b"\0\1\0\2"),
}


@pytest.mark.parametrize("what", WRITES)
def test_a_write_is_confirmed_by_its_own_address_and_content_alone_and_never_repeated(what: str) -> None:
    ask: Ask[Frame] = next(WRITES[what]())
    (question,) = deframe(RtuDeframer("requests"), [ask.data])
    right = Frame(unit=1, function=question.function, data=question.data[:4])
    assert ask.accepts(right) and not ask.repeatable
    for n in range(4):
        wrong = bytearray(right.data)
        wrong[n] ^= 1
        assert not ask.accepts(Frame(unit=1, function=question.function, data=bytes(wrong)))
    assert not ask.accepts(Frame(unit=2, function=question.function, data=right.data))
    assert not ask.accepts(Frame(unit=1, function=question.function, data=right.data, transaction=1))
    assert ask.accepts(exception(3, function=question.function))


@pytest.mark.parametrize(
    "dialogue", [*WRITES.values(), lambda: commands.read_bits(1, 1, 0, 9), lambda: commands.identify(1)]
)
def test_a_refusal_is_raised_and_silence_is_handed_on(dialogue: Any) -> None:
    for answer in (Silence(), Garbled(seen=b"\1")):
        running = dialogue()
        next(running)
        with pytest.raises(StopIteration) as ended:
            running.send(answer)
        assert ended.value.value == answer
    running = dialogue()
    function = next(running).data[1]
    with pytest.raises(Refused, match="illegal data value"):
        running.send(Reply(frame=exception(3, function=function), sent_at=0, ended_at=0))
    running = dialogue()
    next(running)
    with pytest.raises(StopIteration) as ended:
        running.send(Reply(frame=exception(0x0B, function=function), sent_at=0, ended_at=0))
    assert ended.value.value == Silence()


def listed(objects: dict[int, bytes], *, more: int = 0, following: int = 0, code: int = 1) -> Frame:
    """An answer to an identification."""
    body = b"".join(bytes((key, len(text))) + text for key, text in objects.items())
    return Frame(unit=1, function=0x2B, data=bytes((0x0E, code, 1, more, following, len(objects))) + body)


def test_an_identification_goes_on_as_long_as_more_follows() -> None:
    dialogue = commands.identify(1)
    ask = next(dialogue)
    first = listed({0: b"Maker", 1: b"M1"}, more=0xFF, following=4)
    assert ask.accepts(first) and not ask.accepts(listed({0: b"Maker"}, code=2))
    ask = dialogue.send(Reply(frame=first, sent_at=0, ended_at=0))
    assert ask.data[4] == 4
    with pytest.raises(StopIteration) as ended:
        dialogue.send(Reply(frame=listed({4: b"Meter"}), sent_at=0, ended_at=0))
    assert ended.value.value == {0: b"Maker", 1: b"M1", 4: b"Meter"}


def test_what_is_only_read_may_be_asked_again() -> None:
    assert next(commands.read_bits(1, 1, 0, 9)).repeatable and next(commands.identify(1)).repeatable


def test_a_device_may_have_no_objects() -> None:
    dialogue = commands.identify(1)
    assert next(dialogue).accepts(listed({}))
    with pytest.raises(StopIteration) as ended:
        dialogue.send(Reply(frame=listed({}), sent_at=0, ended_at=0))
    assert ended.value.value == {}


def test_an_identification_that_leads_back_is_ended() -> None:
    dialogue = commands.identify(1)
    next(dialogue)
    with pytest.raises(Malformed, match="after 0, got 0"):
        dialogue.send(Reply(frame=listed({0: b"Maker"}, more=0xFF), sent_at=0, ended_at=0))


@pytest.mark.parametrize(
    "data", ["0E0101000001", "0E010100000100", "0E01010000010005AA", "0E010100000000", "0E01010000", "0E01"]
)
def test_objects_that_do_not_fill_the_answer_are_none(data: str) -> None:
    ask = next(commands.identify(1))
    assert not ask.accepts(Frame(unit=1, function=0x2B, data=bytes.fromhex(data)))


@given(
    st.dictionaries(st.integers(0, 255), st.binary(max_size=40), max_size=5).filter(
        lambda objects: sum(2 + len(text) for text in objects.values()) <= 240
    ),
    st.lists(st.integers(0, 300), max_size=6),
)
@settings(max_examples=60)
def test_an_identification_comes_back_for_every_way_of_cutting_it(objects: dict[int, bytes], cuts: list[int]) -> None:
    frame = listed(objects)
    deframer = RtuDeframer()
    assert [found for piece in cut(frame.encode(), cuts) for found in deframer.feed(piece)] == [frame]
    assert deframer.pending == 0


def test_an_identification_longer_than_a_frame_does_not_hold_up_the_next() -> None:
    endless = b"\x01\x2b\x0e\x01\x01\x00\x00\xff" + bytes((0, 250)) + bytes(250)
    frame = listed({0: b"Maker"})
    assert deframe(RtuDeframer(), [endless, frame.encode()])[-1] == frame
