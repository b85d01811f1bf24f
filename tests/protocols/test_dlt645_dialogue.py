"""Conversations with DL/T 645 meters: what is asked, which answers are taken, and that no wrong value is."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.bcd import low_first
from protocols.capture import Fault, Quality, Value
from protocols.dialogue import Dialogue
from protocols.dlt645 import v1997, v2007
from protocols.dlt645.codes import Edition
from protocols.dlt645.frame import ANY_METER, BROADCAST, Deframer, Frame
from protocols.dlt645.reading import ReadItem
from protocols.quantity import by_name
from tests.dlt645 import VECTORS, WHOLE, converse, edition_in

METER = "202411110002"
DI = low_first("00010000")


def says(control: int, data: bytes, address: str = METER) -> Callable[[bytes], bytes]:
    """A meter that gives this answer to every question."""
    return lambda _: Frame(address=address, control=control, data=data).encode()


def scripted(*replies: bytes) -> Callable[[bytes], bytes]:
    """A meter that gives these answers one after the other, and is silent then."""
    script: Iterator[bytes] = iter(replies)
    return lambda _: next(script, b"")


def plains(values: list[Value]) -> list[str | None]:
    return [value.plain for value in values]


def reading(vector: dict[str, Any]) -> Dialogue[Frame]:
    """The dialogue whose answer a recorded reply is."""
    read = v2007.read if edition_in(vector) is Edition.E2007 else v1997.read
    return read(vector["meaning"]["address"], [vector["meaning"]["di"]])


READ_REPLIES = [v for v in WHOLE if v["meaning"]["control"] in ("91", "81") and "di" in v["meaning"]]


def test_a_question_is_the_recorded_one() -> None:
    recorded = next(v for v in VECTORS if v["id"] == "V205")
    ask = next(v2007.read(METER, ["00010000"]))
    assert ask.data.hex() == recorded["hex"]
    assert ask.reply_max == 4 + 12 + 4 + 5
    assert ask.repeatable
    assert not ask.holds_meter
    recorded = next(v for v in VECTORS if v["id"] == "V134")
    assert next(v1997.read("000003430163", ["9010"], preamble=0)).data.hex() == recorded["hex"]
    recorded = next(v for v in VECTORS if v["id"] == "V001")
    ask = next(v2007.read_address())
    assert ask.data.hex() == recorded["hex"]
    assert ask.reply_max == 4 + 12 + 6


@pytest.mark.parametrize("vector", READ_REPLIES, ids=lambda v: v["id"])
def test_a_recorded_reply_gives_its_values_with_every_preamble(vector: dict[str, Any]) -> None:
    values, asks = converse(reading(vector), lambda _: bytes.fromhex(vector["hex"]))
    assert len(asks) == 1
    assert values
    assert all(value.fault is None for value in values)
    if vector["id"] != "V022":  # a private layout of 27 bytes behind an energy identifier
        assert len(bytes.fromhex(vector["hex"])) <= asks[0].reply_max


@pytest.mark.parametrize("vector", READ_REPLIES, ids=lambda v: v["id"])
def test_no_flipped_bit_of_a_reply_is_accepted_as_another_value(vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["hex"])
    right, _ = converse(reading(vector), lambda _: data)
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        values, _ = converse(reading(vector), lambda _, came=bytes(flipped): came)  # type: ignore[misc]
        if bit // 8 < vector["preamble_fe"]:
            assert values == right
        else:
            assert {value.fault for value in values} == {Fault.GARBLED}


@settings(max_examples=30)
@given(st.sampled_from(READ_REPLIES), st.data())
def test_a_reply_is_found_behind_noise_echo_and_frames_of_others(vector: dict[str, Any], data: st.DataObject) -> None:
    reply = bytes.fromhex(vector["hex"])
    foreign = Frame(address="000000000009", control=reply[vector["preamble_fe"] + 8], data=DI + bytes(4)).encode()
    noise = data.draw(st.binary(max_size=20)).replace(b"\x68", b"")

    def meter(question: bytes) -> bytes:
        return noise + question + foreign + reply + noise

    assert converse(reading(vector), meter)[0] == converse(reading(vector), lambda _: reply)[0]


@pytest.mark.parametrize(
    ("control", "address", "data"),
    [
        (0x11, METER, DI + bytes(4)),
        (0x91, "202411110003", DI + bytes(4)),
        (0x91, ANY_METER, DI + bytes(4)),
        (0x91, METER, low_first("00020000") + bytes(4)),
        (0x91, METER, DI[:3]),
        (0x92, METER, DI + bytes(4)),
        (0x94, METER, DI + bytes(4)),
        (0x81, METER, DI + bytes(4)),
        (0x9F, METER, DI + bytes(4)),
        (0xD4, METER, b"\x02"),
    ],
)
def test_a_frame_that_answers_another_question_is_passed_over(control: int, address: str, data: bytes) -> None:
    (value,) = converse(v2007.read(METER, ["00010000"]), says(control, data, address))[0]
    assert (value.fault, value.quality) == (Fault.GARBLED, Quality.INVALID)


@pytest.mark.parametrize(
    ("asked", "answers", "taken"),
    [
        (ANY_METER, METER, True),
        (ANY_METER, ANY_METER, True),
        ("AAAAAA110002", METER, True),
        ("AAAAAA110003", METER, False),
        ("AAAAAA110002", "202411120002", False),
        (METER, METER, True),
    ],
)
def test_wildcards_of_a_question_stand_for_any_digits(asked: str, answers: str, taken: bool) -> None:
    (value,) = converse(v2007.read(asked, ["00010000"]), says(0x91, DI + bytes(4), answers))[0]
    assert (value.plain == "0.00") == taken


def test_the_address_of_all_nines_asks_the_only_meter_of_1997() -> None:
    data = low_first("9010") + bytes(4)
    assert plains(converse(v1997.read(BROADCAST, ["9010"]), says(0x81, data))[0]) == ["0.00"]
    assert plains(converse(v2007.read(BROADCAST, ["00010000"]), says(0x91, DI + bytes(4)))[0]) == [None]


@pytest.mark.parametrize(
    ("edition", "error", "fault", "detail"),
    [
        (Edition.E2007, "02", Fault.ABSENT, "02: no requested data"),
        (Edition.E2007, "04", Fault.REFUSED, "04: wrong password/unauthorised"),
        (Edition.E2007, "06", Fault.REFUSED, "06: no requested data, wrong password/unauthorised"),
        (Edition.E1997, "02", Fault.ABSENT, "02: wrong data identifier"),
        (Edition.E1997, "01", Fault.REFUSED, "01: illegal data"),
    ],
)
def test_a_refusal_is_a_value_with_its_reason(edition: Edition, error: str, fault: Fault, detail: str) -> None:
    data = bytes.fromhex(error)
    if edition is Edition.E2007:
        values, _ = converse(v2007.read(METER, ["00010000"]), says(0xD1, data))
    else:
        values, _ = converse(v1997.read(METER, ["9010"]), says(0xC1, data))
    (value,) = values
    assert value.quantity.name == "energy.active.import.total"
    assert (value.plain, value.fault, value.detail) == (None, fault, detail)


def test_silence_is_silent_for_each_quantity_of_the_item() -> None:
    values, _ = converse(v2007.read(METER, ["01010000", "0201FF00", "0001FF00", "0400010F"]), scripted())
    assert [value.quantity.name for value in values] == [
        "demand.active.import.total", "demand.active.import.total.time", "voltage.a", "voltage.b", "voltage.c",
        "energy.active.import.total", "dlt645.0400010F",
    ]  # fmt: skip
    assert {value.fault for value in values} == {Fault.SILENT}


def test_each_wish_gets_one_value_and_what_the_meter_did_not_send_is_absent() -> None:
    item = ReadItem(di="0001FF00", wants=(by_name("energy.active.import.t4"), by_name("energy.active.import.t1")))
    payload = b"".join(bytes([n, 0, 0, 0]) for n in range(3))
    first, second = converse(v2007.read_items(METER, [item]), says(0x91, low_first("0001FF00") + payload))[0]
    assert (first.fault, first.detail) == (Fault.ABSENT, "not in the reply to 0001FF00")
    assert (second.quantity.name, second.plain) == ("energy.active.import.t1", "0.01")
    values, _ = converse(v2007.read(METER, ["0201FF00"]), says(0x91, low_first("0201FF00") + b"\x00\x23"))
    assert [(value.plain, value.fault) for value in values] == [
        ("230.0", None), (None, Fault.ABSENT), (None, Fault.ABSENT),
    ]  # fmt: skip


def test_a_payload_of_wrong_length_is_invalid_for_every_wish() -> None:
    item = ReadItem(di="0001FF00", wants=(by_name("energy.active.import.total"), by_name("energy.active.import.t4")))
    values, _ = converse(v2007.read_items(METER, [item]), says(0x91, low_first("0001FF00") + bytes(7)))
    assert {(value.plain, value.quality) for value in values} == {(None, Quality.INVALID)}


def test_an_identifier_that_is_not_in_the_catalogue_gives_its_payload_as_text() -> None:
    (value,) = converse(v2007.read(METER, ["0400010F"]), says(0x91, low_first("0400010F") + b"\x01\x02"))[0]
    assert (value.quantity.name, value.text) == ("dlt645.0400010F", "0201")


def chain(parts: list[bytes], di: str) -> list[bytes]:
    """The replies of a meter that sends a payload in these parts, 2007."""
    replies = []
    for sequence, part in enumerate(parts):
        more = 0x20 if sequence < len(parts) - 1 else 0
        data = low_first(di) + part + (bytes([sequence]) if sequence else b"")
        replies.append(Frame(address=METER, control=(0x92 if sequence else 0x91) | more, data=data).encode())
    return replies


@given(st.integers(1, 49), st.lists(st.integers(0, 255), max_size=6))
def test_follow_up_frames_are_one_payload_however_it_is_cut(tariffs: int, places: list[int]) -> None:
    payload = b"\x10\0\0\0" * tariffs
    edges = [0, *sorted(place % (len(payload) + 1) for place in places), len(payload)]
    parts = [payload[a:b] for a, b in pairwise(edges)]
    values, asks = converse(v2007.read(METER, ["0001FF00"]), scripted(*chain(parts, "0001FF00")))
    assert plains(values) == ["0.10"] * tariffs
    assert [ask.holds_meter for ask in asks] == [False] + [True] * (len(parts) - 1)
    assert [Deframer().feed(ask.data)[0].data[4:] for ask in asks[1:]] == [bytes([n]) for n in range(1, len(parts))]
    assert converse(v2007.read(METER, ["0001FF00"]), scripted(*chain([payload], "0001FF00")))[0] == values


@pytest.mark.parametrize(
    ("second", "fault"),
    [
        (Frame(address=METER, control=0x92, data=low_first("04001501") + bytes(8) + b"\x01"), Fault.GARBLED),
        (Frame(address=METER, control=0x92, data=low_first("0001FF00") + bytes(4) + b"\x02"), Fault.GARBLED),
        (Frame(address=METER, control=0x92, data=low_first("0001FF00")), Fault.GARBLED),
        (Frame(address=METER, control=0x91, data=low_first("0001FF00") + bytes(4)), Fault.GARBLED),
        (Frame(address="000000000001", control=0x92, data=low_first("0001FF00") + b"\x01"), Fault.GARBLED),
        (Frame(address=METER, control=0xD2, data=b"\x01"), Fault.REFUSED),
        (None, Fault.SILENT),
    ],
)
def test_a_broken_chain_is_never_a_part_of_a_value(second: Frame | None, fault: Fault) -> None:
    first = Frame(address=METER, control=0xB1, data=low_first("0001FF00") + bytes(4)).encode()
    values, _ = converse(v2007.read(METER, ["0001FF00"]), scripted(first, second.encode() if second else b""))
    assert [(value.plain, value.fault) for value in values] == [(None, fault)]


@pytest.mark.parametrize(("first", "second", "taken"), [
    (METER, METER, True), (METER, "202411110003", False), (METER, ANY_METER, False), (ANY_METER, ANY_METER, True),
])  # fmt: skip
def test_of_a_chain_that_anybody_was_asked_for_all_is_from_one_meter(first: str, second: str, taken: bool) -> None:
    replies = [
        Frame(address=first, control=0xB1, data=low_first("0001FF00") + b"\x01\0\0\0").encode(),
        Frame(address=second, control=0x92, data=low_first("0001FF00") + b"\x02\0\0\0\x01").encode(),
    ]
    values, asks = converse(v2007.read(ANY_METER, ["0001FF00"]), scripted(*replies))
    assert plains(values) == (["0.01", "0.02"] if taken else [None])
    assert [Deframer().feed(ask.data)[0].address for ask in asks] == [ANY_METER, first]
    replies = [
        Frame(address=first, control=0xA1, data=low_first("901F") + b"\x01\0\0\0").encode(),
        Frame(address=second, control=0x82, data=low_first("901F") + b"\x02\0\0\0").encode(),
    ]
    assert plains(converse(v1997.read(ANY_METER, ["901F"]), scripted(*replies))[0]) == plains(values)


def test_a_meter_that_never_ends_is_stopped() -> None:
    def meter(question: bytes) -> bytes:
        (asked,) = Deframer().feed(question)
        return Frame(
            address=METER, control=asked.control | 0xA0, data=asked.data[:4] + b"\x00" + asked.data[4:]
        ).encode()

    values, asks = converse(v2007.read(METER, ["0001FF00"]), meter)
    assert len(asks) == 256
    assert [(value.fault, value.detail) for value in values] == [(Fault.GARBLED, "more than 255 follow-up frames")]


def test_a_chain_of_1997_is_asked_for_once_each() -> None:
    di = low_first("901F")
    replies = [
        Frame(address=METER, control=0xA1, data=di + b"\x01\0\0\0\x02\0").encode(),
        Frame(address=METER, control=0x82, data=di + b"\0\0").encode(),
    ]
    values, asks = converse(v1997.read(METER, ["901F"]), scripted(*replies))
    assert plains(values) == ["0.01", "0.02"]
    assert [(ask.repeatable, ask.holds_meter) for ask in asks] == [(True, False), (False, True)]


def test_items_are_read_in_the_order_asked_and_fail_one_by_one() -> None:
    good = Frame(address=METER, control=0x91, data=low_first("02010100") + b"\x17\x23").encode()
    no = Frame(address=METER, control=0xD1, data=b"\x02").encode()
    values, _ = converse(v2007.read(METER, ["02800002", "02010100", "02020100"]), scripted(no, good))
    assert [(value.quantity.name, value.plain, value.fault) for value in values] == [
        ("frequency", None, Fault.ABSENT), ("voltage.a", "231.7", None), ("current.a", None, Fault.SILENT),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("reply", "text", "fault"),
    [
        (Frame(address=METER, control=0x93, data=low_first(METER)), METER, None),
        (Frame(address=ANY_METER, control=0x93, data=low_first(METER)), METER, None),
        (Frame(address="F" * 12, control=0x93, data=b"\xff" * 6), None, None),
        (Frame(address="20241111000B", control=0x93, data=low_first("20241111000B")), None, None),
        (Frame(address="202411110003", control=0x93, data=low_first(METER)), None, Fault.GARBLED),
        (Frame(address=METER, control=0x93, data=low_first(METER)[:5]), None, Fault.GARBLED),
        (None, None, Fault.SILENT),
    ],
)
def test_the_only_meter_says_its_address(reply: Frame | None, text: str | None, fault: Fault | None) -> None:
    (value,) = converse(v2007.read_address(), scripted(reply.encode() if reply else b""))[0]
    assert (value.quantity.name, value.text, value.fault) == ("address", text, fault)
