"""A job: one dialogue with one meter, and the lane that it waits in."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

from drivers.meter import Meter
from drivers.outcome import Outcome
from protocols.dialogue import Dialogue


class Lane(IntEnum):
    """Which job begins first; the urgent ones, that somebody waits for, before all others, and of these none starves. A
    reading that has begun goes on before others begin, the interrupting lanes apart."""

    CONTROL = 0
    READ_NOW = 1
    EVENT = 2
    PRIORITY = 3
    BILLING = 4
    CURVE = 5
    BACKFILL = 6


URGENT: Final = (Lane.CONTROL, Lane.READ_NOW)
"""The next frame is theirs, whatever else waits; also one to a meter that is taken for silent."""

INTERRUPTING: Final = (*URGENT, Lane.EVENT)
"""Their frames come between those of a reading that has begun: what happened is to be known before a curve is whole."""


@dataclass(
    slots=True, kw_only=True, eq=False
)  # frozen ones take three times as long to make, and each question has one
class Job:
    """One dialogue with one meter; not changed after it is made.

    dialogue makes a fresh one at each call (a job may have to start over). deadline is loop time in seconds: what is
    not answered by then is not asked any more. done is called exactly once; what it raises ends the bus task.
    """

    meter: Meter
    dialogue: Callable[[], Dialogue[Any]]
    lane: Lane
    deadline: float
    done: Callable[[Outcome], None]
    name: str = ""
