"""Looking into the gap table without disturbing what lands: read-only, from another process if need be."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import sqlite_utils

from central.sinks import SQLITE, open_sink
from central.sinks.base import GapRow, SinkAway, SinkUnfit
from central.sinks.sql import SCHEMA_VERSION


def gaps(
    database: str, *, meter: str | None = None, since: int = 0, until: int | None = None, closed: bool = False
) -> Iterator[GapRow]:
    """Gaps by meter and slot: since inclusive, until exclusive, UTC ms; the closed ones only if asked.

    database is as in central.toml. Raises SinkAway when it is not there, SinkUnfit when it is something else;
    nothing is ever made by looking.
    """
    if not database.startswith(SQLITE):
        sink = open_sink(database)
        try:
            yield from sink.gaps(meter=meter, since=since, until=until, closed=closed)
        finally:
            sink.close()
        return
    path = Path(database.removeprefix(SQLITE))
    if not path.exists():
        raise SinkAway(f"{path}: no central database there; `meterwire central run` makes it")
    conditions = ["slot >= :since", "(:until IS NULL OR slot < :until)", "(:meter IS NULL OR meter = :meter)"]
    if not closed:
        conditions.append("closed_at IS NULL")
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version != SCHEMA_VERSION:
                raise SinkUnfit(f"{path}: expected central tables of version {SCHEMA_VERSION}, got {version}")
            table = sqlite_utils.Database(connection).table("gap")
            for row in table.rows_where(
                " AND ".join(conditions), {"since": since, "until": until, "meter": meter},
                order_by="meter, slot, task", select=", ".join(GapRow._fields),
            ):  # fmt: skip
                yield GapRow(**row)
    except sqlite3.OperationalError as error:
        raise SinkAway(f"{path}: {error}") from error
    except sqlite3.DatabaseError as error:
        raise SinkUnfit(f"{path}: {error}") from error
