"""The catalogue of what is measured: one table, from which every name, number and identifier follows.

A row is a base quantity; tariff registers (`.t1` to `.t63`), settlement days (`.last_1` to `.last_12`), the time of a
demand (`.time`) and what stands in a store of the meter (`.daily_1`, `.record_3`, `.load`) are variants of it, so that
one number scheme covers them all:

    bits 0-9, 34-37  number of the row (never reused, also when a row is withdrawn): its low bits, and its others
    bits 10-15  tariff, 0 = total        bits 16-19  settlement day, 0 = current        bit 20  the time of it
    bits 21-25  store, 0 = none: the present register        bits 26-33  which of the store's: how many times back

What a store holds is not the present value of the quantity, so it has a number and a name of its own.

Sources: DL/T 645-2007 Annex A (data identifiers), IEC 62056-6-1 (OBIS, recalled), DL/T 698.45 object identifiers
(recalled except where an issue says otherwise), IEC 61968-9 Annex C (reading types, recalled).
"""

import re
from dataclasses import dataclass, replace
from functools import lru_cache

from protocols.catalogue_events import EVENTS
from protocols.catalogue_measured import MEASURED
from protocols.catalogue_parameters import PARAMETERS
from protocols.catalogue_records import FIRST_ROW, rows
from protocols.quantity_type import (
    HARMONIC_MAX,
    LAST_MAX,
    ROW_HIGH_SHIFT,
    ROW_LOW_BITS,
    TARIFF_MAX,
    Form,
    Kind,
    Quantity,
    Side,
    number_of,
)

__all__ = [
    "BASES", "HARMONIC_MAX", "LAST_MAX", "STORES", "TARIFF_MAX", "Form", "Kind", "Quantity", "Side", "Store",
    "base_of", "bases", "by_di", "by_name", "by_number", "variant",
]  # fmt: skip

_TARIFF_SHIFT, _LAST_SHIFT, _TIME_SHIFT, _STORE_SHIFT, _NTH_SHIFT = 10, 16, 20, 21, 26
_ROW_HIGH_MAX = 15
_BITS = ROW_HIGH_SHIFT + _ROW_HIGH_MAX.bit_length()

BASES: tuple[Quantity, ...] = (*MEASURED, *PARAMETERS, *EVENTS)
"""The rows of the table that every gateway needs, without their variants."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """A place in the meter where values stay. depth: how many it may hold; 0 for one that is not counted.

    code stands in the number of a quantity and is never reused. kinds: of the rows that can be in it.
    """

    name: str
    code: int
    zh: str
    depth: int
    kinds: frozenset[Kind]


_FREEZE_NAMES = (
    ("timed", "定时冻结"), ("instant", "瞬时冻结"), ("zone_switch", "时区表切换冻结"),
    ("slot_switch", "日时段表切换冻结"), ("hourly", "整点冻结"), ("price_switch", "费率电价切换冻结"),
    ("daily", "日冻结"), ("step_switch", "阶梯切换冻结"), ("prepaid", "预付费日冻结"), ("freeze_09", "冻结09"),
    ("freeze_0a", "冻结0A"),
)  # fmt: skip
"""In the order of DI2 of area 05; from 04 on extensions of the grid."""
_FROZEN = frozenset({Kind.REGISTER, Kind.DEMAND, Kind.INSTANT})
STORES: dict[str, Store] = {
    store.name: store
    for store in (
        *(Store(name=name, code=1 + n, zh=zh, depth=254, kinds=_FROZEN) for n, (name, zh) in enumerate(_FREEZE_NAMES)),
        Store(name="load", code=12, zh="负荷记录", depth=0, kinds=_FROZEN),
        Store(name="record", code=13, zh="事件记录", depth=10, kinds=frozenset({Kind.EVENT})),
        Store(name="entry", code=14, zh="表项", depth=254, kinds=frozenset({Kind.STATUS})),
        Store(name="past", code=15, zh="期", depth=12, kinds=frozenset({Kind.EVENT, Kind.INSTANT})),
    )
}
"""Freezes and load records keep the rows of areas 00 to 02, and `record.time`, their moment. record: of events; entry:
of a table of settings; past: of the periods before this one."""
_STORE_OF = {store.code: store.name for store in STORES.values()}

_BY_NAME = {q.name: q for q in BASES}
_BY_NUMBER = {q.number: q for q in BASES}
_BY_DI = {q.di: q for q in BASES if q.di}
_RECORD_NAMES, _RECORD_NUMBERS = "event.", number_of(FIRST_ROW)
_RECORD_TIME = "record.time"
_ROW_BITS = (1 << ROW_LOW_BITS) - 1 | _ROW_HIGH_MAX << ROW_HIGH_SHIFT
_VARIANT = re.compile(
    r"^(?P<stem>.+?)(?:\.t(?P<tariff>[1-9]\d?))?(?:\.last_(?P<last>[1-9]\d?))?"
    rf"(?:\.(?P<store>{'|'.join(STORES)})(?:_(?P<nth>[1-9]\d{{0,2}}))?)?(?P<time>\.time)?$"
)


@lru_cache(maxsize=1)
def bases() -> tuple[Quantity, ...]:
    """All rows of the table, without their variants: also those of event records, made when first asked for."""
    return (*BASES, *rows())


@lru_cache(maxsize=1)
def _of_records() -> tuple[dict[str, Quantity], dict[int, Quantity]]:
    """Rows of event records, by name and by number."""
    own = bases()[len(BASES) :]
    return {q.name: q for q in own}, {q.number: q for q in own}


def _row_named(name: str) -> Quantity | None:
    found = _BY_NAME.get(name)
    return _of_records()[0].get(name) if found is None and name.startswith(_RECORD_NAMES) else found


def _row_numbered(number: int) -> Quantity | None:
    number &= _ROW_BITS
    return _of_records()[1].get(number) if number >= _RECORD_NUMBERS else _BY_NUMBER.get(number)


def variant(
    base: Quantity, *, tariff: int = 0, last: int = 0, time: bool = False, store: str = "", nth: int = 0
) -> Quantity:
    """A tariff register, a settlement day's register, the time of a demand, or what a store holds, from a row.

    tariff 0..63 (0 = total), last 0..12 (0 = current), store a key of STORES or empty, nth 1 to its depth. Raises
    ValueError where the row has no such variant.
    """
    if not (0 <= tariff <= TARIFF_MAX and 0 <= last <= LAST_MAX):
        raise ValueError(f"{base.name}: tariff {tariff} (0..{TARIFF_MAX}), settlement day {last} (0..{LAST_MAX})")
    if (tariff or last) and base.kind not in (Kind.REGISTER, Kind.DEMAND):
        raise ValueError(f"{base.name} has no tariffs and no settlement days")
    if tariff and not base.name.endswith(".total"):
        raise ValueError(f"{base.name} is no total, so it has no tariffs")
    if time and base.kind is not Kind.DEMAND:
        raise ValueError(f"{base.name} has no time of its own")
    if store or nth:
        _check_store(base, last, store, nth)
    return _variant(base.number, tariff, last, time, store, nth)


def _check_store(base: Quantity, last: int, store: str, nth: int) -> None:
    place = STORES.get(store)
    if place is None:
        raise ValueError(f"{base.name}: no store is called {store!r}")
    kept = base.kind in place.kinds or (base.name == _RECORD_TIME and place.kinds == _FROZEN)
    if not kept or last or base.store:
        raise ValueError(f"{base.name} is not kept in the store {store}")
    if not min(1, place.depth) <= nth <= place.depth:
        raise ValueError(f"{base.name}.{store}: {nth} (1..{place.depth})")


@lru_cache(maxsize=16384)
def _variant(number: int, tariff: int, last: int, time: bool, store: str, nth: int) -> Quantity:
    base = _row_numbered(number)
    assert base is not None
    if not (tariff or last or time or store):
        return base
    stem = base.name.removesuffix(".total") if tariff else base.name
    name = stem + (f".t{tariff}" if tariff else "") + (f".last_{last}" if last else "")
    zh = base.zh.replace("总", f"费率{tariff}", 1) if tariff else base.zh
    zh = (f"上{last}结算日" if last else "") + zh + ("发生时间" if time else "")
    di = f"{base.di[:4]}{tariff:02X}{last:02X}" if base.di and not time else None
    obis = f"{base.obis[:-1]}{tariff}" + (f"*{last}" if last else "") if base.obis else None
    code = 0
    if store:
        code, di, obis = STORES[store].code, None, None
        name += f".{store}" + (f"_{nth}" if nth else "")
        zh = _stored_zh(store, nth, zh)
    parts = tariff << _TARIFF_SHIFT | last << _LAST_SHIFT | time << _TIME_SHIFT
    return replace(
        base, number=number | parts | code << _STORE_SHIFT | nth << _NTH_SHIFT, name=name + (".time" if time else ""),
        unit="" if time else base.unit, form=Form.TIME if time else base.form, tariff=tariff, last=last, store=store,
        nth=nth, side=Side.NONE if time else base.side, obis=obis, di=di, oad=None, cim=None, zh=zh,
    )  # fmt: skip


def _stored_zh(store: str, nth: int, zh: str) -> str:
    match store:
        case "entry":
            return f"{zh}第{nth}项"
        case "record":
            return f"上{nth}次{zh}"
        case "past":
            return f"上{nth}期{zh}"
    return (f"上{nth}次" if nth else "") + STORES[store].zh + zh


def base_of(quantity: Quantity) -> Quantity:
    """The row that a quantity of the catalogue is a variant of. Raises KeyError for one that is not in it."""
    base = _row_numbered(quantity.number)
    if base is None:
        raise KeyError(f"{quantity.name} is of no row of the catalogue")
    return base


@lru_cache(maxsize=8192)
def by_number(number: int) -> Quantity:
    """The quantity with this number. Raises KeyError when the catalogue has none."""
    base = _row_numbered(number)
    store = number >> _STORE_SHIFT & 0x1F
    if base is None or number >> _BITS or (store and store not in _STORE_OF):
        raise KeyError(f"no quantity has the number {number}")
    try:
        return variant(
            base, tariff=number >> _TARIFF_SHIFT & 0x3F, last=number >> _LAST_SHIFT & 0xF,
            time=bool(number >> _TIME_SHIFT & 1), store=_STORE_OF.get(store, ""), nth=number >> _NTH_SHIFT & 0xFF,
        )  # fmt: skip
    except ValueError as error:
        raise KeyError(f"no quantity has the number {number}: {error}") from None


@lru_cache(maxsize=8192)
def by_name(name: str) -> Quantity:
    """The quantity with this name, for example `energy.active.import.t2.last_1`. Raises KeyError when there is none."""
    if name in _BY_NAME:
        return _BY_NAME[name]
    match = _VARIANT.match(name)
    if match is None:
        raise KeyError(f"{name!r} is not in the catalogue of quantities")
    stem, tariff, last, time = match["stem"], int(match["tariff"] or 0), int(match["last"] or 0), bool(match["time"])
    base = _row_named(f"{stem}.total" if tariff else stem)
    store, nth = match["store"] or "", int(match["nth"] or 0)
    try:
        quantity = variant(base, tariff=tariff, last=last, time=time, store=store, nth=nth) if base else None
    except ValueError:
        quantity = None
    if quantity is None or quantity.name != name:
        raise KeyError(f"{name!r} is not in the catalogue of quantities")
    return quantity


def by_di(di: str) -> Quantity | None:
    """The quantity that a single (not block) DL/T 645-2007 identifier names: 8 upper-case hex digits, or None."""
    if di in _BY_DI:
        return _BY_DI[di]
    base = _BY_DI.get(f"{di[:4]}0000")
    if base is None:
        return None
    try:
        return variant(base, tariff=int(di[4:6], 16), last=int(di[6:8], 16))
    except ValueError:
        return None
