"""One identifier and what stands behind it, before blocks are made of it; and the forms that many tables use."""

from collections.abc import Iterable
from dataclasses import dataclass

from protocols.dlt645.shapes import Digits, Number, Shape, Sign, When
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
class Stand:
    """What stands behind an identifier: its items in the order of the wire.

    block: several items, all alike. open_ended: as many as the meter has; the length that came says how many.
    by_phase: they are told apart by their phase, so that some of them would not say whose they are: the first, or all.
    """

    items: tuple[Item, ...]
    block: bool = False
    open_ended: bool = False
    by_phase: bool = False


def single(di: str, names: Iterable[str], shape: Shape, *, open_ended: bool = False) -> Stand:
    """An identifier with these quantities and this form."""
    item = Item(di=di, quantities=tuple(map(by_name, names)), shape=shape)
    return Stand(items=(item,), open_ended=open_ended)
