"""Reading a central PostgreSQL database, in one read-only transaction: every question sees the same moment."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import psycopg
from psycopg import errors

from central.sinks.base import SinkAway
from central.sinks.copying import moment
from central.sinks.sql import SCHEMA_VERSION, other_version

CONNECT_S_MAX = 10
_ROWS_AT_ONCE = 2_000


class PostgresLook:
    """See central.look.Look."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def rows(self, statement: str, arguments: Sequence[object] = ()) -> Iterator[tuple[Any, ...]]:
        """See Look. A cursor of the server's own: a long answer is not held in memory."""
        with self._connection.cursor("look") as cursor:
            cursor.itersize = _ROWS_AT_ONCE
            cursor.execute(statement.replace("?", "%s").encode(), tuple(arguments))
            yield from cursor

    def time(self, ms: int) -> datetime:
        """See Look."""
        return moment(ms)

    def ms(self, time: datetime | None) -> int | None:
        """See Look."""
        return None if time is None else (time - moment(0)) // timedelta(milliseconds=1)


@contextmanager
def postgres_look(url: str) -> Iterator[PostgresLook]:
    """Raises SinkAway and SinkUnfit."""
    try:
        with psycopg.connect(url, connect_timeout=CONNECT_S_MAX, application_name="meterwire-look") as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.read_only = True
            connection.execute("SET LOCAL TimeZone = 'UTC'")
            row = connection.execute("SELECT max(version) FROM meterwire_schema").fetchone()
            if row is None or row[0] != SCHEMA_VERSION:
                raise other_version("PostgreSQL", -1 if row is None or row[0] is None else row[0])
            yield PostgresLook(connection)
    except errors.UndefinedTable as error:
        raise SinkAway("PostgreSQL: no central tables there; `meterwire central run` makes them") from error
    except psycopg.OperationalError as error:
        raise SinkAway(f"PostgreSQL: {(str(error) or type(error).__name__).splitlines()[0]}") from error
