"""Maximum demand: the highest quarter of an hour of a month so far, in total and in each tariff.

The load curve repeats, so the means of its quarters and the peak of each of its days are worked out once; a reading
then looks at the days of the month and at the quarters of today.
"""

from collections.abc import Sequence
from typing import NamedTuple

from simulators.trace import DAY_MS, MONDAY_MS, QUARTER_MS


class Peak(NamedTuple):
    """Mean power in counts of the register, and the end of its quarter in local milliseconds."""

    power: int
    end_ms: int


class Demand:
    """The demand registers of one nature of energy of one meter. Times are local milliseconds."""

    def __init__(self, quarters: Sequence[int], tariff_of: Sequence[int], tariffs: int) -> None:
        """quarters: the mean of every quarter of the curve, which begins on a Monday and lasts whole days; tariff_of:
        the tariff (from 0) of each quarter of a day."""
        self._quarters = quarters
        self._registers_of = tuple((0, tariff + 1) for tariff in tariff_of)
        self._size = tariffs + 1
        self._days = len(quarters) * QUARTER_MS // DAY_MS
        self._of_day = [self._raised([Peak(0, 0)] * self._size, day, DAY_MS, starts_ms=0) for day in range(self._days)]
        nothing = [Peak(0, 0)] * self._size
        self._whole_days: tuple[tuple[int, int], list[Peak]] = ((0, 0), nothing)
        self._latest: tuple[tuple[int, int], list[Peak]] = ((0, 0), nothing)

    def registers(self, since_ms: int, until_ms: int) -> list[Peak]:
        """The total and every tariff, from a midnight to an instant. Of equal quarters the first one stands; before
        the first quarter is over, zero at the midnight."""
        key = since_ms, until_ms // QUARTER_MS
        if self._latest[0] != key:  # a block asks for all of them at one instant
            today = until_ms // DAY_MS * DAY_MS
            peaks = self._of_whole_days(since_ms, today)
            self._latest = key, self._raised(peaks, self._day(today), until_ms - today, starts_ms=today)
        return self._latest[1]

    def _of_whole_days(self, since_ms: int, today_ms: int) -> list[Peak]:
        key = since_ms, today_ms
        if self._whole_days[0] != key:
            peaks = [Peak(0, since_ms)] * self._size
            for start in range(since_ms, today_ms, DAY_MS):
                of_day = self._of_day[self._day(start)]
                peaks = [
                    Peak(new.power, start + new.end_ms) if new.power > peak.power else peak
                    for peak, new in zip(peaks, of_day, strict=True)
                ]
            self._whole_days = key, peaks
        return self._whole_days[1]

    def _day(self, start_ms: int) -> int:
        return (start_ms - MONDAY_MS) // DAY_MS % self._days

    def _raised(self, peaks: list[Peak], day: int, length_ms: int, *, starts_ms: int) -> list[Peak]:
        """The peaks, raised by the whole quarters of a day up to so long after its start."""
        raised = list(peaks)
        first = day * len(self._registers_of)
        for number in range(length_ms // QUARTER_MS):
            power = self._quarters[first + number]
            for register in self._registers_of[number]:
                if power > raised[register].power:
                    raised[register] = Peak(power, starts_ms + (number + 1) * QUARTER_MS)
        return raised
