"""A bus: one task that owns the port, runs the jobs by lane, and keeps discipline on the wire.

What it promises: a meter whose last question ended uncertainly (time-out, damage, cancel) is not asked anything until
a late answer can no longer come, and others are asked meanwhile; a silent meter costs the live ones little; every job
ends once, with values or a reason, by its deadline or soon after.
"""

import asyncio
import logging
from collections.abc import Callable
from random import Random
from typing import Any

from config.model import BusEntry
from drivers.account import Account
from drivers.course import Course
from drivers.errors import ATTEMPTS_MAX, ErrorEstimate
from drivers.job import URGENT, Job, Lane
from drivers.late import Latecomers
from drivers.outcome import Outcome
from drivers.port import OPEN_LISTEN_S, OpenLine, Port, PortLost, open_line
from drivers.queue import Queue
from drivers.reopen import Reopening
from drivers.run import Run, Standing
from drivers.tally import BusCounters, Evidence
from protocols.capture import Fault
from protocols.dialogue import Ask, Garbled, Reply, Silence

__all__ = ["Account", "Bus", "BusCounters", "Evidence", "Job", "Lane", "Outcome"]

log = logging.getLogger(__name__)

QUEUE_MAX, URGENT_MAX = 4096, 64
"""Jobs that may wait on one bus; a day of curve slots of 32 meters. One more is refused as missed. Beside them there is
room for so many that somebody waits for."""

DOUBLED_MIN = 5
"""So many bytes behind an answer may be an answer again (the shortest, a Modbus exception): one that comes twice."""


class Bus:
    """The jobs of one bus. `submit` from the loop's thread; `run` in a task of its own."""

    def __init__(
        self,
        entry: BusEntry,
        *,
        open_line: OpenLine = open_line,
        now_ms: Callable[[], int],
        evidence: Evidence | None = None,
        counters: BusCounters | None = None,
        jitter: Random | None = None,
        restarted: bool = False,
    ) -> None:
        """restarted: somebody may have asked on this port until just now, a gateway that was killed perhaps."""
        self.entry = entry
        self.port = Port(entry, open_line=open_line, now_ms=now_ms)
        self.counters = counters or BusCounters()
        self.account = Account()
        self.errors = ErrorEstimate()
        self._now_ms = now_ms
        self._reopening = Reopening(jitter or Random())
        self._queue = Queue()
        self._course = Course(
            entry.name, self.port, self._queue, errors=self.errors, counters=self.counters, evidence=evidence,
            now_ms=now_ms,
        )  # fmt: skip
        self._standings: dict[str, Standing] = {}
        self._restarted = restarted
        self._opened_at = 0.0
        """When the port was first open and had been listened to."""
        self._late = Latecomers(self.port)
        self._in_hand: Run | None = None
        self._silence_s = 0.0
        """What has to stand behind the last exchange, whoever is asked next."""
        self._overtaken = False
        """Whether a job that goes before others came since the one in hand was chosen."""
        self._waits_since: float | None = None
        """Since when a question waits for the line to fall quiet: the next one, or one that it overtook."""
        self._last: Standing | None = None
        """The meter that was asked last."""
        self._resting = False
        """Whether it waits for work, or for its time."""
        self._stopped = False
        self._in_service = False
        """Whether the port was ever open: from then on every millisecond is accounted for."""
        self._now = 0.0

    @property
    def utilisation(self) -> float:
        """See Account.utilisation."""
        return self.account.utilisation

    @property
    def trouble(self) -> str | None:
        """Why the port is not open, for people; None while it is, and before the first attempt."""
        return self._reopening.trouble

    @property
    def certain(self) -> bool:
        """Whether the line vouches for what comes: parity is checked on every byte, and there is hardly any noise."""
        return self.port.parity == "enforced" and self.errors.quiet

    @property
    def silent(self) -> tuple[str, ...]:
        """Ids of the meters that do not answer."""
        return self._queue.silent

    @property
    def queued(self) -> int:
        """Jobs that wait, those of silent meters included."""
        return len(self._queue)

    def idle(self) -> bool:
        """Whether no job can be served soon: what waits is of silent meters or of such as were left alone after a
        defect, or the port cannot be opened. These jobs end at their deadlines, or by `abandon`."""
        if self._in_hand is not None and not self._in_hand.bare:
            return False
        return self._reopening.hopeless or self._queue.blocked(self._now)

    def submit(self, job: Job) -> None:
        """Queue a job. When the queue is full its `done` is called at once, with fault missed."""
        self.counters.jobs += 1
        if len(self._queue) >= QUEUE_MAX + (URGENT_MAX if job.lane in URGENT else 0):
            self.counters.refused += 1
            self.counters.failed(Fault.MISSED)
            job.done(Outcome(fault=Fault.MISSED, detail=f"more than {QUEUE_MAX} jobs wait on bus {self.entry.name}"))
            return
        standing = self._standings.get(job.meter.id)
        if standing is None:
            standing = self._standings[job.meter.id] = Standing(job.meter)
            if self._in_service:
                self._met(standing)
        if self._queue.add(job, standing).interrupts:
            self._overtaken = True
        self._awake()

    def stop(self) -> None:
        """Let `run` return after the question in hand. The queue is left as it is."""
        self._stopped = True
        self._awake()

    def abandon(self) -> None:
        """End every job that waits, each with the reason why it has no values yet. For a stop, after `run` ended."""
        for run in self._queue.clear():
            self._cut(run)

    async def run(self) -> None:
        """Serve jobs until stopped. Survives a lost port, odd meters and our own defects in reading them; what `done`
        raises ends it. On cancellation the meter in hand is left in quarantine, and the queue as it is."""
        loop = asyncio.get_running_loop()
        try:
            while not self._stopped:
                now = self._now = loop.time()
                for run in self._queue.expired(now):
                    self._cut(run)
                if not self.port.is_open:
                    await self._open(loop)
                elif (following := self._take(now)) is not None:
                    await self._ask(following, loop)
                else:
                    await self._rest(loop, self._next_event(now))
        finally:
            self.port.close()
            self.port.wakeup.close()

    # What goes next.

    def _awake(self) -> None:
        if self._resting:
            self.port.wakeup.wake_soon()

    @property
    def _awaits_answers(self) -> bool:
        """Whether questions are on their way while it rests: that time is accounted for as they land."""
        return False

    def _take(self, now: float) -> Run | None:
        self._overtaken = False
        return self._queue.take(now)

    def _next_event(self, now: float) -> float:
        return self._queue.next_event(now)

    async def _rest(self, loop: asyncio.AbstractEventLoop, until: float) -> None:
        """Wait until then, or until a job comes."""
        work = self._queue.live
        self._resting, self._waits_since = True, None
        try:
            await self.port.wakeup.until(until)
        finally:
            self._resting = False
            if self._in_service and not self._awaits_answers:
                self.account.waited(loop.time(), work=work)

    def _cut(self, run: Run) -> None:
        self._course.cut(run, self._now, None if self.port.is_open else self.trouble)

    # The port.

    async def _open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Open the port, or wait until it is to be tried again."""
        if (reason := self.port.ended_by) is not None:  # while nothing was asked
            self._port_lost(PortLost(reason), loop.time())
        if self._now < self._reopening.due_at:
            await self._rest(loop, min(self._reopening.due_at, self._queue.soonest))
            return
        work = self._queue.live
        try:
            await self.port.open()
        except PortLost as error:
            self._port_lost(error, loop.time())
        else:
            for standing in self._standings.values():
                standing.reopened(self._reopening.lost_at, loop.time())
            self._reopening.opened()
            log.info("bus=%s port=%s open parity=%s", self.entry.name, self.entry.port, self.port.parity)
        if self._in_service:
            self.account.waited(loop.time(), work=work)
        elif self.port.is_open:
            self._in_service, self.account.at, self._opened_at = True, loop.time(), loop.time()
            for standing in self._standings.values():
                self._met(standing)

    def _met(self, standing: Standing) -> None:
        """A meter is new to this bus. Of what was asked before, an answer may still be on its way, and where answers do
        not name their question, it would answer the first one."""
        meter = standing.meter
        if self._restarted and meter.nameless:
            owes_s = meter.turnaround_s + meter.late_s - OPEN_LISTEN_S
            standing.quiet_until = max(standing.quiet_until, self._opened_at + owes_s)

    def _port_lost(self, error: PortLost, now: float) -> None:
        self.port.close()
        if self._reopening.lost(str(error), now, self.port.counters.received_bytes):
            log.warning("bus=%s port=%s lost reason=%r", self.entry.name, self.entry.port, str(error))

    # One question.

    async def _ask(self, run: Run, loop: asyncio.AbstractEventLoop) -> None:
        """Put the question in hand, and deal with what comes of it."""
        now = self._now
        if run.ask is None and not self._course.start(run, now):
            return
        standing, ask, port = run.standing, run.ask, self.port
        meter = standing.meter
        assert ask is not None
        if ask.divisible and self.errors.too_long(ask.reply_max):
            self.counters.divided += 1
            self._course.advance(run, Garbled(too_long=True), now)
            return
        live = self._queue.live
        gap_s = max(meter.gap_s, self._silence_s)
        self._in_hand = run
        on_its_way = False
        try:
            if (clear_at := standing.clear_at(ask, now)) > now + 1e-9:
                standing.quiet_until = max(standing.quiet_until, clear_at)
                self._course.requeue(run)
                return
            self._waits_since = now if self._waits_since is None else self._waits_since
            noisy = not await port.quiet(gap_s, since=self._waits_since)
            if self._overtaken and not run.urgent:
                self._course.requeue(run)
                return
            if self._last is standing and self._doubled(standing, ask, loop.time()):
                self._course.requeue(run)
                return
            self._waits_since, on_its_way = None, True
            run.asked = True
            self._last, standing.asked = standing, ask
            self._silence_s = meter.silence_s
            answer = await port.exchange(
                ask,
                meter.deframer(),
                settings=meter.settings,
                timeout_s=meter.timeout_s(ask),
                gap_s=0.0 if noisy else gap_s,
                character_s=meter.character_s,
                inter_byte_s=meter.inter_byte_s,
            )
        except (PortLost, asyncio.CancelledError) as error:
            if on_its_way:
                self._course.interrupted(run, loop.time())
            else:
                self._course.requeue(run)
            if not isinstance(error, PortLost):
                raise
            self._port_lost(error, loop.time())
            return
        except Exception as error:
            self._course.uncertain(standing, loop.time())
            self._course.defect(run, error, loop.time())
            return
        finally:
            self._in_hand = None
        now = self._now = port.ended
        run.keep(ask.data, port.seen)
        if self._late.any:
            self._late.exchanged(standing, ask, answer)
        if isinstance(answer, Reply) and ask.speaks_for is not None and ask.speaks_for(answer.frame):
            answer = Silence()  # of the meter, told by the gateway in front of it
        if isinstance(answer, Reply):
            wire_s = (len(ask.data) + port.received) * meter.character_s
            turnaround_s = self.account.asked(began=port.began, ended=port.ended, gap_s=gap_s, wire_s=wire_s)
            meter.answered(turnaround_s)
            standing.answered(answer.frame, port.began, now)
            self.errors.whole(port.received)
            self._course.answered(run, answer, now)
            return
        if isinstance(answer, Garbled):
            self._course.note(run, "garbled")
            standing.garbled += 1
            if standing.garbled <= ATTEMPTS_MAX:  # a meter that speaks another language all the time is no noise
                self.errors.damaged(ask.reply_max)
        self.account.asked(began=port.began, ended=port.ended, gap_s=gap_s, wire_s=None)
        if isinstance(answer, Silence):
            self._late.owes(standing, ask, port.began)
        self._course.unanswered(run, answer, began=port.began, ended=port.ended, now=now, live=live)

    def _doubled(self, standing: Standing, ask: Ask[Any], now: float) -> bool:
        """Whether the meter that was just asked has sent more than its answer. Where the same again would be taken for
        the answer to the next question, the meter is left alone for its late window."""
        self._last = None
        if self.port.surplus < DOUBLED_MIN or not standing.confused_by_double(ask):
            return False
        self.counters.doubled += 1
        self.counters.quarantines += 1
        standing.quiet_until = now + standing.meter.late_s
        return True
