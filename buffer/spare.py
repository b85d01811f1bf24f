"""Where the store goes on when its disk fails: in another file, in a second directory if there is one. Decision 031.

That file is a continuation, not another store: epoch and numbers go on, of batches and of rows, so that what stands in
the two can be brought together by copying rows. Until then what the first one holds and nobody has settled waits there.
"""

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import apsw

from buffer.errors import OutboxError, StoreAway, StoreFailed
from buffer.rows import to_row
from buffer.sqlite import abandon, integers, transaction, translated
from buffer.store import Store
from buffer.words import TABLES
from protocols.capture import Event
from protocols.envelope import BatchKind

log = logging.getLogger(__name__)

NAME: Final = "outbox.spare.db"
CONTINUES: Final = "spare.continues"
"""The fact in a spare file that says what it continues: epoch, the next batch, the newest row of each table."""
TAKEN: Final = "spare.taken"
"""The fact in the store that says which spare file it has taken back last."""
_PARTS: Final = ("-wal", "-shm", "")


class Spare:
    """The other file of a store. `connect` opens it; nothing is there until it is needed."""

    def __init__(self, path: Path, connect: Callable[[], apsw.Connection], *, elsewhere: bool) -> None:
        self.path = path
        self.connect = connect
        self.elsewhere = elsewhere
        """Whether it is in a directory of its own: another disk, which may have room where the first has none."""
        self._home: tuple[Path, Callable[[], apsw.Connection], dict[str, tuple[int, bytes]]] | None = None
        """Of the file that was left: where it is, how it is opened, and its last acknowledged rows."""

    def move(self, store: Store) -> bool:
        """Go on in the spare file; whether that is possible. What it says of errors is told, and no more."""
        if store.path == self.path:
            return False
        try:
            connection = self._fresh(store)
        except (StoreAway, OSError) as error:
            log.error("no spare file path=%s detail=%r", self.path, str(error))  # noqa: TRY400
            return False
        self._home = store.path, store.connect, {TABLES[kind]: store.tail[kind] for kind in TABLES}
        log.error("store moved from=%s to=%s", store.path, self.path)
        standing = store.standing
        store.elsewhere = standing.first_unsettled
        store.left = bool(standing.unsealed or standing.requeued or standing.batches)
        store.stand_on(self.path, connection, self.connect)
        store.counters["moved"] += 1
        return True

    def _fresh(self, store: Store) -> apsw.Connection:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.path.exists() and self._continues() is not None:
            raise StoreFailed(
                f"{self.path}: holds records of an earlier failure; it is taken back when {store.path} is well"
            )
        remove(self.path)
        os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        with translated(self.path):
            connection = self.connect()
            try:
                with transaction(connection):
                    _continue(store, connection)
            except BaseException:
                abandon(connection)
                raise
        return connection

    def _continues(self) -> dict[str, Any] | None:
        """What a spare file that is there continues; None when it was only begun."""
        with translated(self.path):
            connection = self.connect()
            try:
                row = connection.execute("SELECT value FROM fact WHERE name = ?", (CONTINUES,)).fetchone()
                boot, epoch = integers(connection, "SELECT count, epoch FROM boot")
            finally:
                connection.close()
        if row is not None:
            return dict(json.loads(str(row[0])))
        # It was the whole store of a start that found the first file unreadable.
        return {"epoch": 0, "seq": 1, "record": 0, "event": 0, "token": f"{epoch:x}"} if boot else None

    def take_back(self, connection: apsw.Connection) -> bool:
        """Copy what is in the spare file into the store `connection`, all or nothing, and remove it.

        False when there is no spare file. Raises OutboxError; then both are as they were.
        """
        if not self.path.exists():
            return False
        continues = self._continues()
        if continues is not None:
            with translated(self.path):
                taken = connection.execute("SELECT value FROM fact WHERE name = ?", (TAKEN,)).fetchone()
                if taken != (continues["token"],):
                    self._copied(connection, continues)
        remove(self.path)
        return True

    def _copied(self, connection: apsw.Connection, continues: dict[str, Any]) -> None:
        connection.execute("ATTACH ? AS spare", (str(self.path),))
        try:
            with transaction(connection):
                _copy(connection, continues)
                connection.execute("INSERT OR REPLACE INTO fact VALUES (?, ?)", (TAKEN, continues["token"]))
        except apsw.Error:
            # It may have gone through all the same. What comes into the spare file from now on must not be taken for
            # copied, so it gets another name; to copy the rest once more then changes nothing.
            self._rename(continues)
            raise
        connection.execute("DETACH spare")

    def _rename(self, continues: dict[str, Any]) -> None:
        told = json.dumps({**continues, "token": continues["token"] + "'"})
        connection = self.connect()
        try:
            with transaction(connection):
                connection.execute("INSERT OR REPLACE INTO fact VALUES (?, ?)", (CONTINUES, told))
        finally:
            connection.close()

    def go_home(self, store: Store) -> bool:
        """Take the spare file back into the first one, if that can be written again; whether it stands there now."""
        if self._home is None or store.path != self.path:
            return False
        path, connect, tail = self._home
        try:
            with translated(path):
                connection = connect()
                try:
                    _known(connection, path, tail)
                    store.let_connection_go()
                    self.take_back(connection)
                except BaseException:
                    abandon(connection)
                    raise
        except OutboxError as error:
            log.warning("store stays from=%s detail=%r", self.path, str(error))
            return False
        store.elsewhere, store.left = None, False
        store.stand_on(path, connection, connect)
        self._home = None
        store.counters["came_home"] += 1
        log.warning("store came home path=%s", path)
        return True


def remove(path: Path) -> None:
    """Take away what this module made for itself."""
    for part in _PARTS:
        path.with_name(path.name + part).unlink(missing_ok=True)


def _known(connection: apsw.Connection, path: Path, tail: dict[str, tuple[int, bytes]]) -> None:
    """Raises StoreFailed where the last rows that were acknowledged are not there."""
    for table, (number, body) in tail.items():
        row = connection.execute(f"SELECT body FROM {table} WHERE id = ?", (number,)).fetchone()
        if number and row != (body,):
            raise StoreFailed(f"{path}: rows of {table} are missing that had been acknowledged; check the disk")


def _continue(store: Store, connection: apsw.Connection) -> None:
    """Make a new file the continuation of a store, from what is known of it in memory."""
    prepared, seq = store.prepared, store.next_seq
    if prepared is not None:
        # Its number is used up and its rows stay behind: it will never come.
        seq = prepared.sealed.seq + 1
        connection.execute("INSERT INTO voided VALUES (?, ?, 'the disk failed')", (store.epoch, prepared.sealed.seq))
    newest = {TABLES[kind]: store.tail[kind][0] for kind in TABLES}
    told = {"epoch": store.epoch, "seq": store.next_seq, "token": f"{store.epoch:x} {seq} {newest}", **newest}
    facts = {name: value for name, value in store.facts.items() if name not in (CONTINUES, TAKEN)}
    connection.execute("UPDATE boot SET count = ?, epoch = ?, next_seq = ?, clean = 0", (store.boot, store.epoch, seq))
    connection.executemany(
        "INSERT INTO series VALUES (?, ?, ?, ?, ?)",
        [(series.number, *name, series.last_slot, int(series.kept)) for name, series in store.series.items()],
    )
    connection.executemany("INSERT INTO fact VALUES (?, ?)", [*facts.items(), (CONTINUES, json.dumps(told))])
    for kind, table in TABLES.items():
        connection.execute("UPDATE lane SET sealed_upto = ? WHERE kind = ?", (newest[table], int(kind)))
        connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (table, newest[table]))
    if store.key is not None:
        connection.execute("INSERT INTO key_record (kid, epoch, message) VALUES (?, ?, ?)", store.key)
    moved = to_row(Event(name="store_moved", at=store.now_ms(), detail={"from": store.path.name}))
    connection.execute("INSERT INTO event (moment, body) VALUES (?, ?)", moved)


def _copy(connection: apsw.Connection, continues: dict[str, Any]) -> None:
    """The rows of the attached file `spare`, into the store that it continues. In a transaction.

    Into a store that stands where it stood when it was left, or has taken rows of this file already, as often as one
    likes; where a start went on without the spare file, what is in it gets other numbers.
    """
    (epoch,) = integers(connection, "SELECT epoch FROM boot")
    lanes: list[tuple[BatchKind, str]] = list(TABLES.items())
    shift: dict[int, int] = {}
    for kind, table in lanes:
        if epoch == continues["epoch"]:
            # What stands behind was refused or copied before, so it is in the spare file once more.
            connection.execute(f"DELETE FROM main.{table} WHERE id > ?", (continues[table],))
            connection.execute("DELETE FROM main.requeue WHERE kind = ? AND first > ?", (int(kind), continues[table]))
            connection.execute("DELETE FROM main.batch WHERE kind = ? AND first > ?", (int(kind), continues[table]))
            shift[int(kind)] = 0
        else:
            (top,) = integers(connection, "SELECT coalesce((SELECT seq FROM main.sqlite_sequence WHERE name = "
                                          f"'{table}'), 0)")  # fmt: skip
            shift[int(kind)] = max(0, top - continues[table])
    if epoch == continues["epoch"]:
        _undo_batch(connection, epoch, continues["seq"])
    connection.execute(
        "INSERT INTO main.series (meter, task, last_slot, class)"
        " SELECT meter, task, last_slot, class FROM spare.series WHERE true ON CONFLICT (meter, task) DO UPDATE SET"
        " last_slot = nullif(max(coalesce(last_slot, -1), coalesce(excluded.last_slot, -1)), -1)"
    )
    connection.execute("INSERT OR IGNORE INTO main.key_record (kid, epoch, message)"
                       " SELECT kid, epoch, message FROM spare.key_record ORDER BY id")  # fmt: skip
    for kind, table in lanes:
        by, number = shift[int(kind)], int(kind)
        # What nobody has sealed in the store is sealed again, before what comes from the spare file.
        connection.execute(
            "INSERT INTO main.requeue (kind, first, last, attempts)"
            " SELECT kind, sealed_upto + 1, ?1, 0 FROM main.lane WHERE kind = ?2 AND sealed_upto < ?1",
            (continues[table] + by, number),
        )
        connection.execute(
            "UPDATE main.lane SET sealed_upto = (SELECT sealed_upto + ?1 FROM spare.lane WHERE kind = ?2)"
            " WHERE kind = ?2",
            (by, number),
        )
        if table == "event":
            connection.execute("INSERT OR IGNORE INTO main.event SELECT id + ?, moment, body FROM spare.event", (by,))
        else:
            connection.execute(
                "INSERT OR IGNORE INTO main.record SELECT r.id + ?, m.id, r.moment, r.kind, r.body"
                " FROM spare.record AS r JOIN spare.series AS s ON s.id = r.series"
                " JOIN main.series AS m ON m.meter = s.meter AND m.task = s.task ORDER BY r.id",
                (by,),
            )
        connection.execute(
            "INSERT INTO main.requeue (kind, first, last, attempts)"
            " SELECT kind, first + ?1, last + ?1, attempts FROM spare.requeue WHERE kind = ?2", (by, number),
        )  # fmt: skip
        connection.execute(
            "INSERT OR IGNORE INTO main.batch (epoch, seq, kind, kid, first, last, records, attempts, message)"
            " SELECT epoch, seq, kind, kid, first + ?1, last + ?1, records, attempts, message FROM spare.batch"
            " WHERE kind = ?2",
            (by, number),
        )
        connection.execute(
            "INSERT OR IGNORE INTO main.unreadable SELECT kind, record + ?1, why FROM spare.unreadable WHERE kind = ?2",
            (by, number),
        )
    connection.execute("INSERT OR IGNORE INTO main.voided SELECT * FROM spare.voided")
    connection.execute("INSERT OR REPLACE INTO main.fact SELECT * FROM spare.fact WHERE name NOT IN (?, ?)",
                       (CONTINUES, TAKEN))  # fmt: skip
    connection.execute(
        "UPDATE main.boot SET count = max(count, (SELECT count FROM spare.boot)),"
        " epoch = (SELECT epoch FROM spare.boot), next_seq = (SELECT next_seq FROM spare.boot), clean = 0"
    )


def _undo_batch(connection: apsw.Connection, epoch: int, seq: int) -> None:
    """Batches whose storing was reported as failed and yet went through: nobody saw them; their numbers are void."""
    connection.execute(
        "INSERT INTO main.requeue (kind, first, last, attempts)"
        " SELECT kind, first, last, attempts FROM main.batch WHERE epoch = ? AND seq >= ?", (epoch, seq),
    )  # fmt: skip
    connection.execute("DELETE FROM main.batch WHERE epoch = ? AND seq >= ?", (epoch, seq))
