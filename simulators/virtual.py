"""A loop whose clock jumps to the next deadline: a month of polling in seconds, the same on every machine.

Nothing ever waits. When no callback is ready, time moves to the earliest timer; when there is no timer either, nobody
could ever go on, and that is a `Deadlock`. There are no file descriptors and no threads in virtual time: ports are
`simulators.wire.MemoryLine`, sessions live in memory, the outbox writes inline.
"""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

RESOLUTION_S = 1e-9
"""Timers this close together fire in one turn. Ten times the rounding of a float after four months of seconds."""


class Deadlock(RuntimeError):
    """Every task waits for something, and no timer is left that could wake one of them."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """An asyncio loop in virtual time. Loop time starts at 0.0; `now_ms` is UTC milliseconds from start_ms on."""

    def __init__(self, *, start_ms: int) -> None:
        self._now_s = 0.0
        self._start_ms = start_ms
        super().__init__(_Jump(self))
        self._clock_resolution = RESOLUTION_S

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._now_s

    def now_ms(self) -> int:
        """Virtual UTC milliseconds, rounded down; a microsecond is added so that a timer for an instant reaches it."""
        return self._start_ms + int(self._now_s * 1000 + 1e-3)

    def jump(self, seconds: float) -> None:
        """Move the clock on."""
        self._now_s += seconds


class _Jump(selectors.SelectSelector):
    """A selector that never waits: being asked to wait moves the clock of its loop by just so much."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        if self.get_map():  # the first is the pipe with which a loop wakes itself
            raise RuntimeError(f"virtual time waits for no file descriptor, got {fileobj!r}")
        return super().register(fileobj, events, data)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            waiting = sorted(task.get_name() for task in asyncio.all_tasks(self._loop))
            raise Deadlock(f"nothing is scheduled, and these wait for ever: {', '.join(waiting) or 'no task'}")
        if timeout > 0:
            self._loop.jump(timeout)
        return []


def now_ms() -> int:
    """The clock of the running virtual loop, in UTC milliseconds. Pass it wherever a `now_ms` is asked for."""
    loop = asyncio.get_running_loop()
    if not isinstance(loop, VirtualLoop):
        raise TypeError(f"expected to run on a VirtualLoop, got {type(loop).__name__}")
    return loop.now_ms()


def run(main: Coroutine[Any, Any, T], *, start_ms: int) -> T:
    """Run `main` to its end in virtual time that begins at start_ms. Raises Deadlock when it could never end."""
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(start_ms=start_ms)) as runner:
        return runner.run(main)
