"""Area 03 of DL/T 645-2007, events, and the grid's extension classes 10 to 23.

    03 nn 00 00   counters of a class          03 nn pp rr   record rr (01 the last) of phase pp
    0310 pp mm    voltage quality of phase pp, mm months ago
    0330 xx 00    counter of an operation      0330 xx rr    its record
    0335 to 0337 00 00 and rr, of the grid: the same of a magnetic field, of the relay, of the meter's own supply
    nn pp 00 01   how often, in an extension class (pp 00: in all)      nn pp 00 02   for how long
    nn pp FF rr   its record rr                                  nn pp ff rr   the field ff of it, from 01 on

A record of another length than the standard's (meters of one phase have shorter ones) gives its first fields, and the
rest as bytes. That of setting the clock (0330 04) is the only one that begins with the operator: C0 to C3, the time
before, the time after. Percentages of 0310 have two bytes in one source, three in another: the length tells, as it does
for the imbalance of 16 and 17. Where the sources are: `catalogue_records`.
"""

from collections.abc import Sequence

from protocols.catalogue_events import (
    BY_PHASE,
    CLOCK_SET,
    COVERS,
    EXTENSIONS,
    FAULTS,
    OF_METER,
    OPERATIONS,
    OVER_DEMANDS,
    PHASES,
    QUALITY_FIELDS,
)
from protocols.catalogue_records import (
    CHARGES,
    EXTREME,
    FLAWED_CURRENT,
    FLAWED_VOLTAGE,
    OF_EXTENSION,
    OF_FAULT,
    OF_OPERATION,
    all_sums,
    sums,
    with_instants,
)
from protocols.dlt645.compound import Either, Fields, Groups, Record
from protocols.dlt645.layout import (
    AMPERE,
    COUNT,
    ENERGY,
    ENERGY_SIGNED,
    FACTOR,
    MINUTE,
    POWER,
    POWER_SIGNED,
    SECOND,
    XX,
    XXX,
    Layout,
    single,
)
from protocols.dlt645.shapes import Digits, Number, Shape, When

RECORDS_MAX, MONTHS_MAX = 10, 12
_LONG_PERCENT = Number(length=3, decimals=2)
_MOMENT = When(parts="MMDDhhmm")
_SPAN = Fields(parts=(SECOND, SECOND))
_WORD, _TABLE = Digits(length=1, base=16), Groups(size=3, most=14)
_FORMS: dict[str, Shape] = {
    "start": SECOND,
    "end": SECOND,
    "operator": Digits(length=4, base=16),
    "energy": ENERGY,
    "voltage": XXX,
    "current": AMPERE,
    "power": POWER_SIGNED,
    "power_factor": FACTOR,
    "charge": Number(length=4, decimals=2),
    "imbalance": XX,
    "demand": POWER,
    "moment": MINUTE,
    "identifiers": Groups(size=4, most=10, base=16),
    "identifier": Digits(length=4, base=16, every=True),
    "slots": _TABLE,
    "zones": _TABLE,
    "holidays": Groups(size=4, most=254),
    "table": Digits(length=1),
    "word": _WORD,
    "state": _WORD,
    **{f"day_{n}": Digits(length=2, unset="9999") for n in range(1, 4)},
}
"""By the first word of a field, the one that says when left out."""


def find(di: str) -> Layout | None:
    """What stands behind an identifier of area 03 or an extension class; None where only the bytes are known."""
    area, kind, which, nth = di[:2], di[2:4], di[4:6], int(di[6:], 16)
    if area in EXTENSIONS:
        return _extension(di, area, kind, which, nth)
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
        return single(di, [f"event.{FAULTS[kind][0]}.count"], COUNT) if kind in FAULTS else _counters(di, kind)
    if not 1 <= nth <= RECORDS_MAX:
        return None
    if kind in BY_PHASE and which in ("01", "02", "03"):
        stem = f"{BY_PHASE[kind][0]}.{'abc'[int(which) - 1]}"
        return _record(di, stem, ("start", "end", *_gained(kind)), nth, head=2)
    if kind in FAULTS and which == "00":
        return _record(di, FAULTS[kind][0], ("start", "end", *OF_FAULT[kind]), nth, head=2)
    if kind in OF_METER and which == "00":
        fields, head = _of_meter(kind)
        return _record(di, OF_METER[kind][0], fields, nth, head=head)
    return None


def _gained(kind: str) -> tuple[str, ...]:
    """What a record of a phase's class holds behind start and end."""
    if kind in FLAWED_VOLTAGE:
        return (*with_instants("gained"), *CHARGES)
    return with_instants("gained") if kind in FLAWED_CURRENT else all_sums("gained")


def _of_meter(kind: str) -> tuple[tuple[str, ...], int]:
    """The fields of a record of a class that has no phases, and how many of them every meter has."""
    match kind:
        case "05":
            return ("start", "current", "end"), 1
        case "06":
            return ("start", "end"), 1
        case "07" | "08":
            return ("start", "end", *all_sums("gained")), 1
    return ("start", "end", EXTREME, *all_sums("gained")), 1


def _counters(di: str, kind: str) -> Layout | None:
    if kind in BY_PHASE:
        stem = BY_PHASE[kind][0]
        names = [f"event.{stem}.{phase}.{field}" for phase in "abc" for field in ("count", "minutes")]
    elif kind in OF_METER:
        names = [f"event.{OF_METER[kind][0]}.{field}" for field in ("count", "minutes")]
    else:
        return None
    return single(di, names, Fields(parts=(COUNT,) * len(names)))


def _form(field: str) -> Shape:
    """How a field of a record is written."""
    words = field.split(".")
    if words[0] in ("gained", "before", "after"):
        del words[0]
    if words[-1] == "moment":
        return MINUTE
    return ENERGY_SIGNED if words[0] == "energy" and "combined" in field else _FORMS[words[0]]


def _record(di: str, stem: str, fields: Sequence[str], nth: int, *, head: int) -> Layout:
    """A record with these fields; head: how many of them every meter has."""
    usual = Fields(parts=tuple(map(_form, fields)))
    longer = tuple(_LONG_PERCENT if field == EXTREME else _form(field) for field in fields)
    whole = Either(forms=(usual, Fields(parts=longer))) if EXTREME in fields else usual
    names = [f"event.{stem}.{field}.record_{nth}" for field in (*fields, "detail")]
    after = frozenset(n for n, field in enumerate(fields) if field.startswith("after."))
    end = fields.index("end") if "end" in fields else None
    return single(di, names, Record(whole=whole, head=head, end=end, after=after), open_ended=True)


def _quality(di: str, phase: int, month: int) -> Layout | None:
    if phase > 3 or month > MONTHS_MAX:
        return None
    ending = f".{list(PHASES)[phase]}" + (f".past_{month}" if month else "")
    forms = tuple(
        Fields(parts=(COUNT, percent, percent, COUNT, COUNT, XXX, _MOMENT, XXX, _MOMENT))
        for percent in (_LONG_PERCENT, XX)
    )
    return single(di, [f"voltage_quality.{field}{ending}" for field, _, _ in QUALITY_FIELDS], Either(forms=forms))


def _power_off(di: str, which: str, nth: int) -> Layout | None:
    if which != "00" or nth > RECORDS_MAX:
        return None
    if not nth:
        return single(di, ["event.power_off.count"], COUNT)
    return single(di, [f"event.power_off.{field}.record_{nth}" for field in ("start", "end")], _SPAN)


def _over_demand(di: str, which: str, nth: int) -> Layout | None:
    natures = list(OVER_DEMANDS)
    if di[4:] == "0000":
        names = [f"event.over_demand.{nature}.count" for nature in natures]
        return single(di, names, Fields(parts=(COUNT,) * len(names)))
    nature = int(which, 16)
    if not 1 <= nature <= len(natures) or not 1 <= nth <= RECORDS_MAX:
        return None
    return _record(di, f"over_demand.{natures[nature - 1]}", ("start", "end", "demand", "moment"), nth, head=2)


def _operation(di: str, which: str, nth: int) -> Layout | None:
    stem = OPERATIONS[which][0]
    if not nth:
        return single(di, [f"event.{stem}.count"], COUNT)
    if nth > RECORDS_MAX:
        return None
    if which == CLOCK_SET:
        names = [f"event.{stem}.{field}.record_{nth}" for field in ("operator", "start", "end")]
        return single(di, names, Fields(parts=(_FORMS["operator"], SECOND, SECOND)))
    behind = "end" if which in COVERS else "operator"
    return _record(di, stem, ("start", behind, *OF_OPERATION[which]), nth, head=2)


def _extension(di: str, area: str, kind: str, which: str, nth: int) -> Layout | None:
    """A class of the grid: its counters, its time in all, its records and their fields."""
    stem = EXTENSIONS[area][0]
    by_phase = "10" <= area <= "13" or "18" <= area <= "1C"
    if kind != "00":
        if not by_phase or kind not in ("01", "02", "03"):
            return None
        stem += f".{'abc'[int(kind) - 1]}"
    if which == "00" and (nth == 1 or (nth == 2 and area < "1D")):
        return single(di, [f"event.{stem}.{'minutes' if nth == 2 else 'count'}"], COUNT)
    fields = _fields_of(area)
    if not 1 <= nth <= RECORDS_MAX or not fields or (by_phase and kind == "00"):
        return None
    if which == "FF":
        return _record(di, stem, fields, nth, head=2 if area in ("1D", "1E") else 1)
    place = int(which, 16) - 1
    return (
        single(di, [f"event.{stem}.{fields[place]}.record_{nth}"], _form(fields[place]))
        if 0 <= place < len(fields)
        else None
    )


def _fields_of(area: str) -> tuple[str, ...]:
    """What the records of a class of the grid hold; empty where that is not known."""
    if area in ("1D", "1E"):
        return ("start", "operator", *OF_EXTENSION[area])
    if area == "1F":
        return ("start", *sums("before", "total"), "end", *sums("after", "total"))
    if area > "1F":
        return ()
    begun = with_instants("before") if area < "14" or "18" <= area <= "1A" else all_sums("before")
    between = CHARGES if area < "14" else (EXTREME,) if area in ("16", "17") else ()
    return ("start", *begun, *between, "end", *all_sums("after"))
