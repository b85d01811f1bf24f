"""The truth check: what meters served, what the gateway accepted and what landed are one story.

Three logs, kept by three parties. *Served*: by the simulator, each reply with its values. *Accepted*: by the daemon's
observer, each record for which `append` had returned; never read back from the store. *Landed*: the central tables.
The check passes when every accepted capture landed exactly once, every landed value is one that its meter served for
that quantity within 2 s of its read_at, and every planned slot is landed or has a gap with its reason.
"""

import json
import os
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from decimal import Decimal, InvalidOperation
from itertools import pairwise
from pathlib import Path
from typing import IO, Protocol
from zoneinfo import ZoneInfo

from config.model import Site
from protocols.capture import Capture, Gap, Record

SERVED_WINDOW_MS = 2_000
EXAMPLES_MAX = 10


class Reading(Protocol):
    """A row of the central table `reading`, as a sink gives it."""

    @property
    def meter(self) -> str: ...
    @property
    def quantity(self) -> str: ...
    @property
    def stamp(self) -> int: ...
    @property
    def source(self) -> str: ...
    @property
    def plain(self) -> str | None: ...
    @property
    def slot(self) -> int | None: ...
    @property
    def read_at(self) -> int: ...


@dataclass(frozen=True, slots=True)
class AcceptedCapture:
    """A capture as the observer saw it: key and values, as plain text."""

    meter: str
    task: str
    slot: int | None
    stamp: int
    source: str
    values: dict[str, str | None]


@dataclass(frozen=True, slots=True)
class SlotKey:
    """A slot of a task of a meter; slot in UTC milliseconds."""

    meter: str
    task: str
    slot: int


class AcceptedLog:
    """The daemon's observer: appends what was accepted to a file, a JSON object a line, or keeps it in memory."""

    def __init__(self, path: Path | None = None) -> None:
        """Goes on with a file that is there. A line that a kill cut short is taken off: it would spoil the next."""
        if path is not None and path.exists():
            written = path.read_bytes()
            os.truncate(path, written.rfind(b"\n") + 1)
        self._file: IO[str] | None = path.open("a", encoding="utf-8") if path else None
        self.captures: list[AcceptedCapture] = []
        self.gaps: list[SlotKey] = []

    def __call__(self, records: Sequence[Record]) -> None:
        """Take the records of one append that has returned."""
        for record in records:
            if isinstance(record, Capture):
                accepted = AcceptedCapture(
                    meter=record.meter,
                    task=record.task,
                    slot=record.slot,
                    stamp=record.stamp,
                    source=record.source.value,
                    values={value.quantity.name: value.plain for value in record.values},
                )
                if self._file is None:
                    self.captures.append(accepted)
                else:
                    print(json.dumps(asdict(accepted), ensure_ascii=False), file=self._file)
            elif isinstance(record, Gap):
                gap = SlotKey(record.meter, record.task, record.slot)
                if self._file is None:
                    self.gaps.append(gap)
                else:
                    print(json.dumps({"gap": asdict(gap)}), file=self._file)
        if self._file is not None:
            self._file.flush()


def read_accepted(path: Path) -> list[AcceptedCapture]:
    """The captures in an observer's file. A last line that a kill cut short is not a record: it is left out."""
    captures = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if not line.endswith("\n"):
            break
        entry = json.loads(line)
        if "gap" not in entry:
            captures.append(AcceptedCapture(**entry))
    return captures


def planned_slots(site: Site, start: int, end: int) -> Iterator[SlotKey]:
    """Every slot that the site's tasks plan from start to end (UTC ms, end exclusive), and the one in force at start.

    Worked out from the site file alone, not with the gateway's scheduler: slots stand at multiples of a task's period
    counted from local midnight.
    """
    zone = ZoneInfo(site.zone)
    day_ms = 86_400_000
    slots: dict[str, list[int]] = {}
    for task in site.tasks:
        every_ms = task.every_s * 1000
        around = range(start - day_ms, end + 2 * day_ms, day_ms // 2)
        days = {datetime.fromtimestamp(at / 1000, zone).date() for at in around}
        midnights = sorted(int(datetime(d.year, d.month, d.day, tzinfo=zone).timestamp() * 1000) for d in days)
        grid = [
            slot
            for midnight, following in pairwise(midnights)
            for slot in range(midnight, following, every_ms)
            if slot < end
        ]
        slots[task.name] = grid[max(bisect_right(grid, start) - 1, 0) :]
    for meter in site.meters:
        for name in meter.tasks:
            yield from (SlotKey(meter.id, name, slot) for slot in slots[name])


@dataclass(slots=True)
class Truth:
    """The verdict: counts, and the first few examples of each thing that is not as it should be."""

    planned: int = 0
    served: int = 0
    accepted: int = 0
    landed: int = 0
    gaps: int = 0
    missing: int = 0
    """Accepted captures of which a value did not land."""
    duplicate: int = 0
    different: int = 0
    """Landed values that the meter did not serve, or that differ from the accepted one."""
    unexplained: int = 0
    """Planned slots that are neither landed nor a gap."""
    examples: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    @property
    def passed(self) -> bool:
        """Whether all three logs tell one story, and there is a story at all."""
        return self.landed > 0 and not (self.missing or self.duplicate or self.different or self.unexplained)

    def blame(self, kind: str, what: object) -> None:
        """Keep an example of something wrong, up to a bound."""
        if len(self.examples[kind]) < EXAMPLES_MAX:
            self.examples[kind].append(str(what))


def check(
    *,
    served: Iterable[tuple[str, int, dict[str, str]]],
    accepted: Iterable[AcceptedCapture],
    landed: Iterable[Reading],
    gaps: Iterable[tuple[str, str, int]],
    planned: Iterable[SlotKey],
    items: dict[str, frozenset[str]],
) -> Truth:
    """Hold the three logs against each other.

    served: (meter, UTC ms, values by quantity); gaps: (meter, task, slot) of the central table, open or closed;
    items: the quantities of each task. A slot that tasks share is landed when the task's own quantities are.
    """
    truth = Truth()
    said: dict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)
    for meter, at, values in served:
        truth.served += 1
        for quantity, text in values.items():
            said[meter, quantity].append((at, text))
    for answers in said.values():
        answers.sort()

    table: dict[tuple[str, str, int, str], str | None] = {}
    at_slot: dict[tuple[str, int], set[str]] = defaultdict(set)
    for row in landed:
        truth.landed += 1
        key = (row.meter, row.quantity, row.stamp, row.source)
        if key in table:
            truth.duplicate += 1
            truth.blame("duplicate", key)
        plain = table[key] = row.plain
        if row.slot is not None:
            at_slot[row.meter, row.slot].add(row.quantity)
        if plain is not None and not _was_served(said.get((row.meter, row.quantity), []), row.read_at, plain):
            truth.different += 1
            truth.blame("not served", (key, plain, row.read_at))
    for capture in accepted:
        truth.accepted += 1
        for quantity, value in capture.values.items():
            key = (capture.meter, quantity, capture.stamp, capture.source)
            if key not in table:
                truth.missing += 1
                truth.blame("missing", key)
                break
            landed_value = table[key]
            if value is not None and (landed_value is None or not _equal(value, landed_value)):
                truth.different += 1
                truth.blame("differs from accepted", (key, value, landed_value))

    gap_keys = {SlotKey(*gap) for gap in gaps}
    truth.gaps = len(gap_keys)
    for slot in planned:
        truth.planned += 1
        if slot not in gap_keys and not (at_slot.get((slot.meter, slot.slot), set()) & items[slot.task]):
            truth.unexplained += 1
            truth.blame("neither landed nor a gap", slot)
    return truth


def _equal(a: str, b: str) -> bool:
    return a == b or _norm(a) == _norm(b)


def _norm(plain: str) -> str:
    """One spelling for equal values: 230.0 and 230.00 are the same value; times and texts are themselves."""
    try:
        number = Decimal(plain)
    except InvalidOperation:
        return plain
    return format(number.normalize(), "f") if number.is_finite() else plain


def _was_served(answers: list[tuple[int, str]], read_at: int, plain: str) -> bool:
    first = bisect_left(answers, (read_at - SERVED_WINDOW_MS, ""))
    for at, said in answers[first:]:
        if at > read_at + SERVED_WINDOW_MS:
            return False
        if _equal(said, plain):
            return True
    return False
