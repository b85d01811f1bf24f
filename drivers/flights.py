"""Questions on their way over one Modbus TCP connection, several at a time, told apart by their transaction."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

from drivers.run import Run
from protocols.dialogue import Answer, Ask, Silence, make_reply
from protocols.modbus.frame import Frame
from protocols.modbus.stream import TcpReplies

PAST_MAX = 1024
"""Transactions that are remembered as given up; an answer to one of them is late, to any other unknown one mixed up."""


STALLED_S = 0.5
"""A pause this long in the midst of a reply ends it: above what TCP takes to send a lost segment again (0.2 s)."""


_NONE_YET = Silence()


class Flight:
    """A question that was sent. Times are loop time in seconds; sent_at is UTC milliseconds."""

    __slots__ = ("answer", "ask", "began", "company", "ends", "error", "live", "run", "sent_at")

    def __init__(self, run: Run, ask: Ask[Any], *, began: float, ends: float, sent_at: int, live: bool) -> None:
        self.run = run
        self.ask = ask
        self.began = began
        self.ends = ends
        """When it is given up."""
        self.sent_at = sent_at
        self.live = live
        """Whether live meters had work when it was sent."""
        self.company = False
        """Whether others were on their way at any time together with it."""
        self.answer: Answer[Any] = _NONE_YET
        """What came of it, once it has landed."""
        self.error: Exception | None = None
        """What was raised when its answer was looked at."""


class Flights:
    """What is on its way, and what has landed. `landed` is emptied by its owner."""

    def __init__(self, *, now_ms: Callable[[], int], wake: Callable[[], None]) -> None:
        self.landed: list[Flight] = []
        self.mixed_up = 0
        """Answers to what was never asked, or that do not fit the question of their transaction."""
        self.late = 0
        """Answers to questions that were given up before."""
        self.soonest = float("inf")
        """None is given up before this (loop time)."""
        self.flying: dict[int, Flight] = {}
        """What is on its way, by the number under which it is answered."""
        self._past: OrderedDict[int, None] = OrderedDict()
        self._odd: set[str] = set()
        """Meters whose answers did not fit although nobody else was asked: no mixing up of answers."""
        self._deframer = TcpReplies(self._asked, self.flying.__contains__)
        self._stalled_at = float("inf")
        """When a reply of which only a part came is given up (loop time)."""
        self._now_ms = now_ms
        self._wake = wake

    def __iter__(self) -> Iterator[Flight]:
        yield from self.flying.values()
        yield from self.landed

    @property
    def any(self) -> bool:
        """Whether one is on its way, or has landed and was not dealt with."""
        return bool(self.flying or self.landed)

    def connected(self) -> None:
        """A fresh connection: nothing of the last one is left in it."""
        self._deframer = TcpReplies(self._asked, self.flying.__contains__)
        self._stalled_at = float("inf")

    def put(self, flight: Flight) -> bool:
        """It is being sent; false where another of its number is on its way still, and it may not be."""
        flying, number = self.flying, int.from_bytes(flight.ask.data[:2], "big")
        if number in flying:
            return False
        if flying:
            flight.company = True
            if len(flying) == 1:  # of more, each has company already
                for other in flying.values():
                    other.company = True
        flying[number] = flight
        if flight.ends < self.soonest:
            self.soonest = flight.ends
        return True

    def receive(self, data: bytes) -> None:
        """Take bytes as they come."""
        self._take(self._deframer.feed(data))
        if self._deframer.pending:
            self._stalled_at = asyncio.get_running_loop().time() + STALLED_S
            if self._stalled_at < self.soonest:
                self.soonest = self._stalled_at
                self._wake()
        else:
            self._stalled_at = float("inf")

    def _take(self, frames: list[Frame]) -> None:
        flying, ended_at = self.flying, 0
        for frame in frames:
            transaction = frame.transaction
            assert transaction is not None
            flight = flying.get(transaction)
            try:
                fits = flight is not None and flight.ask.accepts(frame)
            except Exception as error:  # a defect of ours: whoever waits for the answer records it
                self._broken(transaction, frame, error)
                continue
            if flight is not None and fits:
                del flying[transaction]
                ended_at = ended_at or self._now_ms()
                sent_at = flight.sent_at
                flight.answer = make_reply(frame, min(ended_at, sent_at), ended_at)
                self.landed.append(flight)
            elif flight is None and transaction in self._past:
                self.late += 1
            elif flight is not None and self._unfit(flight):
                continue
            else:
                self.mixed_up += 1
        if ended_at:
            self._wake()

    def _broken(self, transaction: int, frame: Frame, error: Exception) -> None:
        flight = self.flying.pop(transaction)
        ended_at = self._now_ms()
        flight.answer, flight.error = make_reply(frame, min(ended_at, flight.sent_at), ended_at), error
        self.landed.append(flight)
        self._wake()

    def _unfit(self, flight: Flight) -> bool:
        """Whether an answer that does not fit its question is the meter's own: it gives such when asked alone, too."""
        meter = flight.run.standing.meter.id
        if not flight.company:
            self._odd.add(meter)
        return meter in self._odd

    def _asked(self, begin: bytes) -> bool:
        """See TcpReplies."""
        if len(begin) < 2:
            return any(transaction >> 8 == begin[0] for transaction in self.flying)
        transaction = int.from_bytes(begin, "big")
        return transaction in self.flying or transaction in self._past

    def _stalled(self) -> None:
        """What is held back will not be made whole any more."""
        self._stalled_at = float("inf")
        while self._deframer.pending:  # each turn drops a byte at least
            self._take(self._deframer.expire())

    def overdue(self, now: float) -> None:
        """Those whose time is over land in silence."""
        over = [item for item in self.flying.items() if item[1].ends <= now]
        if self._stalled_at <= now or (over and self._deframer.pending):
            self._stalled()
            over = [item for item in over if item[0] in self.flying]
        for transaction, flight in over:
            del self.flying[transaction]
            self._past[transaction] = None
            if len(self._past) > PAST_MAX:
                self._past.popitem(last=False)
            flight.answer = Silence()
            self.landed.append(flight)
        ends = (flight.ends for flight in self.flying.values())
        self.soonest = min(self._stalled_at, min(ends, default=float("inf")))

    def ground(self) -> list[Flight]:
        """Take all of them back: the connection is lost, or its owner stops."""
        flights = list(self.flying.values())
        self.flying.clear()
        return flights
