"""How a meter has shown that it wants to be asked: what it refuses in one piece or is mute to, how soon it answers, and
how late.

Plans are made with it and made anew when it changes. It is kept over restarts (`gateway.learned`), and nothing of it
for ever: a hole is forgotten after a month and tried again, an item that was absent as soon as it is there. An item to
which the meter is mute is asked once a day, as each question costs a time-out.
"""

from collections.abc import Iterable
from dataclasses import dataclass

DAYS_MAX = 30
"""After so many days what a meter refused is asked again: it may have been set up anew. A question a month."""

KEPT_MAX = 32
"""Holes and blocks that are kept for one meter; with more, the oldest goes."""

TURNAROUND_STEPS_MS = (10.0, 20.0, 35.0, 50.0, 75.0, 100.0, 150.0, 200.0, 300.0, 500.0, 1000.0)
"""Plans are made for one of these turnarounds, so that few have to be made anew, and meters of a model share them."""

LATE_MS_MAX = 10_000
"""How late an answer is still made sure of. A meter, or a converter before it, that is later is beyond what can be
promised (docs/limits.md)."""

LATE_FACTOR, LATE_MARGIN_MS = 1.25, 100
"""A late window is wider than the latest answer that was seen, by a quarter and this."""

IN_TIME_MAX = 200
"""So often in a row a question was not answered and a later one was, with no answer beyond the profile's late window:
what was seen was an accident, or taken for later than it was. Until then the wider window only costs time, this meter's
own (others are asked meanwhile), and only after a question that was not answered. A narrower one than the profile's is
never learned: that no late answer was seen proves little, and a window too narrow costs a wrong value."""

Hole = tuple[int, int, int]
"""A Modbus function, the first register and the one behind the last. No request that reads more than one item goes over
it; where both registers are the same, none crosses the border between them."""


@dataclass(frozen=True, slots=True)
class Known:
    """What plans need of it; equal for meters that are alike. None: as the profile says."""

    holes: frozenset[Hole] = frozenset()
    blocks: frozenset[str] = frozenset()
    longest: int | None = None
    """Registers that it gives in one piece."""
    turnaround_ms: float | None = None


NOTHING = Known()


class Habits:
    """Of one meter. `known` is another object after each change."""

    __slots__ = ("_dated", "_in_time", "blocks", "down", "holes", "known", "late", "longest", "mute", "today")

    def __init__(self) -> None:
        self.known = NOTHING
        self.today = 0
        """Days since 1970, told by whoever keeps this; everything learned carries it."""
        self.holes: dict[Hole, int] = {}
        """Since when, in days."""
        self.blocks: dict[str, int] = {}
        """DL/T 645 blocks that it refuses whole."""
        self.longest: tuple[int, int] | None = None
        """Registers that it gives in one piece, and since when."""
        self.late: tuple[int, int] | None = None
        """How long after its time-out an answer may come (milliseconds), where that is longer than its profile says,
        and when it last was so late."""
        self.down = False
        """Whether its bus takes it for silent: readings then begin with a single item (see `drivers.witness`)."""
        self.mute: dict[Hole | str, int] = {}
        """Single items, of the holes and blocks, to which it was silent while it answered others: on which day."""
        self._in_time = 0
        self._dated: int | None = None
        """The day on which `forget` was called last."""

    def refuses(
        self, *, holes: Iterable[Hole] = (), blocks: Iterable[str] = (), longest: int | None = None
    ) -> None:  # fmt: skip
        """It was found to refuse these, and more registers than so many."""
        if longest is not None:
            self.longest = longest, self.today
        for hole in holes:
            self.holes[hole] = self.today
        for block in blocks:
            self.blocks[block] = self.today
        while len(self.holes) > KEPT_MAX:
            del self.holes[next(iter(self.holes))]
        while len(self.blocks) > KEPT_MAX:
            del self.blocks[next(iter(self.blocks))]
        self._changed()

    def gives(self, item: Hole | str) -> None:
        """An item that it did not have is there."""
        self.mute.pop(item, None)
        gone = self.blocks.pop(item, None) if isinstance(item, str) else self.holes.pop(item, None)
        if gone is not None:
            self._changed()

    def forget(self) -> None:
        """Let go of what is too old, or from a future that a clock once showed.

        How late it is outlives a clock that is set, as a window too narrow costs a wrong value: a leap of days between
        two calls, which are minutes apart, is no time that has passed.
        """
        old = range(self.today - DAYS_MAX, self.today + 1)
        self.mute = {item: day for item, day in self.mute.items() if day == self.today}
        holes = {hole: day for hole, day in self.holes.items() if day in old}
        blocks = {block: day for block, day in self.blocks.items() if day in old}
        longest = self.longest if self.longest is not None and self.longest[1] in old else None
        if self.late is not None:
            leap = self.today - self._dated if self._dated is not None else 0
            day = min(self.today, self.late[1] + (leap if leap not in (0, 1) else 0))
            self.late = (self.late[0], day) if day in old else None
        self._dated = self.today
        if (holes, blocks, longest) != (self.holes, self.blocks, self.longest):
            self.holes, self.blocks, self.longest = holes, blocks, longest
            self._changed()

    def was_late(self, late_ms: float, *, profile_ms: float) -> bool:
        """An answer came so long after its time-out; whether that is news. profile_ms: the profile's window."""
        if late_ms <= profile_ms:
            return False
        self._in_time = 0
        needed = min(LATE_MS_MAX, round(late_ms * LATE_FACTOR) + LATE_MARGIN_MS)
        news = self.late is None or needed > self.late[0]
        self.late = (needed if self.late is None else max(needed, self.late[0])), self.today
        return news

    def answers_again(self) -> None:
        """A question was answered, after one that was not."""
        self._in_time += 1
        if self._in_time > IN_TIME_MAX:
            self.late = None

    def answers_in(self, turnaround_ms: float) -> None:
        """How soon it usually answers; of interest only when it is another step than before."""
        step = min(TURNAROUND_STEPS_MS, key=lambda one: abs(one - turnaround_ms))
        before = self.known.turnaround_ms
        if before is not None and step != before and 0.75 <= turnaround_ms / before <= 1.33:
            return  # between two steps: it stays where it is
        if step != before:
            self._changed(step)

    def _changed(self, turnaround_ms: float | None = None) -> None:
        longest = self.longest[0] if self.longest else None
        turnaround_ms = turnaround_ms or self.known.turnaround_ms
        known = Known(frozenset(self.holes), frozenset(self.blocks), longest, turnaround_ms)
        if known != self.known:
            self.known = known
