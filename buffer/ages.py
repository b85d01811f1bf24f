"""How long what is not sealed yet has waited, on the loop's clock: wall clocks jump, and a start has no past."""

import asyncio
import math
from collections import deque
from typing import Final

from buffer.words import Standing, Unsealed

AGES_MAX: Final = 1024
"""Commits whose age is known apart; beyond it the newer ones count as old as the last of these, so are sealed early."""


class Ages:
    """Of commits, the oldest first."""

    def __init__(self, unsealed: int, *, now_ms: int) -> None:
        """unsealed: records that a former start left behind; they are infinitely old."""
        self._ever = unsealed
        self._ages: deque[tuple[int, float, int]] = deque()
        """(records ever unsealed up to and with this commit, loop time, UTC ms), oldest first."""
        if unsealed:
            self._ages.append((unsealed, -math.inf, now_ms))

    def add(self, records: int, *, given_at: tuple[float, int]) -> None:
        """So many more, of which the first was given at this loop time and UTC ms."""
        self._ever += records
        since, oldest_at = given_at
        if len(self._ages) >= AGES_MAX:
            _, since, oldest_at = self._ages.pop()
        self._ages.append((self._ever, since, oldest_at))

    def waiting(self, standing: Standing, *, now_ms: int) -> Unsealed:
        """What waits to be sealed, and for how long."""
        records = standing.unsealed + standing.requeued
        if not records:
            return Unsealed(records=0, again=0, events=0, age_s=0.0, oldest_at=None)
        while self._ages and self._ages[0][0] <= self._ever - standing.unsealed:
            self._ages.popleft()
        _, since, oldest_at = self._ages[0] if self._ages else (0, -math.inf, now_ms)
        age_s = asyncio.get_running_loop().time() - since
        return Unsealed(
            records=records, again=standing.requeued, events=standing.unsealed_events, age_s=age_s, oldest_at=oldest_at
        )
