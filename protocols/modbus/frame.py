"""Modbus frames on a serial line (RTU, ASCII) and on TCP (MBAP), and the deframers of RTU and TCP.

    RTU:  unit | function | data ... | CRC low, CRC high                                   [SER] §2.5.1
    ASCII: ":" | the same in hexadecimal digits, an LRC in place of the CRC | CR LF        [SER] §2.5.2
    TCP:  transaction 2 | protocol 2 (0) | length 2 | unit | function | data ...           [TCP] §3.1.3

The length of an RTU frame stands nowhere in it: it follows from the function code, differently for a request and a
reply. A deframer therefore listens for one side: `replies` (a client), or `requests` (a simulated meter).
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct
from typing import Literal

from protocols.checksum import crc16_modbus, lrc8
from protocols.made import maker

Side = Literal["replies", "requests"]

ERROR_BIT = 0x80
"""Set in the function code of an exception reply; its one byte of data is the code. [APP] §7."""

EXCEPTIONS = {
    0x01: "illegal function",
    0x02: "illegal data address",
    0x03: "illegal data value",
    0x04: "server device failure",
    0x05: "acknowledge",
    0x06: "server device busy",
    0x08: "memory parity error",
    0x0A: "gateway path unavailable",
    0x0B: "gateway target device failed to respond",
}
"""[APP] §7."""

IDENTIFY, IDENTIFY_MEI = 0x2B, 0x0E
"""Read device identification: the function, and the byte behind it that says which of its uses. [APP] §6.21."""

_MBAP = Struct(">HHHBB")
_MBAP_HEADER = 6
_UNIT_LENGTH_MAX = 254
"""Unit, function and the longest data: 1 + 253. [APP] §4.1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """A request or a reply, whatever carries it.

    unit: 1..247 on a serial line (0 is broadcast), 0..255 over TCP. data: what follows the function code, without
    checksum. transaction: the number that pairs question and answer over TCP, None on a serial line. ascii: it stands
    in characters on the serial line, not in bytes.
    """

    unit: int
    function: int
    data: bytes
    transaction: int | None = None
    ascii: bool = False

    def __post_init__(self) -> None:
        if not (0 <= self.unit <= 255 and 1 <= self.function <= 255 and len(self.data) <= _UNIT_LENGTH_MAX - 2):
            raise ValueError(f"unit {self.unit}, function {self.function}, {len(self.data)} bytes: not a Modbus frame")
        if self.transaction is not None and not 0 <= self.transaction <= 0xFFFF:
            raise ValueError(f"transaction {self.transaction} (0..65535)")

    @property
    def exception(self) -> int | None:
        """The code of an exception reply, or None when it is none."""
        return self.data[0] if self.function & ERROR_BIT and self.data else None

    def encode(self) -> bytes:
        """The bytes on the wire: MBAP when the frame has a transaction, else ASCII or RTU."""
        if self.transaction is not None:
            length = len(self.data) + 2
            return _MBAP.pack(self.transaction, 0, length, self.unit, self.function) + self.data
        body = bytes((self.unit, self.function)) + self.data
        if self.ascii:
            return b":%s%02X\r\n" % (body.hex().upper().encode(), lrc8(body))
        return body + crc16_modbus(body).to_bytes(2, "little")


_found: Callable[[int, int, bytes, int | None], Frame] = maker(Frame, "unit", "function", "data", "transaction")
"""A frame of which a deframer has seen that it is one."""


def read_request(
    unit: int, function: int, address: int, count: int, *, transaction: int | None = None, as_ascii: bool = False
) -> Frame:
    """The question for `count` registers from `address` (0-based): function 3 holding, 4 input. [APP] §6.3, §6.4."""
    if function not in (3, 4) or not (address >= 0 and 1 <= count <= 125 and address + count <= 0x10000):
        raise ValueError(f"function {function} (3 or 4), registers {address}+{count} (1..125 within 0..65535)")
    data = address.to_bytes(2, "big") + count.to_bytes(2, "big")
    return Frame(unit=unit, function=function, data=data, transaction=transaction, ascii=as_ascii)


# What a frame can begin with, by side. A candidate that the end of the bytes cuts short stays open (\Z). Only
# functions whose length is known are candidates: anything else could never be found to end.
_EVEN = b"[" + b"".join(b"\\x%02x" % n for n in range(2, 251, 2)) + b"]"
_BEGINS: dict[Side, re.Pattern[bytes]] = {
    "replies": re.compile(
        rb"[\x01-\xf7](?:\Z"
        rb"|[\x03\x04\x17](?:\Z|" + _EVEN + rb")"
        rb"|[\x01\x02](?:\Z|[\x01-\xfa])"
        rb"|[\x05\x06\x0f\x10]"
        rb"|\x2b(?:\Z|\x0e)"
        rb"|[\x81-\x86\x8f\x90\x97\xab](?:\Z|[\x01-\xff]))"
    ),
    "requests": re.compile(rb"[\x00-\xf7](?:\Z|[\x01-\x06\x08\x0f\x10]|\x2b(?:\Z|\x0e))"),
}
_HEAD: dict[Side, int] = {"replies": 3, "requests": 2}
"""Bytes needed before the length of a candidate can be told."""

SHORTEST = 5
"""Unit, function, one byte of data, CRC: an exception reply. No frame that a deframer takes for one is shorter."""


def _reply_length(buffer: bytes, start: int) -> int:
    function = buffer[start + 1]
    if function & ERROR_BIT:
        return 5
    if function == IDENTIFY:
        return 2 + _identification_length(buffer, start)
    return 8 if function in (0x05, 0x06, 0x0F, 0x10) else 5 + buffer[start + 2]


def _identification_length(buffer: bytes, start: int) -> int:
    """Unit to last object: each object tells its own length ([APP] §6.21). Of one that is cut short, as far as it is
    known; of one that is longer than a frame can be, 0 with the CRC: never a frame."""
    length = 8
    for _ in range(buffer[start + 7] if len(buffer) - start > 7 else 0):
        at = start + length + 1
        length += 2 + (buffer[at] if at < len(buffer) else 0)
        if length > _UNIT_LENGTH_MAX:
            return -2
        if at >= len(buffer):
            break
    return length


def _request_length(buffer: bytes, start: int) -> int:
    function = buffer[start + 1]
    if function in (0x0F, 0x10):
        return 9 + (buffer[start + 6] if len(buffer) - start > 6 else 0)
    return 7 if function == 0x2B else 8


_LENGTH_OF: dict[Side, Callable[[bytes, int], int]] = {"replies": _reply_length, "requests": _request_length}


def rtu_frame_at(data: bytes, start: int, side: Side) -> Frame | None:
    """The whole RTU frame that begins at this place, for who listens to both sides; None where none does."""
    if _BEGINS[side].match(data, start) is None or len(data) - start < _HEAD[side]:
        return None
    length = _LENGTH_OF[side](data, start)
    whole = data[start : start + length]
    if length < 4 or len(whole) < length or crc16_modbus(whole) != 0:
        return None
    return _found(whole[0], whole[1], whole[2:-2], None)


class Held(ABC):
    """What a deframer keeps between calls, and what it has passed over."""

    __slots__ = ("_buffer", "skipped")

    def __init__(self) -> None:
        self._buffer = b""
        self.skipped = 0
        """Bytes dropped because they belong to no frame."""

    @property
    def pending(self) -> int:
        """Bytes held back because they may still become a frame."""
        return len(self._buffer)

    @abstractmethod
    def feed(self, data: bytes) -> list[Frame]:
        """Take bytes as they come; return the frames that are now complete."""

    def expire(self) -> list[Frame]:
        """The line has been quiet for the inter-byte limit: drop the oldest open candidate and scan again."""
        if not self._buffer:
            return []
        rest, self._buffer = self._buffer[1:], b""
        self.skipped += 1
        return self.feed(rest)


class RtuDeframer(Held):
    """Finds RTU frames by their length and CRC at every offset, so that noise, an echo of the own request, frames
    of other meters and damaged frames in front of a good one do not hide it.

    Bytes of at most one open candidate are held (under 256 after each call). A candidate that noise opened may wait
    for bytes that never come: call `expire()` when the line has been quiet, until `pending` is 0.
    """

    __slots__ = ("_head", "_length_of", "_search")

    def __init__(self, side: Side = "replies") -> None:
        super().__init__()
        self._search = _BEGINS[side].search
        self._head = _HEAD[side]
        self._length_of = _LENGTH_OF[side]

    @property
    def missing(self) -> int:
        """At least so many bytes have to come before `feed` can return a frame."""
        held = len(self._buffer)
        whole = self._length_of(self._buffer, 0) if held >= self._head else SHORTEST
        return max(whole - held, 0)

    def feed(self, data: bytes) -> list[Frame]:
        """Take bytes as they come; return the frames that are now complete."""
        frames: list[Frame] = []
        buffer = self._buffer + data if self._buffer else bytes(data)
        size, position = len(buffer), 0
        search, head, length_of = self._search, self._head, self._length_of
        while (match := search(buffer, position)) is not None:
            start = match.start()
            self.skipped += start - position
            position = start
            if size - start < head:
                break
            end = start + length_of(buffer, start)
            if size < end:
                break
            frame = buffer[start:end]
            if crc16_modbus(frame) == 0:  # over a whole frame, its own CRC included
                frames.append(_found(frame[0], frame[1], frame[2:-2], None))
                position = end
            else:
                self.skipped += 1
                position = start + 1
        else:
            self.skipped += size - position
            position = size
        self._buffer = buffer[position:]
        return frames


_MBAP_BEGINS = re.compile(rb"(?s).(?:\Z|.(?:\Z|\x00(?:\Z|\x00(?:\Z|\x00(?:\Z|[\x03-\xfe])))))")


def _reply_consistent(function: int, length: int, rest: bytes) -> bool:
    """Whether the length in the header agrees with the function and what follows it; true while that is not known."""
    if function in (3, 4, 0x17):
        return length % 2 == 1 and length > 3 and (not rest or rest[0] == length - 3)
    if function & ERROR_BIT:
        return length == 3
    if function in (1, 2):
        return length > 3 and (not rest or rest[0] == length - 3)
    if function == IDENTIFY:
        return length >= 8 and (not rest or rest[0] == IDENTIFY_MEI)
    return length == 6 if function in (5, 6, 15, 16) else function != 0


def _request_consistent(function: int, length: int, rest: bytes) -> bool:
    """The same of a question."""
    if function == 0:
        return False
    if function == IDENTIFY:
        return length == 5
    if 1 <= function <= 6:
        return length == 6
    return function not in (15, 16) or len(rest) < 5 or length == 7 + rest[4]


class TcpDeframer(Held):
    """Finds MBAP frames. TCP delivers bytes unharmed, so the first header is normally right; where one is not
    (protocol other than 0, a length that cannot be or that contradicts function and byte count), the deframer goes
    on one byte later and counts what it passes over. It never raises: the question that stays unanswered is what
    makes its owner give the connection up, and the transaction number keeps a frame found late from answering.
    """

    __slots__ = ("_consistent",)

    def __init__(self, side: Side = "replies") -> None:
        super().__init__()
        self._consistent = _reply_consistent if side == "replies" else _request_consistent

    @property
    def missing(self) -> int:
        """0: TCP brings frames whole, as a rule."""
        return 0

    def feed(self, data: bytes) -> list[Frame]:
        """Take bytes as they come; return the frames that are now complete."""
        frames: list[Frame] = []
        buffer = self._buffer + data if self._buffer else bytes(data)
        size, position = len(buffer), 0
        while (match := _MBAP_BEGINS.search(buffer, position)) is not None:
            start = match.start()
            self.skipped += start - position
            position = start
            if size - start < _MBAP.size:
                break
            transaction, _, length, unit, function = _MBAP.unpack_from(buffer, start)
            end = start + _MBAP_HEADER + length
            if not self._consistent(function, length, buffer[start + _MBAP.size : end]):
                self.skipped += 1
                position = start + 1
                continue
            if size < end:
                break
            body = buffer[start + _MBAP.size : end]
            frames.append(_found(unit, function, body, transaction))
            position = end
        else:
            self.skipped += size - position
            position = size
        self._buffer = buffer[position:]
        return frames
