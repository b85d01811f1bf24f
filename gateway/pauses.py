"""How long to wait between two attempts to reach the broker. Times are seconds."""

from random import Random

BACK_OFF_S, BACK_OFF_S_MAX = 1.0, 35.0
"""Between two attempts to connect: doubled each time, each between half of it and the whole. With the time-out of an
attempt under way there is a session within 60 s of the network's healing; at most about 9 attempts in any minute."""
GOOD_S = 60.0
"""A session that lasted this long, and in which a receipt came, was a good one: the pauses begin anew."""
FRUITFUL_FAILURES_MAX = 4
"""After a shorter one in which a receipt came they grow no longer than this many failures make them: 8 to 16 s. Two
gateways under one id, each of which ends the other's session, stay below that rate too."""


class Pauses:
    """Counts failures."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._failures = 0

    def after(self, lasted_s: float, *, fruitful: bool) -> float:
        """The pause after an attempt, or a session that lasted so long. fruitful: whether a receipt came in it."""
        if not fruitful:
            self._failures += 1
        elif lasted_s >= GOOD_S:
            self._failures = 0
        else:
            self._failures = min(self._failures + 1, FRUITFUL_FAILURES_MAX)
        longest = min(BACK_OFF_S * 2.0 ** min(self._failures, 10), BACK_OFF_S_MAX)
        return longest * (0.5 + 0.5 * self._random.random())
