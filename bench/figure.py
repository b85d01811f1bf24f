"""A figure that a benchmark found, as one line of JSON; and whether it keeps its bound."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from bench.calibrate import factor


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """What was measured, in which unit, and what it may be at most or must be at least.

    raw and machine: of times and rates, what the clock said and this machine's factor (`bench.calibrate`); `figure` is
    then the scaled one, which is held against the bound. more: what else belongs to it.
    """

    bench: str
    what: str
    figure: float
    unit: str
    at_most: float | None = None
    at_least: float | None = None
    raw: float | None = None
    machine: float | None = None
    more: Mapping[str, object] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether it keeps its bound; one without a bound does."""
        return (self.at_most is None or self.figure <= self.at_most) and (
            self.at_least is None or self.figure >= self.at_least
        )

    def line(self) -> str:
        """The figure as a JSON object without line breaks."""
        bounds = {"at_most": self.at_most, "at_least": self.at_least}
        bound = {name: limit for name, limit in bounds.items() if limit is not None}
        told: dict[str, object] = {
            "bench": self.bench, "what": self.what, "figure": _short(self.figure), "unit": self.unit,
            "bound": bound or None, "ok": self.ok,
        }  # fmt: skip
        if self.raw is not None and self.machine is not None:
            told |= {"raw": _short(self.raw), "factor": _short(self.machine), "scaled": _short(self.figure)}
        return json.dumps({**told, **self.more}, ensure_ascii=False)


def took(bench: str, what: str, seconds: float, *, at_most: float | None = None, **more: object) -> Figure:
    """A time in seconds, scaled to the reference machine."""
    machine = factor()
    return Figure(bench=bench, what=what, figure=seconds / machine, unit="s", at_most=at_most, raw=seconds,
                  machine=machine, more=more)  # fmt: skip


def rate(bench: str, what: str, count: float, seconds: float, unit: str, **more: object) -> Figure:
    """So many in so many seconds, scaled to the reference machine."""
    machine = factor()
    raw = count / seconds
    return Figure(bench=bench, what=what, figure=raw * machine, unit=unit, raw=raw, machine=machine, more=more)


def _short(number: float) -> float:
    """Four significant digits, and every digit before the point."""
    return round(number) if abs(number) >= 1000 else float(f"{number:.4g}")


class Bench(Protocol):
    """A benchmark: `run` yields its figures as they are found. Modules of this package are such."""

    def run(self) -> Iterator[Figure]: ...
