"""This machine's clock, as the commands read it; whatever they run takes the time as an argument."""

import time
from datetime import datetime
from zoneinfo import ZoneInfo


def wall_ms() -> int:
    """UTC milliseconds."""
    return time.time_ns() // 1_000_000


def local(at: int | None, zone: str) -> str:
    """A moment (UTC milliseconds) for people, in the site's zone."""
    return "-" if at is None else f"{datetime.fromtimestamp(at / 1000, ZoneInfo(zone)):%Y-%m-%d %H:%M:%S}"
