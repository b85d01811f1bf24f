"""What the command line shows of a store, whether a daemon runs on it or not.

Read with sqlite-utils, so with Python's own SQLite. That must not happen inside the daemon: POSIX locks belong to a
process, and closing a file in one library would drop the locks that the other holds on it.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlite_utils import Database

from buffer.errors import OutboxError, StoreForeign
from buffer.opening import STORE_NAME
from buffer.sqlite import APPLICATION_ID, refuse_newer

_VIEWS: Final = {
    "meters": (
        "SELECT series.meter AS meter, series.task AS task, series.last_slot AS last_slot, count(record.id) AS records,"
        " coalesce(sum(record.kind = 1), 0) AS gaps"
        " FROM main.series LEFT JOIN main.record ON record.series = series.id GROUP BY series.id ORDER BY meter, task"
    ),
    "batches": (
        "SELECT epoch >> 32 AS boot, epoch, seq, CASE kind WHEN 65002 THEN 'events' ELSE 'captures' END AS kind,"
        " records, attempts, length(message) AS bytes FROM main.batch ORDER BY main.batch.kind DESC, epoch, seq"
    ),
    "requeued": (
        "SELECT CASE kind WHEN 65002 THEN 'events' ELSE 'captures' END AS kind, first, last, attempts FROM main.requeue"
        " ORDER BY id"
    ),
    "gone": "SELECT epoch >> 32 AS boot, epoch, seq, reason FROM main.voided ORDER BY epoch, seq",
}
"""Tables for people. Temporary views: the store itself is opened for reading only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A store in figures."""

    boot: int
    epoch: int
    next_seq: int
    clean: bool
    records: int
    events: int
    unsealed: int
    batches: int
    batched_records: int
    requeued_ranges: int
    voided: int
    unreadable: int
    bytes: int
    set_aside: tuple[str, ...]
    """Damaged files beside it."""


@contextmanager
def inspected(directory: Path) -> Iterator[Database]:
    """The store in `directory`, for reading, with the views `meters`, `batches`, `requeued` and `gone`.

    Raises OutboxError when there is none, or when it cannot be read.
    """
    path = directory / STORE_NAME
    if not path.exists():
        raise StoreForeign(f"{path}: no store there")
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    try:
        connection.execute("PRAGMA temp_store = MEMORY")
        if connection.execute("PRAGMA application_id").fetchone() != (APPLICATION_ID,):
            raise StoreForeign(f"{path}: not a store of Meterwire")
        refuse_newer(connection.execute("PRAGMA user_version").fetchone()[0], path)
        for name, select in _VIEWS.items():
            connection.execute(f"CREATE TEMP VIEW {name} AS {select}")
        yield Database(connection, execute_plugins=False)
    except sqlite3.DatabaseError as error:
        raise OutboxError(f"{path}: {error}; the daemon's next start looks into it") from error
    finally:
        connection.close()


def rows(directory: Path, view: str) -> list[dict[str, Any]]:
    """The rows of one of the views, as objects."""
    with inspected(directory) as database:
        return list(database.query(f"SELECT * FROM {_known(view)}"))


def _known(view: str) -> str:
    if view not in _VIEWS:
        raise ValueError(f"expected one of {', '.join(_VIEWS)}, got {view}")
    return view


def summary(directory: Path) -> Summary:
    """A store in figures."""
    with inspected(directory) as database:
        boot = next(database.query("SELECT * FROM boot"))
        figures = next(
            database.query(
                "SELECT (SELECT count(*) FROM record) AS records, (SELECT count(*) FROM event) AS events,"
                " (SELECT count(*) FROM record WHERE id > (SELECT sealed_upto FROM lane WHERE kind = 65001))"
                " + (SELECT count(*) FROM event WHERE id > (SELECT sealed_upto FROM lane WHERE kind = 65002))"
                " AS unsealed,"
                " (SELECT count(*) FROM batch) AS batches,"
                " (SELECT coalesce(sum(records), 0) FROM batch) AS batched_records,"
                " (SELECT count(*) FROM requeue) AS requeued_ranges, (SELECT count(*) FROM voided) AS voided,"
                " (SELECT count(*) FROM unreadable) AS unreadable"
            )
        )
    stem, suffix = STORE_NAME.split(".")
    return Summary(
        boot=boot["count"], epoch=boot["epoch"], next_seq=boot["next_seq"], clean=bool(boot["clean"]), **figures,
        bytes=sum(path.stat().st_size for path in directory.glob(f"{STORE_NAME}*")),
        set_aside=tuple(sorted(path.name for path in directory.glob(f"{stem}.damaged-*.{suffix}"))),
    )  # fmt: skip
