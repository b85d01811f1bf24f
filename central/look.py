"""Looking into a central database without touching it: read-only, from any process, beside the workers.

Statements are written with `?`, in the SQL that both databases share; times go in through `time` and come out through
`ms`. Nothing is ever made by looking.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

from central.sinks import NO_PSYCOPG, POSTGRESQL, SQLITE
from central.sinks.base import SinkAway, SinkUnfit
from central.sinks.sql import SCHEMA_VERSION, other_version

ROWS_AT_ONCE = 2_000


class Look(Protocol):
    """A database that is only read, all of it as it was at one moment."""

    def rows(self, statement: str, arguments: Sequence[object] = ()) -> Iterator[tuple[Any, ...]]:
        """What a SELECT finds, a few rows at a time. Raises SinkAway."""
        ...

    def time(self, ms: int) -> object:
        """UTC milliseconds as an argument."""
        ...

    def ms(self, time: Any) -> int | None:
        """A time that was found, as UTC milliseconds."""
        ...


class _SqliteLook:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def rows(self, statement: str, arguments: Sequence[object] = ()) -> Iterator[tuple[Any, ...]]:
        with closing(self._connection.execute(statement, tuple(arguments))) as cursor:
            while found := cursor.fetchmany(ROWS_AT_ONCE):
                yield from found

    def time(self, ms: int) -> int:
        return ms

    def ms(self, time: int | None) -> int | None:
        return time


@contextmanager
def looking(database: str) -> Iterator[Look]:
    """The database as in central.toml. Raises SinkAway when it is not there, SinkUnfit when it is something else."""
    if database.startswith(POSTGRESQL):
        try:
            from central.sinks.postgres_look import postgres_look
        except ModuleNotFoundError as error:
            raise SinkUnfit(NO_PSYCOPG) from error

        with postgres_look(database) as look:
            yield look
        return
    path = Path(database.removeprefix(SQLITE))
    if not path.exists():
        raise SinkAway(f"{path}: no central database there; `meterwire central run` makes it")
    try:
        uri = f"{path.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:
            connection.execute("BEGIN")
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version != SCHEMA_VERSION:
                raise other_version(str(path), version)
            yield _SqliteLook(connection)
    except sqlite3.OperationalError as error:
        raise SinkAway(f"{path}: {error}") from error
    except sqlite3.DatabaseError as error:
        raise SinkUnfit(f"{path}: {error}") from error
