"""Plausibility: flags on values that cannot quite be true. Nothing is altered, nothing is dropped."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal

from drivers.confirm import POWER_KW_MAX
from protocols.capture import Capture, Quality, Value
from protocols.quantity import Kind, Quantity

SIGNED_ENERGY = ("energy.active.combined", "energy.reactive.combined")
"""Registers that may fall and be negative: import minus export (DL/T 645-2007 lets a combined word say which)."""

SUM_COUNTS = 4
"""Counts of the last digit by which tariffs and their total may differ: they turn over one after the other, and may be
read one after the other."""

STEP_FACTOR, STEP_COUNTS = Decimal("1.2"), 2
"""Energy rises at most by the meter's highest power over the time between two readings, a fifth for overload, and what
the last digit rounds."""

_MS_PER_HOUR = 3_600_000
_BOUNDS = {
    "power_factor": (Decimal(-1), Decimal(1)),
    "frequency": (Decimal(40), Decimal(70)),
    "voltage": (Decimal(0), Decimal(1_000_000)),
    "thd": (Decimal(0), Decimal(1000)),
    "temperature": (Decimal(-60), Decimal(150)),
    "phase_angle": (Decimal(-360), Decimal(360)),
}
"""What physics allows, by the first part of a quantity's name: wide, because a meter may be set to primary values."""


@dataclass(frozen=True, slots=True)
class _Rule:
    """What is checked of one quantity. group: of the total and its tariffs, how all of them are called."""

    low: Decimal | None = None
    high: Decimal | None = None
    rises: bool = False
    group: str = ""


@dataclass(slots=True)
class CheckCounters:
    """Values that were flagged."""

    out_of_bounds: int = 0
    fell: int = 0
    rose_too_fast: int = 0
    sums: int = 0
    """Totals that are not the sum of their tariffs."""


class Checks:
    """Remembers the last reading of each energy register, and flags what cannot be.

    power_kw_max: the most that each meter can measure, where that is known.
    """

    def __init__(self, power_kw_max: Mapping[str, int] | None = None) -> None:
        self.counters = CheckCounters()
        self._power_kw_max = power_kw_max or {}
        self._rules: dict[str, _Rule | None] = {}
        self._last: dict[tuple[str, str], tuple[Decimal, int]] = {}
        self._adds_up: set[tuple[str, str]] = set()
        """Totals of meters that were the sum of the tariffs that are read."""

    def flag(self, capture: Capture) -> Capture:
        """The capture, with every good value that cannot be true made doubtful and the reason in its detail."""
        flagged: dict[int, str] = {}
        groups: dict[str, list[tuple[int, Value]]] = {}
        for index, value in enumerate(capture.values):
            if value.number is None:
                continue
            name = value.quantity.name
            try:
                rule = self._rules[name]
            except KeyError:
                rule = self._rules[name] = _rule(value.quantity)
            if rule is not None:
                why = self._why(capture, name, value.number, rule)
                if why:
                    flagged[index] = why
                if rule.group:
                    groups.setdefault(rule.group, []).append((index, value))
        for group, members in groups.items():
            if len(members) > 1:
                self._add_up(capture.meter, group, members, flagged)
        if not flagged:
            return capture
        values = list(capture.values)
        for index, why in flagged.items():
            value = values[index]
            detail = f"{value.detail}; {why}" if value.detail else why
            values[index] = replace(value, quality=Quality.DOUBTFUL, detail=detail)
        return replace(capture, values=tuple(values))

    def _why(self, capture: Capture, name: str, number: Decimal, rule: _Rule) -> str:
        if rule.rises:
            key = capture.meter, name
            last = self._last.get(key)
            self._last[key] = number, capture.read_at
            if last is not None and number != last[0]:
                if number < last[0]:
                    self.counters.fell += 1
                    return f"fell from {last[0]:f}"
                power_kw = self._power_kw_max.get(capture.meter, POWER_KW_MAX)
                allowed = power_kw * STEP_FACTOR * abs(capture.read_at - last[1]) / _MS_PER_HOUR
                if number - last[0] > allowed + STEP_COUNTS * _count(number):
                    self.counters.rose_too_fast += 1
                    return f"rose from {last[0]:f} faster than {power_kw} kW"
        if rule.low is not None and number < rule.low:
            self.counters.out_of_bounds += 1
            return f"below {rule.low:f}"
        if rule.high is not None and number > rule.high:
            self.counters.out_of_bounds += 1
            return f"above {rule.high:f}"
        return ""

    def _add_up(self, meter: str, group: str, members: list[tuple[int, Value]], flagged: dict[int, str]) -> None:
        """Hold a total against its tariffs. They are never more; they are less where a meter has tariffs that are not
        read, unless they were as much before."""
        total = next(((index, value) for index, value in members if value.quantity.tariff == 0), None)
        if total is None or total[1].number is None:
            return
        index, number = total[0], total[1].number
        tariffs = sum((value.number for _, value in members if value.number is not None), -number)
        within = SUM_COUNTS * _count(number)
        key = meter, group
        if abs(tariffs - number) <= within:
            self._adds_up.add(key)
        elif tariffs > number or key in self._adds_up:
            self.counters.sums += 1
            flagged.setdefault(index, f"its tariffs add up to {tariffs:f}")


def _count(number: Decimal) -> Decimal:
    """One count of the last digit."""
    exponent = number.as_tuple().exponent
    return Decimal(1).scaleb(exponent if isinstance(exponent, int) and exponent < 0 else 0)


def _rule(quantity: Quantity) -> _Rule | None:
    if quantity.kind is Kind.REGISTER and quantity.name.startswith("energy."):
        if quantity.name.startswith(SIGNED_ENERGY):
            return None
        whole, _, last = quantity.name.rpartition(".")
        present = not quantity.last and not quantity.store  # what is frozen steps by a day's energy at once
        grouped = present and (last == "total" or quantity.tariff > 0)
        return _Rule(low=Decimal(0), rises=present, group=whole if grouped else "")
    low, high = _BOUNDS.get(quantity.name.partition(".")[0], (None, None))
    return None if low is None else _Rule(low=low, high=high)
