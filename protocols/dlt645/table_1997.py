"""Which form stands behind each identifier of DL/T 645-1997, as far as implementations and a live log agree.

DI1 DI0. 9x energy, Ax demand, Bx its time; low half-byte of DI1: +4 last month, +8 the month before; low half-byte of
DI0: 0 total, 1 to E tariff, F block. B2, B3 events; B6 variables; C0 to C5 clock, state and settings.

Makers differ in these, so they are named but have no value here (a profile may say what its meters mean):
B660  frequency, 2 bytes (one firmware), or total apparent power (three implementations)
B67x  phase angles, 2 bytes; B68x apparent power, 3 bytes: one firmware, decimals not told
B69x  line voltages, in three implementations, length not told
9000  total active energy in one live meter; 90FF the whole area, refused by that meter; 9A1F daily freeze in another
C12x  what C11x is, in one firmware; its state words stand from C040 on
C119 and C11A have one decimal in four implementations, two in energies: they are given as their digits. C114 counts
what one firmware shows; five say that it is a time.
"""

from protocols.dlt645.compound import Opaque, Secret, Several
from protocols.dlt645.layout import COUNT, ENERGY, POWER, XX, Item, Layout, single
from protocols.dlt645.shapes import Digits, Number, Shape, Sign, When
from protocols.dlt645.table_2007 import standing_in
from protocols.quantity import by_name, variant

_PHASES = {"total": "0", "a": "1", "b": "2", "c": "3"}
_UNCLEAR_POWER = Number(length=3, decimals=4, sign=Sign.UNCLEAR)
_UNCLEAR_XX, _UNCLEAR_FACTOR = (Number(length=2, decimals=n, sign=Sign.UNCLEAR) for n in (2, 3))
_BYTE, _TWO, _CONSTANT = (Number(length=n, decimals=0) for n in (1, 2, 3))
_MOMENT = When(parts="MMDDhhmm")
_FLAGS = Digits(length=1, base=16)
_TEXT = Digits(length=6)


def _of_phase_loss(field: str, phase: str) -> str:
    return f"event.phase_loss.{field}" if phase == "total" else f"event.phase_loss.{phase}.{field}"


_NAMED: dict[str, tuple[str, Shape]] = {
    "B210": ("event.programming.start", _MOMENT),
    "B211": ("event.demand_clear.start", _MOMENT),
    "B212": ("event.programming.count", _TWO),
    "B213": ("event.demand_clear.count", _TWO),
    "B214": ("battery.run_time", COUNT),
    **{f"B31{n}": (_of_phase_loss("count", p), _TWO) for p, n in _PHASES.items()},
    **{f"B32{n}": (_of_phase_loss("minutes", p), COUNT) for p, n in _PHASES.items()},
    **{f"B33{n}": (_of_phase_loss("start", p), _MOMENT) for p, n in _PHASES.items()},
    **{f"B34{n}": (_of_phase_loss("end", p), _MOMENT) for p, n in _PHASES.items()},
    **{f"B61{_PHASES[p]}": (f"voltage.{p}", Number(length=2, decimals=0)) for p in "abc"},
    **{f"B62{_PHASES[p]}": (f"current.{p}", XX) for p in "abc"},
    **{f"B63{n}": (f"power.active.{p}", _UNCLEAR_POWER) for p, n in _PHASES.items()},
    "B634": ("limit.power.import", XX),
    "B635": ("limit.power.export", XX),
    **{f"B64{n}": (f"power.reactive.{p}", _UNCLEAR_XX) for p, n in _PHASES.items()},
    **{f"B65{n}": (f"power_factor.{p}", _UNCLEAR_FACTOR) for p, n in _PHASES.items()},
    "C010": ("clock.date", When(parts="YYMMDDWW")),
    "C011": ("clock.time", When(parts="hhmmss")),
    "C020": ("status.meter", _FLAGS),
    "C021": ("status.grid", _FLAGS),
    "C022": ("status.c022", _FLAGS),
    "C030": ("constant.active", _CONSTANT),
    "C031": ("constant.reactive", _CONSTANT),
    "C032": ("meter.number", _TEXT),
    "C033": ("customer.number", _TEXT),
    "C034": ("device.number", _TEXT),
    "C111": ("demand.period", _BYTE),
    "C112": ("demand.slide", _BYTE),
    **{
        f"C11{n}": (f"display.{what}", Digits(length=1))
        for n, what in ((3, "cycle"), (4, "pause"), (5, "energy.decimals"), (6, "power.decimals"))
    },
    "C117": ("read.day", Digits(length=2)),
    "C118": ("load.day", Digits(length=1)),
    "C119": ("start.active", Digits(length=4)),
    "C11A": ("start.reactive", Digits(length=4)),
    "C211": ("pulse.width", _TWO),
    "C212": ("password.level_0", Secret(length=4)),
    "C310": ("limit.zones", _BYTE),
    "C311": ("limit.slot_tables", _BYTE),
    "C312": ("limit.slots", _BYTE),
    "C313": ("limit.tariffs", _BYTE),
    "C314": ("limit.holidays", _BYTE),
    **{f"C32{n:X}": (f"zones.first.entry_{n}", Digits(length=3)) for n in range(1, 15)},
    **{
        f"C3{2 + table:X}{n:X}": (f"slots.table_{table}.entry_{n}", Digits(length=3))
        for table in range(1, 9)
        for n in range(1, 15)
    },
    **{f"C41{n:X}": (f"holiday.entry_{n}", Digits(length=3)) for n in range(1, 14)},
    "C41E": ("weekend.word", Opaque(length=1)),
    "C510": ("load.start", _MOMENT),
    "C511": ("load.interval", _TWO),
}

_ROWS = {
    0: {"1": "active.import", "2": "active.export"},
    1: {"1": "reactive.import", "2": "reactive.export", "3": "reactive.q1", "4": "reactive.q4", "5": "reactive.q2",
        "6": "reactive.q3"},
}  # fmt: skip
"""Low half-byte of DI1 (0 active, 1 reactive), then the high half-byte of DI0."""
_GROUPS: dict[str, tuple[int, tuple[str, ...]]] = {
    "B21F": (4, tuple(f"B21{n}" for n in range(5))),
    "C01F": (2, ("C010", "C011")),
    "C02F": (3, ("C020", "C021", "C022")),
    "C03F": (5, tuple(f"C03{n}" for n in range(5))),
    "C11F": (10, tuple(f"C11{n:X}" for n in range(1, 11))),
    "C31F": (5, tuple(f"C31{n}" for n in range(5))),
    "C51F": (2, ("C510", "C511")),
}
"""Blocks of unlike items, with how many of them come at least (the run time of the battery is not in every B21F), as
the data structures of a concentrator have them. The weekday of C01F has no place of its own."""
_SHAPES: dict[str, Shape] = {"9": ENERGY, "A": POWER, "B": _MOMENT}
_TARIFF_MAX = 14


def find(di: str) -> Layout | None:
    """What stands behind an identifier (4 upper-case hex digits); None when the catalogue has no such thing."""
    if di in _NAMED:
        name, shape = _NAMED[di]
        return single(di, [each.name for each in standing_in(by_name(name), shape)], shape)
    if di in _GROUPS:
        least, members = _GROUPS[di]
        parts = tuple(_NAMED[member][1] for member in members)
        names = [_NAMED[member][0] for member in members]
        return single(di, names, Several(parts=parts, least=least), open_ended=least < len(members))
    item = _register(di)
    if item is not None:
        return Layout(items=(item,))
    names, open_ended = _block(di)
    layouts = [find(name) for name in names]
    items = tuple(item for layout in layouts if layout for item in layout.items)
    by_phase = di[:2] in ("B3", "B6")
    return Layout(items=items, block=True, open_ended=open_ended, by_phase=by_phase) if items else None


def _register(di: str) -> Item | None:
    month, unknown, nature = int(di[1], 16) >> 2, int(di[1], 16) >> 1 & 1, int(di[1], 16) & 1
    row, tariff = _ROWS[nature].get(di[2]), int(di[3], 16)
    if di[0] not in "9AB" or unknown or month > 2 or row is None or tariff > _TARIFF_MAX:
        return None
    base = by_name(f"{'energy' if di[0] == '9' else 'demand'}.{row}.total")
    quantity = variant(base, tariff=tariff, last=month, time=di[0] == "B")
    return Item(di=di, quantities=(quantity,), shape=_SHAPES[di[0]])


def _block(di: str) -> tuple[list[str], bool]:
    """The single identifiers of a block, and whether the meter may send fewer of them."""
    if di[3] != "F":
        return [], False
    if di[:2] in ("B3", "B6"):
        first = 0 if f"{di[:3]}0" in _NAMED else 1
        return [f"{di[:3]}{phase}" for phase in range(first, 4)], False
    if di[0] in "9AB":
        return [f"{di[:3]}{tariff:X}" for tariff in range(_TARIFF_MAX + 1)], True
    if di[:2] == "C3" or di == "C41F":
        return [f"{di[:3]}{n:X}" for n in range(1, _TARIFF_MAX + 1) if di != "C41F" or n < _TARIFF_MAX], True
    return [], False
