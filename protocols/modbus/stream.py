"""Replies in the stream of a Modbus TCP connection, where a reply that was cut short is made whole by the next one.

TCP delivers what the far end sent. A gateway that breaks off a reply (its meter fell silent in the midst of it, its
buffer was full) and goes on with another sends a stream in which the length of the first header covers bytes of the
second reply: taken for registers, they are a wrong value with a right transaction, unit, function and byte count. Only
what stands in it and behind it shows this.
"""

import re
from collections.abc import Callable

from protocols.modbus.frame import _MBAP, _MBAP_BEGINS, _MBAP_HEADER, Frame, Held, _found, _reply_consistent

_SWALLOWED = re.compile(rb"(?s)\0\0\0([\x03-\xfe]).([\x01-\x04\x17\x81-\x84\x97])(.?)")
"""The header of a reply to a read, from behind its transaction to the byte behind the function, where that came."""
_NEAR = 2048
"""Transactions of questions whose answers may meet are hardly further from each other: so many are asked in some
seconds, by all buses of a gateway."""
_LENGTH_MAX = 254
"""Unit, function and the longest data; the shortest is an exception's, of 3 bytes. [TCP] §3.1.3."""
_HEADER = _MBAP.size
_unpack = _MBAP.unpack_from


class TcpReplies(Held):
    """Finds the replies in what comes, and passes over those that may have been cut short: where anything but a header
    stands behind one, where one holds the header of another, and where one came in pieces of which a later one begins
    like another reply. One whose registers came in pieces waits for a header behind it, or for the time limit. A reply
    whose registers happen to look like the header of a reply (6 or 7 bytes that have to fit, once in 10^9 of random
    ones) is passed over as well.

    Unlike other deframers it does not find a reply with garbage behind it: there is none on TCP, but after a slip.
    """

    __slots__ = ("_asked", "_awaited", "_pieces")

    def __init__(
        self, asked: Callable[[bytes], bool] | None = None, awaited: Callable[[int], bool] | None = None
    ) -> None:
        """asked: whether these two bytes are the transaction of a question that may still be answered, or this one byte
        its first; without it, three bytes that may be the beginning of a header count as such. awaited: whether this is
        the transaction of one that was not given up."""
        super().__init__()
        self._asked = asked
        self._awaited = awaited
        self._pieces: list[int] = []
        """Where in the buffer pieces begin, but for the first."""

    @property
    def missing(self) -> int:
        """0: TCP brings frames whole, as a rule."""
        return 0

    def feed(self, data: bytes) -> list[Frame]:
        """Take bytes as they come; return the replies that are now complete."""
        earlier = len(self._buffer)
        if not earlier:
            return self._scan(bytes(data), 0)
        self._pieces.append(earlier)
        return self._scan(self._buffer + data, earlier)

    def expire(self) -> list[Frame]:
        """Nothing came for the time limit: what is whole was not cut short. Else drop the oldest byte, scan again."""
        buffer = self._buffer
        frames = self._scan(buffer, 0)
        if frames or len(self._buffer) < len(buffer) or not buffer:
            return frames
        self.skipped += 1
        self._pieces = [at - 1 for at in self._pieces if at > 1]
        return self._scan(buffer[1:], 0)

    def _scan(self, buffer: bytes, earlier: int) -> list[Frame]:
        """earlier: so many of the bytes came before the last piece."""
        frames: list[Frame] = []
        pieces = self._pieces
        size, position = len(buffer), 0
        headed = -1  # where a header was seen already, behind the reply before
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
            if (start != headed and not (3 <= length <= _LENGTH_MAX and _reply_consistent(function, length, body))) or (
                b"\0\0\0" in body and (_swallows(body) or self._ends_in_another(body))
            ):
                self.skipped += 1
                position = start + 1
                continue
            if size < end:
                break
            if size > end or pieces:  # one that came alone and in one piece was not cut short
                inside = [at for at in pieces if start < at < end] if pieces else None
                slipped, waits = False, size > end
                if inside:
                    slipped = any(self._begins_another(buffer[at : at + 5], transaction) for at in inside)
                    waits = waits or (inside[-1] - start > _HEADER and start < earlier)
                if not slipped and waits and size - end < _HEADER:
                    break
                if slipped or (size > end and not _header_at(buffer, end)):
                    self.skipped += 1
                    position = start + 1
                    continue
                headed = end
            frames.append(_found(unit, function, body, transaction))
            position = end
        self._buffer = buffer[position:]
        if pieces and position:
            self._pieces = [at - position for at in pieces if at > position]
        return frames

    def _ends_in_another(self, body: bytes) -> bool:
        """Whether the last bytes are the first 5 to 7 of the header of another reply that is awaited: of two replies
        that both broke off, the second just where the first was to end."""
        awaited = self._awaited
        size = len(body)
        return awaited is not None and any(
            body[at + 2 : at + 5] == b"\0\0\0" and awaited(body[at] << 8 | body[at + 1])
            for at in range(max(1, size + 1 - _HEADER), size - 4)
        )

    def _begins_another(self, begin: bytes, transaction: int) -> bool:
        """Whether a piece that begins so (5 bytes, or what came) may be another reply than the one of this number."""
        if any(begin[2:]):
            return False
        if self._asked is not None:
            return self._asked(begin[:2])
        number = int.from_bytes(begin[:2], "big")
        return len(begin) > 2 and (number - transaction + _NEAR) & 0xFFFF <= 2 * _NEAR


def _header_at(buffer: bytes, at: int) -> bool:
    """Whether a reply begins here, as far as the byte behind its function tells. There are as many bytes."""
    length, function = buffer[at + 5], buffer[at + 7]
    return (
        buffer[at + 2 : at + 5] == b"\0\0\0"
        and 3 <= length <= _LENGTH_MAX
        and _reply_consistent(function, length, buffer[at + 8 : at + 9])
    )


def _swallows(body: bytes) -> bool:
    """Whether the header of another reply stands among the registers."""
    at = 1
    while (found := _SWALLOWED.search(body, at + 1)) is not None:
        if _reply_consistent(found[2][0], found[1][0], found[3]):
            return True
        at = found.start()
    return False
