"""What the centre knows of a gateway's batch numbers, epoch by epoch, and how it says so in a receipt."""

from dataclasses import dataclass, field

from central.numbers import Numbers
from central.sinks.base import NUMBERS_MAX, EpochNumbers, Sink
from protocols.messages import RANGES_MAX

MARK_EVERY = 64
"""The mark of an epoch is moved when it is this far behind: what is above it is read for each receipt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """The part of a receipt that settles and refuses."""

    upto: int
    ranges: tuple[tuple[int, int], ...]
    rejected: tuple[tuple[int, str], ...]


@dataclass(slots=True)
class EpochState:
    """One epoch of one gateway: `closed` numbers landed, were refused or voided; `refused` ones are not yet voided."""

    closed: Numbers = field(default_factory=Numbers)
    refused: dict[int, str] = field(default_factory=dict)

    def said(self, most: int = RANGES_MAX) -> Said:
        """What to tell the gateway, in so many ranges and refusals. Where not all fits, less is said, never more than
        is true.

        A number that is refused must be listed in every receipt that covers it, or its captures would be settled.
        """
        refused = sorted(self.refused.items())
        unlisted = refused[most][0] if len(refused) > most else None
        upto, ranges = self.closed.upto, self.closed.above
        if refused:
            ranges = [part for one in ranges for part in _without(one, self.refused)]
        if unlisted is not None:
            upto = min(upto, unlisted - 1)
            ranges = [(first, min(last, unlisted - 1)) for first, last in ranges if first < unlisted]
        return Said(upto=upto, ranges=tuple(ranges[:most]), rejected=tuple(refused[:most]))


def _without(numbers: tuple[int, int], holes: dict[int, str]) -> list[tuple[int, int]]:
    first, last = numbers
    parts = []
    for hole in sorted(seq for seq in holes if first <= seq <= last):
        if first < hole:
            parts.append((first, hole - 1))
        first = hole + 1
    if first <= last:
        parts.append((first, last))
    return parts


def epoch_state(sink: Sink, gateway: str, epoch: int, found: EpochNumbers | None = None) -> EpochState:
    """How the epoch stands in the database, whichever workers brought it there. Raises SinkAway.

    found: what its numbers are, where that was asked just now.

    Nothing is remembered between two receipts: a database that was restored from a backup is not talked over.
    """
    while True:
        found = found or sink.numbers(gateway, epoch)
        closed = Numbers.upto_and(found.upto, found.above)
        if closed.upto >= found.upto + MARK_EVERY:
            sink.mark(gateway, epoch, closed.upto)
            if len(found.above) == NUMBERS_MAX:
                found = None
                continue
        return EpochState(closed=closed, refused=dict(found.refused))
