"""Captures as COPY's text: one line a value, written once, straight from what was decoded.

What all values of a capture share stands at the beginning of each of its lines, in the order of COPY_COLUMNS; a good
number, which nearly every value is, then costs one conversion and one join.
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Final

from central.sinks.base import Arrival
from central.sinks.rows import storable
from protocols.capture import Capture, Quality, Value
from protocols.quantity import Quantity

COPY_COLUMNS: Final = (
    "point", "meter", "stamp", "source", "slot", "read_at", "clock_error_ms", "time_state", "task", "gateway", "epoch",
    "seq", "quantity", "ratio", "value", "text", "quality", "fault", "detail",
)  # fmt: skip
"""The columns of `reading` in the order of a line: those of the capture, then those of the value."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_SPECIAL = re.compile(r"[\\\t\n\r]")
_ESCAPED = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}
_NULL = "\\N"
_GOOD = Quality.GOOD
_GOOD_TAIL = f"\t{_NULL}\tgood\t{_NULL}\t{_NULL}\n"
"""After a good number: no text, its quality, no fault, no detail."""


def moment(ms: int) -> datetime:
    """UTC milliseconds as the database's driver takes them. Raises OverflowError outside of the years 1 to 9999."""
    return _EPOCH + ms * _MS


@lru_cache(maxsize=4096)
def _stamp(ms: int) -> str:
    return moment(ms).isoformat(sep=" ", timespec="milliseconds")


def _cell(text: str | None) -> str:
    """A text that is not ours, as a cell."""
    if text is None:
        return _NULL
    text = storable(text)
    return _SPECIAL.sub(_escape, text) if _SPECIAL.search(text) else text


def _escape(match: re.Match[str]) -> str:
    return _ESCAPED[match[0]]


def copy_lines(captures: Iterable[Capture], arrival: Arrival) -> list[str]:
    """The lines of each capture, joined; in their order. Raises OverflowError for a time that no database holds."""
    origin = f"{_cell(arrival.gateway)}\t{arrival.epoch}\t{arrival.seq}\t"
    heads: dict[tuple[Decimal, Decimal], dict[int, str]] = {}
    found = []
    for capture in captures:
        slot, error = capture.slot, capture.clock_error_ms
        head = (
            f"{_cell(capture.point)}\t{_cell(capture.meter)}\t{_stamp(capture.stamp)}\t{capture.source.value}\t"
            f"{_NULL if slot is None else _stamp(slot)}\t{moment(capture.read_at).isoformat(sep=' ')}\t"
            f"{_NULL if error is None else error}\t{capture.time_state.value}\t{_cell(capture.task)}\t{origin}"
        )
        ratios = (capture.ct, capture.pt)
        names = heads.get(ratios)
        if names is None:
            names = heads[ratios] = {}
        lines = []
        for value in capture.values:
            quantity, number = value.quantity, value.number
            name = names.get(id(quantity)) or names.setdefault(id(quantity), _name(quantity, *ratios))
            if number is not None and value.quality is _GOOD and value.detail is None:
                lines.append(f"{name}{number!s}{_GOOD_TAIL}")
            else:
                lines.append(name + _tail(value))
        found.append(head + head.join(lines))
    return found


def _name(quantity: Quantity, ct: Decimal, pt: Decimal) -> str:
    """The cells that tell the quantity, and the factor of the point's transformers that counts for it."""
    ratio = "1" if ct == 1 and pt == 1 else format(quantity.ratio(ct, pt), "f")
    return f"{_cell(quantity.name)}\t{ratio}\t"


def _tail(value: Value) -> str:
    """The cells of any value, from the number on."""
    number = _NULL if value.number is None else format(value.number, "f")
    text = _cell(value.text if value.time is None else value.time)
    fault = _NULL if value.fault is None else value.fault.value
    return f"{number}\t{text}\t{value.quality.value}\t{fault}\t{_cell(value.detail)}\n"
