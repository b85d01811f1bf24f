"""The body of a batch as the records that were put in: `writing.py` read backwards, believing nothing.

Bounds on what a hostile body can cost: RAW_MAX inflated bytes, and RECORDS_MAX, VALUES_MAX and STRINGS_MAX things built
from them. Each count is checked before anything is built.
"""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from operator import add

from protocols.batch.codes import (
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
from protocols.capture import Capture, Event, Gap, Record, Value
from protocols.errors import Malformed
from protocols.quantity import Quantity

Series = tuple[int, int, int, int, int, int, int]
Times = dict[int, Iterator[tuple[int | None, int, int, int | None]]]


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
        self.shapes = self._read_shapes()
        self.series, self.order = self._read_series()
        self.lengths = [0] * len(self.series)
        for index in self.order:
            self.lengths[index] += 1
        if 0 in self.lengths:
            raise Malformed("batch: a series without records")

    def _read_shapes(self) -> list[list[Quantity]]:
        reader = self.reader
        numbers = reader.plain(reader.varint(VALUES_MAX))
        quantities = [quantity_of(number) if number else self._inline() for number in numbers]
        lengths = reader.indices(reader.varint(VALUES_MAX), VALUES_MAX + 1, "length of a shape")
        if sum(lengths) > VALUES_MAX or 0 in lengths:
            raise Malformed(f"batch: shapes of {sum(lengths)} quantities, expected 1 each to {VALUES_MAX} together")
        places = iter(reader.indices(sum(lengths), len(quantities), "quantity"))
        return [[quantities[next(places)] for _ in range(length)] for length in lengths]

    def _inline(self) -> Quantity:
        reader = self.reader
        numbers = tuple(reader.varint(INLINE_MAX - 1) for _ in range(6))
        texts = tuple(text_at(reader, self.texts) for _ in range(3))
        options = tuple(self._option(reader.varint(STRINGS_MAX)) for _ in range(5))
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
        found: dict[int, Iterator[Record]] = {}
        capture_times = self._capture_times(captures)
        found.update(self._gaps(gaps))
        found.update(self._events(events))
        found.update(self._captures(captures, capture_times))
        return [next(found[index]) for index in self.order]

    def _times(self, members: Sequence[int]) -> list[int]:
        """The next column of times or of differences of times, of the records of these series."""
        times = self.reader.column(Runs([self.lengths[index] for index in members]))
        if times and not (min(times) > -WHOLE_MAX and max(times) < WHOLE_MAX):
            raise Malformed(f"batch: times {min(times)}..{max(times)}, expected less than 2^53 either way")
        return times

    def _capture_times(self, members: list[int]) -> Times:
        """(slot, stamp, read_at, clock error) of each capture, by series."""
        flags = [self.series[index][1] for index in members]
        if flags and not (min(flags) >= 0 and max(flags) <= 0x3F):
            raise Malformed(f"batch: flags of captures {min(flags)}..{max(flags)}, expected 0..63")
        slots = iter(self._times([index for index in members if self.series[index][1] & HAS_SLOT]))
        stamps, reads = iter(self._times(members)), iter(self._times(members))
        clocks = iter(self._times([index for index in members if self.series[index][1] & HAS_CLOCK]))
        found: Times = {}
        for index, flag in zip(members, flags, strict=True):
            length = self.lengths[index]
            slot = list(islice(slots, length)) if flag & HAS_SLOT else [0] * length
            stamp = list(map(add, islice(stamps, length), slot))
            read_at = list(map(add, islice(reads, length), stamp))
            clock = list(islice(clocks, length)) if flag & HAS_CLOCK else [None] * length
            for time in (min(stamp), max(stamp), min(read_at), max(read_at)):
                instant(time, "a time of a capture")
            slotted = slot if flag & HAS_SLOT else [None] * length
            found[index] = zip(slotted, stamp, read_at, clock, strict=True)
        return found

    def _gaps(self, members: list[int]) -> Iterator[tuple[int, Iterator[Record]]]:
        slots, openings = iter(self._times(members)), iter(self._times(members))
        for index in members:
            _, fault, meter, task, detail, _, _ = self.series[index]
            told = Gap(
                meter=self._text(meter), task=self._text(task), slot=0, fault=word(FAULTS, fault),
                detail=None if not detail else self._text(detail - 1), opened_at=0,
            )  # fmt: skip
            pairs = zip(islice(slots, self.lengths[index]), openings, strict=False)
            yield index, iter([replace(told, slot=at, opened_at=instant(at + after, "gap")) for at, after in pairs])

    def _events(self, members: list[int]) -> Iterator[tuple[int, Iterator[Record]]]:
        times = iter(self._times(members))
        for index in members:
            _, has_meter, meter, name, _, _, _ = self.series[index]
            if not 0 <= has_meter <= HAS_METER:
                raise Malformed(f"batch: flags of events {has_meter}, expected 0 or 1")
            named, where = self._text(name), self._text(meter) if has_meter else None
            events: list[Record] = [
                Event(name=named, at=at, meter=where, detail=self._detail())
                for at in islice(times, self.lengths[index])
            ]
            yield index, iter(events)

    def _detail(self) -> dict[str, str | int]:
        reader = self.reader
        detail: dict[str, str | int] = {}
        for _ in range(reader.varint(KEYS_MAX)):
            key, item = text_at(reader, self.texts), reader.varint((WHOLE_MAX << 2) - 1)
            number = item >> 1
            detail[key] = (number >> 1) ^ -(number & 1) if item & 1 else self._text(number)
        return detail

    def _captures(self, members: list[int], times: Times) -> Iterator[tuple[int, Iterator[Record]]]:
        by_shape: list[list[int]] = [[] for _ in self.shapes]
        for index in members:
            shape = self.series[index][0] - CAPTURE
            if shape >= len(self.shapes):
                raise Malformed(f"batch: shape {shape} of {len(self.shapes)}")
            by_shape[shape].append(index)
        built = sum(
            len(quantities) * sum(self.lengths[index] for index in group)
            for quantities, group in zip(self.shapes, by_shape, strict=True)
        )
        if built > VALUES_MAX:
            raise Malformed(f"batch: {built} values, expected at most {VALUES_MAX}")
        for quantities, group in zip(self.shapes, by_shape, strict=True):
            if group:
                runs = Runs([self.lengths[index] for index in group])
                rows = zip(*(read_values(self.reader, each, runs, self.texts) for each in quantities), strict=True)
                for index in group:
                    yield index, iter(self._series_of(index, times[index], rows))

    def _series_of(
        self,
        index: int,
        times: Iterator[tuple[int | None, int, int, int | None]],
        rows: Iterator[tuple[Value, ...]],
    ) -> list[Record]:
        """The captures of one series."""
        _, flags, *places = self.series[index]
        meter, task, point, ct, pt = map(self._text, places)
        source, state = word(SOURCES, flags & 7), TIME_STATES[flags >> 3 & 1]
        ct_ratio, pt_ratio = read_number(ct), read_number(pt)
        return [
            Capture(
                meter=meter, point=point, task=task, slot=slot, stamp=stamp, read_at=read_at, time_state=state,
                clock_error_ms=clock, source=source, ct=ct_ratio, pt=pt_ratio, values=values,
            )
            for (slot, stamp, read_at, clock), values in zip(times, rows, strict=False)
        ]  # fmt: skip
