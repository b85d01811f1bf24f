"""Columns of whole numbers as bytes: differences, zigzag, byte planes. The loops are the library's, not Python's.

A column of n numbers (n is known from elsewhere; none for n = 0):

    1 byte        order * 16 + width          order 0..2, width 0..8
    n * width     planes: the highest byte of each number, then the next lower of each, ... the lowest of each

Each number is zigzag coded: 0, -1, 1, -2, 2 ... are 0, 1, 2, 3, 4 ... Width 0 means that all are 0. Order 0 gives the
numbers as they are. A column comes in runs (the captures of one series each); with order 1 and 2 the first numbers of
all runs come first, each as the difference from the first of the run before (0 before the first run), then run by run
the differences from number to number (order 1) or the differences of those differences, 0 before the first (order 2).
"""

import struct
from collections.abc import Iterable, Sequence
from itertools import accumulate, compress, islice, pairwise
from operator import mul, sub
from typing import Final

from protocols.batch.codes import TEXT_MAX
from protocols.errors import Malformed

VARINT_MAX: Final = 9
"""Bytes of the longest varint: 63 bits."""
_SIZES: Final = (1, 1, 2, 4, 4, 8, 8, 8, 8)
"""Bytes in memory of a number of width 0..8."""
_LETTERS: Final = "BBHIIQQQQ"


class Runs:
    """How a column falls into runs: made once, used for every column of a shape."""

    __slots__ = ("_first", "_inner", "_rest", "count", "lengths")

    def __init__(self, lengths: Sequence[int]) -> None:
        self.lengths = lengths
        self.count = sum(lengths)
        if len(lengths) == self.count:  # runs of one: there is nothing but firsts
            self._first: Sequence[int] = ()
            self._rest: Sequence[int] = ()
            self._inner: Sequence[int] = ()
            return
        first: list[int] = []
        inner: list[int] = []
        for length in lengths:
            first += (1, *(0,) * (length - 1))
            if length > 1:
                inner += (0, *(1,) * (length - 2))
        self._first = first
        self._rest = [1 - bit for bit in first]
        self._inner = inner

    def differences(self, numbers: list[int]) -> tuple[list[int], list[int]]:
        """(differences of the runs' firsts, differences within the runs)."""
        if not self._first:
            return [numbers[0], *map(sub, islice(numbers, 1, None), numbers)], []
        firsts = list(compress(numbers, self._first))
        steps = compress(map(sub, islice(numbers, 1, None), numbers), islice(self._rest, 1, None))
        return [firsts[0], *map(sub, islice(firsts, 1, None), firsts)], list(steps)

    def again(self, steps: list[int]) -> list[int]:
        """The differences of the differences within the runs."""
        return [steps[0], *map(sub, islice(steps, 1, None), map(mul, steps, islice(self._inner, 1, None)))]

    def sums(self, order: int, numbers: list[int]) -> list[int]:
        """The column whose differences these are."""
        runs = len(self.lengths)
        firsts = accumulate(islice(numbers, runs))
        if runs == self.count:
            return list(firsts)
        column: list[int] = []
        at = runs
        for first, length in zip(firsts, self.lengths, strict=True):
            steps: Iterable[int] = islice(numbers, at, at + length - 1)
            column += accumulate(steps if order == 1 else accumulate(steps), initial=first)
            at += length - 1
        return column


def _cost(numbers: Iterable[int]) -> int:
    """Bits in the numbers: what the deflater will see, about."""
    return sum(map(int.bit_length, numbers))


def write_column(out: bytearray, numbers: list[int], runs: Runs) -> None:
    """Append the column, in the order of differences that has the fewest bits. Numbers are below 2^55 either way."""
    if not numbers:
        return
    order = 0
    if any(numbers):
        firsts, steps = runs.differences(numbers)
        twice = runs.again(steps) if steps else steps
        plain, start, once = _cost(numbers), _cost(firsts), _cost(steps)
        if steps and (again := _cost(twice)) < once and start + again < plain:
            order, numbers = 2, firsts + twice
        elif start + once < plain:
            order, numbers = 1, firsts + steps
    coded = [(number << 1) ^ (number >> 63) for number in numbers]
    width = (max(coded).bit_length() + 7) // 8
    out.append(order << 4 | width)
    if width:
        size = _SIZES[width]
        data = struct.pack(f"<{len(coded)}{_LETTERS[width]}", *coded)
        for plane in reversed(range(width)):
            out += data[plane::size]


def write_plain(out: bytearray, numbers: list[int]) -> None:
    """Append a column that is one run."""
    if numbers:
        write_column(out, numbers, Runs((len(numbers),)))


def write_varint(out: bytearray, number: int) -> None:
    """Append a number of 0 or more, 7 bits a byte, lowest first, bit 7 set in all bytes but the last."""
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)


class Reader:
    """Takes apart what the writers above put together. Every method raises Malformed and never reads past the end."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def end(self) -> None:
        """All must have been read."""
        if self._at != len(self._data):
            raise Malformed(f"{len(self._data) - self._at} bytes after the end of the records")

    def take(self, count: int) -> bytes:
        """The next bytes."""
        data = self._data[self._at : self._at + count]
        if len(data) != count:
            raise Malformed(f"ended where {count} bytes were expected, {len(data)} are there")
        self._at += count
        return data

    def byte(self) -> int:
        """The next byte."""
        at = self._at
        if at >= len(self._data):
            raise Malformed("ended where a byte was expected")
        self._at = at + 1
        return self._data[at]

    def varint(self, limit: int) -> int:
        """The next varint, at most `limit`."""
        data, at = self._data, self._at
        try:
            byte = data[at]
            at += 1
            number, shift = byte & 0x7F, 7
            while byte > 0x7F:
                if shift == 7 * VARINT_MAX:
                    raise Malformed(f"varint: longer than {VARINT_MAX} bytes")
                byte = data[at]
                at += 1
                number |= (byte & 0x7F) << shift
                shift += 7
        except IndexError:
            raise Malformed("ended inside a varint") from None
        if number > limit or (not byte and shift > 7):
            raise Malformed(f"varint: expected at most {limit} in its shortest form, got {number}")
        self._at = at
        return number

    def column(self, runs: Runs) -> list[int]:
        """The next column."""
        count = runs.count
        if not count:
            return []
        head = self.byte()
        order, width = head >> 4, head & 15
        if order > 2 or width > 8:
            raise Malformed(f"column: expected order 0..2 and width 0..8, got {head:02X}")
        if not width:
            return [0] * count
        size = _SIZES[width]
        planes = self.take(count * width)
        if size == 1:
            coded: Sequence[int] = planes
        else:
            data = bytearray(count * size)
            for index, plane in enumerate(reversed(range(width))):
                data[plane::size] = planes[index * count : (index + 1) * count]
            coded = struct.unpack(f"<{count}{_LETTERS[width]}", data)
        numbers = [(number >> 1) ^ -(number & 1) for number in coded]
        return runs.sums(order, numbers) if order else numbers

    def plain(self, count: int) -> list[int]:
        """The next column that is one run."""
        return self.column(Runs((count,))) if count else []

    def indices(self, count: int, limit: int, what: str) -> list[int]:
        """The next column that is one run, of numbers from 0 to below `limit`."""
        numbers = self.plain(count)
        if numbers and not (min(numbers) >= 0 and max(numbers) < limit):
            raise Malformed(f"{what}: expected 0..{limit - 1}, got {min(numbers)}..{max(numbers)}")
        return numbers

    def texts(self, count: int) -> list[str]:
        """The next table of texts: a column of their lengths in bytes, then all of them in UTF-8."""
        if count > (left := len(self._data) - self._at) + 1:  # each once, so that one of them may be empty
            raise Malformed(f"{count} texts where {left} bytes are left")
        lengths = self.indices(count, TEXT_MAX + 1, "length of a text")
        data, ends = self.take(sum(lengths)), list(accumulate(lengths, initial=0))
        if data.isascii():
            whole = data.decode()
            return [whole[start:end] for start, end in pairwise(ends)]
        try:
            return [data[start:end].decode() for start, end in pairwise(ends)]
        except UnicodeDecodeError as error:
            raise Malformed(f"text: not UTF-8: {error}") from None
