"""Does the gateway do its work? Being alive is not enough: the watchdog is fed only while this says yes."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from drivers.bus import Bus
from gateway.intake import Intake

STALL_S = 120.0
"""A bus with work that has asked nothing for this long, or a commit that takes as long, is a defect: even a bus whose
port is gone tries to open it twice in that time."""


@dataclass(slots=True)
class _Mark:
    """Where something stood, and since when (loop time)."""

    stood: float
    since: float


class Progress:
    """Looks at the buses and at the store, each time it is asked."""

    def __init__(self, buses: Mapping[str, Bus], intake: Intake) -> None:
        self.reason = ""
        """What stands still, for people; empty while nothing does."""
        self._buses = buses
        self._intake = intake
        self._marks: dict[str, _Mark] = {}

    def __call__(self) -> bool:
        """Whether everything that has work moves."""
        now = asyncio.get_running_loop().time()
        stalled = [
            name
            for name, bus in self._buses.items()
            if self._stands(f"bus:{name}", bus.account.at, now, working=not bus.idle())
        ]
        counters = self._intake.counters
        accepted = counters.captures + counters.gaps + counters.events + counters.store_full + counters.store_failed
        if self._stands("store", accepted, now, working=not self._intake.idle):
            stalled.append("the store")
        self.reason = ", ".join(stalled)
        return not stalled

    def _stands(self, name: str, stood: float, now: float, *, working: bool) -> bool:
        mark = self._marks.get(name)
        if mark is None or mark.stood != stood or not working:
            self._marks[name] = _Mark(stood, now)
            return False
        return now - mark.since >= STALL_S
