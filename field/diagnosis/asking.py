"""A line asked by hand: one question at a time, and everything that comes is kept, with its time.

A bus passes over what answers nothing; who diagnoses one looks for just that. Frames are found afterwards
(`field.diagnosis.hearing`), so that nothing of what came is lost in between.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from config.model import BusEntry, SerialSettings
from drivers.line import Line, OpenLine, ParityCheck, PortLost
from drivers.port import open_line

QUIET_S_MAX = 2.0
"""How long a question waits for a line that never falls quiet, before it is asked into the noise."""

KEPT_MAX = 64 * 1024
"""Bytes that are kept of one listening; a babbling line at 115200 baud brings them in some 6 s."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Bytes as they came together. at: loop time in seconds."""

    at: float
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """A question, and all that came until the listening ended. Loop times in seconds.

    sent: the question; empty when nothing was asked. sent_at: when its last byte left. ended_at: when the listening
    ended. before: what came after the listening before this one had ended, and before this question.
    """

    sent: bytes
    sent_at: float
    chunks: tuple[Chunk, ...]
    ended_at: float
    before: tuple[Chunk, ...] = ()


Until = Callable[[float, Sequence[Chunk]], float]
"""Until when to listen (loop time), from when the question has left and what came so far: asked anew at each chunk."""


class Asker:
    """One open line. Not for two tasks. `open` and `ask` raise PortLost (PortBusy) when the line cannot be had."""

    def __init__(self, line: Line, settings: SerialSettings) -> None:
        self._line = line
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._chunks: list[Chunk] = []
        self._kept = 0
        self._last_byte = self._loop.time()
        self._lost: Exception | None = None
        self._came = asyncio.Event()
        line.attach(self._receive, self._line_lost)

    @classmethod
    async def open(cls, bus: BusEntry, open_line: OpenLine = open_line) -> "Asker":
        """Open the bus's line with the bus's settings."""
        return cls(await open_line(bus), bus.serial)

    @property
    def parity(self) -> ParityCheck:
        """See Line.parity."""
        return self._line.parity

    def close(self) -> None:
        """Let go of the line."""
        self._line.close()

    async def listen(self, for_s: float) -> Heard:
        """Ask nothing, and keep what comes."""
        began = self._loop.time()
        await self._until(began, lambda sent_at, _: sent_at + for_s)
        return Heard(sent=b"", sent_at=began, chunks=self._taken(), ended_at=self._loop.time())

    async def ask(
        self, data: bytes, until: Until, *, settings: SerialSettings, gap_s: float, character_s: float,
        quiet_s_max: float = QUIET_S_MAX,
    ) -> Heard:  # fmt: skip
        """Ask once the line has been quiet for gap_s, or after quiet_s_max, and keep what comes for as long as `until`
        says.

        character_s: seconds that a character takes on the wire, 0 where there is none to speak of."""
        if settings != self._settings:
            await self._line.drained()
            self._line.apply(settings)
            self._settings = settings
        await self._quiet(gap_s, quiet_s_max)
        before = self._taken()
        self._check()
        self._line.write(data)
        sent_at = self._last_byte = self._loop.time() + len(data) * character_s
        await self._until(sent_at, until)
        return Heard(sent=data, sent_at=sent_at, chunks=self._taken(), ended_at=self._loop.time(), before=before)

    async def _quiet(self, gap_s: float, quiet_s_max: float) -> None:
        give_up = self._loop.time() + quiet_s_max
        while (left := self._last_byte + gap_s - self._loop.time()) > 1e-9:
            if self._loop.time() >= give_up:
                return
            await asyncio.sleep(min(left, quiet_s_max))

    async def _until(self, began: float, until: Until) -> None:
        while True:
            self._check()
            self._came.clear()
            left = until(began, self._chunks) - self._loop.time()
            if left <= 1e-9:
                return
            try:
                async with asyncio.timeout(left):
                    await self._came.wait()
            except TimeoutError:
                continue

    def _taken(self) -> tuple[Chunk, ...]:
        chunks, self._chunks, self._kept = tuple(self._chunks), [], 0
        return chunks

    def _check(self) -> None:
        if self._lost is not None:
            raise PortLost(str(self._lost)) from self._lost

    def _receive(self, data: bytes) -> None:
        self._last_byte = self._loop.time()
        if self._kept < KEPT_MAX:
            self._chunks.append(Chunk(self._last_byte, data))
            self._kept += len(data)
        self._came.set()

    def _line_lost(self, error: Exception) -> None:
        self._lost = error
        self._came.set()
