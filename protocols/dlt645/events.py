"""Area 03 of DL/T 645-2007, events, and the grid's extension classes 10 to 23.

    03 nn 00 00   counters of a class          03 nn pp rr   record rr (01 the last) of phase pp
    0310 pp mm    voltage quality of phase pp, mm months ago
    0330 xx 00    counter of an operation      0330 xx rr    its record
    nn 00 00 01   counter of an extension class (known from one capture of 1D000001)

Of a record only the first fields are decoded, as far as sources agree on them. Records of total voltage loss to
current imbalance (0305 to 030A) differ behind their first moment. Voltage classes have 131 bytes (one implementation).
That of setting the clock (0330 04) is the only one that begins with the operator: C0 to C3, the time before, the time
after (four implementations agree).
"""

from protocols.catalogue_events import (
    BY_PHASE,
    CLOCK_SET,
    COVERS,
    EXTENSIONS,
    OF_METER,
    OPERATIONS,
    OVER_DEMANDS,
    PHASES,
    QUALITY_FIELDS,
)
from protocols.dlt645.compound import Fields, Opaque
from protocols.dlt645.item import COUNT, SECOND, XXX, Stand, single
from protocols.dlt645.shapes import Digits, Number, Shape, When

EVENTS_KEPT, MONTHS_KEPT = 10, 12  # of each sort, by a meter
_REST = Opaque(length=1)
_VOLTAGE_CLASSES = frozenset({"01", "02", "03", "04"})
_PERCENT = Number(length=3, decimals=2)
_MOMENT = When(parts="MMDDhhmm")
_QUALITY = Fields(parts=(COUNT, _PERCENT, _PERCENT, COUNT, COUNT, XXX, _MOMENT, XXX, _MOMENT))
_LENGTHS = {"00": 50, "0D": 60}
"""Bytes of a record, of the operations whose records are known whole."""


def find(di: str) -> Stand | None:
    """What stands behind an identifier of area 03 or an extension class; None where only the bytes are known."""
    area, kind, which, nth = di[:2], di[2:4], di[4:6], int(di[6:], 16)
    if area in EXTENSIONS:
        return single(di, [f"event.{EXTENSIONS[area][0]}.count"], COUNT) if di[2:] == "000001" else None
    if area != "03":
        return None
    match kind:
        case "10":
            return _quality(di, int(which, 16), nth)
        case "11":
            return _power_off(di, which, nth)
        case "12":
            return _over_demand(di, which, nth)
        case "30":
            return _operation(di, which, nth) if which in OPERATIONS else None
    if di[4:] == "0000":
        return _counters(di, kind)
    if not 1 <= nth <= EVENTS_KEPT:
        return None
    if kind in BY_PHASE and which in ("01", "02", "03"):
        stem = f"event.{BY_PHASE[kind][0]}.{'abc'[int(which) - 1]}"
        total = 131 if kind in _VOLTAGE_CLASSES else None
        return _record(di, stem, ("start", "end", "detail"), nth, total)
    if kind in OF_METER and which == "00":
        return _record(di, f"event.{OF_METER[kind][0]}", ("start", "detail"), nth, None)
    return None


def _counters(di: str, kind: str) -> Stand | None:
    if kind in BY_PHASE:
        stem = BY_PHASE[kind][0]
        names = [f"event.{stem}.{phase}.{field}" for phase in "abc" for field in ("count", "minutes")]
    elif kind in OF_METER:
        names = [f"event.{OF_METER[kind][0]}.{field}" for field in ("count", "minutes")]
    else:
        return None
    return single(di, names, Fields(parts=(COUNT,) * len(names)))


_FORMS: dict[str, Shape] = {"start": SECOND, "end": SECOND, "operator": Digits(length=4, base=16), "detail": _REST}


def _record(di: str, stem: str, fields: tuple[str, ...], nth: int, total: int | None) -> Stand:
    parts = tuple(_FORMS[field] for field in fields)
    shape = Fields(parts=parts, tail=fields[-1] == "detail", total=total)
    return single(di, [f"{stem}.{field}.record_{nth}" for field in fields], shape)


def _quality(di: str, phase: int, month: int) -> Stand | None:
    if phase > 3 or month > MONTHS_KEPT:
        return None
    ending = f".{list(PHASES)[phase]}" + (f".past_{month}" if month else "")
    return single(di, [f"voltage_quality.{field}{ending}" for field, _, _ in QUALITY_FIELDS], _QUALITY)


def _power_off(di: str, which: str, nth: int) -> Stand | None:
    if which != "00" or nth > EVENTS_KEPT:
        return None
    if not nth:
        return single(di, ["event.power_off.count"], COUNT)
    return _record(di, "event.power_off", ("start", "end"), nth, None)


def _over_demand(di: str, which: str, nth: int) -> Stand | None:
    natures = list(OVER_DEMANDS)
    if di[4:] == "0000":
        names = [f"event.over_demand.{nature}.count" for nature in natures]
        return single(di, names, Fields(parts=(COUNT,) * len(names)))
    nature = int(which, 16)
    if not 1 <= nature <= len(natures) or not 1 <= nth <= EVENTS_KEPT:
        return None
    return single(di, [f"event.over_demand.{natures[nature - 1]}.detail.record_{nth}"], Opaque(length=18))


def _operation(di: str, which: str, nth: int) -> Stand | None:
    stem = f"event.{OPERATIONS[which][0]}"
    if not nth:
        return single(di, [f"{stem}.count"], COUNT)
    if nth > EVENTS_KEPT:
        return None
    if which == CLOCK_SET:
        return _record(di, stem, ("operator", "start", "end"), nth, None)
    fields = ("start", "detail") if which in COVERS else ("start", "operator", "detail")
    return _record(di, stem, fields, nth, _LENGTHS.get(which))
