"""Who does the work that may wait for a disk: one writer thread, or the caller itself (tests, virtual time)."""

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Literal, Protocol, TypeVar

from buffer.errors import StoreFailed

T = TypeVar("T")
Done = Callable[[Any, BaseException | None], None]

JOBS_MAX: Final = 64
"""Jobs handed over and not finished. Each but the group commit has a caller that waits, so a handful is usual; this
many mean that callers multiply while the disk stands still."""


class Writer(Protocol):
    """Runs jobs one after another, in the order they were handed over, and says when each is done."""

    def submit(self, work: Callable[[], T], done: Callable[[Any, BaseException | None], None]) -> None:
        """Run `work`, then call `done(result, error)` on the event loop's thread."""
        ...

    async def stop(self) -> None:
        """Finish what was handed over, and take no more."""
        ...


class InlineWriter:
    """Does each job at once, on the thread of the caller."""

    def submit(self, work: Callable[[], T], done: Done) -> None:
        """As the protocol says."""
        try:
            result = work()
        except Exception as error:
            done(None, error)
        else:
            done(result, None)

    async def stop(self) -> None:
        """Nothing is ever left to do."""


class ThreadWriter:
    """One thread, so that the event loop never waits for a sync."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="outbox")
        self._jobs = 0

    def submit(self, work: Callable[[], T], done: Done) -> None:
        """As the protocol says. Raises StoreFailed when JOBS_MAX jobs wait already."""
        if self._jobs >= JOBS_MAX:
            raise StoreFailed(f"{self._jobs} jobs wait for the disk; nothing more is taken until it answers")
        self._jobs += 1
        loop = asyncio.get_running_loop()

        def report(result: Any, error: BaseException | None) -> None:
            self._jobs -= 1
            done(result, error)

        def run() -> None:
            result, failure = None, None
            try:
                result = work()
            except Exception as error:
                failure = error
            # A loop that was closed without close() has nobody left who waits for the answer.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(report, result, failure)

        self._pool.submit(run)

    async def stop(self) -> None:
        """As the protocol says."""
        await asyncio.get_running_loop().run_in_executor(None, self._pool.shutdown)


def make_writer(kind: Literal["thread", "inline"]) -> Writer:
    """The writer that `Outbox.open(writer=...)` names."""
    return ThreadWriter() if kind == "thread" else InlineWriter()
