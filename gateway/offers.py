"""Which sealed batches are on their way, and when one is offered again: pure bookkeeping, time comes in."""

from collections.abc import Set
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


class Offers:
    """What was offered and has no receipt yet. Times are loop time in seconds."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._in_flight: set[Key] = set()
        self._again_at: dict[Key, float] = {}
        self._acknowledged_at: dict[Key, float] = {}
        self._tries: dict[Key, int] = {}
        """How often each was offered since the last `at_once`."""

    @property
    def in_flight(self) -> int:
        """Batches that the broker has not acknowledged."""
        return len(self._in_flight)

    @property
    def unreceipted(self) -> int:
        """Batches that were offered and have no receipt."""
        return len(self._tries)

    def room(self, in_flight_max: int, now: float) -> int:
        """How many may be offered now."""
        return max(0, min(in_flight_max - len(self._in_flight), UNRECEIPTED_MAX - len(self.waiting(now))))

    def backfill(self, live_from: Key, now: float) -> int:
        """How many batches below this number may be offered now."""
        return max(0, BACKFILL_MAX - sum(key < live_from for key in self.waiting(now)))

    def waiting(self, now: float) -> Set[Key]:
        """The batches not to offer now: under way, or offered a short while ago."""
        return self._in_flight | {key for key, at in self._again_at.items() if at > now + EARLY_S}

    def next_after(self, now: float) -> float | None:
        """When the next of those that wait for a receipt becomes due again."""
        return min((at for at in self._again_at.values() if at > now + EARLY_S), default=None)

    def begin(self, key: Key) -> bool:
        """The batch is being offered; says whether for the first time."""
        self._again_at.pop(key, None)
        self._in_flight.add(key)
        first = key not in self._tries
        self._tries[key] = self._tries.get(key, 0) + 1
        return first

    def acknowledged(self, key: Key, now: float) -> None:
        """The broker has it, which paces us and promises nothing. It stays ours until the receipt."""
        self._in_flight.discard(key)
        tries = self._tries.get(key)
        if tries is not None:  # else its receipt was faster
            wait = min(_grown(AGAIN_S, tries), AGAIN_S_MAX)
            self._acknowledged_at[key] = now
            self._again_at[key] = now + wait * (1 + JITTER * (2 * self._random.random() - 1))

    def lost(self) -> None:
        """The session ended: what was under way is to be offered again in the next."""
        self._in_flight.clear()

    def at_once(self) -> None:
        """Let everything without a receipt be due now: the broker may have forgotten it.

        Times grow anew from here. What grew through the sessions before says nothing of this one, and a batch that a
        restarted broker takes before the centre is back would otherwise wait for a quarter of an hour.
        """
        self._again_at.clear()
        self._tries = dict.fromkeys(self._tries, 0)

    def receipted(self, receipt: Receipt) -> int:
        """Forget what the receipt covers, and find the holes in it; returns how many batches are covered."""
        covered = [key for key in self._tries if key[0] == receipt.epoch and _covers(receipt, key[1])]
        newest = max((self._acknowledged_at.get(key, 0.0) for key in covered), default=0.0)
        for key in covered:
            del self._tries[key]
            self._again_at.pop(key, None)
            self._acknowledged_at.pop(key, None)
        for key, tries in self._tries.items():
            if key[0] == receipt.epoch and self._acknowledged_at.get(key, newest) < newest - _grown(HOLE_S, tries):
                self._again_at.pop(key, None)
        return len(covered)


def _grown(seconds: float, tries: int) -> float:
    """Doubled for each time that it was offered beyond the first. `at_once` sets the count to nought."""
    return seconds * 2.0 ** min(max(tries - 1, 0), 16)


def _covers(receipt: Receipt, seq: int) -> bool:
    if seq <= receipt.contiguous_upto or any(first <= seq <= last for first, last in receipt.ranges):
        return True
    return any(seq == rejected for rejected, _ in receipt.rejected)
