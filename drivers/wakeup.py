"""How the task of a bus waits: for an answer, for a silence to pass, for work.

A task that waits for an asyncio future goes on in the next turn of the loop, one system call and a timer's handling
later. This one goes on inside the very call that wakes it: what is read from the line is dealt with at once, and the
next question is on its way. At a thousand reads a second that is a third of the processor time.
"""

import asyncio
from collections.abc import Callable, Generator
from contextvars import Context
from typing import Any

NEVER = float("inf")


class Wakeup:
    """Wakes the one task that waits here: `await wakeup.until(when)`.

    A wait may end early, and does when it was woken before it began: whoever waits looks again. Everything is called
    from the loop's thread. To asyncio it is a future like any other (see `asyncio.isfuture`), so a task that waits
    here can be cancelled.
    """

    __slots__ = ("_asyncio_future_blocking", "_cancelled", "_due", "_go_on", "_loop", "_soon", "_timers", "_woken")

    def __init__(self) -> None:
        self._asyncio_future_blocking = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._go_on: Callable[[Any], object] | None = None
        """Takes the waiting task on; None while nobody waits."""
        self._woken = False
        self._cancelled = False
        self._soon = False
        """Whether it is to be woken in the next turn of the loop."""
        self._due = NEVER
        self._timers: list[tuple[float, asyncio.TimerHandle]] = []
        """At most two, each with its time, the later one first. A time-out that did not strike is left where it is and
        serves the next wait: timers that are made and cancelled for each question cost more than all that waits for
        them."""

    def until(self, when: float) -> "Wakeup":
        """To be awaited: until woken, or until then (loop time in seconds; infinity: until woken)."""
        timers = self._timers
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        self._due = when
        if when < (timers[-1][0] if timers else NEVER):
            if len(timers) > 1:
                timers.pop()[1].cancel()
            timers.append((when, self._loop.call_at(when, self._struck, when)))
        return self

    def wake(self) -> None:
        """Let the task go on, now: for callbacks of the loop that have nothing left to do themselves."""
        if self._go_on is None:
            self._woken = True
        elif asyncio.current_task(self._loop) is None:
            self._go()
        else:  # called by another task, in whose midst this one cannot run
            self.wake_soon()

    def wake_soon(self) -> None:
        """Let the task go on in the next turn of the loop: for whoever has more to do first."""
        if self._go_on is None:
            self._woken = True
        elif not self._soon:
            assert self._loop is not None
            self._soon = True
            self._loop.call_soon(self._go)

    def close(self) -> None:
        """Leave no timer behind, and be ready for another loop."""
        while self._timers:
            self._timers.pop()[1].cancel()
        self._loop, self._due, self._woken = None, NEVER, False

    def _struck(self, when: float) -> None:
        self._timers[:] = [timer for timer in self._timers if timer[0] != when]
        due = self._due
        assert self._loop is not None
        if due <= self._loop.time() + 1e-9:
            self.wake()
        elif due < NEVER:
            self.until(due)

    def _go(self) -> None:
        self._soon = False
        if (go_on := self._go_on) is not None:
            self._go_on = None
            go_on(self)

    # What asyncio asks of a future.

    def __await__(self) -> Generator["Wakeup", None, None]:
        if not self._woken:
            self._asyncio_future_blocking = True
            yield self
        self._woken = False
        self._due = NEVER

    def add_done_callback(self, go_on: Callable[[Any], object], *, context: Context | None = None) -> None:
        """Called by the task as it begins to wait."""
        assert self._go_on is None, "one task waits here"
        self._go_on = go_on

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The loop of the task."""
        assert self._loop is not None
        return self._loop

    def result(self) -> None:
        """Called by the task as it goes on. Raises CancelledError when it was cancelled."""
        if self._cancelled:
            self._cancelled = False
            raise asyncio.CancelledError

    def cancel(self, msg: Any = None) -> bool:
        """Called by the task when it is cancelled: it goes on in the next turn of the loop."""
        self._cancelled = True
        self.wake_soon()
        return True
