"""From rows to batches: a job of the store, one transaction a batch.

A row is never touched: a batch names the range of rows that it covers. The nonce of a batch is its number, so a number
that was given to `encrypt` is used up: what came back is stored, or, when the disk fails, kept and stored as it is by
the next call.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import apsw

from buffer.errors import OutboxError
from buffer.rows import from_row
from buffer.sqlite import transaction
from buffer.store import Prepared, Store
from buffer.words import TABLES, Sealed
from protocols.batch import RECORDS_MAX, VALUES_MAX, TooMuch, encode, held
from protocols.capture import Record
from protocols.envelope import BatchKind
from protocols.errors import Malformed

Encrypt = Callable[[int, BatchKind, bytes], tuple[bytes, bytes]]
"""(seq, kind, body) to (kid, message). Called once for each number, on the writer's thread."""


class _Range(NamedTuple):
    """Rows of a lane that no batch covers."""

    kind: BatchKind
    requeue: int | None
    first: int
    last: int
    attempts: int


@dataclass(slots=True)
class _Chosen:
    """The rows of one batch: those that decode, those that do not."""

    ids: list[int] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    unreadable: list[tuple[int, str]] = field(default_factory=list)

    @property
    def last(self) -> int:
        return max(self.ids[-1:] + [number for number, _ in self.unreadable[-1:]], default=0)

    def shorten(self, count: int) -> None:
        """Leave all but the first `count` records for another batch."""
        del self.ids[count:], self.records[count:]
        self.unreadable = [bad for bad in self.unreadable if bad[0] < self.ids[-1]]


_ALL_ROWS: Final = (1 << 63) - 1
FULL_PERCENT: Final = 95
"""Of the bytes that a batch may have: as full it is made, by what the last one's values took."""
SHORTER_PERCENT: Final = 80
"""The same where that was too much: fewer values take more bytes each."""


def seal(
    store: Store,
    connection: apsw.Connection,
    encrypt: Encrypt,
    *,
    again: bool = True,
    body_bytes_max: int | None = None,
) -> Sealed | None:
    """Make a batch of the oldest unsealed rows, events before captures, voided ones before new; None if there are none.

    again: whether to take also rows that are to be sealed again; else only new ones. body_bytes_max: where the link
    carries less than `Limits.seal_bytes` allows.

    Raises OutboxError when the key that `encrypt` used has no committed record of this epoch.
    """
    bytes_max = store.limits.seal_bytes if body_bytes_max is None else min(body_bytes_max, store.limits.seal_bytes)
    while store.prepared is None:
        for lane in _ranges(store, connection, again=again):
            chosen, body = _choose(store, connection, lane, max(1, bytes_max))
            if chosen.ids or chosen.unreadable or lane.requeue is not None:
                break
        else:
            return None
        if body is None:
            _pass_over(store, connection, lane, chosen)
            continue
        kid, message = encrypt(store.next_seq, lane.kind, body)
        sealed = Sealed(epoch=store.epoch, seq=store.next_seq, kind=lane.kind, kid=kid, message=message,
                        records=len(chosen.records))  # fmt: skip
        store.prepared = Prepared(sealed, lane.requeue, chosen.ids[0], chosen.last, lane.attempts,
                                  tuple(chosen.unreadable))  # fmt: skip
    return _store(store, connection, store.prepared)


def _ranges(store: Store, connection: apsw.Connection, *, again: bool) -> Iterator[_Range]:
    for kind in TABLES:
        queued = connection.execute(
            "SELECT id, first, last, attempts FROM requeue WHERE kind = ? AND attempts < ? ORDER BY id LIMIT 1",
            (int(kind), store.limits.reseal_attempts),
        ).fetchone()
        if queued is not None and again:
            yield _Range(kind, *queued)
        (upto,) = connection.execute("SELECT sealed_upto FROM lane WHERE kind = ?", (int(kind),)).fetchone() or (0,)
        yield _Range(kind, None, upto + 1, _ALL_ROWS, 0)


def _choose(store: Store, connection: apsw.Connection, lane: _Range, bytes_max: int) -> tuple[_Chosen, bytes | None]:
    """The rows that fit into one batch, and its body (None when not one of them decodes)."""
    fit = store.fit.get(lane.kind, store.limits.seal_values)
    chosen, full = _gather(connection, lane, max(1, min(fit, store.limits.seal_values >> lane.attempts)))
    if not chosen.records:
        return chosen, None
    while True:
        try:
            body = encode(chosen.records)
        except TooMuch:
            chosen.shorten(len(chosen.records) // 2)  # never of one record: what was packed fits into a body
            continue
        if full or len(body) > bytes_max:
            store.fit[lane.kind] = sum(map(_weight, chosen.records)) * bytes_max * FULL_PERCENT // (len(body) * 100)
        if len(body) <= bytes_max or len(chosen.records) == 1:
            return chosen, body
        chosen.shorten(max(1, len(chosen.records) * bytes_max * SHORTER_PERCENT // (len(body) * 100)))


def _gather(connection: apsw.Connection, lane: _Range, values_max: int) -> tuple[_Chosen, bool]:
    """The next rows of a lane, up to about so many values, and whether there are as many."""
    chosen, values = _Chosen(), 0
    cursor = connection.execute(
        f"SELECT id, body FROM {TABLES[lane.kind]} WHERE id BETWEEN ? AND ? ORDER BY id", (lane.first, lane.last)
    )
    try:
        for number, packed in cursor:
            try:
                record = from_row(packed)
            except Malformed as error:
                chosen.unreadable.append((number, str(error)))
                continue
            values += _weight(record)
            if values > VALUES_MAX and chosen.records:
                return chosen, True
            chosen.ids.append(number)
            chosen.records.append(record)
            if values >= values_max or len(chosen.records) == RECORDS_MAX:
                return chosen, True
    finally:
        cursor.close()
    return chosen, False


def _weight(record: Record) -> int:
    return max(1, held(record))


def _pass_over(store: Store, connection: apsw.Connection, lane: _Range, chosen: _Chosen) -> None:
    """Go past rows of which none decodes, without a batch."""
    with transaction(connection):
        _advance(connection, lane.kind, lane.requeue, chosen.last or lane.last)
        _note_unreadable(connection, lane.kind, chosen.unreadable)
    _account(store, connection, lane.kind, lane.requeue, len(chosen.unreadable), batches=0)
    store.counters["unreadable"] += len(chosen.unreadable)


def _store(store: Store, connection: apsw.Connection, prepared: Prepared) -> Sealed:
    sealed = prepared.sealed
    key = connection.execute("SELECT epoch FROM key_record WHERE kid = ?", (sealed.kid,)).fetchone()
    if key != (sealed.epoch,):
        raise OutboxError(f"key {sealed.kid.hex()}: no committed key record of epoch {sealed.epoch}: add it first")
    with transaction(connection):
        connection.execute(
            "INSERT INTO batch (epoch, seq, kind, kid, first, last, records, attempts, message)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (sealed.epoch, sealed.seq, int(sealed.kind), sealed.kid, prepared.first, prepared.last, sealed.records,
             prepared.attempts, sealed.message),
        )  # fmt: skip
        _advance(connection, sealed.kind, prepared.requeue, prepared.last)
        _note_unreadable(connection, sealed.kind, prepared.unreadable)
        connection.execute("UPDATE boot SET next_seq = ?", (sealed.seq + 1,))
    store.prepared = None
    store.next_seq = sealed.seq + 1
    _account(store, connection, sealed.kind, prepared.requeue, sealed.records + len(prepared.unreadable), batches=1)
    store.counters["sealed_batches"] += 1
    store.counters["sealed_records"] += sealed.records
    store.counters["unreadable"] += len(prepared.unreadable)
    return sealed


def _account(
    store: Store, connection: apsw.Connection, kind: BatchKind, requeue: int | None, rows: int, *, batches: int
) -> None:
    taken = rows if requeue is None else 0
    events = taken if kind is BatchKind.EVENTS else 0
    store.restand(connection, unsealed=-taken, events=-events, batches=batches)


def _advance(connection: apsw.Connection, kind: BatchKind, requeue: int | None, last: int) -> None:
    if requeue is None:
        connection.execute("UPDATE lane SET sealed_upto = ? WHERE kind = ?", (last, int(kind)))
    else:
        connection.execute("UPDATE requeue SET first = ? WHERE id = ?", (last + 1, requeue))
        connection.execute("DELETE FROM requeue WHERE id = ? AND first > last", (requeue,))


def _note_unreadable(connection: apsw.Connection, kind: BatchKind, rows: Sequence[tuple[int, str]]) -> None:
    connection.executemany("INSERT OR IGNORE INTO unreadable VALUES (?, ?, ?)", [(int(kind), *row) for row in rows])
