"""Who tells right from wrong: what each simulated meter showed is held against each value that was accepted as good.

A wrong value is told apart by the frame that brought it. A frame that somebody sent just as it was accepted did not
answer the question: checks of address, identifier, sequence, function, length and time must see that (detectable),
unless the meter had heard a question that nobody put, as that was damaged past its own checksum. A frame that nobody
sent is damage: where it carries a right checksum all the same, no check on the wire could see it (probabilistic); where
it does not, the check was not made (detectable).
"""

from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field
from decimal import Decimal
from math import sqrt
from random import Random
from typing import Any, Literal

from drivers.outcome import Outcome
from drivers.port import Port
from protocols.capture import Quality, Value
from protocols.dialogue import Ask, Dialogue, Reply
from protocols.dlt645.frame import Frame as Dlt645Frame
from protocols.modbus.frame import Frame as ModbusFrame
from simulators.answer import Answer as Said
from simulators.dlt645 import Dlt645Meter
from simulators.modbus import ModbusMeter
from simulators.wire import Sound

Blame = Literal["right", "detectable", "probabilistic"]
REMEMBERED = 24
"""Sounds on the wire that are remembered: with the late window of a meter, far more than can still arrive."""
SHOWN = 100
"""Answers of a meter that are remembered: more than come while one job is under way, which on a bad line is minutes."""
EXAMPLES_MAX = 20
SAMPLES = 6


class Truth:
    """What one meter answered, and what its registers showed then."""

    def __init__(self) -> None:
        self._shown: dict[str, deque[str]] = defaultdict(lambda: deque(maxlen=SHOWN))
        self._answers: deque[tuple[bytes, bytes]] = deque(maxlen=SHOWN)
        """Each with the question as the meter heard it."""
        self._asked: deque[bytes] = deque(maxlen=SHOWN)

    def ask(self, question: bytes) -> None:
        """This question is about to be put."""
        self._asked.append(question)

    def note(self, said: Said, question: bytes) -> None:
        """An answer was given."""
        self._answers.append((said.data, question))
        for name, text in said.values.items():
            self._shown[name].append(text)

    def origin(self, frame: bytes) -> Literal["asked", "misheard"] | None:
        """Whether this frame was among the latest answers, to a question that was put or only to such as never were."""
        misheard = False
        for answer, question in reversed(self._answers):
            if answer.endswith(frame):
                if question in self._asked:
                    return "asked"
                misheard = True
        return "misheard" if misheard else None

    def holds(self, name: str, number: Decimal) -> bool:
        """Whether the register showed this of late."""
        shown = self._shown[name]
        return format(number, "f") in shown or any(Decimal(text) == number for text in shown)


class TruthfulDlt645(Dlt645Meter):
    """A meter that remembers what it showed."""

    truth: Truth

    def answer(self, frame: Dlt645Frame, now_ms: int) -> Said | None:
        said = super().answer(frame, now_ms)
        if said is not None:
            self.truth.note(said, frame.encode(0))
        return said


class TruthfulModbus(ModbusMeter):
    """A meter that remembers what it showed."""

    truth: Truth

    def answer(self, frame: ModbusFrame, now_ms: int) -> Said | None:
        said = super().answer(frame, now_ms)
        if said is not None:
            self.truth.note(said, frame.encode())
        return said


@dataclass(kw_only=True)
class Verdict:
    """What a campaign saw."""

    exchanges: int = 0
    replies: int = 0
    """Of jobs that are not confirmed: each might have been damaged past every check."""
    taken: int = 0
    """Replies that were taken for answers, of all jobs."""
    jobs: int = 0
    good: int = 0
    """Values accepted as good, billing values included."""
    billing: int = 0
    """Of them, billing values after their confirming reading."""
    doubtful: int = 0
    """Numbers that were not given as good, most of them billing values that no two readings agreed on."""
    wrong_detectable: int = 0
    """Values."""
    wrong_probabilistic: int = 0
    """Reads with a reply damaged past every check, billing reads left out: those are judged by their result."""
    wrong_billing: int = 0
    """Values."""
    defects: int = 0
    """Exceptions of ours that an answer brought about."""
    computed: float = 0.0
    """How many replies should have been damaged past every check, by the noise alone (see `residual`)."""
    struck: "Counter[str]" = field(default_factory=Counter)
    """How often each fault struck."""
    examples: list[str] = field(default_factory=list)

    @property
    def computed_rate(self) -> float:
        """Replies that should be damaged past every check, of all that are not confirmed."""
        return self.computed / self.replies if self.replies else 0.0

    @property
    def passed(self) -> bool:
        """Whether the promises were kept. What is probabilistic may be 3 times what was computed, give or take what
        chance does to small numbers: 4 standard deviations and one."""
        allowed = 3 * self.computed + 4 * sqrt(3 * self.computed) + 1
        return not (self.wrong_detectable or self.wrong_billing or self.defects) and self.wrong_probabilistic <= allowed

    def __str__(self) -> str:
        return (
            f"{self.exchanges} exchanges, {self.good} good values ({self.billing} billing), "
            f"wrong: {self.wrong_detectable} detectable, {self.wrong_billing} billing, "
            f"{self.wrong_probabilistic} probabilistic ({self.computed:.2f} computed)"
        )


class Judge:
    """Watches the dialogues of one bus."""

    def __init__(self, verdict: Verdict, port: Port, rng: Random, *, tcp: bool = False) -> None:
        self.verdict = verdict
        self._tcp = tcp
        """Whether it comes in a stream without a checksum: then damage is what the wire did to one answer, and what was
        put together of two is none."""
        self.truths: dict[str, Truth] = {}
        self._port = port
        self._sounds: deque[tuple[bytes, bytes]] = deque(maxlen=REMEMBERED)
        """What was said, and what came of it."""
        self.samples: list[tuple[bytes, bytes]] = []
        """Some of the replies and their questions, to compute from what noise can do to them."""
        self._replies = 0
        self._rng = rng

    def heard(self, sound: Sound) -> None:
        """Something was on the wire."""
        self._sounds.append((sound.said, sound.data))

    def watched(self, meter: str, dialogue: Dialogue[Any], blames: list[tuple[Blame, str]]) -> Dialogue[Any]:
        """The same dialogue; what is to be blamed for each of its answers is noted, should a value prove wrong."""
        blames.clear()  # a read that starts over is judged by its last start
        truth = self.truths[meter]
        try:
            ask = next(dialogue)
            while True:
                truth.ask(ask.data.lstrip(b"\xfe"))
                answer = yield ask
                if isinstance(answer, Reply):
                    blames.append(self._blame(truth, ask, answer.frame))
                ask = dialogue.send(answer)
        except StopIteration as end:
            values: list[Value] = end.value
            return values
        finally:
            dialogue.close()

    def _blame(self, truth: Truth, ask: Ask[Any], frame: Any) -> tuple[Blame, str]:
        whole = frame.encode(0) if isinstance(frame, Dlt645Frame) else frame.encode()
        self._sample(whole, ask.data)
        origin = truth.origin(whole)
        if origin == "asked":
            return "right", ""
        if origin == "misheard":
            return "probabilistic", f"asked {ask.data.hex()}, which the meter heard otherwise, took {whole.hex()}"
        seen = self._port.seen
        told = f"asked {ask.data.hex()}, took {whole.hex()} of {seen.hex()}"
        damaged = any(whole in came for _, came in self._sounds) if self._tcp else whole in seen
        sent = any(whole in said for said, _ in self._sounds)
        return "probabilistic" if damaged and not sent else "detectable", told

    def _sample(self, reply: bytes, question: bytes) -> None:
        """Keep some of the replies, each as likely as any other."""
        self._replies += 1
        if len(self.samples) < SAMPLES:
            self.samples.append((reply, question))
        elif (place := self._rng.randrange(self._replies)) < SAMPLES:
            self.samples[place] = reply, question

    def rule(self, meter: str, outcome: Outcome, blames: list[tuple[Blame, str]], *, billing: bool) -> None:
        """Hold the values of a job against the truth."""
        verdict, truth = self.verdict, self.truths[meter]
        verdict.jobs += 1
        if not billing:
            verdict.replies += len(blames)
        wrong: list[Value] = []
        for value in outcome.values or ():
            if value.number is None:
                continue
            if value.quality is not Quality.GOOD:
                verdict.doubtful += 1
                continue
            verdict.good += 1
            verdict.billing += billing
            if not truth.holds(value.quantity.name, value.number):
                wrong.append(value)
        if not wrong:
            return
        damaged = [told for blame, told in blames if blame == "probabilistic"]
        others = [told for blame, told in blames if blame == "detectable"]
        if billing:
            verdict.wrong_billing += len(wrong)
        elif damaged:
            verdict.wrong_probabilistic += 1
        if not damaged:
            verdict.wrong_detectable += len(wrong)
        if len(verdict.examples) < EXAMPLES_MAX:
            named = ", ".join(f"{value.quantity.name} = {value.plain}" for value in wrong)
            kind = ("billing, " if billing else "") + ("probabilistic" if damaged else "detectable")
            verdict.examples.append(f"{kind}: {meter} {named}: {'; '.join(damaged or others)}")
