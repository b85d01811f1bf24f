"""Values a second into the body of a batch and out of it again: pure Python, one core, an hour of the reference load.

The same of meters that serve float32, whose numbers have more digits and no common scale, without a bound.
"""

import time
from collections.abc import Callable, Iterator

from bench import calibrate
from bench.figure import Figure
from bench.uplink import float32_hour
from protocols.batch import decode, encode, held
from protocols.capture import Record
from tests.records import reference_load

RATE_MIN = 300_000


def run() -> Iterator[Figure]:
    """Best of three each, by processor time, each beside the work that says how fast the machine is just then."""
    loads: tuple[tuple[str, list[Record], float | None], ...] = (
        ("reference load", reference_load(), RATE_MIN), ("reference load as float32", float32_hour(), None),
    )  # fmt: skip
    for what, records, at_least in loads:
        body, values = encode(records), sum(map(held, records))
        yield _rate(f"encode: {what}", lambda records=records: encode(records), values, at_least)  # type: ignore[misc]
        yield _rate(f"decode: {what}", lambda body=body: decode(body), values, at_least)  # type: ignore[misc]


def _rate(what: str, work: Callable[[], object], values: int, at_least: float | None) -> Figure:
    seconds = machine = float("inf")
    for _ in range(3):
        machine = min(machine, calibrate.now())
        began = time.thread_time()
        work()
        seconds = min(seconds, time.thread_time() - began)
    raw = values / seconds
    return Figure(bench="body", what=what, figure=raw * machine, unit="values/s", at_least=at_least, raw=raw,
                  machine=machine)  # fmt: skip
