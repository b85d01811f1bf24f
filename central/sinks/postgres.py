"""Landing in PostgreSQL: COPY into daily partitions, in one transaction with the inbox."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime, timedelta
from importlib.resources import files
from typing import Any
from zlib import crc32

import psycopg
from psycopg import errors

from central.sinks.base import Arrival, Landed, Outcome, SinkAway, SinkRefuses, SinkUnfit
from central.sinks.copying import COPY_COLUMNS, copy_lines, moment
from central.sinks.partitions import DAY_MS, Partitions
from central.sinks.rows import KEY_COLUMNS, TIME_COLUMNS
from central.sinks.sql import SCHEMA_VERSION, SqlSink, other_version
from protocols.capture import Capture

CONNECT_S_MAX = 10
STATEMENT_MS_MAX = 120_000
"""Longer than any batch takes by far: a server that hangs must become SinkAway, not hang the centre."""
_SCHEMA_LOCK = 0x6D77_7363
"""Advisory lock under which the tables are made, so that two subscribers may start at once."""
_GATEWAY_LOCK = 0x6D77_6777
"""First half of the advisory lock of one gateway; the other is its checksum."""

_TYPES = {"clock_error_ms": "bigint", "epoch": "bigint", "seq": "bigint", "value": "numeric", "ratio": "numeric"}
_TYPES |= dict.fromkeys(TIME_COLUMNS, "timestamptz")
_COLUMNS = ", ".join(COPY_COLUMNS)
_KEY = ", ".join(KEY_COLUMNS)
_INCOMING = (
    "CREATE TEMPORARY TABLE incoming (ordinal bigint GENERATED ALWAYS AS IDENTITY, "
    + ", ".join(f"{c} " + _TYPES.get(c, 'text COLLATE "C"' if c in KEY_COLUMNS else "text") for c in COPY_COLUMNS)
    + ") ON COMMIT DELETE ROWS"
)
_COPY_READING = f"COPY reading ({_COLUMNS}) FROM STDIN"
_COPY_INCOMING = f"COPY incoming ({_COLUMNS}) FROM STDIN"
_HAS_VALUE = "({0}.value IS NOT NULL OR {0}.text IS NOT NULL)"
_LAND = f"""\
INSERT INTO reading ({_COLUMNS})
SELECT {_COLUMNS} FROM (
    SELECT DISTINCT ON ({_KEY}) * FROM incoming
    ORDER BY {_KEY}, (value IS NULL AND text IS NULL), ordinal
) AS i
ON CONFLICT ({_KEY}) DO UPDATE SET {", ".join(f"{c} = excluded.{c}" for c in COPY_COLUMNS if c not in KEY_COLUMNS)}
WHERE reading.value IS NULL AND reading.text IS NULL AND {_HAS_VALUE.format("excluded")}"""
_CONFLICT = f"""\
INSERT INTO conflict ({_COLUMNS}, seen_at)
SELECT {", ".join(f"i.{c}" for c in COPY_COLUMNS)}, %s FROM incoming AS i JOIN reading AS r
ON r.meter = i.meter AND r.stamp = i.stamp AND r.quantity = i.quantity AND r.source = i.source
WHERE {_HAS_VALUE.format("i")} AND (i.value IS DISTINCT FROM r.value OR i.text IS DISTINCT FROM r.text)
ORDER BY i.ordinal
ON CONFLICT DO NOTHING"""
_KNOWN = """\
SELECT n.* FROM unnest(%s::text[], %s::bigint[], %s::bigint[]) AS n (gateway, epoch, seq)
WHERE EXISTS (SELECT FROM inbox AS i WHERE (i.gateway, i.epoch, i.seq) = (n.gateway, n.epoch, n.seq))
OR EXISTS (SELECT FROM closed_number AS c WHERE (c.gateway, c.epoch, c.seq) = (n.gateway, n.epoch, n.seq))"""
_FILL = """\
INSERT INTO filled_slot (meter, task, slot, read_at)
SELECT DISTINCT ON (meter, task, slot) * FROM unnest(%s::text[], %s::text[], %s::timestamptz[], %s::timestamptz[])
AS s (meter, task, slot, read_at) ORDER BY meter, task, slot, read_at
ON CONFLICT DO NOTHING"""
_CLOSE = """\
UPDATE gap SET closed_at = s.read_at
FROM unnest(%s::text[], %s::text[], %s::timestamptz[], %s::timestamptz[]) AS s (meter, task, slot, read_at)
WHERE gap.meter = s.meter AND gap.task = s.task AND gap.slot = s.slot AND gap.closed_at IS NULL"""


class _PartitionGone(Exception):
    """There is no partition for a reading, though we believed so."""


class PostgresSink(SqlSink):
    """The central tables in a PostgreSQL database, made when they are not there. Used by one thread at a time.

    A lost connection is SinkAway; the next call connects again.
    """

    def __init__(self, url: str) -> None:
        """Raises SinkUnfit when the tables are of another version or commits would not be durable, and SinkAway."""
        self.url = url
        self._connection: psycopg.Connection[Any] | None = None
        self._partitions = Partitions()
        self._repeating: set[str] = set()
        """Gateways whose last batch held keys that were there already."""
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
            self._partitions.read(connection)
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

    def _answers(self, questions: Sequence[tuple[str, tuple[object, ...]]]) -> list[list[Any]]:
        """All are asked before the first answer is waited for: the waiting is most of what a question costs."""
        with self._errors():
            connection = self._connected()
            with connection.pipeline():
                cursors = [connection.execute(self._sql(statement), given) for statement, given in questions]
                return [cursor.fetchall() for cursor in cursors]

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """PostgreSQL's errors in the sink's words; a bug of ours (a wrong statement) stays as it is.

        After an error of the connection it is not known whether a COMMIT was done: the inbox will tell when the
        batch comes again.
        """
        try:
            yield
        except errors.DeadlockDetected as error:  # undone, and the connection is as good as before
            raise SinkAway(f"PostgreSQL: {_first_line(error)}") from error
        except (psycopg.OperationalError, psycopg.InterfaceError, errors.ReadOnlySqlTransaction) as error:
            self.close()
            raise SinkAway(f"PostgreSQL: {_first_line(error)}") from error
        except (psycopg.DataError, psycopg.IntegrityError, UnicodeEncodeError, OverflowError) as error:
            raise SinkRefuses(f"PostgreSQL: {_first_line(error)}") from error

    def _sql(self, statement: str) -> str:
        return statement.replace("?", "%s")

    def _time(self, ms: int | None) -> datetime | None:
        return None if ms is None else moment(ms)

    def _ms(self, time: datetime | None) -> int | None:
        return None if time is None else (time - moment(0)) // timedelta(milliseconds=1)

    def land_all(self, arrivals: Sequence[Arrival]) -> list[Landed]:
        """See Sink. Days that have no partition get one first."""
        stamps = [record.stamp for one in arrivals for record in one.records if isinstance(record, Capture)]
        now = max((one.received_at for one in arrivals), default=0)
        for _ in range(2):
            with self._errors():
                connection = self._connected()
                if days := self._partitions.missing(stamps, now):
                    self._partitions.make(connection, days)
                try:
                    return super().land_all(arrivals)
                except _PartitionGone:  # an operator drops old days while we believe that they are there
                    self._partitions.read(connection)
        raise SinkAway("PostgreSQL: partitions are dropped as they are made")

    def _hold(self, cursor: Any, gateways: set[str]) -> None:
        """Batches of one gateway land one after the other, whichever workers they came to.

        Always in the same order: two workers that hold several must not wait for each other.
        """
        locks = sorted({crc32(gateway.encode()) - (1 << 31) for gateway in gateways})
        cursor.execute(
            "SELECT pg_advisory_xact_lock(%s, lock) FROM unnest(%s::integer[]) AS lock", (_GATEWAY_LOCK, locks)
        )

    def _closed(self, cursor: Any, arrivals: Sequence[Arrival]) -> list[Outcome | None]:
        """In one question, where there is more than one arrival."""
        if len(arrivals) == 1:
            return super()._closed(cursor, arrivals)
        numbers = [one.gateway for one in arrivals], [one.epoch for one in arrivals], [one.seq for one in arrivals]
        cursor.execute(_KNOWN, numbers)
        known = set(cursor.fetchall())
        return [
            self._closed_as(cursor, number, one.sha256) if number in known else None
            for one in arrivals
            for number in [(one.gateway, one.epoch, one.seq)]
        ]

    def _land_each(
        self, cursor: Any, arrivals: Sequence[Arrival], captures_of: Sequence[Sequence[Capture]]
    ) -> list[Landed]:
        """At once, but for those of gateways that are expected to repeat themselves; where a key is there already,
        each by itself."""
        pairs = list(zip(arrivals, captures_of, strict=True))
        calm = [place for place, one in enumerate(arrivals) if one.gateway not in self._repeating]
        if len(calm) > 1:
            text = "".join(line for place in calm for line in copy_lines(pairs[place][1], arrivals[place]))
            if not self._copied(cursor, text):
                calm = []
        together = set(calm if len(calm) > 1 else ())
        return [
            Landed(outcome=Outcome.LANDED, readings=sum(len(capture.values) for capture in captures))
            if place in together or not captures
            else self._land_readings(cursor, captures, arrival)
            for place, (arrival, captures) in enumerate(pairs)
        ]

    def _land_readings(self, cursor: Any, captures: Sequence[Capture], arrival: Arrival) -> Landed:
        """Straight into the table, as nearly always every key is new; else, all of it undone, by way of `incoming`.

        A gateway that repeated itself in one batch (tasks that share a slot) is likely to do so in the next.
        """
        text = "".join(copy_lines(captures, arrival))
        count = sum(len(capture.values) for capture in captures)
        if arrival.gateway not in self._repeating:
            if self._copied(cursor, text):
                return Landed(outcome=Outcome.LANDED, readings=count)
            self._repeating.add(arrival.gateway)
        return self._land_carefully(cursor, text, count, arrival)

    def _copied(self, cursor: Any, text: str) -> bool:
        """Whether these lines could be copied into `reading`; if not, nothing was: a key is there already."""
        try:
            with cursor.connection.transaction(), cursor.copy(_COPY_READING) as copy:
                copy.write(text)
        except errors.UniqueViolation:
            return False
        except errors.CheckViolation as error:
            raise _PartitionGone from error
        return True

    def _land_carefully(self, cursor: Any, text: str, count: int, arrival: Arrival) -> Landed:
        cursor.execute("DELETE FROM incoming")  # of another batch in this transaction
        with cursor.copy(_COPY_INCOMING) as copy:
            copy.write(text)
        try:
            cursor.execute(_LAND)
        except errors.CheckViolation as error:
            raise _PartitionGone from error
        landed = Landed(outcome=Outcome.LANDED, readings=cursor.rowcount)
        if landed.readings < count:
            cursor.execute(_CONFLICT, (moment(arrival.received_at),))
            landed.conflicts = cursor.rowcount
            landed.repeats = count - landed.readings - landed.conflicts
        else:
            self._repeating.discard(arrival.gateway)
        return landed

    def _fill_slots(self, cursor: Any, slots: list[tuple[str, str, int, int]]) -> None:
        columns = (
            [slot[0] for slot in slots],
            [slot[1] for slot in slots],
            [self._time(slot[2]) for slot in slots],
            [self._time(slot[3]) for slot in slots],
        )
        cursor.execute(_FILL, columns)
        cursor.execute("SELECT 1 FROM gap WHERE closed_at IS NULL LIMIT 1")
        if cursor.fetchone() is not None:
            cursor.execute(_CLOSE, columns)

    def drop_before(self, day: date) -> list[str]:
        """Drop what is of UTC days before this one: slots, gaps and conflicts, then the partitions; their names.

        Workers land meanwhile. Raises SinkAway: what was dropped by then stays so, and the rest may be tried again.
        """
        before = datetime(day.year, day.month, day.day, tzinfo=UTC)
        with self._errors():
            connection = self._connected()
            for table, column in (("conflict", "stamp"), ("filled_slot", "slot"), ("gap", "slot")):
                with connection.transaction():
                    connection.execute("SET LOCAL statement_timeout = 0")
                    connection.execute(f"DELETE FROM {table} WHERE {column} < %s".encode(), (before,))
            return self._partitions.drop(connection, day)

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
        connection.execute("SET LOCAL statement_timeout = 0")  # a large table is brought up to date as long as it takes
        _bring_up(connection)
    connection.execute(_INCOMING.encode())


def _bring_up(connection: psycopg.Connection[Any]) -> None:
    """Make the tables, or bring them from an earlier version to this one, all in the caller's transaction."""
    found = connection.execute("SELECT to_regclass('meterwire_schema') IS NOT NULL").fetchone()
    version = 0
    if found is not None and found[0]:
        row = connection.execute("SELECT max(version) FROM meterwire_schema").fetchone()
        version = row[0] if row is not None and row[0] is not None else -1
    if not 0 <= version <= SCHEMA_VERSION:
        raise other_version("PostgreSQL", version)
    for step in range(version + 1, SCHEMA_VERSION + 1):
        connection.execute(files("central.sinks").joinpath(f"postgres_{step}.sql").read_bytes())
        connection.execute("INSERT INTO meterwire_schema (version) VALUES (%s)", (step,))
        if step == 2:
            _land_ahead(connection)


def _land_ahead(connection: psycopg.Connection[Any]) -> None:
    """Readings of tomorrow and later, which the step to version 2 has put aside, into partitions of their own."""
    found = connection.execute("SELECT to_regclass('pg_temp.ahead') IS NOT NULL").fetchone()
    if found is not None and found[0]:
        partitions = Partitions()
        partitions.read(connection)
        rows = connection.execute("SELECT DISTINCT floor(extract(epoch FROM stamp) / 86400)::bigint FROM ahead")
        days = [day for (day,) in rows]
        partitions.make(connection, partitions.missing((day * DAY_MS for day in days), min(days, default=0) * DAY_MS))
        connection.execute("INSERT INTO reading SELECT * FROM ahead")


def _setting(connection: psycopg.Connection[Any], name: str) -> str:
    row = connection.execute("SELECT current_setting(%s)", (name,)).fetchone()
    assert row is not None
    return str(row[0])


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
