"""What a meter's registers show at any instant: a pure function of the time and the meter's seed.

Three phases follow measured load curves (`simulators.trace`). For each of them P = U·I·PF before the registers round;
totals are sums of the phases' registers; energy registers are integrals of the power shown, one per tariff, and their
total is the sum of the tariffs to the last digit. Numbers are counts of a register's last digit (`DECIMALS`).
"""

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from math import acos, atan2, cos, degrees, hypot, radians, sin, sqrt

from protocols.quantity import Form, Kind, Quantity, base_of, by_name
from simulators.demand import Demand, Peak
from simulators.trace import DAY_MS, FLOWS, QUARTER_MS, Flow, TraceName, load_trace

Reading = int | str | None
"""Counts of the last digit, or ISO text in the meter's civil time, or None: this meter has no such register."""

SCALE = 1 << 16
"""Meters are so many 65536ths of their trace."""
_COUNT = 36_000_000 * SCALE
"""W·ms, scaled, in one count of an energy register (0.01 kWh)."""
_ROLLOVER = 100_000_000
"""An energy register holds 8 digits (XXXXXX.XX)."""
_ORIGIN_MS = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1000)
"""When, in local time, the registers stood at the meter's seeded start."""

_UNIT_DECIMALS = {"kWh": 2, "kvarh": 2, "kVAh": 2, "kW": 4, "kvar": 4, "kVA": 4, "V": 1, "A": 3, "Hz": 2, "deg": 1,
                  "°C": 1, "%": 2, "CNY": 2, "CNY/kWh": 4}  # fmt: skip

# Which flows of energy run into a register, for a meter that takes energy and for one that gives it back (reverse).
_PARTS: dict[str, tuple[tuple[Flow, ...], tuple[Flow, ...]]] = {
    "active.import": (("p",), ()),
    "active.export": ((), ("p",)),
    "active.combined": (("p",), ("p",)),
    "active.sum": (("p",), ("p",)),
    "reactive.q1": (("lag",), ()),
    "reactive.q2": ((), ("lead",)),
    "reactive.q3": ((), ("lag",)),
    "reactive.q4": (("lead",), ()),
    "reactive.combined_1": (("lag",), ("lead",)),
    "reactive.combined_2": (("lead",), ("lag",)),
    "reactive.import": (("lag",), ("lead",)),
    "reactive.export": (("lead",), ("lag",)),
    "reactive.sum": (("lag", "lead"), ("lag", "lead")),
    "apparent.import": (("s",), ()),
    "apparent.export": ((), ("s",)),
    "apparent.sum": (("s",), ("s",)),
}


@lru_cache(maxsize=4096)
def decimals(name: str) -> int:
    """Digits behind the point of the register of this quantity: 0.01 kWh, 0.1 V, 0.001 A, 0.0001 kW, 0.001 of PF."""
    if name.startswith("battery.") and name.endswith("voltage"):
        return 2
    return 3 if name.startswith("power_factor") else _UNIT_DECIMALS.get(by_name(name).unit, 0)


def plain(counts: int, digits: int) -> str:
    """Counts of the last digit as a plain decimal with so many digits behind the point."""
    if not digits:
        return str(counts)
    text = f"{abs(counts):0{digits + 1}d}"
    return f"{'-' if counts < 0 else ''}{text[:-digits]}.{text[-digits:]}"


class Load:
    """The registers of one meter. Times are UTC milliseconds; a read costs microseconds, at any time.

    reverse: energy flows back into the grid (P below zero, export registers run). clock_error_ms: how far the
    meter's own clock is ahead; it moves the clock that it shows and nothing else.
    """

    def __init__(
        self, seed: int, *, phases: int = 3, tariffs: int = 4, trace: TraceName = "household", reverse: bool = False,
        utc_offset_ms: int = 8 * 3_600_000, clock_error_ms: int = 0,
    ) -> None:  # fmt: skip
        if phases not in (1, 3):
            raise ValueError(f"expected 1 or 3 phases, got {phases}")
        rng = random.Random(f"meterwire load {seed}")
        self.seed, self.phases, self.tariffs, self.reverse = seed, phases, tariffs, reverse
        self.utc_offset_ms, self.clock_error_ms = utc_offset_ms, clock_error_ms
        self.trace = load_trace(trace, tariffs)
        if trace == "household":  # each phase lives another day of the same home, a third to one and a third of it
            self._scale = [rng.randrange(SCALE // 3, SCALE * 4 // 3) for _ in range(phases)]
            self._shift = [day * DAY_MS for day in rng.sample(range(self.trace.days), phases)]
        else:  # the secondary side of a 1000/5 transformer, nearly balanced
            self._scale = [SCALE * rng.randrange(970, 1031) // 600_000 for _ in range(phases)]
            self._shift = [0] * phases
        self._start = {
            flow: [[self._started(flow, phase, tariff, rng) for tariff in range(tariffs)] for phase in range(phases)]
            for flow in FLOWS
        }
        self._demands: dict[tuple[str, int | None], Demand] = {}
        self._latest: tuple[tuple[str, int | None, int], list[int]] = (("", None, 0), [])

    def _started(self, flow: Flow, phase: int, tariff: int, rng: random.Random) -> int:
        """What to add to the scaled running sum so that the register has its seeded start at the origin."""
        seeded = rng.randrange(500_000 * _COUNT // self.tariffs)
        return seeded - self._scale[phase] * self.trace.flows[flow].energies(_ORIGIN_MS + self._shift[phase])[tariff]

    def read(self, name: str, at_ms: int) -> Reading:
        """The register of this quantity at this instant."""
        return _reader(name)(self, at_ms + self.utc_offset_ms)

    def plain(self, name: str, at_ms: int) -> str | None:
        """The same as plain text: a decimal, ISO time, or None."""
        reading = self.read(name, at_ms)
        return plain(reading, decimals(name)) if isinstance(reading, int) else reading

    # Everything below works in local milliseconds.

    def energy(self, nature: str, phase: int | None, tariff: int, local_ms: int) -> int:
        """0.01 kWh of a phase (None: of all) in a tariff (0: their sum)."""
        key = (nature, phase, local_ms)
        if self._latest[0] != key:  # a block asks for the total and every tariff of one instant
            self._latest = (key, self._registers(*key))
        return self._latest[1][tariff]

    def _registers(self, nature: str, phase: int | None, local_ms: int) -> list[int]:
        """The total and every tariff. What the phases share of a count is lost in none of them: sums come first."""
        counts = [0] * self.tariffs
        for flow in _PARTS[nature][self.reverse]:
            curve, starts = self.trace.flows[flow], self._start[flow]
            raw = [0] * self.tariffs
            for p in range(self.phases) if phase is None else (phase,):
                scale = self._scale[p]
                energies = zip(raw, starts[p], curve.energies(local_ms + self._shift[p]), strict=True)
                raw = [so_far + start + scale * energy for so_far, start, energy in energies]
            counts = [count + each // _COUNT for count, each in zip(counts, raw, strict=True)]
        return [sum(counts) % _ROLLOVER, *(count % _ROLLOVER for count in counts)]

    def watts(self, flow: Flow, phase: int, local_ms: int) -> float:
        """W (var, VA) of a phase, never below zero."""
        return self._scale[phase] * self.trace.flows[flow].power(local_ms + self._shift[phase]) / SCALE

    def volts(self, phase: int, local_ms: int) -> int:
        """0.1 V of a phase."""
        return self.trace.voltage(local_ms + self._shift[phase])

    def amperes(self, phase: int, local_ms: int) -> float:
        """A of a phase: S / U, so that P = U·I·PF."""
        return self.watts("s", phase, local_ms) * 10 / self.volts(phase, local_ms)

    def angle(self, phase: int, local_ms: int) -> float:
        """Degrees by which the current of a phase follows its voltage, 0 to 360."""
        p, s = self.watts("p", phase, local_ms), self.watts("s", phase, local_ms)
        lag = degrees(acos(min(1.0, p / s))) if s else 0.0
        lead = self.watts("lead", phase, local_ms) > self.watts("lag", phase, local_ms)
        return ((-lag if lead else lag) + 180 * self.reverse) % 360

    def mean(self, nature: str, phase: int | None, local_ms: int, span_ms: int) -> int:
        """0.1 W, the mean over the time before this instant. Demand is that of a quarter of an hour (DL/T 645-2007 item
        04000103)."""
        after, before = self._integral(nature, phase, local_ms), self._integral(nature, phase, local_ms - span_ms)
        return _mean_power(after - before, span_ms)

    def _integral(self, nature: str, phase: int | None, local_ms: int) -> int:
        return sum(
            self._scale[p] * sum(self.trace.flows[flow].energies(local_ms + self._shift[p]))
            for flow in _PARTS[nature][self.reverse]
            for p in (range(self.phases) if phase is None else (phase,))
        )

    def demand(self, nature: str, phase: int | None, tariff: int, since_ms: int, until_ms: int) -> Peak:
        """The highest quarter of an hour from a midnight on: 0.1 W, and its end in local milliseconds."""
        demand = self._demands.get((nature, phase))
        if demand is None:
            demand = self._demands[nature, phase] = self._demand(nature, phase)
        return demand.registers(since_ms, until_ms)[tariff]

    def _demand(self, nature: str, phase: int | None) -> Demand:
        flows = self.trace.flows
        sums = [0] * len(flows["p"].quarters)
        for flow in _PARTS[nature][self.reverse]:
            quarters = flows[flow].quarters
            for p in range(self.phases) if phase is None else (phase,):
                scale, first = self._scale[p], self._shift[p] // QUARTER_MS
                shifted = quarters[first:] + quarters[:first]
                sums = [so_far + scale * energy for so_far, energy in zip(sums, shifted, strict=True)]
        means = [_mean_power(energy, QUARTER_MS) for energy in sums]
        per_quarter = QUARTER_MS // flows["p"].step_ms
        tariff_of = flows["p"].tariff_of[: DAY_MS // QUARTER_MS * per_quarter : per_quarter]
        return Demand(means, tariff_of, self.tariffs)


def _mean_power(energy: int, span_ms: int) -> int:
    """0.1 W that give this energy (scaled W·ms) in so long."""
    return round(energy * 10 / (span_ms * SCALE))


_PHASES = {"a": 0, "b": 1, "c": 2}
_Reader = Callable[[Load, int], Reading]


@lru_cache(maxsize=8192)
def _reader(name: str) -> _Reader:
    """How a quantity is read. One that no register of a simulated meter shows reads as None."""
    try:
        quantity = by_name(name)
    except KeyError:
        return _none
    if quantity.store:
        return _none
    stem = base_of(quantity).name
    parts = stem.split(".")
    if quantity.kind is Kind.CLOCK:
        return lambda load, now: _clock(name, now + load.clock_error_ms)
    if parts[0] in ("energy", "demand") and ".".join(parts[1:-1]) in _PARTS:
        return _register(quantity, ".".join(parts[1:-1]), _PHASES.get(parts[-1]))
    if parts[-1] in _PHASES and stem[:-2] in _OF_PHASE:
        return _of_phase(stem[:-2], _PHASES[parts[-1]])
    return _OF_METER.get(name, _none)


def _none(load: Load, now: int) -> Reading:
    return None


def _register(quantity: Quantity, nature: str, phase: int | None) -> _Reader:
    tariff, last = quantity.tariff, quantity.last

    def energy(load: Load, now: int) -> Reading:
        if (phase or 0) >= load.phases or tariff > load.tariffs:
            return None
        return load.energy(nature, phase, tariff, _month(now, last) if last else now)

    def demand(load: Load, now: int) -> Reading:
        if (phase or 0) >= load.phases or tariff > load.tariffs:
            return None
        until = _month(now, last) if last else now
        power, end = load.demand(nature, phase, tariff, _month(now, last + 1), until)
        return _iso(end, "%Y-%m-%dT%H:%M") if quantity.form is Form.TIME else power

    return energy if quantity.kind is Kind.REGISTER else demand


def _of_phase(stem: str, phase: int) -> _Reader:
    read = _OF_PHASE[stem]
    return lambda load, now: read(load, phase, now) if phase < load.phases else None


def _signed(load: Load, counts: int) -> int:
    return -counts if load.reverse else counts


def _reactive(load: Load, phase: int, now: int) -> int:
    return _signed(load, round(10 * load.watts("lag", phase, now)) - round(10 * load.watts("lead", phase, now)))


def _factor(load: Load, p: float, s: float) -> int:
    return _signed(load, min(1000, round(1000 * p / s)) if s else 1000)


_OF_PHASE: dict[str, Callable[[Load, int, int], Reading]] = {
    "voltage": lambda load, phase, now: load.volts(phase, now),
    "current": lambda load, phase, now: round(1000 * load.amperes(phase, now)),
    "power.active": lambda load, phase, now: _signed(load, round(10 * load.watts("p", phase, now))),
    "power.reactive": _reactive,
    "power.apparent": lambda load, phase, now: round(10 * load.watts("s", phase, now)),
    "power_factor": lambda load, phase, now: _factor(load, load.watts("p", phase, now), load.watts("s", phase, now)),
    "power_factor_quadrant": lambda load, phase, now: _OF_PHASE["power_factor"](load, phase, now),
    "phase_angle": lambda load, phase, now: round(10 * load.angle(phase, now)) % 3600,
    "thd.voltage": lambda load, phase, now: 120 + (load.seed + now // 60_000 + 7 * phase) % 60,
    "thd.current": lambda load, phase, now: 400 + (load.seed + now // 60_000 + 11 * phase) % 300,
}


def _sum(stem: str) -> _Reader:
    read = _OF_PHASE[stem]
    return lambda load, now: sum(counts for p in range(load.phases) if isinstance(counts := read(load, p, now), int))


def _mean(stem: str) -> _Reader:
    total = _sum(stem)
    return lambda load, now: round(int(total(load, now) or 0) / load.phases)


def _total_factor(load: Load, now: int) -> int:
    flows = [sum(load.watts(flow, p, now) for p in range(load.phases)) for flow in ("p", "s")]
    return _factor(load, flows[0], flows[1])


def _total_angle(load: Load, now: int) -> int:
    """0.1 degree between the totals of active and reactive power, 0 to 360."""
    active, reactive = (int(_OF_METER[f"power.{nature}.total"](load, now) or 0) for nature in ("active", "reactive"))
    return round(10 * degrees(atan2(reactive, active))) % 3600


def _neutral(load: Load, now: int) -> int:
    """The sum of the phases' currents as phasors (of one phase: its current)."""
    re = im = 0.0
    for p in range(load.phases):
        turn = radians(-120 * p - load.angle(p, now))
        amperes = load.amperes(p, now)
        re, im = re + amperes * cos(turn), im + amperes * sin(turn)
    return round(1000 * hypot(re, im))


def _line(first: int, second: int) -> _Reader:
    """The voltage between two phases that stand 120 degrees apart."""

    def line(load: Load, now: int) -> Reading:
        if load.phases < 3:
            return None
        u, v = load.volts(first, now), load.volts(second, now)
        return round(sqrt(u * u + v * v + u * v))

    return line


_ACTIVE = _sum("power.active")
_LINES = (_line(0, 1), _line(1, 2), _line(2, 0))

_OF_METER: dict[str, _Reader] = {
    "power.active.total": _sum("power.active"),
    "power.reactive.total": _sum("power.reactive"),
    "power.apparent.total": _sum("power.apparent"),
    "power_factor.total": _total_factor,
    "power_factor_quadrant.total": _total_factor,
    "power.active.import.total": lambda load, now: max(0, int(_ACTIVE(load, now) or 0)),
    "power.active.export.total": lambda load, now: max(0, -int(_ACTIVE(load, now) or 0)),
    "phase_angle.total": _total_angle,
    "voltage.ab": _LINES[0],
    "voltage.bc": _LINES[1],
    "voltage.ca": _LINES[2],
    "voltage.mean": _mean("voltage"),
    "voltage.line.mean": lambda load, now: round(sum(int(u(load, now) or 0) for u in _LINES) / 3) or None,
    "current.mean": _mean("current"),
    "current.sum": _sum("current"),
    "current.neutral": _neutral,
    "thd.voltage.mean": _mean("thd.voltage"),
    "thd.current.mean": _mean("thd.current"),
    "frequency": lambda load, now: 4997 + (now // 60_000 * 2_654_435_761 >> 12) % 7,
    "temperature": lambda load, now: 180 + load.seed % 40 + (now // 3_600_000) % 24 * 3,
    "power.active.mean_1min": lambda load, now: _signed(load, load.mean("active.sum", None, now, 60_000)),
    "demand.active.present": lambda load, now: _signed(load, load.mean("active.sum", None, now, QUARTER_MS)),
    "demand.reactive.present": lambda load, now: load.mean("reactive.sum", None, now, QUARTER_MS),
    "demand.apparent.present": lambda load, now: load.mean("apparent.sum", None, now, QUARTER_MS),
    "battery.clock.voltage": lambda load, now: 360,
    "battery.reading.voltage": lambda load, now: 600,
    "battery.run_time": lambda load, now: 1200 + load.seed % 1000,
    "demand.period": lambda load, now: 15,
    "demand.slide": lambda load, now: 15,
    "ratio.ct": lambda load, now: 1,
    "ratio.pt": lambda load, now: 1,
    "constant.active": lambda load, now: 6400,
    "constant.reactive": lambda load, now: 6400,
}


@lru_cache(maxsize=4096)  # meters are asked for the same demand's time again and again
def _iso(local_ms: int, pattern: str) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=local_ms)).strftime(pattern)


def _clock(name: str, local_ms: int) -> Reading:
    match name:
        case "clock":
            return _iso(local_ms, "%Y-%m-%dT%H:%M:%S")
        case "clock.date":
            return _iso(local_ms, "%Y-%m-%d")
        case "clock.time":
            return _iso(local_ms, "%H:%M:%S")
        case "clock.weekday":
            return (local_ms // DAY_MS + 4) % 7  # 0 = Sunday (DL/T 645-2007 item 04000101)
    return None


@lru_cache(maxsize=4096)
def _month_start(day: int, back: int) -> int:
    date = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day)
    months = date.year * 12 + date.month - 1 - back
    return int(datetime(months // 12, months % 12 + 1, 1, tzinfo=UTC).timestamp()) * 1000


def _month(local_ms: int, last: int) -> int:
    """The local instant of the last-but-(n-1) settlement: the first of a month, 0 o'clock; n = 1: of this month."""
    return _month_start(local_ms // DAY_MS, last - 1)
