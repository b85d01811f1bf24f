"""Landing in PostgreSQL: COPY into a temporary table and INSERT ... ON CONFLICT, in one transaction with the inbox."""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any

import psycopg
from psycopg import errors

from central.sinks.base import Arrival, Landed, Outcome, SinkAway, SinkRefuses, SinkUnfit
from central.sinks.rows import KEY_COLUMNS, READING_COLUMNS, TIME_COLUMNS, ReadingTuple
from central.sinks.sql import SCHEMA_VERSION, SqlSink

CONNECT_S_MAX = 10
STATEMENT_MS_MAX = 120_000
"""Longer than any batch takes by far: a server that hangs must become SinkAway, not hang the centre."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_SCHEMA_LOCK = 0x6D77_7363
"""Advisory lock under which the tables are made, so that two subscribers may start at once."""

_TYPES = {"stamp": "bigint", "slot": "bigint", "read_at": "bigint", "clock_error_ms": "bigint", "epoch": "bigint",
          "seq": "bigint", "value": "numeric", "ratio": "numeric"}  # fmt: skip
_COLUMNS = ", ".join(READING_COLUMNS)
_KEY = ", ".join(KEY_COLUMNS)
_INCOMING = (
    "CREATE TEMPORARY TABLE incoming (ordinal integer, "
    + ", ".join(f"{column} {_TYPES.get(column, 'text')}" for column in READING_COLUMNS)
    + ") ON COMMIT DELETE ROWS"
)


def _timestamp(expression: str) -> str:
    """Milliseconds as timestamptz, exact: interval arithmetic is in whole microseconds."""
    return f"timestamptz 'epoch' + {expression} * interval '1 millisecond'"


def _taken(alias: str) -> str:
    """The columns of `incoming` as `reading` has them."""
    named = (f"{alias}.{column}" for column in READING_COLUMNS)
    return ", ".join(_timestamp(n) if n.partition(".")[2] in TIME_COLUMNS else n for n in named)


_HAS_VALUE = "({0}.value IS NOT NULL OR {0}.text IS NOT NULL)"
_LAND = f"""\
INSERT INTO reading ({_COLUMNS})
SELECT {_taken("i")} FROM (
    SELECT DISTINCT ON ({_KEY}) * FROM incoming
    ORDER BY {_KEY}, (value IS NULL AND text IS NULL), ordinal
) AS i
ON CONFLICT ({_KEY}) DO UPDATE SET {", ".join(f"{c} = excluded.{c}" for c in READING_COLUMNS if c not in KEY_COLUMNS)}
WHERE reading.value IS NULL AND reading.text IS NULL AND {_HAS_VALUE.format("excluded")}"""
_CONFLICT = f"""\
INSERT INTO conflict ({_COLUMNS}, seen_at)
SELECT {_taken("i")}, %s FROM incoming AS i JOIN reading AS r
ON r.meter = i.meter AND r.stamp = {_timestamp("i.stamp")} AND r.quantity = i.quantity AND r.source = i.source
WHERE {_HAS_VALUE.format("i")} AND (i.value IS DISTINCT FROM r.value OR i.text IS DISTINCT FROM r.text)
ORDER BY i.ordinal
ON CONFLICT DO NOTHING"""
_FILL = """\
INSERT INTO filled_slot (meter, task, slot, read_at)
SELECT DISTINCT ON (meter, task, slot) * FROM unnest(%s::text[], %s::text[], %s::timestamptz[], %s::timestamptz[])
AS s (meter, task, slot, read_at) ORDER BY meter, task, slot, read_at
ON CONFLICT DO NOTHING"""
_CLOSE = """\
UPDATE gap SET closed_at = s.read_at
FROM unnest(%s::text[], %s::text[], %s::timestamptz[], %s::timestamptz[]) AS s (meter, task, slot, read_at)
WHERE gap.meter = s.meter AND gap.task = s.task AND gap.slot = s.slot AND gap.closed_at IS NULL"""

_SPECIAL = re.compile(r"[\\\t\n\r]")
_ESCAPED = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}


class PostgresSink(SqlSink):
    """The central tables in a PostgreSQL database, made when they are not there. Used by one thread at a time.

    A lost connection is SinkAway; the next call connects again.
    """

    def __init__(self, url: str) -> None:
        """Raises SinkUnfit when the tables are of another version or commits would not be durable, and SinkAway."""
        self.url = url
        self._connection: psycopg.Connection[Any] | None = None
        with self._errors():
            self._connected()

    def _connected(self) -> psycopg.Connection[Any]:
        """The connection, made anew if there is none."""
        if self._connection is None:
            connection = psycopg.connect(
                self.url, autocommit=True, connect_timeout=CONNECT_S_MAX, application_name="meterwire-central",
                keepalives_idle=30, keepalives_interval=10, keepalives_count=3,
            )  # fmt: skip
            try:
                _settle_in(connection)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    @contextmanager
    def _transaction(self) -> Iterator[psycopg.Cursor[Any]]:
        with self._errors():
            connection = self._connected()
            with connection.transaction(), connection.cursor() as cursor:
                yield cursor

    @contextmanager
    def _reading(self) -> Iterator[psycopg.Cursor[Any]]:
        with self._errors(), self._connected().cursor() as cursor:
            yield cursor

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """PostgreSQL's errors in the sink's words; a bug of ours (a wrong statement) stays as it is.

        After an error of the connection it is not known whether a COMMIT was done: the inbox will tell when the
        batch comes again.
        """
        try:
            yield
        except (psycopg.OperationalError, psycopg.InterfaceError, errors.ReadOnlySqlTransaction) as error:
            self.close()
            raise SinkAway(f"PostgreSQL: {_first_line(error)}") from error
        except (psycopg.DataError, psycopg.IntegrityError, UnicodeEncodeError, OverflowError) as error:
            raise SinkRefuses(f"PostgreSQL: {_first_line(error)}") from error

    def _sql(self, statement: str) -> str:
        return statement.replace("?", "%s")

    def _time(self, ms: int | None) -> datetime | None:
        return None if ms is None else _EPOCH + ms * _MS

    def _ms(self, time: datetime | None) -> int | None:
        return None if time is None else (time - _EPOCH) // _MS

    def _land_readings(self, cursor: Any, rows: list[ReadingTuple], arrival: Arrival) -> Landed:
        with cursor.copy("COPY incoming FROM STDIN") as copy:
            copy.write("".join(map(_copy_line, enumerate(rows))))
        cursor.execute(_LAND)
        landed = Landed(outcome=Outcome.LANDED, readings=cursor.rowcount)
        if landed.readings < len(rows):
            cursor.execute(_CONFLICT, (self._time(arrival.received_at),))
            landed.conflicts = cursor.rowcount
            landed.repeats = len(rows) - landed.readings - landed.conflicts
        return landed

    def _fill_slots(self, cursor: Any, slots: list[tuple[str, str, int, int]]) -> None:
        columns = (
            [slot[0] for slot in slots],
            [slot[1] for slot in slots],
            [self._time(slot[2]) for slot in slots],
            [self._time(slot[3]) for slot in slots],
        )
        cursor.execute(_FILL, columns)
        cursor.execute(_CLOSE, columns)

    def close(self) -> None:
        """Give the connection up."""
        if self._connection is not None:
            with suppress(psycopg.Error):
                self._connection.close()
            self._connection = None


def _settle_in(connection: psycopg.Connection[Any]) -> None:
    """Make commits durable and be sure of it; make the tables, or check their version."""
    connection.execute(f"SET statement_timeout = {STATEMENT_MS_MAX}")
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET synchronous_commit = 'on'")
    level = _setting(connection, "synchronous_commit")
    if level != "on":
        raise SinkUnfit(f"PostgreSQL: expected synchronous_commit on, got {level}")
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_SCHEMA_LOCK,))
        found = connection.execute("SELECT to_regclass('meterwire_schema') IS NOT NULL").fetchone()
        if found is not None and not found[0]:
            connection.execute(files("central.sinks").joinpath("postgres_1.sql").read_bytes())
            connection.execute("INSERT INTO meterwire_schema (version) VALUES (%s)", (SCHEMA_VERSION,))
        row = connection.execute("SELECT max(version) FROM meterwire_schema").fetchone()
        if row is None or row[0] != SCHEMA_VERSION:
            raise SinkUnfit(f"PostgreSQL: expected central tables of version {SCHEMA_VERSION}, got {row and row[0]}")
    connection.execute(_INCOMING.encode())


def _setting(connection: psycopg.Connection[Any], name: str) -> str:
    row = connection.execute("SELECT current_setting(%s)", (name,)).fetchone()
    assert row is not None
    return str(row[0])


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _copy_line(numbered: tuple[int, ReadingTuple]) -> str:
    """A row in COPY's text format. Only these columns hold text that is not ours."""
    ordinal, row = numbered
    if _SPECIAL.search(f"{row[0]}{row[1]}{row[2]}{row[6]}{row[9]}{row[15]}"):
        cells = ["\\N" if cell is None else _SPECIAL.sub(_escape, str(cell)) for cell in row]
    else:
        cells = ["\\N" if cell is None else str(cell) for cell in row]
    return f"{ordinal}\t" + "\t".join(cells) + "\n"


def _escape(match: re.Match[str]) -> str:
    return _ESCAPED[match[0]]
