"""What becomes of a job as its questions are answered, or not: it goes on, asks again, starts over, or ends.

Every job ends once, here: with the values of its dialogue, with what was answered before it was cut, or with the reason
why there is nothing.
"""

import logging
from collections.abc import Callable
from typing import Any

from drivers.errors import ErrorEstimate
from drivers.outcome import MOMENT_S, Outcome
from drivers.port import Port
from drivers.queue import Queue
from drivers.run import Run, Standing
from drivers.tally import BusCounters, Evidence
from protocols.capture import Fault
from protocols.dialogue import Answer, Garbled, Reply, Silence

log = logging.getLogger(__name__)

GIVE_UP_AFTER = 2
"""Questions in a row without an answer, after which the rest of the job is not asked."""


class Course:
    """The jobs of one bus, between the queue where they wait and whoever waits for them. It knows the port only by what
    was last on the wire. Times are loop time in seconds."""

    def __init__(
        self, bus: str, port: Port, queue: Queue, *, errors: ErrorEstimate, counters: BusCounters,
        evidence: Evidence | None, now_ms: Callable[[], int],
    ) -> None:  # fmt: skip
        """bus: its name."""
        self._bus = bus
        self._port = port
        self._queue = queue
        self._errors = errors
        self._counters = counters
        self._now_ms = now_ms
        self._evidence = evidence

    def start(self, run: Run, now: float) -> bool:
        """Come to the first question of a job; false when there is none."""
        try:
            values = run.start()
        except Exception as error:
            self.defect(run, error, now)
            return False
        if values is not None:
            self._finish(run, run.outcome(values))
            if run.bare:  # it has had its turn, or it would be due again at once, for ever
                self._queue.probed(run.standing, began=now, ended=now, live_work=False)
            return False
        if run.ask is not None and run.ask.repeatable and not run.bare:
            run.standing.probe = run.job
        return True

    def answered(self, run: Run, answer: Reply[Any], now: float) -> None:
        """The question in hand was answered."""
        standing = run.standing
        if standing.silent:
            self._came_back(standing, now)
            if run.bare:
                run.drop()
                return
        self.advance(run, answer, now)

    def unanswered(
        self, run: Run, answer: Silence | Garbled, *, began: float, ended: float, now: float, live: bool
    ) -> None:
        """The question in hand was not answered this time. live: whether live meters had work when it was put."""
        standing = run.standing
        self.uncertain(standing, now)
        run.failed(answer)
        if isinstance(answer, Silence):
            standing.meter.unanswered()
        if standing.silent:
            self._counters.probes += 1
            self._queue.probed(standing, began=began, ended=ended, live_work=live)
            if run.urgent or (run.ask is not None and not run.ask.repeatable):
                self.advance(run, answer, now)
            else:
                self.requeue(run)
        elif run.attempts < self._attempts(run):
            self._again(run, now)
        else:
            self.advance(run, answer, now)

    def uncertain(self, standing: Standing, now: float) -> None:
        """The question in hand has no certain end: its answer may still come, and must not meet another question."""
        self._counters.quarantines += 1
        meter, asked = standing.meter, standing.asked
        if asked is not None:  # cut off before its time-out, which counts from then on
            now = max(now, self._port.began + meter.timeout_s(asked))
        standing.quiet_until = now + meter.late_s

    def interrupted(self, run: Run, now: float) -> None:
        """The port went away, or the bus is ended, with its question on the way. What may not be repeated is not; of an
        answer in several frames those before are of another time than those to come, so it is begun anew."""
        self.uncertain(run.standing, now)
        assert run.ask is not None
        if run.ask.holds_meter and not run.once:
            self._release(run)
            run.drop()
        elif run.ask.holds_meter or not run.ask.repeatable:
            self.advance(run, Silence(), now)
            return
        self.requeue(run)

    def requeue(self, run: Run) -> None:
        """Back to wait, from the start where the meter is silent."""
        if run.standing.silent and not run.once:
            run.drop()
            if run.bare:
                return
        self._queue.put(run)

    def _attempts(self, run: Run) -> int:
        ask = run.ask
        assert ask is not None
        if run.unanswered or not ask.repeatable:
            return 1
        return self._errors.attempts(len(ask.data) + ask.reply_max, run.standing.meter.attempts)

    def _again(self, run: Run, now: float) -> None:
        """Ask once more when the late window is over; a short read whose values would drift apart starts over."""
        self._counters.retries += 1
        age_s = now - run.first_reply
        drifts = run.replies > 0 and age_s <= MOMENT_S < run.standing.quiet_until - run.first_reply
        if drifts and not run.once and run.restarts < run.standing.meter.attempts - 1:
            run.restarts += 1
            self._counters.restarts += 1
            run.drop()
            self._release(run)
        self._queue.put(run)

    def advance(self, run: Run, answer: Answer[Any], now: float) -> None:
        """Give the answer to the dialogue; queue its next question, or finish."""
        try:
            values = run.answer(answer, now)
            while values is None and run.unanswered >= GIVE_UP_AFTER:
                values = run.answer(Silence(), now)
        except Exception as error:
            self.defect(run, error, now)
            return
        standing = run.standing
        if isinstance(answer, Reply):
            standing.internal = 0
        if values is None:
            assert run.ask is not None
            if run.ask.holds_meter:
                standing.held_by = run
            else:
                self._release(run)
            if run.ask.pause_s:
                standing.quiet_until = max(standing.quiet_until, now + run.ask.pause_s)
            self._queue.put(run)
            return
        if not run.heard and not standing.silent and standing.probe is not None:
            self._fell_silent(standing, now)
        self._finish(run, run.outcome(values))

    # Ends.

    def cut(self, run: Run, now: float, trouble: str | None) -> None:
        """End a job without (all of) its values; trouble: why the port is not open."""
        try:
            outcome = run.cut(*run.reason(now, trouble))
        except Exception as error:
            self.defect(run, error, now)
            return
        self._finish(run, outcome)

    def _finish(self, run: Run, outcome: Outcome) -> None:
        self._release(run)
        if outcome.fault is not None:
            self._counters.failed(outcome.fault)
        elif run.replies:
            self._counters.answered += 1
        elif run.last_fault is not None:
            self._counters.failed(run.last_fault)
        run.job.done(outcome)

    def _release(self, run: Run) -> None:
        if run.standing.held_by is run:
            run.standing.held_by = None

    def defect(self, run: Run, error: Exception, now: float) -> None:
        """Our own code failed on this meter's answer: keep the bytes, leave the meter alone, go on."""
        standing = run.standing
        self._counters.defects += 1
        standing.back_off(now)
        self._queue.left_alone(standing)
        log.error("bus=%s meter=%s job=%s defect", self._bus, standing.meter.id, run.job.name, exc_info=error)
        detail = f"{type(error).__name__}: {error}"
        self.note(run, f"internal: {detail}")
        self._finish(run, Outcome(fault=Fault.INTERNAL, detail=detail))

    def note(self, run: Run, reason: str) -> None:
        """Keep the bytes of the question in hand, and of what came, as evidence."""
        if self._evidence is not None:
            sent = run.ask.data if run.ask is not None else b""
            self._evidence.note(
                bus=self._bus, meter=run.standing.meter.id, at=self._now_ms(), reason=reason, sent=sent,
                seen=self._port.seen,
            )  # fmt: skip

    # Silent meters.

    def _fell_silent(self, standing: Standing, now: float) -> None:
        self._counters.fell_silent += 1
        self._queue.fell_silent(standing, now=now, probe_s=self._port.ended - self._port.began)
        log.warning("bus=%s meter=%s silent", self._bus, standing.meter.id)

    def _came_back(self, standing: Standing, now: float) -> None:
        self._counters.came_back += 1
        self._queue.came_back(standing, now=now)
        log.info("bus=%s meter=%s answers again", self._bus, standing.meter.id)
