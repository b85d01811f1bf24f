"""What else is said to a DL/T 645-2007 meter: writing, setting its clock, freezing, clearing, switching.

Nothing here is sent by any command or driver: writes and controls wait for a decision on who may send them. Password,
its level and the operator code are always given by the caller. None of these questions is repeated by the bus: whether
one that was not confirmed was carried out is for the asker to find out. A refusal is raised as Refused.
Codes 1C, 1D and 03 are supplements of the grid, known from firmware. Broadcast: only 08 and 16, which nobody answers.
"""

from collections.abc import Generator
from dataclasses import dataclass
from enum import Enum

from protocols.bcd import low_first
from protocols.dialogue import Answer, Ask, Garbled, Reply, Silence
from protocols.dlt645 import moment
from protocols.dlt645.authority import Authority, hexed
from protocols.dlt645.codes import Edition, refusal_of
from protocols.dlt645.frame import ANY_METER, BROADCAST, OVERHEAD, Frame
from protocols.errors import Refused

WRITE_MAX = 50
"""Longest DATA of a write (DL/T 645-2007: at most 50), identifier, password and operator included."""
REPLY_MAX = 200
_SECURITY = 0x03
BAUD_WORDS = {600: 0x02, 1200: 0x04, 2400: 0x08, 4800: 0x10, 9600: 0x20, 19200: 0x40}
"""Rate word Z, one bit each (DL/T 645-2007 Appendix C)."""
ALL_EVENTS = "FFFFFFFF"


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmed:
    """A command that the meter has confirmed. data: of its answer, wire order. Times as of a Reply."""

    data: bytes
    sent_at: int
    ended_at: int


Command = Generator[Ask[Frame], Answer[Frame], Confirmed | Silence | Garbled]
"""A dialogue of one question. Raises Refused when the meter says no."""


class Switch(Enum):
    """N1 of 1C."""

    TRIP = 0x1A
    CLOSE_PERMITTED = 0x1B
    CLOSE = 0x1C
    ALARM = 0x2A
    ALARM_OFF = 0x2B
    KEEP_POWER = 0x3A
    """Refuses trips until released."""
    KEEP_POWER_OFF = 0x3B


class Output(Enum):
    """What the multi-function terminal gives (1D); the meter goes back to the first at power-up."""

    CLOCK_SECOND = 0
    DEMAND_PERIOD = 1
    SLOT_SWITCH = 2


def write(address: str, di: str, data: bytes, authority: Authority, *, preamble: int = 4) -> Command:
    """14: set an identifier (8 hex digits, high byte first); data in wire order, as `encode_item` gives it."""
    told = hexed(di, 4, "an identifier") + authority.encode() + data
    if len(told) > WRITE_MAX:
        raise ValueError(f"expected at most {WRITE_MAX} bytes in a write, got {len(told)}")
    return _command(one_meter(address), 0x14, told, preamble)


def write_address(new: str, *, preamble: int = 4) -> Command:
    """15: give the only meter on the line another address. It answers with the new one, and is silent if it refuses."""
    return _command(ANY_METER, 0x15, low_first(one_meter(new)), preamble, answers=new, refusals=())


def freeze(
    address: str, *, month: int | None = None, day: int | None = None, hour: int | None = None,
    minute: int | None = None, preamble: int = 4,
) -> Command:  # fmt: skip
    """16: freeze. Nothing given: now; minute: each hour; and hour: each day; and day: each month; and month: then.

    Broadcast to all meters: address 999999999999; then nobody answers, and Silence is what to expect.
    """
    parts = (minute, hour, day, month)
    given = [part for part in parts if part is not None]
    if list(parts[: len(given)]) != given:
        raise ValueError("expected a minute, then an hour, then a day, then a month: none without those before it")
    limits = ((0, 59), (0, 23), (1, 31), (1, 12))
    if any(not low <= part <= high for part, (low, high) in zip(given, limits, strict=False)):
        raise ValueError(f"no such moment: month {month}, day {day}, {hour}:{minute}")
    told = bytes.fromhex("".join(f"{99 if part is None else part:02d}" for part in parts))
    if address == BROADCAST:
        return _command(BROADCAST, 0x16, told, preamble, confirmed=None)
    return _command(one_meter(address), 0x16, told, preamble)


def set_time(iso: str, *, preamble: int = 4) -> Command:
    """08: tell all meters the time, `2026-11-21T15:08:30`, in both editions. Nobody answers.

    A meter takes it if it is at most 5 minutes off, once a day; not to be sent around midnight.
    """
    found = moment.parts_of(iso)
    if len(found) != 6:
        raise ValueError(f"expected a time to the second, got {iso!r}")
    return _command(BROADCAST, 0x08, low_first(moment.join(found, "YYMMDDhhmmss")), preamble, confirmed=None)


def change_baud(address: str, baud: int, *, preamble: int = 4) -> Command:
    """17: another rate, from the meter's confirmation on. Raises ValueError for a rate that has no word."""
    if baud not in BAUD_WORDS:
        raise ValueError(f"expected one of {', '.join(map(str, BAUD_WORDS))}, got {baud}")
    word = bytes((BAUD_WORDS[baud],))
    return _command(one_meter(address), 0x17, word, preamble, confirmed=word)


def clear_demand(address: str, authority: Authority, *, preamble: int = 4) -> Command:
    """19: the maximum demands start again."""
    return _command(one_meter(address), 0x19, authority.encode(), preamble)


def clear_meter(address: str, authority: Authority, *, preamble: int = 4) -> Command:
    """1A: all energies, demands, freezes and records are lost."""
    return _command(one_meter(address), 0x1A, authority.encode(), preamble)


def clear_events(address: str, authority: Authority, *, events: str = ALL_EVENTS, preamble: int = 4) -> Command:
    """1B: records of events are lost. events: all, or a class as DI3 DI2 DI1 FF."""
    told = hexed(events, 4, "a class of events")
    if told[0] != 0xFF:
        raise ValueError(f"expected an identifier that ends in FF, got {events!r}")
    return _command(one_meter(address), 0x1B, authority.encode() + told, preamble)


def switch(address: str, what: Switch, until: str, authority: Authority, *, preamble: int = 4) -> Command:
    """1C: trip, let close, close, alarm, keep power on. until: the meter's civil time to the second after which it
    refuses the command. A meter may refuse with one byte, some with two."""
    found = moment.parts_of(until)
    if len(found) != 6:
        raise ValueError(f"expected a time to the second, got {until!r}")
    told = bytes((what.value, 0)) + low_first(moment.join(found, "YYMMDDhhmmss"))
    return _command(one_meter(address), 0x1C, authority.encode() + told, preamble, refusals=(1, 2))


def switch_sealed(address: str, block: bytes, authority: Authority, *, preamble: int = 4) -> Command:
    """1C with its 20 bytes encrypted by the utility for the meter's security module: passed on as they are."""
    if len(block) != 20:
        raise ValueError(f"expected 20 bytes, got {len(block)}")
    return _command(one_meter(address), 0x1C, authority.encode() + block, preamble, refusals=(1, 2))


def set_output(address: str, output: Output, *, preamble: int = 4) -> Command:
    """1D: what the multi-function terminal gives. Confirmed by the same byte; a meter that refuses is silent."""
    word = bytes((output.value,))
    return _command(one_meter(address), 0x1D, word, preamble, confirmed=word, refusals=())


def pass_security(address: str, di: str, operator: str, data: bytes = b"", *, preamble: int = 4) -> Command:
    """03: a question to the meter's security module (07xxxxxx), made by the utility and passed through; the answer's
    data too, identifier first. Nothing of it is computed or understood here."""
    wire_di = hexed(di, 4, "an identifier")
    if wire_di[3] != 0x07:
        raise ValueError(f"expected an identifier 07xxxxxx, got {di!r}")
    told = wire_di + hexed(operator, 4, "an operator code") + data
    return _command(one_meter(address), _SECURITY, told, preamble, confirmed=wire_di, refusals=(2,))


def one_meter(address: str) -> str:
    """The address, if it is that of one meter. Raises ValueError for wildcards and broadcast."""
    if not (len(address) == 12 and address.isdecimal() and address.isascii()) or address == BROADCAST:
        raise ValueError(f"expected the address of one meter, 12 digits, got {address!r}")
    return address


def _command(
    address: str, function: int, told: bytes, preamble: int, *, confirmed: bytes | None = b"",
    answers: str | None = None, refusals: tuple[int, ...] = (1,),
) -> Command:  # fmt: skip
    """confirmed: the data of the right answer (of 03: its beginning); None: nothing answers. answers: whose answer it
    is, if not that of the address. refusals: how many bytes a refusal may have."""

    def accepts(frame: Frame) -> bool:
        if confirmed is None or frame.address != (answers or address) or not frame.from_meter or frame.more:
            return False
        if frame.function != function:
            return False
        if frame.abnormal:
            return len(frame.data) in refusals
        return frame.data.startswith(confirmed) if function == _SECURITY else frame.data == confirmed

    question = Frame(address=address, control=function, data=told)
    longest = REPLY_MAX if function == _SECURITY else max((len(confirmed or b""), *refusals))
    reply_max = preamble + OVERHEAD + longest if confirmed is not None else 0
    ask = Ask(data=question.encode(preamble), reply_max=reply_max, accepts=accepts, repeatable=False)
    return confirmed_or_refused(ask, Edition.E2007)


def confirmed_or_refused(ask: Ask[Frame], edition: Edition) -> Command:
    """One question, and what became of it."""
    answer = yield ask
    if not isinstance(answer, Reply):
        return answer
    refusal = refusal_of(answer.frame, edition)
    if refusal is not None:
        raise Refused(str(refusal), code=refusal.code, absent=refusal.absent)
    return Confirmed(data=answer.frame.data, sent_at=answer.sent_at, ended_at=answer.ended_at)
