"""A simulated DL/T 645 meter answers as the standard says, and our decoder reads what it wrote."""

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.capture import Quality
from protocols.dlt645 import v2007
from protocols.dlt645.codes import Edition
from protocols.dlt645.frame import ANY_METER, BROADCAST, Frame, parse
from protocols.dlt645.items import decode_item
from simulators.dlt645 import Dlt645Meter
from simulators.load import Load
from tests.dlt645 import converse

ADDRESS = "202411110002"
AT = 1_800_000_000_000


def meter(**options: object) -> Dlt645Meter:
    load = options.pop("load", None) or Load(1)
    return Dlt645Meter(ADDRESS, load, **options)  # type: ignore[arg-type]


def ask(m: Dlt645Meter, control: int, data: bytes = b"", address: str = ADDRESS) -> Frame | None:
    reply = m.handle(Frame(address=address, control=control, data=data).encode(), AT)
    return parse(reply.lstrip(b"\xfe")) if reply is not None else None


def read(m: Dlt645Meter, di: str, address: str = ADDRESS) -> Frame:
    control = 0x11 if len(di) == 8 else 0x01
    reply = ask(m, control, bytes.fromhex(di)[::-1], address)
    assert reply is not None
    return reply


SINGLE_2007 = [
    "00000000", "00010000", "00010400", "00020000", "00030000", "00050000", "00150000", "00090000", "00010001",
    "0001000C", "01010000", "01010100", "01010001", "01150000", "02010100", "02010300", "02020200", "02030000",
    "02030100", "02040000", "02050300", "02060000", "02070100", "02080100", "02090300", "020C0100", "02800001",
    "02800002", "02800003", "02800004", "02800007", "02800008", "0280000A", "04000101", "04000102", "0400010C",
    "04000103", "04000401", "04000402", "04000404", "04000409", "0400040B", "04000501",
]  # fmt: skip
BLOCKS_2007 = ["0001FF00", "0000FF00", "0001FF01", "000100FF", "0101FF00", "010100FF", "0201FF00", "0202FF00",
               "0203FF00", "0206FF00", "0207FF00", "040005FF"]  # fmt: skip
ALL_1997 = ["9010", "901F", "9011", "9020", "9110", "9130", "9140", "9410", "9810", "A010", "A01F", "B010", "B611",
            "B61F", "B621", "B630", "B63F", "B640", "B650", "C010", "C011", "C030", "C032"]  # fmt: skip


KEPT = ["05000001", "05000101", "0500010C", "05060001", "05060101", "05060201", "0506013E", "05060301", "05060901",
        "05060A02", "05061001", "05040001", "050401FE", "05041003", "0504FF01", "06000002", "06010000", "06020001",
        "06030002", "06040002", "06050002", "06060002", "06100101", "061001FF", "06100300", "061005FF", "06100602",
        "061006FF", "06100703", "061007FF", "06100802", "061008FF", "03110000", "03110001",
        "03110003", "03040000", "03040101", "03040301", "03300400", "03300401", "03300D00", "03300D01"]  # fmt: skip
"""Freezes, load records, curves, events."""


@pytest.mark.parametrize("di", SINGLE_2007 + BLOCKS_2007 + KEPT + ALL_1997)
@pytest.mark.parametrize("reverse", [False, True])
def test_what_is_served_is_what_the_decoder_reads(di: str, reverse: bool) -> None:
    edition = Edition.E2007 if len(di) == 8 else Edition.E1997
    m = meter(load=Load(11, reverse=reverse), edition=edition)
    control = 0x11 if len(di) == 8 else 0x01
    asked = bytes.fromhex("010021140127") if di == "06020001" else b""  # one record, from 2027-01-14 21:00 on
    answer = m.answer(Frame(address=ADDRESS, control=control, data=bytes.fromhex(di)[::-1] + asked), AT)
    assert answer is not None
    frame = parse(answer.data.lstrip(b"\xfe"))
    assert frame.control == control | 0x80
    assert frame.data[: len(di) // 2] == bytes.fromhex(di)[::-1]
    values = decode_item(di, frame.data[len(di) // 2 :], edition)
    assert {v.quantity.name: v.plain for v in values} == answer.values
    assert values


def test_what_it_keeps_is_read_by_dialogues_as_it_is_served() -> None:
    m = meter(load=Load(11))
    served: dict[str, str] = {}

    def answers(question: bytes) -> bytes:
        answer = m.answer(parse(question.lstrip(b"\xfe")), AT)
        assert answer is not None
        served.update(answer.values)
        return answer.data

    kept = [di for di in KEPT if di[:2] != "06"]
    values, asks = converse(v2007.read(ADDRESS, kept), answers)
    assert {value.quantity.name: value.plain for value in values} == served
    assert len(asks) == len(kept)
    for di, blocks in (("06000002", 3), ("06050002", 3), ("061001FF", 1)):
        served.clear()
        values, _ = converse(v2007.read_load(ADDRESS, di, blocks), answers)
        assert {value.quantity.name: value.plain for value in values} == served


def test_only_its_own_address_is_answered() -> None:
    assert ask(meter(), 0x11, bytes.fromhex("00000100"), "202411110003") is None


@pytest.mark.parametrize("address", [ADDRESS, "AA2411110002", "AAAAAAAAAA02", "AAAA11110002", ANY_METER])
def test_wildcards_stand_for_high_bytes_and_the_reply_bears_the_real_address(address: str) -> None:
    reply = read(meter(), "00010000", address)
    assert reply.address == ADDRESS
    assert reply.control == 0x91


@pytest.mark.parametrize("address", ["AAAAAAAAAA03", "2024AAAA0002", "AAAAAAAA1102"])
def test_wildcards_do_not_match_what_is_not_there(address: str) -> None:
    assert ask(meter(), 0x11, bytes.fromhex("00000100"), address) is None


@pytest.mark.parametrize("control", [0x08, 0x11, 0x13, 0x14, 0x16])
def test_a_broadcast_is_never_answered(control: int) -> None:
    assert ask(meter(), control, bytes.fromhex("00000100"), BROADCAST) is None


def test_a_frame_of_a_meter_is_not_a_question() -> None:
    assert ask(meter(), 0x91, bytes.fromhex("00000100")) is None


def test_the_address_is_told_to_who_asks_everybody() -> None:
    reply = ask(meter(), 0x13, b"", ANY_METER)
    assert reply is not None
    assert (reply.control, reply.data) == (0x93, bytes.fromhex(ADDRESS)[::-1])
    assert ask(meter(), 0x13, b"", ADDRESS) is None


@pytest.mark.parametrize("di", ["0F0F0F0F", "00900200", "00010500", "02010400", "04000999", "0001FFFF"])
def test_an_unknown_identifier_is_no_such_data(di: str) -> None:
    reply = read(meter(), di)
    assert (reply.control, reply.data) == (0xD1, b"\x02")


@pytest.mark.parametrize("control", [0x14, 0x19, 0x1A, 0x1B, 0x1C])
def test_nothing_can_be_written_or_switched(control: int) -> None:
    reply = ask(meter(), control, bytes(16))
    assert reply is not None
    assert (reply.control, reply.data) == (control | 0xC0, b"\x04")


def test_a_single_phase_meter_fills_the_other_phases_with_ff() -> None:
    m = meter(load=Load(1, phases=1))
    reply = read(m, "0201FF00")
    assert len(reply.data) == 4 + 6
    assert reply.data[6:] == b"\xff" * 4
    values = decode_item("0201FF00", reply.data[4:])
    assert [v.quality for v in values] == [Quality.GOOD, Quality.UNAVAILABLE, Quality.UNAVAILABLE]
    assert read(m, "02010200").data == b"\x02"


def test_a_block_can_end_at_what_there_is() -> None:
    assert len(read(meter(load=Load(1, phases=1), fill_absent=False), "0201FF00").data) == 4 + 2


@pytest.mark.parametrize("preamble", range(9))
def test_any_preamble_is_taken_and_given(preamble: int) -> None:
    m = meter(preamble=preamble)
    request = Frame(address=ADDRESS, control=0x11, data=bytes.fromhex("00000100")).encode(8 - preamble)
    reply = m.handle(request, AT)
    assert reply is not None
    assert reply[:preamble] == b"\xfe" * preamble
    assert reply[preamble] == 0x68


def test_a_damaged_question_is_not_heard() -> None:
    request = bytearray(Frame(address=ADDRESS, control=0x11, data=bytes.fromhex("00000100")).encode(0))
    for at in range(len(request)):
        damaged = request.copy()
        damaged[at] ^= 0x10
        assert meter().handle(bytes(damaged), AT) is None


def test_a_long_answer_comes_in_parts_of_196_and_195_bytes() -> None:
    payload = bytes(range(256)) * 2
    m = meter(extra={"00010000": payload})
    first = read(m, "00010000")
    assert (first.control, len(first.data)) == (0xB1, 200)
    got = first.data[4:]
    for sequence, control, length in [(1, 0xB2, 200), (2, 0x92, 4 + 121 + 1)]:
        reply = ask(m, 0x12, bytes.fromhex("00000100") + bytes((sequence,)))
        assert reply is not None
        assert (reply.control, len(reply.data), reply.data[-1]) == (control, length, sequence)
        got += reply.data[4:-1]
    assert got == payload


def test_a_part_can_be_asked_for_again_and_another_question_ends_the_answer() -> None:
    m = meter(load=Load(1, tariffs=63))
    assert read(m, "0001FF00").control == 0xB1
    follow = bytes.fromhex("00FF0100") + b"\x01"
    once, again = ask(m, 0x12, follow), ask(m, 0x12, follow)
    assert once == again
    assert once is not None
    assert once.control == 0x92
    assert ask(m, 0x13, b"", ANY_METER) is not None
    ended = ask(m, 0x12, follow)
    assert ended is not None
    assert ended.control == 0xD2


def test_a_tariff_block_in_parts_holds_every_tariff() -> None:
    m = meter(load=Load(1, tariffs=63))
    first = read(m, "0001FF00")
    answer = m.answer(Frame(address=ADDRESS, control=0x12, data=bytes.fromhex("00FF0100") + b"\x01"), AT)
    assert answer is not None
    rest = parse(answer.data.lstrip(b"\xfe"))
    values = decode_item("0001FF00", first.data[4:] + rest.data[4:-1])
    assert {v.quantity.name: v.plain for v in values} == answer.values
    assert len(values) == 64
    assert sum((v.number for v in values[1:] if v.number is not None), Decimal(0)) == values[0].number


def test_a_1997_meter_is_silent_to_2007_and_says_wrong_identifier() -> None:
    m = meter(edition=Edition.E1997)
    for control, data in [(0x11, bytes.fromhex("00000100")), (0x12, bytes(5)), (0x13, b"")]:
        assert ask(m, control, data) is None
    reply = read(m, "9099")
    assert (reply.control, reply.data) == (0xC1, b"\x02")


def test_a_1997_long_answer_is_followed_up_by_02() -> None:
    m = meter(edition=Edition.E1997, extra={"9010": bytes(range(250))})
    first = read(m, "9010")
    assert first.control == 0xA1
    rest = ask(m, 0x02, bytes.fromhex("1090"))
    assert rest is not None
    assert rest.control == 0x82
    assert first.data[2:] + rest.data[2:] == bytes(range(250))


@settings(max_examples=300)
@given(st.binary(max_size=60))
def test_noise_is_answered_by_silence(noise: bytes) -> None:
    assert meter().handle(noise, AT) is None


@settings(max_examples=300)
@given(control=st.integers(0, 255), data=st.binary(max_size=30), edition=st.sampled_from(Edition))
def test_any_question_is_answered_rightly_or_by_silence(control: int, data: bytes, edition: Edition) -> None:
    reply = ask(meter(edition=edition), control, data)
    if reply is not None:
        assert not control & 0x80
        assert reply.address == ADDRESS
        assert reply.control & 0x9F == control & 0x1F | 0x80
