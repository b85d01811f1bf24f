"""Many records as the body of a batch: tables of what repeats, columns of what changes, deflated.

Series are what the columns run along: the captures of one meter, point, task, source and set of quantities; the gaps
of one meter, task, fault and detail; the events of one name and meter. `docs/wire.md` lays the body out byte by byte.
Each body stands for itself: nothing in it refers to another.
"""

import zlib
from collections.abc import Callable, Sequence
from operator import attrgetter, sub
from typing import Final, TypeVar

from protocols.batch.codes import (
    COLUMNS_MAX,
    FAULT_CODES,
    KEYS_MAX,
    RAW_MAX,
    RECORDS_MAX,
    SOURCES,
    STRINGS_MAX,
    TIME_STATES,
    VALUES_MAX,
    TooMuch,
    catalogued,
    inline,
    instant,
    numbered,
    whole,
    write_number,
)
from protocols.batch.columns import Texts, write_values
from protocols.batch.ints import Runs, write_column, write_plain, write_varint
from protocols.capture import Capture, Event, Gap, Record
from protocols.quantity import Quantity

VERSION: Final = 1
GAP, EVENT, CAPTURE = range(3)
"""Kinds of series; a capture's is CAPTURE and the number of its shape."""
HAS_SLOT, HAS_CLOCK = 0x10, 0x20
"""Flags of a series of captures, beside its source (bits 0-2) and its time state (bit 3)."""
HAS_METER: Final = 1
"""Flag of a series of events."""
LEVEL, MEMORY = 6, 9
"""Of the deflater. Levels above 6 gained less than 0.1 % on the reference load and took three times as long."""
BLOCK_MIN: Final = 512
"""A deflate block of its own costs about 60 bytes: only sections longer than this get one."""

_SOURCE_CODES = numbered(SOURCES)
_STATE_CODES = numbered(TIME_STATES)
_quantity_of = attrgetter("quantity")
RecordT = TypeVar("RecordT", Capture, Gap, Event)


def encode(records: Sequence[Record]) -> bytes:
    """The records as a body, in their order. Raises TooMuch where they need more than one, and ValueError for a record
    beyond the limits in `codes.py`."""
    _within(len(records), "records", RECORDS_MAX)
    body = _Body()
    for record in records:
        body.add(record)
    sections = body.sections()
    _within(sum(map(len, sections)), "bytes", RAW_MAX - 1)
    return bytes((VERSION,)) + _deflated(sections)


def _within(count: int, what: str, limit: int) -> None:
    if count > limit:
        raise TooMuch(f"{count} {what}, expected at most {limit}")


def _deflated(sections: Sequence[bytes | bytearray]) -> bytes:
    """The sections after one another, each in blocks of its own where it is long: their bytes are of different kinds,
    and one code for all would cost 4 % on the reference load."""
    deflater = zlib.compressobj(LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS, MEMORY, zlib.Z_FILTERED)
    out = bytearray()
    before = 0
    for section in sections:
        if min(before, len(section)) >= BLOCK_MIN:
            out += deflater.flush(zlib.Z_BLOCK)
            before = 0
        out += deflater.compress(section)
        before += len(section)
    return bytes(out + deflater.flush())


def held(record: Record) -> int:
    """How much of what a body may hold at most VALUES_MAX of is in the record: values, or details of an event."""
    if isinstance(record, Capture):
        return len(record.values)
    return len(record.detail) if isinstance(record, Event) else 0


class _Body:
    """What has been put in so far, sorted into series."""

    def __init__(self) -> None:
        self.texts = Texts()
        self.shapes: dict[tuple[int, ...], tuple[Quantity, ...]] = {}
        self.series: list[list[Record]] = []
        self.order: list[int] = []
        self.values = 0
        self._places: dict[object, int] = {}

    def add(self, record: Record) -> None:
        if isinstance(record, Capture):
            # Identities stand for words and quantities: their hashes are computed in Python, and a batch is full of
            # them. Equal quantities that are not the same object only make the body longer.
            shape = tuple(map(id, map(_quantity_of, record.values)))
            ratios = (str(record.ct), str(record.pt))  # equal Decimals may differ in digits
            key: object = (
                record.meter, record.point, record.task, id(record.source), id(record.time_state), record.slot is None,
                record.clock_error_ms is None, ratios, shape,
            )  # fmt: skip
            if key not in self._places and shape not in self.shapes:
                self.shapes[shape] = tuple(map(_quantity_of, record.values))
        elif isinstance(record, Gap):
            key = (GAP, record.meter, record.task, id(record.fault), record.detail)
        else:
            key = (EVENT, record.name, record.meter)
        self.values += held(record)
        place = self._places.setdefault(key, len(self.series))
        if place == len(self.series):
            self.series.append([])
        self.series[place].append(record)
        self.order.append(place)

    def of(self, kind: type[RecordT]) -> list[list[RecordT]]:
        """The series of one kind of record."""
        return [series for series in self.series if isinstance(series[0], kind)]  # type: ignore[misc]

    def sections(self) -> tuple[bytearray, bytearray, bytearray]:
        """Tables, times and values, before deflating."""
        _within(self.values, "values and details", VALUES_MAX)
        _within(sum(map(len, self.shapes)), "columns", COLUMNS_MAX)
        tables, times, values = bytearray(), bytearray(), bytearray()
        self._write_shapes(tables)
        self._write_series(tables)
        self._write_times(times)
        self._write_values(values)
        _within(self.values, "values, exceptions and details", VALUES_MAX)
        head = bytearray()
        write_varint(head, len(self.order))
        texts = [text.encode() for text in self.texts.table]
        _within(len(texts), "texts", STRINGS_MAX)
        write_varint(head, len(texts))
        write_plain(head, list(map(len, texts)))
        head += b"".join(texts)
        return head + tables, times, values

    def _write_series(self, out: bytearray) -> None:
        """The table of series, and the order of the records among them."""
        write_varint(out, len(self.series))
        firsts = [series[0] for series in self.series]
        shapes = {shape: CAPTURE + place for place, shape in enumerate(self.shapes)}
        write_plain(out, [_kind(record, shapes) for record in firsts])
        write_plain(out, [_flags(record) for record in firsts])
        at = self.texts.index
        write_plain(out, [0 if record.meter is None else at(record.meter) for record in firsts])
        write_plain(out, [at(record.name if isinstance(record, Event) else record.task) for record in firsts])
        write_plain(out, [self._point(record) for record in firsts])
        for ratio in ("ct", "pt"):
            told = [at(write_number(getattr(each, ratio))) if isinstance(each, Capture) else 0 for each in firsts]
            write_plain(out, told)
        write_plain(out, self.order)

    def _point(self, record: Record) -> int:
        if isinstance(record, Capture):
            return self.texts.index(record.point)
        return 0 if isinstance(record, Event) or record.detail is None else self.texts.index(record.detail) + 1

    def _write_shapes(self, out: bytearray) -> None:
        """The tables of quantities and of shapes."""
        places: dict[int, int] = {}
        table: list[Quantity] = []
        for shape in self.shapes.values():
            for quantity in shape:
                if id(quantity) not in places:
                    places[id(quantity)] = len(table)
                    table.append(quantity)
        numbers = [quantity.number if catalogued(quantity) else 0 for quantity in table]
        write_varint(out, len(table))
        write_plain(out, numbers)
        for number, quantity in zip(numbers, table, strict=True):
            if not number:
                parts, texts, options = inline(quantity)
                for part in parts:
                    write_varint(out, part)
                for text in texts:
                    write_varint(out, self.texts.index(text))
                for option in options:
                    write_varint(out, 0 if option is None else self.texts.index(option) + 1)
        write_varint(out, len(self.shapes))
        write_plain(out, list(map(len, self.shapes.values())))
        write_plain(out, [places[id(quantity)] for shape in self.shapes.values() for quantity in shape])

    def _write_times(self, out: bytearray) -> None:
        """The times of captures, then of gaps, then of events with their details, each series by series."""
        captures, gaps, events = self.of(Capture), self.of(Gap), self.of(Event)
        slotted = [series for series in captures if series[0].slot is not None]
        clocked = [series for series in captures if series[0].clock_error_ms is not None]
        planned = _times(captures, "slot", lambda capture: capture.slot or 0)
        stamps = _times(captures, "stamp", lambda capture: capture.stamp)
        reads = _times(captures, "read_at", lambda capture: capture.read_at)
        _write_runs(out, slotted, _times(slotted, "slot", lambda capture: capture.slot or 0))
        _write_runs(out, captures, list(map(sub, stamps, planned)))
        _write_runs(out, captures, list(map(sub, reads, stamps)))
        _write_runs(out, clocked, _times(clocked, "clock error", lambda capture: capture.clock_error_ms or 0))
        missed = _times(gaps, "slot", lambda gap: gap.slot)
        opened = _times(gaps, "opened_at", lambda gap: gap.opened_at)
        _write_runs(out, gaps, missed)
        _write_runs(out, gaps, list(map(sub, opened, missed)))
        _write_runs(out, events, _times(events, "at", lambda event: event.at))
        for series in events:
            for event in series:
                self._write_detail(out, event)

    def _write_detail(self, out: bytearray, event: Event) -> None:
        if len(event.detail) > KEYS_MAX:
            raise ValueError(f"event {event.name}: {len(event.detail)} details, expected at most {KEYS_MAX}")
        write_varint(out, len(event.detail))
        for key, item in event.detail.items():
            write_varint(out, self.texts.index(key))
            if isinstance(item, str):
                write_varint(out, self.texts.index(item) << 1)
            else:
                number = whole(item, key)
                write_varint(out, ((number << 1) ^ (number >> 63)) << 1 | 1)

    def _write_values(self, out: bytearray) -> None:
        """The columns of values, shape by shape."""
        groups: dict[tuple[int, ...], list[list[Capture]]] = {shape: [] for shape in self.shapes}
        for series in self.of(Capture):
            groups[_shape(series[0])].append(series)
        for members in groups.values():
            runs = Runs(list(map(len, members)))
            for column in zip(*(capture.values for series in members for capture in series), strict=True):
                self.values += write_values(out, column, runs, self.texts)


def _shape(capture: Capture) -> tuple[int, ...]:
    return tuple(map(id, map(_quantity_of, capture.values)))


def _kind(record: Record, shapes: dict[tuple[int, ...], int]) -> int:
    if isinstance(record, Capture):
        return shapes[_shape(record)]
    return GAP if isinstance(record, Gap) else EVENT


def _flags(record: Record) -> int:
    if isinstance(record, Capture):
        flags = _SOURCE_CODES[record.source] | _STATE_CODES[record.time_state] << 3
        return flags | HAS_SLOT * (record.slot is not None) | HAS_CLOCK * (record.clock_error_ms is not None)
    return FAULT_CODES[record.fault] if isinstance(record, Gap) else HAS_METER * (record.meter is not None)


def _times(groups: list[list[RecordT]], what: str, time: Callable[[RecordT], int]) -> list[int]:
    """One time of each record, group by group, none beyond the limit."""
    times = [time(record) for group in groups for record in group]
    if times:
        instant(min(times), what)
        instant(max(times), what)
    return times


def _write_runs(out: bytearray, groups: list[list[RecordT]], numbers: list[int]) -> None:
    """Append a column that runs along the groups."""
    write_column(out, numbers, Runs(list(map(len, groups))))
