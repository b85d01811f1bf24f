"""Stores of former schemas: each has a sample in tests/vectors, written by the code of its day and never changed."""

import sqlite3
from pathlib import Path

from buffer.rows import from_row
from protocols.capture import Record

VECTORS = Path(__file__).parent / "vectors"


def sample(version: int) -> Path:
    """The file that holds the sample of a schema."""
    return VECTORS / f"outbox_schema_{version}.db.gz"


def unsettled(path: Path) -> tuple[list[tuple[int, int, bytes]], list[Record]]:
    """The batches of a store, and its records that no batch holds and that are not settled; by plain SQL."""
    connection = sqlite3.connect(path)
    batches = connection.execute("SELECT epoch, seq, message FROM batch ORDER BY epoch, seq").fetchall()
    records = []
    for kind, table in ((65002, "event"), (65001, "record")):
        rows = connection.execute(
            f"SELECT body FROM {table} WHERE id > (SELECT sealed_upto FROM lane WHERE kind = ?1) OR EXISTS"
            f" (SELECT 1 FROM requeue WHERE kind = ?1 AND {table}.id BETWEEN first AND last)", (kind,),
        )  # fmt: skip
        records += [from_row(body) for (body,) in rows]
    connection.close()
    return batches, records
