"""Reading what is left of a damaged store into a new one: by row number, past every page that fails; then by page.

What is not known to be settled is queued to be sealed again; the numbers of the batches it stood in are voided. When
the tables that tell settled from unsettled are lost, all history is sent once more, which the centre takes as repeats.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import apsw

from buffer.pages import rows_on_leaves
from buffer.rows import EventRow, Row, from_row, row_of
from buffer.store import EPOCH_RANDOM_BITS, Series
from buffer.words import TABLES, RecordClass
from protocols.envelope import BatchKind
from protocols.errors import Malformed

CHUNK: Final = 256
"""Numbers that are passed over together where there are no rows."""
EMPTY_CHUNKS_MAX: Final = 1 << 12
"""So many chunks without a row (a million numbers) end the scan: the highest number was damage, or is not known."""
FAILED_CHUNKS_MAX: Final = 64
"""So many chunks in a row of which no row can be read (more rows than an inner page leads to, about 400 leaves of 35):
the table's root is gone, and with it the way to any row."""

_ID_MAX: Final = (1 << 62) - 1
"""Numbers above are damage, not rows."""


@dataclass(slots=True)
class Salvaged:
    """What was taken over."""

    records: int = 0
    events: int = 0
    unreadable: int = 0
    """Row numbers that failed to read, and stand on no other page."""
    resend: bool = False
    """Whether settled could not be told from unsettled, so that all of it is sent again."""


def readable(old: apsw.Connection) -> bool:
    """Whether the schema can be read, so that scanning makes sense."""
    try:
        names = {name for (name,) in old.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    except apsw.Error:
        return False
    return names.issuperset(TABLES.values())


def salvage(old: apsw.Connection, new: apsw.Connection, page_bytes: int) -> Salvaged:
    """Copy what can be read from `old` into the new store `new`, whose transaction is the caller's.

    page_bytes: of `old`, whose header may not be right.
    """
    saved = Salvaged()
    covers, complete = _covers(old)
    lanes: dict[int, int] = {k: v for k, v in _try(old, "SELECT kind, sealed_upto FROM lane")[0] if _sane(k, v)}
    saved.resend = not complete or set(lanes) != {int(kind) for kind in TABLES}
    _copy_boot(old, new)
    into = _Into(new, _Series(old), saved)
    for table in TABLES.values():
        for number, row in _rows(old, table, saved):
            into.take(number, row)
    # Then what stands below a damaged page, or on one that nothing leads to any more.
    for number, row in rows_on_leaves(Path(old.db_filename("main")), page_bytes):
        if _sane(number):
            saved.unreadable -= into.take(number, row) and saved.unreadable > 0
    for kind, table in TABLES.items():
        mine = [] if saved.resend else [(first, last) for lane, first, last in covers if lane == kind]
        sealed_upto = 0 if saved.resend else lanes[kind]
        new.execute("UPDATE lane SET sealed_upto = ? WHERE kind = ?", (sealed_upto, int(kind)))
        new.executemany("INSERT INTO requeue (kind, first, last, attempts) VALUES (?, ?, ?, 0)",
                        [(int(kind), *cover) for cover in mine])  # fmt: skip
        # New rows must get numbers above every range that is sealed or queued, also where the rows of these are lost.
        top = max([sealed_upto, into.top[table], *(last for _, last in mine)])
        new.execute("DELETE FROM sqlite_sequence WHERE name = ?", (table,))
        new.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (table, top))
    into.series.write(new)
    return saved


class _Into:
    """The tables of the new store: a number that is there already keeps its row."""

    def __init__(self, new: apsw.Connection, series: "_Series", saved: Salvaged) -> None:
        self.series = series
        self.top = dict.fromkeys(TABLES.values(), 0)
        self._new = new
        self._saved = saved

    def take(self, number: int, row: Row | EventRow) -> bool:
        """Whether the row is new."""
        if isinstance(row, EventRow):
            self._new.execute("INSERT OR IGNORE INTO event VALUES (?, ?, ?)", (number, *row))
            self._saved.events += (taken := self._new.changes())
            table = TABLES[BatchKind.EVENTS]
        else:
            self._new.execute(
                "INSERT OR IGNORE INTO record VALUES (?, ?, ?, ?, ?)",
                (number, self.series.number(row), row.moment, row.kind, row.body),
            )
            self._saved.records += (taken := self._new.changes())
            table = TABLES[BatchKind.CAPTURES]
        self.top[table] = max(self.top[table], number)
        return bool(taken)


def _rows(old: apsw.Connection, table: str, saved: Salvaged) -> Iterator[tuple[int, Row | EventRow]]:
    """The rows of a table whose checksum is right. Their other columns are made anew from the body."""
    wanted = EventRow if table == TABLES[BatchKind.EVENTS] else Row
    for number, body in _scan(old, table, saved):
        try:
            row = row_of(from_row(body if isinstance(body, bytes) else b""), body)
        except Malformed:
            saved.unreadable += 1
            continue
        # On a damaged page a number may lead to bytes of another table.
        if _sane(number) and isinstance(row, wanted):
            yield number, row


class _Series:
    """The tasks of the meters: numbered as in the old table, or anew where that is lost."""

    def __init__(self, old: apsw.Connection) -> None:
        self._known: dict[tuple[str, str], Series] = {}
        numbers = set()
        rows = _try(old, "SELECT id, meter, task, last_slot, class FROM series")[0]
        # Schema 1 had no classes.
        for number, meter, task, slot, kept in rows or _try(old, "SELECT id, meter, task, last_slot, 2 FROM series")[0]:
            if _sane(number) and isinstance(meter, str) and isinstance(task, str) and number not in numbers:
                numbers.add(number)
                kept_as = RecordClass(kept) if kept in tuple(RecordClass) else RecordClass.DAILY
                self._known[meter, task] = Series(number, slot if _sane(slot) else None, kept_as)
        self._top = max(numbers, default=0)

    def number(self, row: Row) -> int:
        """The number of the row's series, which learns of its slot."""
        known = self._known.get((row.meter, row.task))
        if known is None:
            self._top += 1
            known = Series(self._top, None, RecordClass.DAILY)
        if row.slot is not None and (known.last_slot is None or row.slot > known.last_slot):
            known = known._replace(last_slot=row.slot)
        self._known[row.meter, row.task] = known
        return known.number

    def write(self, new: apsw.Connection) -> None:
        """Fill the table of the new store."""
        rows = [(series.number, *name, series.last_slot, int(series.kept)) for name, series in self._known.items()]
        new.executemany("INSERT INTO series VALUES (?, ?, ?, ?, ?)", rows)


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


def _scan(old: apsw.Connection, table: str, saved: Salvaged) -> Iterator[Sequence[Any]]:
    """(number, body) of every row that can be reached, asked for one by one.

    A range would be quicker, but it ends at the first number on a damaged page that is too high, without an error.
    """
    highest, whole = _try(old, f"SELECT max(id) FROM {table}")
    given, all_given = _try(old, f"SELECT seq FROM sqlite_sequence WHERE name = '{table}'")
    never_used = whole and all_given and not given
    last = max((top for (top,) in [*highest, *given] if _sane(top)), default=0 if never_used else _ID_MAX)
    lowest = [low for (low,) in _try(old, f"SELECT min(id) FROM {table}")[0] if _sane(low)]
    at, empty, failed = max(1, min(lowest, default=1)), 0, 0
    while at <= last and failed < FAILED_CHUNKS_MAX and empty < EMPTY_CHUNKS_MAX:
        rows, whole = [], True
        if _seems_filled(old, table, at):
            for number in range(at, at + CHUNK):
                row, read = _try(old, f"SELECT id, body FROM {table} WHERE id = ?", (number,))
                saved.unreadable += not read
                whole = whole and read
                rows += row
        yield from rows
        empty = 0 if rows else empty + 1
        failed = 0 if rows or whole else failed + 1
        at += CHUNK


def _seems_filled(old: apsw.Connection, table: str, at: int) -> bool:
    """Whether a chunk has rows, looked at from both ends, or cannot be looked at."""
    for order in ("ASC", "DESC"):
        sql = f"SELECT 1 FROM {table} WHERE id BETWEEN ? AND ? ORDER BY id {order} LIMIT 1"
        rows, whole = _try(old, sql, (at, at + CHUNK - 1))
        if rows or not whole:
            return True
    return False


def _try(old: apsw.Connection, sql: str, bindings: tuple[int, ...] = ()) -> tuple[list[Sequence[Any]], bool]:
    """The rows that came, and whether they came to their end."""
    rows: list[Sequence[Any]] = []
    try:
        for row in old.execute(sql, bindings):
            rows.append(row)  # noqa: PERF402 - those before the error count
    except (apsw.Error, UnicodeDecodeError):  # damage, or text that is damage
        return rows, False
    return rows, True


def _sane(*numbers: object) -> bool:
    return all(isinstance(number, int) and 0 <= number <= _ID_MAX for number in numbers)
