"""Area 05 of DL/T 645-2007, freezes: 05 kk tt rr, what was in the registers at a moment, rr times back (01 the last).

kk: 00 timed, 01 instantaneous, 02 and 03 switch of the zone and slot tables; from 04 on extensions of the grid, 06 the
daily freeze. tt: 00 the moment, 01 to 08 energies with their tariffs, 09 and 0A demands, 10 (hex) powers, FF all of
them. The text prints timed forward energy as 0500 0001, which is the moment: a misprint for 0500 0101.
Of the blocks FF only the hourly one has a form that sources tell: the moment and both totals, 13 bytes (two
concentrators, a program for stations). Not decoded: the others, whose separators no source gives; 08, a prepayment
layout of its own; F0xx, of one maker.
"""

from protocols.dlt645.compound import Timed
from protocols.dlt645.layout import ENERGY, ENERGY_SIGNED, MINUTE, POWER, POWER_SIGNED, Item, Layout, single
from protocols.dlt645.shapes import Demand, Shape
from protocols.quantity import STORES, TARIFF_MAX, by_name, variant

KINDS = {store.code - 1: store.name for store in STORES.values() if store.code <= 11}
PREPAID = 0x08
_DEMAND = Demand(number=POWER, when=MINUTE)
_CONTENTS: dict[str, tuple[str, Shape]] = {
    "01": ("energy.active.import.total", ENERGY),
    "02": ("energy.active.export.total", ENERGY),
    "03": ("energy.reactive.combined_1.total", ENERGY_SIGNED),
    "04": ("energy.reactive.combined_2.total", ENERGY_SIGNED),
    "05": ("energy.reactive.q1.total", ENERGY),
    "06": ("energy.reactive.q2.total", ENERGY),
    "07": ("energy.reactive.q3.total", ENERGY),
    "08": ("energy.reactive.q4.total", ENERGY),
    "09": ("demand.active.import.total", _DEMAND),
    "0A": ("demand.active.export.total", _DEMAND),
}
_HOURLY = 0x04
_POWERS = [f"power.{nature}.{phase}" for nature in ("active", "reactive") for phase in ("total", "a", "b", "c")]


def find(di: str) -> Layout | None:
    """What stands behind an identifier of area 05; None where only the bytes are known."""
    kind, content, nth = int(di[2:4], 16), di[4:6], int(di[6:], 16)
    store = KINDS.get(kind)
    if di[:2] != "05" or store is None or kind == PREPAID or not 1 <= nth <= STORES[store].depth:
        return None
    if content == "00":
        return single(di, [f"record.time.{store}_{nth}"], MINUTE)
    if content == "10":
        items = (
            Item(di=di, quantities=(by_name(f"{name}.{store}_{nth}"),), shape=POWER_SIGNED) for name in _POWERS
        )  # fmt: skip
        return Layout(items=tuple(items), block=True, by_phase=True)
    if content == "FF" and kind == _HOURLY:
        names = (f"energy.active.{way}.total.{store}_{nth}" for way in ("import", "export"))
        return single(di, [*names, f"record.time.{store}_{nth}"], Timed(when=MINUTE, parts=(ENERGY, ENERGY)))
    if content not in _CONTENTS:
        return None
    name, shape = _CONTENTS[content]
    return Layout(
        items=tuple(_register(di, name, shape, tariff, store, nth) for tariff in range(TARIFF_MAX + 1)),
        block=True, open_ended=True,
    )  # fmt: skip


def _register(di: str, name: str, shape: Shape, tariff: int, store: str, nth: int) -> Item:
    base = by_name(name)
    found = variant(base, tariff=tariff, store=store, nth=nth)
    if not isinstance(shape, Demand):
        return Item(di=di, quantities=(found,), shape=shape)
    return Item(di=di, quantities=(found, variant(base, tariff=tariff, time=True, store=store, nth=nth)), shape=shape)
