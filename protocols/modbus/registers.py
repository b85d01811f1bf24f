"""What stands in Modbus registers: types, word orders, not-available codes. Exact, both ways, in Decimal.

A register is 16 bits, high byte first ([APP] §4.2). How several of them make a wider number is the vendor's choice:
the high word first (`big`, most meters) or the low word first (`/swap` in an item's notation).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Context, Decimal, Inexact, InvalidOperation
from enum import Enum
from functools import lru_cache
from math import isinf, isnan
from struct import Struct

from protocols.capture import Quality

_EXACT = Context(prec=400, traps=[Inexact, InvalidOperation])
"""Enough digits for a float64 times any scale; a step that would round raises instead."""

_F32, _F64 = Struct(">f"), Struct(">d")
_NORMAL_MIN = 2.0**-126


class Type(Enum):
    """The type of a number in registers, by the name it has in profiles and on the command line."""

    UINT16 = "uint16"
    INT16 = "int16"
    UINT32 = "uint32"
    INT32 = "int32"
    UINT64 = "uint64"
    INT64 = "int64"
    FLOAT32 = "float32"
    FLOAT64 = "float64"

    @property
    def words(self) -> int:
        """Registers that one number takes."""
        return int(self.value[-2:]) // 16

    @property
    def signed(self) -> bool:
        """Whether an integer type has a sign."""
        return self.value.startswith("int")

    @property
    def floating(self) -> bool:
        """Whether it is an IEEE 754 number."""
        return self.value.startswith("float")


def shortest_float32(raw: bytes) -> Decimal:
    """The shortest decimal that gives the same 32 bits back, of a finite IEEE 754 single, high byte first.

    Six digits always survive decimal -> single -> decimal, so the six-digit rounding is the only candidate that
    short; nine digits always tell two singles apart. Between them the nearest decimal of each length is tried.
    Subnormal singles hold fewer digits, so all lengths are tried.
    """
    unpack, pack = _F32.unpack, _F32.pack
    number = unpack(raw)[0]
    for digits in (6, 7, 8) if abs(number) >= _NORMAL_MIN or number == 0 else range(1, 9):
        text = f"{number:.{digits}g}"
        if unpack(pack(float(text)))[0] == number:
            return Decimal(text)
        if digits > 6 and raw[2:] == b"\0\0" and not raw[1] & 0x7F and (other := _far_side(raw, digits)):
            return other
    return Decimal(f"{number:.9g}")


def _far_side(raw: bytes, digits: int) -> Decimal | None:
    """The decimal beyond a power of two. On its inner side singles lie twice as dense as outside, so the nearest
    decimal may belong to the neighbour inside while one a little further away, outside, gives these bits back."""
    nearest = Decimal(f"{_F32.unpack(raw)[0]:.{digits}g}")
    step = Decimal((0, (1,), nearest.adjusted() - digits + 1))
    for candidate in (nearest + step, nearest - step):
        if _F32.pack(float(candidate)) == raw:
            return candidate.normalize(_EXACT)
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """How one number stands in registers: type, word order, exact scale, and the codes that mean "none".

    scale: raw times scale is the value in the quantity's unit. unavailable: raw numbers, as unsigned integers over
    the whole width with the high word first, that say that the meter has no such value (a NaN always does).
    unavailable_high: high words that say so whatever stands behind them.
    """

    type: Type
    swap: bool = False
    scale: Decimal = Decimal(1)
    unavailable: frozenset[int] = frozenset()
    unavailable_high: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        if not (self.scale.is_finite() and self.scale != 0):
            raise ValueError(f"scale {self.scale} is not a finite number other than 0")
        if any(not 0 <= code < 1 << 16 * self.type.words for code in self.unavailable):
            raise ValueError(f"a not-available code wider than {self.type.value}")
        if any(not 0 <= code <= 0xFFFF for code in self.unavailable_high):
            raise ValueError("a not-available high word wider than a register")

    @property
    def words(self) -> int:
        """Registers that one number takes."""
        return _WORDS[self.type]

    @property
    def plain(self) -> bool:
        """Whether it is one register whose value, without a sign, is the number: nothing is to be decoded."""
        return self == _PLAIN_REGISTER

    def decode(self, raw: bytes) -> Decimal | Quality:
        """The number in these registers (as they came, 2 bytes each), or why there is none.

        UNAVAILABLE: a not-available code or a NaN. INVALID: an infinity. Raises ValueError on another length.
        """
        if len(raw) != 2 * _WORDS[self.type]:
            raise ValueError(f"{self.type.value} takes {2 * _WORDS[self.type]} bytes, got {raw.hex()}")
        return self.decoder()(raw)

    def decoder(self) -> Callable[[bytes], Decimal | Quality]:
        """`decode` prepared once for many registers. The function that comes back relies on the right length."""
        decode = _PLAIN[self.type]
        scale, unavailable, high = self.scale, self.unavailable, self.unavailable_high
        if scale != 1:
            decode = _scaled(decode, scale)
        if unavailable:
            decode = _unless(decode, unavailable)
        if high:
            decode = _unless_high(decode, high)
        return _reordered(decode) if self.swap else decode

    def encode(self, number: Decimal | None) -> bytes:
        """The registers that hold this number, rounded to what they can hold; None gives the not-available code.

        Raises ValueError when the number does not fit, or when there is no code for None.
        """
        kind = self.type
        width = 2 * _WORDS[kind]
        if number is None:
            highs = {high << 8 * (width - 2) for high in self.unavailable_high}
            if not (self.unavailable or highs) and kind not in _FLOATS:
                raise ValueError(f"this {kind.value} has no not-available code")
            code = min(self.unavailable | highs, default=0x7FC0 << 8 * (width - 2))
            raw = code.to_bytes(width, "big")
        else:
            raw_number = number / self.scale
            try:
                if kind in _FLOATS:
                    raw = (_F32 if kind is Type.FLOAT32 else _F64).pack(float(raw_number))
                else:
                    raw = round(raw_number).to_bytes(width, "big", signed=kind in _SIGNED)
            except OverflowError as error:
                raise ValueError(f"{number} does not fit a {kind.value} of scale {self.scale}") from error
        return swapped(raw) if self.swap else raw


_WORDS = {kind: kind.words for kind in Type}
_PLAIN_REGISTER = Format(type=Type.UINT16)
_FLOATS = frozenset(kind for kind in Type if kind.floating)
_SIGNED = frozenset(kind for kind in Type if kind.signed)

_Decode = Callable[[bytes], Decimal | Quality]


def _unsigned(raw: bytes) -> Decimal | Quality:
    return Decimal(int.from_bytes(raw, "big"))


def _signed(raw: bytes) -> Decimal | Quality:
    return Decimal(int.from_bytes(raw, "big", signed=True))


def _float32(raw: bytes) -> Decimal | Quality:
    if raw[0] & 0x7F == 0x7F and raw[1] & 0x80:  # the exponent is all ones
        return Quality.UNAVAILABLE if raw[1] & 0x7F or raw[2] or raw[3] else Quality.INVALID
    return shortest_float32(raw)


def _float64(raw: bytes) -> Decimal | Quality:
    number = _F64.unpack(raw)[0]
    if isnan(number):
        return Quality.UNAVAILABLE
    return Quality.INVALID if isinf(number) else Decimal(repr(number))


_PLAIN: dict[Type, _Decode] = {
    **{kind: _signed if kind.signed else _unsigned for kind in Type},
    Type.FLOAT32: _float32,
    Type.FLOAT64: _float64,
}


def _scaled(decode: _Decode, scale: Decimal) -> _Decode:
    multiply = _EXACT.multiply

    def scaled(raw: bytes) -> Decimal | Quality:
        number = decode(raw)
        return number if isinstance(number, Quality) else multiply(number, scale)

    return scaled


def _unless(decode: _Decode, unavailable: frozenset[int]) -> _Decode:
    return lambda raw: Quality.UNAVAILABLE if int.from_bytes(raw, "big") in unavailable else decode(raw)


def _unless_high(decode: _Decode, high: frozenset[int]) -> _Decode:
    return lambda raw: Quality.UNAVAILABLE if raw[0] << 8 | raw[1] in high else decode(raw)


def _reordered(decode: _Decode) -> _Decode:
    return lambda raw: decode(swapped(raw))


def swapped(raw: bytes) -> bytes:
    """The same registers in the opposite order; the two bytes of each stay."""
    return b"".join([raw[n : n + 2] for n in range(len(raw) - 2, -2, -2)])


@lru_cache(maxsize=1024)
def parse_type(text: str) -> tuple[Type, bool]:
    """A type as written in items and profiles: `uint16`, `float32/swap`. Raises ValueError saying what is expected."""
    name, slash, suffix = text.partition("/")
    if name not in TYPE_NAMES or (slash and suffix != "swap"):
        raise ValueError(f"a type among {', '.join(TYPE_NAMES)}, with /swap for low word first")
    return Type(name), bool(slash)


TYPE_NAMES: tuple[str, ...] = tuple(kind.value for kind in Type)


def codes(kind: Type, texts: Iterable[str]) -> frozenset[int]:
    """Not-available codes from hex text as profiles have it: `FFFF`, `7FC00000`. Raises ValueError as above. Those of
    `high_words` are passed over."""
    found = set()
    for text in texts:
        if text.endswith(_ANY):
            continue
        if len(text) != 4 * kind.words or not set(text) <= _HEX:
            raise ValueError(f"not-available codes of {4 * kind.words} hex digits, as {kind.value} is wide")
        found.add(int(text, 16))
    return frozenset(found)


def high_words(kind: Type, texts: Iterable[str]) -> frozenset[int]:
    """Not-available high words: `7FFF----`, whatever stands behind them. Raises ValueError as above."""
    found = set()
    for text in texts:
        if not text.endswith(_ANY):
            continue
        high = text.rstrip("-")
        if len(high) != 4 or len(text) != 4 * kind.words or not set(high) <= _HEX:
            raise ValueError(f"not-available high words as 4 hex digits and {4 * kind.words - 4} dashes")
        found.add(int(high, 16))
    return frozenset(found)


_ANY = "----"
_HEX = frozenset("0123456789ABCDEFabcdef")
