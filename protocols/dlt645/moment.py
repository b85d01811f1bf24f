"""Dates and times of a meter: pairs of digits to ISO text and back, with unknown parts (FF) left out.

`2023-01-01T12:00`, `2023-01-01T12`, `2023-01`, `18:53:32`; without a year `--01-01T12:00` (ISO 8601:2000). Two-digit
years are of this century. The names of parts: YY MM DD WW (weekday, 0 = Sunday) hh mm ss.
"""

from collections.abc import Mapping
from datetime import date
from functools import lru_cache
from itertools import takewhile

Parts = dict[str, int | None]
"""Name of a part to its number; None when the meter does not know it."""

_LIMITS = {"YY": (0, 99), "MM": (1, 12), "DD": (1, 31), "WW": (0, 7), "hh": (0, 23), "mm": (0, 59), "ss": (0, 59)}
_CLOCK = ("hh", "mm", "ss")


def split(text: str, order: str) -> Parts | None:
    """The parts of digits that stand in this order (`YYMMDDhhmm`); None when one of them cannot be."""
    found: Parts = {}
    for at in range(0, len(order), 2):
        name, digits = order[at : at + 2], text[at : at + 2]
        low, high = _LIMITS[name]
        if digits == "FF":
            found[name] = None
        elif digits.isdecimal() and low <= int(digits) <= high:
            found[name] = int(digits)
        else:
            return None
    return found


@lru_cache(maxsize=4096)  # the time of a demand stays for days, and is read each quarter of an hour
def read(text: str, order: str) -> tuple[str | None, int | None]:
    """ISO text of digits that stand in this order, None when they are no time; and the weekday, where it is known."""
    found = split(text, order)
    return (None, None) if found is None else (iso(found), found.get("WW"))


def join(found: Mapping[str, int | None], order: str) -> str:
    """The digits of the parts in this order, FF for one that is not there. Raises ValueError for one that cannot be."""
    text = ""
    for at in range(0, len(order), 2):
        part = found.get(order[at : at + 2])
        text += "FF" if part is None else f"{part:02d}"
    if split(text, order) is None:
        raise ValueError(f"expected a time as {order}, got {text}")
    return text


def iso(found: Mapping[str, int | None]) -> str | None:
    """ISO text of the parts; None when there is no such day, or something is known behind something unknown."""
    clock = [found[name] for name in _CLOCK if name in found]
    known = list(takewhile(lambda part: part is not None, clock))
    if any(part is not None for part in clock[len(known) :]):
        return None
    time = ":".join(f"{part:02d}" for part in known)
    if "DD" not in found:
        return time or None
    year, month, day = found.get("YY"), found["MM"], found["DD"]
    if month is None or day is None:
        if known or year is None or day is not None:
            return None
        return f"{2000 + year}" + (f"-{month:02d}" if month is not None else "")
    try:
        date(2000 + (year or 0), month, day)
    except ValueError:
        return None
    return (f"{2000 + year}" if year is not None else "-") + f"-{month:02d}-{day:02d}" + (f"T{time}" if time else "")


def parts_of(text: str) -> Parts:
    """The parts of ISO text as `iso` writes it. Raises ValueError for anything else."""
    days, _, time = text.partition("T")
    if not time and (":" in days or len(days) == 2):
        days, time = "", days
    found: Parts = {}
    names = ["YY", "MM", "DD"]
    if days.startswith("--"):
        names, days = names[1:], days[2:]
    numbers = [*zip(names, days.split("-"), strict=False), *zip(_CLOCK, time.split(":"), strict=False)]
    for name, digits in numbers:
        if digits:
            found[name] = int(digits) - (2000 if name == "YY" else 0)
    if iso({"MM": None, "DD": None, **found} if days else found) != text:
        raise ValueError(f"expected ISO text such as 2023-01-01T12:00, got {text!r}")
    return found
