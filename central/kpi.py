"""What a utility reports of its collection: by local day, and by gateway or meter.

planned        slots of the day: those filled by a capture, and those that ended as gaps and still are
success        captured / planned: (finished - left) / total
one shot       the same without slots that were a gap first and were read later
completeness   values / items: of the readings that landed, those that have a value
delay          from the reply of the meter to the COMMIT at the centre, of each capture: percentiles by nearest rank
account        whether the gateway's own account of the day agrees with the tables (agrees, differs, none)
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from central.look import Look

DAYS_MAX = 366
"""Days in one report."""
KNOWN_MS = 31 * 86_400_000
"""How far back a meter without a reading on the day is looked for, to know its gateway."""
_EPOCH = date(1970, 1, 1)


@dataclass(slots=True, kw_only=True)
class Kpi:
    """One line of a report. meter is None in a report by gateway; gateway is empty where it is not known."""

    day: date
    gateway: str
    meter: str | None
    meters: int = 1
    captured: int = 0
    left: int = 0
    """Slots without a reading."""
    late: int = 0
    """Of those captured, such as were a gap before."""
    items: int = 0
    values: int = 0
    account: str = "none"
    delays_ms: list[int] = field(default_factory=list, repr=False)

    @property
    def planned(self) -> int:
        """Slots of the day."""
        return self.captured + self.left

    @property
    def success(self) -> float | None:
        """Percent; None where nothing was planned."""
        return _percent(self.captured, self.planned)

    @property
    def one_shot(self) -> float | None:
        """Percent."""
        return _percent(self.captured - self.late, self.planned)

    @property
    def completeness(self) -> float | None:
        """Percent."""
        return _percent(self.values, self.items)

    def delay_s(self, percent: float) -> float | None:
        """So many percent of the captures took at most this long."""
        if not self.delays_ms:
            return None
        self.delays_ms.sort()
        rank = -(-len(self.delays_ms) * percent // 100)
        return self.delays_ms[max(0, int(rank) - 1)] / 1000


def _percent(part: int, whole: int) -> float | None:
    return None if not whole else round(100 * part / whole, 2)


def kpi(look: Look, *, days: Sequence[date], zone: ZoneInfo, by_meter: bool = False) -> Iterator[Kpi]:
    """The lines of these local days, by gateway, or by gateway and meter. Raises SinkAway."""
    for day in days:
        lines = _meters(look, day, *bounds(day, zone))
        if by_meter:
            yield from sorted(lines, key=lambda line: (line.gateway, line.meter or ""))
        else:
            yield from _by_gateway(lines)


def bounds(day: date, zone: ZoneInfo) -> tuple[int, int]:
    """UTC milliseconds of a local day: from its midnight to the next."""
    first, last = (datetime.combine(d, time(), zone).timestamp() for d in (day, day + timedelta(days=1)))
    return round(first * 1000), round(last * 1000)


def days_between(first: date, last: date) -> list[date]:
    """The days from the first to the last, both included. Raises ValueError for more than DAYS_MAX or less than one."""
    count = (last - first).days + 1
    if not 1 <= count <= DAYS_MAX:
        raise ValueError(f"1 to {DAYS_MAX} days")
    return [first + timedelta(days=n) for n in range(count)]


def yesterday(zone: ZoneInfo, now: datetime) -> date:
    """The last local day that is over."""
    return now.astimezone(zone).date() - timedelta(days=1)


def _meters(look: Look, day: date, since: int, until: int) -> list[Kpi]:
    span = (look.time(since), look.time(until))
    found: dict[str, Kpi] = {}

    def line(meter: str) -> Kpi:
        return found.setdefault(meter, Kpi(day=day, gateway="", meter=meter))

    for gateway, meter, items, values in look.rows(
        "SELECT gateway, meter, count(*), count(value) + count(text) FROM reading WHERE stamp >= ? AND stamp < ?"
        " GROUP BY gateway, meter ORDER BY max(stamp)", span,
    ):  # fmt: skip
        one = line(meter)
        one.gateway, one.items, one.values = gateway, one.items + items, one.values + values
    for meter, count in look.rows(
        "SELECT meter, count(*) FROM filled_slot WHERE slot >= ? AND slot < ? GROUP BY meter", span
    ):
        line(meter).captured = count
    for meter, count, closed in look.rows(
        "SELECT meter, count(*), count(closed_at) FROM gap WHERE slot >= ? AND slot < ? GROUP BY meter", span
    ):
        one = line(meter)
        one.left, one.late = count - closed, closed
    for meter, read_at, received_at in look.rows(
        "SELECT DISTINCT r.meter, r.read_at, i.received_at FROM reading AS r JOIN inbox AS i"
        " ON i.gateway = r.gateway AND i.epoch = r.epoch AND i.seq = r.seq WHERE r.stamp >= ? AND r.stamp < ?", span,
    ):  # fmt: skip
        line(meter).delays_ms.append((look.ms(received_at) or 0) - (look.ms(read_at) or 0))
    for one in found.values():
        if not one.gateway:
            one.gateway = _gateway_of(look, one.meter or "", since)
    accounts = _accounts(look, day)
    for one in found.values():
        one.account = accounts.get(one.gateway, "none")
    return list(found.values())


def _gateway_of(look: Look, meter: str, before: int) -> str:
    rows = look.rows(
        "SELECT gateway FROM reading WHERE meter = ? AND stamp >= ? AND stamp < ? ORDER BY stamp DESC LIMIT 1",
        (meter, look.time(before - KNOWN_MS), look.time(before)),
    )
    return next((str(gateway) for (gateway,) in rows), "")


def _accounts(look: Look, day: date) -> dict[str, str]:
    """What came of each gateway's account of the day, if all parts of it have come."""
    parts: dict[str, list[dict[str, object]]] = defaultdict(list)
    number = (day - _EPOCH).days
    for gateway, text in look.rows(
        "SELECT gateway, text FROM gateway_note WHERE name LIKE ?", (f"manifest.{number}.%",)
    ):
        parts[gateway].append(json.loads(text))
    return {
        gateway: "differs" if any(part["differs"] for part in told) else "agrees"
        for gateway, told in parts.items()
        if len(told) == told[0]["parts"] or any(part["differs"] for part in told)
    }


def _by_gateway(lines: Sequence[Kpi]) -> Iterator[Kpi]:
    sums: dict[str, Kpi] = {}
    for one in lines:
        total = sums.setdefault(one.gateway, Kpi(day=one.day, gateway=one.gateway, meter=None, meters=0))
        total.meters += 1
        for name in ("captured", "left", "late", "items", "values"):
            setattr(total, name, getattr(total, name) + getattr(one, name))
        total.delays_ms += one.delays_ms
        total.account = one.account
    yield from (sums[gateway] for gateway in sorted(sums))
