"""What stands behind an identifier, how its payload is read and written; and the forms that many tables use."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from protocols.capture import Value
from protocols.dlt645.shapes import Digits, Number, Plain, Shape, Sign, When, invalid, unavailable
from protocols.quantity import Quantity, by_name

ENERGY = Number(length=4, decimals=2, long=(5, 4))
"""XXXXXX.XX; some meters answer XXXXXX.XXXX in five bytes to the same identifier."""
ENERGY_SIGNED = Number(length=4, decimals=2, sign=Sign.TOP, long=(5, 4))
POWER = Number(length=3, decimals=4)
POWER_SIGNED = Number(length=3, decimals=4, sign=Sign.TOP)
AMPERE = Number(length=3, decimals=3, sign=Sign.TOP)
X, XX, XXX = Number(length=2, decimals=3), Number(length=2, decimals=2), Number(length=2, decimals=1)
FACTOR = Number(length=2, decimals=3, sign=Sign.TOP)
COUNT = Number(length=3, decimals=0)
WORD = Digits(length=2, base=16)
MINUTE = When(parts="YYMMDDhhmm")
SECOND = When(parts="YYMMDDhhmmss")


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One single identifier: its quantities (a demand has two, a date has its weekday) and their shape."""

    di: str
    quantities: tuple[Quantity, ...]
    shape: Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What stands behind an identifier: one item, or the items of a block, all alike, in the order of the wire.

    open_ended: a tariff block, load records, an event record; meters send more or less, so what came says how many.
    by_phase: a block over phases. A meter of one phase sends the first item alone; two of three could be anybody's
    (with three wires the second is that of C).
    """

    items: tuple[Item, ...]
    block: bool = False
    open_ended: bool = False
    by_phase: bool = False

    @property
    def width(self) -> int:
        """Bytes of an item by the standard; the items of a block are all alike."""
        return self.items[0].shape.length

    def mismatch(self, payload: bytes) -> str | None:
        """Why a payload (identifier taken off) of this length cannot be what stands behind the identifier, or None.

        A block may hold fewer items than the table, or more, but no part of one; one over phases only the first or all.
        """
        length, width = len(payload), self.width
        some = self.by_phase and 1 < length // width < len(self.items)
        if (length % width == 0 and not some) if self.block else (not length or self.items[0].shape.takes(length)):
            return None
        expected = (
            f"{width} or {len(self.items) * width}" if some else f"a multiple of {width}" if self.block else f"{width}"
        )
        return f"length: expected {expected} bytes, got {length}: {payload.hex().upper()}"

    def decode(self, payload: bytes) -> list[Value]:
        """The Values of the items that came, all of them invalid if the length is wrong."""
        width = self.width
        wrong = self.mismatch(payload)
        if wrong is not None:
            came = self.items[: len(payload) // width + 1] if self.block else self.items
            return [invalid(quantity, wrong) for item in came for quantity in item.quantities]
        if not self.block:
            item = self.items[0]
            if not payload and not self.open_ended:
                return [unavailable(quantity, "an empty reply") for quantity in item.quantities]
            return item.shape.decode(item.quantities, payload)
        values: list[Value] = []
        at = 0
        for item in self.items[: len(payload) // width]:
            values += item.shape.decode(item.quantities, payload[at : at + width])
            at += width
        return values

    def encode(self, plain: Sequence[Plain]) -> bytes:
        """The payload for these values, one for each quantity in order; a block may be given fewer items."""
        payload, at = b"", 0
        for item in self.items:
            if at == len(plain) and self.block:
                break
            width = len(item.quantities)
            if at + width > len(plain):
                raise ValueError(f"{self.items[0].di}: expected {at + width} values, got {len(plain)}")
            payload += item.shape.encode(item.quantities, plain[at : at + width])
            at += width
        if at != len(plain):
            raise ValueError(f"{self.items[0].di}: expected at most {at} values, got {len(plain)}")
        return payload


def single(di: str, names: Iterable[str], shape: Shape, *, open_ended: bool = False) -> Layout:
    """An identifier with these quantities and this form."""
    item = Item(di=di, quantities=tuple(map(by_name, names)), shape=shape)
    return Layout(items=(item,), open_ended=open_ended)
