"""Checksums and BCD: the published check values, and the slow definitions."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.bcd import digits, from_digits, high_first, low_first
from protocols.checksum import crc16_modbus, crc16_x25, sum8


def bitwise(data: bytes, polynomial: int) -> int:
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (polynomial if crc & 1 else 0)
    return crc


def test_the_check_values_of_the_catalogue_of_crcs() -> None:
    assert crc16_modbus(b"123456789") == 0x4B37
    assert crc16_x25(b"123456789") == 0x906E
    assert sum8(b"\xff\x02") == 1


@given(st.binary(max_size=80))
def test_crcs_equal_their_bitwise_definition(data: bytes) -> None:
    assert crc16_modbus(data) == bitwise(data, 0xA001)
    assert crc16_x25(data) == bitwise(data, 0x8408) ^ 0xFFFF


@given(st.integers(0, 10**12 - 1))
def test_digits_come_back(number: int) -> None:
    data = from_digits(str(number), 6)
    assert len(data) == 6
    assert int(digits(data) or "") == number


@given(st.binary(max_size=12))
def test_only_decimal_half_bytes_are_digits(data: bytes) -> None:
    assert low_first(high_first(data)) == data
    decimal = bool(data) and all(byte >> 4 < 10 and byte & 15 < 10 for byte in data)
    assert digits(data) == (high_first(data) if decimal else None)


@pytest.mark.parametrize("wrong", ["123", "-1", "1a", "", "²"])
def test_what_does_not_fit_is_not_written(wrong: str) -> None:
    with pytest.raises(ValueError, match="expected at most 2 decimal digits"):
        from_digits(wrong, 1)


def test_a_shift_of_two_bytes_changes_a_crc_but_no_sum() -> None:
    for a, b in pairwise(bytes(range(16))):
        assert sum8(bytes([a, b])) == sum8(bytes([b, a]))
        assert crc16_modbus(bytes([a, b])) != crc16_modbus(bytes([b, a]))
