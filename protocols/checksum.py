"""Checksums of the frames: sum-8 (DL/T 645), LRC and CRC-16/Modbus, CRC-16/X-25 (DL/T 698.45, HDLC)."""

from array import array
from binascii import crc_hqx
from struct import unpack_from

_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def _steps() -> list[int]:
    """What becomes of each 16-bit register when all of it is shifted out, its low bit first. That of a sum is the sum
    of both, so each further bit doubles the table."""
    table = [0]
    for bit in range(16):
        register = 1 << bit
        for _ in range(16):
            register = register >> 1 ^ (0xA001 if register & 1 else 0)
        table += [register ^ other for other in table]
    return table


_MODBUS = array("H", _steps())
"""Steps of the reflected polynomial 8005H (MODBUS over Serial Line V1.02, §6.2.2), two bytes at a time."""


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
    for word in unpack_from(f"<{len(data) // 2}H", data):
        crc = table[crc ^ word]
    if len(data) % 2:  # the last byte alone: 8 steps, as many as 16 of what stands 8 places higher
        crc = crc >> 8 ^ table[(crc ^ data[-1]) << 8 & 0xFFFF]
    return crc


def crc16_x25(data: bytes) -> int:
    """CRC-16/X-25 (the frame check sequence of HDLC) as a number; on the wire its low byte comes first.

    The standard library has this polynomial with the bits the other way round, so the bits are turned before and after.
    """
    crc = crc_hqx(data.translate(_REVERSED), 0xFFFF)
    return (_REVERSED[crc & 0xFF] << 8 | _REVERSED[crc >> 8]) ^ 0xFFFF
