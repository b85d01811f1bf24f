"""What an examination says of a bus. Pure: nothing is asked here; the words stand in `findings.toml`."""

import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from math import log
from statistics import median
from typing import Literal

from field.diagnosis.examination import PATIENCE_S, Evidence, Exchange, refused
from field.diagnosis.hearing import Role, address_of
from field.diagnosis.questions import Subject
from field.diagnosis.voices import voices

Severity = Literal["ok", "warn", "bad"]

DAMAGE_BAD = 0.1
"""Share of damaged or missing answers above which reading suffers, not only takes longer."""
COLLIDING, OTHERS_CLEAN = 0.5, 0.1
"""A meter whose answers are damaged this often while those of others are not is no matter of the line."""
MEASURED_MIN = 4
"""Answers of others that are needed to say that the line is clean."""
ADDRESSES_MAX = 4
"""Addresses that a finding names."""
GLITCH_MAX = 3
"""Bytes of 00 or FF right before an answer: the pair being turned round."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """check: a word that stays the same, for machines; words: which text of `findings.toml`, `check` or one behind a
    dot. meter: its address, None for the bus. facts: figures."""

    words: str
    severity: Severity
    meter: str | None = None
    facts: Mapping[str, object] = field(default_factory=dict)

    @property
    def check(self) -> str:
        """What was looked at."""
        return self.words.partition(".")[0]

    def text(self, lang: str) -> str:
        """In words, with what to do next."""
        return _words()[self.words][lang].format_map(self.facts)


@cache
def _words() -> dict[str, dict[str, str]]:
    return tomllib.loads(files("field.diagnosis").joinpath("findings.toml").read_text(encoding="utf-8"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a meter answered. wrong: whole frames came, none of which answered. Delays are those of right answers."""

    meter: str
    asked: int
    answered: int
    silent: int
    damaged: int
    wrong: int
    delays_ms: tuple[float, ...]

    @property
    def turnaround_ms(self) -> tuple[float, float, float] | None:
        """The shortest, the middle and the longest; None without an answer."""
        if not self.delays_ms:
            return None
        return min(self.delays_ms), median(self.delays_ms), max(self.delays_ms)


def standing(evidence: Evidence, one: Subject) -> Standing:
    """How this meter answered."""
    exchanges = evidence.of(one.name)
    answered = [e for e in exchanges if e.taken.answers]
    return Standing(
        meter=one.name,
        asked=len(exchanges),
        answered=len(answered),
        silent=sum(e.taken.silent for e in exchanges),
        damaged=sum(e.taken.garbled for e in exchanges),
        wrong=sum(bool(e.taken.told) and not e.taken.answers for e in exchanges),
        delays_ms=tuple(e.taken.answers[0].delay_s * 1000 for e in answered),
    )


def findings(evidence: Evidence) -> list[Finding]:
    """Everything worth a word, the bus first."""
    standings = {one.name: standing(evidence, one) for one in evidence.subjects}
    of_meters = {one.name: list(_of_meter(evidence, one, standings)) for one in evidence.subjects}
    # What goes wrong around two meters with one address says nothing of the line.
    excused = {name for name, mine in of_meters.items() if any(f.check in ("duplicate", "one_behind") for f in mine)}
    counted = [e for e in evidence.exchanges if e.meter not in excused]
    found = [*_parity(evidence), *_idle(evidence), *_around(counted), *_noise(evidence, counted, standings)]
    return [*found, *(finding for mine in of_meters.values() for finding in mine)]


def _parity(evidence: Evidence) -> Iterator[Finding]:
    """How parity is checked, with each setting of the line that meters were asked with."""
    network = bool(evidence.subjects) and all(one.meter.entry.protocol == "modbus-tcp" for one in evidence.subjects)
    if evidence.tcp:
        words = "parity.modbus_tcp" if network else "parity.tcp"
        yield Finding(words=words, severity="ok", facts={"parity": "none", "serial": str(evidence.serial)})
        return
    for serial, parity in evidence.parity.items():
        severity: Severity = "warn" if parity == "unverified" else "ok"
        yield Finding(words=f"parity.{parity}", severity=severity, facts={"parity": parity, "serial": str(serial)})


def _idle(evidence: Evidence) -> Iterator[Finding]:
    """What was said before anything was asked."""
    facts: dict[str, object] = {"seconds": f"{evidence.listened_s:g}"}
    spoken = [piece for piece in evidence.idle if piece.frame is not None]
    noise = sum(len(piece.raw) for piece in evidence.idle if piece.frame is None)
    if spoken:
        who = ", ".join(sorted({piece.address or "" for piece in spoken}))
        facts |= {"frames": len(spoken), "addresses": who}
        yield Finding(words="other_master", severity="bad", facts=facts)
    if noise:
        yield Finding(words="babble", severity="bad", facts=facts | {"bytes": noise})
    if not spoken and not noise:
        yield Finding(words="idle", severity="ok", facts=facts)


def _around(exchanges: Sequence[Exchange]) -> Iterator[Finding]:
    """Echo, and what stands around answers."""
    if echoes := sum(e.taken.echo for e in exchanges):
        yield Finding(words="echo", severity="warn", facts={"echoes": echoes, "questions": len(exchanges)})
    answered = [e for e in exchanges if e.taken.answers]
    glitches = [e for e in answered if e.taken.lead and _glitch(e.taken.lead)]
    others = [e for e in answered if e.taken.stray or (e.taken.lead and not _glitch(e.taken.lead))]
    unasked = sum(len(chunk) for e in exchanges for chunk in e.unasked)
    if glitches:
        yield Finding(words="glitch", severity="warn", facts={"exchanges": len(glitches), "of": len(answered)})
    if others or unasked:
        facts = {"exchanges": len(others), "of": len(answered), "unasked": unasked}
        yield Finding(words="stray", severity="warn", facts=facts)


def _glitch(lead: bytes) -> bool:
    return len(lead) <= GLITCH_MAX and set(lead) <= {0x00, 0xFF}


def _noise(evidence: Evidence, counted: Sequence[Exchange], standings: Mapping[str, Standing]) -> Iterator[Finding]:
    """Damage of the line. Once there is some, a silence is taken for a damaged question."""
    asked = [e for e in counted if standings[e.meter].answered]
    heard = [e for e in asked if not e.taken.silent]
    if not heard:
        return
    damaged = sum(e.taken.garbled for e in heard)
    bits = sum(e.size for e in heard) / len(heard) * (evidence.serial.bits - 2)  # start and stop bits show nothing
    if not damaged:  # what is still possible, at 95 %: the rule of three
        facts: dict[str, object] = {"damaged": 0, "of": len(heard), "one_in": _rounded(bits * len(heard) / 3)}
        yield Finding(words="noise.none", severity="ok", facts=facts)
        return
    spoilt = damaged + len(asked) - len(heard)
    share = spoilt / len(asked)
    rate = -log(1 - min(share, 0.99)) / bits
    facts = {"damaged": spoilt, "of": len(asked), "one_in": _rounded(1 / rate), "bit_error_rate": float(f"{rate:.2g}")}
    yield Finding(words="noise", severity="bad" if share > DAMAGE_BAD else "warn", facts=facts)


def _rounded(number: float) -> int:
    """To two digits."""
    return int(float(f"{number:.2g}"))


def _of_meter(evidence: Evidence, one: Subject, standings: Mapping[str, Standing]) -> Iterator[Finding]:
    """What is wrong with a meter; what explains everything else comes alone."""
    exchanges, how = evidence.of(one.name), standings[one.name]
    roles = Counter(told.role for e in exchanges for told in e.taken.told)
    stale = roles[Role.EARLIER]
    right = sum(e.telling for e in exchanges)
    if stale >= 2 and stale > right:
        facts = {"answers": stale, "right": right}
        yield Finding(words="one_behind", severity="bad", meter=one.name, facts=facts)
        return
    if not how.answered:
        yield _never(evidence, one, how, standings)
        return
    double = list(_double(one, exchanges)) or list(_colliding(how, standings))
    yield from double
    if any(finding.check == "duplicate" for finding in double):
        return
    if (edition := evidence.editions.get(one.name)) is not None:
        editions = {"spoken": one.meter.entry.protocol, "answers": edition}
        yield Finding(words="edition.refused", severity="bad", meter=one.name, facts=editions)
    elif refused(exchanges) and any(question.steady for question in one.questions):
        yield Finding(words="refused", severity="bad", meter=one.name, facts={"answers": how.answered})
    yield from _timing(one, how)
    for words, role in (("stale", Role.EARLIER), ("wrong", Role.OWN), ("foreign", Role.FOREIGN)):
        if roles[role]:
            told = {"frames": roles[role], "addresses": _addresses(exchanges, role)}
            yield Finding(words=words, severity="warn", meter=one.name, facts=told)
    mute = _mute(exchanges)
    if mute:
        yield Finding(words="mute", severity="ok", meter=one.name, facts={"items": ", ".join(mute)})
    asked = [e for e in exchanges if e.item not in mute]
    if silent := sum(e.taken.silent for e in asked):
        severity: Severity = "bad" if silent > DAMAGE_BAD * len(asked) else "warn"
        facts = {"silent": silent, "asked": len(asked)}
        yield Finding(words="lost", severity=severity, meter=one.name, facts=facts)
    if not any(question.steady for question in one.questions):
        yield Finding(words="unprofiled", severity="ok", meter=one.name)


def _addresses(exchanges: Sequence[Exchange], role: Role) -> str:
    """Whose the frames of this role are, the first few of them."""
    found = sorted({address_of(t.frame) for e in exchanges for t in e.taken.told if t.role is role})
    return ", ".join(found[:ADDRESSES_MAX]) + (", ..." if len(found) > ADDRESSES_MAX else "")


def _mute(exchanges: Sequence[Exchange]) -> list[str]:
    """Items that the meter never answers although it always answers the others: it does not know them, and ought to
    refuse them."""
    items = dict.fromkeys(e.item for e in exchanges)
    never = [item for item in items if all(e.taken.silent for e in exchanges if e.item == item)]
    return never if all(e.taken.answers for e in exchanges if e.item not in never) else []


def _never(evidence: Evidence, one: Subject, how: Standing, standings: Mapping[str, Standing]) -> Finding:
    """It was asked, and never answered rightly."""
    others = [other for other in standings.values() if other.meter != one.name and other.answered]
    facts: dict[str, object] = {"asked": how.asked, "damaged": how.damaged, "frames": how.wrong}
    later = [told for e in evidence.exchanges for told in e.taken.told
             if told.role is Role.FOREIGN and e.meter != one.name and address_of(told.frame) == one.name]  # fmt: skip
    if (edition := evidence.editions.get(one.name)) is not None:
        words, facts = "edition", {"spoken": one.meter.entry.protocol, "answers": edition}
    elif (settings := evidence.settings.get(one.name)) is not None:
        words, facts = "settings", {"set_to": str(one.meter.settings), "answers_at": str(settings)}
    elif later and not how.damaged and not how.wrong:
        words, facts = "late.very", {"frames": len(later), "seconds": f"{PATIENCE_S:g}"}
    elif how.damaged:
        words = "duplicate.collisions" if _clean(others) else "garbled"
    elif how.wrong:
        words = "wrong.never_right"
    elif any(e.behind_gateway for e in evidence.of(one.name)):
        words = "silent.gateway"
    else:
        words = "silent" if others else "silent.all"
    if words == "duplicate.collisions":
        facts["seen"] = "collisions"
    return Finding(words=words, severity="bad", meter=one.name, facts=facts)


def _double(one: Subject, exchanges: Sequence[Exchange]) -> Iterator[Finding]:
    """Whether two answer by this address: at once, or by turns."""
    twice = [e for e in exchanges if len(e.taken.answers) > 1]
    differing = [e for e in twice if len({told.raw for told in e.taken.answers}) > 1]
    if differing:
        facts: dict[str, object] = {"questions": len(differing), "seen": "two answers"}
        yield Finding(words="duplicate.two_answers", severity="bad", meter=one.name, facts=facts)
        return
    for item in dict.fromkeys(e.item for e in exchanges if e.steady):
        series = [(e.at, value) for e in exchanges if e.item == item for value in e.values[:1] if value is not None]
        heard = voices(series, power_kw_max=one.power_kw_max)
        if heard is not None:
            facts = {"item": item, "values": ", ".join(heard.shown), "seen": "by turns"}
            words, severity = ("duplicate.by_turns", "bad") if heard.by_turns else ("jump", "warn")
            yield Finding(words=words, severity=severity, meter=one.name, facts=facts)  # type: ignore[arg-type]
            return
    if twice:
        yield Finding(words="twice", severity="warn", meter=one.name, facts={"questions": len(twice)})


def _colliding(how: Standing, standings: Mapping[str, Standing]) -> Iterator[Finding]:
    """Whether answers of this meter are damaged where those of others are not."""
    others = [other for other in standings.values() if other.meter != how.meter and other.answered]
    if how.damaged > COLLIDING * how.asked and _clean(others):
        facts = {"damaged": how.damaged, "asked": how.asked, "seen": "collisions"}
        yield Finding(words="duplicate.collisions", severity="bad", meter=how.meter, facts=facts)


def _clean(others: Sequence[Standing]) -> bool:
    """Whether these say that the line is clean."""
    answers = sum(other.answered for other in others)
    return answers >= MEASURED_MIN and sum(other.damaged for other in others) <= OTHERS_CLEAN * answers


def _timing(one: Subject, how: Standing) -> Iterator[Finding]:
    """Whether it answers later than is waited for, or than a late answer is kept from another question."""
    allowed_ms, window_ms = one.allowed_s * 1000, one.window_s * 1000
    late = [delay for delay in how.delays_ms if delay > allowed_ms]
    beyond = [delay for delay in late if delay > window_ms]
    if late:
        facts: dict[str, object] = {
            "answers": len(beyond or late), "of": how.answered, "latest_ms": round(max(late)),
            "allowed_ms": round(allowed_ms), "window_ms": round(window_ms),
        }  # fmt: skip
        words = "late.beyond_window" if beyond else "late"
        yield Finding(words=words, severity="bad" if beyond else "warn", meter=one.name, facts=facts)
