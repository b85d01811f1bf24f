"""What came after a question, taken apart: the echo, whole frames with their times and whose they are, and the rest."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from field.diagnosis.asking import Chunk, Heard
from protocols.dialogue import Deframer
from protocols.dlt645.frame import PREAMBLE
from protocols.dlt645.frame import Frame as Dlt645Frame
from protocols.modbus.frame import Frame as ModbusFrame

AnyFrame = Dlt645Frame | ModbusFrame


class Role(Enum):
    """What a frame is to the question in hand."""

    ANSWER = "answer"
    EARLIER = "earlier"
    """It answers another question to that meter, one of before."""
    OWN = "own"
    """It comes from that meter, and answers nothing that was asked."""
    FOREIGN = "foreign"
    """It comes from somebody else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A whole frame. delay_s: from the last byte of the question to its first byte, preamble included."""

    frame: AnyFrame
    raw: bytes
    role: Role
    delay_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What came after a question, in order. lead: bytes right before the first answer that belong to no frame; stray:
    all others that belong to none, by the pieces that they came in."""

    echo: bool
    told: tuple[Told, ...]
    lead: bytes
    stray: tuple[bytes, ...]

    @property
    def answers(self) -> tuple[Told, ...]:
        """The frames that answer the question."""
        return tuple(one for one in self.told if one.role is Role.ANSWER)

    @property
    def silent(self) -> bool:
        """Whether nothing came at all, but perhaps an echo."""
        return not self.told and not self.lead and not self.stray

    @property
    def garbled(self) -> bool:
        """Whether bytes came, and no whole frame."""
        return not self.told and not self.silent


Accepts = Callable[[Any], bool]


def role_of(frame: AnyFrame, address: str, accepts: Accepts, earlier: Sequence[Accepts]) -> Role:
    """What a frame is to the question that `accepts` its answers, put to this address. earlier: of the questions
    before it, to that meter."""
    if accepts(frame):
        return Role.ANSWER
    if any(one(frame) for one in earlier):
        return Role.EARLIER
    return Role.OWN if address_of(frame) == address else Role.FOREIGN


def address_of(frame: AnyFrame) -> str:
    """Whose frame it is, or whom it asks."""
    return frame.address if isinstance(frame, Dlt645Frame) else str(frame.unit)


def encoded(frame: AnyFrame) -> bytes:
    """The frame as it stood on the wire, without preamble."""
    return frame.encode(0) if isinstance(frame, Dlt645Frame) else frame.encode()


def frames(
    chunks: Sequence[Chunk], deframer: Deframer[Any], *, inter_byte_s: float
) -> Iterator[tuple[float, AnyFrame]]:
    """Whole frames with the time at which their last byte came. A pause of inter_byte_s ends a frame that has begun."""
    last = chunks[0].at if chunks else 0.0
    for chunk in chunks:
        if chunk.at - last > inter_byte_s:
            yield from ((last, frame) for frame in _drained(deframer))
        last = chunk.at
        yield from ((last, frame) for frame in deframer.feed(chunk.data))
    yield from ((last, frame) for frame in _drained(deframer))


def _drained(deframer: Deframer[Any]) -> Iterator[AnyFrame]:
    while deframer.pending:
        yield from deframer.expire()


def take_apart(
    heard: Heard,
    deframer: Deframer[Any],
    role: Callable[[Any], Role],
    *,
    inter_byte_s: float,
    character_s: float,
) -> Taken:
    """Everything that came after a question. role: what a frame is to it (see `role_of`)."""
    raw = b"".join(chunk.data for chunk in heard.chunks)
    echo = bool(heard.sent) and raw.startswith(heard.sent)
    chunks, raw = (_behind(heard.chunks, len(heard.sent)), raw[len(heard.sent) :]) if echo else (heard.chunks, raw)
    told: list[Told] = []
    stray: list[bytes] = []
    lead, at = b"", 0
    for ended_at, frame in frames(chunks, deframer, inter_byte_s=inter_byte_s):
        whole = encoded(frame)
        start = raw.find(whole, at)
        if start < 0:
            continue  # written otherwise than we would (a digit of ASCII): it is there, its place is not known
        between = raw[at:start]
        bare = between.rstrip(bytes([PREAMBLE])) if isinstance(frame, Dlt645Frame) else between
        at = start + len(whole)
        delay_s = ended_at - (len(whole) + len(between) - len(bare)) * character_s - heard.sent_at
        one = Told(frame=frame, raw=whole, role=role(frame), delay_s=max(0.0, delay_s))
        if bare and not lead and one.role is Role.ANSWER and not any(t.role is Role.ANSWER for t in told):
            lead = bare
        elif bare:
            stray.append(bare)
        told.append(one)
    if rest := raw[at:]:
        stray.append(rest)
    return Taken(echo=echo, told=tuple(told), lead=lead, stray=tuple(stray))


def _behind(chunks: Sequence[Chunk], count: int) -> tuple[Chunk, ...]:
    """The chunks without their first `count` bytes."""
    left: list[Chunk] = []
    for chunk in chunks:
        data, count = chunk.data[count:], max(0, count - len(chunk.data))
        if data:
            left.append(Chunk(chunk.at, data))
    return tuple(left)
