"""What was learned of the meters, kept over restarts: how soon and how late they answer, what they refuse in one piece.

Kept as facts of the outbox, some meters to a fact, and written only when something has changed that matters. What was
kept is a beginning: a meter that is another one now (by its entry in the archive) begins anew, and so does what turns
out wrong (see `Meter.unanswered` and `Habits`).
"""

import asyncio
import json
import logging
import zlib
from collections.abc import Callable, Mapping
from typing import Any

from buffer.errors import StoreAway
from drivers.habits import LATE_MS_MAX, Habits
from drivers.meter import Meter
from gateway.beginnings import FactBook

log = logging.getLogger(__name__)

FACT = "learned.{:02d}"
FACTS = 16
"""Facts over which the meters are spread, by their ids: one that changed is written with its sixteenth."""
KEEP_EVERY_S = 600.0
"""Between two looks whether there is something to keep."""
CHANGED_MS, CHANGED_BY = 20, 1.5
"""A turnaround is worth writing when it is another by both."""
DAY_MS = 86_400_000

Entry = dict[str, Any]
"""What is kept of a meter: `as` whom, `ms` (slowest, usual), `holes`, `blocks`, the `longest` and `late` (how late it
was), each with its day."""


class Learned:
    """Recalls at once; `run` keeps for ever, `keep` once."""

    def __init__(self, book: FactBook, meters: Mapping[str, Meter], *, now_ms: Callable[[], int]) -> None:
        self.recalled = 0
        """Meters of which something was known at the start."""
        self.written = 0
        """Facts written."""
        self._book = book
        self._meters = meters
        self._now_ms = now_ms
        self._kept: list[dict[str, Entry]] = [self._read(number) for number in range(FACTS)]
        self._date()
        for meter in meters.values():
            entry = self._kept[_place(meter.id)].get(meter.id)
            if entry is not None and entry["as"] == _who(meter):
                _recall(meter, entry)
                self.recalled += 1

    async def run(self) -> None:
        """For ever. Raises OutboxError."""
        while True:
            await asyncio.sleep(KEEP_EVERY_S)
            await self.keep()

    async def keep(self) -> None:
        """Write what has changed; on a full disk it is left for the next time. Raises OutboxError."""
        self._date()
        now: list[dict[str, Entry]] = [{} for _ in range(FACTS)]
        for meter in self._meters.values():
            if (known := meter.learned_ms) is not None:
                meter.habits.answers_in(known[1])
            place = _place(meter.id)
            before = self._kept[place].get(meter.id)
            entry = _entry(meter, before)
            if entry is not None:
                now[place][meter.id] = entry
        for number, entries in enumerate(now):
            if entries == self._kept[number]:
                continue
            text = json.dumps(entries, ensure_ascii=False, separators=(",", ":"))
            try:
                await self._book.set_fact(FACT.format(number), text)
            except StoreAway as error:
                log.warning("learned not kept detail=%r", str(error))
                return
            self._kept[number] = entries
            self.written += 1

    def _date(self) -> None:
        """Tell every meter's habits the day, and let them forget."""
        today = self._now_ms() // DAY_MS
        for meter in self._meters.values():
            meter.habits.today = today
            meter.habits.forget()

    def _read(self, number: int) -> dict[str, Entry]:
        text = self._book.fact(FACT.format(number)) or "{}"
        try:
            return {str(meter): _checked(entry) for meter, entry in json.loads(text).items()}
        except (ValueError, TypeError, KeyError, AttributeError) as error:  # of another version: learned anew
            log.warning("learned not read fact=%d detail=%r", number, str(error))
            return {}


def _place(meter: str) -> int:
    return zlib.crc32(meter.encode()) % FACTS


def _who(meter: Meter) -> str:
    """What makes it this meter, as far as its habits go."""
    entry = meter.entry
    return f"{entry.profile} {entry.protocol} {entry.address} {meter.settings}"


def _checked(entry: Any) -> Entry:
    """Raises ValueError, TypeError or KeyError."""
    slowest, usual = entry["ms"] or (0, 0)
    count, since = entry["longest"] or (0, 0)
    late_ms, late_day = entry.get("late") or (0, 0)
    holes = [(int(function), int(first), int(end), int(day)) for function, first, end, day in entry["holes"]]
    return {
        "as": str(entry["as"]),
        "ms": [int(slowest), int(usual)] if entry["ms"] else None,
        "holes": [list(hole) for hole in holes],
        "blocks": {str(block): int(day) for block, day in entry["blocks"].items()},
        "longest": [int(count), int(since)] if entry["longest"] else None,
        "late": [min(LATE_MS_MAX, int(late_ms)), int(late_day)] if entry.get("late") else None,
    }


def _recall(meter: Meter, entry: Entry) -> None:
    if entry["ms"]:
        meter.recall(*entry["ms"])
    habits: Habits = meter.habits
    habits.holes = {(function, first, end): day for function, first, end, day in entry["holes"]}
    habits.blocks = dict(entry["blocks"])
    habits.longest = (entry["longest"][0], entry["longest"][1]) if entry["longest"] else None
    habits.late = (entry["late"][0], entry["late"][1]) if entry["late"] else None
    habits.refuses()
    habits.forget()


def _entry(meter: Meter, before: Entry | None) -> Entry | None:
    """What is to be kept of a meter; None where there is nothing."""
    who = _who(meter)
    if before is not None and before["as"] != who:
        before = None
    known = meter.learned_ms
    ms: list[int] | None = list(known) if known is not None else None
    if ms is not None and before is not None and before["ms"] and not _differs(before["ms"], ms):
        ms = before["ms"]
    holes = [[*hole, day] for hole, day in meter.habits.holes.items()]
    longest = list(meter.habits.longest) if meter.habits.longest is not None else None
    late = list(meter.habits.late) if meter.habits.late is not None else None
    if ms is None and not holes and not meter.habits.blocks and not longest and not late:
        return None
    return {"as": who, "ms": ms, "holes": holes, "blocks": dict(meter.habits.blocks), "longest": longest, "late": late}


def _differs(before: list[int], now: list[int]) -> bool:
    """Whether a turnaround is worth writing again."""
    return any(
        abs(one - other) > CHANGED_MS and max(one, other) > CHANGED_BY * min(one, other)
        for one, other in zip(before, now, strict=True)
    )
