"""This machine's clock, as the commands read it; whatever they run takes the time as an argument."""

import time


def wall_ms() -> int:
    """UTC milliseconds."""
    return time.time_ns() // 1_000_000
