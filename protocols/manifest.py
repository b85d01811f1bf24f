"""A day's account, meter by meter: what was planned, what came of it, and a sum over every value.

Both sides make it of what they have: the gateway of what it accepted, the centre of its table. The sum is over hashes
of the values, each with its key, so it does not depend on any order, and a value that is missing, changed or there
twice under other keys changes it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Self

import cbor2

from protocols import cbor
from protocols.cbor import Fields

VERSION: Final = 1
METERS_MAX: Final = 64
"""Meters in one part: some 4 KB sealed, so that an event never waits behind a longer message."""
PARTS_MAX: Final = 1024
TASKS_MAX: Final = 256
SUM_BYTES: Final = 8
SUM_BELOW: Final = 1 << 8 * SUM_BYTES


Share = tuple[tuple[str, tuple[str, ...]], ...]
"""What one part of an account tells of: meters, and of each all its tasks or some of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskDay:
    """A task of a meter: its slots of the day, those with a capture, those that ended as gaps."""

    task: str
    planned: int
    captured: int
    gaps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterDay:
    """A meter: how many values there are for instants of the day, the sum over them (`term`), and its tasks."""

    meter: str
    values: int
    total: int
    tasks: tuple[TaskDay, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DayPart:
    """Part `part` (from 0) of `parts` of the account of a day: the body of a sealed message of kind MANIFEST.

    since, until: the day, UTC milliseconds. cut: only what was read before it is counted.
    """

    since: int
    until: int
    cut: int
    part: int
    parts: int
    meters: tuple[MeterDay, ...]

    def encode(self) -> bytes:
        meters = [
            [m.meter, m.values, m.total.to_bytes(SUM_BYTES, "big"),
             [[t.task, t.planned, t.captured, t.gaps] for t in m.tasks]]
            for m in self.meters
        ]  # fmt: skip
        return cbor2.dumps([VERSION, self.since, self.until, self.cut, self.part, self.parts, meters])

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Raises Malformed."""
        fields = Fields("manifest body", cbor.read(body), 7)
        fields.integer("version", VERSION, VERSION)
        return cls(
            since=fields.integer("since"), until=fields.integer("until"), cut=fields.integer("cut"),
            part=fields.integer("part", 0, PARTS_MAX - 1), parts=fields.integer("parts", 1, PARTS_MAX),
            meters=tuple(map(_meter, fields.array("meters", METERS_MAX))),
        )  # fmt: skip


def _meter(item: object) -> MeterDay:
    fields = Fields("meter's day", item, 4)
    return MeterDay(
        meter=fields.text("meter"), values=fields.integer("values"),
        total=int.from_bytes(fields.octets("total", SUM_BYTES, SUM_BYTES), "big"),
        tasks=tuple(map(_task, fields.array("tasks", TASKS_MAX))),
    )  # fmt: skip


def _task(item: object) -> TaskDay:
    fields = Fields("task's day", item, 4)
    return TaskDay(task=fields.text("task"), planned=fields.integer("planned"), captured=fields.integer("captured"),
                   gaps=fields.integer("gaps"))  # fmt: skip


_TEXT, _COUNT, _TIME, _LIST = 3, 5, 9, 3
"""Bytes that a text takes besides its own, a count, a time and the head of a list, at most."""
_HEAD = 2 + 3 * _TIME + 2 * _COUNT + _LIST
_METER, _TASK = 1 + _TEXT + _COUNT + 1 + SUM_BYTES + _LIST, 1 + _TEXT + 3 * _COUNT


def shares(meters: Sequence[tuple[str, Sequence[str]]], bytes_max: int) -> tuple[Share, ...]:
    """How an account of these meters and their tasks is parted, so that no part's body is longer than `bytes_max`.

    It is the same whatever the figures are, as a part is known by its number. A meter of many tasks may come in several
    parts, with all its values and their sum in each. A task that is too long by itself has a part of its own. Without
    meters there is one part.
    """
    parts: list[dict[str, list[str]]] = [{}]
    size = _HEAD
    for meter, tasks in meters:
        begins = _METER + len(meter.encode())
        for task in tasks or (None,):
            part = parts[-1]
            adds = 0 if task is None else _TASK + len(task.encode())
            full = meter not in part and len(part) == METERS_MAX
            if part and (full or size + adds + (0 if meter in part else begins) > bytes_max):
                parts.append(part := {})
                size = _HEAD
            size += adds + (0 if meter in part else begins)
            part.setdefault(meter, []).extend([] if task is None else [task])
    return tuple(tuple((meter, tuple(tasks)) for meter, tasks in part.items()) for part in parts)


def term(quantity: str, stamp: int, source: str, plain: str) -> int:
    """What a value adds to its meter's sum (modulo 2^64): the first 8 bytes of a SHA-256.

    plain: the value as text. Equal numbers count as equal, however they are spelt: 230.0 is 230.
    """
    if "." in plain:
        plain = plain.rstrip("0").rstrip(".")
    if plain == "-0":
        plain = "0"
    told = f"{quantity}\n{stamp}\n{source}\n{plain}".replace("\0", "\N{SYMBOL FOR NULL}")
    return int.from_bytes(sha256(told.encode()).digest()[:SUM_BYTES], "big")
