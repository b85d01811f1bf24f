"""Outbox: what it accepted stays until the centre says, signed, that it has committed it.

`append` returns after COMMIT. `seal` makes batches of the rows, `offers` gives them out to be sent, a receipt settles
them. All writing is done by one writer; what only looks never waits for a sync, and, called through `beside`, does not
hold up the event loop while the disk hangs. One outbox belongs to one event loop.
"""

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence, Set
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Final, Literal, Self, TypeVar

import apsw

from buffer import account, recovery, rekey, retention, sealing, settling
from buffer.ages import Ages
from buffer.errors import OutboxError, StoreDamaged
from buffer.groups import Groups
from buffer.opening import hold, open_sound
from buffer.reader import Reader
from buffer.rows import GAP, PLANNED, EventRow, Row, to_row
from buffer.sealing import Encrypt
from buffer.sqlite import integers, open_reader, open_store, translated
from buffer.store import OpenStore, Store
from buffer.words import KeyEntry, Limits, RecordClass, Sealed, Settled, Unsealed
from buffer.writer import Writer, make_writer
from protocols.capture import Record
from protocols.messages import Receipt

T = TypeVar("T")

_NO_CLASSES: Final[Mapping[str, RecordClass]] = MappingProxyType({})
VOIDED_MAX: Final = 1024
"""Voided numbers told in one hello."""


class Outbox:
    """The store of one gateway, open. Made by `Outbox.open`; an async context manager that closes it."""

    def __init__(
        self, directory: Path, store: Store, *, gateway: str, now_ms: Callable[[], int], damage: Sequence[str],
        writer: Literal["thread", "inline"], lock: int,
    ) -> None:  # fmt: skip
        self.gateway = gateway
        self.directory = directory
        self.damage = list(damage)
        """What was found wrong with the files at opening, for people; empty when all was well."""
        self.more = asyncio.Event()
        """Set when there is something to seal or to send. Whoever waits for it clears it."""
        self._store = store
        self._now_ms = now_ms
        self._inline = writer == "inline"
        self._writer = make_writer(writer)
        self._lock = lock
        self._reader = Reader(store)
        self._beside = make_writer(writer)
        """Looks into the store beside the event loop."""
        self._groups = Groups(
            store, self._writer, now_ms=now_ms, committed=self._committed, refuse_closed=self._refuse_closed
        )
        self._ages = Ages(store.standing.unsealed, now_ms=now_ms())
        self._closed = False
        self._marked_at: float | None = None
        if store.standing.unsealed or store.standing.requeued or store.standing.batches:
            self.more.set()

    @classmethod
    def open(
        cls, directory: Path, *, gateway: str, random: Callable[[int], bytes], now_ms: Callable[[], int],
        writer: Literal["thread", "inline"] = "thread", vfs: str | None = None, limits: Limits = Limits(),  # noqa: B008
        classes: Mapping[str, RecordClass] = _NO_CLASSES, opener: OpenStore = open_store, spare: Path | None = None,
    ) -> "Outbox":  # fmt: skip
        """Open or make the store in `directory` and begin a new epoch.

        `classes` says of each task as what its records are kept; others that are new are bulk. A damaged file is set
        aside, salvaged, and named in `damage`. `spare`: a directory on another disk, where the store goes on when this
        one fails. `vfs` and `opener` are for the crash tests.
        Raises OutboxError: StoreBusy while another process has it, StoreForeign for a newer version's file.
        """
        lock = hold(directory, spare=spare)
        try:
            store, damage = open_sound(directory, spare=spare, random=random, now_ms=now_ms, vfs=vfs, limits=limits,
                                       classes=classes, opener=opener)  # fmt: skip
            return cls(directory, store, gateway=gateway, now_ms=now_ms, damage=damage, writer=writer, lock=lock)
        except BaseException:
            os.close(lock)
            raise

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Commit what was given, note the orderly stop, and let the store go."""
        if self._closed:
            return
        try:
            try:
                await self.flush()
            finally:
                # Before the writer's connection: the last one to close takes the WAL home.
                await self._run(self._reader.close, by=self._beside)
                await self._beside.stop()
                await self._run(self._store.stop)
        finally:
            self._closed = True
            await self._writer.stop()
            os.close(self._lock)

    # ---- in

    async def append(self, records: Sequence[Record], *, urgent: bool = False) -> None:
        """Accept records: when this returns they are durable, and stay until the centre has committed them.

        Events, and with `urgent` all others, are committed at once; else with their group. If it raises, OutboxError,
        none of them was accepted. If it is cancelled, they are written all the same, before the cancellation goes on.
        """
        if not records:
            return
        packed = [to_row(record) for record in records]
        rows = [row for row in packed if isinstance(row, Row)]
        events = [row for row in packed if isinstance(row, EventRow)]
        await self._groups.append(rows, events, urgent=urgent)

    async def flush(self) -> None:
        """Commit at once what was given so far. Raises OutboxError if that fails."""
        await self._groups.flush()

    def _committed(self, records: int, *, given_at: tuple[float, int]) -> None:
        self._ages.add(records, given_at=given_at)
        self.more.set()

    # ---- out

    async def seal(self, encrypt: Encrypt, *, again: bool = True, body_bytes_max: int | None = None) -> Sealed | None:
        """Make one batch of the oldest unsealed records, events first; None when there are none.

        again: whether to take also such as are to be sealed again, and those first; else only new ones. body_bytes_max:
        what the link carries, where that is less than the site's bound; one record that is longer still goes alone.
        `encrypt(seq, kind, body)` gives (kid, message); it runs on the writer's thread, once for each number, and its
        key's record must have been added. Sealed bytes never change.
        """
        return await self._run(
            lambda: self._store.run(
                lambda c: sealing.seal(self._store, c, encrypt, again=again, body_bytes_max=body_bytes_max)
            ),
            self._more_after,
        )

    async def send_again(self, since: int, until: int) -> int:
        """Seal what was accepted for [since, until) (UTC ms) once more under new numbers; says how many rows that is.

        For a centre that has lost it. What is not settled yet is left as it is.
        """
        return await self._run(
            lambda: self._store.run(lambda c: account.again(self._store, c, since, until)), self._more_after
        )

    def offers(
        self,
        limit: int,
        exclude: Set[tuple[int, int]] = frozenset(),
        *,
        live_from: tuple[int, int] = (0, 0),
        backfill: int | None = None,
    ) -> list[Sealed]:
        """Up to `limit` unsettled batches to send, without those in `exclude`: events, then live, then older ones.

        live_from: the (epoch, seq) from which on a batch is live; backfill: how many of the older ones at most. Each
        part comes by (epoch, seq).
        """
        return self.look(
            lambda connection: settling.offers(connection, limit, exclude, live_from=live_from, backfill=backfill)
        )

    async def settle(self, receipt: Receipt) -> Settled:
        """Act on a receipt whose signature was verified: settle what is committed, void what is rejected.

        A rejected batch's records are sealed again under a new number. Raises ValueError for another gateway's.
        """
        if receipt.gateway != self.gateway:
            raise ValueError(f"a receipt for {receipt.gateway}, this is {self.gateway}")
        return await self._run(
            lambda: self._store.run(lambda c: settling.settle(self._store, c, receipt)), self._more_after
        )

    async def void(self, epoch: int, seq: int, reason: str) -> bool:
        """Give up a batch that can never be carried or opened; its records are sealed again under a new number.

        False when there is no such unsettled batch (any more): a receipt that rejects one has voided it already.
        """
        return await self._run(
            lambda: self._store.run(lambda c: settling.void(self._store, c, epoch, seq, reason)), self._more_after
        )

    async def reseal(self, kid: bytes, reason: str) -> int:
        """Give up every unsettled batch under a data key; their records are sealed again under another. How many."""
        return await self._run(
            lambda: self._store.run(lambda c: rekey.reseal(self._store, c, kid, reason)), self._more_after
        )

    async def replace_key_record(self, kid: bytes, message: bytes) -> None:
        """Keep another record of the same data key in place of the one that is kept. Durable when it returns."""
        await self._run(lambda: self._store.run(lambda c: rekey.replace_key_record(c, kid, message)))

    def voided(self, limit: int = VOIDED_MAX) -> list[tuple[int, int]]:
        """Numbers (epoch, seq) that will never come, for hello: until a receipt has passed them. Lowest first."""
        return self.look(lambda connection: settling.voided(connection, limit))

    async def add_key_record(self, kid: bytes, epoch: int, message: bytes) -> None:
        """Keep a signed key record until the last batch under it is settled. Durable when it returns."""
        await self._run(lambda: self._store.add_key_record(kid, epoch, message))

    def key_records(self) -> list[KeyEntry]:
        """The key records of unsettled batches, and the newest of this epoch."""
        return self.look(lambda connection: settling.key_records(connection, self.epoch))

    def unsealed(self) -> Unsealed:
        """What waits to be sealed, and for how long."""
        return self._ages.waiting(self._store.standing, now_ms=self._now_ms())

    # ---- looking

    @property
    def epoch(self) -> int:
        """Of this start: 32 bits of boot count, 32 random bits."""
        return self._store.epoch

    @property
    def next_seq(self) -> int:
        """The number that the next batch of this epoch gets. The first is 1."""
        return self._store.standing.next_seq

    @property
    def first_unsettled(self) -> int:
        """The lowest unsettled number of this epoch; next_seq when there is none."""
        return self._store.standing.first_unsettled

    @property
    def unsettled(self) -> int:
        """Batches of all epochs that wait for their receipt."""
        return self._store.standing.batches

    @property
    def left(self) -> bool:
        """Whether records wait in the file that the store had to leave; housekeeping brings them back when it can."""
        return self._store.left

    @property
    def pending(self) -> int:
        """Records of all epochs that are not settled: unsealed, waiting to be sealed again, or in a batch."""
        standing = self._store.standing
        (batched,) = self.look(lambda connection: integers(connection, "SELECT coalesce(sum(records), 0) FROM batch"))
        return standing.unsealed + standing.requeued + batched

    @property
    def counters(self) -> dict[str, int]:
        """What happened since the start, counted."""
        return dict(self._store.counters)

    def has_slot(self, meter: str, task: str, slot: int) -> bool:
        """Whether a capture or a gap of this slot was accepted."""
        return self._has(meter, task, slot, (GAP, PLANNED))

    def has_capture(self, meter: str, task: str, slot: int) -> bool:
        """Whether a capture of this slot was accepted; a gap alone does not count, as a capture may still close it."""
        return self._has(meter, task, slot, (PLANNED, PLANNED))

    async def captured(self, slots: Sequence[tuple[str, str, int]]) -> frozenset[tuple[str, str, int]]:
        """Those of (meter, task, slot) of which a capture was accepted. Waits for the disk beside the event loop."""
        wanted = [one for one in slots if one[-1] <= (self.last_slot(*one[:-1]) or -1)]
        if not wanted:
            return frozenset()
        return await self.beside(lambda: frozenset(one for one in wanted if self.has_capture(*one)))

    def _has(self, meter: str, task: str, slot: int, kinds: tuple[int, int]) -> bool:
        series = self._store.series.get((meter, task))
        if series is None or series.last_slot is None or slot > series.last_slot:
            return False
        sql = "SELECT 1 FROM record WHERE moment = ? AND series = ? AND kind IN (?, ?) LIMIT 1"
        found = self.look(lambda connection: connection.execute(sql, (slot, series.number, *kinds)).fetchone())
        return found is not None

    def last_slot(self, meter: str, task: str) -> int | None:
        """The latest slot with a capture or a gap; known also when its records are purged. None when there was none."""
        series = self._store.series.get((meter, task))
        return None if series is None else series.last_slot

    def fact(self, name: str) -> str | None:
        """A small thing that was learned and kept."""
        return self._store.facts.get(name)

    async def set_fact(self, name: str, value: str) -> None:
        """Keep a small thing over restarts: a meter's turnaround, the floor of the clock."""
        await self._run(lambda: self._store.set_fact(name, value))

    # ---- housekeeping

    async def purge(self) -> int:
        """One bounded step of letting settled history go that is older than its class is kept; how many rows. A store
        that had to leave its file comes back to it, if that is well again.

        To be called now and then (each minute); also counts the hours of running, and keeps the ballast.
        """
        now = asyncio.get_running_loop().time()
        if self._marked_at is None:
            self._marked_at = now
        due = now - self._marked_at >= self._store.limits.mark_every_s
        if due:
            self._marked_at = now

        def work(connection: apsw.Connection) -> int:
            if due:
                retention.mark(self._store, connection)
            gone = retention.purge(self._store, connection)
            retention.give_back(connection)
            self._store.ballast.restore()
            return gone

        def job() -> tuple[int, bool]:
            home = self._store.spare is not None and self._store.spare.go_home(self._store)
            return self._store.run(work), home

        gone, home = await self._run(job)
        if home:
            self._more_after()  # what waited in the file that was left
        return gone

    async def check(self) -> list[str]:
        """Read through the whole store beside the writer; what is wrong with it, for people: empty when it is sound.

        A small store is checked at every start, and any after an unclean stop; this is for the others, in the
        background. What it finds is put right by the next start.
        """

        def look() -> list[str]:
            try:
                with translated(self._store.path):
                    connection = open_reader(self._store.path)
                    try:
                        return recovery.findings(connection)
                    finally:
                        connection.close()
            except StoreDamaged as error:
                return [str(error)]

        self._refuse_closed()
        return look() if self._inline else await asyncio.to_thread(look)

    def _more_after(self) -> None:
        standing = self._store.standing
        if standing.unsealed or standing.requeued or standing.batches:
            self.more.set()

    async def _run(
        self, work: Callable[[], T], after: Callable[[], None] | None = None, *, by: Writer | None = None
    ) -> T:
        """Have the writer do a job; a caller that is cancelled meanwhile leaves it running to its end."""
        self._refuse_closed()
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def done(result: Any, error: BaseException | None) -> None:
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)
                if after is not None:
                    after()

        (by or self._writer).submit(work, done)
        return await asyncio.shield(future)

    async def beside(self, work: Callable[[], T]) -> T:
        """Call `work`, which calls `offers`, `look` or another of those that only look, beside the event loop.

        A disk that hangs then holds up who waits for it, and not the buses. One after another.
        """
        return await self._run(work, by=self._beside)

    def look(self, work: Callable[[apsw.Connection], T]) -> T:
        """Read beside the writer (see `account`). Inline there is none beside, so its connection serves."""
        self._refuse_closed()
        return self._store.run(work) if self._inline else self._reader.look(work)

    def _refuse_closed(self) -> None:
        if self._closed:
            raise OutboxError(f"{self.directory}: this outbox is closed")
