"""Damage that leaves things nearly right: bytes changed, and lengths and checksums mended behind them."""

import struct
import zlib
from collections.abc import Callable, Sequence
from decimal import Decimal
from itertools import pairwise
from random import Random

import cbor2

from protocols import cbor
from protocols.batch.codes import FAULTS, QUALITIES, SOURCES, TIME_STATES
from protocols.capture import Capture, Event, Gap, Quality, Record, Value
from protocols.checksum import crc16_modbus
from protocols.errors import Malformed
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


def mended_stream_645(random: Random, stream: bytes) -> bytes:
    """The bytes with every frame that seems to begin in them made whole where it stands."""
    changed = bytearray(stream or b"\x68")
    at = changed.find(0x68)
    while at >= 0:
        changed.extend(b"\x33" * (at + 12 - len(changed)))
        room = min(255, len(changed) - at - 12)
        changed[at + 7] = 0x68
        if changed[at + 9] > room or random.randrange(2):
            changed[at + 9] = room
        end = at + 12 + changed[at + 9]
        changed[end - 2 : end] = (sum(changed[at : end - 2]) & 0xFF, 0x16)
        at = changed.find(0x68, end)
    return bytes(changed)


def mended_rtu(random: Random, frame: bytes) -> bytes:
    """The bytes with byte count and checksum of a Modbus RTU frame."""
    body = _counted(random, frame[:-2].ljust(2, b"\x03")[:254], 1)
    return body + crc16_modbus(body).to_bytes(2, "little")


def mended_mbap(random: Random, frame: bytes) -> bytes:
    """The bytes with protocol, length and byte count of a Modbus TCP frame."""
    frame = _counted(random, frame.ljust(9, b"\0")[:260], 7)
    return frame[:2] + b"\0\0" + (len(frame) - 6).to_bytes(2, "big") + frame[6:]


def _counted(random: Random, frame: bytes, at: int) -> bytes:
    """A frame without checksum whose function stands at `at`, mostly with the count of the bytes that it holds."""
    changed = bytearray(frame)
    count = at + (5 if changed[at] in (15, 16) else 1)
    if len(changed) > count and random.randrange(4):
        changed[count] = min(255, len(changed) - count - 1)
    return bytes(changed)


def mended_ascii(_: Random, frame: bytes) -> bytes:
    """The bytes with colon, LRC and end of a Modbus ASCII frame, whatever digits there are in them."""
    digits = bytes(byte for byte in frame.upper() if byte in b"0123456789ABCDEF")
    body = bytes.fromhex(digits[: len(digits) // 2 * 2].decode())[:-1].ljust(2, b"\x03")[:254]
    return b":%s%02X\r\n" % (body.hex().upper().encode(), -sum(body) & 0xFF)


def mended_load_record(_: Random, payload: bytes) -> bytes:
    """The bytes with start, length, sum and end of a load record of DL/T 645."""
    body = bytearray(payload[:-2].ljust(8, b"\x01")[:253])
    body[:3] = bytes((*(b"\xe0\xe0" if body[0] == 0xE0 else b"\xa0\xa0"), len(body) - 3))
    return bytes(body) + bytes((sum(body) & 0xFF, 0xE5))


def in_parts(
    mend: Callable[[Random, bytes], bytes], random: Random, stream: bytes, split: bytes | None = None
) -> bytes:
    """The stream in some parts, most of them mended as frames: cut anywhere, or before each of these bytes."""
    if split is not None:
        first, *rest = stream.split(split)
        parts = [first, *(split + part for part in rest)]
    else:
        cuts = sorted(random.randrange(len(stream) + 1) for _ in range(random.choice((0, 0, 0, 1, 2))))
        parts = [stream[start:end] for start, end in pairwise((0, *cuts, len(stream)))]
    return b"".join(mend(random, part) if random.randrange(8) else part for part in parts)


def mended_cbor(random: Random, data: bytes) -> bytes:
    """Some CBOR, behind a tag of COSE or not, with one of its items replaced by an odd one, doubled or left out."""
    tag = data[:1] if data[:1] in (b"\xd0", b"\xd2") else b""
    try:
        return tag + cbor2.dumps(_altered(random, cbor.read(data[len(tag) :])))
    except (Malformed, UnicodeEncodeError):  # no CBOR; or half a character has come into it
        return data


def _altered(random: Random, item: object) -> object:
    """The same tree with one of its branches altered."""
    match item:
        case [*parts] if parts and random.randrange(8):
            at = random.randrange(len(parts))
            odd = _altered(random, parts[at])
            parts[at : at + 1] = random.choice(([odd], [odd], [odd], [], [parts[at], odd]))
            return parts
        case dict() if item and random.randrange(8):
            key = random.choice(list(item))
            return {**item, random.choice((key, key, key, "odd", 0)): _altered(random, item[key])}
        case _:
            return random.choice((None, True, b"", b"\0" * 8, random.randbytes(16), [], {}, [item, item], -1, 1.5,
                                  *ODD_NUMBERS, *ODD_TEXTS))  # fmt: skip


def deflated(raw: bytes) -> bytes:
    """Tables and columns as the body of a batch."""
    packer = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    return b"\x01" + packer.compress(raw) + packer.flush()


def inflated(body: bytes) -> bytes:
    """What such a body holds."""
    return zlib.decompress(body[1:], -zlib.MAX_WBITS)


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
