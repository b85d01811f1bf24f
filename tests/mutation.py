"""Damage that leaves things nearly right: bytes changed, and lengths and checksums mended behind them."""

import struct
import zlib
from collections.abc import Sequence
from decimal import Decimal
from random import Random

from protocols.batch.codes import FAULTS, QUALITIES, SOURCES, TIME_STATES
from protocols.capture import Capture, Event, Gap, Quality, Record, Value
from protocols.checksum import crc16_modbus
from protocols.quantity import Form, Kind, Quantity, by_name

ODD_BYTES = b"\x00\x01\x10\x16\x18\x1b\x33\x68\x7f\x80\x81\x9b\xa0\xbf\xc3\xdf\xed\xf4\xf7\xfb\xfe\xff"
"""Starts, ends, signs, fillers, heads of CBOR items, of UTF-8 sequences and of varints."""
ODD_NUMBERS = (0, 1, 2, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**31, 2**32 - 1, 2**52, 2**53, 2**63 - 1, 2**64 - 1)
ODD_TEXTS = ("", "\0", "é电表", "\U0010ffff", "a" * 300, "NaN", "-0", "1E+9", "../..", "'; --", "\ud7ff")
QUANTITIES = tuple(
    by_name(name)
    for name in ("voltage.a", "energy.active.import.total", "energy.active.import.t2.last_1", "power_factor.total",
                 "demand.active.import.total.time", "meter.number", "clock.date")
)  # fmt: skip
OUTSIDE = Quantity(number=0, name="vendor.odd", unit="", kind=Kind.STATUS, form=Form.TEXT)


def mutate(random: Random, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """The bytes, damaged in one to four places. others: where foreign pieces may come from."""
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 3, 4))):
        at = random.randrange(len(changed) + 1)
        end = min(len(changed), at + random.choice((1, 1, 2, 4, 8, 32)))
        match random.randrange(9):
            case 0 if changed:
                changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
            case 1 if changed:
                changed[random.randrange(len(changed))] = random.choice(ODD_BYTES)
            case 2:
                del changed[at:end]
            case 3:
                changed[at:at] = changed[at:end] * random.choice((1, 2, 50))
            case 4:
                changed[at:at] = random.randbytes(random.choice((1, 2, 9, 40)))
            case 5:
                del changed[at:]
            case 6:
                number = random.choice(ODD_NUMBERS)
                changed[at:end] = number.to_bytes(8, random.choice(("big", "little")))[-random.choice((1, 2, 4, 8)) :]
            case 7:
                changed[at:end] = random.choice((b"", b"\x1b", b"\xfb", b"\x5b", b"\x9b", b"\xbb")) + struct.pack(
                    ">Q", random.choice(ODD_NUMBERS)
                )
            case _ if others:
                other = random.choice(others)
                start = random.randrange(len(other) + 1)
                changed[at:end] = other[start : start + random.choice((1, 4, 16, 64))]
    return bytes(changed)


def mended_dlt645(frame: bytes) -> bytes:
    """The bytes with start, length, checksum and end as a DL/T 645 frame of their length has them."""
    frame = frame.lstrip(b"\xfe")
    body = bytearray(frame[:-2].ljust(10, b"\x33")[: 10 + 255])
    body[0] = body[7] = 0x68
    body[9] = len(body) - 10
    return bytes(body) + bytes((sum(body) & 0xFF, 0x16))


def mended_rtu(frame: bytes) -> bytes:
    """The bytes with the checksum of a Modbus RTU frame."""
    body = frame[:-2].ljust(2, b"\x03")[:254]
    return body + crc16_modbus(body).to_bytes(2, "little")


def mended_mbap(frame: bytes) -> bytes:
    """The bytes with protocol and length of a Modbus TCP frame."""
    frame = frame.ljust(9, b"\0")[:260]
    return frame[:2] + b"\0\0" + (len(frame) - 6).to_bytes(2, "big") + frame[6:]


def deflated(raw: bytes) -> bytes:
    """Tables and columns as the body of a batch."""
    packer = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    return b"\x01" + packer.compress(raw) + packer.flush()


def inflated(body: bytes) -> bytes:
    """What such a body holds."""
    return zlib.decompress(body[1:], -zlib.MAX_WBITS)


def pieces(random: Random, stream: bytes) -> list[bytes]:
    """The stream cut anywhere: whole, byte by byte, or something between."""
    size = random.choice((len(stream) + 1, 1, 2, 8, 40))
    found, at = [], 0
    while at < len(stream):
        step = random.randint(1, size)
        found.append(stream[at : at + step])
        at += step
    return found


def some_records(random: Random) -> list[Record]:
    """A few records of every kind, with words and numbers at their limits among ordinary ones."""
    return [_record(random) for _ in range(random.choice((1, 2, 5, 30)))]


def _record(random: Random) -> Record:
    meter, at = _text(random) or "m", random.choice((1_780_000_200_000, 0, -1, 2**45))
    match random.randrange(6):
        case 0:
            return Gap(meter=meter, task="curve", slot=at, fault=random.choice(FAULTS), opened_at=at + 1,
                       detail=random.choice((None, _text(random))))  # fmt: skip
        case 1:
            return Event(name=_text(random), at=at, meter=random.choice((None, meter)),
                         detail={"text": _text(random), "number": random.choice((0, -1, 2**50))})  # fmt: skip
    values = tuple(_value(random) for _ in range(random.choice((1, 3, 8))))
    return Capture(
        meter=meter, point=_text(random), task="curve", slot=random.choice((None, at)), stamp=at,
        read_at=at + random.randrange(-5, 2000), time_state=random.choice(TIME_STATES),
        clock_error_ms=random.choice((None, 0, -86_400_000)), source=random.choice(SOURCES),
        ct=random.choice((Decimal(1), Decimal(400), Decimal("0.50"))), values=values,
    )  # fmt: skip


def _value(random: Random) -> Value:
    quantity = random.choice((*QUANTITIES, OUTSIDE))
    match random.randrange(8):
        case 0:
            quality = random.choice((Quality.UNAVAILABLE, Quality.INVALID))
            return Value(quantity=quantity, quality=quality, fault=random.choice((None, *FAULTS)))
        case 1:
            return Value(quantity=quantity, text=_text(random), quality=random.choice(QUALITIES[:2]))
        case 2:
            return Value(quantity=quantity, time="2026-09-21T22:15", detail=_text(random))
    digits = random.choice((0, 1, 2300, -5, 10**12, random.randrange(10**6)))
    return Value(quantity=quantity, number=Decimal(digits).scaleb(random.choice((0, -1, -3, 2, -30))))


def _text(random: Random) -> str:
    return random.choice((f"meter-{random.randrange(20)}", f"meter-{random.randrange(20)}", *ODD_TEXTS))
