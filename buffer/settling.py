"""From batches to history: offered until a receipt settles them, or voided, so that their rows are sealed again.

Jobs of the store, a transaction each.
"""

from collections.abc import Iterable, Set

import apsw

from buffer.sqlite import transaction
from buffer.store import Store
from buffer.words import KeyEntry, Sealed, Settled
from protocols.envelope import BatchKind
from protocols.messages import Receipt


def offers(
    connection: apsw.Connection,
    limit: int,
    exclude: Set[tuple[int, int]],
    *,
    live_from: tuple[int, int] = (0, 0),
    backfill: int | None = None,
) -> list[Sealed]:
    """Up to `limit` unsettled batches without those in `exclude`: events first, then live ones, then older ones.

    Live are those from the number (epoch, seq) `live_from` on; of the older ones there are at most `backfill`. In each
    of the three parts they come by epoch and seq.
    """
    found: list[Sealed] = []
    parts = (
        (BatchKind.EVENTS, ">=", (0, 0)),
        (BatchKind.CAPTURES, ">=", live_from),
        (BatchKind.CAPTURES, "<", live_from),
    )
    for kind, side, bound in parts:
        most = limit if side == ">=" or backfill is None else min(limit, len(found) + backfill)
        numbers = connection.execute(
            f"SELECT id, epoch, seq FROM batch WHERE kind = ? AND (epoch, seq) {side} (?, ?) ORDER BY epoch, seq",
            (int(kind), *bound),
        )
        chosen: list[int] = []
        for number, epoch, seq in numbers:
            if len(found) + len(chosen) >= most:
                break
            if (epoch, seq) not in exclude:
                chosen.append(number)
        numbers.close()
        for number in chosen:
            row = connection.execute(
                "SELECT epoch, seq, kid, message, records FROM batch WHERE id = ?", (number,)
            ).fetchone()
            if row is not None:
                epoch, seq, kid, message, records = row
                found.append(Sealed(epoch=epoch, seq=seq, kind=kind, kid=kid, message=message, records=records))
    return found


def settle(store: Store, connection: apsw.Connection, receipt: Receipt) -> Settled:
    """Take the committed batches off, and void the rejected ones: their rows are sealed again under new numbers."""
    rejected = dict(receipt.rejected)
    ranges = [(0, receipt.contiguous_upto), *receipt.ranges]
    settled: list[tuple[int]] = []
    voided: list[int] = []
    records = passed = 0
    with transaction(connection):
        for first, last in ranges:
            rows: Iterable[tuple[int, int, int]] = connection.execute(
                "SELECT id, seq, records FROM batch WHERE epoch = ? AND seq BETWEEN ? AND ?",
                (receipt.epoch, first, last),
            )
            for number, seq, count in rows:
                if seq not in rejected:
                    settled.append((number,))
                    records += count
        connection.executemany("DELETE FROM batch WHERE id = ?", settled)
        for seq, code in receipt.rejected:
            if _void(connection, receipt.epoch, seq, f"rejected: {code}"):
                voided.append(seq)
        for first, last in ranges:
            # The centre has gone past these without rejecting them again: it knows that they will never come.
            gone = connection.execute(
                "SELECT seq FROM voided WHERE epoch = ? AND seq BETWEEN ? AND ?", (receipt.epoch, first, last)
            ).fetchall()
            known = [(receipt.epoch, seq) for (seq,) in gone if seq not in rejected]
            connection.executemany("DELETE FROM voided WHERE epoch = ? AND seq = ?", known)
            passed += len(known)
        drop_keys(store, connection)
    count_voided(store, connection, len(voided), batches=-len(settled) - len(voided))
    store.counters["settled_batches"] += len(settled)
    store.counters["settled_records"] += records
    store.counters["rejected"] += len(voided)
    if receipt.epoch == store.epoch and ranges[-1][1] >= store.next_seq:
        store.counters["receipts_beyond"] += 1
    return Settled(batches=len(settled), records=records, voided=tuple(voided), passed=passed)


def void(store: Store, connection: apsw.Connection, epoch: int, seq: int, reason: str) -> bool:
    """Give a batch up and queue its rows to be sealed again. False when there is no such unsettled batch."""
    with transaction(connection):
        found = _void(connection, epoch, seq, reason)
        drop_keys(store, connection)
    if found:
        count_voided(store, connection, 1, batches=-1)
    return found


def _void(connection: apsw.Connection, epoch: int, seq: int, reason: str) -> bool:
    row = connection.execute(
        "SELECT id, kind, first, last, attempts FROM batch WHERE epoch = ? AND seq = ?", (epoch, seq)
    ).fetchone()
    if row is None:
        return False
    number, kind, first, last, attempts = row
    connection.execute("INSERT OR REPLACE INTO voided VALUES (?, ?, ?)", (epoch, seq, reason))
    connection.execute(
        "INSERT INTO requeue (kind, first, last, attempts) VALUES (?, ?, ?, ?)", (kind, first, last, attempts + 1)
    )
    connection.execute("DELETE FROM batch WHERE id = ?", (number,))
    return True


def count_voided(store: Store, connection: apsw.Connection, voided: int, *, batches: int) -> None:
    parked = store.standing.parked
    store.restand(connection, batches=batches)
    store.counters["voided"] += voided
    store.counters["parked"] += max(0, store.standing.parked - parked)


def drop_keys(store: Store, connection: apsw.Connection) -> None:
    """Let go of key records whose last batch is settled; the newest of this epoch may yet seal one."""
    connection.execute(
        "DELETE FROM key_record WHERE kid NOT IN (SELECT kid FROM batch)"
        " AND id IS NOT (SELECT max(id) FROM key_record WHERE epoch = ?) AND kid IS NOT ?",
        (store.epoch, store.prepared and store.prepared.sealed.kid),
    )


def key_records(connection: apsw.Connection, epoch: int) -> list[KeyEntry]:
    """The key records of unsettled batches, and the current one, oldest first."""
    rows = connection.execute(
        "SELECT kid, epoch, message FROM key_record WHERE kid IN (SELECT kid FROM batch)"
        " OR id = (SELECT max(id) FROM key_record WHERE epoch = ?) ORDER BY id",
        (epoch,),
    )
    return [KeyEntry(kid=kid, epoch=epoch, message=message) for kid, epoch, message in rows]


def voided(connection: apsw.Connection, limit: int) -> list[tuple[int, int]]:
    """Numbers (epoch, seq) that will never come, lowest first."""
    return list(connection.execute("SELECT epoch, seq FROM voided ORDER BY epoch, seq LIMIT ?", (limit,)))
