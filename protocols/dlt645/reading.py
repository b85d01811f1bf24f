"""What a read asks for and gives, in both editions: wishes in, exactly one Value for each of them out."""

from collections.abc import Sequence
from dataclasses import dataclass

from protocols.bcd import high_first
from protocols.capture import Fault, Value, faulty
from protocols.dialogue import Garbled, Silence
from protocols.dlt645.codes import Edition, Refusal
from protocols.dlt645.frame import Frame
from protocols.dlt645.items import layout
from protocols.dlt645.shapes import invalid
from protocols.dlt645.titles import title
from protocols.quantity import Form, Kind, Quantity

FOLLOW_UPS_MAX = 255
"""SEQ is one byte and counts from 1 (DL/T 645-2007); the bound holds for 1997 too, which has no SEQ."""

TOO_LONG = "too long for the noise on the line"
"""The detail of a block that was not even asked for: its parts are to be read one by one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadItem:
    """One identifier to be read, and which of its quantities are wanted; empty: all that come.

    tariffs: how many a block over tariffs is waited for; None: as many as the standard allows, which takes long.
    divisible: whether it is a block whose parts can be read one by one (see Ask).
    """

    di: str
    wants: tuple[Quantity, ...] = ()
    tariffs: int | None = None
    divisible: bool = False


def answers_for(asked: str, frame: Frame, *, any_address: str) -> bool:
    """Whether the frame comes from the meter that was asked. `A` digits of the request, or all of it, are wildcards."""
    if frame.address == asked or asked == any_address:
        return frame.from_meter
    return frame.from_meter and all(a in ("A", b) for a, b in zip(asked, frame.address, strict=True))


def speaker(asked: str, frame: Frame) -> str:
    """Whom to ask for the rest of an answer: who gave its beginning, if it said who it is."""
    return frame.address if frame.address.isdecimal() else asked


def failed(
    item: ReadItem, edition: Edition, answer: Silence | Garbled | Refusal, detail: str | None = None
) -> list[Value]:
    """Why there is nothing, for each quantity that was wanted."""
    match answer:
        case Silence():
            fault = Fault.SILENT
        case Garbled(too_long=True):
            fault, detail = Fault.GARBLED, TOO_LONG
        case Garbled(seen=seen):
            fault, detail = Fault.GARBLED, detail or (seen.hex().upper() or None)
        case Refusal(absent=absent):
            fault, detail = Fault.ABSENT if absent else Fault.REFUSED, str(answer)
    return [faulty(quantity, fault, detail) for quantity in _wanted(item, edition)]


def values_of(item: ReadItem, edition: Edition, payload: bytes) -> list[Value]:
    """The values that were wanted, in order. What the meter did not send with a block is absent."""
    found = layout(item.di, edition)
    if found is None:
        return [Value(quantity=opaque(item.di), text=high_first(payload))]
    wrong = found.mismatch(payload)
    if wrong is not None:
        return [invalid(quantity, wrong) for quantity in _wanted(item, edition)]
    values = found.decode(payload)
    if not item.wants and values and (found.open_ended or not found.block):
        return values
    by_quantity = {value.quantity.name: value for value in values}
    return [
        by_quantity.get(q.name) or faulty(q, Fault.ABSENT, f"not in the reply to {item.di}")
        for q in _wanted(item, edition)
    ]


def opaque(di: str) -> Quantity:
    """A stand-in for an identifier that is not in the catalogue: its text is the payload in hex, high byte first."""
    named = title(di, Edition.E2007 if len(di) == 8 else Edition.E1997)
    return Quantity(
        number=0, name=f"dlt645.{di}", unit="", kind=Kind.STATUS, form=Form.TEXT, zh=f"{named[1]} {di}" if named else ""
    )


def _wanted(item: ReadItem, edition: Edition) -> Sequence[Quantity]:
    if item.wants:
        return item.wants
    found = layout(item.di, edition)
    if found is None:
        return (opaque(item.di),)
    if found.open_ended and not found.block:
        return found.items[0].quantities[:1]
    items = found.items[:1] if found.open_ended else found.items
    return [quantity for one in items for quantity in one.quantities]
