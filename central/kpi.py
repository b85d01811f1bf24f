"""What a utility reports of its collection: by local day, and by gateway, meter, or what its archive says of meters.

planned        slots of the day: those filled by a capture, and those that ended as gaps and still are
success        captured / planned: (finished - left) / total
one shot       the same without slots that were a gap first and were read later
completeness   values / items: of the readings that landed, those that have a value
delay          from the reply of the meter to the COMMIT at the centre, of each capture: percentiles by nearest rank
conflicts      values that came for a key where another one stands
absent         meters of the archive of which there is neither a reading nor a gap
account        whether the gateway's own account of the day agrees with the tables (agrees, differs, more, none)
"""

import json
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from central.look import Look
from central.manifest import Why

DAYS_MAX = 366
"""Days in one report."""
KNOWN_MS = 31 * 86_400_000
"""How far back a meter without a reading on the day is looked for, to know its gateway."""
NAMES_AT_ONCE = 10_000
"""Meters that one statement names: SQLite takes 32,766 arguments."""
_DAY_MS = 86_400_000
_EPOCH = date(1970, 1, 1)


@dataclass(slots=True, kw_only=True)
class Kpi:
    """One line of a report: of a meter, or, with meter None, of a gateway or a group.

    gateway is empty where it is not known, or where the line is of a group; group is None where it is not.
    """

    day: date
    gateway: str
    meter: str | None
    group: str | None = None
    meters: int = 1
    absent: int = 0
    captured: int = 0
    left: int = 0
    """Slots without a reading."""
    late: int = 0
    """Of those captured, such as were a gap before."""
    items: int = 0
    values: int = 0
    conflicts: int = 0
    account: str = "none"
    delays_ms: "array[int]" = field(default_factory=lambda: array("q"), repr=False)
    """Eight bytes each: a fleet has millions of captures a day."""

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
        rank = -(-len(self.delays_ms) * percent // 100)
        return sorted(self.delays_ms)[max(0, int(rank) - 1)] / 1000


def _percent(part: int, whole: int) -> float | None:
    return None if not whole else round(100 * part / whole, 2)


def kpi(
    look: Look,
    *,
    days: Sequence[date],
    zone: ZoneInfo,
    by_meter: bool = False,
    groups: Mapping[str, str] | None = None,
) -> Iterator[Kpi]:
    """The lines of these local days, by gateway, by gateway and meter, or by the meters' groups. Raises SinkAway."""
    for day in days:
        lines = _meters(look, day, *bounds(day, zone))
        if by_meter:
            yield from sorted(lines, key=lambda line: (line.gateway, line.meter or ""))
        elif groups is None:
            for gateway, total in _sums(lines, lambda line: line.gateway):
                total.gateway = gateway
                yield total
        else:
            yield from _by_group(day, lines, groups)


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
    for meter, count in look.rows(
        "SELECT meter, count(*) FROM conflict WHERE stamp >= ? AND stamp < ? GROUP BY meter", span
    ):
        line(meter).conflicts = count
    lost = {meter: one for meter, one in found.items() if not one.gateway}
    for meter, gateway in _gateways_of(look, sorted(lost), since):
        lost[meter].gateway = gateway
    accounts = _accounts(look, day)
    for one in found.values():
        one.account = accounts.get(one.gateway, "none")
    return list(found.values())


def _gateways_of(look: Look, meters: Sequence[str], before: int) -> Iterator[tuple[str, str]]:
    """Each of these meters with the gateway that read it last. One look at each span of days for all of them, going
    back: most have not been silent for long, and SQLite keeps readings by time and not by meter."""
    left, until, days = list(meters), before, 1
    while left and until > before - KNOWN_MS:
        since = max(until - days * _DAY_MS, before - KNOWN_MS)
        known: dict[str, tuple[Any, str]] = {}
        for at in range(0, len(left), NAMES_AT_ONCE):
            some = left[at : at + NAMES_AT_ONCE]
            for meter, gateway, stamp in look.rows(
                "SELECT meter, gateway, max(stamp) FROM reading WHERE stamp >= ? AND stamp < ?"
                f" AND meter IN ({', '.join('?' * len(some))}) GROUP BY meter, gateway",
                (look.time(since), look.time(until), *some),
            ):
                known[meter] = max(known.get(meter, (stamp, gateway)), (stamp, gateway))
        yield from ((meter, gateway) for meter, (_, gateway) in known.items())
        left = [meter for meter in left if meter not in known]
        until, days = since, 2 * days


def _accounts(look: Look, day: date) -> dict[str, str]:
    """What came of each gateway's account of the day, if all parts of it have come."""
    parts: dict[str, list[dict[str, Any]]] = defaultdict(list)
    number = (day - _EPOCH).days
    for gateway, text in look.rows(
        "SELECT gateway, text FROM gateway_note WHERE name LIKE ? ORDER BY at DESC", (f"manifest.{number}.%",)
    ):
        parts[gateway].append(json.loads(text))
    return {
        gateway: _account(told)
        for gateway, told in ((gateway, _of_one_way(notes)) for gateway, notes in parts.items())
        if len(told) == told[0]["parts"] or any(part["differs"] for part in told)
    }


def _of_one_way(notes: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The notes on parts, the latest first, without those of an account that was parted in another way before."""
    return [note for note in notes if note["parts"] == notes[0]["parts"]]


def _account(parts: Sequence[Mapping[str, Any]]) -> str:
    """One word for the notes on the parts of an account."""
    if not any(part["differs"] for part in parts):
        return "agrees"
    whys = {why for part in parts for why in part.get("why", dict.fromkeys(part["differs"], "")).values()}
    return "more" if whys == {Why.MORE.value} else "differs"


def _sums(lines: Sequence[Kpi], of: Callable[[Kpi], str]) -> Iterator[tuple[str, Kpi]]:
    """One line for all that have the same name, in the order of names."""
    sums: dict[str, Kpi] = {}
    accounts: dict[str, set[str]] = defaultdict(set)
    for one in lines:
        name = of(one)
        total = sums.setdefault(name, Kpi(day=one.day, gateway="", meter=None, meters=0))
        total.meters += 1
        for figure in ("captured", "left", "late", "items", "values", "conflicts"):
            setattr(total, figure, getattr(total, figure) + getattr(one, figure))
        total.delays_ms.extend(one.delays_ms)
        accounts[name].add(one.account)
    for name in sorted(sums):
        told = accounts[name]
        sums[name].account = next(word for word in ("differs", "none", "more", "agrees") if word in told)
        yield name, sums[name]


def _by_group(day: date, lines: Sequence[Kpi], groups: Mapping[str, str]) -> Iterator[Kpi]:
    """Groups of the archive, with those of which nothing came; meters that it does not name are the group ''."""
    absent = Counter(groups[meter] for meter in groups.keys() - {line.meter for line in lines})
    found = dict(_sums(lines, lambda line: groups.get(line.meter or "", "")))
    for name in sorted(found.keys() | absent.keys()):
        total = found.get(name) or Kpi(day=day, gateway="", meter=None, meters=0)
        total.group, total.absent = name, absent[name]
        yield total
