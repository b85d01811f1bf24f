"""Readings by UTC day in PostgreSQL: which partitions there are, making them ahead and on demand, dropping old ones.

`reading_YYYYMMDD` holds the stamps of one UTC day. `reading_before` takes all that is older than the first of them may
be (2000; or, in a database that was brought up from version 1, all that had landed by then), `reading_after` all from
2100 on: a meter whose clock is wild does not get a table for each of its days. A partition is made beside the table and
attached to it, which stops nobody who lands at the time.
"""

import re
import time
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import psycopg
from psycopg import errors, sql

from central.sinks.base import SinkAway, SinkRefuses

DAY_MS: Final = 86_400_000
AHEAD: Final = 3
"""Days for which there is a partition before the first reading of them comes, today included."""
DAYS_MAX: Final = 100
"""Days for which one batch may have partitions made: a batch of more is refused, and comes again in halves."""
LOCK: Final = 0x6D77_7364
"""Advisory lock under which partitions are made and dropped."""
DROP_WAITS_MS: Final = 500
"""How long a drop, and with it all who land, waits for those who read."""
DROP_PAUSES_S: Final = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Between its attempts."""
_EPOCH = date(1970, 1, 1)
_OLDEST = (date(2000, 1, 1) - _EPOCH).days
_AFTER = (date(2100, 1, 1) - _EPOCH).days
_NAME = re.compile(r"reading_(\d{8})")
_BEFORE = re.compile(r"TO \('(\d{4}-\d\d-\d\d) 00:00:00\+00'\)")


def day_name(day: int) -> str:
    """The partition of a UTC day (days since 1970)."""
    return f"reading_{_EPOCH + timedelta(days=day):%Y%m%d}"


class Partitions:
    """The partitions that are known to be there; they are read from the database once, and when one is missed."""

    def __init__(self) -> None:
        self._days: set[int] = set()
        self._first = 0
        """Days before this one are in `reading_before`."""

    def read(self, connection: psycopg.Connection[Any]) -> None:
        """Learn which there are."""
        rows = connection.execute(
            "SELECT c.relname, pg_get_expr(c.relpartbound, c.oid) FROM pg_inherits AS i"
            " JOIN pg_class AS c ON c.oid = i.inhrelid WHERE i.inhparent = 'reading'::regclass"
        ).fetchall()
        self._days = {(_day(match[1]) - _EPOCH).days for name, _ in rows if (match := _NAME.fullmatch(name))}
        bounds = [_BEFORE.search(bound) for name, bound in rows if name == "reading_before"]
        self._first = (date.fromisoformat(bounds[0][1]) - _EPOCH).days if bounds and bounds[0] else _OLDEST

    def missing(self, stamps: Iterable[int], now: int) -> list[int]:
        """The days that need a partition before these stamps can land at this time (UTC ms)."""
        today = now // DAY_MS
        wanted = {stamp // DAY_MS for stamp in stamps} | set(range(today, today + AHEAD))
        return sorted(day for day in wanted - self._days if self._first <= day < _AFTER)

    def make(self, connection: psycopg.Connection[Any], days: list[int]) -> None:
        """Make the partitions of these days, in a transaction of its own. Raises SinkRefuses for too many at once."""
        if len(days) > DAYS_MAX:
            raise SinkRefuses(f"PostgreSQL: readings of {len(days)} new days in one batch, at most {DAYS_MAX}")
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
            self.read(connection)  # another worker may have made them meanwhile
            for day in days:
                if day not in self._days:
                    name = sql.Identifier(day_name(day))
                    first, last = (sql.Literal(f"{_EPOCH + timedelta(days=d)} 00:00:00+00") for d in (day, day + 1))
                    connection.execute(sql.SQL("CREATE TABLE {} (LIKE reading INCLUDING ALL)").format(name))
                    connection.execute(
                        sql.SQL("ALTER TABLE reading ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})").format(
                            name, first, last
                        )
                    )
        self._days.update(days)

    def drop(self, connection: psycopg.Connection[Any], before: date) -> list[str]:
        """Drop the partitions that hold only stamps before this UTC day; their names. Raises SinkAway.

        One after the other, each in a transaction of its own: a drop waits for all who read or land, and whoever comes
        after it waits for the drop. Where somebody reads on (an export), it gives way, and tries again.
        """
        self.read(connection)
        limit = (before - _EPOCH).days
        names = [day_name(day) for day in sorted(self._days) if day < limit]
        if _OLDEST < self._first <= limit:
            names.insert(0, "reading_before")
        for number, name in enumerate(names):
            if not any(_dropped(connection, name, pause_s) for pause_s in (*DROP_PAUSES_S, 0)):
                raise SinkAway(f"PostgreSQL: {name}: somebody reads for too long; {number} of {len(names)} dropped")
        self.read(connection)
        return names


def _dropped(connection: psycopg.Connection[Any], name: str, pause_s: float) -> bool:
    """Whether it could be dropped at once; if not, so long is waited."""
    try:
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
            connection.execute(f"SET LOCAL lock_timeout = {DROP_WAITS_MS}".encode())
            connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(name)))
            if name == "reading_before":
                connection.execute(
                    "CREATE TABLE reading_before PARTITION OF reading FOR VALUES FROM (MINVALUE)"
                    " TO ('2000-01-01 00:00:00+00')"
                )
    except errors.LockNotAvailable:
        time.sleep(pause_s)
        return False
    return True


def _day(digits: str) -> date:
    return datetime.strptime(digits, "%Y%m%d").replace(tzinfo=UTC).date()
