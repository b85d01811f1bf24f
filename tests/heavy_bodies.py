"""Bodies of batches that cost as much to read as the limits allow: of few bytes, or with every table full."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from itertools import count, cycle, islice
from typing import Final

from protocols.batch.codes import (
    COLUMNS_MAX,
    KEYS_MAX,
    RAW_MAX,
    RECORDS_MAX,
    STRINGS_MAX,
    VALUES_MAX,
)
from protocols.batch.ints import Runs, write_column, write_plain, write_varint
from protocols.quantity import BASES, Kind, variant
from tests.mutation import deflated

GAP, EVENT, CAPTURE = range(3)
LIVE, SLOTS, CLOCKS = 2, 0x10, 0x20
SILENT, DOUBTFUL, UNAVAILABLE = 1, 1, 2
WORD, ONE, LONG = 0, 1, 2
"""Places in the table of texts: a word, a ratio, and from there on numbers of many digits, no two alike."""
Series = tuple[int, int, int, int, int, int, int]
Column = Callable[[bytearray, Runs, Iterator[int]], None]
"""Appends one column of values. The numbers are places of texts, in turn."""


def _texts(bytes_each: int) -> list[bytes]:
    return [b"word", b"1", *(b"%d" % (10 ** (bytes_each - 1) + n) for n in range(STRINGS_MAX - 2))]


def _registers() -> bytes:
    """A table of quantities that nobody has asked for lately."""
    out = bytearray()
    write_varint(out, COLUMNS_MAX)
    write_plain(out, list(islice(_REGISTERS, COLUMNS_MAX)))
    return bytes(out)


_REGISTERS: Final = cycle(
    variant(base, tariff=tariff, last=last).number
    for base in BASES
    if base.kind is Kind.REGISTER and base.name.endswith(".total")
    for tariff in range(1, 64)
    for last in range(13)
)
_FRESH: Final = count(1_000_000)


def _outside() -> bytes:
    """A table of quantities told in full, none told before."""
    out = bytearray()
    write_varint(out, COLUMNS_MAX)
    write_plain(out, [0] * COLUMNS_MAX)
    for n in range(COLUMNS_MAX):
        for number in (next(_FRESH), 0, 0, 0, 0, 0, LONG, WORD, WORD, *range(LONG + n, LONG + n + 5)):
            write_varint(out, number)
    return bytes(out)


def _whole(
    texts: Sequence[bytes], quantities: bytes, shapes: Sequence[Sequence[int]], series: Sequence[Series],
    order: Sequence[int], rest: bytes,
) -> bytes:  # fmt: skip
    out = bytearray()
    write_varint(out, len(order))
    write_varint(out, len(texts))
    write_plain(out, list(map(len, texts)))
    out += b"".join(texts) + quantities
    write_varint(out, len(shapes))
    write_plain(out, list(map(len, shapes)))
    write_plain(out, [place for shape in shapes for place in shape])
    write_varint(out, len(series))
    for column in zip(*series, strict=True):
        write_plain(out, list(column))
    write_plain(out, list(order))
    out += rest
    assert len(out) < RAW_MAX, len(out)
    return deflated(bytes(out))


def _captures(
    column: Column, *, texts: Sequence[bytes], quantities: bytes, width: int, series: int, shapes: int
) -> bytes:  # fmt: skip
    """As many captures of `width` values as there may be, of so many series and shapes."""
    records = min(RECORDS_MAX, VALUES_MAX // width // (1 + (column is _excepted and width > 1)))
    series, shapes = min(series, records), min(shapes, series, records, COLUMNS_MAX // width)
    places = cycle(range(COLUMNS_MAX))
    made = [list(islice(places, width)) for _ in range(shapes)]
    order = list(islice(cycle(range(series)), records))
    lengths = [len(range(n, records, series)) for n in range(series)]
    told = [
        (CAPTURE + n % shapes, LIVE | SLOTS | CLOCKS, n % (len(texts) - LONG) + LONG, WORD, WORD, ONE, ONE)
        for n in range(series)
    ]
    out, numbers = bytearray(), cycle(range(LONG, len(texts)))
    for _ in range(4):
        write_column(out, [3 * n * n for n in range(records)], Runs(lengths))
    for n, shape in enumerate(made):
        runs = Runs(lengths[n::shapes])
        for _ in shape:
            column(out, runs, numbers)
    return _whole(texts, quantities, made, told, order, bytes(out))


def _numbers(out: bytearray, runs: Runs, _: Iterator[int]) -> None:
    out += bytes((0, 63))
    write_column(out, [2301 + n % 7 for n in range(runs.count)], runs)


def _dropped(out: bytearray, runs: Runs, _: Iterator[int]) -> None:
    out += bytes((4, 58))
    write_column(out, [10**15 * (1 + n % 9) for n in range(runs.count)], runs)
    write_column(out, [n % 16 for n in range(runs.count)], runs)


def _words(out: bytearray, runs: Runs, numbers: Iterator[int]) -> None:
    out.append(2)
    write_column(out, list(islice(numbers, runs.count)), runs)


def _excepted(out: bytearray, runs: Runs, numbers: Iterator[int]) -> None:
    """Half of the values by exception: doubtful numbers of many digits, each with another detail."""
    out += bytes((8, 63))
    write_column(out, [2301 + n % 7 for n in range(runs.count)], runs)
    write_varint(out, (runs.count + 1) // 2)
    for n in range((runs.count + 1) // 2):
        write_varint(out, 2 if n else 0)
        out.append(DOUBTFUL | 2 << 2 | 64)
        write_varint(out, next(numbers))
        write_varint(out, next(numbers))


def _gaps() -> bytes:
    out = bytearray()
    for _ in range(2):
        write_column(out, [n * n for n in range(RECORDS_MAX)], Runs([1] * RECORDS_MAX))
    told = [(GAP, SILENT, LONG + n, WORD, LONG + n, 0, 0) for n in range(RECORDS_MAX)]
    return _whole(_texts(100), b"\0", [], told, range(RECORDS_MAX), bytes(out))


def _events() -> bytes:
    out = bytearray()
    write_column(out, [n * n for n in range(RECORDS_MAX)], Runs([1] * RECORDS_MAX))
    each = VALUES_MAX // RECORDS_MAX
    for n in range(RECORDS_MAX):
        write_varint(out, each)
        for detail in range(each):
            write_varint(out, LONG + n + detail)
            write_varint(out, ((1 << 54) - 2 - n) << 1 | 1)
    told = [(EVENT, 1, LONG + n, LONG + n, 0, 0, 0) for n in range(RECORDS_MAX)]
    return _whole(_texts(100), b"\0", [], told, range(RECORDS_MAX), bytes(out))


def _details() -> bytes:
    out = bytearray()
    events = VALUES_MAX // KEYS_MAX
    write_column(out, [0] * events, Runs([events]))
    for _ in range(events):
        write_varint(out, KEYS_MAX)
        for detail in range(KEYS_MAX):
            write_varint(out, LONG + detail)
            write_varint(out, (LONG + detail) << 1)
    return _whole(_texts(100), b"\0", [], [(EVENT, 0, 0, WORD, 0, 0, 0)], [0] * events, bytes(out))


FEW = [b"word", b"1", b"m"]


_MANY, _OWN = RECORDS_MAX, COLUMNS_MAX
HEAVY: Final[Mapping[str, Callable[[], bytes]]] = {
    "captures of one series": lambda: _captures(
        _numbers, texts=FEW, quantities=_registers(), width=1, series=1, shapes=1
    ),
    "captures of many series": lambda: _captures(
        _numbers, texts=_texts(100), quantities=_registers(), width=1, series=_MANY, shapes=1
    ),
    "captures of many shapes": lambda: _captures(
        _numbers, texts=_texts(100), quantities=_outside(), width=1, series=_MANY, shapes=_MANY
    ),
    "two values each": lambda: _captures(_dropped, texts=FEW, quantities=_registers(), width=2, series=_MANY, shapes=1),
    "long captures": lambda: _captures(
        _numbers, texts=_texts(100), quantities=_outside(), width=_OWN, series=8, shapes=4
    ),
    "texts": lambda: _captures(_words, texts=_texts(100), quantities=_outside(), width=2, series=_MANY, shapes=_MANY),
    "exceptions": lambda: _captures(
        _excepted, texts=_texts(100), quantities=_outside(), width=1, series=_MANY, shapes=1
    ),
    "gaps": _gaps,
    "events": _events,
    "details": _details,
}
"""By what they are full of."""


@cache
def heavy(name: str) -> bytes:
    """One of them. A reader finds no mistake in it."""
    return HEAVY[name]()
