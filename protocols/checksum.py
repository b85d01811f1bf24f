"""Checksums of the frames: sum-8 (DL/T 645), LRC and CRC-16/Modbus, CRC-16/X-25 (DL/T 698.45, HDLC)."""

from binascii import crc_hqx

_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def _reflected_row(byte: int, polynomial: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (polynomial if byte & 1 else 0)
    return byte


_MODBUS = tuple(_reflected_row(byte, 0xA001) for byte in range(256))
"""Steps of the reflected polynomial 8005H (MODBUS over Serial Line V1.02, §6.2.2)."""


def sum8(data: bytes) -> int:
    """The sum of all bytes, modulo 256 (DL/T 645-2007, frame format: CS)."""
    return sum(data) & 0xFF


def lrc8(data: bytes) -> int:
    """The byte that brings the sum of all to 0, modulo 256 (MODBUS over Serial Line V1.02, §6.2.1: LRC)."""
    return -sum(data) & 0xFF


def crc16_modbus(data: bytes) -> int:
    """CRC-16/Modbus as a number; on the wire its low byte comes first."""
    table = _MODBUS
    crc = 0xFFFF
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    return crc


def crc16_x25(data: bytes) -> int:
    """CRC-16/X-25 (the frame check sequence of HDLC) as a number; on the wire its low byte comes first.

    The standard library has this polynomial with the bits the other way round, so the bits are turned before and after.
    """
    crc = crc_hqx(data.translate(_REVERSED), 0xFFFF)
    return (_REVERSED[crc & 0xFF] << 8 | _REVERSED[crc >> 8]) ^ 0xFFFF
