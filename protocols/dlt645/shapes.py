"""How one item stands in the payload: number, time, text. Each shape decodes and encodes, by the length that came.

Rules that hold for all of them: all bytes FF means that the meter has no value (quality unavailable); a half-byte
that is no digit, a date that does not exist or a length that cannot be is quality invalid. Never a number instead.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Literal, Protocol

from protocols.bcd import from_digits, high_first, low_first
from protocols.capture import Quality, Value
from protocols.dlt645 import moment
from protocols.quantity import Quantity

Plain = Decimal | str | None
"""A value on its own: a number, ISO time or text, or None for what the meter has not."""


class Shape(Protocol):
    """The form of one item. length: its bytes by the standard."""

    @property
    def length(self) -> int: ...

    def takes(self, length: int) -> bool:
        """Whether an item that stands alone may have this length."""
        ...

    def decode(self, quantities: Sequence[Quantity], data: bytes) -> list[Value]:
        """One Value per quantity. data has a length that `takes`."""
        ...

    def encode(self, quantities: Sequence[Quantity], plain: Sequence[Plain]) -> bytes:
        """The payload. Raises ValueError for what cannot be written."""
        ...


def unavailable(quantity: Quantity, detail: str | None = None) -> Value:
    """The meter says that it has none."""
    return Value(quantity=quantity, quality=Quality.UNAVAILABLE, detail=detail)


def invalid(quantity: Quantity, detail: str) -> Value:
    """Something came that cannot be decoded."""
    return Value(quantity=quantity, quality=Quality.INVALID, detail=detail)


class Sign(Enum):
    """What the top bit of a number is."""

    NONE = "none"
    TOP = "top"
    """The sign; it is taken off before the digits are read (DL/T 645-2007, Annex A, notes)."""
    UNCLEAR = "unclear"
    """A digit by the format, a sign in some meters: such a number is given as it stands, and marked doubtful."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """A BCD number. long: another length and its decimals that single items may have, decoded by the length."""

    length: int
    decimals: int
    sign: Sign = Sign.NONE
    long: tuple[int, int] | None = None

    def takes(self, length: int) -> bool:
        return length == self.length or (self.long is not None and length == self.long[0])

    def decode(self, quantities: Sequence[Quantity], data: bytes) -> list[Value]:
        decimals = self.decimals if len(data) == self.length or self.long is None else self.long[1]
        text = data[::-1].hex()
        minus = ""
        if text[0] > "7" and self.sign is Sign.TOP:
            if not text.strip("f"):
                return [unavailable(quantities[0])]
            text = f"{int(text[0], 16) - 8}{text[1:]}"
            minus = "-"
        if not text.isdecimal():
            if not text.strip("f"):
                return [unavailable(quantities[0])]
            return [invalid(quantities[0], f"not BCD: {high_first(data)}")]
        number = Decimal(f"{minus}{text[:-decimals]}.{text[-decimals:]}" if decimals else minus + text)
        if minus and not number:
            number = abs(number)
        if text[0] > "7" and self.sign is Sign.UNCLEAR:
            detail = f"top bit set, a sign in some meters: {high_first(data)}"
            return [Value(quantity=quantities[0], number=number, quality=Quality.DOUBTFUL, detail=detail)]
        return [Value(quantity=quantities[0], number=number)]

    def encode(self, quantities: Sequence[Quantity], plain: Sequence[Plain]) -> bytes:
        if plain[0] is None:
            return b"\xff" * self.length
        scaled = Decimal(plain[0]).scaleb(self.decimals)
        whole = int(scaled)
        if whole != scaled or (whole < 0 and self.sign is not Sign.TOP):
            raise ValueError(f"{quantities[0].name}: {plain[0]} does not fit {self.decimals} decimals, {self.sign}")
        data = from_digits(str(abs(whole)), self.length)
        if self.sign is Sign.NONE:
            return data
        if data[-1] & 0x80:
            raise ValueError(f"{quantities[0].name}: {plain[0]} needs the place of the sign")
        return data[:-1] + bytes([data[-1] | 0x80]) if whole < 0 else data


@dataclass(frozen=True, slots=True, kw_only=True)
class When:
    """A date, a time or both. parts: the order in which people read it, `YYMMDDWWhhmmss`; WW is a second value."""

    parts: str

    @property
    def length(self) -> int:
        return len(self.parts) // 2

    def takes(self, length: int) -> bool:
        return length == self.length

    def decode(self, quantities: Sequence[Quantity], data: bytes) -> list[Value]:
        text = high_first(data)
        if not text.strip("F"):
            return [unavailable(quantity) for quantity in quantities]
        if "DD" in self.parts and not text.strip("0"):
            return [unavailable(quantity, "all zeros: never set") for quantity in quantities]
        iso, day = moment.read(text, self.parts)
        if iso is None:
            return [invalid(quantity, f"no time: {text} as {self.parts}") for quantity in quantities]
        values = [Value(quantity=quantities[0], time=iso)]
        if len(quantities) > 1:
            values.append(
                unavailable(quantities[1]) if day is None else Value(quantity=quantities[1], number=Decimal(day))
            )
        return values

    def encode(self, quantities: Sequence[Quantity], plain: Sequence[Plain]) -> bytes:
        if plain[0] is None:
            return b"\xff" * self.length
        found = moment.parts_of(str(plain[0]))
        if len(plain) > 1 and plain[1] is not None:
            found["WW"] = int(Decimal(plain[1]))
        return low_first(moment.join(found, self.parts))


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """A maximum demand and when it was: XX.XXXX and mm hh DD MM YY on the wire."""

    number: Number
    when: When

    @property
    def length(self) -> int:
        return self.number.length + self.when.length

    def takes(self, length: int) -> bool:
        return length == self.length

    def decode(self, quantities: Sequence[Quantity], data: bytes) -> list[Value]:
        cut = self.number.length
        return self.number.decode(quantities[:1], data[:cut]) + self.when.decode(quantities[1:], data[cut:])

    def encode(self, quantities: Sequence[Quantity], plain: Sequence[Plain]) -> bytes:
        return self.number.encode(quantities[:1], plain[:1]) + self.when.encode(quantities[1:], plain[1:])


@dataclass(frozen=True, slots=True, kw_only=True)
class Digits:
    """A number that is a name: an address, a meter number. Its zeros count. base 16: a status word, as hex.

    unset: the digits that stand for none, beside all F. every: all F stands for every one, not for none.
    """

    length: int
    base: Literal[10, 16] = 10
    unset: str | None = None
    every: bool = False

    def takes(self, length: int) -> bool:
        return length == self.length

    def decode(self, quantities: Sequence[Quantity], data: bytes) -> list[Value]:
        text = high_first(data)
        if (not text.strip("F") and not self.every) or text == self.unset:
            return [unavailable(quantities[0])]
        if self.base == 10 and not text.isdecimal():
            return [invalid(quantities[0], f"not BCD: {text}")]
        return [Value(quantity=quantities[0], text=text)]

    def encode(self, quantities: Sequence[Quantity], plain: Sequence[Plain]) -> bytes:
        if plain[0] is None:
            return b"\xff" * self.length
        text = str(plain[0])
        if len(text) != 2 * self.length:
            raise ValueError(f"{quantities[0].name}: expected {2 * self.length} digits, got {text!r}")
        return low_first(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ascii:
    """Text, sent last character first, padded behind its end with NUL (seen in live meters) or spaces."""

    length: int

    def takes(self, length: int) -> bool:
        return length > 0

    def decode(self, quantities: Sequence[Quantity], data: bytes) -> list[Value]:
        text = data[::-1].rstrip(b"\0\xff ").lstrip(b"\0 ")
        if not text:
            return [unavailable(quantities[0])]
        if not (text.isascii() and text.decode("ascii").isprintable()):
            return [invalid(quantities[0], f"not ASCII: {high_first(data)}")]
        return [Value(quantity=quantities[0], text=text.decode("ascii"))]

    def encode(self, quantities: Sequence[Quantity], plain: Sequence[Plain]) -> bytes:
        if plain[0] is None:
            return b"\xff" * self.length
        data = str(plain[0]).encode("ascii")
        if len(data) > self.length:
            raise ValueError(f"{quantities[0].name}: expected at most {self.length} characters, got {plain[0]!r}")
        return data.ljust(self.length, b"\0")[::-1]
