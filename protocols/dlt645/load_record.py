"""Area 06 of DL/T 645-2007, load profile (负荷记录): 06 0c 00 to 02, the records of Appendix B; and the grid's curves.

    A0 A0 | length | mm hh DD MM YY | U I f AA | P Q AA | PF AA | energy AA | quadrants AA | demand AA | sum | E5

c is the class that was asked for: 1 to 6 in the order of the sections, 0 all. Sections that the meter does not record
are empty, and only their AA is there; some meters leave that out too. E0 E0 marks a record as invalid. The sum is over
all bytes before it. AA is no digit, so it is in no section. What the length counts is not the same in all sources: to
the last AA, to the end, or with its own head; each is taken, if sum and end are right.

    06 10 cc pp   mm hh DD MM YY | value | value an interval later | ...      follow-up frames: values alone

Curves: cc 01 voltage, 02 current, 03 and 04 power, 05 its factor, 06 energy, 07 quadrants, 08 present demand; pp one of
them, FF all: those of one moment, then those of the next. A meter of one phase fills the others (seen with zeros).
Source: DL/T 645-2007 Appendix B; separators left out and E0 E0 from firmware; curves from one capture, a list of the
grid's fourth supplement, a meter tester, two concentrators and what stands between one and its meters.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from protocols.bcd import high_first
from protocols.capture import Value
from protocols.dlt645.compound import Timed
from protocols.dlt645.layout import (
    AMPERE,
    ENERGY,
    ENERGY_SIGNED,
    FACTOR,
    MINUTE,
    POWER_SIGNED,
    XX,
    XXX,
    Item,
    Layout,
    single,
)
from protocols.dlt645.shapes import Plain, Shape, invalid, unavailable
from protocols.quantity import Quantity, by_name

START, INVALID_START, SEPARATOR, END = b"\xa0\xa0", b"\xe0\xe0", b"\xaa", 0xE5
TIME = by_name("record.time.load")
_STARTS = re.compile(rb"\xa0(?=\xa0)|\xe0(?=\xe0)")
_HEAD = 8
"""Bytes before the sections: start, length, moment."""
_SPANS = (5, 3, 0)
"""How many bytes more than its length byte says a record may have."""
_PHASED = ("total", "a", "b", "c")
_ROWS: tuple[tuple[tuple[str, Shape], ...], ...] = (
    (*((f"voltage.{p}", XXX) for p in "abc"), *((f"current.{p}", AMPERE) for p in "abc"), ("frequency", XX)),
    tuple((f"power.{nature}.{p}", POWER_SIGNED) for nature in ("active", "reactive") for p in _PHASED),
    tuple((f"power_factor.{p}", FACTOR) for p in _PHASED),
    (
        ("energy.active.import.total", ENERGY),
        ("energy.active.export.total", ENERGY),
        ("energy.reactive.combined_1.total", ENERGY_SIGNED),
        ("energy.reactive.combined_2.total", ENERGY_SIGNED),
    ),
    tuple((f"energy.reactive.q{n}.total", ENERGY) for n in range(1, 5)),
    (("demand.active.present", POWER_SIGNED), ("demand.reactive.present", POWER_SIGNED)),
)
SECTIONS: tuple[tuple[tuple[Quantity, Shape], ...], ...] = tuple(
    tuple((by_name(f"{name}.load"), shape) for name, shape in rows) for rows in _ROWS
)
"""The quantities of each section, with their forms, in the order of the wire."""
SIZES = tuple(sum(shape.length for _, shape in section) for section in SECTIONS)

_CURVES: dict[str, tuple[int, tuple[tuple[str, Shape], ...]]] = {
    "01": (1, _ROWS[0][:3]),
    "02": (1, _ROWS[0][3:6]),
    "03": (0, _ROWS[1][:4]),
    "04": (0, _ROWS[1][4:]),
    "05": (0, _ROWS[2]),
    "06": (1, _ROWS[3]),
    "07": (1, _ROWS[4]),
    "08": (1, _ROWS[5]),
}
"""0610 cc: the first pp, and what it and those behind it are."""


@dataclass(frozen=True, slots=True)
class LoadRecord:
    """One record: its moment, and the values of its sections; only an invalid moment where it cannot be read."""

    time: Value
    values: tuple[Value, ...] = ()


def parse(payload: bytes, only: int = 0) -> list[LoadRecord]:
    """The records of an answer. only: the class that was asked for (1 to 6), 0 for all.

    What is no record stands among them as one with an invalid moment; nothing is passed over in silence.
    """
    return list(_records(payload, only))


def _records(payload: bytes, only: int) -> Iterator[LoadRecord]:
    at = 0
    while at < len(payload):
        end = _end_of(payload, at)
        if end is not None:
            yield _record(payload[at:end], only)
            at = end
            continue
        later = (match.start() for match in _STARTS.finditer(payload, at + 1))
        stop = next((found for found in later if _end_of(payload, found) is not None), len(payload))
        yield LoadRecord(invalid(TIME, f"no load record: {payload[at:stop].hex().upper()}"))
        at = stop


def _end_of(payload: bytes, at: int) -> int | None:
    """Where the record ends that starts here; None if none does."""
    if payload[at : at + 2] not in (START, INVALID_START) or len(payload) < at + _HEAD + 2:
        return None
    for span in _SPANS:
        end = at + payload[at + 2] + span
        ends = at + _HEAD + 2 <= end <= len(payload) and payload[end - 1] == END
        if ends and payload[end - 2] == sum(payload[at : end - 2]) & 0xFF:
            return end
    return None


def _record(record: bytes, only: int) -> LoadRecord:
    (time,) = MINUTE.decode((TIME,), record[3:_HEAD])
    if record[:2] == INVALID_START:
        return LoadRecord(invalid(TIME, f"marked as invalid by the meter: {high_first(record[3:_HEAD])}"))
    parts = record[_HEAD:-2].split(SEPARATOR)
    if not parts[-1]:
        parts.pop()
    sections = _places([len(part) for part in parts], only)
    if sections is None or time.time is None:
        return LoadRecord(invalid(TIME, f"load record of unknown form: {record.hex().upper()}"))
    values: list[Value] = []
    for part, section in zip([part for part in parts if part], sections, strict=True):
        at = 0
        for quantity, shape in SECTIONS[section]:
            values += shape.decode((quantity,), part[at : at + shape.length])
            at += shape.length
    return LoadRecord(time, tuple(values))


def _places(lengths: Sequence[int], only: int) -> tuple[int, ...] | None:
    """Which section each part that is not empty is; None where that is not certain.

    With all six separators it is their order. With fewer, leading ones are missing, where the meter has some of empty
    sections, or any: lengths have to tell, and where energy and quadrants (16 bytes both) could be meant, the class
    that was asked for.
    """
    filled = [length for length in lengths if length]
    first = len(SIZES) - len(lengths)
    if first < 0:
        return None
    aligned = tuple(first + n for n, length in enumerate(lengths) if length)
    fits = all(SIZES[place] == length for place, length in zip(aligned, filled, strict=True))
    if first == 0:
        return aligned if fits else None
    found = [
        places for places in combinations(range(len(SIZES)), len(filled)) if [SIZES[n] for n in places] == filled
    ]  # fmt: skip
    if only and (only - 1,) in found:
        return (only - 1,) if not fits or aligned == (only - 1,) else None
    if fits and len(filled) < len(lengths):
        return aligned
    return found[0] if len(found) == 1 else None


@dataclass(frozen=True, slots=True)
class Records:
    """The form of an answer: any number of records; of each its moment, then its values. only: the class, 0 for all."""

    only: int

    @property
    def length(self) -> int:
        return _HEAD + sum(SIZES) + len(SIZES) + 2

    def takes(self, length: int) -> bool:
        return length >= 0

    def decode(self, quantities: Sequence[Quantity], data: bytes) -> list[Value]:
        if not data:
            return [unavailable(TIME, "the meter has no such records")]
        return [value for record in parse(data, self.only) for value in (record.time, *record.values)]

    def encode(self, quantities: Sequence[Quantity], plain: Sequence[Plain]) -> bytes:
        """One record; a section without any value is empty."""
        given = dict(zip(quantities, plain, strict=True))
        body = MINUTE.encode((TIME,), (given[TIME],))
        for section in SECTIONS:
            if any(given.get(quantity) is not None for quantity, _ in section):
                body += b"".join(shape.encode((quantity,), (given.get(quantity),)) for quantity, shape in section)
            body += SEPARATOR
        head = START + bytes((len(body),)) + body
        return head + bytes((sum(head) & 0xFF, END))


def find(di: str) -> Layout | None:
    """What stands behind an identifier of area 06; None where only the bytes are known."""
    kind, what = int(di[2:4], 16), di[4:6]
    if di[:2] != "06":
        return None
    if kind <= len(SECTIONS) and what == "00" and di[6:] in ("00", "01", "02", "FF"):
        sections = SECTIONS[kind - 1 : kind] if kind else SECTIONS
        quantities = (TIME, *(quantity for section in sections for quantity, _ in section))
        return Layout(items=(Item(di=di, quantities=quantities, shape=Records(kind)),), open_ended=True)
    if kind != 0x10 or what not in _CURVES:
        return None
    first, rows = _CURVES[what]
    nth = int(di[6:], 16) - first
    if di[6:] != "FF":
        rows = rows[nth : nth + 1] if nth >= 0 else ()
    if not rows:
        return None
    names = (*(f"{name}.load" for name, _ in rows), TIME.name)
    return single(di, names, Timed(when=MINUTE, parts=tuple(shape for _, shape in rows), series=True))
