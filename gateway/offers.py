"""Which sealed batches are on their way, and when one is offered again: pure bookkeeping, time comes in."""

import math
from collections.abc import Set
from dataclasses import dataclass
from random import Random

from protocols.messages import Receipt

Key = tuple[int, int]
"""(epoch, seq)"""

AGAIN_S = 30.0
"""A batch without a receipt is offered again after this long; then twice as long, and so on."""
AGAIN_S_MAX = 900.0
JITTER = 0.2
"""Each of these times is up to so much shorter or longer: a fleet that lost its centre must not call in step."""
EARLY_S = 0.001
"""What is due this soon is due: a timer may fire a rounding error early, and must not be set again for that."""
UNRECEIPTED_MAX = 256
"""Batches that may wait for their receipt; with so many, nothing more is offered until one comes or is due again."""
HOLE_S = 2.0
"""A batch that the broker had so much earlier than one with a receipt, and has none itself, is lost: the broker or a
worker of the centre forgot it. It is offered again at once; the second time when it is twice as much, and so on."""
BACKFILL_MAX = 8
"""Of these, batches that are not live: what stands before live data at a centre that lands slower than we send. With a
receipt a second it is still 8 batches, some 40,000 values, a second."""


@dataclass(slots=True)
class _Offer:
    """What became of a batch that was offered and has no receipt."""

    tries: int = 0
    """How often it was offered since the last `at_once`."""
    acknowledged_at: float = math.inf
    """When the broker had it last."""
    again_at: float = 0.0
    """From when on it may be offered again."""


class Offers:
    """What was offered and has no receipt yet. Times are loop time in seconds."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._in_flight: set[Key] = set()
        """What the broker has not acknowledged; the receipt of some of it may be there already."""
        self._offered: dict[Key, _Offer] = {}

    @property
    def unreceipted(self) -> int:
        """Batches that were offered and have no receipt."""
        return len(self._offered)

    def room(self, in_flight_max: int, now: float) -> int:
        """How many may be offered now."""
        return max(0, min(in_flight_max - len(self._in_flight), UNRECEIPTED_MAX - len(self.waiting(now))))

    def backfill(self, live_from: Key, now: float) -> int:
        """How many batches below this number may be offered now."""
        return max(0, BACKFILL_MAX - sum(key < live_from for key in self.waiting(now)))

    def waiting(self, now: float) -> Set[Key]:
        """The batches not to offer now: under way, or offered a short while ago."""
        return self._in_flight | {key for key, offer in self._offered.items() if offer.again_at > now + EARLY_S}

    def next_after(self, now: float) -> float | None:
        """When the next of those that wait for a receipt becomes due again."""
        times = (offer.again_at for offer in self._offered.values())
        return min((at for at in times if at > now + EARLY_S), default=None)

    def begin(self, key: Key) -> bool:
        """The batch is being offered; says whether for the first time."""
        first = key not in self._offered
        offer = self._offered.setdefault(key, _Offer())
        offer.tries += 1
        offer.again_at = 0.0
        self._in_flight.add(key)
        return first

    def acknowledged(self, key: Key, now: float) -> None:
        """The broker has it, which paces us and promises nothing. It stays ours until the receipt."""
        self._in_flight.discard(key)
        offer = self._offered.get(key)
        if offer is not None:  # else its receipt was faster
            wait = min(_grown(AGAIN_S, offer.tries), AGAIN_S_MAX)
            offer.acknowledged_at = now
            offer.again_at = now + wait * (1 + JITTER * (2 * self._random.random() - 1))

    def lost(self) -> None:
        """The session ended: what was under way is to be offered again in the next."""
        self._in_flight.clear()

    def at_once(self) -> None:
        """Let everything without a receipt be due now: the broker may have forgotten it.

        Times grow anew from here. What grew through the sessions before says nothing of this one, and a batch that a
        restarted broker takes before the centre is back would otherwise wait for a quarter of an hour.
        """
        for offer in self._offered.values():
            offer.tries, offer.again_at = 0, 0.0

    def receipted(self, receipt: Receipt) -> int:
        """Forget what the receipt covers, and find the holes in it; returns how many batches are covered."""
        of_epoch = {key: offer for key, offer in self._offered.items() if key[0] == receipt.epoch}
        covered = {key: offer for key, offer in of_epoch.items() if _covers(receipt, key[1])}
        acknowledged = (offer.acknowledged_at for offer in covered.values())
        newest = max((at for at in acknowledged if at < math.inf), default=0.0)
        for key, offer in of_epoch.items():
            if key in covered:
                del self._offered[key]
            elif offer.acknowledged_at < newest - _grown(HOLE_S, offer.tries):
                offer.again_at = 0.0
        return len(covered)


def _grown(seconds: float, tries: int) -> float:
    """Doubled for each time that it was offered beyond the first. `at_once` sets the count to nought."""
    return seconds * 2.0 ** min(max(tries - 1, 0), 16)


def _covers(receipt: Receipt, seq: int) -> bool:
    if seq <= receipt.contiguous_upto or any(first <= seq <= last for first, last in receipt.ranges):
        return True
    return any(seq == rejected for rejected, _ in receipt.rejected)
