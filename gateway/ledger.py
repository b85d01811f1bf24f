"""The account of a day, made of the records of the store: what was planned, what came of it, and a sum over every
value."""

import math
from collections import defaultdict
from collections.abc import Sequence

from protocols.capture import Capture, Gap
from protocols.manifest import SUM_BELOW, MeterDay, TaskDay, term


class Ledger:
    """Adds up the records of a day. since, until: the day, UTC milliseconds. cut: only what was read before counts."""

    def __init__(self, since: int, until: int, cut: int) -> None:
        self._values: dict[str, int] = defaultdict(int)
        self._totals: dict[str, int] = defaultdict(int)
        self._since, self._until, self._cut = since, until, cut
        self._seen: dict[tuple[str, str, int, str], None] = {}
        self._captured: dict[tuple[str, str], set[int]] = defaultdict(set)
        self._gaps: dict[tuple[str, str], set[int]] = defaultdict(set)
        self._before: set[tuple[str, str]] = set()
        """Series that had begun before the day."""

    def take(self, record: Capture | Gap) -> None:
        """Count a record. They come by slot, so a value that several tasks share comes again soon."""
        series = record.meter, record.task
        if record.slot is not None:
            if record.slot < self._since:
                self._before.add(series)
            elif record.slot < self._until:
                (self._captured if isinstance(record, Capture) else self._gaps)[series].add(record.slot)
        if isinstance(record, Gap) or not self._since <= record.stamp < self._until or record.read_at >= self._cut:
            return
        meter, stamp, source = record.meter, record.stamp, record.source.value
        for value in record.values:
            plain = value.plain
            key = (meter, value.quantity.name, stamp, source)
            if plain is not None and key not in self._seen:
                self._seen[key] = None
                self._values[meter] += 1
                self._totals[meter] = (self._totals[meter] + term(key[1], stamp, source, plain)) % SUM_BELOW

    def meter(self, meter: str, tasks: Sequence[TaskDay]) -> MeterDay:
        """The day of a meter, with these of its tasks."""
        return MeterDay(meter=meter, values=self._values[meter], total=self._totals[meter], tasks=tuple(tasks))

    def task(self, meter: str, name: str, slots: Sequence[int]) -> TaskDay:
        """The day of a task of a meter; slots: those of the day. What lies before the series began was not planned."""
        captured, gaps = self._captured[meter, name], self._gaps[meter, name]
        begun = 0 if (meter, name) in self._before else min(captured | gaps, default=math.inf)
        return TaskDay(
            task=name, planned=sum(slot >= begun for slot in slots), captured=len(captured), gaps=len(gaps - captured)
        )
