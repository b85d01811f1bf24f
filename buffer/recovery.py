"""A damaged store is set aside whole, never deleted; what can still be read of it begins the new one.

The steps survive a power cut at any point: a marker file names the number of the case until the new store stands under
its final name, and each step looks first whether it was done.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import apsw

from buffer.errors import OutboxError, StoreDamaged
from buffer.graft import graft, page_bytes
from buffer.rows import to_row
from buffer.salvage import Salvaged, readable, salvage
from buffer.sqlite import abandon, open_reader, open_store, transaction, translated
from protocols.capture import Event

PARTS: Final = ("-wal", "-shm", "")
"""The file set; the database itself last, so that what is half moved still shows what it was."""
CHECK_BYTES_MAX: Final = 32 * 1024 * 1024
"""A store up to this size is checked at every start; a larger one after an unclean stop, and by `Outbox.check`."""

_FINDINGS_MAX: Final = 4


def prepare(
    path: Path, *, connect: Callable[[], apsw.Connection], now_ms: Callable[[], int]
) -> tuple[apsw.Connection, list[str]]:
    """Open the store, which is sound then; and what had to be done for it, for people: empty when it was sound."""
    damage = []
    if _marker(path).exists():
        damage.append(_set_aside(path, "an earlier start was cut off while it set the store aside", now_ms))
    if not path.exists():
        # Made here, so that its mode is ours, and so that its name is on the disk before anything in it counts.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        _sync_directory(path)
    try:
        return _sound(path, connect), damage
    except StoreDamaged as error:
        damage.append(_set_aside(path, str(error), now_ms))
    return _sound(path, connect), damage


def _sound(path: Path, connect: Callable[[], apsw.Connection]) -> apsw.Connection:
    """A connection to a store that was found sound. Raises StoreDamaged."""
    connection = connect()
    try:
        with translated(path):
            found = _first_look(connection, path)
    except BaseException:
        abandon(connection)
        raise
    if found:
        abandon(connection)
        raise StoreDamaged(f"{path}: {'; '.join(found)}")
    return connection


def _first_look(connection: apsw.Connection, path: Path) -> list[str]:
    row = connection.execute("SELECT clean FROM boot").fetchone()
    if row is None:
        return ["its boot row is gone"]
    return findings(connection) if not row[0] or path.stat().st_size <= CHECK_BYTES_MAX else []


def findings(connection: apsw.Connection) -> list[str]:
    """What a quick check finds wrong; empty when nothing is."""
    rows = [line for (text,) in connection.execute(f"PRAGMA quick_check({_FINDINGS_MAX})")
            for line in str(text).splitlines()]  # fmt: skip
    return [] if rows == ["ok"] else rows[:_FINDINGS_MAX]


def _marker(path: Path) -> Path:
    return path.with_name(f"{path.stem}.damaged")


def _aside(path: Path, number: int) -> Path:
    return path.with_name(f"{path.stem}.damaged-{number}{path.suffix}")


def _parts(path: Path) -> Iterable[Path]:
    return (path.with_name(path.name + part) for part in PARTS)


def _set_aside(path: Path, why: str, now_ms: Callable[[], int]) -> str:
    """Move the file set to its quarantine name, and put a new store in its place with what could be saved."""
    marker = _marker(path)
    if marker.exists():
        number = int(marker.read_text(encoding="ascii"))
    else:
        number = 1
        while _aside(path, number).exists():
            number += 1
        _write_synced(marker, str(number))
    aside = _aside(path, number)
    fresh = path.with_name(f"{path.stem}.new{path.suffix}")
    if aside.exists() and path.exists():
        # Only the marker was left: the new store stands already.
        marker.unlink()
        _sync_directory(path)
        return f"{why}; {aside.name} was set aside and what could be read of it was taken over"
    for source, target in zip(_parts(path), _parts(aside), strict=True):
        if source.exists():
            source.rename(target)
            _sync_directory(path)
    _remove(fresh)  # Half-made by a start that was cut off; all that is in it is in `aside` too.
    os.close(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    saved = _take_over(aside, fresh, why, now_ms)
    fresh.rename(path)
    _sync_directory(path)
    marker.unlink()
    _sync_directory(path)
    told = f"taken over: {saved.records} records, {saved.events} events; failed to read: {saved.unreadable} rows"
    return f"{why}; set aside as {aside.name}; {told}{'; all of it is sent again' if saved.resend else ''}"


def _take_over(aside: Path, fresh: Path, why: str, now_ms: Callable[[], int]) -> Salvaged:
    """Fill the new store, and an event that tells of it, in one transaction."""
    with translated(fresh), _open_damaged(aside) as old:
        connection = open_store(fresh)
        try:
            with transaction(connection):
                saved = Salvaged(resend=True) if old is None else salvage(old, connection, page_bytes(aside))
                at = now_ms()
                detail: dict[str, str | int] = {"file": aside.name, "why": why[:200], "records": saved.records,
                                                "events": saved.events, "unreadable": saved.unreadable}  # fmt: skip
                event = Event(name="store_damaged", at=at, detail=detail)
                connection.execute("INSERT INTO event (moment, body) VALUES (?, ?)", to_row(event))
                # Whatever its stop was, it is checked at its first start.
                connection.execute("UPDATE boot SET clean = 0")
        finally:
            connection.close()  # The last connection: it copies the WAL home, so that one file is the whole store.
    return saved


@contextmanager
def _open_damaged(aside: Path) -> Iterator[apsw.Connection | None]:
    """The damaged file as it is; where its schema cannot be read, a copy of it with a sound first page; else None."""
    copy = aside.with_name(f"{aside.stem}.copy{aside.suffix}")
    for path, grafted in ((aside, False), (copy, True)):
        try:
            if grafted:
                graft([*_parts(aside)], [*_parts(copy)])
            old = open_reader(path)
        except OutboxError:
            continue  # It did not even open: the copy is the next try, and after it None says so to the caller.
        try:
            if readable(old):
                yield old
                return
        finally:
            old.close()
            if grafted:
                _remove(copy)
    _remove(copy)
    yield None


def _remove(path: Path) -> None:
    """Take away what this module made for itself."""
    for part in _parts(path):
        part.unlink(missing_ok=True)


def _write_synced(path: Path, text: str) -> None:
    with path.open("w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    _sync_directory(path)


def _sync_directory(path: Path) -> None:
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
