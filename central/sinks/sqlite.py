"""Landing in SQLite: one file, WAL, synchronous FULL, one writer.

The standard library's SQLite on purpose, not the edge's: whoever looks into the file from the same process with
`sqlite3` or sqlite-utils must use the same copy of the library, or POSIX locks are lost and a WAL with them.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from central.sinks.base import Arrival, Landed, Outcome, SinkAway, SinkRefuses, SinkUnfit
from central.sinks.rows import KEY_COLUMNS, READING_COLUMNS, reading_rows, same_value
from central.sinks.sql import SCHEMA_VERSION, SqlSink, other_version
from protocols.capture import Capture

_BUSY_MS = 5_000
"""How long a write waits for another process that holds the file, before it is tried again as a whole."""
_CACHE_KIB = 65_536
_CHECKPOINT_PAGES = 4_000
"""About 16 MiB of WAL: a checkpoint then writes each hot page once instead of at every thousandth."""

_COLUMNS = ", ".join(READING_COLUMNS)
_MARKS = ", ".join("?" * len(READING_COLUMNS))
_REPLACED = ", ".join(f"{c} = excluded.{c}" for c in READING_COLUMNS if c not in KEY_COLUMNS)
_LAND = (
    f"INSERT INTO reading ({_COLUMNS}) VALUES ({_MARKS})"
    f" ON CONFLICT ({', '.join(KEY_COLUMNS)}) DO UPDATE SET {_REPLACED}"
    " WHERE reading.value IS NULL AND reading.text IS NULL"
    " AND (excluded.value IS NOT NULL OR excluded.text IS NOT NULL)"
)
_STANDING = f"SELECT value, text FROM reading WHERE {' AND '.join(f'{c} = ?' for c in KEY_COLUMNS)}"
_CONFLICT = f"INSERT INTO conflict ({_COLUMNS}, seen_at) VALUES ({_MARKS}, ?) ON CONFLICT DO NOTHING"
_KEY = tuple(READING_COLUMNS.index(column) for column in KEY_COLUMNS)
assert READING_COLUMNS[5:7] == ("value", "text")  # row[5] and row[6] below


class SqliteSink(SqlSink):
    """The central tables in a SQLite file, made when it is not there. Used by one thread at a time."""

    def __init__(self, path: Path) -> None:
        """Raises SinkUnfit when the file holds another version, is no database, or will not be durable;
        SinkAway as ever."""
        self.path = path
        with _errors():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                path, isolation_level=None, check_same_thread=False, timeout=_BUSY_MS / 1000
            )
        try:
            with _errors():
                self._settle_in()
        except BaseException as error:
            self._connection.close()
            if isinstance(error, sqlite3.DatabaseError):
                raise SinkUnfit(f"{path}: {error}") from error
            raise

    def _settle_in(self) -> None:
        connection = self._connection
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        connection.execute("PRAGMA temp_store = MEMORY")
        mode, level = self._pragma("journal_mode"), self._pragma("synchronous")
        if mode != "wal" or level != 2:
            raise SinkUnfit(f"{self.path}: expected journal_mode wal and synchronous 2 (FULL), got {mode} and {level}")
        with self._transaction() as cursor:
            version = self._pragma("user_version")
            if 0 <= version < SCHEMA_VERSION:
                for step in range(version + 1, SCHEMA_VERSION + 1):
                    for statement in _statements(f"sqlite_{step}.sql"):
                        cursor.execute(statement)
                cursor.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            elif version != SCHEMA_VERSION:
                raise other_version(str(self.path), version)

    def _pragma(self, name: str) -> Any:
        return self._connection.execute(f"PRAGMA {name}").fetchone()[0]

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Cursor]:
        cursor = self._connection.cursor()
        with _errors():
            cursor.execute("BEGIN IMMEDIATE")
            try:
                yield cursor
                cursor.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    cursor.execute("ROLLBACK")
                raise
            finally:
                cursor.close()

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Cursor]:
        cursor = self._connection.cursor()
        with _errors():
            try:
                yield cursor
            finally:
                cursor.close()

    def _sql(self, statement: str) -> str:
        return statement

    def _time(self, ms: int | None) -> int | None:
        return ms

    def _ms(self, time: int | None) -> int | None:
        return time

    def _land_readings(self, cursor: Any, captures: Sequence[Capture], arrival: Arrival) -> Landed:
        rows = reading_rows(captures, arrival)
        cursor.executemany(_LAND, rows)
        fresh = cursor.rowcount
        landed = Landed(outcome=Outcome.LANDED, readings=fresh)
        if fresh < len(rows):
            for row in rows:
                if row[5] is None and row[6] is None:
                    continue
                cursor.execute(_STANDING, tuple(row[i] for i in _KEY))
                value, text = cursor.fetchone()
                if not same_value(value, row[5]) or text != row[6]:
                    landed.conflicts += 1
                    cursor.execute(_CONFLICT, (*row, arrival.received_at))
            landed.repeats = len(rows) - fresh - landed.conflicts
        return landed

    def _fill_slots(self, cursor: Any, slots: list[tuple[str, str, int, int]]) -> None:
        cursor.executemany(
            "INSERT INTO filled_slot (meter, task, slot, read_at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", slots
        )
        cursor.execute("SELECT 1 FROM gap WHERE closed_at IS NULL LIMIT 1")
        if cursor.fetchone() is not None:
            cursor.executemany(
                "UPDATE gap SET closed_at = ?4 WHERE meter = ?1 AND task = ?2 AND slot = ?3 AND closed_at IS NULL",
                slots,
            )

    def close(self) -> None:
        """Give the file up; the WAL is folded in when no one else has it open."""
        self._connection.close()


@contextmanager
def _errors() -> Iterator[None]:
    """SQLite's errors in the sink's words; what means that the file is damaged, or a bug of ours, stays as it is."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise SinkAway(f"SQLite: {error}") from error
    except (sqlite3.IntegrityError, sqlite3.DataError, OverflowError, UnicodeEncodeError) as error:
        raise SinkRefuses(f"SQLite: {error}") from error


def _statements(name: str) -> Iterator[str]:
    """The statements of a schema file, one at a time: executescript would commit before them."""
    statement = ""
    for line in files("central.sinks").joinpath(name).read_text(encoding="utf-8").splitlines():
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
