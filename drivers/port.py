"""A port: asks one question at a time on a line, and says what came of it.

It keeps the gap before a question, drops the echo of the question, passes over frames that answer something else, and
counts all of it. Bytes that arrive while nothing is asked are counted and thrown away: they answer nothing.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from config.model import BusEntry, SerialSettings
from drivers.exchange import Exchange
from drivers.line import Line, OpenLine, ParityCheck, PortBusy, PortLost
from drivers.wakeup import Wakeup
from protocols.dialogue import Answer, Ask, Deframer, FrameT, Garbled, Silence, make_reply

__all__ = ["Line", "OpenLine", "ParityCheck", "Port", "PortBusy", "PortCounters", "PortLost", "open_line"]

OPEN_LISTEN_S = 0.3
"""How long a port that was just opened only listens: the answer to a question of before it was opened (by us, killed
and restarted, or kept by a serial server) must not meet our first question."""

BABBLE_MAX_S = 2.0
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
    """Times that the inter-byte limit or the time-out ended a frame that had begun."""
    stray_bytes: int = 0
    """Bytes that came while nothing was asked."""
    noisy_starts: int = 0
    """Questions asked although the line had not been quiet for the gap."""


class Port:
    """One line, one question at a time. Not for two tasks: its bus is its one owner."""

    def __init__(self, bus: BusEntry, *, open_line: OpenLine = open_line, now_ms: Callable[[], int]) -> None:
        self.bus = bus
        self.counters = PortCounters()
        self.wakeup = Wakeup()
        """What its owner waits on; whatever ends a wait of the port's own wakes it."""
        self.seen = b""
        """What came in the last exchange, without the echo (bounded)."""
        self.received = 0
        """How many bytes came in the last exchange, with the echo."""
        self.surplus = 0
        """Bytes that came since the last exchange ended; with a whole frame behind the answer, those of the answer."""
        self.began = 0.0
        """Loop time at which the last question began to leave."""
        self.ended = 0.0
        """Loop time at which the last exchange ended."""
        self._open_line = open_line
        self._now_ms = now_ms
        self.parities: dict[SerialSettings, ParityCheck] = {}
        """What Line.parity was with each setting of the line since it was opened: `parity` is that of the last."""
        self._line: Line | None = None
        self._lost: Exception | None = None
        self._settings = bus.serial
        self._last_byte = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._exchange: Exchange | None = None
        self._ends = 0.0
        """Loop time at which the exchange in hand ends without an answer."""
        self._hears_itself: bool | None = None
        """Whether questions come back in front of their answers: once one did, all do, some of them damaged. None
        before that, or an answer with nothing in front, has shown it. A copy of the question that is its right answer
        too counts as one only where this is known not to be so."""
        self._stream: Callable[[bytes], None] | None = None
        self.overheard: Callable[[bytes, float], None] | None = None
        """Told of bytes that come while nothing is asked, and when (loop time), where somebody wants to know."""
        self._told_lost: Callable[[], None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether questions can be asked."""
        return self._line is not None and self._lost is None

    @property
    def ended_by(self) -> str | None:
        """Why the line went away, until it is closed; None while it is there."""
        return str(self._lost) if self._lost is not None else None

    @property
    def parity(self) -> ParityCheck:
        """See Line.parity; `none` while closed."""
        return self._line.parity if self._line is not None else "none"

    async def open(self) -> None:
        """Open the line and listen for a while. Raises PortLost, also when the line goes away while listening."""
        self.close()
        self._loop = asyncio.get_running_loop()
        self._line, self._lost, self._settings = await self._open_line(self.bus), None, self.bus.serial
        self.parities = {self._settings: self._line.parity}
        self._hears_itself = None
        self._last_byte = self._loop.time()
        self.counters.opened += 1
        try:
            self._line.attach(self._receive, self._line_lost)
            await asyncio.sleep(OPEN_LISTEN_S)
            self._checked()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the line; may be called twice."""
        line, self._line, self._lost = self._line, None, None
        self._stream = self._told_lost = None
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
            await line.drained()
            line.apply(settings)
            self._settings = settings
            self.parities[settings] = line.parity
        began = loop.time()
        if self._last_byte + gap_s - began > 1e-9:
            await self.quiet(gap_s)
            line, loop = self._checked()
            began = loop.time()

        counters, now_ms, wakeup = self.counters, self._now_ms, self.wakeup
        exchange = self._exchange = Exchange(
            ask, deframer, character_s=character_s, inter_byte_s=inter_byte_s, loop=loop, wake=wakeup.wake,
            echo=b"" if ask.mirrored and self._hears_itself is False else ask.data,
        )  # fmt: skip
        self.began = began
        sending_s = len(ask.data) * character_s
        sent_at = now_ms() + round(sending_s * 1000)
        self._last_byte = began + sending_s
        ends = self._ends = began + timeout_s
        try:
            line.write(ask.data, sending_s + deframer.missing * character_s)
            counters.sent_bytes += len(ask.data)
            while not exchange.over:
                await wakeup.until(ends)
                if not exchange.over and loop.time() >= ends - 1e-9:
                    exchange.time_out()
        finally:
            exchange.close()
            self._exchange = None
            self.ended = loop.time()
            self.seen, self.received = exchange.seen, exchange.received
            self.surplus = exchange.received if exchange.doubled else 0
            counters.echoes += exchange.echoes
            counters.foreign += exchange.foreign
            counters.expired += exchange.expired
        if exchange.error is not None:
            raise exchange.error
        if exchange.frame is not None:
            counters.replies += 1
            if exchange.echoes:
                self._hears_itself = True
            elif self._hears_itself is None and exchange.received == ask.reply_max and not ask.mirrored:
                self._hears_itself = False
            ended_at = now_ms()
            return make_reply(exchange.frame, min(sent_at, ended_at), ended_at)
        if exchange.seen:
            counters.garbled += 1
            return Garbled(exchange.seen)
        counters.silences += 1
        return Silence()

    def stream(self, receive: Callable[[bytes], None], lost: Callable[[], None]) -> None:
        """For an owner that has several questions on their way: until the port is closed, all that comes goes to
        `receive`, and `lost` is called when the line goes away. It sends with `send`, and never calls `exchange`."""
        self._stream, self._told_lost = receive, lost

    def send(self, data: bytes) -> None:
        """Send without waiting for anything. A line that turns out to be gone is lost, as by itself. Raises PortLost
        where it was before."""
        line, _ = self._checked()
        try:
            line.write(data)
        except PortLost as error:
            self._line_lost(error)
            self.wakeup.wake_soon()
        else:
            self.counters.sent_bytes += len(data)

    async def quiet(self, gap_s: float, *, since: float | None = None) -> bool:
        """Wait until the line has been quiet for the gap, and say whether it has; after BABBLE_MAX_S of babble it has
        not. since: when the waiting began (loop time), if not now. Raises PortLost."""
        _, loop = self._checked()
        give_up = (loop.time() if since is None else since) + BABBLE_MAX_S
        while self._last_byte + gap_s - loop.time() > 1e-9:
            if loop.time() >= give_up:
                self.counters.noisy_starts += 1
                return False
            await self.wakeup.until(self._last_byte + gap_s)
            self._checked()
        return True

    def _checked(self) -> tuple[Line, asyncio.AbstractEventLoop]:
        if self._lost is not None:
            raise PortLost(str(self._lost)) from self._lost
        if self._line is None or self._loop is None:
            raise PortLost(f"{self.bus.port} is not open")
        return self._line, self._loop

    def _receive(self, data: bytes) -> float | None:
        assert self._loop is not None
        now = self._last_byte = self._loop.time()
        self.counters.received_bytes += len(data)
        exchange = self._exchange
        if self._stream is not None:
            self._stream(data)
        elif exchange is None or exchange.over:
            self.counters.stray_bytes += len(data)
            self.surplus += len(data)
            if self.overheard is not None:
                self.overheard(data, self._last_byte)
        else:
            exchange.receive(data, now)
            if exchange.over:
                self.wakeup.wake()
            elif now + (unwanted_s := exchange.unwanted_s) < self._ends:
                return unwanted_s
        return None

    def _line_lost(self, error: Exception) -> None:
        if self._lost is None:
            self._lost = error
            self.counters.lost += 1
        if self._exchange is not None:
            self._exchange.end(PortLost(str(error)))
        if self._told_lost is not None:
            self._told_lost()
        else:
            self.wakeup.wake()
