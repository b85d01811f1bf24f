"""A port: asks one question at a time on a line, and says what came of it.

It keeps the gap before a question, drops the echo of the question, passes over frames that answer something else, and
counts all of it. Bytes that arrive while nothing is asked are counted and thrown away: they answer nothing.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from config.model import BusEntry, SerialSettings
from drivers.line import Line, OpenLine, ParityCheck, PortBusy, PortLost
from protocols.dialogue import Answer, Ask, Deframer, FrameT, Garbled, Reply, Silence

__all__ = ["Line", "OpenLine", "ParityCheck", "Port", "PortBusy", "PortCounters", "PortLost", "open_line"]

OPEN_LISTEN_S = 0.3
"""How long a port that was just opened only listens: the answer to a question of before it was opened (by us, killed
and restarted, or kept by a serial server) must not meet our first question."""

SEEN_MAX = 4096
"""Bytes of an exchange that are kept for people and for evidence; the longest right reply is under 400."""

QUIET_WAIT_MAX_S = 2.0
"""How long a question waits for a line that never falls quiet, before it is asked into the noise."""


async def open_line(bus: BusEntry) -> Line:
    """Open the real line of a bus: a serial device, or a raw TCP connection for tcp://host:port. Raises PortLost."""
    if bus.port.startswith("tcp://"):
        from drivers.line_tcp import open_tcp

        return await open_tcp(bus)
    from drivers.line_serial import open_serial

    return open_serial(bus)


@dataclass(slots=True)
class PortCounters:
    """What happened on the wire since the port was made."""

    opened: int = 0
    lost: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    replies: int = 0
    silences: int = 0
    garbled: int = 0
    echoes: int = 0
    """Copies of our own question that came back (an RS-485 adapter that hears itself)."""
    foreign: int = 0
    """Whole frames that did not answer the question in hand: of another meter, late, or unasked."""
    expired: int = 0
    """Times that the inter-byte limit ended a frame that had begun."""
    stray_bytes: int = 0
    """Bytes that came while nothing was asked."""
    noisy_starts: int = 0
    """Questions asked although the line had not been quiet for the gap."""


class Port:
    """One line, one question at a time. Not safe for two tasks: its bus is its one owner."""

    def __init__(self, bus: BusEntry, *, open_line: OpenLine = open_line, now_ms: Callable[[], int]) -> None:
        self.bus = bus
        self.counters = PortCounters()
        self.seen = b""
        """What came in the exchange in hand, or the last one, without the echo (at most SEEN_MAX bytes)."""
        self.began = 0.0
        """Loop time at which the last question began to leave."""
        self.ended = 0.0
        """Loop time at which the last exchange ended."""
        self._open_line = open_line
        self._now_ms = now_ms
        self._line: Line | None = None
        self._lost: Exception | None = None
        self._settings: SerialSettings | None = None
        self._quiet_since = 0.0
        self._received = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        # The exchange in hand.
        self._ask: Ask[Any] | None = None
        self._deframer: Deframer[Any] | None = None
        self._found: asyncio.Future[Any] | None = None
        self._echo = b""
        self._inter_byte_s = 0.0
        self._inter_byte: asyncio.TimerHandle | None = None

    @property
    def is_open(self) -> bool:
        """Whether questions can be asked."""
        return self._line is not None and self._lost is None

    @property
    def parity(self) -> ParityCheck:
        """See Line.parity; `none` while closed."""
        return self._line.parity if self._line is not None else "none"

    @property
    def received(self) -> int:
        """Bytes that came in the exchange in hand, or the last one, echo included."""
        return self._received

    async def open(self) -> None:
        """Open the line and listen for a while. Raises PortLost, also when the line goes away while listening."""
        self.close()
        line = await self._open_line(self.bus)
        self._loop = asyncio.get_running_loop()
        self._line, self._lost, self._settings = line, None, self.bus.serial
        self._quiet_since = self._loop.time()
        self.counters.opened += 1
        line.attach(self._receive, self._line_lost)
        try:
            await asyncio.sleep(OPEN_LISTEN_S)
        except BaseException:
            self.close()
            raise
        self._checked()

    def close(self) -> None:
        """Let go of the line; may be called twice."""
        line, self._line = self._line, None
        if line is not None:
            line.close()

    async def exchange(
        self,
        ask: Ask[FrameT],
        deframer: Deframer[FrameT],
        *,
        settings: SerialSettings,
        timeout_s: float,
        gap_s: float,
        character_s: float,
        inter_byte_s: float,
    ) -> Answer[FrameT]:
        """Ask, and wait for the frame that answers, for at most timeout_s from the first byte sent.

        gap_s: how long the line has to be quiet before the question. character_s: seconds a character takes on the
        wire (0 where there is none to speak of). inter_byte_s: a pause this long ends a frame that has begun.
        Raises PortLost when the line goes away, and whatever the deframer or `ask.accepts` raise that they should not.
        """
        line, loop = self._checked()
        if settings is not self._settings and settings != self._settings:
            line.apply(settings)
            self._settings = settings
        await self._quiet(loop, gap_s)
        line, loop = self._checked()

        found: asyncio.Future[FrameT | None] = loop.create_future()
        self._ask, self._deframer, self._found = ask, deframer, found
        self._echo, self.seen, self._received, self._inter_byte_s = ask.data, b"", 0, inter_byte_s
        self.began = loop.time()
        sent_at = self._now_ms() + round(len(ask.data) * character_s * 1000)
        timer = loop.call_at(self.began + timeout_s, self._timed_out)
        try:
            line.write(ask.data)
            self.counters.sent_bytes += len(ask.data)
            frame = await found
            ended_at = self._now_ms()
        finally:
            timer.cancel()
            if self._inter_byte is not None:
                self._inter_byte.cancel()
                self._inter_byte = None
            self._ask = self._deframer = self._found = None
            self.ended = loop.time()
        if frame is not None:
            self.counters.replies += 1
            return Reply(frame=frame, sent_at=min(sent_at, ended_at), ended_at=ended_at)
        if self.seen:
            self.counters.garbled += 1
            return Garbled(self.seen)
        self.counters.silences += 1
        return Silence()

    def _checked(self) -> tuple[Line, asyncio.AbstractEventLoop]:
        if self._lost is not None:
            raise PortLost(str(self._lost)) from self._lost
        if self._line is None or self._loop is None:
            raise PortLost(f"{self.bus.port} is not open")
        return self._line, self._loop

    async def _quiet(self, loop: asyncio.AbstractEventLoop, gap_s: float) -> None:
        """Wait until the line has been quiet for the gap; after QUIET_WAIT_MAX_S of babble go on all the same."""
        give_up = loop.time() + QUIET_WAIT_MAX_S
        while True:
            now = loop.time()
            ready = self._quiet_since + gap_s
            if ready <= now:
                return
            if now >= give_up:
                self.counters.noisy_starts += 1
                return
            await asyncio.sleep(ready - now)

    def _receive(self, data: bytes) -> None:
        assert self._loop is not None
        self._quiet_since = self._loop.time()
        self.counters.received_bytes += len(data)
        found = self._found
        if found is None or found.done():
            self.counters.stray_bytes += len(data)
            return
        self._received += len(data)
        if self._echo:
            data = self._without_echo(data)
            if not data:
                return
        if len(self.seen) < SEEN_MAX:
            self.seen += data[: SEEN_MAX - len(self.seen)]
        self._offer(data)

    def _without_echo(self, data: bytes) -> bytes:
        """What came behind the copy of our question, or all of it when it turns out not to be one.

        While every byte so far is that of the question, they are held back in `seen`.
        """
        data, self.seen = self.seen + data, b""
        if data.startswith(self._echo):
            data = data[len(self._echo) :]
            self._echo = b""
            self.counters.echoes += 1
        elif self._echo.startswith(data):
            self.seen = data
            return b""
        else:
            self._echo = b""
        return data

    def _offer(self, data: bytes | None) -> None:
        """Give bytes to the deframer, or None at the inter-byte limit, and take the frame that answers."""
        ask, deframer, found = self._ask, self._deframer, self._found
        assert ask is not None and deframer is not None and found is not None and self._loop is not None
        try:
            frames = deframer.expire() if data is None else deframer.feed(data)
            for frame in frames:
                if ask.accepts(frame):
                    found.set_result(frame)
                    return
                self.counters.foreign += 1
            pending = deframer.pending
        except Exception as error:  # a defect of ours: whoever waits for the answer records it
            found.set_exception(error)
            return
        if pending and self._inter_byte is None:
            self._inter_byte = self._loop.call_at(self._quiet_since + self._inter_byte_s, self._paused)

    def _paused(self) -> None:
        """The inter-byte limit may have passed: unless bytes came meanwhile, the oldest open frame ends here."""
        self._inter_byte = None
        assert self._loop is not None
        if self._found is None or self._found.done():
            return
        due = self._quiet_since + self._inter_byte_s
        if self._loop.time() < due:
            self._inter_byte = self._loop.call_at(due, self._paused)
            return
        self.counters.expired += 1
        self._offer(None)

    def _timed_out(self) -> None:
        """Nothing more is waited for: look once through what is still held back, then give up."""
        found, deframer = self._found, self._deframer
        if found is None or deframer is None:
            return
        if self._echo and self.seen:
            held, self._echo = self.seen, b""
            self._offer(held)
        held_back = -1
        while not found.done() and deframer.pending and deframer.pending != held_back:
            held_back = deframer.pending
            self.counters.expired += 1
            self._offer(None)
        if not found.done():
            found.set_result(None)

    def _line_lost(self, error: Exception) -> None:
        self._lost = error
        self.counters.lost += 1
        if self._found is not None and not self._found.done():
            self._found.set_exception(PortLost(str(error)))
