"""Forms that are made of others, and those whose inside is not known: records of events, tables of settings.

What is known of a record is its first fields; the rest stays text, its bytes as hex, high byte first.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Literal

from protocols.bcd import high_first, low_first
from protocols.capture import Quality, Value
from protocols.dlt645.shapes import Plain, Shape, invalid, unavailable
from protocols.quantity import Quantity


@dataclass(frozen=True, slots=True, kw_only=True)
class Opaque:
    """Bytes of a format that is not known, or differs between meters. fixed: only this length is right."""

    length: int
    fixed: bool = False

    def takes(self, length: int) -> bool:
        return length == self.length if self.fixed else length > 0

    def decode(self, quantities: Sequence[Quantity], data: bytes) -> list[Value]:
        if not data.strip(b"\xff"):
            return [unavailable(quantities[0])]
        return [Value(quantity=quantities[0], text=high_first(data))]

    def encode(self, quantities: Sequence[Quantity], plain: Sequence[Plain]) -> bytes:
        if plain[0] is None:
            return b"\xff" * self.length
        data = low_first(str(plain[0]))
        if not self.takes(len(data)):
            raise ValueError(f"{quantities[0].name}: expected {self.length} bytes of hex, got {plain[0]!r}")
        return data


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """What is written and never read: if a meter should answer, it is not shown."""

    length: int

    def takes(self, length: int) -> bool:
        return length > 0

    def decode(self, quantities: Sequence[Quantity], data: bytes) -> list[Value]:
        return [unavailable(quantities[0], f"{len(data)} bytes of a password, not shown")]

    def encode(self, quantities: Sequence[Quantity], plain: Sequence[Plain]) -> bytes:
        if plain[0] is None:
            return b"\xff" * self.length
        raise ValueError(f"{quantities[0].name}: a password is no value")


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """A table of up to `most` entries of `size` bytes: text, entries in their order, each high byte first.

    base 16: any digits, as in identifiers.
    """

    size: int
    most: int
    base: Literal[10, 16] = 10

    @property
    def length(self) -> int:
        return self.size * self.most

    def takes(self, length: int) -> bool:
        return 0 < length <= self.length and length % self.size == 0

    def decode(self, quantities: Sequence[Quantity], data: bytes) -> list[Value]:
        entries = [high_first(data[at : at + self.size]) for at in range(0, len(data), self.size)]
        while entries and not entries[-1].strip("F"):
            entries.pop()
        if not entries:
            return [unavailable(quantities[0])]
        if self.base == 10 and not "".join(entries).isdecimal():
            return [invalid(quantities[0], f"not BCD: {' '.join(entries)}")]
        return [Value(quantity=quantities[0], text=" ".join(entries))]

    def encode(self, quantities: Sequence[Quantity], plain: Sequence[Plain]) -> bytes:
        if plain[0] is None:
            return b"\xff" * self.length
        entries = str(plain[0]).split()
        if not entries or len(entries) > self.most or any(len(entry) != 2 * self.size for entry in entries):
            raise ValueError(f"{quantities[0].name}: expected up to {self.most} entries of {2 * self.size} digits")
        return b"".join(map(low_first, entries))


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """Several forms one after the other, a quantity each. tail: an Opaque at the end, as long as what is left.

    total: bytes of the whole where that is known; with a tail and without it, any length from the fields' own on.
    """

    parts: tuple[Shape, ...]
    tail: bool = False
    total: int | None = None

    @property
    def length(self) -> int:
        return self.total or sum(part.length for part in self.parts)

    @property
    def elastic(self) -> bool:
        """Whether the length is not known beforehand."""
        return self.tail and self.total is None

    def takes(self, length: int) -> bool:
        known = sum(part.length for part in (self.parts[:-1] if self.tail else self.parts))
        return length > known if self.elastic else length == self.length

    def decode(self, quantities: Sequence[Quantity], data: bytes) -> list[Value]:
        values: list[Value] = []
        at = 0
        for quantity, part in zip(quantities, self.parts, strict=True):
            end = len(data) if self.tail and part is self.parts[-1] else at + part.length
            values += part.decode((quantity,), data[at:end])
            at = end
        return values

    def encode(self, quantities: Sequence[Quantity], plain: Sequence[Plain]) -> bytes:
        parts = zip(quantities, self.parts, plain, strict=True)
        written = [(part, part.encode((quantity,), (value,))) for quantity, part, value in parts]
        data = b"".join(data.ljust(0 if self.tail else part.length, b"\xff") for part, data in written)
        if self.tail and plain[-1] is None:
            data = data[: -self.parts[-1].length].ljust(self.length, b"\xff")
        if not self.takes(len(data)):
            raise ValueError(f"{quantities[0].name}: expected {self.length} bytes, got {len(data)}")
        return data


@dataclass(frozen=True, slots=True, kw_only=True)
class Several:
    """Items of different forms one after the other, a quantity each. least: how many of them come at least."""

    parts: tuple[Shape, ...]
    least: int

    @property
    def length(self) -> int:
        return sum(part.length for part in self.parts)

    def takes(self, length: int) -> bool:
        return self._count(length) is not None

    def decode(self, quantities: Sequence[Quantity], data: bytes) -> list[Value]:
        count = self._count(len(data)) or 0
        return Fields(parts=self.parts[:count]).decode(quantities[:count], data)

    def encode(self, quantities: Sequence[Quantity], plain: Sequence[Plain]) -> bytes:
        return Fields(parts=self.parts).encode(quantities, plain)

    def _count(self, length: int) -> int | None:
        """How many items of this length came; None where it is no number of whole ones."""
        ends = list(accumulate(part.length for part in self.parts))[self.least - 1 :]
        return ends.index(length) + self.least if length in ends else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Either:
    """The same quantities in one of several forms, told apart by their length; the first is that of the standard."""

    forms: tuple[Fields, ...]

    @property
    def length(self) -> int:
        return self.forms[0].length

    def takes(self, length: int) -> bool:
        return any(form.takes(length) for form in self.forms)

    def decode(self, quantities: Sequence[Quantity], data: bytes) -> list[Value]:
        form = next(form for form in self.forms if form.takes(len(data)))
        return form.decode(quantities, data)

    def encode(self, quantities: Sequence[Quantity], plain: Sequence[Plain]) -> bytes:
        return self.forms[0].encode(quantities, plain)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A record of an event. whole: the form that the standard gives it; head: how many of its fields come first in
    every meter. One of another length is these and, as the last quantity, the rest of it as hex. All zeros or all FF:
    the meter has no such record. end: the place of the moment when it ended; after: those of what was read then.
    """

    whole: Fields | Either
    head: int
    end: int | None = None
    after: frozenset[int] = frozenset()

    @property
    def length(self) -> int:
        return self.whole.length

    @property
    def other(self) -> Fields:
        """The form of a record of another length."""
        parts = (self.whole.forms[0] if isinstance(self.whole, Either) else self.whole).parts
        return Fields(parts=(*parts[: self.head], Opaque(length=1)), tail=True)

    def takes(self, length: int) -> bool:
        return self.whole.takes(length) or self.other.takes(length)

    def decode(self, quantities: Sequence[Quantity], data: bytes) -> list[Value]:
        if not data.strip(b"\0") or not data.strip(b"\xff"):
            there = quantities[:-1] if self.whole.takes(len(data)) else quantities[: self.head]
            return [unavailable(quantity, "no such record") for quantity in there]
        if self.whole.takes(len(data)):
            values = self.whole.decode(quantities[:-1], data)
            if self.end is None or values[self.end].quality is not Quality.UNAVAILABLE:
                return values
            return [
                unavailable(value.quantity, "the event has not ended") if n in self.after else value
                for n, value in enumerate(values)
            ]
        return self.other.decode((*quantities[: self.head], quantities[-1]), data)

    def encode(self, quantities: Sequence[Quantity], plain: Sequence[Plain]) -> bytes:
        """The standard's form; with a rest, its head and that."""
        if plain[-1] is None:
            return self.whole.encode(quantities[:-1], plain[:-1])
        return self.other.encode((*quantities[: self.head], quantities[-1]), (*plain[: self.head], plain[-1]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """A moment and what was measured then: the moment comes first on the wire, and last among the values. Without a
    moment, nothing was: what stands behind it is no value either.

    series: what was measured an interval later may follow, and so on. The meter gives these no moment, and how long the
    interval is stands in its settings: their moment is unavailable, its detail says how many intervals later it was.
    """

    when: Shape
    parts: tuple[Shape, ...]
    series: bool = False

    @property
    def length(self) -> int:
        return self.when.length + self._width

    @property
    def _width(self) -> int:
        return sum(part.length for part in self.parts)

    def takes(self, length: int) -> bool:
        behind = length - self.length
        return behind == 0 or (self.series and behind > 0 and behind % self._width == 0)

    def decode(self, quantities: Sequence[Quantity], data: bytes) -> list[Value]:
        head = self.when.length
        (moment,) = self.when.decode(quantities[-1:], data[:head])
        if moment.time is None:
            return [replace(moment, quantity=quantity) for quantity in quantities]
        values: list[Value] = []
        for nth, at in enumerate(range(head, len(data), self._width)):
            values += Fields(parts=self.parts).decode(quantities[:-1], data[at : at + self._width])
            later = f"{nth} interval{'s' if nth > 1 else ''} after {moment.time}"
            values.append(unavailable(moment.quantity, later) if nth else moment)
        return values

    def encode(self, quantities: Sequence[Quantity], plain: Sequence[Plain]) -> bytes:
        """One of them."""
        ordered = (quantities[-1], *quantities[:-1])
        return Fields(parts=(self.when, *self.parts)).encode(ordered, (plain[-1], *plain[:-1]))


def widths(shape: Shape, length: int) -> tuple[int, ...]:
    """How many bytes of a payload of this length each of its values takes; its length where they do not follow so."""
    match shape:
        case Fields(parts=parts, tail=tail):
            known = tuple(part.length for part in parts)
            return (*known[:-1], length - sum(known[:-1])) if tail else known
        case Either(forms=forms):
            return next((widths(form, length) for form in forms if form.takes(length)), (length,))
        case Record(whole=whole, other=other):
            return widths(whole if whole.takes(length) else other, length)
        case Several(parts=parts):
            ends = accumulate(part.length for part in parts)
            return tuple(part.length for part, end in zip(parts, ends, strict=True) if end <= length)
    return (length,)
