"""One question and the wait for its answer: the echo is dropped, frames that answer something else are passed over."""

import asyncio
from collections.abc import Callable
from typing import Any

from protocols.dialogue import Ask, Deframer

SEEN_MAX = 4096
"""Bytes of an exchange that are kept for people and for evidence; the longest right reply is under 400."""


class Exchange:
    """What is known of the question in hand. Bytes go in by `receive`, until it is `over`: with the frame that answers
    it, without any when the time is over, or with an error: whatever the deframer or `ask.accepts` raise that they
    should not. `wake` is called when it is over for a pause in what came.
    """

    __slots__ = (
        "_ask", "_character_s", "_deframer", "_echo", "_inter_byte_s", "_last_byte", "_loop", "_pause", "_wake",
        "doubled", "echoes", "error", "expired", "foreign", "frame", "over", "received", "seen",
    )  # fmt: skip

    def __init__(
        self, ask: Ask[Any], deframer: Deframer[Any], *, character_s: float, inter_byte_s: float,
        loop: asyncio.AbstractEventLoop, wake: Callable[[], None], echo: bytes,
    ) -> None:  # fmt: skip
        """echo: what is dropped in front of the answer, if it comes."""
        self.over = False
        self.frame: Any = None
        self.error: Exception | None = None
        self.seen = b""
        """What came, without the echo of the question; while the echo is not complete, what came of it."""
        self.received = 0
        """Bytes that came, echo included."""
        self.echoes = 0
        self.foreign = 0
        self.expired = 0
        self.doubled = False
        """Whether a frame stood right behind the one that answered."""
        self._ask = ask
        self._character_s = character_s
        self._deframer = deframer
        self._echo = echo
        self._inter_byte_s = inter_byte_s
        self._last_byte = 0.0
        self._loop = loop
        self._pause: asyncio.TimerHandle | None = None
        self._wake = wake

    def receive(self, data: bytes, now: float) -> None:
        """Take bytes as they come, now (loop time)."""
        self.received += len(data)
        self._last_byte = now
        if self._echo:
            data = self._behind_echo(data)
            if not data:
                return
        if len(self.seen) < SEEN_MAX:
            self.seen += data[: SEEN_MAX - len(self.seen)]
        self._look(data)

    @property
    def unwanted_s(self) -> float:
        """Seconds for which nothing that comes can end a frame, nor a pause end one that has begun."""
        if self.over:
            return 0.0
        missing = self._deframer.missing
        if self._echo:  # undecided, and nothing of it given to the deframer yet
            missing = min(missing, len(self._echo)) - len(self.seen)
        return min(missing * self._character_s, self._inter_byte_s / 2)

    def time_out(self) -> None:
        """Nothing more is waited for: look through what is still held back, then give up."""
        if self._echo and self.seen:  # it began like the question, and was something else
            held, self._echo = self.seen, b""
            self._look(held)
        for _ in range(self._deframer.pending):  # each turn drops a byte at least
            if self.over or not self._deframer.pending:
                break
            self.expired += 1
            self._look(None)
        self.over = True

    def end(self, error: Exception) -> None:
        """No answer can come any more."""
        if not self.over:
            self.over, self.error = True, error

    def close(self) -> None:
        """Leave no timer behind."""
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None

    def _behind_echo(self, data: bytes) -> bytes:
        """What came behind the copy of the question, or all of it once it is clear that it is none.

        As long as every byte is that of the question, they are held back in `seen`. A reply never begins with all of
        the question: its control byte or byte count is another.
        """
        data, self.seen = self.seen + data, b""
        if data.startswith(self._echo):
            data = data[len(self._echo) :]
            self._echo = b""
            self.echoes += 1
        elif self._echo.startswith(data):
            self.seen = data
            return b""
        else:
            self._echo = b""
        return data

    def _look(self, data: bytes | None) -> None:
        """Give bytes to the deframer, or None at the inter-byte limit, and take the first frame that answers."""
        deframer = self._deframer
        try:
            for frame in deframer.expire() if data is None else deframer.feed(data):
                if not self.over and self._ask.accepts(frame):
                    self.over, self.frame = True, frame
                else:
                    self.doubled = self.over
                    self.foreign += 1
            if self.over or not deframer.pending:
                return
        except Exception as error:  # a defect of ours: whoever waits for the answer records it
            self.end(error)
            return
        if self._pause is None:
            self._pause = self._loop.call_at(self._last_byte + self._inter_byte_s, self._paused)

    def _paused(self) -> None:
        """The inter-byte limit has passed: unless bytes came meanwhile, the oldest open frame ends here."""
        self._pause = None
        if self.over:
            return
        due = self._last_byte + self._inter_byte_s
        if self._loop.time() < due - 1e-6:
            self._pause = self._loop.call_at(due, self._paused)
            return
        self.expired += 1
        self._look(None)
        if self.over:
            self._wake()
