"""A column of values: one quantity, from one capture after the other, told as whole numbers with rare exceptions.

    1 byte     what + 4 * drops + 8 * exceptions      what: 0 numbers, 1 times, 2 texts; the others 0 or 1
    numbers:   1 byte exponent + 64, a column of whole numbers, and with `drops` a column of how many zeros at its end
               each number does not have: number = whole * 10^exponent, written with exponent + drop
    times and texts: a column of indices into the table of texts
    exceptions: varint count, and for each: varint places since the last exception (since the start of the column),
               1 byte   quality + 4 * what + 32 * has fault + 64 * has detail
                        what: 0 as in the column, 1 none, 2 number, 3 time, 4 text
               then, as they are there: varint index of its text (what 2 to 4), 1 byte fault, varint index of detail

A value without exception is good, has no detail, and is of the column's kind.
"""

from collections.abc import Callable, Sequence
from decimal import Context, Decimal
from itertools import repeat
from operator import attrgetter
from typing import Final

from protocols.batch.codes import (
    FAULT_CODES,
    FAULTS,
    QUALITIES,
    QUALITY_CODES,
    STRINGS_MAX,
    WHOLE_MAX,
    read_number,
    short,
    word,
    write_number,
)
from protocols.batch.ints import Reader, Runs, write_column, write_varint
from protocols.capture import Quality, Value, measured, stated
from protocols.errors import Malformed
from protocols.quantity import Quantity

NUMBERS, TIMES, TEXTS = range(3)
AS_COLUMN, NONE, NUMBER, TIME, TEXT = range(5)
EXPONENT_BIAS: Final = 64
DROP_MAX: Final = 15
COLUMN_DIGITS: Final = 15
"""Numbers of more digits, and negative zero, are told as texts: rare, and safe for readers that only have doubles."""

_GOOD = Quality.GOOD
_EXACT = Context(prec=40)
"""Multiplies without rounding, whatever the thread's own context is."""
_numbers, _times, _texts = attrgetter("number"), attrgetter("time"), attrgetter("text")
_qualities, _details = attrgetter("quality"), attrgetter("detail")


class Texts:
    """The table of texts, as it grows."""

    def __init__(self) -> None:
        self.table: dict[str, int] = {}

    def index(self, text: str) -> int:
        """Its place in the table. Raises ValueError if it is too long."""
        found = self.table.get(text)
        if found is None:
            found = self.table[short(text)] = len(self.table)
        return found


def write_values(out: bytearray, column: Sequence[Value], runs: Runs, texts: Texts) -> int:
    """Append one quantity's values; returns how many exceptions are among them. Raises ValueError for numbers and
    texts beyond the limits."""
    count = len(column)
    numbers: list[Decimal | None] = list(map(_numbers, column))
    if None not in numbers:
        clean = list(map(_qualities, column)).count(_GOOD) == count and list(map(_details, column)).count(None) == count
        fast = _same_exponent(numbers)  # type: ignore[arg-type]
        if clean and fast is not None:
            out += bytes((NUMBERS, fast[0] + EXPONENT_BIAS))
            write_column(out, fast[1], runs)
            return 0
    return _write_any(out, column, numbers, runs, texts)


def _same_exponent(numbers: list[Decimal]) -> tuple[int, list[int]] | None:
    """(exponent, wholes) of numbers that all have one exponent and no surprises, else None. The common case, fast."""
    first = numbers[0]
    exponent = first.as_tuple().exponent
    if not isinstance(exponent, int) or not all(map(first.same_quantum, numbers)):
        return None
    written = ",".join(map(str, numbers))
    if "E" in written or "-0" in written:
        return None
    wholes = list(map(int, written.replace(".", "").split(",")))
    limit = 10**COLUMN_DIGITS
    return (exponent, wholes) if -limit < min(wholes) and max(wholes) < limit else None


def _write_any(out: bytearray, column: Sequence[Value], numbers: list[Decimal | None], runs: Runs, texts: Texts) -> int:
    """Append any column."""
    times, words = list(map(_times, column)), list(map(_texts, column))
    missing = [each.count(None) for each in (numbers, times, words)]
    what = missing.index(min(missing))
    drops: list[int] = []
    if what == NUMBERS:
        exponent, wholes, drops, regular = _scaled(numbers)
        head = bytes((exponent + EXPONENT_BIAS,))
    else:
        chosen = times if what == TIMES else words
        regular = [text is not None for text in chosen]
        wholes = [0 if text is None else texts.index(text) for text in chosen]
        head = b""
    odd = [
        at
        for at, (value, fits) in enumerate(zip(column, regular, strict=True))
        if not fits or value.quality is not _GOOD or value.detail is not None
    ]
    out.append(what | bool(any(drops)) << 2 | bool(odd) << 3)
    out += head
    write_column(out, _bridged(wholes, regular), runs)
    if any(drops):
        write_column(out, _bridged(drops, regular), runs)
    if odd:
        write_varint(out, len(odd))
        last = 0
        for at in odd:
            write_varint(out, at - last)
            last = at
            _write_exception(out, column[at], regular[at], texts)
    return len(odd)


def _bridged(wholes: list[int], regular: list[bool]) -> list[int]:
    """The column with each place that is not told by it filled so that the differences are small."""
    if all(regular):
        return wholes
    filled, last = [], next((whole for whole, fits in zip(wholes, regular, strict=True) if fits), 0)
    for whole, fits in zip(wholes, regular, strict=True):
        last = whole if fits else last
        filled.append(last)
    return filled


def _scaled(numbers: list[Decimal | None]) -> tuple[int, list[int], list[int], list[bool]]:
    """(exponent, wholes, drops, whether the column can tell the number) of numbers with exponents of their own.

    The exponent is the lowest with which every number that has at least this exponent fits into the column.
    """
    parts = [None if number is None else _split(number) for number in numbers]
    whole = [part for part in parts if part is not None]
    chosen = 0
    for chosen in sorted({exponent for _, exponent in whole}):
        told = [part for part in whole if 0 <= part[1] - chosen <= DROP_MAX]
        if all(len(str(abs(number))) + exponent - chosen <= COLUMN_DIGITS for number, exponent in told if number):
            break
    wholes, drops, regular = [], [], []
    for part in parts:
        number, exponent = part or (0, 0)
        drop = exponent - chosen
        fits = part is not None and 0 <= drop <= DROP_MAX and abs(number) < 10 ** (COLUMN_DIGITS - drop)
        wholes.append(number * 10**drop if fits else 0)
        drops.append(drop if fits else 0)
        regular.append(fits)
    return chosen, wholes, drops, regular


def _split(number: Decimal) -> tuple[int, int] | None:
    """(digits with sign, exponent), or None where a column cannot tell the number."""
    sign, digits, exponent = number.as_tuple()
    if not isinstance(exponent, int) or abs(exponent) >= EXPONENT_BIAS or len(digits) > COLUMN_DIGITS:
        return None
    if sign and not number:
        return None
    return int(number.scaleb(-exponent, _EXACT)), exponent


def _write_exception(out: bytearray, value: Value, regular: bool, texts: Texts) -> None:
    what, text = NONE, None
    if regular:
        what = AS_COLUMN
    elif value.number is not None:
        what, text = NUMBER, write_number(value.number)
    elif value.time is not None:
        what, text = TIME, value.time
    elif value.text is not None:
        what, text = TEXT, value.text
    fault, detail = value.fault, value.detail
    out.append(QUALITY_CODES[value.quality] | what << 2 | (fault is not None) << 5 | (detail is not None) << 6)
    if text is not None:
        write_varint(out, texts.index(text))
    if fault is not None:
        out.append(FAULT_CODES[fault])
    if detail is not None:
        write_varint(out, texts.index(detail))


def read_values(
    reader: Reader, quantity: Quantity, runs: Runs, texts: list[str], build: Callable[[int], None]
) -> list[Value]:
    """The next column of values; `build` is told of how many exceptions there are before they are read. Raises
    Malformed, and ValueError for a value that contradicts itself."""
    head = reader.byte()
    what = head & 3
    if head > 15 or what > TEXTS or (head & 4 and what != NUMBERS):
        raise Malformed(f"column of {quantity.name}: expected numbers, times or texts, got {head:02X}")
    if what == NUMBERS:
        exponent = reader.byte() - EXPONENT_BIAS
        wholes = _bounded(reader.column(runs), quantity)
        drops = reader.column(runs) if head & 4 else []
        values = list(map(measured, repeat(quantity), _numbers_of(wholes, exponent, drops)))
    elif what == TIMES:
        values = list(map(stated, repeat(quantity), _texts_of(reader.column(runs), texts), repeat(None)))
    else:
        values = list(map(stated, repeat(quantity), repeat(None), _texts_of(reader.column(runs), texts)))
    if head & 8:
        count = reader.varint(len(values))
        build(count)
        _read_exceptions(reader, values, texts, count)
    return values


def _bounded(wholes: list[int], quantity: Quantity) -> list[int]:
    if not (min(wholes) > -WHOLE_MAX and max(wholes) < WHOLE_MAX):
        raise Malformed(f"column of {quantity.name}: a number of 2^53 or more")
    return wholes


def _numbers_of(wholes: list[int], exponent: int, drops: list[int]) -> list[Decimal]:
    if not -EXPONENT_BIAS < exponent < EXPONENT_BIAS:
        raise Malformed(f"column: expected an exponent between -64 and 64, got {exponent}")
    unit = Decimal((0, (1,), exponent))
    if not drops:
        return list(map(_EXACT.multiply, map(Decimal, wholes), repeat(unit)))
    if not (min(drops) >= 0 and max(drops) <= DROP_MAX):
        raise Malformed(f"column: expected drops of 0..{DROP_MAX}, got {min(drops)}..{max(drops)}")
    units = [Decimal((0, (1,), exponent + drop)) for drop in range(DROP_MAX + 1)]
    tens = [10**drop for drop in range(DROP_MAX + 1)]
    numbers = []
    for whole, drop in zip(wholes, drops, strict=True):
        kept, lost = divmod(whole, tens[drop])
        if lost:
            raise Malformed(f"column: {whole} does not end in {drop} zeros")
        numbers.append(_EXACT.multiply(Decimal(kept), units[drop]))
    return numbers


def _texts_of(indices: list[int], texts: list[str]) -> list[str]:
    if not (min(indices) >= 0 and max(indices) < len(texts)):
        raise Malformed(f"column: expected texts 0..{len(texts) - 1}, got {min(indices)}..{max(indices)}")
    return [texts[index] for index in indices]


def _read_exceptions(reader: Reader, values: list[Value], texts: list[str], count: int) -> None:
    at, skipped = 0, 0
    same: dict[tuple[int, str | None, int, str | None], Value] = {}
    for index in range(count):
        skipped = reader.varint(len(values))
        at += skipped
        if at >= len(values) or (index and not skipped):
            raise Malformed(f"exception at place {at} of {len(values)}")
        flags = reader.byte()
        what = flags >> 2 & 7
        if flags > 0x7F or what > TEXT:
            raise Malformed(f"exception: expected a kind of 0..{TEXT}, got {flags:02X}")
        text = text_at(reader, texts) if what >= NUMBER else None
        fault = reader.byte() if flags & 0x20 else 0
        detail = text_at(reader, texts) if flags & 0x40 else None
        if what == AS_COLUMN:
            values[at] = _exception(values[at], flags, None, fault, detail)
            continue
        told = (flags, text, fault, detail)
        found = same.get(told)
        if found is None:
            found = same[told] = _exception(values[at], *told)
        values[at] = found


def _exception(plain: Value, flags: int, text: str | None, fault: int, detail: str | None) -> Value:
    """The value that an exception makes of the one in its column."""
    what = flags >> 2 & 7
    return Value(
        quantity=plain.quantity,
        number=plain.number if what == AS_COLUMN else read_number(text or "") if what == NUMBER else None,
        time=plain.time if what == AS_COLUMN else text if what == TIME else None,
        text=plain.text if what == AS_COLUMN else text if what == TEXT else None,
        quality=QUALITIES[flags & 3],
        fault=word(FAULTS, fault) if flags & 0x20 else None,
        detail=detail,
    )


def text_at(reader: Reader, texts: list[str]) -> str:
    """The text whose index comes next. Raises Malformed."""
    index = reader.varint(STRINGS_MAX)
    if index >= len(texts):
        raise Malformed(f"text {index} of {len(texts)}")
    return texts[index]
