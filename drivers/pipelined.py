"""A bus that keeps several questions on their way over one Modbus TCP connection.

For gateways and meters that can do it, by the site file's word (`pipeline = N`). A meter still has one question at a
time, with all the rules of a bus; only others are asked meanwhile. Where the far end turns out not to stand it, one
question at a time goes on its way for a while: it closed the connection, mixed answers up, or dropped questions.
"""

import asyncio
import logging
from typing import Any

from config.model import BusEntry
from drivers.bus import Bus
from drivers.flights import Flight, Flights
from drivers.port import PortLost
from drivers.run import Run
from protocols.dialogue import Reply, Silence

log = logging.getLogger(__name__)

ALONE_S_FIRST, ALONE_S_MAX = 60.0, 3600.0
"""How long one question at a time is asked after the far end could not stand more: doubled each time, unless it has
stood more for as long meanwhile, as one does behind a network that is away now and then."""


def bus_for(entry: BusEntry, **options: Any) -> Bus:
    """The bus for this entry of a site file; options as of `Bus`."""
    return PipelinedBus(entry, **options) if entry.pipeline > 1 else Bus(entry, **options)


class PipelinedBus(Bus):
    """See the module, and Bus. Only for a connection behind which every meter speaks Modbus TCP."""

    def __init__(self, entry: BusEntry, **options: Any) -> None:
        super().__init__(entry, **options)
        self.fallbacks = 0
        """Times that the far end could not stand several questions at once."""
        self._flights = Flights(now_ms=self._now_ms, wake=self._awake)
        self._outbox: list[bytes] = []
        self._stopping = False
        self._alone_until = 0.0
        self._alone_s = ALONE_S_FIRST
        self._dropped = 0
        """Questions to live meters that were not answered, since two that were on their way together last were."""
        self._answered_at = 0.0
        """When the last answer came (loop time)."""
        self._mixed_up = 0

    @property
    def in_flight(self) -> int:
        """Questions on their way."""
        return len(self._flights.flying)

    @property
    def window(self) -> int:
        """How many may be on their way now."""
        return 1 if self._now < self._alone_until else self.entry.pipeline

    def idle(self) -> bool:
        """See Bus."""
        return all(flight.run.bare for flight in self._flights) and super().idle()

    def stop(self) -> None:
        """Let `run` return once nothing is on its way any more."""
        self._stopping = True
        if not self._flights.any:
            super().stop()
        self._awake()

    async def run(self) -> None:
        """See Bus."""
        try:
            await super().run()
        finally:
            now = asyncio.get_running_loop().time()
            try:
                self._land(now)
            finally:
                self._ground(now)

    def _take(self, now: float) -> Run | None:
        self._land(now)
        if self._stopping:
            self._stopped = not self._flights.any
            return None
        return super()._take(now) if len(self._flights.flying) < self.window else None

    @property
    def _awaits_answers(self) -> bool:
        return self._flights.any

    def _next_event(self, now: float) -> float:
        if self._stopping or len(self._flights.flying) >= self.window:  # nothing is sent before one lands
            return min(self._flights.soonest, self._queue.soonest)
        return min(super()._next_event(now), self._flights.soonest)

    async def _rest(self, loop: asyncio.AbstractEventLoop, until: float) -> None:
        self._send()
        if not self._stopped and not self._flights.landed:
            await super()._rest(loop, until)

    def _send(self) -> None:
        """Questions that go at the same time go in one piece: a system call costs more than all else about one."""
        if self._outbox and self.port.is_open:
            self.port.send(b"".join(self._outbox))
        self._outbox.clear()

    async def _open(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._flights.any:
            now = loop.time()
            self._land(now)
            if len(self._flights.flying) > 1:
                self._fall_back("closed the connection", now)
            self._ground(now)
            self._port_lost(PortLost(self.port.ended_by or "lost"), now)
            return
        if self._stopping:
            self._stopped = True
            return
        await super()._open(loop)
        if self.port.is_open:
            self._flights.connected()
            self.port.stream(self._flights.receive, self._awake)

    async def _ask(self, run: Run, loop: asyncio.AbstractEventLoop) -> None:
        """Send the question, and those that go with it; what comes of them is dealt with when they land."""
        now, now_ms, window, flying = self._now, self._now_ms(), self.window, self._flights.flying
        following: Run | None = run
        while following is not None:
            self._put(following, now, now_ms)
            room = len(flying) < window and not self._stopping
            following = self._queue.take(now) if room else None

    def _put(self, run: Run, now: float, now_ms: int) -> None:
        if run.ask is None and not self._course.start(run, now):
            return
        standing, ask, flights = run.standing, run.ask, self._flights
        assert ask is not None
        meter = standing.meter
        timeout_s = meter.timeout_s(ask)
        # A far end that asks its meters one by one answers the last of them after all the others.
        ends = now + timeout_s + len(flights.flying) * meter.turnaround_s
        if not flights.put(Flight(run, ask, began=now, ends=ends, sent_at=now_ms, live=self._queue.live)):
            standing.quiet_until = now + timeout_s  # the same number, after 65,535 questions: wait for the other
            self._course.requeue(run)
            return
        self._outbox.append(ask.data)
        run.asked = True
        standing.quiet_until = float("inf")  # until it lands

    def _land(self, now: float) -> None:
        """Deal with what has come, or will not come any more."""
        if self._flights.soonest <= now:
            self._flights.overdue(now)
        if self._flights.mixed_up > self._mixed_up:
            self._mixed_up = self._flights.mixed_up
            self._fall_back("mixed up the answers", now)
        landed = self._flights.landed
        while landed:
            self._landed(landed.pop(0), now)

    def _landed(self, flight: Flight, now: float) -> None:
        run, ask, answer = flight.run, flight.ask, flight.answer
        standing = run.standing
        meter = standing.meter
        counters, began = self.port.counters, flight.began
        if isinstance(answer, Reply):
            frame = answer.frame
            self.port.seen = seen = frame.encode()
            run.keep(ask.data, seen)
            if flight.error is not None:
                standing.quiet_until = now + meter.gap_s
                self._course.defect(run, flight.error, now)
                return
            if began < self._answered_at:  # on its way already when that came: the far end can do it
                self._dropped = 0
            self._answered_at = now
            if ask.speaks_for is None or not ask.speaks_for(frame):
                counters.replies += 1
                self.account.asked(began=began, ended=now, gap_s=0.0, wire_s=0.0)
                meter.answered(now - began)
                standing.quiet_until = now + meter.gap_s
                self._course.answered(run, answer, now)
                return
            # Else it is the silence of the meter, told by the gateway in front of it.
        else:
            self.port.seen = b""
            run.keep(ask.data, b"")
            if flight.company and not standing.silent:
                self._drop(now)
        counters.silences += 1
        self.account.asked(began=began, ended=now, gap_s=0.0, wire_s=None)
        self._course.unanswered(run, Silence(), began=began, ended=now, now=now, live=flight.live)

    def _drop(self, now: float) -> None:
        """A far end that handles one question at a time leaves the others unanswered."""
        self._dropped += 1
        if self._dropped >= self.entry.pipeline:
            self._dropped = 0
            self._fall_back("dropped questions", now)

    def _fall_back(self, why: str, now: float) -> None:
        if now < self._alone_until:
            return
        self.fallbacks += 1
        if now - self._alone_until > self._alone_s:
            self._alone_s = ALONE_S_FIRST
        self._alone_until = now + self._alone_s
        log.warning("bus=%s one question at a time for %d s: the far end %s", self.entry.name, self._alone_s, why)
        self._alone_s = min(ALONE_S_MAX, 2 * self._alone_s)

    def _ground(self, now: float) -> None:
        """Nothing more comes of what is on its way."""
        for flight in self._flights.ground():
            self._course.interrupted(flight.run, now)
