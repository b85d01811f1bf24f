"""The body of a batch as the records that were put in: `writing.py` read backwards, believing nothing.

Bounds on what a hostile body can cost: RAW_MAX inflated bytes, and RECORDS_MAX, VALUES_MAX, COLUMNS_MAX and
STRINGS_MAX things built from them. Each count is checked before anything is built.
"""

import zlib
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from itertools import accumulate, chain, islice, repeat
from operator import add
from typing import Any

from protocols.batch.codes import (
    COLUMNS_MAX,
    FAULTS,
    INLINE_MAX,
    KEYS_MAX,
    RAW_MAX,
    RECORDS_MAX,
    SOURCES,
    STRINGS_MAX,
    TIME_STATES,
    VALUES_MAX,
    WHOLE_MAX,
    instant,
    outlined,
    quantity_of,
    read_number,
    word,
)
from protocols.batch.columns import read_values, text_at
from protocols.batch.ints import Reader, Runs
from protocols.batch.writing import CAPTURE, EVENT, GAP, HAS_CLOCK, HAS_METER, HAS_SLOT, VERSION
from protocols.capture import Capture, Event, Gap, Record, Source, TimeState
from protocols.errors import Malformed
from protocols.made import maker
from protocols.quantity import Quantity

_ITEM_MAX = (WHOLE_MAX << 2) - 3
"""Of an event's detail: 2 * zigzag + 1 of -(2^53 - 1)."""

Series = tuple[int, int, int, int, int, int, int]
Moments = tuple[int | None, int, int, int | None]
Head = tuple[str, str, str, TimeState, Source, Decimal, Decimal]

_capture: Callable[..., Capture] = maker(
    Capture, "meter", "point", "task", "time_state", "source", "ct", "pt", "slot", "stamp", "read_at", "clock_error_ms",
    "values",
)  # fmt: skip
"""A capture whose meter, task and values are known not to be empty: of a Head, of Moments, and its values."""


def decode(body: bytes) -> list[Record]:
    """The records of a body, in their order. Raises Malformed."""
    reader = Reader(_inflate(body))
    try:
        records = _Records(reader).all()
    except ValueError as error:  # a word that refuses to be built: two values at once, none without a reason, ...
        raise Malformed(f"batch: {error}") from None
    reader.end()
    return records


def _inflate(body: bytes) -> bytes:
    if body[:1] != bytes((VERSION,)):
        raise Malformed(f"batch: expected version {VERSION}, got {body[:8].hex().upper()}")
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        raw = inflater.decompress(body[1:], RAW_MAX)
    except zlib.error as error:
        raise Malformed(f"batch: {error}") from None
    if not inflater.eof or inflater.unused_data:
        raise Malformed(f"batch: expected one deflate stream of less than {RAW_MAX} bytes")
    return raw


class _Records:
    """The tables of a body, then its records."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.count = reader.varint(RECORDS_MAX)
        self.texts = reader.texts(reader.varint(STRINGS_MAX))
        self.ratios: dict[str, Decimal] = {}
        self.built = 0
        self.shapes = self._read_shapes()
        self.series, self.order = self._read_series()
        self.lengths = [0] * len(self.series)
        for index in self.order:
            self.lengths[index] += 1
        if 0 in self.lengths:
            raise Malformed("batch: a series without records")
        self.starts = list(accumulate(self.lengths, initial=0))
        self.found: list[Any] = [None] * self.count
        """The records, series by series; where each series begins, `starts` says."""

    def _read_shapes(self) -> list[list[Quantity]]:
        reader = self.reader
        numbers = reader.plain(reader.varint(COLUMNS_MAX))
        quantities = [quantity_of(number) if number else self._inline() for number in numbers]
        lengths = reader.indices(reader.varint(COLUMNS_MAX), COLUMNS_MAX + 1, "length of a shape")
        if sum(lengths) > COLUMNS_MAX or 0 in lengths:
            raise Malformed(f"batch: shapes of {sum(lengths)} quantities, expected 1 each to {COLUMNS_MAX} together")
        named = map(quantities.__getitem__, reader.indices(sum(lengths), len(quantities), "quantity"))
        return [list(islice(named, length)) for length in lengths]

    def _inline(self) -> Quantity:
        reader = self.reader
        numbers = tuple([reader.varint(INLINE_MAX - 1) for _ in range(6)])
        texts = tuple([text_at(reader, self.texts) for _ in range(3)])
        options = tuple([self._option(reader.varint(STRINGS_MAX)) for _ in range(5)])
        return outlined(numbers, texts, options)

    def _option(self, index: int) -> str | None:
        return self._text(index - 1) if index else None

    def _text(self, index: int) -> str:
        if not 0 <= index < len(self.texts):
            raise Malformed(f"batch: text {index} of {len(self.texts)}")
        return self.texts[index]

    def _read_series(self) -> tuple[list[Series], list[int]]:
        count = self.reader.varint(self.count)
        columns = [self.reader.plain(count) for _ in range(7)]
        series: list[Series] = list(zip(*columns, strict=True))
        return series, self.reader.indices(self.count, count, "series")

    def all(self) -> list[Record]:
        """The records, in their order."""
        kinds = [series[0] for series in self.series]
        if kinds and min(kinds) < 0:
            raise Malformed("batch: a series of no kind")
        captures = [index for index, kind in enumerate(kinds) if kind >= CAPTURE]
        gaps = [index for index, kind in enumerate(kinds) if kind == GAP]
        events = [index for index, kind in enumerate(kinds) if kind == EVENT]
        moments = self._moments(captures)
        self._gaps(gaps)
        self._events(events)
        self._captures(captures, moments)
        upto, records = list(self.starts), []
        for index in self.order:
            records.append(self.found[upto[index]])
            upto[index] += 1
        return records

    def _times(self, members: Sequence[int]) -> list[int]:
        """The next column of times or of differences of times, of the records of these series."""
        times = self.reader.column(Runs([self.lengths[index] for index in members]))
        if times and not (min(times) > -WHOLE_MAX and max(times) < WHOLE_MAX):
            raise Malformed(f"batch: times {min(times)}..{max(times)}, expected less than 2^53 either way")
        return times

    def _build(self, count: int) -> None:
        """There are so many more values, exceptions or details. Raises Malformed."""
        self.built += count
        if self.built > VALUES_MAX:
            raise Malformed(f"batch: {self.built} values, exceptions and details, expected at most {VALUES_MAX}")

    def _moments(self, members: list[int]) -> Iterator[Moments]:
        """The times of each capture, series by series."""
        flags = [self.series[index][1] for index in members]
        if flags and not (min(flags) >= 0 and max(flags) <= 0x3F):
            raise Malformed(f"batch: flags of captures {min(flags)}..{max(flags)}, expected 0..63")
        told = list(chain.from_iterable(map(repeat, flags, [self.lengths[index] for index in members])))
        planned = iter(self._times([index for index in members if self.series[index][1] & HAS_SLOT]))
        slots = [next(planned) if flag & HAS_SLOT else None for flag in told]
        stamps = list(map(add, self._times(members), [slot or 0 for slot in slots]))
        reads = list(map(add, self._times(members), stamps))
        errors = iter(self._times([index for index in members if self.series[index][1] & HAS_CLOCK]))
        clocks = [next(errors) if flag & HAS_CLOCK else None for flag in told]
        for times in (stamps, reads):
            if times:
                instant(min(times), "a time of a capture")
                instant(max(times), "a time of a capture")
        return zip(slots, stamps, reads, clocks, strict=True)

    def _gaps(self, members: list[int]) -> None:
        slots, openings = iter(self._times(members)), iter(self._times(members))
        for index in members:
            _, fault, meter, task, detail, _, _ = self.series[index]
            of, during, why = self._text(meter), self._text(task), word(FAULTS, fault)
            more = self._option(detail)
            pairs = zip(islice(slots, self.lengths[index]), openings, strict=False)
            self.found[self.starts[index] : self.starts[index + 1]] = [
                Gap(meter=of, task=during, slot=at, fault=why, detail=more, opened_at=instant(at + after, "gap"))
                for at, after in pairs
            ]

    def _events(self, members: list[int]) -> None:
        times = iter(self._times(members))
        for index in members:
            _, has_meter, meter, name, _, _, _ = self.series[index]
            if not 0 <= has_meter <= HAS_METER:
                raise Malformed(f"batch: flags of events {has_meter}, expected 0 or 1")
            named, where = self._text(name), self._text(meter) if has_meter else None
            self.found[self.starts[index] : self.starts[index + 1]] = [
                Event(name=named, at=at, meter=where, detail=self._detail())
                for at in islice(times, self.lengths[index])
            ]

    def _detail(self) -> dict[str, str | int]:
        reader = self.reader
        detail: dict[str, str | int] = {}
        count = reader.varint(KEYS_MAX)
        self._build(count)
        for _ in range(count):
            key, item = text_at(reader, self.texts), reader.varint(_ITEM_MAX)
            number = item >> 1
            detail[key] = (number >> 1) ^ -(number & 1) if item & 1 else self._text(number)
        if len(detail) != count:
            raise Malformed(f"batch: an event with {count} details of {len(detail)} names")
        return detail

    def _captures(self, members: list[int], moments: Iterator[Moments]) -> None:
        groups: list[list[tuple[int, Head]]] = [[] for _ in self.shapes]
        for index, head in zip(members, self._heads(members), strict=True):
            shape = self.series[index][0] - CAPTURE
            if shape >= len(self.shapes):
                raise Malformed(f"batch: shape {shape} of {len(self.shapes)}")
            groups[shape].append((index, head))
            self.found[self.starts[index] : self.starts[index + 1]] = islice(moments, self.lengths[index])
        for quantities, group in zip(self.shapes, groups, strict=True):
            self._build(len(quantities) * sum(self.lengths[index] for index, _ in group))
        for quantities, group in zip(self.shapes, groups, strict=True):
            if group:
                self._of_shape(quantities, group)

    def _of_shape(self, quantities: list[Quantity], group: list[tuple[int, Head]]) -> None:
        """The captures of one shape, whose times are there already."""
        found, starts = self.found, self.starts
        runs = Runs([self.lengths[index] for index, _ in group])
        columns = [read_values(self.reader, each, runs, self.texts, self._build) for each in quantities]
        rows = zip(*columns, strict=True)
        for index, head in group:
            start, end = starts[index], starts[index + 1]
            found[start:end] = [
                _capture(*head, *moments, values) for moments, values in zip(found[start:end], rows, strict=False)
            ]

    def _heads(self, members: Sequence[int]) -> Iterator[Head]:
        """What the captures of each of these series have in common."""
        if not members:
            return iter(())
        _, flags, *places = zip(*[self.series[index] for index in members], strict=True)
        meters, tasks, points, ct, pt = (self._named(column) for column in places)
        if "" in meters or "" in tasks:
            raise Malformed("batch: a capture without meter or task")
        states = [TIME_STATES[flag >> 3 & 1] for flag in flags]
        sources = [word(SOURCES, flag & 7) for flag in flags]
        return zip(meters, points, tasks, states, sources, map(self._ratio, ct), map(self._ratio, pt), strict=True)

    def _named(self, indices: Sequence[int]) -> list[str]:
        """The texts at these places of their table."""
        if min(indices) < 0 or max(indices) >= len(self.texts):
            raise Malformed(f"batch: texts {min(indices)}..{max(indices)} of {len(self.texts)}")
        return list(map(self.texts.__getitem__, indices))

    def _ratio(self, text: str) -> Decimal:
        """The decimal in that text, read once however many series have it."""
        found = self.ratios.get(text)
        if found is None:
            found = self.ratios[text] = read_number(text)
        return found
