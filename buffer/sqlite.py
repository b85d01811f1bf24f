"""The one place that opens SQLite: every setting is made, read back and asserted.

WAL with synchronous FULL is the cheap setting that keeps an acknowledged row over a power cut (a cut loop on ext4:
FULL lost 0 of 121,955 rows, NORMAL 1,066 of 54,458); see docs/decisions/010-outbox-store.md.

apsw brings its own SQLite. Debian 12's 3.40.1 has the WAL-reset bug (3.7.0 to 3.51.2, fixed in 3.51.3), which needs two
connections that write or checkpoint; so there is one read-write connection, and only it checkpoints.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal

import apsw

from buffer.errors import OutboxError, StoreBusy, StoreDamaged, StoreFailed, StoreForeign, StoreFull

Synchronous = Literal["FULL", "NORMAL", "OFF"]
_SYNCHRONOUS: Final[dict[Synchronous, int]] = {"OFF": 0, "NORMAL": 1, "FULL": 2}

APPLICATION_ID: Final = 0x4D574F42
"""`MWOB`, in the file's header: whose file it is."""

BUSY_TIMEOUT_MS: Final = 5_000
"""Readers never block the writer in WAL; this covers the moments of opening and of recovery."""
PAGE_BYTES: Final = 1024
"""Of a new store; one that was made with 4096 keeps them. A commit of a few rows writes a handful of pages, so small
ones wear the flash less: 10 bytes for each packed one over the life of hourly batches, where 4096 take 20."""
WAL_AUTOCHECKPOINT_PAGES: Final = 4_000
"""About 4 MB of WAL, then its pages go home: bounds the time that opening after a power cut takes."""
JOURNAL_SIZE_LIMIT_BYTES: Final = 16 * 1024 * 1024
CACHE_KIB: Final = 2_000

_SCHEMA_FILE: Final = re.compile(r"schema_(\d+)\.sql")


def open_store(
    path: Path, *, vfs: str | None = None, synchronous: Synchronous = "FULL", page_bytes: int = PAGE_BYTES
) -> apsw.Connection:
    """Open, or make, a store for writing, with every setting asserted, and bring its schema up to date.

    `page_bytes` is for a new file; `synchronous` is for the negative controls of the crash tests only: they show that
    the rig sees what NORMAL and OFF lose. Raises OutboxError: a StoreDamaged when the file is not a sound database.
    """
    with translated(path):
        connection = apsw.Connection(str(path), vfs=vfs)
        try:
            connection.set_busy_timeout(BUSY_TIMEOUT_MS)
            if schema_version(connection, path) == 0:
                # Before the first table, or they have no effect; before WAL, or the header is written without them.
                connection.execute(f"PRAGMA page_size = {page_bytes}")
                connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute(f"PRAGMA synchronous = {synchronous}")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA wal_autocheckpoint = {WAL_AUTOCHECKPOINT_PAGES}")
            connection.execute(f"PRAGMA journal_size_limit = {JOURNAL_SIZE_LIMIT_BYTES}")
            connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            _common(connection)
            connection.execute("PRAGMA foreign_keys = ON")
            _assert(connection, path, {
                "auto_vacuum": 2,
                "synchronous": _SYNCHRONOUS[synchronous],
                "journal_mode": "wal",
                "busy_timeout": BUSY_TIMEOUT_MS,
                "wal_autocheckpoint": WAL_AUTOCHECKPOINT_PAGES,
                "journal_size_limit": JOURNAL_SIZE_LIMIT_BYTES,
                "mmap_size": 0,
                "temp_store": 2,
                "foreign_keys": 1,
            })  # fmt: skip
            _migrate(connection, path)
        except BaseException:
            abandon(connection)
            raise
        return connection


def open_reader(path: Path) -> apsw.Connection:
    """A connection that only reads, beside the writer: it neither blocks it, nor waits for its syncs."""
    with translated(path):
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            connection.set_busy_timeout(BUSY_TIMEOUT_MS)
            _common(connection)
            connection.execute("PRAGMA query_only = ON")
            _assert(connection, path, {"mmap_size": 0, "temp_store": 2, "query_only": 1})
        except BaseException:
            abandon(connection)
            raise
        return connection


def _common(connection: apsw.Connection) -> None:
    # A failing disk under a memory map is a SIGBUS; as a read it is an error with a name.
    connection.execute("PRAGMA mmap_size = 0")
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute("PRAGMA cell_size_check = ON")
    connection.execute("PRAGMA trusted_schema = OFF")


def abandon(connection: apsw.Connection) -> None:
    """Close a connection that met an error: its pages may never have reached the disk, so none is copied home.

    The next connection recovers the WAL instead, frame by frame, checksums and all. What fails here too says nothing
    new: the error that led here is on its way to the caller.
    """
    with suppress(apsw.Error):
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        connection.close()


def pragma(connection: apsw.Connection, name: str) -> int | str | None:
    """What a setting is now (None where it has no value, as mmap_size has none for a file kept in memory)."""
    row = connection.execute(f"PRAGMA {name}").fetchone()
    return None if row is None else row[0]


def integers(connection: apsw.Connection, sql: str, bindings: Sequence[int] = ()) -> tuple[int, ...]:
    """The only row of a query that gives integers."""
    row = connection.execute(sql, tuple(bindings)).fetchone()
    assert row is not None, sql
    return tuple(number for number in row if isinstance(number, int))


def _assert(connection: apsw.Connection, path: Path, expected: dict[str, int | str]) -> None:
    for name, value in expected.items():
        got = pragma(connection, name)
        if name == "mmap_size" and got is None:
            continue
        if got != value:
            raise StoreForeign(f"{path}: PRAGMA {name} is {got!r} where {value!r} was set: the outbox cannot keep its "
                               f"promise on this file or file system")  # fmt: skip


@cache
def schemas() -> Mapping[int, str]:
    """The SQL of every schema version, by number: schema_1.sql makes the first, each later one alters the former."""
    found = {}
    for entry in resources.files("buffer").iterdir():
        match = _SCHEMA_FILE.fullmatch(entry.name)
        if match:
            found[int(match[1])] = entry.read_text(encoding="utf-8")
    return MappingProxyType(dict(sorted(found.items())))


def schema_version(connection: apsw.Connection, path: Path) -> int:
    """The schema's version, 0 for an empty file. Raises StoreForeign, before anything is written, if it is not ours."""
    version, application = pragma(connection, "user_version"), pragma(connection, "application_id")
    empty = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,)
    assert isinstance(version, int)
    if application != APPLICATION_ID and not (empty and application == 0):
        raise StoreForeign(
            f"{path}: not a store of Meterwire (application id {application}, {APPLICATION_ID} expected)"
        )
    refuse_newer(version, path)
    return version


def refuse_newer(version: int, path: Path) -> None:
    """Raises StoreForeign for a schema's version that this program does not know."""
    newest = max(schemas())
    if version > newest:
        raise StoreForeign(f"{path}: schema {version}, written by a newer Meterwire; this one knows up to {newest}. "
                           f"Install the newer one again: the file is untouched")  # fmt: skip


def _migrate(connection: apsw.Connection, path: Path) -> None:
    """Bring the schema to the newest version, all steps in one transaction."""
    steps = schemas()
    version, newest = schema_version(connection, path), max(steps)
    if version < newest:
        with transaction(connection):
            for step in range(version + 1, newest + 1):
                connection.execute(steps[step])
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {newest}")


@contextmanager
def transaction(connection: apsw.Connection) -> Iterator[None]:
    """All or nothing: committed when the block ends, rolled back when it raises."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # After some errors (full, I/O) SQLite has rolled back by itself.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """SQLite's errors as ours: what happened, and what to do."""
    try:
        yield
    except apsw.FullError as error:
        raise StoreFull(f"{path}: no room to write ({error}); nothing was accepted. Free space on this disk") from error
    except (apsw.CorruptError, apsw.NotADBError, apsw.FormatError) as error:
        raise StoreDamaged(f"{path}: damaged ({error}); restart, and it is set aside and salvaged") from error
    except (apsw.BusyError, apsw.LockedError) as error:
        raise StoreBusy(f"{path}: in use by another process ({error}); stop that one first") from error
    except (apsw.IOError, apsw.CantOpenError, apsw.ReadOnlyError, apsw.PermissionsError, apsw.AuthError) as error:
        raise StoreFailed(f"{path}: {type(error).__name__}: {error}; nothing was accepted. Check the disk, its mount "
                          f"and the owner of the file") from error  # fmt: skip
    except apsw.Error as error:
        raise OutboxError(f"{path}: {type(error).__name__}: {error}") from error
