"""What is said on a line by others, found among the bytes: frames of every serial protocol, of both directions.

Nobody tells beforehand who speaks, so at each byte every kind of frame is tried that could begin there. A beginning
that may be chance (two bytes of RTU) never hides a whole frame behind it; that of a DL/T 645 frame with both its 68,
or of an ASCII frame, is waited for. What belongs to no frame comes out as it is.
"""

import re
from dataclasses import dataclass
from typing import Final, Literal

from protocols.dlt645.codes import edition_of
from protocols.dlt645.frame import OVERHEAD, PREAMBLE, START, parse
from protocols.dlt645.frame import Frame as Dlt645Frame
from protocols.errors import Malformed
from protocols.modbus.ascii import CHARACTERS_MAX, AsciiDeframer
from protocols.modbus.frame import Frame as ModbusFrame
from protocols.modbus.frame import rtu_frame_at

PAUSE_S, PAUSE_S_LONG = 0.05, 0.5
"""A pause this long ends what may have begun: above what adapters and serial servers put between bytes of an RTU frame;
the long one for DL/T 645 (500 ms between bytes) and ASCII, where it is clear that a frame has begun."""

REST_MAX = 512
"""Bytes of no frame that are held together before they come out."""

REPEATED_S = 5.0
"""Writes are answered by the same bytes: a frame that comes again within this time answers itself."""

Direction = Literal["request", "response"]
_RTU_FRAME_MAX = 256
_ASCII: Final = re.compile(rb":(?:[0-9A-F]{2}){3,255}\r\n")
_ASCII_OPEN: Final = re.compile(rb":[0-9A-F]{1,511}\r?\Z")
_PREAMBLES: Final = re.compile(bytes([PREAMBLE]) + b"+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A frame with its preamble, or bytes that belong to none (protocol, frame and direction are None).

    at, ended_at: when its first and its last byte came, in the seconds of whoever fed it.
    """

    at: float
    ended_at: float
    raw: bytes
    protocol: str | None = None
    frame: Dlt645Frame | ModbusFrame | None = None
    direction: Direction | None = None

    @property
    def address(self) -> str | None:
        """Whose meter it is about."""
        if self.frame is None:
            return None
        return self.frame.address if isinstance(self.frame, Dlt645Frame) else str(self.frame.unit)


@dataclass(frozen=True, slots=True)
class _Whole:
    end: int
    protocol: str
    frame: Dlt645Frame | ModbusFrame
    direction: Direction | None


_Found = _Whole | Literal["open", "begun"] | None
"""What stands at a place: a frame; bytes that may become one; one that has clearly begun; nothing."""


class Overhearing:
    """Takes bytes with the time at which they came. Holds less than a kilobyte."""

    def __init__(self) -> None:
        self._buffer = b""
        self._times: list[tuple[int, float]] = []
        """Of the bytes held: from which place on they came when."""
        self._from = 0
        """What stands before this place begins no frame."""
        self._last = 0.0
        self._said: Piece | None = None

    @property
    def pending(self) -> int:
        """Bytes held back because they may still become a frame."""
        return len(self._buffer)

    def feed(self, at: float, data: bytes) -> list[Piece]:
        """Bytes that came; returns what is complete with them, in order."""
        pieces = self.quiet(at)
        self._times.append((len(self._buffer), at))
        self._buffer += data
        self._last = at
        return pieces + self._scan(give_up=None)

    def quiet(self, now: float) -> list[Piece]:
        """Nothing came until now: returns what the pause has ended."""
        paused_s = now - self._last + 1e-6  # timers round
        if not self._buffer or paused_s < PAUSE_S:
            return []
        return self._scan(give_up="begun" if paused_s >= PAUSE_S_LONG else "open")

    def close(self) -> list[Piece]:
        """Nothing more will come."""
        return self._scan(give_up="begun") if self._buffer else []

    def _scan(self, *, give_up: Literal["open", "begun"] | None) -> list[Piece]:
        pieces: list[Piece] = []
        at, held = self._from, len(self._buffer)
        while at < len(self._buffer):
            found = _at(self._buffer, at)
            if isinstance(found, _Whole):
                pieces += self._rest(at)
                pieces.append(self._frame(found.end - at, found))
                at, held = 0, len(self._buffer)
                continue
            if found == "begun" and give_up != "begun":
                held = min(held, at)
                break
            if found == "open" and give_up is None:
                held = min(held, at)
            at += 1
        self._from = held
        if give_up is not None or self._from > REST_MAX:
            pieces += self._rest(self._from)
        return pieces

    def _rest(self, size: int) -> list[Piece]:
        """The first bytes, which belong to no frame."""
        if not size:
            return []
        at, ended_at, raw = self._cut(size)
        return [Piece(at=at, ended_at=ended_at, raw=raw)]

    def _frame(self, size: int, whole: _Whole) -> Piece:
        at, ended_at, raw = self._cut(size)
        said, direction = self._said, whole.direction
        if direction is None:
            again = said is not None and said.raw == raw and at - said.at < REPEATED_S
            direction = "response" if again and said is not None and said.direction == "request" else "request"
        piece = Piece(
            at=at, ended_at=ended_at, raw=raw, protocol=whole.protocol, frame=whole.frame, direction=direction
        )
        self._said = piece
        return piece

    def _cut(self, size: int) -> tuple[float, float, bytes]:
        at, ended_at = self._time_of(0), self._time_of(size - 1)
        raw, self._buffer = self._buffer[:size], self._buffer[size:]
        self._from = max(0, self._from - size)
        kept = [(place - size, when) for place, when in self._times]
        before = [when for place, when in kept if place <= 0]
        self._times = ([(0, before[-1])] if before else []) + [one for one in kept if one[0] > 0]
        return at, ended_at, raw

    def _time_of(self, place: int) -> float:
        return next(when for start, when in reversed(self._times) if start <= place)


def _at(data: bytes, at: int) -> _Found:
    """What stands at this place."""
    byte = data[at]
    if byte == PREAMBLE:
        match = _PREAMBLES.match(data, at)
        assert match is not None
        if match.end() == len(data):
            return "open"
        return _dlt645(data, match.end()) if data[match.end()] == START else None
    if byte == START and (found := _dlt645(data, at)) is not None:
        return found
    if byte == ord(":") and (characters := _ascii(data, at)) is not None:
        return characters
    return _rtu(data, at)


def _dlt645(data: bytes, start: int) -> _Found:
    if len(data) - start <= 9:
        return "open" if len(data) - start <= 7 or data[start + 7] == START else None
    if data[start + 7] != START:
        return None
    end = start + OVERHEAD + data[start + 9]
    if end > len(data):
        return "begun"
    try:
        frame = parse(data[start:end])
    except Malformed:
        return None
    return _Whole(end, edition_of(frame).value, frame, "response" if frame.from_meter else "request")


def _ascii(data: bytes, at: int) -> _Found:
    match = _ASCII.match(data, at)
    if match is None:
        return "begun" if _ASCII_OPEN.match(data[at : at + CHARACTERS_MAX]) else None
    frames = AsciiDeframer().feed(match[0])
    if not frames:
        return None
    (frame,) = frames
    as_request, as_reply = (rtu_frame_at(_as_rtu(frame), 0, side) is not None for side in ("requests", "replies"))
    direction: Direction | None = None if as_request == as_reply else "request" if as_request else "response"
    return _Whole(match.end(), "modbus-ascii", frame, direction)


def _as_rtu(frame: ModbusFrame) -> bytes:
    return ModbusFrame(unit=frame.unit, function=frame.function, data=frame.data).encode()


def _rtu(data: bytes, at: int) -> _Found:
    request, reply = rtu_frame_at(data, at, "requests"), rtu_frame_at(data, at, "replies")
    frame = request or reply
    if frame is not None:
        direction: Direction | None = "request" if reply is None else "response" if request is None else None
        return _Whole(at + len(frame.encode()), "modbus-rtu", frame, direction)
    # Whether more bytes could make it one, only the length tells that its function gives it: any unit may begin.
    return "open" if data[at] <= 247 and len(data) - at < _RTU_FRAME_MAX else None
