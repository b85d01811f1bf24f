"""Group commit: records that come at nearly the same time are committed together, in the order in which they came."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Protocol

from buffer.appending import append
from buffer.errors import OutboxError
from buffer.rows import EventRow, Row
from buffer.store import Store
from buffer.writer import Writer


class Committed(Protocol):
    """Called when a group is durable; given_at: loop time and UTC ms at which its first record was given."""

    def __call__(self, records: int, *, given_at: tuple[float, int]) -> None: ...


class _Group:
    """Records that will be committed together, and those who wait for it."""

    def __init__(self, done: "asyncio.Future[None]", *, given_at: tuple[float, int]) -> None:
        self.given_at = given_at
        self.rows: list[Row] = []
        self.events: list[EventRow] = []
        self.done = done
        self.due = False

    def __len__(self) -> int:
        return len(self.rows) + len(self.events)


class Groups:
    """At any time one group that is open, and one that the writer has."""

    def __init__(
        self, store: Store, writer: Writer, *, now_ms: Callable[[], int], committed: Committed,
        refuse_closed: Callable[[], None],
    ) -> None:  # fmt: skip
        """refuse_closed: raises OutboxError once nothing is taken any more."""
        self._store = store
        self._writer = writer
        self._now_ms = now_ms
        self._told = committed
        self._refuse_closed = refuse_closed
        self._group: _Group | None = None
        self._committing: _Group | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def append(self, rows: list[Row], events: list[EventRow], *, urgent: bool) -> None:
        """Returns when they are durable. Raises OutboxError; then none of them is there.

        Events, and with `urgent` all others, are committed at once; else with their group. A caller that is cancelled
        is so only after the commit.
        """
        while self._pending >= self._store.limits.pending_records:
            self._store.counters["append_waits"] += 1
            await self.flush()
        group = self._open()
        group.rows += rows
        group.events += events
        if urgent or events or len(group) >= self._store.limits.commit_records:
            self._commit()
        try:
            await asyncio.shield(group.done)
        except asyncio.CancelledError:
            if not group.done.done():
                self._commit()
                await asyncio.shield(group.done)
            raise

    async def flush(self) -> None:
        """Commit at once what was given so far. Raises OutboxError if that fails."""
        if self._group is not None:
            self._commit()
        for group in (self._committing, self._group):
            if group is not None:
                await asyncio.shield(group.done)

    @property
    def _pending(self) -> int:
        return sum(len(group) for group in (self._group, self._committing) if group is not None)

    def _open(self) -> _Group:
        self._refuse_closed()
        if self._group is None:
            loop = asyncio.get_running_loop()
            self._group = _Group(loop.create_future(), given_at=(loop.time(), self._now_ms()))
            self._timer = loop.call_later(self._store.limits.commit_delay_s, self._commit)
        return self._group

    def _commit(self) -> None:
        """Hand the open group to the writer; while it has one already, note that this one is due."""
        group = self._group
        if group is None:
            return
        group.due = True
        if self._committing is not None:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._group, self._timer, self._committing = None, None, group
        try:
            self._writer.submit(partial(append, self._store, group.rows, group.events), partial(self._committed, group))
        except OutboxError as error:
            self._committed(group, None, error)

    def _committed(self, group: _Group, _: object, error: BaseException | None) -> None:
        self._committing = None
        if error is None:
            self._told(len(group), given_at=group.given_at)
            group.done.set_result(None)
        else:
            group.done.set_exception(error)
        if self._group is not None and self._group.due:
            self._commit()
