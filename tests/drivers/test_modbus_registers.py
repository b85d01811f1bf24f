"""Registers become exact decimals and back; what is no number never becomes one."""

import ctypes
import struct
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from protocols.capture import Quality
from protocols.modbus.registers import Format, Type, codes, high_words, parse_type, shortest_float32, swapped

_libc = ctypes.CDLL(None)
_libc.strtof.restype = ctypes.c_float
_libc.strtof.argtypes = [ctypes.c_char_p, ctypes.c_void_p]


def single(text: str) -> bytes:
    """The bits of the single nearest to a decimal, by the C library: one rounding, from text."""
    return struct.pack(">f", _libc.strtof(text.encode(), None))


def finite_single(raw: int) -> bool:
    return raw >> 23 & 0xFF != 0xFF


SINGLES = st.integers(0, 0xFFFFFFFF).filter(finite_single)
POWERS = [exponent << 23 for exponent in range(1, 255)]
"""The powers of two: the only singles whose neighbours lie unevenly."""


def digits_of(number: Decimal) -> int:
    return len("".join(map(str, number.as_tuple().digits)).strip("0")) or 1


@given(SINGLES)
@example(0x00000001)
@example(0x7F7FFFFF)
@example(0x80000000)
@settings(max_examples=300)
def test_a_float32_is_the_shortest_decimal_that_gives_its_bits_back(raw: int) -> None:
    bits = raw.to_bytes(4, "big")
    number = shortest_float32(bits)
    assert single(str(number)) == bits
    length = digits_of(number)
    if length > 1:  # one digit less, on either side, gives other bits
        step = Decimal((0, (1,), number.adjusted() - length + 2))
        below = number - number % step
        assert all(single(str(near)) != bits for near in (below - step, below, below + step))


def test_a_power_of_two_is_as_short_as_any() -> None:
    for raw in POWERS:
        bits = raw.to_bytes(4, "big")
        number = shortest_float32(bits)
        assert single(str(number)) == bits
        length = digits_of(number)
        step = Decimal((0, (1,), number.adjusted() - length + 2))
        below = number - number % step
        assert length == 1 or all(single(str(near)) != bits for near in (below, below + step))


@pytest.mark.parametrize(
    ("bits", "plain"),
    [("4366199A", "230.1"), ("42480000", "50"), ("00000000", "0"), ("3DCCCCCD", "0.1"), ("4B7FFFFF", "16777215"),
     ("4E6E6B28", "1000000000"), ("C2F6E979", "-123.456"), ("358637BD", "0.000001")],
)  # fmt: skip
def test_a_float32_is_written_plainly(bits: str, plain: str) -> None:
    number = Format(type=Type.FLOAT32).decode(bytes.fromhex(bits))
    assert isinstance(number, Decimal) and format(number, "f") == plain


@pytest.mark.parametrize(
    ("kind", "raw", "plain"),
    [("uint16", "FFFF", "65535"), ("int16", "FFFF", "-1"), ("uint32", "00010002", "65538"),
     ("int32", "FFFFFFFE", "-2"), ("uint64", "FFFFFFFFFFFFFFFF", "18446744073709551615"),
     ("int64", "8000000000000001", "-9223372036854775807"), ("float64", "406CC33333333333", "230.1"),
     ("float32/swap", "199A4366", "230.1"), ("uint32/swap", "00020001", "65538"),
     ("int64/swap", "FFFEFFFFFFFFFFFF", "-2"), ("uint16/swap", "1234", "4660")],
)  # fmt: skip
def test_every_type_is_read_in_both_word_orders(kind: str, raw: str, plain: str) -> None:
    type_, swap = parse_type(kind)
    form = Format(type=type_, swap=swap)
    number = form.decode(bytes.fromhex(raw))
    assert isinstance(number, Decimal) and format(number, "f") == plain
    assert form.encode(number) == bytes.fromhex(raw)


@pytest.mark.parametrize("kind", ["uint", "uint8", "float32/", "float32/big", "FLOAT32", ""])
def test_an_unknown_type_is_refused(kind: str) -> None:
    with pytest.raises(ValueError, match="a type among uint16"):
        parse_type(kind)


@pytest.mark.parametrize("raw", ["7FC00000", "FFFFFFFF", "7F800001"])
def test_a_nan_is_unavailable(raw: str) -> None:
    assert Format(type=Type.FLOAT32).decode(bytes.fromhex(raw)) is Quality.UNAVAILABLE


@pytest.mark.parametrize(
    ("kind", "raw"), [(Type.FLOAT32, "7F800000"), (Type.FLOAT32, "FF800000"), (Type.FLOAT64, "7FF0000000000000")]
)
def test_an_infinity_is_invalid(kind: Type, raw: str) -> None:
    assert Format(type=kind).decode(bytes.fromhex(raw)) is Quality.INVALID


@pytest.mark.parametrize(
    ("kind", "code"),
    [("uint16", "FFFF"), ("int16", "7FFF"), ("int16", "8000"), ("int32", "7FFFFFFF"), ("int32/swap", "7FFFFFFF"),
     ("int64", "8000000000000000"), ("float32", "FFFFFFFF")],
)  # fmt: skip
def test_a_not_available_code_is_never_a_number(kind: str, code: str) -> None:
    type_, swap = parse_type(kind)
    form = Format(type=type_, swap=swap, unavailable=codes(type_, [code]))
    raw = bytes.fromhex(code)
    assert form.decode(swapped(raw) if swap else raw) is Quality.UNAVAILABLE
    assert form.decode(form.encode(None)) is Quality.UNAVAILABLE


def test_a_not_available_code_wider_than_its_place_is_refused() -> None:
    assert Format(type=Type.INT32, unavailable=frozenset({0xFFFFFFFF}), unavailable_high=frozenset({0xFFFF}))
    for codes_, highs in (({1 << 32}, ()), ({-1}, ()), ((), {0x10000}), ((), {-1})):
        with pytest.raises(ValueError, match="wider than"):
            Format(type=Type.INT32, unavailable=frozenset(codes_), unavailable_high=frozenset(highs))


@pytest.mark.parametrize("swap", [False, True])
def test_a_not_available_high_word_is_one_whatever_stands_behind_it(swap: bool) -> None:
    form = Format(type=Type.INT32, swap=swap, unavailable_high=high_words(Type.INT32, ["7FFF----"]))
    told = {"7FFF0000": None, "7FFF1234": None, "7F001234": "2130711092", "00FF1234": "16716340", "FFFFFFFF": "-1"}
    for raw, number in told.items():
        wire = swapped(bytes.fromhex(raw)) if swap else bytes.fromhex(raw)
        assert form.decode(wire) == (Quality.UNAVAILABLE if number is None else Decimal(number)), raw
    assert form.decode(form.encode(None)) is Quality.UNAVAILABLE


def test_what_has_no_code_for_none_cannot_tell_it() -> None:
    with pytest.raises(ValueError, match="no not-available code"):
        Format(type=Type.UINT16).encode(None)
    assert Format(type=Type.FLOAT32).encode(None) == bytes.fromhex("7FC00000")


@pytest.mark.parametrize("code", ["FFF", "FFFFFFFF", "GGGG"])
def test_a_not_available_code_has_the_width_of_its_type(code: str) -> None:
    with pytest.raises(ValueError, match="4 hex digits"):
        codes(Type.UINT16, [code])


@given(
    st.sampled_from([kind for kind in Type if not kind.floating]),
    st.booleans(),
    st.decimals(allow_nan=False, allow_infinity=False, places=6).filter(lambda number: number != 0),
    st.binary(min_size=8, max_size=8),
)
@settings(max_examples=150)
def test_a_scale_is_exact(kind: Type, swap: bool, scale: Decimal, raw: bytes) -> None:
    form = Format(type=kind, swap=swap, scale=scale)
    raw = raw[: 2 * kind.words]
    number = form.decode(raw)
    assert isinstance(number, Decimal) and "E" not in format(number, "f")
    whole = int.from_bytes(swapped(raw) if swap else raw, "big", signed=kind.signed)
    assert Fraction(number) == whole * Fraction(scale)


@given(SINGLES, st.sampled_from(["1", "0.1", "0.001", "1000"]), st.booleans())
@settings(max_examples=150)
def test_a_float32_written_is_read_back(raw: int, scale: str, swap: bool) -> None:
    form = Format(type=Type.FLOAT32, scale=Decimal(scale), swap=swap)
    bits = swapped(raw.to_bytes(4, "big")) if swap else raw.to_bytes(4, "big")
    number = form.decode(bits)
    assert isinstance(number, Decimal) and form.encode(number) == bits


@given(st.sampled_from(Type), st.binary(max_size=12))
@settings(max_examples=80)
def test_any_bytes_are_a_number_or_a_reason_and_another_length_is_an_error(kind: Type, raw: bytes) -> None:
    if len(raw) == 2 * kind.words:
        assert isinstance(Format(type=kind).decode(raw), Decimal | Quality)
    else:
        with pytest.raises(ValueError, match="bytes"):
            Format(type=kind).decode(raw)


@pytest.mark.parametrize(
    ("kind", "number"), [("uint16", "65536"), ("uint16", "-1"), ("int16", "32768"), ("float32", "1e39")]
)
def test_a_number_that_does_not_fit_is_not_written(kind: str, number: str) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        Format(type=parse_type(kind)[0]).encode(Decimal(number))
