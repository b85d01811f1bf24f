"""A conversation with a meter, written as straight-line code and run by whoever owns the wire."""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from protocols.capture import Value
from protocols.made import maker
from protocols.quantity import Quantity

FrameT = TypeVar("FrameT")

MUTE = "no answer to this, while others are answered"
"""The detail of an item to which alone a meter is silent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask(Generic[FrameT]):
    """One question on the wire.

    data: the whole request, preamble included. reply_max: the longest right reply in bytes, for the time-out.
    accepts: whether a frame is an answer to this question (address, function, length, identifier, sequence); any
    other frame is counted and passed over. repeatable: may be asked again after an uncertain end. holds_meter: no
    other question may go to this meter in between (follow-up frames); other meters may be asked. pause_s: how long the
    meter is to be left alone before this question (it said that it is busy); other meters may be asked. speaks_for:
    whether an accepted frame says that the meter did not answer (a gateway speaks for it): that counts as its silence.
    divisible: whether the dialogue can ask for less at a time, when told that so much would not come whole. wants: the
    quantities that its answer gives, where that is known: their Values are of the moment at which it came. mirrored:
    the right answer is a copy of the question, as its echo is on a line that hears itself.
    """

    data: bytes
    reply_max: int
    accepts: Callable[[FrameT], bool]
    repeatable: bool = True
    holds_meter: bool = False
    pause_s: float = 0.0
    speaks_for: Callable[[FrameT], bool] | None = None
    divisible: bool = False
    wants: tuple[Quantity, ...] = ()
    mirrored: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply(Generic[FrameT]):
    """A frame that answers the question. Times are UTC milliseconds: last byte sent, last byte received."""

    frame: FrameT
    sent_at: int
    ended_at: int


make_ask: Callable[..., Ask[Any]] = maker(
    Ask, "data", "reply_max", "accepts", "pause_s", "speaks_for", "divisible", "wants"
)
make_reply: Callable[[Any, int, int], Reply[Any]] = maker(Reply, "frame", "sent_at", "ended_at")


@dataclass(frozen=True, slots=True)
class Silence:
    """Nothing came within the time-out."""


@dataclass(frozen=True, slots=True)
class Garbled:
    """Bytes came, but no frame that answers the question. seen: what came, for people.

    too_long: a divisible question was not even put, as so long an answer would hardly come whole: ask for less."""

    seen: bytes = b""
    too_long: bool = False


Answer = Reply[FrameT] | Silence | Garbled
Dialogue = Generator[Ask[FrameT], Answer[FrameT], list[Value]]
"""Yields questions, is sent answers, returns one Value per item asked for, in order, faulty ones included."""


class Deframer(Protocol[FrameT]):
    """Finds whole frames in a stream of bytes, whatever stands around them."""

    def feed(self, data: bytes) -> list[FrameT]:
        """Take bytes as they come; return the frames that are now complete."""
        ...

    def expire(self) -> list[FrameT]:
        """The line has been quiet for the inter-byte limit: drop the oldest open candidate and scan again."""
        ...

    @property
    def pending(self) -> int:
        """Bytes held back because they may still become a frame."""
        ...

    @property
    def missing(self) -> int:
        """At least so many bytes have to come before `feed` can return a frame; 0 where that is not known."""
        ...
