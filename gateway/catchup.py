"""What was planned while the gateway was down, had no trusted time, or had its clock set: gaps, and a late reading.

Slots that were passed over become gaps; one that comes a second time is looked up before it is read again. Both wait
for the store, and here alone: the ticks of the other series do not.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Protocol

from buffer.errors import StoreAway
from gateway.beginnings import Beginnings, FactBook
from gateway.filing import Filing
from gateway.intake import Intake
from gateway.series import Series
from gateway.slots import Slots
from protocols.capture import Event, Fault, Record

log = logging.getLogger(__name__)

SLOTS_MAX = 3_000
"""Missed slots that are filed one by one for a task of a meter: a month of quarter hours. Older ones, in one event."""
STEP = 256
"""Gaps that are appended together: the outbox commits at that many."""


class SlotBook(FactBook, Protocol):
    """What the outbox knows of earlier slots."""

    def last_slot(self, meter: str, task: str) -> int | None: ...
    async def captured(self, slots: Sequence[tuple[str, str, int]]) -> Set[tuple[str, str, int]]: ...


class CatchUp:
    """Brings series that are not ready up to their current slot, which it has read late."""

    def __init__(
        self,
        by_meter: Mapping[str, Sequence[Series]],
        *,
        slots: Slots,
        book: SlotBook,
        intake: Intake,
        filing: Filing,
        submit: Callable[[list[Series], int, int], None],
        now_ms: Callable[[], int],
    ) -> None:
        """submit: has the slot of these series of a meter read, now (UTC ms)."""
        self.because = Fault.MISSED
        """Why the next slots are missing that are found to be."""
        self.wanted = asyncio.Event()
        """That a series is not ready."""
        self._by_meter = by_meter
        self._slots = slots
        self._book = book
        self._intake = intake
        self._filing = filing
        self._submit = submit
        self._now_ms = now_ms
        self._beginnings = Beginnings(book)

    async def note_beginnings(self, start: int) -> None:
        """Keep where the series begin that the store has nothing of: from the slot in force at the start."""
        await self._beginnings.note(
            {
                (meter, series.task.name): self._slots.of(series.task, start)
                for meter, of_meter in self._by_meter.items()
                for series in of_meter
                if self._book.last_slot(meter, series.task.name) is None
            }
        )

    async def run(self, untrusted_since: int | None = None) -> None:
        """File the missed slots of every series that is not ready, and read its current one late.

        untrusted_since: from when on there was no trusted time, where that is why they were missed.
        """
        fault, self.because = self.because, Fault.MISSED
        gaps: list[Record] = []
        behind: list[Series] = []
        for of_meter in self._by_meter.values():
            for series in of_meter:
                if not series.ready:
                    gaps += self._missed(series, fault, untrusted_since)
                    behind.append(series)
            if not gaps or len(gaps) >= STEP:
                await self._accept(gaps)
                gaps = []
                await self._read_current(behind)
                behind = []
        await self._accept(gaps)
        await self._read_current(behind)

    async def _accept(self, gaps: Sequence[Record]) -> None:
        """Gaps are committed before the slot after them is asked: a kill in between must not hide them."""
        for first in range(0, len(gaps), STEP):
            await self._intake.accept(gaps[first : first + STEP], urgent=True)

    def _missed(self, series: Series, fault: Fault, untrusted_since: int | None) -> list[Record]:
        """The slots between the last one known and the current one, as gaps."""
        task, now = series.task, self._now_ms()
        known = series.asked or self._book.last_slot(series.meter.id, task.name)
        current = self._slots.of(task, now)
        if series.running is not None and series.running < current:
            slots = [series.running]
            series.running = None
        else:
            slots = []
        first = self._beginnings.first(series.meter.id, task.name)
        since = known if known is not None or first is None else first - 1
        if since is not None and since < current:
            slots += self._slots.between(task.every_s, since, current)
        series.asked = max(series.asked, self._slots.current(task.every_s, current - 1))
        records: list[Record] = []
        counters = self._filing.counters
        counters.gaps += min(len(slots), SLOTS_MAX)
        counters.missed += min(len(slots), SLOTS_MAX)
        if len(slots) > SLOTS_MAX:
            older, slots = slots[:-SLOTS_MAX], slots[-SLOTS_MAX:]
            detail: dict[str, str | int] = {
                "task": task.name, "first": older[0], "last": older[-1], "slots": len(older), "fault": fault.value,
            }  # fmt: skip
            records.append(Event(name="slots_missed", at=now, meter=series.meter.id, detail=detail))
        for slot in slots:
            waited = untrusted_since is not None and self._slots.following(task.every_s, slot) > untrusted_since
            if waited:
                records.append(self._filing.gap(series, slot, Fault.CLOCK, "the time was not trusted"))
            elif fault is Fault.CLOCK:
                records.append(self._filing.gap(series, slot, fault, "the clock was set past it"))
            else:
                records.append(self._filing.gap(series, slot, Fault.MISSED, "the gateway did not ask"))
        return records

    async def _read_current(self, behind: Sequence[Series]) -> None:
        """Read the slot that is current, late, unless the store has it; from here on the ticks go on."""
        now = self._now_ms()
        looked_up = [(series.meter.id, series.task.name, self._slots.of(series.task, now)) for series in behind]
        captured = await self._captured(looked_up)
        now = self._now_ms()
        due: dict[tuple[str, int], list[Series]] = defaultdict(list)
        for series, key in zip(behind, looked_up, strict=True):
            slot = self._slots.of(series.task, now)
            if key in captured:  # in an earlier life, or before the clock was set back: that is kept
                series.asked = max(key[-1], series.asked)
            if slot != key[-1] or series.asked < self._slots.current(series.task.every_s, slot - 1):
                self.wanted.set()  # others passed during the commit, or the look
                continue
            series.ready = True
            if key not in captured and slot not in (series.asked, series.running):
                due[series.meter.id, slot].append(series)
        for (_, slot), together in due.items():
            self._submit(together, slot, now)

    async def _captured(self, slots: Sequence[tuple[str, str, int]]) -> Set[tuple[str, str, int]]:
        try:
            return await self._book.captured(slots)
        except StoreAway as error:  # reading it again costs a question, and the centre holds it once
            log.error("slots not looked up count=%d detail=%r", len(slots), str(error))  # noqa: TRY400
            return frozenset()
