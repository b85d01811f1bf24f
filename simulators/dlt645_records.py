"""What a simulated DL/T 645-2007 meter keeps: freezes, load records, events. Written apart from protocols' decoder.

Source: DL/T 645-2007, Annex A areas 03, 05, 06 and Appendix B; daily freezes and curves as grid meters have them.
Freezes are made at the local hour, midnight and first of the month, load records each quarter of an hour. What happened
is the same whenever it is asked for: a few power cuts, phase losses and clock settings, told from the meter's seed.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from simulators.dlt645_items import Written, number, when
from simulators.load import Load, decimals, plain
from simulators.trace import DAY_MS, QUARTER_MS

HOUR_MS = 3_600_000
TIMED_MAX, INSTANT_MAX, HOURLY_MAX, DAILY_MAX = 12, 3, 254, 62
RECORDS_KEPT = 10 * 96
"""Load records: ten days of quarters of an hour."""

_ENERGIES = {1: "active.import", 2: "active.export", 3: "reactive.combined_1", 4: "reactive.combined_2",
             5: "reactive.q1", 6: "reactive.q2", 7: "reactive.q3", 8: "reactive.q4"}  # fmt: skip
_DEMANDS = {9: "active.import", 10: "active.export"}
_POWERS = ("active", "reactive")
_PHASES = ("total", "a", "b", "c")
_SECTIONS: tuple[tuple[tuple[str, int], ...], ...] = (
    (*((f"voltage.{p}", 2) for p in "abc"), *((f"current.{p}", 3) for p in "abc"), ("frequency", 2)),
    tuple((f"power.{nature}.{p}", 3) for nature in _POWERS for p in _PHASES),
    tuple((f"power_factor.{p}", 2) for p in _PHASES),
    tuple((f"energy.{_ENERGIES[n]}.total", 4) for n in (1, 2, 3, 4)),
    tuple((f"energy.{_ENERGIES[n]}.total", 4) for n in (5, 6, 7, 8)),
    (("demand.active.present", 3), ("demand.reactive.present", 3)),
)
_MEASURED = (("voltage", 2, 1), ("current", 3, 3), ("power.active", 3, 4), ("power.reactive", 3, 4),
             ("power_factor", 2, 3))  # fmt: skip
_CURVES: dict[int, tuple[int, tuple[tuple[str, int], ...]]] = {
    1: (1, _SECTIONS[0][:3]), 2: (1, _SECTIONS[0][3:6]), 3: (0, _SECTIONS[1][:4]), 4: (0, _SECTIONS[1][4:]),
    5: (0, _SECTIONS[2]), 6: (1, _SECTIONS[3]), 7: (1, _SECTIONS[4]), 8: (1, _SECTIONS[5]),
}  # fmt: skip
"""The lowest last byte of a curve's identifier, and which registers are behind it and those after it."""
_HAPPENED = {"0311": 3, "0304": 2, "033004": 4, "03300D": 1}
"""How often things happened at the most."""


def records(di: str, asked: bytes, load: Load, at_ms: int, frozen: Sequence[int]) -> Written | None:
    """The answer to a read in areas 03, 05 and 06, or None when the meter keeps no such thing.

    asked: what the request says behind the identifier. frozen: when it was told to freeze, UTC ms, the last one last.
    """
    area = di[:2]
    if area == "06":
        return _curve(di, asked, load, at_ms) if di[2:4] == "10" else _load(di, asked, load, at_ms)
    if asked:
        return None
    return _freeze(di, load, at_ms, frozen) if area == "05" else _event(di, load, at_ms) if area == "03" else None


def _local_iso(load: Load, at_ms: int, pattern: str = "%Y-%m-%dT%H:%M") -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms + load.utc_offset_ms)).strftime(pattern)


def _moment(kind: int, nth: int, load: Load, at_ms: int, frozen: Sequence[int]) -> tuple[str, int] | None:
    """The name of a store, and when its nth freeze back was made (UTC ms)."""
    local = at_ms + load.utc_offset_ms
    if kind == 0 and 1 <= nth <= TIMED_MAX:
        date = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=local)
        months = date.year * 12 + date.month - nth
        first = datetime(months // 12, months % 12 + 1, 1, tzinfo=UTC)
        return "timed", int(first.timestamp()) * 1000 - load.utc_offset_ms
    if kind == 1 and 1 <= nth <= min(INSTANT_MAX, len(frozen)):
        return "instant", frozen[-nth]
    if kind == 4 and 1 <= nth <= HOURLY_MAX:
        return "hourly", (local // HOUR_MS - nth + 1) * HOUR_MS - load.utc_offset_ms
    if kind == 6 and 1 <= nth <= DAILY_MAX:
        return "daily", (local // DAY_MS - nth + 1) * DAY_MS - load.utc_offset_ms
    return None


def _freeze(di: str, load: Load, at_ms: int, frozen: Sequence[int]) -> Written | None:
    content, nth = int(di[4:6], 16), int(di[6:], 16)
    found = _moment(int(di[2:4], 16), nth, load, at_ms, frozen)
    if found is None:
        return None
    store, moment = found
    ending = f".{store}_{nth}"
    values: dict[str, str] = {}
    if content == 0:
        iso = _local_iso(load, moment)
        return Written(when(iso, "YYMMDDhhmm"), {f"record.time{ending}": iso})
    if content == 0x10:
        names = [(f"power.{nature}.{phase}", 3) for nature in _POWERS for phase in _PHASES]
        payload = b"".join(_register(name, width, load, moment, values, ending) for name, width in names)
        return Written(payload, values)
    if content == 0xFF and store == "hourly":
        iso = values[f"record.time{ending}"] = _local_iso(load, moment)
        both = (f"energy.active.{way}.total" for way in ("import", "export"))
        registers = b"".join(_register(name, 4, load, moment, values, ending) for name in both)
        return Written(when(iso, "YYMMDDhhmm") + registers, values)
    tariffs = ("total", *(f"t{n}" for n in range(1, load.tariffs + 1)))
    if content in _ENERGIES:
        names = [(f"energy.{_ENERGIES[content]}.{tariff}", 4) for tariff in tariffs]
        payload = b"".join(_register(name, width, load, moment, values, ending) for name, width in names)
        return Written(payload, values)
    if content not in _DEMANDS:
        return None
    payload = b""
    for tariff in tariffs:
        name = f"demand.{_DEMANDS[content]}.{tariff}"
        payload += _register(name, 3, load, moment, values, ending)
        iso = str(load.read(f"{name}.time", moment))
        values[f"{name}{ending}.time"] = iso
        payload += when(iso, "YYMMDDhhmm")
    return Written(payload, values)


def _register(name: str, width: int, load: Load, at_ms: int, values: dict[str, str], ending: str) -> bytes:
    """A register at an instant; FF where the meter lacks it."""
    counts = load.read(name, at_ms)
    if not isinstance(counts, int):
        return b"\xff" * width
    values[f"{name}{ending}"] = plain(counts, decimals(name))
    return number(counts, width)


def _quarters(asked: bytes, load: Load, at_ms: int, which: int) -> list[int] | None:
    """The moments of the records asked for; None if the request cannot be. which: 0 the earliest, 1 from then, 2 the
    latest."""
    last = (at_ms + load.utc_offset_ms) // QUARTER_MS
    first = last - RECORDS_KEPT + 1
    digits = asked[:1].hex() or "1"
    if len(asked) not in (0, 1, 6) or (which == 1 and asked and len(asked) != 6) or not digits.isdecimal():
        return None
    count = int(digits)
    if len(asked) == 6:
        try:
            since = datetime.strptime(f"20{asked[:0:-1].hex()}+0000", "%Y%m%d%H%M%z")
        except ValueError:
            return None
        first = max(first, -(int(since.timestamp()) * -1000 // QUARTER_MS))
    elif which == 2:
        first = max(first, last - count + 1)
    return [quarter * QUARTER_MS - load.utc_offset_ms for quarter in range(first, min(first + count, last + 1))]


def _load(di: str, asked: bytes, load: Load, at_ms: int) -> Written | None:
    kind, which = int(di[2:4], 16), int(di[6:], 16)
    moments = _quarters(asked, load, at_ms, which)
    if kind > len(_SECTIONS) or di[4:6] != "00" or which > 2 or moments is None:
        return None
    values: dict[str, str] = {}
    payload = b""
    for moment in moments:
        iso = _local_iso(load, moment)
        values["record.time.load"] = iso
        body = when(iso, "YYMMDDhhmm")
        for section, names in enumerate(_SECTIONS, start=1):
            if kind in (0, section):
                body += b"".join(_register(name, width, load, moment, values, ".load") for name, width in names)
            body += b"\xaa"
        record = b"\xa0\xa0" + bytes((len(body),)) + body
        payload += record + bytes((sum(record) % 256,)) + b"\xe5"
    return Written(payload, values)


def _curve(di: str, asked: bytes, load: Load, at_ms: int) -> Written | None:
    """The moment of the first point, then one point after the other. What is told of it are the first one's values."""
    first, registers = _CURVES.get(int(di[4:6], 16), (0, ()))
    which = int(di[6:], 16)
    moments = _quarters(asked, load, at_ms, 2 if len(asked) < 6 else 1)
    if which != 0xFF:
        registers = registers[which - first :][:1] if which >= first else ()
    if not registers or not moments:
        return None
    values = {"record.time.load": _local_iso(load, moments[0])}
    payload = when(values["record.time.load"], "YYMMDDhhmm")
    for moment in moments:
        told = values if moment == moments[0] else {}
        payload += b"".join(_register(name, width, load, moment, told, ".load") for name, width in registers)
    return Written(payload, values)


def _event(di: str, load: Load, at_ms: int) -> Written | None:
    """Counters and records of power cuts, phase losses, clock settings and opened covers."""
    nth = int(di[6:], 16)
    match di[:4], di[4:6]:
        case "0311", "00":
            return _cut(nth, load, at_ms)
        case "0304", "00" if not nth:
            times = _times("0304", load)
            names = [f"event.phase_loss.{phase}" for phase in "abc"]
            fields = (("count", times), ("minutes", 9 * times))
            values = {f"{name}.{field}": str(counts) for name in names for field, counts in fields}
            return Written((number(times, 3) + number(9 * times, 3)) * 3, values)
        case "0304", "01" | "02" | "03" if 1 <= nth <= _times("0304", load):
            return _phase_loss("abc"[int(di[4:6]) - 1], nth, load, at_ms)
        case "0330", "04" | "0D":
            return _operation(di, nth, load, at_ms)
    return None


def _times(what: str, load: Load) -> int:
    return load.seed % (_HAPPENED[what] + 1)


def _start(nth: int, load: Load, at_ms: int) -> int:
    """When the nth event back began: so many months ago, at a quiet hour."""
    month = (at_ms + load.utc_offset_ms) // (30 * DAY_MS) - nth
    return month * 30 * DAY_MS + (load.seed % 20) * DAY_MS + 3 * HOUR_MS + 17_000 - load.utc_offset_ms


def _span(stem: str, nth: int, load: Load, at_ms: int, values: dict[str, str]) -> bytes:
    """Start and end of an event, 9 minutes long."""
    payload = b""
    for what, at in (("start", 0), ("end", 540_000)):
        iso = _local_iso(load, _start(nth, load, at_ms) + at, "%Y-%m-%dT%H:%M:%S")
        values[f"{stem}.{what}.record_{nth}"] = iso
        payload += when(iso, "YYMMDDhhmmss")
    return payload


def _cut(nth: int, load: Load, at_ms: int) -> Written | None:
    times = _times("0311", load)
    if not nth:
        return Written(number(times, 3), {"event.power_off.count": str(times)})
    values: dict[str, str] = {}
    return Written(_span("event.power_off", nth, load, at_ms, values), values) if nth <= times else None


def _phase_loss(phase: str, nth: int, load: Load, at_ms: int) -> Written:
    """131 bytes: behind the span what registers rose by, what was measured of each phase, and ampere-hours."""
    values: dict[str, str] = {}
    stem = f"event.phase_loss.{phase}"
    payload = _span(stem, nth, load, at_ms, values)
    small = 0
    for scope in _PHASES:
        fields = [(f"gained.energy.{_ENERGIES[n]}.{scope}", 4, 2) for n in (1, 2, 3, 4)]
        fields += [(f"{what}.{scope}", width, digits) for what, width, digits in _MEASURED if scope != "total"]
        for field, width, digits in fields:
            small += 7
            payload += _told(f"{stem}.{field}.record_{nth}", (load.seed + small) % 1000, width, digits, values)
    for scope in _PHASES:
        small += 7
        payload += _told(f"{stem}.charge.{scope}.record_{nth}", (load.seed + small) % 1000, 4, 2, values)
    return Written(payload, values)


def _told(name: str, counts: int, width: int, digits: int, values: dict[str, str]) -> bytes:
    values[name] = plain(counts, digits)
    return number(counts, width)


def _operation(di: str, nth: int, load: Load, at_ms: int) -> Written | None:
    clock = di[4:6] == "04"
    stem, times = f"event.{'clock_set' if clock else 'cover_opened'}", _times(di[:6], load)
    if not nth:
        return Written(number(times, 3), {f"{stem}.count": str(times)})
    if nth > times:
        return None
    values: dict[str, str] = {}
    span = _span(stem, nth, load, at_ms, values)
    if clock:
        values[f"{stem}.operator.record_{nth}"] = "12345678"
        return Written(bytes.fromhex("78563412") + span, values)
    start = _start(nth, load, at_ms)
    for when_read, at in (("before", start), ("after", start + 540_000)):
        for n in (1, 2, 5, 6, 7, 8):
            counts = load.read(f"energy.{_ENERGIES[n]}.total", at)
            name = f"{stem}.{when_read}.energy.{_ENERGIES[n]}.total.record_{nth}"
            span += _told(name, counts, 4, 2, values) if isinstance(counts, int) else b"\xff" * 4
    return Written(span, values)
