"""Letting old readings go: an operator's decision, day by day. What is dropped is gone; no worker ever does it.

In PostgreSQL the partitions of whole UTC days are dropped; in SQLite rows are deleted, and their room is used again.
Filled slots, gaps and conflicts of the same days go with them. The inbox stays: a batch of an old day that comes again
is known, and does not land a second time.
"""

import sqlite3
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import NamedTuple

from central.look import looking
from central.sinks import POSTGRESQL, SQLITE
from central.sinks.base import SinkAway, SinkUnfit
from central.sinks.sql import SCHEMA_VERSION, other_version

DAY_MS = 86_400_000
_EPOCH = date(1970, 1, 1)
_TABLES = {"reading": "stamp", "conflict": "stamp", "filled_slot": "slot", "gap": "slot"}
"""And the column by which a row is of a day. In SQLite each transaction deletes one day: a worker waits no longer."""


class Dropped(NamedTuple):
    """What went: days (partitions) in PostgreSQL, rows of reading in SQLite."""

    partitions: tuple[str, ...]
    rows: int


def drop_before(database: str, day: date) -> Dropped:
    """Drop all readings with stamps before this UTC day. Raises SinkAway and SinkUnfit."""
    if database.startswith(POSTGRESQL):
        with looking(database):
            pass  # it is there, and of this version: nothing is made here
        from central.sinks.postgres import PostgresSink

        sink = PostgresSink(database)
        try:
            return Dropped(tuple(sink.drop_before(day)), 0)
        finally:
            sink.close()
    return Dropped((), _drop_rows(Path(database.removeprefix(SQLITE)), (day - _EPOCH).days * DAY_MS))


def old_readings(database: str, day: date) -> int:
    """How many readings have stamps before this UTC day. Raises SinkAway and SinkUnfit."""
    with looking(database) as look:
        before = look.time((day - _EPOCH).days * DAY_MS)
        return next(int(count) for (count,) in look.rows("SELECT count(*) FROM reading WHERE stamp < ?", (before,)))


def _drop_rows(path: Path, before: int) -> int:
    if not path.exists():
        raise SinkAway(f"{path}: no central database there; `meterwire central run` makes it")
    gone = 0
    try:
        with closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as connection:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version != SCHEMA_VERSION:
                raise other_version(str(path), version)
            for table, column in _TABLES.items():
                while True:
                    (oldest,) = connection.execute(f"SELECT min({column}) FROM {table}").fetchone()
                    if oldest is None or oldest >= before:
                        break
                    upto = min(before, (oldest // DAY_MS + 1) * DAY_MS)
                    changed = connection.execute(f"DELETE FROM {table} WHERE {column} < ?", (upto,)).rowcount
                    gone += changed if table == "reading" else 0
    except sqlite3.OperationalError as error:
        raise SinkAway(f"{path}: {error}") from error
    except sqlite3.DatabaseError as error:
        raise SinkUnfit(f"{path}: {error}") from error
    return gone
