"""Forms that are made of others, and those whose inside is not known: records of events, tables of settings.

What is known of a record is its first fields; the rest stays text, its bytes as hex, high byte first.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from protocols.bcd import high_first, low_first
from protocols.capture import Value
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
    """A table of up to `most` entries of `size` bytes of BCD: text, entries in their order, each high byte first."""

    size: int
    most: int

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
        if not "".join(entries).isdecimal():
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
        data = b"".join(part.encode((quantity,), (value,)) for quantity, part, value in parts)
        if self.tail and plain[-1] is None:
            data = data[: -self.parts[-1].length].ljust(self.length, b"\xff")
        if not self.takes(len(data)):
            raise ValueError(f"{quantities[0].name}: expected {self.length} bytes, got {len(data)}")
        return data


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """A moment and what was measured then: the moment comes first on the wire, and last among the values."""

    when: Shape
    parts: tuple[Shape, ...]

    @property
    def length(self) -> int:
        return self.when.length + sum(part.length for part in self.parts)

    def takes(self, length: int) -> bool:
        return length == self.length

    def decode(self, quantities: Sequence[Quantity], data: bytes) -> list[Value]:
        values = Fields(parts=(self.when, *self.parts)).decode((quantities[-1], *quantities[:-1]), data)
        return [*values[1:], values[0]]

    def encode(self, quantities: Sequence[Quantity], plain: Sequence[Plain]) -> bytes:
        ordered = (quantities[-1], *quantities[:-1])
        return Fields(parts=(self.when, *self.parts)).encode(ordered, (plain[-1], *plain[:-1]))
