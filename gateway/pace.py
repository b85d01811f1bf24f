"""How fast the way up really is, and how much may be under way on it: no more than it carries in a second.

What is under way stands in queues that we cannot see or overtake: the socket's, the modem's. So an event is behind at
most that much. The rate is measured from PUBACK to PUBACK: what the broker has acknowledged while a message was under
way, divided by that time. The best of the last seconds counts: a link that we do not fill shows less than it can.
"""

import asyncio
from collections import deque
from dataclasses import dataclass

WINDOW_S = 1.0
"""What may be under way: the bytes that the link carries in this time, and never less than one message."""
REMEMBERED_S = 10.0
"""For how long a rate that was reached counts."""
ANSWER_S = 20.0
"""A message unanswered for this long, beside the time it takes on the link, means a dead connection: one that is half
open says nothing by itself."""
RATE_MIN = 600.0
"""Bytes a second: the slowest link that is waited for, while nothing better was measured (4,800 bit/s)."""


@dataclass(frozen=True, slots=True)
class Shipment:
    """A message under way: its bytes, when it was sent, and what the broker had acknowledged by then."""

    size: int
    at: float
    delivered: int


class Pace:
    """What is under way in one session. Times are loop time in seconds, sizes are bytes of messages."""

    def __init__(self) -> None:
        self.under_way = 0
        """Bytes that the broker has not acknowledged."""
        self.eased = asyncio.Event()
        """Set whenever less is under way than before."""
        self._delivered = 0
        self._rates: deque[tuple[float, float]] = deque()
        """(time, bytes a second): falling rates of rising times, so that the first is the best."""

    @property
    def rate(self) -> float:
        """Bytes a second; 0 before the first acknowledgement."""
        return self._rates[0][1] if self._rates else 0.0

    @property
    def free(self) -> int:
        """Bytes that may be sent besides what is under way; 0 or less when there is no room."""
        return round(self.rate * WINDOW_S) - self.under_way

    def fits(self, size: int) -> bool:
        """Whether a message of this size may be sent now. The first one always may."""
        return self.under_way == 0 or size <= self.free

    def patience_s(self, size: int) -> float:
        """How long to wait for the acknowledgement of a message of this size, sent now."""
        return ANSWER_S + (self.under_way + size) / max(RATE_MIN, self.rate / 4)

    def begin(self, size: int, now: float) -> Shipment:
        """A message is being sent."""
        self.under_way += size
        return Shipment(size, now, self._delivered)

    def end(self, shipment: Shipment, now: float) -> None:
        """The broker has acknowledged it."""
        self._delivered += shipment.size
        self.under_way -= shipment.size
        rate = (self._delivered - shipment.delivered) / max(now - shipment.at, 1e-6)
        while self._rates and self._rates[-1][1] <= rate:
            self._rates.pop()
        self._rates.append((now, rate))
        while self._rates[0][0] < now - REMEMBERED_S:
            self._rates.popleft()
        self.eased.set()
