"""Modbus ASCII: the same frames written in hexadecimal digits, and the deframer that finds them.

    ":" | unit, function, data, LRC as two digits a byte | CR LF                           [SER] §2.5.2

A colon stands nowhere but at the beginning, so a damaged frame never hides the next one. The LRC is a sum of 8 bits:
two damaged characters that make up for each other pass it once in 256 times, which is why the answer's unit, function
and length are checked against the question as everywhere.
"""

import re

from protocols.modbus.frame import Frame, Held

CHARACTERS_MAX = 513
"""Colon, 255 bytes (unit, function, 252 of data, LRC) as two digits each, CR LF. [SER] §2.5.2.1."""

_WHOLE = re.compile(rb":((?:[0-9A-F]{2}){3,255})\r\n")
_OPEN = re.compile(rb":(?:[0-9A-F]{2}){0,255}(?:[0-9A-F]?|\r?)\Z")
"""The beginning of a frame at the end of what came."""


class AsciiDeframer(Held):
    """Finds ASCII frames by their colon, digits and LRC, whatever stands around them. It does not matter which side
    is listened to: the frame says itself where it ends.

    At most the beginning of one frame is held (up to 512 characters). A beginning that never ends waits until `expire`.
    """

    __slots__ = ()

    @property
    def missing(self) -> int:
        """0: a frame ends where it says so, with CR LF."""
        return 0

    def feed(self, data: bytes) -> list[Frame]:
        """Take bytes as they come; return the frames that are now complete."""
        frames: list[Frame] = []
        buffer = self._buffer + data if self._buffer else bytes(data)
        position = 0
        for match in _WHOLE.finditer(buffer):
            body = bytes.fromhex(match[1].decode("ascii"))
            if sum(body) & 0xFF == 0 and body[1]:  # over a whole frame, its own LRC included
                self.skipped += match.start() - position
                frames.append(Frame(unit=body[0], function=body[1], data=body[2:-1], ascii=True))
                position = match.end()
        rest = _OPEN.search(buffer, position)
        start = rest.start() if rest is not None else len(buffer)
        self.skipped += start - position
        self._buffer = buffer[start:]
        return frames

    def expire(self) -> list[Frame]:
        """Nothing came for the time limit: what has begun will not end any more."""
        self.skipped += len(self._buffer)
        self._buffer = b""
        return []
