"""How a store is opened: locked, made sound, with its ballast and its spare file; on the spare one where it must be."""

import errno
import fcntl
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

import apsw

from buffer import pressure, recovery
from buffer.ballast import Ballast
from buffer.errors import StoreAway, StoreBusy, StoreFailed
from buffer.spare import NAME, Spare
from buffer.sqlite import abandon, pragma
from buffer.store import OpenStore, Store
from buffer.words import Limits, RecordClass

STORE_NAME: Final = "outbox.db"
LOCK_NAME: Final = "outbox.lock"


def open_sound(
    directory: Path, *, spare: Path | None, random: Callable[[int], bytes], now_ms: Callable[[], int], vfs: str | None,
    limits: Limits, classes: Mapping[str, RecordClass], opener: OpenStore,
) -> tuple[Store, list[str]]:  # fmt: skip
    """The store in `directory` with a new epoch, and what had to be done for it, for people. Raises OutboxError."""
    path = directory / STORE_NAME
    other = (spare or directory) / NAME
    connects = {each: partial(_bounded, partial(opener, each, vfs=vfs), limits.bytes_max) for each in (path, other)}
    there = Spare(other, connects[other], elsewhere=spare is not None)

    def begin(on: Path) -> tuple[Store, list[str]]:
        connection, damage = _prepared(on, connects[on], now_ms)
        try:
            if on == path and other.exists():
                found, spoilt = _prepared(other, connects[other], now_ms)
                found.close()
                damage += spoilt
            if on == path and there.take_back(connection):
                damage.append(f"{other}: taken back, where the store had gone on while its disk failed")
        except BaseException:
            abandon(connection)
            raise
        store = Store.start(on, connection, connect=connects[on], random=random, limits=limits, now_ms=now_ms,
                            classes=classes)  # fmt: skip
        store.relieve = partial(pressure.relieve, store)
        return store, damage

    try:
        store, damage = begin(path)
    except StoreAway as error:
        if Ballast(directory, limits.ballast_bytes).release():
            store, damage = begin(path)
        elif spare is not None:
            spare.mkdir(mode=0o700, parents=True, exist_ok=True)
            store, damage = begin(other)
            damage.append(f"{error}; gone on in {other}")
        else:
            raise
    store.spare = there
    store.ballast.restore()
    return store, damage


def _prepared(
    path: Path, connect: Callable[[], apsw.Connection], now_ms: Callable[[], int]
) -> tuple[apsw.Connection, list[str]]:
    try:
        return recovery.prepare(path, connect=connect, now_ms=now_ms)
    except OSError as error:
        raise _failed(path, error) from error


def _bounded(connect: Callable[[], apsw.Connection], bytes_max: int) -> apsw.Connection:
    connection = connect()
    if bytes_max:
        connection.execute(f"PRAGMA max_page_count = {bytes_max // int(pragma(connection, 'page_size') or 1)}")
    return connection


def hold(directory: Path, *, spare: Path | None) -> int:
    """The lock that keeps a second process out; let go when the process ends, however it ends.

    It is in `directory`, or in the spare one where that disk is gone. Raises OutboxError.
    """
    try:
        return _locked(directory)
    except StoreFailed:
        if spare is None:
            raise
        return _locked(spare)


def _locked(directory: Path) -> int:
    try:
        lock = _opened(directory)
    except OSError as error:
        raise _failed(directory, error) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise StoreBusy(f"{directory}: another process has this store open; stop that one first") from None
    return lock


def _opened(directory: Path) -> int:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = directory / LOCK_NAME
    try:
        return os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def _failed(path: Path, error: OSError) -> StoreFailed:
    return StoreFailed(f"{path}: {error.strerror or error}; check the disk, its mount and the owner of the directory")
