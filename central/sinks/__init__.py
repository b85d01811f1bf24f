"""Where readings land: SQLite or PostgreSQL, behind one face."""

from pathlib import Path

from central.sinks.base import Sink, SinkUnfit

SQLITE, POSTGRESQL = "sqlite:///", "postgresql://"
NO_PSYCOPG = "PostgreSQL: the package psycopg is not installed; see requirements/central.txt"


def open_sink(database: str) -> Sink:
    """The sink of `sqlite:///PATH` (three slashes and a path; a fourth begins an absolute one) or `postgresql://...`.

    Raises SinkUnfit, SinkAway, or ValueError for another form.
    """
    if database.startswith(SQLITE) and len(database) > len(SQLITE):
        from central.sinks.sqlite import SqliteSink

        return SqliteSink(Path(database.removeprefix(SQLITE)))
    if database.startswith(POSTGRESQL):
        try:
            from central.sinks.postgres import PostgresSink
        except ModuleNotFoundError as error:
            raise SinkUnfit(NO_PSYCOPG) from error

        return PostgresSink(database)
    raise ValueError(f"expected {SQLITE}PATH or {POSTGRESQL}USER@HOST/DATABASE, got {database!r}")
