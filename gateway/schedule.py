"""What is due when: each slot of each task becomes a job on its bus, and ends as a capture or as a gap with its reason.

The clock is looked at again at least every WAKE_S, so a clock that jumps is noticed: slots that it jumped over, and
such as come a second time, are the catch-up's.
"""

import asyncio
import logging
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from config.model import Site, TaskEntry
from drivers.bus import Bus, Job, Outcome
from drivers.confirm import confirmed
from drivers.meter import Meter
from drivers.plan import ReadPlan
from gateway.catchup import CatchUp, SlotBook
from gateway.clock import Clock
from gateway.filing import Filing
from gateway.intake import Intake
from gateway.series import Series
from gateway.slots import Slots
from protocols.capture import Event, Fault

log = logging.getLogger(__name__)

WAKE_S = 30.0
"""The longest sleep between two looks at the wall clock."""
JUMP_MS = 2_000
"""The wall clock moved by this much more or less than the monotonic one: it was set."""
UNTRUSTED_WAIT_S = 1.0
"""Between two questions whether time is trusted by now."""
DEADLINE_MARGIN_S = 0.25
"""A job ends this long before the next slot, so that the bus says why it has nothing before the next one is asked."""


class Schedule:
    """Plans every task of every meter, from the first moment at which time is trusted."""

    def __init__(
        self,
        site: Site,
        *,
        meters: Mapping[str, Meter],
        buses: Mapping[str, Bus],
        plan: Callable[[Meter, Sequence[str]], ReadPlan],
        book: SlotBook,
        intake: Intake,
        clock: Clock,
        now_ms: Callable[[], int],
        filing: Filing,
    ) -> None:
        self.counters = filing.counters
        self.waiting = ""
        """Why nothing is scheduled, for people; empty while it is."""
        self._buses = buses
        self._plan = plan
        self._intake = intake
        self._clock = clock
        self._filing = filing
        self._now_ms = now_ms
        self._slots = Slots(site.zone)
        self._tasks = {task.name: task for task in site.tasks}
        self._series: dict[str, list[Series]] = {task.name: [] for task in site.tasks}
        for entry in site.meters:
            meter = meters[entry.id]
            for name in entry.tasks:
                task = self._tasks[name]
                self._series[name].append(Series(meter=meter, task=task, plan=plan(meter, task.items)))
        by_meter: dict[str, list[Series]] = defaultdict(list)
        for found in self._series.values():
            for series in found:
                by_meter[series.meter.id].append(series)
        self._catch_up = CatchUp(
            by_meter, slots=self._slots, book=book, intake=intake, filing=filing, submit=self._submit, now_ms=now_ms
        )
        self._ticked: dict[str, int] = {}
        """The slot of each task that the last tick has dealt with."""
        self._merged: dict[tuple[str, tuple[str, ...]], ReadPlan] = {}
        self._paused = self._leaving = False
        self._made_at = asyncio.get_running_loop().time()
        self._running = 0

    @property
    def idle(self) -> bool:
        """Whether no job is with a bus."""
        return self._running == 0

    def pause(self) -> None:
        """Ask for nothing more. What is asked already still ends as a capture or a gap."""
        self._paused = True

    def leave(self) -> None:
        """The gateway stops: what is asked and not answered is left to the catch-up of the next start."""
        self._paused = self._leaving = True

    async def run(self) -> None:
        """Schedule for ever. Raises OutboxError."""
        waited = await self._until_trusted()
        start = self._now_ms() - math.ceil((asyncio.get_running_loop().time() - self._made_at) * 1000)
        await self._catch_up.note_beginnings(start)
        await self._catch_up.run(start if waited else None)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tick_for_ever(), name="schedule:tick")
            group.create_task(self._catch_up_for_ever(), name="schedule:catch-up")

    async def _until_trusted(self) -> bool:
        """Returns when time is trusted; says whether that took a while."""
        waited = False
        while not self._clock.trusted():
            if not waited:
                log.warning("schedule waits reason=%r", self._clock.reason)
            waited = True
            self.waiting = self._clock.reason
            await asyncio.sleep(UNTRUSTED_WAIT_S)
        self.waiting = ""
        return waited

    async def _catch_up_for_ever(self) -> None:
        while True:
            await self._catch_up.wanted.wait()
            self._catch_up.wanted.clear()
            if not self._paused:
                await self._catch_up.run()

    async def _tick_for_ever(self) -> None:
        loop = asyncio.get_running_loop()
        offset = self._now_ms() - loop.time() * 1000
        while True:
            now = self._now_ms()
            due = min((self._next_due(task, now) for task in self._tasks.values()), default=now + 60_000)
            await asyncio.sleep(min((due - now) / 1000, WAKE_S))
            jump = round(self._now_ms() - loop.time() * 1000 - offset)
            if abs(jump) > JUMP_MS:
                offset += jump
                self._jumped(jump)
            if not self._paused:
                self.tick()

    def _next_due(self, task: TaskEntry, now: int) -> int:
        return self._slots.following(task.every_s, self._slots.of(task, now)) + task.offset_s * 1000

    def _jumped(self, jump: int) -> None:
        self.counters.clock_jumps += 1
        self._catch_up.because = Fault.CLOCK
        log.warning("clock jumped ms=%d", jump)
        self._intake.add(Event(name="clock_jumped", at=self._now_ms(), detail={"ms": jump}))

    def tick(self) -> None:
        """Submit what is due now. Slots that were passed over since the last tick become gaps."""
        now = self._now_ms()
        if self._intake.full:
            self.counters.postponed += 1
            return
        due: dict[tuple[str, int], list[Series]] = defaultdict(list)
        for name, task in self._tasks.items():
            slot = self._slots.of(task, now)
            if self._ticked.get(name) == slot:
                continue
            self._ticked[name] = slot
            before = self._slots.current(task.every_s, slot - 1)
            for series in self._series[name]:
                if slot == series.asked or not series.ready:
                    continue
                if before <= series.asked < slot:
                    due[series.meter.id, slot].append(series)
                else:  # slots were passed over, which are filed first, or this one was asked before the clock was set
                    series.ready = False
                    self._catch_up.wanted.set()
        for (_, slot), together in due.items():
            self._submit(together, slot, now)

    def _submit(self, together: list[Series], slot: int, now: int) -> None:
        """One job for the tasks of a meter that share a slot: what they have in common is read once."""
        lane = min(series.lane for series in together)
        ends = {series.task.name: self._next_due(series.task, now) for series in together}
        for series in together:
            if series.running is not None:
                self._filing.unanswered(series, series.running)
            series.asked, series.running = max(slot, series.asked), slot
        meter = together[0].meter
        plan = together[0].plan if len(together) == 1 else self._merge(together)
        bus = self._buses[meter.entry.bus]
        dialogue = plan.dialogue
        if any(series.billed for series in together):
            power_kw_max = meter.profile.power_kw_max
            dialogue = partial(confirmed, dialogue, certain=lambda: bus.certain, power_kw_max=power_kw_max,
                               apart_s=lambda: meter.apart_s)  # fmt: skip
        self.counters.asked += len(together)
        self._running += 1
        bus.submit(
            Job(
                meter=meter,
                dialogue=dialogue,
                lane=lane,
                deadline=asyncio.get_running_loop().time() + (min(ends.values()) - now) / 1000 - DEADLINE_MARGIN_S,
                done=partial(self._done, together, slot, ends),
                name=f"{meter.id} {'+'.join(ends)}",
            )
        )

    def _merge(self, together: list[Series]) -> ReadPlan:
        key = together[0].meter.id, tuple(series.task.name for series in together)
        plan = self._merged.get(key)
        if plan is None:
            items = dict.fromkeys(item for series in together for item in series.task.items)
            plan = self._merged[key] = self._plan(together[0].meter, tuple(items))
        return plan

    def _done(self, together: list[Series], slot: int, ends: Mapping[str, int], outcome: Outcome) -> None:
        """A job came to its end: a capture or a gap for each task that it was for."""
        self._running -= 1
        if self._leaving and outcome.values is None:
            return
        now = self._now_ms()
        cut_off = now + DEADLINE_MARGIN_S * 1000 >= min(ends.values())
        again = []
        for series in together:
            current = series.running == slot
            if current:
                series.running = None
            if outcome.values is None:
                if not current:
                    continue  # it was filed as a gap when the next slot came due
                if cut_off and ends[series.task.name] > min(ends.values()) and not self._paused:
                    again.append(series)  # it was asked with a task of a shorter period, whose time is over
                    continue
            elif not current:
                self.counters.late += 1
            self._filing.outcome(series, slot, outcome if len(together) == 1 else series.share(outcome))
        if again:
            self._submit(again, slot, now)
