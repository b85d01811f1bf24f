"""What the Modbus tests share: replies, streams cut at will, and dialogues run against a function that answers."""

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

from protocols.capture import Value
from protocols.checksum import crc16_modbus
from protocols.dialogue import Answer, Ask, Deframer, Dialogue, Garbled, Reply, Silence
from protocols.modbus.ascii import AsciiDeframer
from protocols.modbus.frame import Frame, RtuDeframer, Side, TcpDeframer

Answering = Callable[[bytes], bytes | None]
"""The bytes that come back for the bytes of a question; None for silence."""


def reply(
    registers: Sequence[int],
    *,
    unit: int = 1,
    function: int = 3,
    transaction: int | None = None,
    as_ascii: bool = False,
) -> Frame:
    """The answer to a read, holding these registers."""
    data = b"".join(register.to_bytes(2, "big") for register in registers)
    return Frame(unit=unit, function=function, data=bytes([len(data)]) + data, transaction=transaction, ascii=as_ascii)


def exception(
    code: int, *, unit: int = 1, function: int = 3, transaction: int | None = None, as_ascii: bool = False
) -> Frame:
    """A refusal of a read."""
    data = bytes([code])
    return Frame(unit=unit, function=function | 0x80, data=data, transaction=transaction, ascii=as_ascii)


def deframe(deframer: Deframer[Frame], pieces: Iterable[bytes]) -> list[Frame]:
    """All frames found in the pieces, the line having fallen quiet at the end."""
    frames = [frame for piece in pieces for frame in deframer.feed(piece)]
    while deframer.pending:
        frames += deframer.expire()
    return frames


def cut(stream: bytes, cuts: Sequence[int]) -> list[bytes]:
    """The stream in pieces, cut at these places."""
    places = [0, *sorted({place % (len(stream) + 1) for place in cuts}), len(stream)]
    return [stream[start:end] for start, end in pairwise(places)]


def holds_rtu_frame(stream: bytes, starts: Iterable[int]) -> bool:
    """Whether a right checksum stands behind any bytes that begin at one of these places."""
    return any(
        crc16_modbus(stream[start:end]) == 0
        for start in starts
        for end in range(start + 4, min(len(stream), start + 256) + 1)
    )


def listener(question: bytes, side: Side) -> Deframer[Frame]:
    """A deframer for the framing in which these bytes stand."""
    # A transaction number may begin with a colon, or make the CRC of the whole come out right. No other question with
    # zeros at these places is as long as it would then say.
    if question[2:4] == b"\0\0" and len(question) >= 11 and int.from_bytes(question[4:6], "big") == len(question) - 6:
        return TcpDeframer(side)
    return AsciiDeframer() if question.startswith(b":") else RtuDeframer(side)


def accepted(ask: Ask[Frame], stream: bytes) -> Frame | None:
    """The frame in what came back that the question takes as its answer, if any."""
    deframer = listener(ask.data, "replies")
    return next((frame for frame in deframe(deframer, [stream]) if ask.accepts(frame)), None)


def always(came: bytes) -> Answering:
    """Answers every question with the same bytes."""
    return lambda question: came


def converse(dialogue: Dialogue[Frame], answering: Answering) -> list[Value]:
    """Run a dialogue to its end, as a bus would."""
    asked: Ask[Frame] = next(dialogue)
    while True:
        came = answering(asked.data)
        frame = accepted(asked, came) if came else None
        answer: Answer[Any] = Silence() if not came else Garbled(seen=came)
        if frame is not None:
            answer = Reply(frame=frame, sent_at=0, ended_at=0)
        try:
            asked = dialogue.send(answer)
        except StopIteration as end:
            values: list[Value] = end.value
            return values
