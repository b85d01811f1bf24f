"""What changes something in a DL/T 645 meter: the bytes of each command, and who may confirm it."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.bcd import low_first
from protocols.dialogue import Garbled, Silence
from protocols.dlt645 import commands, commands_1997
from protocols.dlt645.authority import Authority
from protocols.dlt645.codes import Edition
from protocols.dlt645.commands import Command, Confirmed, Output, Switch
from protocols.dlt645.frame import ANY_METER, BROADCAST, Deframer, Frame
from protocols.dlt645.items import encode_item
from protocols.errors import Refused
from simulators.dlt645 import Dlt645Meter
from simulators.load import Load
from tests.dlt645 import VECTORS, hear

METER = "202411110002"
AT = 1_800_000_000_000
TWO = Authority(level=2, password="123456", operator="00000000")
FOUR = Authority(level=4, password="123456", operator="00000000")
NOBODY = Authority(level=0, password="000000", operator="00000000")
UNTIL = "2026-12-31T23:59:59"

RECORDED: list[tuple[str, Command, int]] = [
    ("V220", commands.write(METER, "04000103", encode_item("04000103", ["15"]), FOUR), 4),
    ("V224", commands.set_time("2026-11-21T15:08:30"), 4),
    ("V082", commands.set_time("2019-12-07T16:28:00", preamble=0), 0),
    ("V225", commands.freeze(BROADCAST), 4),
    ("V226", commands.freeze(METER, minute=0, hour=0), 4),
    ("V227", commands.change_baud(METER, 2400), 4),
    ("V232", commands.clear_meter(METER, TWO), 4),
    ("V233", commands.clear_events(METER, TWO), 4),
    ("V234", commands.clear_events(METER, TWO, events="033000FF"), 4),
    ("V235", commands.switch(METER, Switch.CLOSE_PERMITTED, UNTIL, TWO), 4),
    ("V236", commands.switch(METER, Switch.KEEP_POWER, UNTIL, TWO), 4),
    ("V194", commands.switch("111111111111", Switch.TRIP, "2018-05-12T15:41:24", NOBODY, preamble=0), 0),
    ("V090", commands.pass_security("000000000001", "07000001", "00000000", preamble=0), 0),
    ("V244", commands_1997.write_address(METER), 4),
]  # fmt: skip

ANSWERED: list[tuple[Callable[[], Command], int, bytes, str]] = [
    (lambda: commands.write(METER, "04000103", b"\x15", FOUR), 0x94, b"", METER),
    (lambda: commands.write_address(METER), 0x95, b"", METER),
    (lambda: commands.freeze(METER), 0x96, b"", METER),
    (lambda: commands.change_baud(METER, 9600), 0x97, b"\x20", METER),
    (lambda: commands.clear_demand(METER, TWO), 0x99, b"", METER),
    (lambda: commands.clear_meter(METER, TWO), 0x9A, b"", METER),
    (lambda: commands.clear_events(METER, TWO), 0x9B, b"", METER),
    (lambda: commands.switch(METER, Switch.TRIP, UNTIL, TWO), 0x9C, b"", METER),
    (lambda: commands.switch_sealed(METER, bytes(20), TWO), 0x9C, b"", METER),
    (lambda: commands.set_output(METER, Output.SLOT_SWITCH), 0x9D, b"\x02", METER),
    (lambda: commands.pass_security(METER, "070000FF", "12345678", bytes(24)), 0x83, b"\xff\x00\x00\x07abc", METER),
    (lambda: commands_1997.write(METER, "C010", b"\x06\x06\x07\x19", "00000000"), 0x84, b"", METER),
    (lambda: commands_1997.write_address("202411110003", address=METER), 0x8A, b"", "202411110003"),
    (lambda: commands_1997.change_baud(METER, 4), 0x8C, b"", METER),
    (lambda: commands_1997.change_password(METER, "12345600", "65432101"), 0x8F, b"\x01\x21\x43\x65", METER),
    (lambda: commands_1997.clear_demand(METER, "12345600"), 0x90, b"", METER),
]  # fmt: skip
"""Each command, the control byte of its confirmation, the confirmation's data, and whose address it bears."""
SILENT_WHEN_REFUSING = {0x95, 0x9D}


def answer_to(command: Command, came: bytes) -> Any:
    """What a command makes of the bytes that came."""
    ask = next(command)
    assert not ask.repeatable
    try:
        command.send(hear(ask, came))
    except StopIteration as stop:
        return stop.value
    raise AssertionError("a command asks once")


@pytest.mark.parametrize(("vector", "command", "preamble"), RECORDED, ids=lambda it: it if isinstance(it, str) else "")
def test_a_command_is_the_recorded_frame(vector: str, command: Command, preamble: int) -> None:
    recorded = next(v for v in VECTORS if v["id"] == vector)
    assert recorded["preamble_fe"] == preamble
    assert next(command).data.hex() == recorded["hex"]


@pytest.mark.parametrize(("make", "control", "data", "address"), ANSWERED, ids=lambda it: f"{it:02X}" if isinstance(it, int) else "")  # fmt: skip  # noqa: E501
def test_only_its_own_confirmation_confirms(
    make: Callable[[], Command], control: int, data: bytes, address: str
) -> None:
    right = Frame(address=address, control=control, data=data)
    confirmed = answer_to(make(), right.encode())
    assert isinstance(confirmed, Confirmed)
    assert confirmed.data == data
    assert len(right.encode()) <= next(make()).reply_max
    for other in (
        Frame(address="000000000009", control=control, data=data),
        Frame(address=address, control=control ^ 0x01, data=data),
        Frame(address=address, control=control & 0x7F, data=data),
        Frame(address=address, control=control | 0x20, data=data),
        Frame(address=address, control=control, data=b"\x55" + data),
        *([Frame(address=address, control=control, data=data + b"\x55")] if control != 0x83 else []),
    ):
        assert isinstance(answer_to(make(), other.encode()), Garbled)
    assert answer_to(make(), b"") == Silence()


@pytest.mark.parametrize(("make", "control", "data", "address"), ANSWERED, ids=lambda it: f"{it:02X}" if isinstance(it, int) else "")  # fmt: skip  # noqa: E501
def test_a_refusal_is_raised_with_its_reason(
    make: Callable[[], Command], control: int, data: bytes, address: str
) -> None:
    error = b"\x04\x00" if control == 0x83 else b"\x04"
    refused = Frame(address=address, control=control | 0x40, data=error).encode()
    if control in SILENT_WHEN_REFUSING:
        assert isinstance(answer_to(make(), refused), Garbled)
        return
    with pytest.raises(Refused, match=r"ESAM|password") as raised:
        answer_to(make(), refused)
    assert not raised.value.absent


def test_passwords_of_1997_begin_with_their_level_on_the_wire() -> None:
    """As a meter's firmware takes them apart: PA P0 P1 P2, twice to change one, once to clear."""
    (frame,) = Deframer().feed(next(commands_1997.change_password(METER, "12345600", "65432101")).data)
    assert (frame.control, frame.data.hex()) == (0x0F, "0056341201214365")
    (frame,) = Deframer().feed(next(commands_1997.clear_demand(METER, "12345602")).data)
    assert (frame.control, frame.data.hex()) == (0x10, "02563412")


def test_a_meter_of_1997_confirms_its_new_address_under_the_old_one() -> None:
    """Asked as the only one on the line, it answers with the address that it had (a meter's firmware)."""
    for old in ("000000000001", METER):
        confirmed = Frame(address=old, control=0x8A).encode()
        assert isinstance(answer_to(commands_1997.write_address(METER), confirmed), Confirmed)
        named = answer_to(commands_1997.write_address(METER, address="000000000002"), confirmed)
        assert isinstance(named, Confirmed) == (old == METER)


def test_a_switch_may_be_refused_with_two_bytes() -> None:
    refused = Frame(address=METER, control=0xDC, data=b"\x01\x04").encode()
    with pytest.raises(Refused, match="0401"):
        answer_to(commands.switch(METER, Switch.CLOSE, UNTIL, TWO), refused)


@pytest.mark.parametrize("command", [lambda: commands.set_time(UNTIL), lambda: commands.freeze(BROADCAST)])
def test_nobody_answers_a_broadcast(command: Callable[[], Command]) -> None:
    assert next(command()).reply_max == 0
    for control in (0x88, 0x96, 0xC8, 0xD6):
        frame = Frame(address=BROADCAST, control=control)
        assert isinstance(answer_to(command(), frame.encode()), Garbled)


@pytest.mark.parametrize("address", [ANY_METER, BROADCAST, "AA2411110002", "1", "", "２０２４１１１１０００２"])
def test_nothing_is_changed_in_more_than_one_meter(address: str) -> None:
    makers: list[Callable[[], Command]] = [
        lambda: commands.write(address, "04000103", b"\x15", FOUR),
        lambda: commands.write_address(address),
        lambda: commands.change_baud(address, 9600),
        lambda: commands.clear_demand(address, TWO),
        lambda: commands.clear_meter(address, TWO),
        lambda: commands.clear_events(address, TWO),
        lambda: commands.switch(address, Switch.TRIP, UNTIL, TWO),
        lambda: commands.switch_sealed(address, bytes(20), TWO),
        lambda: commands.set_output(address, Output.CLOCK_SECOND),
        lambda: commands.pass_security(address, "07000001", "00000000"),
        lambda: commands_1997.write(address, "C010", b"", "00000000"),
        lambda: commands_1997.change_baud(address, 4),
        lambda: commands_1997.write_address(address),
        lambda: commands_1997.change_password(address, "00000000", "00000000"),
        lambda: commands_1997.clear_demand(address, "00000000"),
    ]
    for make in makers:
        with pytest.raises(ValueError, match="address of one meter"):
            make()


@pytest.mark.parametrize(
    "make",
    [
        lambda: commands.write(METER, "0400010", b"", FOUR),
        lambda: commands.write(METER, "04000103", bytes(39), FOUR),
        lambda: commands_1997.write(METER, "C010", b"", "000000"),
        lambda: commands_1997.write(METER, "C010", bytes(45), "00000000"),
        lambda: commands_1997.change_password(METER, "00000000", "000000"),
        lambda: commands_1997.clear_demand(METER, "0000000g"),
        lambda: commands.freeze(METER, hour=1),
        lambda: commands.freeze(METER, minute=60),
        lambda: commands.freeze(METER, minute=0, hour=0, day=0),
        lambda: commands.set_time("2026-11-21T15:08"),
        lambda: commands.change_baud(METER, 1201),
        lambda: commands.clear_events(METER, TWO, events="03300000"),
        lambda: commands.switch(METER, Switch.TRIP, "2026-12-31", TWO),
        lambda: commands.switch_sealed(METER, bytes(8), TWO),
        lambda: commands.pass_security(METER, "04000401", "00000000"),
        lambda: Authority(level=100, password="000000", operator="00000000"),
        lambda: Authority(level=2, password="0000", operator="00000000"),
        lambda: Authority(level=2, password="000000", operator="0000000g"),
    ],
)
def test_what_cannot_be_told_is_refused_at_once(make: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"expected|no such"):
        make()


def test_a_write_of_50_bytes_is_the_longest() -> None:
    for command in (
        commands.write(METER, "04000103", bytes(38), FOUR), commands_1997.write(METER, "C010", bytes(44), "00000000")
    ):  # fmt: skip
        assert next(command).data[4 + 9] == 50


def test_the_outputs_of_the_multi_function_terminal_have_their_numbers() -> None:
    assert [next(commands.set_output(METER, output)).data[4 + 10] - 0x33 for output in Output] == [0, 1, 2]


def test_a_password_is_not_shown() -> None:
    assert "123456" not in repr(TWO)
    with pytest.raises(ValueError) as raised:
        Authority(level=2, password="1234567", operator="00000000")
    assert "1234567" not in str(raised.value)


@pytest.mark.parametrize(
    ("parts", "wire"),
    [
        ({}, "99999999"), ({"minute": 30}, "99999930"), ({"minute": 0, "hour": 12}, "99991200"),
        ({"minute": 0, "hour": 0, "day": 1}, "99010000"),
        ({"minute": 5, "hour": 6, "day": 7, "month": 8}, "08070605"),
    ],
)  # fmt: skip
def test_the_moments_of_a_freeze(parts: dict[str, int], wire: str) -> None:
    (frame,) = Deframer().feed(next(commands.freeze(METER, **parts)).data)
    assert frame.data == low_first(wire)


def test_a_freeze_is_made_and_read_back() -> None:
    meter = Dlt645Meter(METER, Load(5))
    command = commands.freeze(METER)
    confirmed = answer_to(command, meter.handle(next(commands.freeze(METER)).data, AT) or b"")
    assert isinstance(confirmed, Confirmed)
    frozen = meter.load.plain("energy.active.import.total", AT)
    question = Frame(address=METER, control=0x11, data=low_first("05010101"))
    answer = meter.answer(question, AT + 3_600_000)
    assert answer is not None
    assert answer.values["energy.active.import.total.instant_1"] == frozen


def test_a_freeze_for_all_is_made_in_silence() -> None:
    meter = Dlt645Meter(METER, Load(5))
    for at in range(4):
        assert meter.handle(next(commands.freeze(BROADCAST)).data, AT + 60_000 * at) is None
    question = Frame(address=METER, control=0x11, data=low_first("05010003"))
    answer = meter.answer(question, AT + 3_600_000)
    assert answer is not None
    assert answer.values == {"record.time.instant_3": "2027-01-15T16:01"}


@given(
    st.binary(max_size=2) | st.binary(max_size=40),
    st.sampled_from([0, 0x20, 0x40, 0x60]) | st.integers(0, 255),
    st.sampled_from(range(len(ANSWERED))),
)
def test_any_frame_confirms_refuses_or_is_passed_over(data: bytes, turned: int, which: int) -> None:
    make, right, _, address = ANSWERED[which]
    control = right ^ turned
    try:
        found = answer_to(make(), Frame(address=address, control=control, data=data).encode())
    except Refused:
        assert control & ~0x20 == right | 0x40
        return
    assert isinstance(found, Garbled) or (isinstance(found, Confirmed) and control == right)


def test_a_simulated_meter_lets_nobody_in() -> None:
    tries: list[tuple[Edition, Callable[[], Command]]] = [
        (Edition.E2007, lambda: commands.clear_meter(METER, TWO)),
        (Edition.E1997, lambda: commands_1997.write(METER, "C010", b"", "00000000")),
    ]
    for edition, make in tries:
        meter = Dlt645Meter(METER, Load(5), edition=edition)
        with pytest.raises(Refused, match="04"):
            answer_to(make(), meter.handle(next(make()).data, AT) or b"")
