"""Data identifiers looked up: what stands behind each, its payload, its block, how long its answer can be.

The identifiers themselves are tables: `table_2007` (with `events`, `freezes`, `load_record`) and `table_1997`.
"""

import re
from collections.abc import Sequence
from functools import lru_cache

from protocols.capture import Value
from protocols.dlt645 import table_1997, table_2007
from protocols.dlt645.codes import Edition
from protocols.dlt645.compound import Fields, Opaque, Record, Secret, Timed
from protocols.dlt645.frame import OVERHEAD
from protocols.dlt645.layout import Layout
from protocols.dlt645.load_record import Records
from protocols.dlt645.shapes import Number, Plain, Shape
from protocols.quantity import Quantity

_HEX = re.compile(r"[0-9A-F]+")

PAYLOAD_MAX = 200
"""Longest DATA of a read reply (DL/T 645-2007: at most 200), the identifier included."""


@lru_cache(maxsize=4096)
def layout(di: str, edition: Edition = Edition.E2007) -> Layout | None:
    """What stands behind an identifier (upper-case hex, high byte first); None when the catalogue has no such thing."""
    if len(di) != 2 * edition.di_length or _HEX.fullmatch(di) is None:
        return None
    find = table_2007.find if edition is Edition.E2007 else table_1997.find
    return find(di)


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
def payload_max(di: str, edition: Edition = Edition.E2007, tariffs: int | None = None) -> int:
    """The longest payload of one reply to this identifier, in bytes, without the identifier.

    tariffs: how many a block over tariffs holds at most behind its total; None: as many as the standard allows."""
    room = PAYLOAD_MAX - edition.di_length
    found = layout(di, edition)
    if found is None:
        return room
    if not found.block:
        return min(room, _longest(found.items[0].shape) or room)
    items = found.items if tariffs is None or not found.open_ended else found.items[: tariffs + 1]
    return min(room, sum(item.shape.length for item in items))


def _longest(shape: Shape) -> int | None:
    """The longest that an item which stands alone can be; None where that is not known."""
    match shape:
        case Number(long=(longer, _)):
            return longer
        case Records() | Record() | Secret() | Opaque(fixed=False) | Fields(elastic=True) | Timed(series=True):
            return None
    return shape.length


def reply_max(
    di: str, edition: Edition = Edition.E2007, *, preamble: int = 4, tariffs: int | None = None
) -> int:  # fmt: skip
    """The longest frame that can answer a read of this identifier, in bytes on the wire. tariffs: see payload_max."""
    return preamble + OVERHEAD + edition.di_length + payload_max(di, edition, tariffs)
