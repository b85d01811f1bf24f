"""Rows of the catalogue: what event records hold beside their moments (DL/T 645-2007 area 03, the grid's 10 to 1F).

Each has the name of its event and of the quantity it is one of: `event.phase_loss.a.gained.energy.active.import.b`.
gained: what a register rose by while it lasted. before, after: what stood in a register when it began and ended, or
before and after somebody worked on the meter. Without such a word: what was measured when it began.
Sources: on area 03 the tables of the package dlt645 3.2.0 (Apache-2.0), a table of formats in Lua and two C headers of
concentrators agree (0330 05: the lists of randy-jin/dataprocess-parent, the others have too few); on 10 to 1F these
lists, the Lua table, a concentrator's lengths, another's mapping to DL/T 698.45, a meter tester, as far as each goes.
"""

from collections.abc import Iterator

from protocols.catalogue_events import BY_PHASE, EXTENSIONS, FAULTS, OF_METER, OPERATIONS, OVER_DEMANDS
from protocols.catalogue_measured import MEASURED
from protocols.quantity_type import Form, Kind, Quantity, Side, number_of

_SCOPES = ("total", "a", "b", "c")
_SUMS = ("active.import", "active.export", "reactive.combined_1", "reactive.combined_2")
_QUADRANTS = ("active.import", "active.export", "reactive.q1", "reactive.q2", "reactive.q3", "reactive.q4")
_INSTANTS = ("voltage", "current", "power.active", "power.reactive", "power_factor")


def sums(when: str, scope: str) -> tuple[str, ...]:
    """Energies both ways and combined. when: gained, before, after; scope: total or a phase."""
    return tuple(f"{when}.energy.{nature}.{scope}" for nature in _SUMS)


def quadrants(when: str, scope: str = "total") -> tuple[str, ...]:
    """Active energy both ways, reactive energy by quadrant."""
    return tuple(f"{when}.energy.{nature}.{scope}" for nature in _QUADRANTS)


def all_sums(when: str) -> tuple[str, ...]:
    """Those of the total and of each phase, in the order of the wire."""
    return tuple(name for scope in _SCOPES for name in sums(when, scope))


def with_instants(when: str) -> tuple[str, ...]:
    """The same, with what was measured behind the energies of each phase."""
    phases = ((*sums(when, p), *(f"{what}.{p}" for what in _INSTANTS)) for p in "abc")
    return (*sums(when, "total"), *(name for phase in phases for name in phase))


CHARGES = tuple(f"charge.{scope}" for scope in _SCOPES)
"""Ampere-hours while the event lasted."""
DEMANDS = tuple(
    f"before.demand.{nature}.{scope}{ending}"
    for scope in _SCOPES for nature in _QUADRANTS for ending in ("", ".moment")
)  # fmt: skip
ENERGIES = tuple(name for scope in _SCOPES for name in quadrants("before", scope))
FLAWED_VOLTAGE, FLAWED_CURRENT = ("01", "02", "03", "04"), ("0B", "0C", "0D")
"""Classes of a phase whose records tell what was measured; those of voltage, also its charge."""

OF_OPERATION: dict[str, tuple[str, ...]] = {
    "00": ("identifiers",),
    "01": ENERGIES,
    "02": DEMANDS,
    "03": ("identifier",),
    "05": tuple(f"before.slots.{which}_{n}" for which in ("first", "second") for n in range(1, 9)),
    "06": ("before.zones.first", "before.zones.second"),
    "07": ("before.table",),
    "08": ("before.holidays",),
    "09": ("before.word",),
    "0A": ("before.word",),
    "0B": ("before.word",),
    "0C": ("before.day_1", "before.day_2", "before.day_3"),
    "0D": (*quadrants("before"), *quadrants("after")),
    "0E": (*quadrants("before"), *quadrants("after")),
}
"""DI1 of 0330 to what its record holds behind its head."""
EXTREME = "imbalance.max"
OF_EXTENSION: dict[str, tuple[str, ...]] = {
    "1D": quadrants("before"),
    "1E": quadrants("before"),
    "1F": (*sums("before", "total"), *sums("after", "total")),
}
"""DI3 of classes that the grid alone has to what their records hold beside their head."""
_BOTH = tuple(f"{when}.energy.{nature}.total" for when in ("before", "after") for nature in _SUMS[:2])
OF_FAULT: dict[str, tuple[str, ...]] = {"35": _BOTH, "36": ("state", *_BOTH), "37": _BOTH[:2]}
"""DI2 of 0335 to 0337, the same, behind start and end; from the lists of randy-jin/dataprocess-parent alone."""

_BASES = {quantity.name: quantity for quantity in MEASURED}
_OTHERS = {
    "identifiers": ("", "编程的数据标识"),
    "identifier": ("", "事件清零数据标识"),
    "before.zones.first": ("", "前第一套时区表"),
    "before.zones.second": ("", "前第二套时区表"),
    **{
        f"before.slots.{which}_{n}": ("", f"前第{zh}套第{n}日时段表")
        for which, zh in (("first", "一"), ("second", "二"))
        for n in range(1, 9)
    },
    "before.table": ("", "前周休日采用的日时段表号"),
    "before.holidays": ("", "前节假日"),
    "before.word": ("", "前特征字"),
    "state": ("", "后状态"),
    **{f"before.day_{n}": ("", f"前每月第{n}结算日") for n in range(1, 4)},
    "imbalance.max": ("%", "最大不平衡率"),
    "current": ("A", "电流值"),
    **{
        f"charge.{scope}": ("Ah", f"期间{'总' if scope == 'total' else scope.upper() + '相'}安时数")
        for scope in _SCOPES
    },
}
"""Unit and Chinese of what is no quantity on its own."""
_EVENT, _OPERATION = ("发生时刻", "结束时刻"), ("前", "后")
FIRST_ROW, _BLOCK = 2048, 72
"""The first number of a row, and how many an event has room for."""


def _row(row: int, stem: str, zh: str, name: str, moments: tuple[str, str]) -> Quantity:
    if name in _OTHERS:
        unit, what = _OTHERS[name]
        side = Side.CURRENT if unit in ("A", "Ah") else Side.NONE
    else:
        word, _, rest = name.partition(".")
        base = _BASES[(rest if word in ("gained", "before", "after") else name).removesuffix(".moment")]
        unit, side = ("", Side.NONE) if name.endswith(".moment") else (base.unit, base.side)
        what = base.zh + ("发生时间" if name.endswith(".moment") else "")
        match word:
            case "gained":
                what = f"期间{what}增量"
            case "before" | "after":
                what = moments[word == "after"] + what
            case _:
                what = f"时刻{what}"
    form = Form.NUMBER if unit else Form.TIME if name.endswith("moment") else Form.TEXT
    phase = name[-1] if name[-2:] in (".a", ".b", ".c") else None
    return Quantity(number=number_of(row), name=f"event.{stem}.{name}", unit=unit, kind=Kind.EVENT, form=form,
                    phase=phase, side=side, zh=zh + what)  # fmt: skip


def _block(
    first: int, stem: str, zh: str, names: tuple[str, ...], moments: tuple[str, str] = _EVENT
) -> Iterator[Quantity]:
    for n, name in enumerate(names):
        yield _row(first + n, stem, zh, name, moments)


def _rows() -> Iterator[Quantity]:
    """A block of numbers for each event, its names in an order of their own; new ones only behind the last."""
    three = (*all_sums("gained"), *all_sums("before"), *all_sums("after"))
    instants = tuple(name for name in with_instants("gained") if not name.startswith("gained"))
    for n, (code, (stem, zh)) in enumerate(BY_PHASE.items()):
        names = (*three, *(instants if code in (*FLAWED_VOLTAGE, *FLAWED_CURRENT) else ()),
                 *(CHARGES if code in FLAWED_VOLTAGE else ()))  # fmt: skip
        for p, phase in enumerate("abc"):
            yield from _block(FIRST_ROW + _BLOCK * (3 * n + p), f"{stem}.{phase}", f"{phase.upper()}相{zh}", names)
    for n, (code, (stem, zh)) in enumerate(OF_METER.items()):
        names = {"05": ("current",), "06": (), "09": (*three, EXTREME), "0A": (*three, EXTREME)}.get(code, three)
        yield from _block(4000 + _BLOCK * n, stem, zh, names)
    for n, (code, (stem, zh)) in enumerate(OPERATIONS.items()):
        yield from _block(4500 + _BLOCK * n, stem, zh, OF_OPERATION.get(code, ()), _OPERATION)
    for n, (nature, (zh, _)) in enumerate(OVER_DEMANDS.items()):
        stem, what = f"over_demand.{nature}", f"{zh}需量超限期间最大需量"
        yield Quantity(number=number_of(5600 + 2 * n), name=f"event.{stem}.demand", kind=Kind.EVENT,
                       side=Side.BOTH, unit=_BASES[f"demand.{nature}.total"].unit, zh=what)  # fmt: skip
        yield Quantity(number=number_of(5601 + 2 * n), name=f"event.{stem}.moment", kind=Kind.EVENT, unit="",
                       form=Form.TIME, zh=f"{what}发生时间")  # fmt: skip
    for n, (code, names) in enumerate(OF_EXTENSION.items()):
        yield from _block(5700 + _BLOCK * n, *EXTENSIONS[code], names)
    for n, (code, names) in enumerate(OF_FAULT.items()):
        yield from _block(6000 + _BLOCK * n, *FAULTS[code], names)


def rows() -> tuple[Quantity, ...]:
    """All of them: two thousand, 1.4 MiB, so they are made when one is asked for."""
    return tuple(_rows())
