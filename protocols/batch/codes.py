"""What rows and batch bodies have in common: the numbers that stand for words, the limits, and how numbers are told.

The position of a word in its table is its number on the wire and in the store: add at the end, never reorder.
"""

from decimal import Decimal, InvalidOperation
from enum import Enum
from functools import lru_cache
from typing import Final, TypeVar

from protocols.capture import Fault, Quality, Source, TimeState
from protocols.errors import Malformed
from protocols.quantity import Form, Kind, Quantity, Side, by_number

QUALITIES: Final = (Quality.GOOD, Quality.DOUBTFUL, Quality.UNAVAILABLE, Quality.INVALID)
FAULTS: Final = (
    Fault.BUS, Fault.SILENT, Fault.GARBLED, Fault.REFUSED, Fault.ABSENT, Fault.IMPLAUSIBLE, Fault.CLOCK, Fault.MISSED,
    Fault.INTERNAL, Fault.DROPPED,
)  # fmt: skip
SOURCES: Final = (
    Source.METER_FREEZE, Source.METER_LOAD_RECORD, Source.METER_LIVE, Source.GATEWAY_FREEZE, Source.MANUAL,
    Source.ESTIMATED,
)  # fmt: skip
TIME_STATES: Final = (TimeState.TRUSTED, TimeState.UNTRUSTED)
KINDS: Final = (Kind.REGISTER, Kind.DEMAND, Kind.INSTANT, Kind.CLOCK, Kind.IDENTITY, Kind.STATUS, Kind.EVENT)
FORMS: Final = (Form.NUMBER, Form.TIME, Form.TEXT)
SIDES: Final = (Side.NONE, Side.CURRENT, Side.VOLTAGE, Side.BOTH)

RECORDS_MAX: Final = 2048
"""In one body, as the next four. Together they keep the reading of any body below 50 ms (`tests/heavy_bodies.py`).
512 meters read every quarter of an hour give as many in an hour."""
VALUES_MAX: Final = 8192
"""Values of captures, exceptions among them (again), and details of events. An hour of the reference load has 8,000."""
COLUMNS_MAX: Final = 1024
"""Quantities of all shapes together, each of which is a column of values; so also the values of one capture."""
STRINGS_MAX: Final = 16_384
RAW_MAX: Final = 2 << 20
"""Bytes that a body may inflate to."""
TEXT_MAX: Final = 16_384
"""UTF-8 bytes of one text."""
WHOLE_MAX: Final = 2**53
"""All whole numbers in columns stay below it, either way: whole also for readers that only have doubles."""
TIME_MAX: Final = 2**52
"""Times and clock errors stay below it, so that the difference of two stays below WHOLE_MAX."""
ROW_MAX: Final = 1 << 20
"""Bytes of one row. A record that fits always fits into a body of its own."""
KEYS_MAX: Final = 1024
"""Details of one event."""
INLINE_MAX: Final = 2**31
"""The numbers of a quantity outside the catalogue stay below it."""
DIGITS_MAX: Final = 400
"""A number written plainly may have so many digits on either side of its point: enough for every 64-bit float."""

WordT = TypeVar("WordT", bound=Enum)


class TooMuch(ValueError):
    """More than one body may hold. Any one record that could be packed fits into a body of its own."""


def numbered(words: tuple[WordT, ...]) -> dict[WordT, int]:
    """Word to number."""
    return {word: number for number, word in enumerate(words)}


QUALITY_CODES: Final = numbered(QUALITIES)
FAULT_CODES: Final = numbered(FAULTS)


def word(words: tuple[WordT, ...], number: int) -> WordT:
    """Number to word. Raises Malformed."""
    if not 0 <= number < len(words):
        raise Malformed(f"{type(words[0]).__name__}: expected 0..{len(words) - 1}, got {number}")
    return words[number]


def write_number(number: Decimal) -> str:
    """Every digit of the number, its sign and its exponent, as Decimal's own text has them.

    That is to-scientific-string of the General Decimal Arithmetic specification: 230.10, -0.0, 1E-7, 0E+3.
    Raises ValueError if it cannot be written plainly in DIGITS_MAX digits on either side of the point.
    """
    text = str(number)
    if len(text) > DIGITS_MAX or ("E" in text and _beyond(number)):
        raise ValueError(f"a number of more than {DIGITS_MAX} digits: {text:.40}")
    return text


def read_number(text: str) -> Decimal:
    """The number that such a text stands for: only that one text stands for it. Raises Malformed."""
    if len(text) <= DIGITS_MAX:
        try:
            number = Decimal(text)
        except InvalidOperation:
            raise Malformed(f"not a number: {text!r:.60}") from None
        if number.is_finite() and str(number) == text and not ("E" in text and _beyond(number)):
            return number
    raise Malformed(f"not a number of at most {DIGITS_MAX} digits in its own form: {text!r:.60}")


def _beyond(number: Decimal) -> bool:
    exponent = number.as_tuple().exponent
    return not isinstance(exponent, int) or abs(exponent) > DIGITS_MAX or number.adjusted() > DIGITS_MAX


def catalogued(quantity: Quantity) -> bool:
    """Whether the quantity's number says all about it."""
    if not quantity.number:
        return False
    try:
        found = by_number(quantity.number)
    except KeyError:
        return False
    return found is quantity or found == quantity


def quantity_of(number: int) -> Quantity:
    """The quantity of the catalogue with that number. Raises Malformed if this catalogue has none."""
    try:
        return by_number(number)
    except KeyError as error:
        raise Malformed(f"{error.args[0]}; the sender's catalogue may be newer") from None


def inline(quantity: Quantity) -> tuple[tuple[int, ...], tuple[str, ...], tuple[str | None, ...]]:
    """A quantity outside the catalogue, in full: its numbers, its texts and its optional texts."""
    q = quantity
    numbers = (q.number, KINDS.index(q.kind), FORMS.index(q.form), SIDES.index(q.side), q.tariff, q.last)
    if min(numbers) < 0 or max(numbers) >= INLINE_MAX:
        raise ValueError(f"{q.name}: number, tariff, settlement day: expected 0..2^31-1, got {numbers}")
    return numbers, (q.name, q.unit, q.zh), (q.phase, q.obis, q.di, q.oad, q.cim)


@lru_cache(maxsize=1024)
def outlined(numbers: tuple[int, ...], texts: tuple[str, ...], options: tuple[str | None, ...]) -> Quantity:
    """The quantity told by `inline`, one object for one telling. Raises Malformed."""
    number, kind, form, side, tariff, last = numbers
    name, unit, zh = texts
    phase, obis, di, oad, cim = options
    if not name:
        raise Malformed("a quantity without a name")
    return Quantity(
        number=number, name=name, unit=unit, kind=word(KINDS, kind), form=word(FORMS, form), phase=phase,
        tariff=tariff, last=last, side=word(SIDES, side), obis=obis, di=di, oad=oad, cim=cim, zh=zh,
    )  # fmt: skip


def whole(value: int, what: str) -> int:
    """The value, if it is below WHOLE_MAX either way. Raises ValueError."""
    if not -WHOLE_MAX < value < WHOLE_MAX:
        raise ValueError(f"{what}: expected less than 2^53 either way, got {value}")
    return value


def instant(value: int, what: str) -> int:
    """The value, if it is below TIME_MAX either way. Raises ValueError."""
    if not -TIME_MAX < value < TIME_MAX:
        raise ValueError(f"{what}: expected less than 2^52 ms either way, got {value}")
    return value


def short(text: str) -> str:
    """The text, if it has at most TEXT_MAX bytes in UTF-8. Raises ValueError."""
    if len(text) > TEXT_MAX // 4 and len(text.encode()) > TEXT_MAX:
        raise ValueError(f"a text of more than {TEXT_MAX} bytes: {text:.40}...")
    return text
