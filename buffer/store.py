"""The store behind the outbox: one connection, and what is known of it. Called by one thread at a time, the writer's.

After a failed read, write or sync nothing that the operating system still holds can be trusted (a page whose sync
failed may be marked clean), so the connection is dropped, and the next job opens a new one and compares the tail of
the store with what was acknowledged last.
"""

import itertools
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Final, NamedTuple, Protocol, TypeVar

import apsw

from buffer.ballast import Ballast
from buffer.doubt import Doubt
from buffer.errors import OutboxError, StoreDamaged, StoreFailed
from buffer.sqlite import abandon, integers, transaction, translated
from buffer.words import TABLES, Limits, RecordClass, Sealed, Standing
from protocols.envelope import BatchKind

T = TypeVar("T")

EPOCH_RANDOM_BITS: Final = 32
FAILURES_MAX: Final = 3
"""Jobs in a row that the disk fails, each with a file that was opened anew, before the store goes on in another."""
RELIEFS_MAX: Final = 3
"""How often room is made for one job: a group that does not fit then is told that the disk is full."""


class Series(NamedTuple):
    """A task of a meter: its number in the store, the last slot that is known, and as what its records are kept."""

    number: int
    last_slot: int | None
    kept: RecordClass


class Walk(NamedTuple):
    """How far letting go of a class has come, and the row to go back to, as something after it was not settled yet."""

    at: int
    back: int | None


class Prepared(NamedTuple):
    """A batch that was sealed: its number and nonce are used, so it is stored as it is, or tried again as it is."""

    sealed: Sealed
    requeue: int | None
    """The row of `requeue` that it takes from, None for new records."""
    first: int
    last: int
    attempts: int
    unreadable: tuple[tuple[int, str], ...]


class Relieve(Protocol):
    """`pressure.relieve`, for this store."""

    def __call__(self, connection: apsw.Connection, *, appending: bool, unsettled: bool) -> bool: ...


class SpareFile(Protocol):
    """`spare.Spare`: the other file of a store."""

    elsewhere: bool

    def move(self, store: "Store") -> bool: ...
    def go_home(self, store: "Store") -> bool: ...


class OpenStore(Protocol):
    """`sqlite.open_store`, or the crash rig's control of it."""

    def __call__(self, path: Path, *, vfs: str | None = None) -> apsw.Connection: ...


def _no_relief(connection: apsw.Connection, *, appending: bool, unsettled: bool) -> bool:
    """Until the outbox has said how: what is not there yet cannot be let go."""
    return False


class Store:
    """An open store and its epoch. Build it with `Store.start`."""

    def __init__(
        self, path: Path, connect: Callable[[], apsw.Connection], limits: Limits, *, now_ms: Callable[[], int],
        classes: Mapping[str, RecordClass],
    ) -> None:  # fmt: skip
        self.path = path
        self.limits = limits
        self.now_ms = now_ms
        self.ballast = Ballast(path.parent, limits.ballast_bytes)
        self.relieve: Relieve = _no_relief
        """Makes room on a disk that is full; says whether there is some."""
        self.refused = 0
        """Appends in a row that found no room."""
        self.walks: dict[Hashable, Walk] = {}
        self.fit: dict[BatchKind, int] = {}
        """How many values make a batch of a lane full, by the last one that was."""
        self.epoch = 0
        self.boot = 0
        self.next_seq = 1
        self.series: dict[tuple[str, str], Series] = {}
        self.facts: dict[str, str] = {}
        self.counters: dict[str, int] = dict.fromkeys(
            (
                "appended", "commits", "sealed_batches", "sealed_records", "settled_batches", "settled_records",
                "rejected", "voided", "parked", "purged", "unreadable", "receipts_beyond", "append_waits", "reopened",
                "disk_errors", "moved", "came_home", "relieved", "ballast_released", "dropped_bulk", "dropped_curve",
            ), 0,
        )  # fmt: skip
        self.standing: Standing
        self.prepared: Prepared | None = None
        self.connect = connect
        self.tail: dict[BatchKind, tuple[int, bytes]] = {}
        """The last acknowledged row of each lane."""
        self.key: tuple[bytes, int, bytes] | None = None
        """The newest key record of this epoch: kid, epoch, message."""
        self.spare: SpareFile | None = None
        """Where the store goes on when its disk fails."""
        self.elsewhere: int | None = None
        """The lowest unsettled number of this epoch in the file that was left."""
        self.left = False
        """Whether anything that nobody has settled waits in that file."""
        self._failures = 0
        """Jobs in a row that the disk failed."""
        self._doubt = Doubt(now_ms)
        self.classes = classes
        self._connection: apsw.Connection | None = None
        self._lost = ""

    @classmethod
    def start(
        cls, path: Path, connection: apsw.Connection, *, connect: Callable[[], apsw.Connection],
        random: Callable[[int], bytes], limits: Limits, now_ms: Callable[[], int],
        classes: Mapping[str, RecordClass],
    ) -> "Store":  # fmt: skip
        """Allocate this start's epoch, durably, before anything can be sealed under it. Takes the connection over."""
        store = cls(path, connect, limits, now_ms=now_ms, classes=classes)
        store._connection = connection
        with translated(path):
            with transaction(connection):
                (count,) = integers(connection, "SELECT count FROM boot")
                boot = int(count) + 1
                epoch = boot << EPOCH_RANDOM_BITS | int.from_bytes(random(4), "big")
                connection.execute("UPDATE boot SET count = ?, epoch = ?, next_seq = 1, clean = 0", (boot, epoch))
                # Of former epochs' keys only those are still needed under which a batch waits.
                connection.execute("DELETE FROM key_record WHERE kid NOT IN (SELECT kid FROM batch)")
                connection.executemany(
                    "UPDATE series SET class = ?1 WHERE task = ?2 AND class <> ?1",
                    [(int(kept), task) for task, kept in classes.items()],
                )
            store.epoch = epoch
            store._read(connection)
        return store

    def run(self, work: Callable[[apsw.Connection], T], *, appending: bool = False) -> T:
        """Do a job, once more after room was made where there was none. Raises OutboxError; nothing is written then."""
        try:
            with self._doubt.translated(self.path):
                result = self._try(work, appending)
        except (StoreFailed, StoreDamaged) as error:
            self.counters["disk_errors"] += 1
            self._drop()
            self._failures += isinstance(error, StoreFailed)
            if self._failures >= FAILURES_MAX and self.spare is not None:
                self.spare.move(self)
            raise
        self._failures = 0
        return result

    def _try(self, work: Callable[[apsw.Connection], T], appending: bool) -> T:
        for reliefs in itertools.count():
            connection = self._connection or self._reopen()
            try:
                return work(connection)
            except apsw.FullError:
                self._take_stock(connection)
                unsettled = appending and self.refused >= self.limits.full_patience
                if unsettled and self.spare is not None and self.spare.elsewhere and self.spare.move(self):
                    continue
                if reliefs >= RELIEFS_MAX or not self.relieve(connection, appending=appending, unsettled=unsettled):
                    raise
        raise AssertionError("the count does not end")

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
            if epoch == self.epoch:
                self.key = kid, epoch, message

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

    def _take_stock(self, connection: apsw.Connection) -> None:
        """After a job that found no room: see that nothing of it is there, and take back what is."""
        known = self.next_seq, self.standing.batches, *(self.tail[kind][0] for kind in TABLES)
        newest = ", ".join(f"(SELECT coalesce(max(id), 0) FROM {table})" for table in TABLES.values())
        if known != integers(connection, f"SELECT next_seq, (SELECT count(*) FROM batch), {newest} FROM boot"):
            with transaction(connection):
                self._forget_behind_tail(connection)
            self._read(connection)

    def stand_on(self, path: Path, connection: apsw.Connection, connect: Callable[[], apsw.Connection]) -> None:
        """Go on with another file, which continues this one."""
        self._drop()
        self.path, self._connection, self.connect = path, connection, connect
        self.prepared = None
        self.walks.clear()
        self._read(connection)

    def let_connection_go(self) -> None:
        """Close the file in order, so that it can be read whole. The next job opens it again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            abandon(connection)

    def _reopen(self) -> apsw.Connection:
        if self._lost:
            raise StoreDamaged(self._lost)
        connection = self.connect()
        try:
            self._check_tail(connection)
            with transaction(connection):
                self._forget_behind_tail(connection)
            self._read(connection)
        except BaseException:
            abandon(connection)
            raise
        self._connection = connection
        self.counters["reopened"] += 1
        return connection

    def _forget_behind_tail(self, connection: apsw.Connection) -> None:
        """Take back an append that was reported as failed and yet went through: its caller has the records still."""
        known = {series.number: series.last_slot for series in self.series.values()}
        (tail, _) = self.tail[BatchKind.CAPTURES]
        touched = connection.execute("SELECT DISTINCT series FROM record WHERE id > ?", (tail,)).fetchall()
        for (number,) in touched:
            connection.execute("UPDATE series SET last_slot = ? WHERE id = ?", (known.get(int(str(number))), number))
        for kind, table in TABLES.items():
            connection.execute(f"DELETE FROM {table} WHERE id > ?", (self.tail[kind][0],))

    def _check_tail(self, connection: apsw.Connection) -> None:
        (epoch,) = integers(connection, "SELECT epoch FROM boot")
        found = {"boot": epoch == self.epoch}
        for kind, table in TABLES.items():
            number, body = self.tail[kind]
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
        key = connection.execute(
            "SELECT kid, epoch, message FROM key_record WHERE epoch = ? ORDER BY id DESC LIMIT 1", (self.epoch,)
        ).fetchone()
        self.key = None if key is None else (bytes(key[0]), self.epoch, bytes(key[2]))
        rows = connection.execute("SELECT id, meter, task, last_slot, class FROM series")
        self.series = {(meter, task): Series(n, slot, RecordClass(kept)) for n, meter, task, slot, kept in rows}
        self.facts = dict(connection.execute("SELECT name, value FROM fact"))
        unsealed = {}
        for kind, table in TABLES.items():
            last = connection.execute(f"SELECT id, body FROM {table} ORDER BY id DESC LIMIT 1").fetchone()
            self.tail[kind] = last or (0, b"")
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

    def acknowledged(self, kind: BatchKind, number: int, body: bytes) -> None:
        """Note the newest row of a lane: it must be there after a disk error."""
        self.tail[kind] = number, body

    def restand(self, connection: apsw.Connection, *, unsealed: int = 0, events: int = 0, batches: int = 0) -> None:
        """Account for a job: what it added to (or took from) the unsealed, of these the events, and the batches."""
        (first,) = integers(
            connection, "SELECT coalesce(min(seq), ?) FROM batch WHERE epoch = ?", (self.next_seq, self.epoch)
        )
        if self.elsewhere is not None:
            first = min(first, self.elsewhere)
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
