"""A measured load curve, whole days long and repeated for ever, with its running sums.

Power is constant within a step of the trace, so energy at any instant is a table look-up and one multiplication:
reading a meter in ten years costs as much as reading it now.
"""

import csv
import gzip
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from itertools import accumulate
from math import hypot
from typing import Literal

TraceName = Literal["household", "steelplant"]
Flow = Literal["p", "lag", "lead", "s"]

DAY_MS, QUARTER_MS = 86_400_000, 900_000
MONDAY_MS = 4 * DAY_MS
"""1970-01-05 was a Monday, and so is the first day of both traces: weekdays stay weekdays."""

FLOWS: tuple[Flow, ...] = ("p", "lag", "lead", "s")


@dataclass(frozen=True, slots=True)
class Curve:
    """One flow of a trace: steps in W (var, VA) and, for each tariff, the sum in W·ms up to the start of each step."""

    step_ms: int
    steps: tuple[int, ...]
    tariff_of: tuple[int, ...]
    """Tariff (from 0) of each step."""
    sums: tuple[tuple[int, ...], ...]
    quarters: tuple[int, ...]
    """W·ms of each quarter of an hour: the span over which demand is taken."""
    period_ms: int
    """After so long the curve begins again."""

    def energies(self, local_ms: int) -> list[int]:
        """W·ms in each tariff, from a Monday long ago to this local instant."""
        cycles, within = divmod(local_ms - MONDAY_MS, self.period_ms)
        step, rest = divmod(within, self.step_ms)
        energies = [cycles * sums[-1] + sums[step] for sums in self.sums]
        energies[self.tariff_of[step]] += self.steps[step] * rest
        return energies

    def power(self, local_ms: int) -> int:
        """W at this local instant."""
        return self.steps[(local_ms - MONDAY_MS) % self.period_ms // self.step_ms]


@dataclass(frozen=True, slots=True)
class Trace:
    """A load curve cut by a tariff schedule: p, lag and lead (reactive), s (apparent), and the voltage in 0.1 V."""

    flows: dict[Flow, Curve]
    volts: tuple[int, ...]
    days: int

    def voltage(self, local_ms: int) -> int:
        """0.1 V at this local instant; a table of minutes."""
        return self.volts[(local_ms - MONDAY_MS) // 60_000 % len(self.volts)]


def tariff_hours(tariffs: int) -> tuple[int, ...]:
    """The tariff (from 0) of each hour of the day.

    Four tariffs follow a Chinese time-of-use day: 尖 sharp, 峰 peak, 平 flat, 谷 valley as t1 to t4. Other numbers
    take turns through the hours.
    """
    return _FOUR if tariffs == 4 else tuple(hour % tariffs for hour in range(24))


_FOUR = tuple(int(tariff) for tariff in "333333322111222211100223")


@lru_cache(maxsize=32)
def load_trace(name: TraceName, tariffs: int) -> Trace:
    """The trace of this name, with its sums cut by so many tariffs (1 to 63)."""
    if not 1 <= tariffs <= 63:
        raise ValueError(f"expected 1 to 63 tariffs, got {tariffs}")
    step_ms, active, lag, lead = _household() if name == "household" else _steelplant()
    hours = tariff_hours(tariffs)
    tariff_of = tuple(hours[step * step_ms // 3_600_000 % 24] for step in range(len(active)))
    apparent = tuple(round(hypot(p, q + r)) for p, q, r in zip(active, lag, lead, strict=True))
    by_flow = dict(zip(FLOWS, (active, lag, lead, apparent), strict=True))
    return Trace(
        flows={flow: _curve(step_ms, steps, tariff_of, tariffs) for flow, steps in by_flow.items()},
        volts=_volts(),
        days=len(active) * step_ms // DAY_MS,
    )


def _curve(step_ms: int, steps: tuple[int, ...], tariff_of: tuple[int, ...], tariffs: int) -> Curve:
    sums = tuple(
        tuple(
            accumulate((p * step_ms if of == tariff else 0 for p, of in zip(steps, tariff_of, strict=True)), initial=0)
        )
        for tariff in range(tariffs)
    )
    size = QUARTER_MS // step_ms
    quarters = tuple(sum(steps[at : at + size]) * step_ms for at in range(0, len(steps), size))
    return Curve(step_ms, steps, tariff_of, sums, quarters, step_ms * len(steps))


def _rows(name: TraceName) -> list[dict[str, str]]:
    packed = resources.files("simulators.data").joinpath(f"{name}.csv.gz").read_bytes()
    return list(csv.DictReader(gzip.decompress(packed).decode().splitlines()))


@lru_cache(maxsize=1)
def _household() -> tuple[int, tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Minute means. The trace gives reactive power without a sign: all of it is taken as lagging."""
    rows = _rows("household")
    return (
        60_000,
        tuple(int(row["p_w"]) for row in rows),
        tuple(int(row["q_var"]) for row in rows),
        (0,) * len(rows),
    )


@lru_cache(maxsize=1)
def _steelplant() -> tuple[int, tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Quarter hours of energy. One that holds both lagging and leading energy is taken at its balance."""
    rows = _rows("steelplant")
    balance = [round(4000 * (float(row["er_lag_kvarh"]) - float(row["er_lead_kvarh"]))) for row in rows]
    return (
        QUARTER_MS,
        tuple(round(4000 * float(row["ea_imp_kwh"])) for row in rows),
        tuple(max(0, q) for q in balance),
        tuple(max(0, -q) for q in balance),
    )


@lru_cache(maxsize=1)
def _volts() -> tuple[int, ...]:
    """The household's voltage, brought from a mean near 240 V to the nominal 220 V."""
    return tuple(round(float(row["u_v"]) * 10 * 220 / 240) for row in _rows("household"))
