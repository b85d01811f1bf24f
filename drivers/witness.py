"""Telling a meter that is silent from one that is mute: that gives no answer to some question, and answers others.

Some meters say nothing where they ought to refuse: to a block that is longer than they serve, or goes over registers
or identifiers that they lack. After silence a smaller question is put. Where that is answered, the silence was of the
question; what two readings in a row show so is certain, as neither noise nor an outage comes twice at the same place
and only there.
"""

from collections.abc import Callable, Collection, Generator, Hashable, Sequence, Set
from typing import Any, TypeVar

from protocols.capture import Fault
from protocols.dialogue import Answer, Ask, Dialogue

T = TypeVar("T")
H = TypeVar("H", bound=Hashable)


class Witness:
    """Of one plan of a meter.

    While the meter is silent (`Habits.down`) readings begin with the smaller question, so that it is found to be back
    by that; probes are short then, too. It may be one of those that the meter is mute to: after silence it is the next
    item's turn.
    """

    __slots__ = ("_suspected", "_turn", "alert")

    def __init__(self) -> None:
        self._turn = 0
        """Which item is asked next: the one that was answered last, or the one behind it that was not."""
        self._suspected: Set[Hashable] = frozenset()
        """What the last reading showed the meter to be mute to."""
        self.alert = False
        """Whether there was silence since `certain` was called, or it was told of something."""

    def heard(
        self, items: Sequence[T], silent: Collection[T], alone: Callable[[T], Dialogue[Any]]
    ) -> Generator[Ask[Any], Answer[Any], bool]:
        """Whether the meter answers, be it damaged, when asked for one of these items alone: one that is not among
        those it was just silent to, where there are others. Where no smaller question is left, nothing is asked."""
        turns = [(self._turn + n) % len(items) for n in range(len(items))]
        others = [turn for turn in turns if items[turn] not in silent]
        if not others and len(items) < 2:
            return False
        turn = (others or turns)[0]
        self.alert = True
        self._turn = turn + 1  # already now: who waits in vain may close this instead
        values = yield from alone(items[turn])
        if values[0].fault is Fault.SILENT:
            return False
        self._turn = turn
        return True

    def certain(self, mute: Collection[H]) -> list[H]:
        """Of what this reading showed the meter to be mute to, what the one before did, too."""
        before, self._suspected = self._suspected, frozenset(mute)
        self.alert = bool(mute)
        return [one for one in mute if one in before]
