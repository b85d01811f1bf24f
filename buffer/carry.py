"""What a stick takes to the centre: key records and unsettled batches of a store, also while a daemon runs on it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import apsw

from buffer.files import StoreFiles
from buffer.sqlite import integers
from buffer.words import TABLES
from protocols.envelope import BatchKind

_NAMES = {BatchKind.EVENTS: "event", BatchKind.CAPTURES: "batch"}


@dataclass(slots=True, kw_only=True)
class Carried:
    """What `carried` has given so far. unsealed: records that are in no batch yet."""

    keys: int = 0
    batches: int = 0
    unsealed: int = 0
    unread: list[str] = field(default_factory=list)
    """Files of the store that could not be read, so that nothing of them is given: for people."""


def carried(directory: Path, count: Carried, *, spare: Path | None = None) -> Iterator[tuple[str, bytes]]:
    """(name of the topic, message): key records first, then events, then captures, oldest first. Counts as it goes.

    Raises OutboxError when there is no store in `directory`, or it cannot be read.
    """
    with StoreFiles(directory, spare=spare) as files:
        count.unread += files.unread
        count.unsealed += sum(unsealed for _, unsealed in files.each(_unsealed))
        # Numbers first: a read that stays open while its caller writes to a stick keeps the WAL from being reset.
        for key in dict.fromkeys(key for _, keys in files.each(_keys) for key in keys):
            count.keys += 1
            yield "key", key
        for kind in TABLES:
            for place, numbers in files.each(partial(_numbers, kind=kind)):
                for number in numbers:
                    message = files.at(place, partial(_message, number=number))
                    if message is not None:  # else settled meanwhile
                        count.batches += 1
                        yield _NAMES[kind], message


def _unsealed(connection: apsw.Connection) -> int:
    return sum(
        integers(
            connection,
            f"SELECT count(*) FROM {table} WHERE id > (SELECT sealed_upto FROM lane WHERE kind = ?)",
            (int(kind),),
        )[0]
        for kind, table in TABLES.items()
    )


def _keys(connection: apsw.Connection) -> list[bytes]:
    rows = connection.execute("SELECT message FROM key_record WHERE kid IN (SELECT kid FROM batch) ORDER BY id")
    return [message for (message,) in rows]


def _numbers(connection: apsw.Connection, *, kind: BatchKind) -> list[int]:
    rows = connection.execute("SELECT id FROM batch WHERE kind = ? ORDER BY epoch, seq", (int(kind),))
    return [number for (number,) in rows]


def _message(connection: apsw.Connection, *, number: int) -> bytes | None:
    row: tuple[bytes] | None = connection.execute("SELECT message FROM batch WHERE id = ?", (number,)).fetchone()
    return None if row is None else row[0]
