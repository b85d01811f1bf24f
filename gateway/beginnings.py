"""Where a series begins: its first planned slot, kept until the store has a capture or a gap of the series.

A gateway that dies before a new meter's first answer is committed finds, at its next start, no slot to count from: what
was planned in its first life would be missing without a word. So the first slot is noted before it is asked.
"""

import asyncio
import json
import logging
from collections.abc import Mapping
from typing import Protocol

from buffer.errors import StoreAway

log = logging.getLogger(__name__)

FACT = "schedule.beginnings"
"""The fact under which first slots are kept: by task, by meter, UTC milliseconds."""
AWAY_PAUSE_S = 10.0
"""How long to wait before a full disk is tried again: with it, nothing could be accepted anyway."""

Key = tuple[str, str]
"""Meter and task."""


class FactBook(Protocol):
    """Small things that the outbox keeps."""

    def fact(self, name: str) -> str | None: ...
    async def set_fact(self, name: str, value: str) -> None: ...


class Beginnings:
    """The first slots of series of which the store has nothing yet."""

    def __init__(self, book: FactBook) -> None:
        self._book = book
        self._first: dict[Key, int] = {}

    async def note(self, planned: Mapping[Key, int]) -> None:
        """Keep, durably, where each of these series begins; one that has begun before keeps its beginning.

        planned: all series of which the store has nothing, with the slot in force at the start. Waits while the disk
        is full. Raises OutboxError.
        """
        said = self._book.fact(FACT) or "{}"
        before = {(meter, task): slot for task, firsts in json.loads(said).items() for meter, slot in firsts.items()}
        self._first = {key: before.get(key, slot) for key, slot in planned.items()}
        by_task: dict[str, dict[str, int]] = {}
        for (meter, task), slot in self._first.items():
            by_task.setdefault(task, {})[meter] = slot
        text = json.dumps(by_task, ensure_ascii=False, separators=(",", ":"))
        while text != said:
            try:
                await self._book.set_fact(FACT, text)
                return
            except StoreAway as error:
                log.error("store away detail=%r", str(error))  # noqa: TRY400
                await asyncio.sleep(AWAY_PAUSE_S)

    def first(self, meter: str, task: str) -> int | None:
        """The first planned slot of a series that the store has nothing of; None where it has."""
        return self._first.get((meter, task))
