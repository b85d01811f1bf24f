"""Finding every DL/T 645 meter on a bus by abbreviated addresses, where several answer at once.

A question to `AAAAAAAAAA12` is answered by each meter whose address ends in 12 (DL/T 645-2007, address field: high
bytes AA). Silence: there is none. One whole answer: there is one, and it says its address. Anything else: there are
several, and the next byte is tried from 00 to 99. Meters understand AA for whole bytes, so a step is a hundred
questions; half bytes are outside the standard, and a meter that does not know them would be missed.
"""

from collections.abc import Generator
from dataclasses import dataclass

from protocols.dlt645.frame import ANY_METER

DIGITS = len(ANY_METER)
STEP = 2
"""Digits of a byte."""
CHILDREN = 10**STEP


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
    """first: what came after the question to any meter. Asks at most so many questions; what is left is doubtful."""
    found: set[str] = set(first.addresses)
    doubtful: list[str] = []
    waiting = [ANY_METER] if first.several else []
    asked = 0
    while waiting:
        mask = waiting.pop(0)
        known = mask.lstrip("A")
        if len(known) == DIGITS or asked >= questions_max:
            doubtful.append(mask)
            continue
        before, deeper, silent = len(_below(found, known)), 0, []
        for child in _children(known):
            came = yield child
            asked += 1
            found.update(came.addresses)
            if came.several:
                waiting.append(child)
                deeper += 1
            elif came.nothing:
                silent.append(child)
        if deeper == 0 and len(_below(found, known)) < 2:
            # Where several spoke there are two at least: noise took an answer, or made one, so ask once more.
            for child in silent:
                came = yield child
                asked += 1
                found.update(came.addresses)
                if came.several:
                    waiting.append(child)
                    deeper += 1
            if deeper == 0 and len(_below(found, known)) <= max(1, before):
                doubtful.append(mask)
    return Found(tuple(sorted(found)), tuple(doubtful))


def _children(known: str) -> list[str]:
    """The abbreviated addresses with one more byte."""
    high = DIGITS - len(known) - STEP
    return [f"{'A' * high}{byte:0{STEP}d}{known}" for byte in range(CHILDREN)]


def _below(found: set[str], known: str) -> list[str]:
    return [address for address in found if address.endswith(known)]
