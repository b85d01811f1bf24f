"""Answers that come after their time: which questions a meter still owes one, and how late it turns out to be.

A frame that answers a question of before, and comes while nothing is asked or in place of another's answer, says how
late its meter can be. The window in which the meter is left alone is widened to cover that (`Meter.was_late`), before
such a frame meets a question that it would answer wrongly.
"""

import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from drivers.habits import LATE_MS_MAX
from drivers.port import Port
from drivers.run import Standing
from protocols.dialogue import Answer, Ask, Reply

log = logging.getLogger(__name__)

OWED_MAX = 4
"""Questions of one meter that are remembered; with more, the oldest goes."""


class _Owing:
    """A meter that owes answers. Times are loop time in seconds."""

    def __init__(self, standing: Standing) -> None:
        self.standing = standing
        self.meter = meter = standing.meter
        self.questions: deque[tuple[Ask[Any], float]] = deque(maxlen=OWED_MAX)
        """Each with the time at which it began to leave, the oldest first."""
        self.since = 0.0
        """When the question began to leave with which it came to owe."""
        self.taken: Any = None
        """The last frame that was taken for an answer although an older question was open."""
        self.taken_at = 0.0
        self.heard_at = 0.0
        """When the last byte came."""
        self._deframer = meter.deframer()

    def hear(self, data: bytes, now: float) -> None:
        """Bytes that answer nothing in hand."""
        if now - self.heard_at > self.meter.inter_byte_s:
            self.expire()
        self.heard_at = now
        for frame in self._deframer.feed(data):
            self.came(frame, now)

    def look(self, seen: bytes, answer: Any, now: float) -> None:
        """What came while another was asked, the answer to that question apart."""
        self.expire()
        if not seen:
            return
        deframer = self.meter.deframer()
        frames = deframer.feed(seen)
        for _ in range(deframer.pending):
            frames += deframer.expire()
        if answer in frames:
            frames.remove(answer)
        for frame in frames:
            self.came(frame, now)

    def took(self, standing: Standing, frame: Any, ask: Ask[Any], began: float, ended: float) -> None:
        """A question was answered. If that may be the late answer to an older one, the one to this is still to come."""
        if standing is self.standing and self.questions and self.questions[0][0].accepts(frame):
            self.questions.popleft()
            self.questions.append((ask, began))
            self.taken, self.taken_at = frame, ended

    def expire(self) -> None:
        """What has begun is over."""
        for _ in range(self._deframer.pending):  # each turn drops a byte at least
            for frame in self._deframer.expire():
                self.came(frame, self.heard_at)
            if not self._deframer.pending:
                break

    def came(self, frame: Any, at: float) -> None:
        """A whole frame that nobody waited for. It is the answer to the oldest question that it fits: answers come in
        the order of the questions. Where in truth that one's was lost, this takes the meter for later than it is, and
        errs on the side that costs time, not truth."""
        for n, (ask, began) in enumerate(self.questions):
            if began <= at and ask.accepts(frame):
                for _ in range(n + 1):
                    self.questions.popleft()
                self._learn(frame, ask, began, at)
                return

    def _learn(self, frame: Any, ask: Ask[Any], began: float, at: float) -> None:
        meter = self.meter
        longest_s = meter.longest_s(ask)
        if at - began <= longest_s:
            if self.taken is None or self.taken == frame:
                return  # in good time, or the same answer once more
            # What was taken for this answer was one of before.
            began, at = self.since, self.taken_at
        elif at - began <= longest_s + meter.profile.late_max_ms / 1000:
            return  # late as it may be
        elif self.since < began:
            # A meter that kept the order answered this question; one that did not, perhaps the one before.
            began = max(self.since, began - longest_s - meter.late_s)
        if at - began <= LATE_MS_MAX / 1000 and meter.was_late(at - began - longest_s):
            log.warning(
                "meter=%s answered %.2f s after the question late_window_ms=%d (if it is always so slow, it needs a "
                "longer turnaround_ms_max)", meter.id, at - began, round(meter.late_s * 1000),
            )  # fmt: skip
            # Others may be on their way to it or from it, asked when it was thought to be quicker.
            self.standing.quiet_until = max(self.standing.quiet_until, at + meter.longest_s(ask) + meter.late_s)


class Latecomers:
    """The meters of a bus that owe an answer. Costs nothing while none does."""

    def __init__(self, port: Port) -> None:
        self._port = port
        self._owing: dict[str, _Owing] = {}

    @property
    def any(self) -> bool:
        """Whether any meter owes one."""
        return bool(self._owing)

    def owes(self, standing: Standing, ask: Ask[Any], began: float) -> None:
        """A question that began to leave then was met with silence. Where answers carry the number of their question,
        a late one is known for what it is, and of no interest here."""
        meter = standing.meter
        if meter.numbered:
            return
        owing = self._owing.get(meter.id)
        if owing is None:
            owing = self._owing[meter.id] = _Owing(standing)
            self._port.overheard = self.overheard
        if not owing.questions:
            owing.since = began
        owing.questions.append((ask, began))

    def overheard(self, data: bytes, now: float) -> None:
        """Bytes came while nothing was asked."""
        self._forget(now)
        self._each(lambda owing: owing.hear(data, now))

    def exchanged(self, standing: Standing, ask: Ask[Any], answer: Answer[Any]) -> None:
        """A question has ended while some meter owes an answer: look through what came besides the one to it."""
        port = self._port
        self._forget(port.ended)
        frame = answer.frame if isinstance(answer, Reply) else None
        room = frame is None or len(port.seen) > ask.reply_max  # for another beside it
        seen = port.seen if room else b""
        self._each(lambda owing: owing.look(seen, frame, port.ended))
        if frame is not None:
            self._each(lambda owing: owing.took(standing, frame, ask, port.began, port.ended))

    def _each(self, look: Callable[[_Owing], None]) -> None:
        for name, owing in list(self._owing.items()):
            try:
                look(owing)
            except Exception:  # a defect of ours, in what reads frames: it must not end the task of the bus
                log.exception("meter=%s late answers not looked for", name)
                del self._owing[name]

    def _forget(self, now: float) -> None:
        """Let go of questions that are older than any late answer that can be made sure of."""
        for name, owing in list(self._owing.items()):
            while owing.questions and now - owing.questions[0][1] > LATE_MS_MAX / 1000:
                owing.questions.popleft()
            if not owing.questions:
                del self._owing[name]
        if not self._owing:
            self._port.overheard = None
