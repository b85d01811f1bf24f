"""The store behind the outbox: one connection, and what is known of it. Called by one thread at a time, the writer's.

After a failed read, write or sync nothing that the operating system still holds can be trusted (a page whose sync
failed may be marked clean), so the connection is dropped, and the next job opens a new one and compares the tail of
the store with what was acknowledged last.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple, Protocol, TypeVar

import apsw

from buffer.errors import OutboxError, StoreDamaged
from buffer.rows import EventRow, Row
from buffer.sqlite import integers, transaction, translated
from buffer.words import TABLES, Limits, Sealed, Standing
from protocols.envelope import BatchKind

T = TypeVar("T")

EPOCH_RANDOM_BITS: Final = 32


class Series(NamedTuple):
    """A task of a meter: its number in the store, and the last slot that is known."""

    number: int
    last_slot: int | None


class Prepared(NamedTuple):
    """A batch that was sealed: its number and nonce are used, so it is stored as it is, or tried again as it is."""

    sealed: Sealed
    requeue: int | None
    """The row of `requeue` that it takes from, None for new records."""
    first: int
    last: int
    attempts: int
    unreadable: tuple[tuple[int, str], ...]


class OpenStore(Protocol):
    """`sqlite.open_store`, or the crash rig's control of it."""

    def __call__(self, path: Path, *, vfs: str | None = None) -> apsw.Connection: ...


class Store:
    """An open store and its epoch. Build it with `Store.start`."""

    def __init__(self, path: Path, connect: Callable[[], apsw.Connection], limits: Limits) -> None:
        self.path = path
        self.limits = limits
        self.epoch = 0
        self.boot = 0
        self.next_seq = 1
        self.series: dict[tuple[str, str], Series] = {}
        self.facts: dict[str, str] = {}
        self.counters: dict[str, int] = dict.fromkeys(
            (
                "appended", "commits", "sealed_batches", "sealed_records", "settled_batches", "settled_records",
                "rejected", "voided", "parked", "purged", "unreadable", "receipts_beyond", "append_waits", "reopened",
                "disk_errors",
            ), 0,
        )  # fmt: skip
        self.standing: Standing
        self.prepared: Prepared | None = None
        self._connect = connect
        self._connection: apsw.Connection | None = None
        self._tail: dict[BatchKind, tuple[int, bytes]] = {}
        """The last acknowledged row of each lane."""
        self._lost = ""

    @classmethod
    def start(
        cls, path: Path, connection: apsw.Connection, *, connect: Callable[[], apsw.Connection],
        random: Callable[[int], bytes], limits: Limits,
    ) -> "Store":  # fmt: skip
        """Allocate this start's epoch, durably, before anything can be sealed under it. Takes the connection over."""
        store = cls(path, connect, limits)
        store._connection = connection
        with translated(path):
            with transaction(connection):
                (count,) = integers(connection, "SELECT count FROM boot")
                boot = int(count) + 1
                epoch = boot << EPOCH_RANDOM_BITS | int.from_bytes(random(4), "big")
                connection.execute("UPDATE boot SET count = ?, epoch = ?, next_seq = 1, clean = 0", (boot, epoch))
                # Of former epochs' keys only those are still needed under which a batch waits.
                connection.execute("DELETE FROM key_record WHERE kid NOT IN (SELECT kid FROM batch)")
            store.epoch = epoch
            store._read(connection)
        return store

    def run(self, work: Callable[[apsw.Connection], T]) -> T:
        """Do a job. Raises OutboxError; what the job wrote is then not there."""
        with translated(self.path):
            try:
                connection = self._connection or self._reopen()
                return work(connection)
            except (apsw.IOError, apsw.CorruptError, apsw.NotADBError, apsw.CantOpenError, apsw.ReadOnlyError):
                self.counters["disk_errors"] += 1
                self._drop()
                raise

    def append(self, rows: Sequence[Row], events: Sequence[EventRow]) -> None:
        """Write records; they are durable when this returns."""

        def work(connection: apsw.Connection) -> None:
            series = dict(self._series_of(rows))
            tail = dict(self._tail)
            with transaction(connection):
                self._write_series(connection, series)
                if rows:
                    connection.executemany(
                        "INSERT INTO record (series, moment, kind, body) VALUES (?, ?, ?, ?)",
                        ((series[row.meter, row.task].number, row.moment, row.kind, row.body) for row in rows),
                    )
                    tail[BatchKind.CAPTURES] = connection.last_insert_rowid(), rows[-1].body
                if events:
                    connection.executemany("INSERT INTO event (moment, body) VALUES (?, ?)", events)
                    tail[BatchKind.EVENTS] = connection.last_insert_rowid(), events[-1].body
            self._tail = tail
            self.series.update(series)
            self.counters["commits"] += 1
            self.counters["appended"] += len(rows) + len(events)
            old = self.standing
            self.standing = replace(
                old, unsealed=old.unsealed + len(rows) + len(events), unsealed_events=old.unsealed_events + len(events)
            )

        self.run(work)

    def _series_of(self, rows: Sequence[Row]) -> dict[tuple[str, str], Series]:
        """The series of the rows that are new, or whose last slot moves, and those of the others as they are."""
        series: dict[tuple[str, str], Series] = {}
        for row in rows:
            key = row.meter, row.task
            known = series.get(key) or self.series.get(key)
            if known is None:
                new = sum(key not in self.series for key in series)
                known = Series(len(self.series) + new + 1, None)
            if row.slot is not None and (known.last_slot is None or row.slot > known.last_slot):
                known = Series(known.number, row.slot)
            series[key] = known
        return series

    def _write_series(self, connection: apsw.Connection, series: dict[tuple[str, str], Series]) -> None:
        connection.executemany(
            "INSERT INTO series VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET last_slot = excluded.last_slot",
            [(new.number, *key, new.last_slot) for key, new in series.items() if self.series.get(key) != new],
        )

    def add_key_record(self, kid: bytes, epoch: int, message: bytes) -> None:
        """Keep a key record; durable when this returns. The same one again is not an error."""

        def work(connection: apsw.Connection) -> None:
            row = connection.execute("SELECT epoch, message FROM key_record WHERE kid = ?", (kid,)).fetchone()
            if row is not None:
                if row != (epoch, message):
                    raise OutboxError(f"key {kid.hex()}: another record of this id is stored already")
                return
            with transaction(connection):
                connection.execute(
                    "INSERT INTO key_record (kid, epoch, message) VALUES (?, ?, ?)", (kid, epoch, message)
                )

        self.run(work)

    def set_fact(self, name: str, value: str) -> None:
        """Keep a small thing learned."""

        def work(connection: apsw.Connection) -> None:
            with transaction(connection):
                connection.execute("INSERT OR REPLACE INTO fact VALUES (?, ?)", (name, value))
            self.facts[name] = value

        self.run(work)

    def stop(self) -> None:
        """Note an orderly stop, and close."""
        if self._connection is None:
            return
        with translated(self.path):
            try:
                with transaction(self._connection):
                    self._connection.execute("UPDATE boot SET clean = 1")
            finally:
                connection, self._connection = self._connection, None
                connection.close()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            # Closing would checkpoint, and so copy pages home that may never have reached the disk. The new connection
            # recovers the WAL instead, frame by frame, checksums and all.
            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            try:
                connection.close()
            except apsw.Error:
                self.counters["disk_errors"] += 1

    def _reopen(self) -> apsw.Connection:
        if self._lost:
            raise StoreDamaged(self._lost)
        connection = self._connect()
        try:
            self._check_tail(connection)
            with transaction(connection):
                self._forget_behind_tail(connection)
            self._read(connection)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        self.counters["reopened"] += 1
        return connection

    def _forget_behind_tail(self, connection: apsw.Connection) -> None:
        """Take back an append that was reported as failed and yet went through: its caller has the records still."""
        known = {series.number: series.last_slot for series in self.series.values()}
        (tail, _) = self._tail[BatchKind.CAPTURES]
        touched = connection.execute("SELECT DISTINCT series FROM record WHERE id > ?", (tail,)).fetchall()
        for (number,) in touched:
            connection.execute("UPDATE series SET last_slot = ? WHERE id = ?", (known.get(int(str(number))), number))
        for kind, table in TABLES.items():
            connection.execute(f"DELETE FROM {table} WHERE id > ?", (self._tail[kind][0],))

    def _check_tail(self, connection: apsw.Connection) -> None:
        (epoch,) = integers(connection, "SELECT epoch FROM boot")
        found = {"boot": epoch == self.epoch}
        for kind, table in TABLES.items():
            number, body = self._tail[kind]
            row = connection.execute(f"SELECT body FROM {table} WHERE id = ?", (number,)).fetchone()
            found[table] = number == 0 or row == (body,)
        if not all(found.values()):
            self._lost = (f"{self.path}: after a disk error rows are missing that had been acknowledged "
                          f"({', '.join(table for table, right in found.items() if not right)}); end the process, save "
                          f"the file, and check the disk")  # fmt: skip
            raise StoreDamaged(self._lost)

    def _read(self, connection: apsw.Connection) -> None:
        """Learn from the file all that is kept in memory of it."""
        (self.next_seq,) = integers(connection, "SELECT next_seq FROM boot")
        self.boot = self.epoch >> EPOCH_RANDOM_BITS
        if self.prepared is not None and self.next_seq > self.prepared.sealed.seq:
            self.prepared = None  # Its commit was reported as failed, and yet went through.
        rows = connection.execute("SELECT id, meter, task, last_slot FROM series")
        self.series = {(meter, task): Series(number, slot) for number, meter, task, slot in rows}
        self.facts = dict(connection.execute("SELECT name, value FROM fact"))
        unsealed = {}
        for kind, table in TABLES.items():
            last = connection.execute(f"SELECT id, body FROM {table} ORDER BY id DESC LIMIT 1").fetchone()
            self._tail[kind] = last or (0, b"")
            (unsealed[kind],) = integers(
                connection,
                f"SELECT count(*) FROM {table} WHERE id > (SELECT sealed_upto FROM lane WHERE kind = ?)",
                (int(kind),),
            )
        self.standing = Standing(
            epoch=self.epoch, next_seq=self.next_seq, first_unsettled=self.next_seq, unsealed=sum(unsealed.values()),
            unsealed_events=unsealed[BatchKind.EVENTS], requeued=0, parked=0, voided=0,
            batches=integers(connection, "SELECT count(*) FROM batch")[0],
        )  # fmt: skip
        self.restand(connection)

    def restand(self, connection: apsw.Connection, *, unsealed: int = 0, events: int = 0, batches: int = 0) -> None:
        """Account for a job: what it added to (or took from) the unsealed, of these the events, and the batches."""
        (first,) = integers(
            connection, "SELECT coalesce(min(seq), ?) FROM batch WHERE epoch = ?", (self.next_seq, self.epoch)
        )
        requeued, parked = integers(
            connection,
            "SELECT coalesce(sum(last - first + 1) FILTER (WHERE attempts < ?1), 0),"
            " coalesce(sum(last - first + 1) FILTER (WHERE attempts >= ?1), 0) FROM requeue",
            (self.limits.reseal_attempts,),
        )
        (voided,) = integers(connection, "SELECT count(*) FROM voided")
        old = self.standing
        self.standing = Standing(
            epoch=self.epoch, next_seq=self.next_seq, first_unsettled=first, unsealed=old.unsealed + unsealed,
            unsealed_events=old.unsealed_events + events, requeued=requeued, parked=parked,
            batches=old.batches + batches, voided=voided,
        )  # fmt: skip
