"""What a frame says, for people and logs: found among other bytes, taken apart as far as it goes, with its values."""

from dataclasses import dataclass

from protocols.bcd import high_first
from protocols.capture import Value
from protocols.dlt645.codes import Edition, Refusal, edition_of, identifier_of, refusal_of, sequence_of
from protocols.dlt645.frame import OVERHEAD, START, Frame, parse, unchecked
from protocols.dlt645.items import decode_item, layout
from protocols.dlt645.shapes import When
from protocols.dlt645.v2007 import ADDRESS
from protocols.errors import Malformed
from protocols.quantity import by_name

_BROADCAST_TIME = When(parts="YYMMDDhhmmss")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The first whole frame in some bytes, or the best of the broken ones.

    before and after: what stands around it, preamble included. frame: what it says, certain only without an error;
    None when it ends before its length byte. address, when even that much of it is there.
    """

    before: bytes
    raw: bytes
    after: bytes
    frame: Frame | None
    address: str | None
    error: Malformed | None


def find(data: bytes) -> Found:
    """The first whole frame, from the left; where there is none, the candidate that comes nearest, and its error."""
    starts = [at for at, byte in enumerate(data) if byte == START]
    likely = [at for at in starts if data[at + 7 : at + 8] == b"\x68"] or starts
    errors: dict[int, Malformed] = {}
    for at in starts:
        try:
            frame = parse(_window(data, at))
        except Malformed as error:
            errors[at] = error
            continue
        end = at + OVERHEAD + len(frame.data)
        return Found(
            before=data[:at], raw=data[at:end], after=data[end:], frame=frame, address=frame.address, error=None
        )
    if not starts:
        nothing = Malformed(f"start: expected 68, got {data[:1].hex().upper() or 'nothing'}")
        return Found(before=data, raw=b"", after=b"", frame=None, address=None, error=nothing)
    best = next((at for at in likely if len(data) > at + 9 and len(data) >= at + OVERHEAD + data[at + 9]), likely[0])
    raw = _window(data, best)
    return Found(
        before=data[:best],
        raw=raw,
        after=data[best + len(raw) :],
        frame=unchecked(raw) if len(raw) >= 10 else None,
        address=high_first(raw[1:7]) if len(raw) >= 7 else None,
        error=errors[best],
    )


def _window(data: bytes, at: int) -> bytes:
    """The bytes that a frame from here on claims, or as many of them as there are."""
    return data[at : at + OVERHEAD + data[at + 9]] if len(data) > at + 9 else data[at:]


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A frame with its meaning, as far as the edition's tables go."""

    frame: Frame
    edition: Edition
    di: str | None
    seq: int | None
    refusal: Refusal | None
    values: tuple[Value, ...]


def explain(frame: Frame, edition: Edition | None = None) -> Message:
    """What a frame says. edition: told from the control code unless given."""
    edition = edition or edition_of(frame)
    di = identifier_of(frame, edition)
    return Message(
        frame=frame, edition=edition, di=di, seq=sequence_of(frame, edition), refusal=refusal_of(frame, edition),
        values=tuple(_values(frame, edition, di)),
    )  # fmt: skip


def _values(frame: Frame, edition: Edition, di: str | None) -> list[Value]:
    if frame.abnormal:
        return []
    read = 0x11 if edition is Edition.E2007 else 0x01
    if frame.from_meter and frame.function == read and di is not None:
        return _read_values(frame, edition, di)
    if frame.from_meter and frame.function == 0x13 and edition is Edition.E2007 and len(frame.data) == 6:
        return decode_item(ADDRESS, frame.data)
    if not frame.from_meter and frame.function == 0x08 and len(frame.data) == _BROADCAST_TIME.length:
        return _BROADCAST_TIME.decode([by_name("clock")], frame.data)
    return []


def _read_values(frame: Frame, edition: Edition, di: str) -> list[Value]:
    found = layout(di, edition)
    payload = frame.data[edition.di_length :]
    if found is None:
        return []
    if frame.more:  # the rest of a cut item comes with the follow-up frame
        if not found.block:
            return []
        payload = payload[: len(payload) // found.width * found.width]
        if not payload:
            return []
    return found.decode(payload)
