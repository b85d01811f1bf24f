"""How fast this machine is today: a fixed piece of work, timed, so that absolute figures can be compared.

The reference is the best of several runs on a quiet 2-core x86-64 Linux machine; factor 2.0 means that this machine
takes twice as long now. A scaled figure is the raw one divided by the factor.
"""

import time
from functools import lru_cache

REFERENCE_S = 0.085


def _work() -> int:
    """Integer arithmetic, dictionary and bytes work in the proportions of a decoder."""
    seen: dict[int, int] = {}
    total = 0
    data = bytes(range(256)) * 4
    for index in range(300_000):
        total = (total * 31 + data[index & 1023]) & 0xFFFFFFFF
        seen[total & 4095] = index
        total += len(data[index & 255 : (index & 255) + 8].hex())
    return total + len(seen)


def now() -> float:
    """One run's processor time over the reference: taken beside what it scales, where the machine is shared."""
    began = time.thread_time()
    _work()
    return (time.thread_time() - began) / REFERENCE_S


@lru_cache(maxsize=1)
def factor() -> float:
    """This machine's time for the fixed work over the reference: best of five."""
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        _work()
        best = min(best, time.perf_counter() - start)
    return best / REFERENCE_S
