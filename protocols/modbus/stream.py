"""Replies in the stream of a Modbus TCP connection, where a reply that was cut short is made whole by the next one.

TCP delivers what the far end sent. A gateway that breaks off a reply (its meter fell silent in the midst of it, its
buffer was full) and goes on with another sends a stream in which the length of the first header covers bytes of the
second reply: taken for registers, they are a wrong value with a right transaction, unit, function and byte count. Only
what stands in it and behind it shows this.
"""

import re

from protocols.modbus.frame import _MBAP, _MBAP_BEGINS, _MBAP_HEADER, Frame, _found, _mbap_consistent

_SWALLOWED = re.compile(rb"(?s)\0\0\0([\x03-\xfe]).([\x01-\x04\x17\x81-\x84\x97])(.)")
"""The header of a reply to a read, from behind its transaction to the byte behind the function."""
_LENGTH_MAX = 254
"""Unit, function and the longest data; the shortest is an exception's, of 3 bytes. [TCP] §3.1.3."""
_HEADER = _MBAP.size
_unpack = _MBAP.unpack_from


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
        while position < size:
            start = position
            if size - start < _HEADER or buffer[start + 2 : start + 5] != b"\0\0\0":  # nearly always it is the next
                match = _MBAP_BEGINS.search(buffer, position)
                start = size if match is None else match.start()
                self.skipped += start - position
                position = start
                if size - start < _HEADER:
                    break
            transaction, _, length, unit, function = _unpack(buffer, start)
            end = start + _MBAP_HEADER + length
            body = buffer[start + _HEADER : end]
            if (
                not 3 <= length <= _LENGTH_MAX
                or not _mbap_consistent("replies", function, length, body)
                or (b"\0\0\0" in body and _swallows(body))
            ):
                self.skipped += 1
                position = start + 1
                continue
            if size < end:
                break
            if size > end or start < earlier:  # one that came alone and in one piece was not cut short
                if size - end < _HEADER:
                    break
                if not _header_at(buffer, end):
                    self.skipped += 1
                    position = start + 1
                    continue
            frames.append(_found(unit, function, body, transaction))
            position = end
        self._buffer = buffer[position:]
        return frames


def _header_at(buffer: bytes, at: int) -> bool:
    """Whether a reply begins here, as far as the byte behind its function tells. There are as many bytes."""
    length, function = buffer[at + 5], buffer[at + 7]
    return (
        buffer[at + 2 : at + 5] == b"\0\0\0"
        and 3 <= length <= _LENGTH_MAX
        and _mbap_consistent("replies", function, length, buffer[at + 8 : at + 9])
    )


def _swallows(body: bytes) -> bool:
    """Whether the header of another reply stands among the registers."""
    at = 1
    while (found := _SWALLOWED.search(body, at + 1)) is not None:
        if _mbap_consistent("replies", found[2][0], found[1][0], found[3]):
            return True
        at = found.start()
    return False
