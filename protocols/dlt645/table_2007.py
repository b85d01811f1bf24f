"""Which form stands behind each identifier of DL/T 645-2007 in areas 00, 01, 02 and 04, and how blocks are made.

DI3 DI2 DI1 DI0. 00 energy and 01 demand: DI1 tariff (00 total, FF all), DI0 settlement day (00 current, FF current and
the last 12). 02 variables: DI1 phase (FF all); of a harmonic DI0 is its order (FF all). 04 parameters.
Source: DL/T 645-2007, Annex A. Extensions of the grid, from firmware: 000B to 000D, 0090, 020C, 0280000B to 0280000F,
02800010 to 23, 04000108 to 0C, 040003 06 to 08, 0400040E and 0F, 04000508, 040009 03 to 06, 040010 to 040015, 0405,
0406; lengths of 0400090x and 040012 also from a meter tester.
"""

from protocols.dlt645 import events, freezes, load_record
from protocols.dlt645.compound import Groups, Opaque, Secret
from protocols.dlt645.layout import (
    AMPERE,
    ENERGY,
    ENERGY_SIGNED,
    FACTOR,
    MINUTE,
    POWER,
    POWER_SIGNED,
    WORD,
    XX,
    XXX,
    Item,
    Layout,
    X,
    single,
)
from protocols.dlt645.shapes import Ascii, Demand, Digits, Number, Shape, Sign, When
from protocols.quantity import HARMONIC_MAX, LAST_MAX, TARIFF_MAX, Quantity, by_di, by_name

_COMBINED_ROWS = frozenset({0x00, 0x03, 0x04, 0x17, 0x18, 0x2B, 0x2C, 0x3F, 0x40})
"""DI2 of the combined registers, which can be negative."""
_BYTE, _PRICE = Number(length=1, decimals=0), Number(length=4, decimals=4)
_MINUTES, _LIMIT = Number(length=2, decimals=0), Number(length=4, decimals=2)
_USED = Number(length=4, decimals=2, sign=Sign.UNCLEAR)
_FLAGS = Digits(length=1, base=16)

_SHAPES: dict[str, Shape] = {
    "00": ENERGY,
    "01": Demand(number=POWER, when=MINUTE),
    **{f"00{row:02X}": ENERGY_SIGNED for row in _COMBINED_ROWS},
    **{f"01{row:02X}": Demand(number=POWER_SIGNED, when=MINUTE) for row in _COMBINED_ROWS - {0}},
    **{f"00{row}": _USED for row in ("0B", "0C", "0D")},
    "0201": XXX,
    "0202": AMPERE,
    "0203": POWER_SIGNED,
    "0204": POWER_SIGNED,
    "0205": POWER_SIGNED,
    "0206": FACTOR,
    "0207": XXX,
    "0208": XX,
    "0209": XX,
    "020A": XX,
    "020B": XX,
    "020C": XXX,
    "02800001": AMPERE,
    "02800002": XX,
    "02800003": POWER_SIGNED,
    "02800004": POWER_SIGNED,
    "02800005": POWER_SIGNED,
    "02800006": POWER_SIGNED,
    "02800007": Number(length=2, decimals=1, sign=Sign.TOP),
    "02800008": XX,
    "02800009": XX,
    "0280000A": Number(length=4, decimals=0),
    "0280000B": _PRICE,
    "0280000E": AMPERE,
    "0280000F": POWER_SIGNED,
    "02800010": FACTOR,
    "02800020": _PRICE,
    "02800021": _PRICE,
    "02800022": _MINUTES,
    "02800023": _BYTE,
    "04000101": When(parts="YYMMDDWW"),
    "04000102": When(parts="hhmmss"),
    "04000103": _BYTE,
    "04000104": _BYTE,
    "04000105": _MINUTES,
    **{f"040001{n:02X}": MINUTE for n in range(6, 12)},
    "0400010C": When(parts="YYMMDDWWhhmmss"),
    **{f"0400020{n}": _BYTE for n in range(1, 7)},
    "04000205": _MINUTES,
    **{f"0400030{n}": Opaque(length=1) for n in (1, 2, 3, 4, 5, 8)},
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
    "0400040E": Digits(length=6),
    "0400040F": Opaque(length=11),
    **{f"0400050{word}": WORD for word in range(1, 8)},
    "04000508": Digits(length=4, base=16),
    **{f"0400060{n}": _FLAGS for n in range(1, 4)},
    **{f"0400070{n}": _FLAGS for n in range(1, 6)},
    "04000801": Opaque(length=1),
    "04000802": Opaque(length=1),
    **{f"0400090{n}": _FLAGS for n in range(1, 7)},
    "04000A01": When(parts="MMDDhhmm"),
    **{f"04000A0{n}": _MINUTES for n in range(2, 8)},
    **{f"04000B0{n}": Digits(length=2, unset="9999") for n in range(1, 4)},
    **{f"04000C{n:02X}": Secret(length=4) for n in range(1, 11)},
    **{f"04000D{n:02X}": X for n in range(1, 13)},
    "04000E01": POWER,
    "04000E02": POWER,
    "04000E03": XXX,
    "04000E04": XXX,
    **{f"0400100{n}": _LIMIT for n in range(1, 6)},
    "04001101": _FLAGS,
    "04001104": Digits(length=8, base=16),
    "04001201": Opaque(length=5),
    "04001202": Opaque(length=1),
    "04001203": Opaque(length=2),
    "04001204": Opaque(length=4),
    "04001401": Opaque(length=2),
    "04001501": Opaque(length=12),
    "04800001": Ascii(length=32),
    "04800002": Ascii(length=32),
    "04800003": Ascii(length=32),
    "04800004": Opaque(length=8, fixed=True),
}
"""The longest prefix that matches an identifier gives its shape."""

_TABLE = Groups(size=3, most=14)
"""Up to 14 of MMDDNN or hhmmNN: from when on which day table, or which tariff."""
_PRICES: dict[str, tuple[str, int, Shape]] = {
    "040501": ("price.tariff.first", TARIFF_MAX, _PRICE),
    "040502": ("price.tariff.second", TARIFF_MAX, _PRICE),
    "040600": ("step.first", 0xFE, _LIMIT),
    "040601": ("price.step.first", 0xFE, _PRICE),
    "040602": ("step.second", 0xFE, _LIMIT),
    "040603": ("price.step.second", 0xFE, _PRICE),
}
"""Of the grid: names and digits from a table of formats, the four bytes of a price from a meter's firmware, too."""
_AREAS = {"03": events.find, "05": freezes.find, "06": load_record.find}


def find(di: str) -> Layout | None:
    """What stands behind an identifier (8 upper-case hex digits); None when the catalogue has no such thing."""
    area = di[:2]
    if area in _AREAS or area > "06":
        return _AREAS.get(area, events.find)(di)
    item = _single(di)
    if item is not None:
        return Layout(items=(item,))
    table = _entry(di) if area == "04" else _past(di)
    if table is not None:
        return table
    items: list[Item] = []
    names, open_ended = _block(di)
    for name in names:
        item = _single(name)
        if item is None:
            break
        items.append(item)
    by_phase = area == "02" and di[4:6] == "FF"
    return Layout(items=tuple(items), block=True, open_ended=open_ended, by_phase=by_phase) if len(items) > 1 else None


def _single(di: str) -> Item | None:
    quantity = by_di(di)
    shape = _SHAPES.get(di) or _SHAPES.get(di[:4]) or _SHAPES.get(di[:2])
    return Item(di=di, quantities=standing_in(quantity, shape), shape=shape) if quantity and shape else None


def standing_in(quantity: Quantity, shape: Shape) -> tuple[Quantity, ...]:
    """The quantities that one item gives: that of the identifier, and what its form has beside it."""
    if isinstance(shape, Demand):
        return (quantity, by_name(f"{quantity.name}.time"))
    if isinstance(shape, When) and "WW" in shape.parts:
        return (quantity, by_name("clock.weekday"))
    return (quantity,)


def _entry(di: str) -> Layout | None:
    """0401, 0402: zone and day tables; 0403: holidays; 0404: what the display shows; 0405, 0406: prices and steps."""
    nth = int(di[6:], 16)
    if di[:6] in ("040100", "040200") and nth <= 8:
        which = "first" if di[3] == "1" else "second"
        return single(di, [f"slots.{which}.entry_{nth}" if nth else f"zones.{which}"], _TABLE)
    if not 1 <= nth <= 0xFE:
        return None
    if di[:6] in _PRICES:
        name, most, shape = _PRICES[di[:6]]
        return single(di, [f"{name}.entry_{nth}"], shape) if nth <= most else None
    if di[:6] == "040300":
        return single(di, [f"holiday.entry_{nth}"], Digits(length=4))
    if di[:6] in ("040401", "040402"):
        return single(di, [f"display.{'automatic' if di[5] == '1' else 'key'}.entry_{nth}"], Opaque(length=5))
    return None


def _past(di: str) -> Layout | None:
    """000B to 000D: what was used in the periods before this one."""
    nth = int(di[6:], 16)
    if di[:4] not in ("000B", "000C", "000D") or di[4:6] != "00" or not 1 <= nth <= LAST_MAX:
        return None
    base = by_di(f"{di[:4]}0000")
    return single(di, [f"{base.name}.past_{nth}"], _USED) if base else None


def _block(di: str) -> tuple[list[str], bool]:
    """The single identifiers of a block, and whether the meter may send fewer of them."""
    area, middle, last = di[:2], di[4:6], di[6:]
    if area in ("00", "01") and middle == "FF":
        return [f"{di[:4]}{tariff:02X}{last}" for tariff in range(TARIFF_MAX + 1)], True
    if area in ("00", "01") and last == "FF":
        return [f"{di[:6]}{day:02X}" for day in range(LAST_MAX + 1)], False
    if area == "02" and middle == "FF" and last == "00":
        first = 0 if _single(f"{di[:4]}0000") else 1
        return [f"{di[:4]}{phase:02X}00" for phase in range(first, 4)], False
    if di[:4] in ("020A", "020B") and last == "FF":
        return [f"{di[:6]}{order:02X}" for order in range(1, HARMONIC_MAX + 1)], False
    if di[:4] in ("020A", "020B") and middle == "FF":
        return [f"{di[:4]}{phase:02X}{last}" for phase in range(1, 4)], False
    if di == "040005FF":
        return [f"0400050{word}" for word in range(1, 8)], False
    return [], False
