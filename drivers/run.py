"""A job on its way, and how its meter stands on the bus."""

from dataclasses import replace
from typing import Any

from drivers.job import INTERRUPTING, URGENT, Job
from drivers.meter import Meter
from drivers.outcome import Outcome, make_outcome
from protocols.capture import Fault, Value
from protocols.dialogue import Answer, Ask, Dialogue, Garbled, Reply, Silence
from protocols.quantity import Quantity

FRAMES_MAX = 16
"""Exchanges of a job that are kept for evidence: those of a confirmed read of several blocks."""

INTERNAL_S_FIRST, INTERNAL_S_MAX = 60.0, 3600.0
"""How long a meter is left alone after a defect of ours showed on it: doubled each time in a row."""

ANSWERS_MAX = 8
"""Answers of a meter that are remembered as they may come twice, before those that no longer may are let go."""

QUESTIONS_MAX = 100_000
"""Questions that a dialogue may put after its job was cut, before it counts as endless. Dialogues are finite."""


def nobody(outcome: Outcome) -> None:
    """Who waits for the outcome of a bare probe."""


class Standing:
    """How a meter stands on its bus, as far as the queue is concerned. Times are loop time in seconds."""

    __slots__ = (
        "_answers", "asked", "blocked_until", "garbled", "held_by", "internal", "meter", "probe", "probe_at",
        "quiet_until", "silent",
    )  # fmt: skip

    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        self.asked: Ask[Any] | None = None
        """The last question that it was put."""
        self._answers: dict[bytes, tuple[float, Any]] = {}
        """By question, its latest answers that may come twice: when each came at the latest, and the frame."""
        self.garbled = 0
        """Damaged answers in a row."""
        self.quiet_until = 0.0
        """A late answer may come until then: nothing is asked."""
        self.held_by: Run | None = None
        """The job between two of whose questions nobody else may ask."""
        self.blocked_until = 0.0
        """Backing off after a defect of ours."""
        self.internal = 0
        """Defects in a row."""
        self.silent = False
        self.probe_at = 0.0
        """When it is to be asked whether it is back, while silent."""
        self.probe: Job | None = None
        """The latest job whose first question may be repeated: that serves as a probe when no job waits."""

    def back_off(self, now: float) -> None:
        """A defect of ours showed on it."""
        self.blocked_until = now + min(INTERNAL_S_MAX, INTERNAL_S_FIRST * 2 ** min(self.internal, 10))
        self.internal += 1

    def reopened(self, lost_at: float, now: float) -> None:
        """The port is open again. A serial server goes on with what it was asked, and may keep the answer until it is
        called again: a meter that still owed one when the port was lost gets its late window anew. One that was silent
        before may have been so because nothing reached it: it is asked soon."""
        if lost_at < now:
            self.probe_at = min(self.probe_at, now)
        if self.quiet_until > lost_at:
            self.quiet_until = max(self.quiet_until, now + self.meter.late_s)

    def answered(self, frame: Any, began: float, now: float) -> None:
        """The question in hand, which began to leave then, was answered. Where the same was asked just before, that may
        have been the second coming of the answer to that: the one to this, which may come twice as well, is to come."""
        self.garbled = 0
        meter, asked = self.meter, self.asked
        if meter.numbered or asked is None:
            return
        answers, data = self._answers, asked.data
        before = answers.pop(data, None)
        if len(answers) >= ANSWERS_MAX:
            for old in [old for old, (at, _) in answers.items() if at + meter.double_s <= began]:
                del answers[old]
        unsure = before is not None and before[0] + meter.double_s > began
        answers[data] = (now + meter.turnaround_s if unsure else now), frame

    def clear_at(self, ask: Ask[Any], now: float) -> float:
        """When this may be asked. An answer may come twice with a pause between: its second coming must not be taken
        for the answer to another question that it fits as well (of as many registers; to any, where it refuses)."""
        clear_at = 0.0
        for asked, (at, frame) in self._answers.items():
            over_at: float = at + self.meter.double_s
            if over_at > now and over_at > clear_at and asked != ask.data and ask.accepts(frame):
                clear_at = over_at
        return clear_at

    def confused_by_double(self, ask: Ask[Any]) -> bool:
        """Whether what stood behind its last answer, if that is the answer again, may be taken for the answer to this.
        Where answers do not say what they answer, it may be anything."""
        return self.meter.nameless or any(ask.accepts(frame) for _, frame in [*self._answers.values()][-1:])


class Run:
    """A job, its dialogue and the question in hand. `start` and `answer` raise whatever the dialogue raises."""

    __slots__ = (
        "_answers", "_dialogue", "_given_up", "ask", "asked", "attempts", "bare", "first_reply", "frames", "heard",
        "interrupts", "job", "key", "last_fault", "once", "read_at", "replies", "restarts", "standing", "started_at",
        "unanswered", "urgent",
    )  # fmt: skip

    def __init__(self, job: Job, standing: Standing, order: int) -> None:
        self.job = job
        self.urgent = job.lane in URGENT
        self.interrupts = job.lane in INTERRUPTING
        self.bare = job.done is nobody
        """Whether it only finds out if a silent meter is back."""
        self.standing = standing
        self.key: tuple[bool, float, int] = (True, job.deadline, order)
        """The order within a lane: jobs that were asked, then by deadline, then as they came."""
        self.ask: Ask[Any] | None = None
        """The question in hand; None before the start and after the end."""
        self.attempts = 0
        """How often the question in hand was asked without an answer."""
        self.asked = False
        """Whether any question was."""
        self.heard = False
        """Whether anything at all came, be it garbled."""
        self.once = False
        """Whether what may not be repeated was asked: then it is not begun anew."""
        self.restarts = 0
        self.replies = 0
        self.first_reply = 0.0
        """Loop time of the first answer since the dialogue was (re)started."""
        self.unanswered = 0
        """Questions in a row that were given up."""
        self.frames: list[tuple[bytes, bytes]] = []
        """What was sent and what came, of the latest exchanges."""
        self.last_fault: Fault | None = None
        """Why the last question was not answered; None once one is."""
        self.started_at: int | None = None
        self.read_at: int | None = None
        self._answers: list[tuple[tuple[Quantity, ...], int]] = []
        self._given_up = 0
        self._dialogue: Dialogue[Any] | None = None

    @property
    def midway(self) -> bool:
        """Whether some of a reading is answered, and the rest is to follow. Where the dialogue itself leaves the meter
        alone for a while, as between two readings, it is not."""
        return self.replies > 0 and self.ask is not None and not self.ask.pause_s

    def start(self) -> list[Value] | None:
        """Come to the first question. Returns the values of a dialogue that has none."""
        self._dialogue = self.job.dialogue()
        return self._next(None)

    def drop(self) -> None:
        """Forget what was answered so far; `start` begins anew."""
        dialogue, self._dialogue, self.ask = self._dialogue, None, None
        self.replies = self.attempts = self.unanswered = self._given_up = 0
        self.started_at = self.read_at = None
        self._answers.clear()
        if dialogue is not None:
            dialogue.close()

    def keep(self, sent: bytes, seen: bytes) -> None:
        """Keep what was on the wire, for evidence."""
        if len(self.frames) >= FRAMES_MAX:
            del self.frames[0]
        self.frames.append((sent, seen))

    def failed(self, answer: Silence | Garbled) -> None:
        """The question in hand was not answered this time."""
        self.attempts += 1
        garbled = isinstance(answer, Garbled)
        self.heard = self.heard or garbled
        self.last_fault = Fault.GARBLED if garbled else Fault.SILENT

    def answer(self, answer: Answer[Any], now: float) -> list[Value] | None:
        """Hand an answer to the dialogue: its values when that was the last question, else None."""
        assert self.ask is not None
        self.attempts = 0
        if not self.ask.repeatable:
            self.once = True
        if isinstance(answer, Reply):
            self.unanswered, self.last_fault, self.heard = 0, None, True
            self.replies += 1
            if self.replies == 1:
                self.started_at, self.first_reply = answer.sent_at, now
            self.read_at = answer.ended_at
            self._answers.append((self.ask.wants, answer.ended_at))
        elif not (isinstance(answer, Garbled) and answer.too_long):
            self.unanswered += 1
            self._given_up += 1
        return self._next(answer)

    def reason(self, now: float, trouble: str | None) -> tuple[Fault, str]:
        """Why it has no (more) values at its deadline; trouble: why the port is not open."""
        if trouble is not None:
            return Fault.BUS, trouble
        if self.standing.silent:
            return Fault.SILENT, "the meter does not answer"
        if self.standing.blocked_until > now:
            return Fault.INTERNAL, "left alone after a defect of ours showed on this meter"
        if self.last_fault is not None:
            return self.last_fault, "no answer before the deadline"
        return Fault.MISSED, "its turn did not come before the deadline"

    def cut(self, fault: Fault, detail: str) -> Outcome:
        """End it here: what was answered stays, everything else has this fault."""
        if self._dialogue is None or self.ask is None or not self.replies:
            return Outcome(fault=fault, detail=detail)
        all_answered = not self._given_up and self.last_fault is None
        values = None
        for _ in range(QUESTIONS_MAX):
            if (values := self._next(Silence())) is not None:
                break
        if values is None:
            raise RuntimeError(f"a dialogue that asks on after {QUESTIONS_MAX} silences")
        if all_answered:  # no question was silent before the cut: whatever says so was not asked
            values = [replace(v, fault=fault, detail=detail) if v.fault is Fault.SILENT else v for v in values]
        return self.outcome(values)

    def outcome(self, values: list[Value]) -> Outcome:
        """The outcome of a dialogue that came to its end."""
        return make_outcome(
            tuple(values), self.started_at, self.read_at, tuple(self._answers), tuple(self.frames)
        )  # fmt: skip

    def _next(self, answer: Answer[Any] | None) -> list[Value] | None:
        assert self._dialogue is not None
        try:
            self.ask = next(self._dialogue) if answer is None else self._dialogue.send(answer)
        except StopIteration as end:
            self.ask = None
            values: list[Value] = end.value
            return values
        return None
