"""Records as rows of the central tables: the same columns, in the same order, for every database."""

import json
from collections.abc import Iterable
from decimal import Decimal

from central.sinks.base import Arrival
from protocols.capture import Capture, Event, Quality

READING_COLUMNS = (
    "point", "meter", "quantity", "stamp", "source", "value", "text", "quality", "fault", "detail", "ratio", "slot",
    "read_at", "clock_error_ms", "time_state", "task", "gateway", "epoch", "seq",
)  # fmt: skip
KEY_COLUMNS = ("meter", "stamp", "quantity", "source")
"""What there is one reading of."""
TIME_COLUMNS = ("stamp", "slot", "read_at")

ReadingTuple = tuple[
    str, str, str, int, str, str | None, str | None, str, str | None, str | None, str, int | None, int, int | None, str,
    str, str, int, int,
]  # fmt: skip
"""The columns above; value and ratio as plain decimal text, times as UTC milliseconds."""


def reading_rows(captures: Iterable[Capture], arrival: Arrival) -> list[ReadingTuple]:
    """One row a value, in the order of READING_COLUMNS."""
    gateway, epoch, seq = arrival.gateway, arrival.epoch, arrival.seq
    rows: list[ReadingTuple] = []
    for capture in captures:
        meter, point, task = storable(capture.meter), storable(capture.point), storable(capture.task)
        stamp, slot, read_at = capture.stamp, capture.slot, capture.read_at
        clock_error, source, time_state = capture.clock_error_ms, capture.source.value, capture.time_state.value
        ct, pt = capture.ct, capture.pt
        primary = ct == 1 and pt == 1
        for value in capture.values:
            quantity = value.quantity
            number, text = value.number, value.text if value.time is None else value.time
            rows.append((
                point, meter, quantity.name, stamp, source,
                None if number is None else format(number, "f"),
                None if text is None else storable(text),
                "good" if value.quality is Quality.GOOD else value.quality.value,
                None if value.fault is None else value.fault.value,
                None if value.detail is None else storable(value.detail),
                "1" if primary else format(quantity.ratio(ct, pt), "f"),
                slot, read_at, clock_error, time_state, task, gateway, epoch, seq,
            ))  # fmt: skip
    return rows


def storable(text: str) -> str:
    """The text with NUL characters made visible: PostgreSQL holds none, and both databases shall hold the same."""
    return text.replace("\0", "\N{SYMBOL FOR NULL}") if "\0" in text else text


def event_detail(event: Event) -> str:
    """The detail of an event as JSON, always in the same spelling."""
    return storable(json.dumps(dict(event.detail), ensure_ascii=False, sort_keys=True, separators=(",", ":")))


def same_value(a: str | None, b: str | None) -> bool:
    """Whether two plain decimals are the same number: 230.0 is 230.00."""
    if a is None or b is None or a == b:
        return a == b
    return Decimal(a) == Decimal(b)
