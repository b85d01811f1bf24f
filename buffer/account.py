"""What the gateway has of a span of time: for the account that it gives of a day, and to send it again on request."""

from collections.abc import Iterable, Sequence

import apsw

from buffer.rows import from_row
from buffer.sqlite import integers, transaction
from buffer.store import Store
from buffer.words import TABLES
from protocols.capture import Record
from protocols.envelope import BatchKind
from protocols.errors import Malformed


def numbers(connection: apsw.Connection, since: int, until: int) -> list[int]:
    """The rows of captures and gaps whose slot (stamp, where unplanned) is in [since, until), by slot; UTC ms."""
    rows = connection.execute(
        "SELECT id FROM record WHERE moment >= ? AND moment < ? ORDER BY moment, id", (since, until)
    )
    return [number for (number,) in rows]


def records(connection: apsw.Connection, wanted: Sequence[int]) -> list[Record]:
    """These rows, in this order; without such as were purged or no longer decode."""
    found: list[Record] = []
    for number in wanted:
        row = connection.execute("SELECT body FROM record WHERE id = ?", (number,)).fetchone()
        try:
            if row is not None:
                found.append(from_row(row[0]))
        except Malformed:
            continue  # counted when it was sealed
    return found


def oldest(connection: apsw.Connection) -> tuple[int, int] | None:
    """(epoch, seq) of the oldest batch that is not settled."""
    row: tuple[int, int] | None = connection.execute(
        "SELECT epoch, seq FROM batch ORDER BY epoch, seq LIMIT 1"
    ).fetchone()
    return row


def again(store: Store, connection: apsw.Connection, since: int, until: int) -> int:
    """Have what was accepted in [since, until) sealed again under new numbers; says how many rows, at most, that is.

    Rows are taken as a range in the order of acceptance, from the first to the last of these moments: rather some more
    than one too few, for a centre drops what it has. What waits to be settled or to be sealed is left where it is.
    """
    rows = 0
    with transaction(connection):
        for kind, table in TABLES.items():
            found = integers(
                connection, f"SELECT min(id), max(id) FROM {table} WHERE moment >= ? AND moment < ?", (since, until)
            )
            if not found:
                continue
            first, last = found
            (upto,) = integers(connection, "SELECT sealed_upto FROM lane WHERE kind = ?", (int(kind),))
            for begin, end in _settled(connection, kind, first, min(last, upto)):
                connection.execute(
                    "INSERT INTO requeue (kind, first, last, attempts) VALUES (?, ?, ?, 0)", (int(kind), begin, end)
                )
                rows += end - begin + 1
    store.restand(connection)
    return rows


def _settled(connection: apsw.Connection, kind: BatchKind, first: int, last: int) -> list[tuple[int, int]]:
    """The parts of a range of rows that stand in no batch and do not wait to be sealed again."""
    taken: Iterable[tuple[int, int]] = connection.execute(
        "SELECT first, last FROM batch WHERE kind = ? AND first <= ? AND last >= ? UNION"
        " SELECT first, last FROM requeue WHERE kind = ? AND first <= ? AND last >= ? ORDER BY 1",
        (int(kind), last, first, int(kind), last, first),
    )
    parts, at = [], first
    for begin, end in taken:
        if at < begin:
            parts.append((at, begin - 1))
        at = max(at, end + 1)
    if at <= last:
        parts.append((at, last))
    return parts
