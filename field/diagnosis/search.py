"""Finding every DL/T 645 meter on a bus by abbreviated addresses, where several answer at once.

A question to `AAAAAAAAAA12` is answered by each meter whose address ends in 12 (DL/T 645-2007, address field: high
bytes AA). Silence: there is none. One whole answer: there is one, and it says its address. Anything else: there are
several, and the next byte is tried from 00 to 99. Meters understand AA for whole bytes, so a step is a hundred
questions; half bytes are outside the standard, and a meter that does not know them would be missed.

Meters that answer at once do so each time; noise comes and goes. So what sounds like several is asked again before it
is believed, and where nearly everything sounds so, nothing is.
"""

from collections.abc import Generator
from dataclasses import dataclass

from protocols.dlt645.frame import ANY_METER

DIGITS = len(ANY_METER)
STEP = 2
"""Digits of a byte."""
CHILDREN = 10**STEP
SURE = 4
"""How often something has to sound like several meters to be believed, before noise is known to come by itself."""
SURE_MAX = 12
UNSURE = 2
"""How often it may sound otherwise meanwhile: a question that noise takes from the meters costs one."""
CROWDS_MAX = 8
"""Abbreviated addresses of one step behind which there may be several, besides two for each meter that was understood
there: of 100 meters with random addresses 37 are understood, and 26 places are shared by others."""


@dataclass(frozen=True, slots=True)
class Came:
    """What came after a question. addresses: of whole answers; garbled: whether there was anything besides."""

    addresses: tuple[str, ...] = ()
    garbled: bool = False

    @property
    def several(self) -> bool:
        """Whether more than one meter answered, as far as can be told."""
        return self.garbled or len(set(self.addresses)) > 1

    @property
    def nothing(self) -> bool:
        """Whether it was silent."""
        return not self.addresses and not self.garbled


@dataclass(frozen=True, slots=True)
class Found:
    """addresses: of the meters, sorted. doubtful: questions behind which there is more than was found (an abbreviated
    address, or a whole one that two meters may share)."""

    addresses: tuple[str, ...]
    doubtful: tuple[str, ...]


Search = Generator[str, Came, Found]
"""Yields an address to ask, is sent what came, returns what was found."""


def search(first: Came, *, questions_max: int) -> Search:
    """first: what came after the question to any meter. Asks at most so many questions, and ends the step in hand; what
    is left is doubtful."""
    line = _Line()
    came = (yield from line.asked(ANY_METER, first)) if first.several else first
    found: set[str] = set(came.addresses)
    doubtful: list[str] = []
    waiting = [ANY_METER] if came.several else []
    while waiting:
        mask = waiting.pop(0)
        known = mask.lstrip("A")
        if len(known) == DIGITS or line.questions >= questions_max:
            doubtful.append(mask)
            continue
        heard, deeper = yield from _step(line, known)
        found |= heard
        if deeper is None or (not deeper and len(heard) < 2):
            doubtful.append(mask)
        waiting += deeper or ()
    return Found(tuple(sorted(found)), tuple(doubtful))


def _step(line: "_Line", known: str) -> Generator[str, Came, tuple[set[str], list[str] | None]]:
    """One byte more: the meters that are understood, and the abbreviated addresses behind which there are several; None
    where nearly everything sounds so."""
    heard: set[str] = set()
    deeper: list[str] = []
    children, undone = _children(known), line.undone
    for _ in range(2):
        silent = []
        for child in children:
            came = yield from line.asked(child)
            heard.update(came.addresses)
            if came.several:
                deeper.append(child)
            elif came.nothing:
                silent.append(child)
            if len(deeper) > CROWDS_MAX + 2 * len(heard):
                return heard, None
        if line.undone == undone and (deeper or len(heard) > 1):
            break
        # There is noise, or it took an answer: where several spoke there are two at least. Ask once more.
        children = silent
    return heard, deeper


@dataclass(slots=True)
class _Line:
    """What the asking has shown of the line. undone: how often something sounded like several and then did not;
    hoaxes: how often there was nothing behind it."""

    questions: int = 0
    undone: int = 0
    hoaxes: int = 0

    def asked(self, address: str, came: Came | None = None) -> Generator[str, Came, Came]:
        """What is behind an address. came: after the first question, where that was asked already."""
        several = other = 0
        addresses: set[str] = set()
        while True:
            if came is None:
                came = yield address
                self.questions += 1
            addresses.update(came.addresses)
            several, other = several + came.several, other + (not came.several)
            if len(addresses) > 1 or several == min(SURE + self.hoaxes, SURE_MAX):
                return Came(tuple(addresses), garbled=True)
            if several == 0:
                return came
            if other == UNSURE:
                self.undone += 1
                self.hoaxes += not addresses
                return Came(tuple(addresses))
            came = None


def _children(known: str) -> list[str]:
    """The abbreviated addresses with one more byte."""
    high = DIGITS - len(known) - STEP
    return [f"{'A' * high}{byte:0{STEP}d}{known}" for byte in range(CHILDREN)]
