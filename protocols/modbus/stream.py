"""Replies in the stream of a Modbus TCP connection, where a reply that was cut short is made whole by the next one.

TCP delivers what the far end sent. A gateway that breaks off a reply (its meter fell silent in the midst of it, its
buffer was full) and goes on with another sends a stream in which the length of the first header covers bytes of the
second reply: taken for registers, they are a wrong value with a right transaction, unit, function and byte count. Only
what stands in it and behind it shows this.
"""

import re

from protocols.modbus.frame import _MBAP, _MBAP_BEGINS, _MBAP_HEADER, Frame, _found, _mbap_consistent

_SWALLOWED = re.compile(rb"(?s)(?=..\0\0\0([\x03-\xfe]).([\x01-\x04\x17\x81-\x84\x97])(.))")
"""The header of a reply to a read, from its transaction to the byte behind the function."""


class TcpReplies:
    """Finds the replies in what comes, and passes over those that may have been cut short: where anything but a header
    stands behind one, where one holds the header of another, and, as long as nothing stands behind it and the time
    limit has not passed, one that came in pieces. A reply whose registers happen to look like the header of a reply
    (7 bytes that have to fit, once in 10^11 of random ones) is passed over as well.

    Unlike other deframers it does not find a reply with garbage behind it: there is none on TCP, but after a slip.
    """

    __slots__ = ("_buffer", "skipped")

    def __init__(self) -> None:
        self._buffer = b""
        self.skipped = 0
        """Bytes dropped because they belong to no reply, or to one that was cut short."""

    @property
    def pending(self) -> int:
        """Bytes held back because they may still become a reply, or prove to be none."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[Frame]:
        """Take bytes as they come; return the replies that are now complete."""
        earlier = len(self._buffer)
        return self._scan(self._buffer + data if earlier else bytes(data), earlier)

    def expire(self) -> list[Frame]:
        """Nothing came for the time limit: what is whole was not cut short. Else drop the oldest byte, scan again."""
        buffer = self._buffer
        frames = self._scan(buffer, 0)
        if frames or len(self._buffer) < len(buffer) or not buffer:
            return frames
        self.skipped += 1
        return self._scan(buffer[1:], 0)

    def _scan(self, buffer: bytes, earlier: int) -> list[Frame]:
        """earlier: so many of the bytes came before the last piece."""
        frames: list[Frame] = []
        size, position = len(buffer), 0
        while (match := _MBAP_BEGINS.search(buffer, position)) is not None:
            start = match.start()
            self.skipped += start - position
            position = start
            if size - start < _MBAP.size:
                break
            transaction, _, length, unit, function = _MBAP.unpack_from(buffer, start)
            end = start + _MBAP_HEADER + length
            body = buffer[start + _MBAP.size : end]
            if not _mbap_consistent("replies", function, length, body) or (b"\0\0\0" in body and _swallows(body)):
                self.skipped += 1
                position = start + 1
                continue
            if size < end:
                break
            if size > end or start < earlier:  # one that came alone and in one piece was not cut short
                if size - end < _MBAP.size:
                    break
                if not _header_at(buffer, end):
                    self.skipped += 1
                    position = start + 1
                    continue
            frames.append(_found(unit, function, body, transaction))
            position = end
        else:
            self.skipped += size - position
            position = size
        self._buffer = buffer[position:]
        return frames


def _header_at(buffer: bytes, at: int) -> bool:
    """Whether a reply begins here."""
    if _MBAP_BEGINS.match(buffer, at) is None:
        return False
    _, _, length, _, function = _MBAP.unpack_from(buffer, at)
    start = at + _MBAP.size
    return _mbap_consistent("replies", function, length, buffer[start : at + _MBAP_HEADER + length])


def _swallows(body: bytes) -> bool:
    """Whether the header of another reply stands among the registers."""
    return any(_mbap_consistent("replies", m[2][0], m[1][0], m[3]) for m in _SWALLOWED.finditer(body))
