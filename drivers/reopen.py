"""When a port that was lost is opened again."""

from random import Random

REOPEN_S_FIRST, REOPEN_S_MAX, REOPEN_JITTER = 1.0, 30.0, 0.2
"""Pause before a lost port is opened again: doubled at each failure, spread by a fifth so that buses do not march."""

HOPELESS_AFTER = 3
"""Failures in a row to open the port, or to hear anything while it was open, after which nobody waits for it any more
before a stop."""


class Reopening:
    """How often the port of a bus failed in a row, and when it is to be tried again. Times are loop time."""

    def __init__(self, jitter: Random) -> None:
        self.trouble: str | None = None
        """Why the port is not open, for people; None while it is, and before the first attempt."""
        self.due_at = 0.0
        self.lost_at = float("inf")
        """When it went away, while it is; infinite before it ever did."""
        self._failures = 0
        self._heard = 0
        self._jitter = jitter

    @property
    def hopeless(self) -> bool:
        """Whether nobody should wait for the port any more."""
        return self.trouble is not None and self._failures >= HOPELESS_AFTER

    def opened(self) -> None:
        """It is open."""
        self.trouble, self.lost_at = None, float("inf")

    def lost(self, reason: str, now: float, heard: int) -> bool:
        """It was lost, or could not be opened. Says whether the reason is another than before.

        heard: bytes that ever came. A far end that takes a connection and ends it before it has said anything is no
        better than one that takes none.
        """
        news, self.trouble = self.trouble != reason, reason
        if heard != self._heard:
            self._heard, self._failures = heard, 0
        pause_s = min(REOPEN_S_MAX, REOPEN_S_FIRST * 2 ** min(self._failures, 10))
        self.lost_at = min(self.lost_at, now)
        self._failures += 1
        self.due_at = now + pause_s * (1 + REOPEN_JITTER * self._jitter.uniform(-1, 1))
        return news
