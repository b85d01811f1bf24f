"""Certainty for what bills are made of: registers are read until two readings in a row agree.

The sum of a DL/T 645 frame lets one reply in a thousand of a bad line pass damaged, and a CRC one burst in 65,536. Two
replies that are damaged to the same number come about once in as many squared.
"""

from collections.abc import Callable, Generator, Sequence, Set
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise
from typing import Any

from protocols.capture import Fault, Quality, Value
from protocols.dialogue import MUTE, Answer, Ask, Dialogue, Reply
from protocols.quantity import Kind

READINGS_MAX = 5
"""Readings of a dialogue before what still differs is given as it is. A register turns over seldom, damage is rare: two
nearly always do."""

APART_S = 0.07
"""How long a meter is left alone between two readings (others are asked meanwhile), so that one thing does not spoil
both: a converter that sends a damaged answer twice, a disturbance that lasts."""

POWER_KW_MAX = 10_000
"""What a meter can measure, where its profile does not say: above any feeder but those of substations."""

APART_MS_MAX = 60_000
"""What counts of the time between two readings, at most: a clock that was set meanwhile shows years, and would let any
step of a register pass."""

_MS_PER_HOUR = Decimal(3_600_000)
_LASTING = frozenset({Kind.REGISTER, Kind.DEMAND, Kind.IDENTITY})
"""What stays the same from one reading to the next, or rises slowly. Anything else cannot be confirmed."""

_NOT_CAME = frozenset({Fault.SILENT, Fault.GARBLED})

Reading = tuple[list[Value], int]
"""The values of a dialogue, and when its last answer came (UTC milliseconds)."""


def confirmed(
    dialogue: Callable[[], Dialogue[Any]],
    *,
    certain: Callable[[], bool] = lambda: False,
    power_kw_max: int = POWER_KW_MAX,
    apart_s: Callable[[], float] = lambda: APART_S,
) -> Dialogue[Any]:
    """Read as `dialogue` does, again and again until every register, demand and name was the same twice in a row.

    certain: asked at each answer of the first reading (when it ends, another meter may have been asked, with other
    settings): whether the line itself vouches for it (parity is checked, and there is no noise); then a reading without
    a doubtful value is enough.

    apart_s: asked before each further reading: how long the meter needs to have sent all that it may still send
    (`Meter.apart_s`).

    The meter may freeze anew between two answers (at a settlement, at midnight). Where anything frozen is another than
    it was, all that is frozen counts from that reading on, so that nothing of before stands beside something of after.

    A register that still rises after READINGS_MAX readings, never faster than power_kw_max, is taken as it is. What
    agrees with nothing is doubtful, and its detail lists the readings. A meter that falls silent is not asked on. What
    cannot be confirmed is that of the last reading with which it came.
    """
    vouched: list[bool] = []
    readings: list[Reading] = [(yield from _timed(dialogue(), came=lambda: vouched.append(certain())))]
    first = readings[0][0]
    frozen = {place for place, value in enumerate(first) if value.quantity.last or value.quantity.store}
    wanted = [place for place, value in enumerate(first) if place in frozen or value.quantity.kind in _LASTING]
    if all(vouched) and certain() and all(first[place].quality is not Quality.DOUBTFUL for place in wanted):
        return first
    settled: dict[int, Value] = {}
    shown = {place: first[place] for place in frozen if first[place].plain is not None}
    while len(settled) < len(wanted) and len(readings) < READINGS_MAX and not _silent(readings[-1][0]):
        known = frozenset(first[place].quantity.name for place in settled)
        before, again = readings[-1][0], (yield from _timed(dialogue(), pause_s=max(APART_S, apart_s()), known=known))
        readings.append(again)
        came = {place: again[0][place] for place in frozen if again[0][place].plain is not None}
        moved = any(value.plain != shown.get(place, value).plain for place, value in came.items())
        shown |= came
        if moved:
            settled = {place: value for place, value in settled.items() if place not in frozen}
        for place in wanted:
            if place not in settled and _same(before[place], again[0][place]) and not (moved and place in frozen):
                settled[place] = again[0][place]
    values = [_latest([values[place] for values, _ in readings]) for place in range(len(first))]
    for place in wanted:
        value = settled.get(place)
        values[place] = value if value is not None else _unsettled(place, readings, power_kw_max)
    return values


def _timed(
    dialogue: Dialogue[Any], *, pause_s: float = 0.0, known: Set[str] = frozenset(),
    came: Callable[[], object] = lambda: None,
) -> Generator[Ask[Any], Answer[Any], Reading]:  # fmt: skip
    """Run a dialogue to its end, pause_s after whatever was asked before, and note when its last answer came. known:
    quantities whose Values stay those of a reading before, and of its moment. came: called at each answer."""
    at = 0
    try:
        ask = next(dialogue)
        if pause_s > ask.pause_s:
            ask = replace(ask, pause_s=pause_s)
        while True:
            if known:
                ask = replace(ask, wants=tuple(quantity for quantity in ask.wants if quantity.name not in known))
            answer = yield ask
            if isinstance(answer, Reply):
                at = answer.ended_at
                came()
            ask = dialogue.send(answer)
    except StopIteration as end:
        return end.value, at
    finally:
        dialogue.close()


def _latest(values: Sequence[Value]) -> Value:
    """The last of these; where none came with it, the last one that came."""
    last = values[-1]
    if last.fault in _NOT_CAME:
        return next((value for value in reversed(values) if value.fault not in _NOT_CAME), last)
    return last


def _silent(values: Sequence[Value]) -> bool:
    return any(value.fault is Fault.SILENT and value.detail != MUTE for value in values)


def _same(one: Value, other: Value) -> bool:
    """Whether two readings in a row say the same. That the meter refuses an item is said twice as well."""
    if one.plain is None:
        return one.fault is other.fault and other.plain is None and one.fault is not Fault.GARBLED
    return one.plain == other.plain


def _unsettled(place: int, readings: Sequence[Reading], power_kw_max: int) -> Value:
    """What no two readings in a row agree on."""
    values = [values[place] for values, _ in readings]
    last = values[-1]
    told = [value for value in values if value.plain is not None]
    if not told:
        return last
    if len(told) == len(readings) == READINGS_MAX and _rises(place, readings, power_kw_max):
        return last
    detail = f"not confirmed, read {len(readings)} times: {', '.join(str(value.plain) for value in told)}"
    return replace(told[-1], quality=Quality.DOUBTFUL, fault=None, detail=detail)


def _rises(place: int, readings: Sequence[Reading], power_kw_max: int) -> bool:
    """Whether a register of energy rises from each reading to the next, and never faster than it can (units of kWh,
    kvarh and kVAh; a count of its last digit is always possible)."""
    quantity = readings[0][0][place].quantity
    if quantity.kind is not Kind.REGISTER or quantity.last or quantity.store:
        return False
    for (before, before_at), (after, after_at) in pairwise(readings):
        low, high = before[place].number, after[place].number
        if low is None or high is None:
            return False
        count = Decimal(1).scaleb(int(min(high.as_tuple().exponent, 0)))
        if not 0 <= high - low <= max(count, power_kw_max * min(after_at - before_at, APART_MS_MAX) / _MS_PER_HOUR):
            return False
    return True
