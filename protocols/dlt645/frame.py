"""The frame that both editions of DL/T 645 share, and how it is found in a stream of bytes.

    68 | A0 A1 A2 A3 A4 A5 | 68 | C | L | DATA (L bytes) | CS | 16

The address is 12 BCD digits, low byte first. Each byte of DATA has 33H added on the wire (modulo 256). CS is the sum
of all bytes before it, as sent. Some FE bytes may stand in front; they are no part of the frame, any number is taken.
Source: DL/T 645-2007, frame format. The 1997 text was not at hand: its frames are known from live logs.
"""

import re
from dataclasses import dataclass

from protocols.bcd import high_first, low_first
from protocols.errors import Malformed

START, END, PREAMBLE = 0x68, 0x16, 0xFE
OVERHEAD = 12
"""Bytes of a frame besides DATA."""
LENGTH_MAX = 255
"""What the length byte can say. The standard allows 200 in replies, 50 in writes; longer ones exist and are taken."""
ANY_METER = "AAAAAAAAAAAA"
BROADCAST = "999999999999"

_ADD = bytes((byte + 0x33) & 0xFF for byte in range(256))
_SUBTRACT = bytes((byte - 0x33) & 0xFF for byte in range(256))
_ADDRESS = re.compile(r"[0-9A-F]{12}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One frame.

    address: 12 digits as printed on the meter; `A` digits are wildcards (other hex digits occur in the field).
    control: the control byte. data: the payload in wire order, with the 33H taken off.
    """

    address: str
    control: int
    data: bytes = b""

    def __post_init__(self) -> None:
        if _ADDRESS.fullmatch(self.address) is None:
            raise ValueError(f"expected 12 digits (A for any), got address {self.address!r}")
        if not 0 <= self.control <= 0xFF:
            raise ValueError(f"expected a control byte, got {self.control}")
        if len(self.data) > LENGTH_MAX:
            raise ValueError(f"expected at most {LENGTH_MAX} bytes of data, got {len(self.data)}")

    @property
    def from_meter(self) -> bool:
        """Whether a meter sent it (C bit 7)."""
        return self.control & 0x80 != 0

    @property
    def abnormal(self) -> bool:
        """Whether the meter refuses (C bit 6)."""
        return self.control & 0x40 != 0

    @property
    def more(self) -> bool:
        """Whether follow-up frames are there to be read (C bit 5)."""
        return self.control & 0x20 != 0

    @property
    def function(self) -> int:
        """What is asked or answered (C bits 4 to 0)."""
        return self.control & 0x1F

    def encode(self, preamble: int = 4) -> bytes:
        """The bytes on the wire. preamble: how many FE bytes wake the receiver (the standard advises 4)."""
        body = b"\x68%b\x68%c%c%b" % (
            low_first(self.address), self.control, len(self.data), self.data.translate(_ADD),
        )  # fmt: skip
        return b"%b%b%c\x16" % (b"\xfe" * preamble, body, sum(body) & 0xFF)


def parse(data: bytes) -> Frame:
    """The frame that these bytes are, without preamble. Raises Malformed, saying what was expected and what came."""
    if len(data) < OVERHEAD:
        raise Malformed(f"length: expected at least {OVERHEAD} bytes, got {len(data)}")
    if data[0] != START:
        raise Malformed(f"start: expected 68, got {data[0]:02X}")
    if data[7] != START:
        raise Malformed(f"second start: expected 68 after the address, got {data[7]:02X}")
    if len(data) != OVERHEAD + data[9]:
        raise Malformed(f"length: expected {OVERHEAD + data[9]} bytes (L={data[9]}), got {len(data)}")
    if data[-1] != END:
        raise Malformed(f"end: expected 16, got {data[-1]:02X}")
    if data[-2] != (total := sum(data[:-2]) & 0xFF):
        raise Malformed(f"checksum: expected {total:02X}, got {data[-2]:02X}")
    return unchecked(data)


def unchecked(data: bytes) -> Frame:
    """What a frame says, read by position: of at least 10 bytes, whatever start, checksum and end bytes are."""
    length = data[9]
    return Frame(address=high_first(data[1:7]), control=data[8], data=data[10 : 10 + length].translate(_SUBTRACT))


class Deframer:
    """Finds frames in a stream. Holds at most one frame's worth of bytes between calls.

    Frames are found strictly from the left. A 68 with another 68 seven bytes later is a candidate; when the bytes it
    claims are there and are no frame, the search goes on from the next 68 (never further, so noise in front hides
    nothing). While it is still short of bytes, nothing behind it is looked at, because what follows may be its data:
    so the result never depends on how the stream was cut, and a frame carried inside another one is not mistaken for
    an answer. Noise that claims more bytes than come is dropped by `expire`, which then finds what stood behind it.
    """

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = b""

    @property
    def pending(self) -> int:
        """Bytes held back because they may still become a frame: fewer than 267."""
        return len(self._buffer)

    @property
    def missing(self) -> int:
        """At least so many bytes have to come before `feed` can return a frame."""
        held = self._buffer
        return OVERHEAD + (held[9] if len(held) > 9 else 0) - len(held)

    def feed(self, data: bytes) -> list[Frame]:
        """Take bytes as they come; return the frames that are now complete."""
        return self._scan(self._buffer + data)

    def expire(self) -> list[Frame]:
        """The line was quiet for the inter-byte limit (500 ms): drop the oldest open candidate and scan again.

        Others may be open behind it; at the end of an exchange, call until nothing is pending.
        """
        return self._scan(self._buffer[1:])

    def _scan(self, buffer: bytes) -> list[Frame]:
        frames: list[Frame] = []
        size = len(buffer)
        at = buffer.find(START)
        while at >= 0:
            if size - at < 10:
                if size - at > 7 and buffer[at + 7] != START:
                    at = buffer.find(START, at + 1)
                    continue
                break
            if buffer[at + 7] == START:
                end = at + OVERHEAD + buffer[at + 9]
                if end > size:
                    break
                if buffer[end - 1] == END and buffer[end - 2] == sum(buffer[at : end - 2]) & 0xFF:
                    frames.append(unchecked(buffer[at:end]))
                    at = buffer.find(START, end)
                    continue
            at = buffer.find(START, at + 1)
        self._buffer = buffer[at:] if at >= 0 else b""
        return frames
