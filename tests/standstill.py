"""Whether the machine stood still while something was timed: then what a clock says of that is the machine's doing."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

T = TypeVar("T")

LOOK_S: Final = 0.01
TRIES: Final = 5


class Standstill:
    """The longest time for which a thread that wanted to run was not let."""

    longest_s = 0.0


@contextmanager
def watched() -> Iterator[Standstill]:
    """Watches as long as the block lasts."""
    seen, ended = Standstill(), threading.Event()

    def look() -> None:
        before = time.monotonic()
        while not ended.wait(LOOK_S):
            now = time.monotonic()
            seen.longest_s = max(seen.longest_s, now - before - LOOK_S)
            before = now

    thread = threading.Thread(target=look, name="standstill", daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


def undisturbed(run: Callable[[], T], *, shorter_than_s: float) -> T:
    """What came of the first run in which the machine never stood still for so long; of the last of TRIES, if in all
    of them it did."""
    for _ in range(TRIES):
        with watched() as seen:
            result = run()
        if seen.longest_s < shorter_than_s:
            break
    return result
