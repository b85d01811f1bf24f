"""What the centre knows of a gateway's batch numbers, epoch by epoch, and how it says so in a receipt."""

from collections import OrderedDict
from dataclasses import dataclass, field

from central.numbers import Numbers
from central.sinks.base import Sink
from protocols.messages import RANGES_MAX

EPOCHS_MAX = 4096
"""Epochs kept in memory; one that is needed again is read from the database."""


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
    voided: Numbers = field(default_factory=Numbers)
    refused: dict[int, str] = field(default_factory=dict)

    def void(self, seq: int) -> None:
        """The gateway has given this number up: nothing will land under it any more, and it knows."""
        self.closed.add(seq)
        self.voided.add(seq)
        self.refused.pop(seq, None)

    def refuse(self, seq: int, code: str) -> None:
        """This number is closed without having landed, and the gateway must hear of it."""
        self.closed.add(seq)
        self.refused.setdefault(seq, code)

    def said(self) -> Said:
        """What to tell the gateway. Where not all fits, less is said, never more than is true.

        A number that is refused must be listed in every receipt that covers it, or its captures would be settled.
        """
        refused = sorted(self.refused.items())
        unlisted = refused[RANGES_MAX][0] if len(refused) > RANGES_MAX else None
        upto, ranges = self.closed.upto, self.closed.above
        if refused:
            ranges = [part for one in ranges for part in _without(one, self.refused)]
        if unlisted is not None:
            upto = min(upto, unlisted - 1)
            ranges = [(first, min(last, unlisted - 1)) for first, last in ranges if first < unlisted]
        return Said(upto=upto, ranges=tuple(ranges[:RANGES_MAX]), rejected=tuple(refused[:RANGES_MAX]))


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


class Epochs:
    """The epochs that were needed lately, each read from the database once."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._states: OrderedDict[tuple[str, int], EpochState] = OrderedDict()

    def get(self, gateway: str, epoch: int) -> EpochState:
        """The state of the epoch. Change it only after the change is committed. Raises SinkAway."""
        key = (gateway, epoch)
        state = self._states.get(key)
        if state is None:
            state = EpochState(closed=Numbers(self._sink.landed_numbers(gateway, epoch)))
            for seq, code, voided in self._sink.closed_numbers(gateway, epoch):
                if voided:
                    state.void(seq)
                else:
                    state.refuse(seq, code)
            self._states[key] = state
            while len(self._states) > EPOCHS_MAX:
                self._states.popitem(last=False)
        else:
            self._states.move_to_end(key)
        return state
