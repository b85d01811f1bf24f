"""Plausibility: flags on values that cannot quite be true. Nothing is altered, nothing is dropped."""

from dataclasses import dataclass, replace
from decimal import Decimal

from protocols.capture import Capture, Quality, Value
from protocols.quantity import Kind, Quantity

SIGNED_ENERGY = ("energy.active.combined", "energy.reactive.combined")
"""Registers that may fall and be negative: import minus export (DL/T 645-2007 lets a combined word say which)."""

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
    """What is checked of one quantity."""

    low: Decimal | None = None
    high: Decimal | None = None
    rises: bool = False


@dataclass(slots=True)
class CheckCounters:
    """Values that were flagged."""

    out_of_bounds: int = 0
    fell: int = 0


class Checks:
    """Remembers the last reading of each energy register, and flags what cannot be."""

    def __init__(self) -> None:
        self.counters = CheckCounters()
        self._rules: dict[str, _Rule | None] = {}
        self._last: dict[tuple[str, str], Decimal] = {}

    def flag(self, capture: Capture) -> Capture:
        """The capture, with every good value that cannot be true made doubtful and the reason in its detail."""
        flagged: dict[int, Value] = {}
        for index, value in enumerate(capture.values):
            if value.number is None:
                continue
            name = value.quantity.name
            try:
                rule = self._rules[name]
            except KeyError:
                rule = self._rules[name] = _rule(value.quantity)
            if rule is not None:
                why = self._why(capture.meter, name, value.number, rule)
                if why:
                    detail = f"{value.detail}; {why}" if value.detail else why
                    flagged[index] = replace(value, quality=Quality.DOUBTFUL, detail=detail)
        if not flagged:
            return capture
        values = tuple(flagged.get(index, value) for index, value in enumerate(capture.values))
        return replace(capture, values=values)

    def _why(self, meter: str, name: str, number: Decimal, rule: _Rule) -> str:
        if rule.rises:
            last = self._last.get((meter, name))
            self._last[meter, name] = number
            if last is not None and number < last:
                self.counters.fell += 1
                return f"fell from {last:f}"
        if rule.low is not None and number < rule.low:
            self.counters.out_of_bounds += 1
            return f"below {rule.low:f}"
        if rule.high is not None and number > rule.high:
            self.counters.out_of_bounds += 1
            return f"above {rule.high:f}"
        return ""


def _rule(quantity: Quantity) -> _Rule | None:
    if quantity.kind is Kind.REGISTER and quantity.name.startswith("energy."):
        if quantity.name.startswith(SIGNED_ENERGY):
            return None
        return _Rule(low=Decimal(0), rises=quantity.last == 0)
    low, high = _BOUNDS.get(quantity.name.partition(".")[0], (None, None))
    return None if low is None else _Rule(low=low, high=high)
