"""The questions that can be put to a Modbus meter besides reading registers, each as a frame. [APP] §6."""

from collections.abc import Sequence

from protocols.modbus.frame import IDENTIFY, IDENTIFY_MEI, Frame

BITS_MAX, WRITE_BITS_MAX, WRITE_REGISTERS_MAX = 2000, 1968, 123
"""Most coils or inputs of a read, coils of a write, registers of a write. [APP] §6.1, §6.11, §6.12."""
_ON, _OFF = 0xFF00, 0x0000
"""A coil in a single write. [APP] §6.5."""


def _words(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(2, "big") for number in numbers)


def _within(what: str, address: int, count: int, most: int) -> None:
    if not (address >= 0 and 1 <= count <= most and address + count <= 0x10000):
        raise ValueError(f"{what} {address}+{count} (1..{most} within 0..65535)")


def pack_bits(bits: Sequence[bool]) -> bytes:
    """Bits in bytes, the first in the lowest place of the first byte. [APP] §6.1."""
    packed = sum(1 << n for n, bit in enumerate(bits) if bit)
    return packed.to_bytes((len(bits) + 7) // 8, "little")


def unpack_bits(data: bytes, count: int) -> tuple[bool, ...]:
    """The first `count` bits of these bytes."""
    packed = int.from_bytes(data, "little")
    return tuple(bool(packed >> n & 1) for n in range(count))


def read_bits_request(
    unit: int, function: int, address: int, count: int, *, transaction: int | None = None, as_ascii: bool = False
) -> Frame:
    """The question for `count` bits from `address` (0-based): function 1 coils, 2 discrete inputs."""
    if function not in (1, 2):
        raise ValueError(f"function {function} (1 or 2)")
    _within("bits", address, count, BITS_MAX)
    return Frame(unit=unit, function=function, data=_words(address, count), transaction=transaction, ascii=as_ascii)


def write_coil_request(
    unit: int, address: int, on: bool, *, transaction: int | None = None, as_ascii: bool = False
) -> Frame:
    """Function 5."""
    _within("coil", address, 1, 1)
    data = _words(address, _ON if on else _OFF)
    return Frame(unit=unit, function=0x05, data=data, transaction=transaction, ascii=as_ascii)


def write_register_request(
    unit: int, address: int, word: int, *, transaction: int | None = None, as_ascii: bool = False
) -> Frame:
    """Function 6."""
    _within("register", address, 1, 1)
    if not 0 <= word <= 0xFFFF:
        raise ValueError(f"register content {word} (0..65535)")
    return Frame(unit=unit, function=0x06, data=_words(address, word), transaction=transaction, ascii=as_ascii)


def write_coils_request(
    unit: int, address: int, bits: Sequence[bool], *, transaction: int | None = None, as_ascii: bool = False
) -> Frame:
    """Function 15."""
    _within("coils", address, len(bits), WRITE_BITS_MAX)
    packed = pack_bits(bits)
    data = _words(address, len(bits)) + bytes((len(packed),)) + packed
    return Frame(unit=unit, function=0x0F, data=data, transaction=transaction, ascii=as_ascii)


def write_registers_request(
    unit: int, address: int, content: bytes, *, transaction: int | None = None, as_ascii: bool = False
) -> Frame:
    """Function 16: registers as they are to stand in the meter, two bytes each."""
    if len(content) % 2:
        raise ValueError(f"registers of two bytes each, got {len(content)} bytes")
    _within("registers", address, len(content) // 2, WRITE_REGISTERS_MAX)
    data = _words(address, len(content) // 2) + bytes((len(content),)) + content
    return Frame(unit=unit, function=0x10, data=data, transaction=transaction, ascii=as_ascii)


def identify_request(
    unit: int, *, code: int = 1, object_id: int = 0, transaction: int | None = None, as_ascii: bool = False
) -> Frame:
    """Function 43/14: who made this device. code: 1 basic, 2 regular, 3 extended, 4 one object alone. [APP] §6.21."""
    if not (1 <= code <= 4 and 0 <= object_id <= 0xFF):
        raise ValueError(f"code {code} (1..4), object {object_id} (0..255)")
    data = bytes((IDENTIFY_MEI, code, object_id))
    return Frame(unit=unit, function=IDENTIFY, data=data, transaction=transaction, ascii=as_ascii)
