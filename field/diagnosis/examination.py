"""A bus under examination: meters asked by turns, with long listening; everything that came, for `findings`."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from config.model import BusEntry, ProtocolName, SerialSettings
from drivers.line import OpenLine, ParityCheck
from drivers.meter import Meter
from drivers.port import open_line
from field.diagnosis.asking import Asker, Chunk, Heard
from field.diagnosis.hearing import Accepts, Role, Taken, role_of, take_apart
from field.diagnosis.overheard import Overhearing, Piece
from field.diagnosis.questions import Question, Subject, subject
from field.diagnosis.settings import others_than
from field.port import usual_profile
from protocols.capture import Value
from protocols.dialogue import Ask
from protocols.dlt645.codes import Edition
from protocols.dlt645.edition import tells
from protocols.dlt645.frame import Frame as Dlt645Frame
from protocols.modbus.dialogue import refusal

PATIENCE_S = 10.0
"""How long an answer is waited for after a silence: far beyond what any profile takes for late."""
PATIENT_MAX = 3
"""How often a meter is waited for so long."""
THOROUGH_ONE_IN = 4
"""Of the questions to each meter, the first of so many are followed by the whole late window of listening, whatever
came: a second answer shows there."""
TAIL_S = 0.15
"""How long is listened on behind an answer otherwise."""
GIVEN_UP_AFTER = 3
"""Silences from the start after which a meter is asked no more."""
RETRIED_MAX = 4
"""Meters of a kind that are asked as another edition, and with other settings of the line."""
_OTHER_EDITION: dict[ProtocolName, ProtocolName] = {"dlt645-2007": "dlt645-1997", "dlt645-1997": "dlt645-2007"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One question and what came.

    at: when it had left (seconds, loop time). size: bytes of question and answer, as they should be. values: what each
    answer says, in order. unasked: what came between the listening before and it. telling: its answer is none to the
    question before. behind_gateway: a gateway said that the meter does not answer.
    """

    meter: str
    item: str
    steady: bool
    at: float
    size: int
    taken: Taken
    values: tuple[Value | None, ...]
    unasked: tuple[bytes, ...] = ()
    telling: bool = True
    behind_gateway: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All that was seen. parity: how the line checks it, by the settings that meters were asked with. idle: what was
    said while nothing was asked. settings: with which of the line a meter answered that was silent with its own.
    editions: as which of DL/T 645 one answered that was silent as its own, or refused everything."""

    parity: Mapping[SerialSettings, ParityCheck]
    serial: SerialSettings
    tcp: bool
    listened_s: float
    idle: tuple[Piece, ...]
    subjects: tuple[Subject, ...]
    exchanges: tuple[Exchange, ...]
    settings: dict[str, SerialSettings] = field(default_factory=dict)
    editions: dict[str, ProtocolName] = field(default_factory=dict)

    def of(self, meter: str) -> tuple[Exchange, ...]:
        """The exchanges of a meter, in order."""
        return tuple(one for one in self.exchanges if one.meter == meter)


def refused(exchanges: Sequence[Exchange]) -> bool:
    """Whether there were answers, and all of them refusals."""
    frames = [told.frame for exchange in exchanges for told in exchange.taken.answers]
    return bool(frames) and all(
        frame.abnormal if isinstance(frame, Dlt645Frame) else refusal(frame) is not None for frame in frames
    )


@dataclass(slots=True)
class _Progress:
    """How a meter has answered so far."""

    asked: int = 0
    silences: int = 0
    """From the start."""
    heard: bool = False
    doubled: bool = False
    """Whether a question was answered twice: then all answers are waited for, each time."""
    patient: int = 0
    earlier: list[Accepts] = field(default_factory=list)
    """Of its questions before, the latest first, one of each kind."""

    @property
    def given_up(self) -> bool:
        return not self.heard and self.silences >= GIVEN_UP_AFTER


def duration_s(subjects: Sequence[Subject], *, questions: int, listen_s: float) -> tuple[float, float]:
    """About how long an examination takes when all is well, and at most."""
    usual = most = listen_s
    for one in subjects:
        for number in range(questions):
            ask = one.question(number).ask()
            wire_s = (len(ask.data) + ask.reply_max) * one.meter.character_s
            usual += wire_s + (
                one.window_s if number < _thorough(questions) else one.meter.profile.turnaround_ms / 1000 + TAIL_S
            )
            most += wire_s + max(one.window_s, one.allowed_s) + TAIL_S
        most += PATIENT_MAX * PATIENCE_S
    return usual, most


def _thorough(questions: int) -> int:
    """How many of the questions to a meter are followed by long listening."""
    return max(1, questions // THOROUGH_ONE_IN)


async def examine(
    bus: BusEntry,
    subjects: Sequence[Subject],
    *,
    questions: int,
    listen_s: float,
    open_line: OpenLine = open_line,
    progress: Callable[[int, int], None] = lambda done, of: None,
    interrupted: Callable[[Evidence], None] = lambda evidence: None,
) -> Evidence:
    """Ask each meter so many questions, by turns. progress: told of questions asked, and of how many. interrupted: on
    cancellation, told what was seen by then of the meters that were asked.

    Raises PortLost (PortBusy)."""
    asker = await Asker.open(bus, open_line)
    exchanges: list[Exchange] = []
    parity: dict[SerialSettings, ParityCheck] = {}

    def evidence(idle: Heard, asked: Sequence[Subject], **found: Any) -> Evidence:
        return Evidence(
            parity=parity or {bus.serial: asker.parity}, serial=bus.serial, tcp=bus.port.startswith("tcp://"),
            listened_s=listen_s, idle=tuple(_overheard(idle)), subjects=tuple(asked), exchanges=tuple(exchanges),
            **found,
        )  # fmt: skip

    try:
        idle = await asker.listen(listen_s)
        standings = {one.name: _Progress() for one in subjects}
        for round_ in range(questions):
            for n, one in enumerate(subjects):
                progress(round_ * len(subjects) + n, questions * len(subjects))
                if standings[one.name].given_up:
                    continue
                try:
                    exchanges.append(await _ask(asker, one, standings[one.name], _thorough(questions)))
                    parity[one.meter.settings] = asker.parity
                except asyncio.CancelledError:
                    asked = {exchange.meter for exchange in exchanges}
                    interrupted(evidence(idle, [one for one in subjects if one.name in asked]))
                    raise
        lacking = [one for one in subjects if standings[one.name].given_up][:RETRIED_MAX]
        refusing = [one for one in subjects if refused([e for e in exchanges if e.meter == one.name])][:RETRIED_MAX]
        editions = await _other_editions(asker, bus, [*lacking, *refusing])
        lacking = [one for one in lacking if one.name not in editions]
        settings = {} if bus.port.startswith("tcp://") else await _other_settings(asker, lacking)
        return evidence(idle, subjects, settings=settings, editions=editions)
    finally:
        asker.close()


def _overheard(idle: Heard) -> Iterator[Piece]:
    hearing = Overhearing()
    for chunk in idle.chunks:
        yield from hearing.feed(chunk.at, chunk.data)
    yield from hearing.close()


async def _ask(asker: Asker, one: Subject, standing: _Progress, thorough_max: int) -> Exchange:
    question = one.question(standing.asked)
    ask, meter = question.ask(), one.meter
    taking = _taking(one, ask, standing.earlier)
    thorough = standing.asked < thorough_max or standing.doubled
    patience_s = PATIENCE_S if standing.patient < PATIENT_MAX else 0.0
    answer_s = ask.reply_max * meter.character_s

    def until(sent_at: float, chunks: Sequence[Chunk]) -> float:
        taken = taking(Heard(sent=ask.data, sent_at=sent_at, chunks=tuple(chunks), ended_at=sent_at))
        window = sent_at + answer_s + one.window_s
        if taken.silent:
            return max(window, sent_at + patience_s)
        if not taken.told or thorough:
            return max(window, chunks[-1].at + TAIL_S)
        return chunks[-1].at + TAIL_S

    heard = await asker.ask(ask.data, until, settings=meter.settings, gap_s=meter.gap_s, character_s=meter.character_s)
    taken = taking(heard)
    others = tuple(told for told in taken.told if ask.speaks_for is None or not ask.speaks_for(told.frame))
    behind_gateway = others != taken.told
    taken = replace(taken, told=others)
    before = standing.earlier[:1]
    telling = bool(taken.answers) and not any(one(taken.answers[0].frame) for one in before)
    standing.asked += 1
    standing.earlier = [ask.accepts, *standing.earlier[: len(one.questions)]]
    standing.heard = standing.heard or not taken.silent
    standing.doubled = standing.doubled or len(taken.answers) > 1
    standing.silences += taken.silent and not standing.heard
    standing.patient += taken.silent and patience_s > 0
    return Exchange(
        meter=one.name,
        item=question.item,
        steady=question.steady,
        at=heard.sent_at,
        size=len(ask.data) + ask.reply_max,
        taken=taken,
        values=tuple(question.value(told.frame) for told in taken.answers),
        unasked=tuple(chunk.data for chunk in heard.before),
        telling=telling,
        behind_gateway=behind_gateway,
    )


def _taking(one: Subject, ask: Ask[Any], earlier: Sequence[Accepts]) -> Callable[[Heard], Taken]:
    meter = one.meter

    def role(frame: Any) -> Role:
        return role_of(frame, one.name, ask.accepts, earlier)

    return lambda heard: take_apart(
        heard, meter.deframer(), role, inter_byte_s=meter.inter_byte_s, character_s=meter.character_s
    )


async def _other_editions(asker: Asker, bus: BusEntry, lacking: Sequence[Subject]) -> dict[str, ProtocolName]:
    """Those of which nothing was heard but refusals, asked as meters of the other edition of DL/T 645."""
    found: dict[str, ProtocolName] = {}
    for one in lacking:
        entry = one.meter.entry
        if (other := _OTHER_EDITION.get(entry.protocol)) is not None:
            twin = subject(replace(entry, protocol=other, profile=usual_profile(other)), bus)
            if await _answers(asker, twin, one.meter.settings, partial(tells, edition=Edition(other))):
                found[one.name] = other
    return found


async def _other_settings(asker: Asker, lacking: Sequence[Subject]) -> dict[str, SerialSettings]:
    """Those of which nothing was heard, asked with the other usual settings."""
    found: dict[str, SerialSettings] = {}
    for one in lacking:
        for settings in others_than(one.meter.settings, one.meter.entry.protocol):
            if await _answers(asker, one, settings):
                found[one.name] = settings
                break
    return found


async def _answers(asker: Asker, one: Subject, settings: SerialSettings, counts: Accepts = lambda _: True) -> bool:
    """Whether a meter answers with these settings, and another question too: the first answer may be a very late one
    to what it was asked before. counts: whether an answer does."""
    first, *others = one.questions
    if not any(map(counts, await _answers_to(asker, one, first, settings))):
        return False
    for question in others:
        if any(map(counts, await _answers_to(asker, one, question, settings))):
            return True
    return False


async def _answers_to(asker: Asker, one: Subject, question: Question, settings: SerialSettings) -> list[Any]:
    """The frames that answer a question with these settings, asked once."""
    entry = replace(one.meter.entry, serial=settings)
    bus = BusEntry(name=entry.bus, port="", serial=settings)
    meter = Meter(entry, one.meter.profile, bus)
    other = Subject(meter=meter, questions=one.questions, tcp=one.tcp)
    ask = question.ask()
    wait_s = ask.reply_max * meter.character_s + other.allowed_s
    taking = _taking(other, ask, ())
    heard = await asker.ask(
        ask.data, lambda sent_at, _: sent_at + wait_s, settings=settings, gap_s=meter.gap_s,
        character_s=meter.character_s,
    )  # fmt: skip
    return [told.frame for told in taking(heard).answers]
