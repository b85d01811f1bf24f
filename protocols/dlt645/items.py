"""The data identifiers as a table: what stands behind each, of which length and form, and how blocks are made of them.

2007: DI3 DI2 DI1 DI0. 00 energy and 01 demand: DI1 tariff (00 total, FF all), DI0 settlement day (00 current, FF
current and the last 12). 02 variables: DI1 phase (FF all); of a harmonic DI0 is its order (FF all). 04 parameters.
Source: DL/T 645-2007, Annex A; 020C and 0400010C are extensions of the grid.
1997: DI1 DI0. 9x energy, Ax demand, Bx its time; low half-byte of DI1: +4 last month, +8 the month before; low
half-byte of DI0: 0 total, 1 to E tariff, F block. Source: implementations and live logs; the text was not at hand.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from protocols.capture import Value
from protocols.dlt645.codes import Edition
from protocols.dlt645.frame import OVERHEAD
from protocols.dlt645.shapes import Ascii, Demand, Digits, Number, Plain, Shape, Sign, When, invalid, unavailable
from protocols.quantity import HARMONIC_MAX, LAST_MAX, TARIFF_MAX, Quantity, by_di, by_name, variant

_HEX = re.compile(r"[0-9A-F]+")

PAYLOAD_MAX = 200
"""Longest DATA of a read reply (DL/T 645-2007: at most 200), the identifier included."""

_ENERGY = Number(length=4, decimals=2, long=(5, 4))
"""XXXXXX.XX; some meters answer XXXXXX.XXXX in five bytes to the same identifier."""
_ENERGY_SIGNED = Number(length=4, decimals=2, sign=Sign.TOP, long=(5, 4))
_POWER = Number(length=3, decimals=4)
_POWER_SIGNED = Number(length=3, decimals=4, sign=Sign.TOP)
_AMPERE = Number(length=3, decimals=3, sign=Sign.TOP)
_X, _XX, _XXX = Number(length=2, decimals=3), Number(length=2, decimals=2), Number(length=2, decimals=1)
_WORD = Digits(length=2, base=16)
_DEMAND_TIME = When(parts="YYMMDDhhmm")
_COMBINED_ROWS = frozenset({0x00, 0x03, 0x04, 0x17, 0x18, 0x2B, 0x2C, 0x3F, 0x40})
"""DI2 of the combined registers, which can be negative."""

_SHAPES_2007: dict[str, Shape] = {
    "00": _ENERGY,
    "01": Demand(number=_POWER, when=_DEMAND_TIME),
    **{f"00{row:02X}": _ENERGY_SIGNED for row in _COMBINED_ROWS},
    **{f"01{row:02X}": Demand(number=_POWER_SIGNED, when=_DEMAND_TIME) for row in _COMBINED_ROWS - {0}},
    "0201": _XXX,
    "0202": _AMPERE,
    "0203": _POWER_SIGNED,
    "0204": _POWER_SIGNED,
    "0205": _POWER_SIGNED,
    "0206": Number(length=2, decimals=3, sign=Sign.TOP),
    "0207": _XXX,
    "0208": _XX,
    "0209": _XX,
    "020A": _XX,
    "020B": _XX,
    "020C": _XXX,
    "02800001": _AMPERE,
    "02800002": _XX,
    "02800003": _POWER_SIGNED,
    "02800004": _POWER_SIGNED,
    "02800005": _POWER_SIGNED,
    "02800006": _POWER_SIGNED,
    "02800007": Number(length=2, decimals=1, sign=Sign.TOP),
    "02800008": _XX,
    "02800009": _XX,
    "0280000A": Number(length=4, decimals=0),
    "0280000B": Number(length=4, decimals=4),
    "02800020": Number(length=4, decimals=4),
    "02800021": Number(length=4, decimals=4),
    "04000101": When(parts="YYMMDDWW"),
    "04000102": When(parts="hhmmss"),
    "0400010C": When(parts="YYMMDDWWhhmmss"),
    "04000103": Number(length=1, decimals=0),
    "04000104": Number(length=1, decimals=0),
    "04000306": Number(length=3, decimals=0),
    "04000307": Number(length=3, decimals=0),
    "04000401": Digits(length=6),
    "04000402": Digits(length=6),
    "04000403": Ascii(length=32),
    "04000404": Ascii(length=6),
    "04000405": Ascii(length=6),
    "04000406": Ascii(length=6),
    "04000407": Ascii(length=4),
    "04000408": Ascii(length=4),
    "04000409": Number(length=3, decimals=0),
    "0400040A": Number(length=3, decimals=0),
    "0400040B": Ascii(length=10),
    "0400040C": Ascii(length=10),
    "0400040D": Ascii(length=16),
    **{f"0400050{word}": _WORD for word in range(1, 8)},
}
"""The longest prefix that matches an identifier gives its shape."""

_PHASES = {"total": "0", "a": "1", "b": "2", "c": "3"}
_NAMED_1997: dict[str, tuple[str, Shape]] = {
    **{f"B61{_PHASES[p]}": (f"voltage.{p}", Number(length=2, decimals=0)) for p in "abc"},
    **{f"B62{_PHASES[p]}": (f"current.{p}", _XX) for p in "abc"},
    **{f"B63{n}": (f"power.active.{p}", Number(length=3, decimals=4, sign=Sign.UNCLEAR)) for p, n in _PHASES.items()},
    **{f"B64{n}": (f"power.reactive.{p}", Number(length=2, decimals=2, sign=Sign.UNCLEAR)) for p, n in _PHASES.items()},
    **{f"B65{n}": (f"power_factor.{p}", Number(length=2, decimals=3, sign=Sign.UNCLEAR)) for p, n in _PHASES.items()},
    "C010": ("clock.date", When(parts="YYMMDDWW")),
    "C011": ("clock.time", When(parts="hhmmss")),
    "C030": ("constant.active", Number(length=3, decimals=0)),
    "C031": ("constant.reactive", Number(length=3, decimals=0)),
    "C032": ("meter.number", Digits(length=6)),
}
"""B660 is left out: frequency in one family, apparent power in three others. B670 to B693 have no agreed format."""

_ROWS_1997 = {
    0: {"1": "active.import", "2": "active.export"},
    1: {"1": "reactive.import", "2": "reactive.export", "3": "reactive.q1", "4": "reactive.q4", "5": "reactive.q2",
        "6": "reactive.q3"},
}  # fmt: skip
"""Low half-byte of DI1 (0 active, 1 reactive), then the high half-byte of DI0."""
_SHAPES_1997: dict[str, Shape] = {"9": _ENERGY, "A": _POWER, "B": When(parts="MMDDhhmm")}
_TARIFF_MAX_1997 = 14


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One single identifier: its quantities (a demand has two, a date has its weekday) and their shape."""

    di: str
    quantities: tuple[Quantity, ...]
    shape: Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What stands behind an identifier: one item, or the items of a block in the order of the wire.

    open_ended: a tariff block; the meter sends as many as it has configured, so the length that came says how many.
    """

    di: str
    items: tuple[Item, ...]
    block: bool
    open_ended: bool

    @property
    def width(self) -> int:
        """Bytes of an item by the standard; the items of a block are all alike."""
        return self.items[0].shape.length

    def mismatch(self, payload: bytes) -> str | None:
        """Why a payload (identifier taken off) of this length cannot be what stands behind the identifier, or None.

        A block may hold fewer items than the table, or more, but no part of one.
        """
        length, width = len(payload), self.width
        if (length % width == 0) if self.block else (not length or self.items[0].shape.takes(length)):
            return None
        expected = f"a multiple of {width}" if self.block else f"{width}"
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
            if not payload:
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
                raise ValueError(f"{self.di}: expected {at + width} values, got {len(plain)}")
            payload += item.shape.encode(item.quantities, plain[at : at + width])
            at += width
        if at != len(plain):
            raise ValueError(f"{self.di}: expected at most {at} values, got {len(plain)}")
        return payload


@lru_cache(maxsize=4096)
def layout(di: str, edition: Edition = Edition.E2007) -> Layout | None:
    """What stands behind an identifier (upper-case hex, high byte first); None when the catalogue has no such thing."""
    single, blocks = (_single_2007, _block_2007) if edition is Edition.E2007 else (_single_1997, _block_1997)
    if len(di) != 2 * edition.di_length or _HEX.fullmatch(di) is None:
        return None
    item = single(di)
    if item is not None:
        return Layout(di=di, items=(item,), block=False, open_ended=False)
    items: list[Item] = []
    names, open_ended = blocks(di)
    for name in names:
        item = single(name)
        if item is None:
            break
        items.append(item)
    return Layout(di=di, items=tuple(items), block=True, open_ended=open_ended) if items else None


def _single_2007(di: str) -> Item | None:
    quantity = by_di(di)
    shape = _SHAPES_2007.get(di) or _SHAPES_2007.get(di[:4]) or _SHAPES_2007.get(di[:2])
    return Item(di=di, quantities=_standing_in(quantity, shape), shape=shape) if quantity and shape else None


def _standing_in(quantity: Quantity, shape: Shape) -> tuple[Quantity, ...]:
    if isinstance(shape, Demand):
        return (quantity, by_name(f"{quantity.name}.time"))
    if isinstance(shape, When) and "WW" in shape.parts:
        return (quantity, by_name("clock.weekday"))
    return (quantity,)


def _block_2007(di: str) -> tuple[list[str], bool]:
    """The single identifiers of a block, and whether the meter may send fewer of them."""
    area, middle, last = di[:2], di[4:6], di[6:]
    if area in ("00", "01") and middle == "FF":
        return [f"{di[:4]}{tariff:02X}{last}" for tariff in range(TARIFF_MAX + 1)], True
    if area in ("00", "01") and last == "FF":
        return [f"{di[:6]}{day:02X}" for day in range(LAST_MAX + 1)], False
    if area == "02" and middle == "FF" and last == "00":
        first = 0 if _single_2007(f"{di[:4]}0000") else 1
        return [f"{di[:4]}{phase:02X}00" for phase in range(first, 4)], False
    if di[:4] in ("020A", "020B") and last == "FF":
        return [f"{di[:6]}{order:02X}" for order in range(1, HARMONIC_MAX + 1)], False
    if di[:4] in ("020A", "020B") and middle == "FF":
        return [f"{di[:4]}{phase:02X}{last}" for phase in range(1, 4)], False
    if di == "040005FF":
        return [f"0400050{word}" for word in range(1, 8)], False
    return [], False


def _single_1997(di: str) -> Item | None:
    if di in _NAMED_1997:
        name, named = _NAMED_1997[di]
        return Item(di=di, quantities=_standing_in(by_name(name), named), shape=named)
    month, unknown, nature = int(di[1], 16) >> 2, int(di[1], 16) >> 1 & 1, int(di[1], 16) & 1
    row, tariff = _ROWS_1997[nature].get(di[2]), int(di[3], 16)
    if di[0] not in "9AB" or unknown or month > 2 or row is None or tariff > _TARIFF_MAX_1997:
        return None
    base = by_name(f"{'energy' if di[0] == '9' else 'demand'}.{row}.total")
    quantity = variant(base, tariff=tariff, last=month, time=di[0] == "B")
    return Item(di=di, quantities=(quantity,), shape=_SHAPES_1997[di[0]])


def _block_1997(di: str) -> tuple[list[str], bool]:
    if di[3] == "F" and di[:2] == "B6":
        first = 0 if f"{di[:3]}0" in _NAMED_1997 else 1
        return [f"{di[:3]}{phase}" for phase in range(first, 4)], False
    if di[3] == "F" and di[0] in "9AB":
        return [f"{di[:3]}{tariff:X}" for tariff in range(_TARIFF_MAX_1997 + 1)], True
    return [], False


def decode_item(di: str, payload: bytes, edition: Edition = Edition.E2007) -> list[Value]:
    """The Values in a read reply's payload (identifier taken off); empty when the catalogue has no such identifier."""
    found = layout(di, edition)
    return found.decode(payload) if found else []


def encode_item(di: str, plain: Sequence[Plain], edition: Edition = Edition.E2007) -> bytes:
    """The payload for these values, one for each of `quantities(di)` in order; None becomes FF filler.

    A block may be given fewer items than it could have. Raises ValueError for an identifier that is not in the
    catalogue, and for a value that does not fit its form.
    """
    found = layout(di, edition)
    if found is None:
        raise ValueError(f"{di} is not in the catalogue of {edition.value}")
    return found.encode(plain)


@lru_cache(maxsize=4096)
def quantities(di: str, edition: Edition = Edition.E2007) -> tuple[Quantity, ...]:
    """What an identifier can give, in order; a tariff block: for every tariff that there could be."""
    found = layout(di, edition)
    return tuple(q for item in found.items for q in item.quantities) if found else ()


@lru_cache(maxsize=4096)
def members(di: str, edition: Edition = Edition.E2007) -> tuple[str, ...]:
    """The single identifiers of a block, in the order of the wire; empty for one that is no block."""
    found = layout(di, edition)
    return tuple(item.di for item in found.items) if found and found.block else ()


@lru_cache(maxsize=4096)
def block_of(di: str, edition: Edition = Edition.E2007) -> str | None:
    """The block over tariffs or phases that a single identifier is read with; None when there is none."""
    block = f"{di[:3]}F"
    if edition is Edition.E2007:
        block = f"{di[:6]}FF" if di.startswith("040005") else f"{di[:4]}FF{di[6:]}"
    return block if di in members(block, edition) else None


@lru_cache(maxsize=4096)
def days_block_of(di: str) -> str | None:
    """The 2007 block over the current register and the last 12 settlement days; None when there is none."""
    block = f"{di[:6]}FF"
    return block if di[:2] in ("00", "01") and di in members(block) else None


@lru_cache(maxsize=4096)
def payload_max(di: str, edition: Edition = Edition.E2007) -> int:
    """The longest payload of one reply to this identifier, in bytes, without the identifier."""
    room = PAYLOAD_MAX - edition.di_length
    found = layout(di, edition)
    if found is None:
        return room
    if not found.block:
        shape = found.items[0].shape
        return shape.long[0] if isinstance(shape, Number) and shape.long else shape.length
    return min(room, sum(item.shape.length for item in found.items))


def reply_max(di: str, edition: Edition = Edition.E2007, *, preamble: int = 4) -> int:
    """The longest frame that can answer a read of this identifier, in bytes on the wire."""
    return preamble + OVERHEAD + edition.di_length + payload_max(di, edition)
