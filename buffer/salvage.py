"""Reading what is left of a damaged store into a new one: a scan by row number, past every page that fails.

What is not known to be settled is queued to be sealed again; the numbers of the batches it stood in are voided. When
the tables that tell settled from unsettled are lost, all history is sent once more, which the centre takes as repeats.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import apsw

from buffer.store import EPOCH_RANDOM_BITS, GAP, PLANNED, UNPLANNED
from buffer.words import TABLES
from protocols.batch import unpack
from protocols.capture import Event
from protocols.envelope import BatchKind
from protocols.errors import Malformed

CHUNK: Final = 256
"""Rows read at a time; only where a chunk fails are its rows tried one by one."""
EMPTY_CHUNKS_MAX: Final = 4096
"""So many chunks without a row (a million numbers) end the scan where the highest number is not known."""
FAILED_CHUNKS_MAX: Final = 64
"""So many chunks in a row of which no row can be read: the table's root is gone, and with it the way to any row."""

_ID_MAX: Final = (1 << 62) - 1
"""Numbers above are damage, not rows."""


@dataclass(slots=True)
class Salvaged:
    """What was taken over."""

    records: int = 0
    events: int = 0
    unreadable: int = 0
    """Row numbers that failed to read. Rows on pages that nothing points to any more are not met, so not counted."""
    resend: bool = False
    """Whether settled could not be told from unsettled, so that all of it is sent again."""


def readable(old: apsw.Connection) -> bool:
    """Whether the schema can be read, so that scanning makes sense."""
    try:
        names = {name for (name,) in old.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    except apsw.Error:
        return False
    return names.issuperset(TABLES.values())


def salvage(old: apsw.Connection, new: apsw.Connection) -> Salvaged:
    """Copy what can be read from `old` into the new store `new`, whose transaction is the caller's."""
    saved = Salvaged()
    covers, complete = _covers(old)
    lanes: dict[int, int] = {k: v for k, v in _try(old, "SELECT kind, sealed_upto FROM lane")[0] if _sane(k, v)}
    saved.resend = not complete or set(lanes) != {int(kind) for kind in TABLES}
    _copy_boot(old, new)
    series = _Series(old, new)
    for kind, table in TABLES.items():
        mine = [] if saved.resend else [(first, last) for lane, first, last in covers if lane == kind]
        sealed_upto = 0 if saved.resend else lanes[kind]
        top = max([sealed_upto, *(last for _, last in mine)])
        if kind is BatchKind.CAPTURES:
            rows = (row for row in _scan(old, "record", "series, moment, kind, body", saved) if series.knows(row))
            top = max(top, _insert(new, "INSERT OR IGNORE INTO record VALUES (?, ?, ?, ?, ?)", map(series.row, rows)))
            (saved.records,) = new.execute("SELECT count(*) FROM record").fetchone() or (0,)
        else:
            events = (row for row in _scan(old, "event", "moment, body", saved) if _typed(row))
            top = max(top, _insert(new, "INSERT OR IGNORE INTO event VALUES (?, ?, ?)", events))
            (saved.events,) = new.execute("SELECT count(*) FROM event").fetchone() or (0,)
        new.execute("UPDATE lane SET sealed_upto = ? WHERE kind = ?", (sealed_upto, int(kind)))
        new.executemany("INSERT INTO requeue (kind, first, last, attempts) VALUES (?, ?, ?, 0)",
                        [(int(kind), *cover) for cover in mine])  # fmt: skip
        # New rows must get numbers above every range that is sealed or queued, also where the rows of these are lost.
        new.execute("DELETE FROM sqlite_sequence WHERE name = ?", (table,))
        new.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (table, top))
    series.write()
    return saved


class _Series:
    """Which task of which meter a row belongs to: from the table, or, where that is lost, from the row itself."""

    def __init__(self, old: apsw.Connection, new: apsw.Connection) -> None:
        self._new = new
        self._names: dict[int, tuple[str, str, int | None]] = {}
        for number, meter, task, slot in _try(old, "SELECT id, meter, task, last_slot FROM series")[0]:
            if _sane(number) and isinstance(meter, str) and isinstance(task, str):
                self._names[number] = meter, task, slot if _sane(slot) else None
        self._numbers = {(meter, task): number for number, (meter, task, _) in self._names.items()}
        self._table = bool(self._names)

    def knows(self, row: Sequence[Any]) -> bool:
        """Whether the row is one at all, and its meter known."""
        if not _typed(row) or row[3] not in (GAP, PLANNED, UNPLANNED):
            return False
        return (self._table and row[1] in self._names) or self._named(row) is not None

    def _named(self, row: Sequence[Any]) -> tuple[str, str] | None:
        try:
            record = unpack(row[4])
        except Malformed:
            return None
        return None if isinstance(record, Event) else (record.meter, record.task)

    def row(self, row: Sequence[Any]) -> Sequence[Any]:
        """The row, with its series as numbered in the new store."""
        number = row[1]
        if not self._table or number not in self._names:
            name = self._named(row)
            assert name is not None, "only rows that knows() let through come here"
            number = self._numbers.setdefault(name, max(self._names, default=0) + 1)
            self._names.setdefault(number, (*name, None))
        meter, task, slot = self._names[number]
        if row[3] != UNPLANNED and (slot is None or row[2] > slot):
            self._names[number] = meter, task, row[2]
        return row[0], number, row[2], row[3], row[4]

    def write(self) -> None:
        """Fill the table of the new store."""
        rows = [(self._numbers[meter, task], meter, task, slot) for meter, task, slot in self._names.values()]
        self._new.executemany("INSERT OR IGNORE INTO series VALUES (?, ?, ?, ?)", rows)


def _covers(old: apsw.Connection) -> tuple[list[tuple[int, int, int]], bool]:
    """(lane, first, last) of what was sealed or queued and not settled, and whether that is all of it."""
    batches, all_batches = _try(old, "SELECT kind, first, last FROM batch")
    queued, all_queued = _try(old, "SELECT kind, first, last FROM requeue")
    covers = sorted(tuple(row) for row in batches + queued if _sane(*row))
    whole = all_batches and all_queued and len(covers) == len(batches) + len(queued)
    return [(kind, first, last) for kind, first, last in covers], whole


def _copy_boot(old: apsw.Connection, new: apsw.Connection) -> None:
    counts = [count for (count,) in _try(old, "SELECT count FROM boot")[0] if _sane(count)]
    numbers = _try(old, "SELECT epoch, seq FROM batch")[0] + _try(old, "SELECT epoch, seq FROM voided")[0]
    numbers = [(epoch, seq) for epoch, seq in numbers if _sane(epoch, seq)]
    new.executemany("INSERT OR IGNORE INTO voided VALUES (?, ?, 'salvaged')", numbers)
    boot = max([*counts, *(epoch >> EPOCH_RANDOM_BITS for epoch, _ in numbers)], default=0)
    new.execute("UPDATE boot SET count = ?", (boot % (1 << 30),))
    facts = [row for row in _try(old, "SELECT name, value FROM fact")[0] if all(isinstance(part, str) for part in row)]
    new.executemany("INSERT OR IGNORE INTO fact VALUES (?, ?)", facts)


def _scan(old: apsw.Connection, table: str, columns: str, saved: Salvaged) -> Iterator[Sequence[Any]]:
    """Every row that can be read, by number, a chunk at a time, where a chunk fails row by row."""
    sql = f"SELECT id, {columns} FROM {table} WHERE id BETWEEN ? AND ? ORDER BY id"
    lowest = [low for (low,) in _try(old, f"SELECT min(id) FROM {table}")[0] if _sane(low)]
    tops = [top for (top,) in _try(old, f"SELECT max(id) FROM {table}")[0] if _sane(top)]
    tops += [top for (top,) in _try(old, f"SELECT seq FROM sqlite_sequence WHERE name = '{table}'")[0] if _sane(top)]
    at, empty, failed = min(lowest, default=1), 0, 0
    while failed < FAILED_CHUNKS_MAX and (at <= max(tops) if tops else empty < EMPTY_CHUNKS_MAX):
        rows, whole = _try(old, sql, (at, at + CHUNK - 1))
        if not whole:
            rows = []
            for number in range(at, at + CHUNK):
                row, read = _try(old, sql, (number, number))
                saved.unreadable += not read
                rows += row
        yield from rows
        empty = 0 if rows else empty + 1
        failed = 0 if rows or whole else failed + 1
        at += CHUNK


def _insert(new: apsw.Connection, sql: str, rows: Iterator[Sequence[Any]]) -> int:
    top = 0

    def watched() -> Iterator[Sequence[Any]]:
        nonlocal top
        for row in rows:
            top = max(top, row[0])
            yield row

    new.executemany(sql, watched())
    return top


def _try(old: apsw.Connection, sql: str, bindings: tuple[int, ...] = ()) -> tuple[list[Sequence[Any]], bool]:
    """The rows that came, and whether they came to their end."""
    rows: list[Sequence[Any]] = []
    try:
        for row in old.execute(sql, bindings):
            rows.append(row)  # noqa: PERF402 - those before the error count
    except apsw.Error:
        return rows, False
    return rows, True


def _sane(*numbers: object) -> bool:
    return all(isinstance(number, int) and 0 <= number <= _ID_MAX for number in numbers)


def _typed(row: Sequence[Any]) -> bool:
    return isinstance(row[-1], bytes) and all(isinstance(number, int) for number in row[:-1]) and _sane(row[0])
