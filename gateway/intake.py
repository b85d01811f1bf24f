"""From the buses into the outbox: what has gathered is appended together, and only then shown to the observer."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from buffer.errors import StoreAway, StoreFull
from buffer.outbox import Outbox
from protocols.capture import Capture, Event, Gap, Record

log = logging.getLogger(__name__)

GATHERED_MAX = 4096
"""Records that may wait for the store. With that many nothing new is asked; the slots become gaps later."""
AWAY_PAUSE_S = 10.0
"""How long to wait before a disk that is full, or fails, is tried again."""

Observer = Callable[[Sequence[Record]], None]
"""Called with the records of an append that has returned."""


@dataclass(slots=True)
class IntakeCounters:
    """What was accepted: committed in the store."""

    captures: int = 0
    gaps: int = 0
    events: int = 0
    store_full: int = 0
    """Appends that found the disk full and were tried again."""
    store_failed: int = 0
    """Appends that the disk failed, or that found it read-only, and were tried again."""


class Intake:
    """Takes records from callbacks that cannot wait, and appends them in the order in which they came.

    The list here is not a second queue: it holds what came during the commit before, some tens of records.
    """

    def __init__(self, outbox: Outbox, observer: Observer | None = None) -> None:
        self.counters = IntakeCounters()
        self._outbox = outbox
        self._observer = observer
        self._gathered: list[Record] = []
        self._giving = 0
        """How many the store is being given."""
        self._urgent = True  # what comes first after a start is committed at once: it shows that the whole way works
        self._more = asyncio.Event()
        self._appending = asyncio.Lock()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def full(self) -> bool:
        """Whether so much waits for the store that nothing new should be asked."""
        return len(self._gathered) >= GATHERED_MAX

    @property
    def waiting(self) -> int:
        """Records in memory alone: the store is busy with those before, or away."""
        return self._giving + len(self._gathered)

    @property
    def idle(self) -> bool:
        """Whether all that was added has been accepted."""
        return self._idle.is_set()

    def add(self, record: Record, *, urgent: bool = False) -> None:
        """Have the record appended soon; an urgent one, and every event, at once."""
        self._gathered.append(record)
        self._urgent = self._urgent or urgent or isinstance(record, Event)
        self._idle.clear()
        self._more.set()

    async def accept(self, records: Sequence[Record], *, urgent: bool = False) -> None:
        """Append records; returns when they are committed. A store that is away is waited for. Raises OutboxError."""
        while True:
            try:
                await self._outbox.append(records, urgent=urgent)
                break
            except StoreAway as error:
                full = isinstance(error, StoreFull)
                self.counters.store_full += full
                self.counters.store_failed += not full
                log.error("store away records=%d detail=%r", len(records), str(error))  # noqa: TRY400
                await asyncio.sleep(AWAY_PAUSE_S)
        for record in records:
            if isinstance(record, Capture):
                self.counters.captures += 1
            elif isinstance(record, Gap):
                self.counters.gaps += 1
            else:
                self.counters.events += 1
        if self._observer is not None:
            self._observer(records)

    async def run(self) -> None:
        """Append what gathers, for ever. Raises OutboxError."""
        while True:
            await self._more.wait()
            await self.flush()

    async def flush(self) -> None:
        """Append what has gathered until now; returns when it is committed."""
        async with self._appending:  # one after the other: the order of a meter's slots is kept
            self._more.clear()
            while self._gathered:
                records, self._gathered = self._gathered, []
                urgent, self._urgent = self._urgent, False
                self._giving = len(records)
                await self.accept(records, urgent=urgent)
                self._giving = 0
            self._idle.set()
