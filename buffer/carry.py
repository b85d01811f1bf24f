"""What a stick takes to the centre: key records and unsettled batches of a store, also while a daemon runs on it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from buffer.opening import STORE_NAME
from buffer.sqlite import integers, open_reader, translated
from buffer.words import TABLES
from protocols.envelope import BatchKind

_NAMES = {BatchKind.EVENTS: "event", BatchKind.CAPTURES: "batch"}


@dataclass(slots=True, kw_only=True)
class Carried:
    """What `carried` has given so far. unsealed: records that are in no batch yet."""

    keys: int = 0
    batches: int = 0
    unsealed: int = 0


def carried(directory: Path, count: Carried) -> Iterator[tuple[str, bytes]]:
    """(name of the topic, message): key records first, then events, then captures, oldest first. Counts as it goes.

    Raises OutboxError when there is no store in `directory`, or it cannot be read.
    """
    path = directory / STORE_NAME
    with translated(path):
        connection = open_reader(path)
        try:
            for kind, table in TABLES.items():
                (rows,) = integers(
                    connection,
                    f"SELECT count(*) FROM {table} WHERE id > (SELECT sealed_upto FROM lane WHERE kind = ?)",
                    (int(kind),),
                )
                count.unsealed += rows
            # Numbers first: a read that stays open while its caller writes to a stick keeps the WAL from being reset.
            for (message,) in connection.execute(
                "SELECT message FROM key_record WHERE kid IN (SELECT kid FROM batch) ORDER BY id"
            ).fetchall():
                assert isinstance(message, bytes)
                count.keys += 1
                yield "key", message
            for kind in TABLES:
                numbers = connection.execute(
                    "SELECT id FROM batch WHERE kind = ? ORDER BY epoch, seq", (int(kind),)
                ).fetchall()
                for number in numbers:
                    row = connection.execute("SELECT message FROM batch WHERE id = ?", number).fetchone()
                    if row is not None and isinstance(row[0], bytes):  # else settled meanwhile
                        count.batches += 1
                        yield _NAMES[kind], row[0]
        finally:
            connection.close()
