"""What the sinks have in common: one set of statements, in the SQL that SQLite and PostgreSQL share."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from hashlib import sha256
from typing import Any

from central.sinks.asking import AskingSink
from central.sinks.base import (
    NUMBERS_MAX,
    Arrival,
    ClosedNumber,
    EpochNumbers,
    GapRow,
    Held,
    Inbox,
    Landed,
    Letter,
    Outcome,
    ReadingRow,
    SinkUnfit,
)
from central.sinks.rows import event_detail, storable
from protocols.capture import Capture, Event, Gap, Record

SCHEMA_VERSION = 2


def other_version(where: str, got: int) -> SinkUnfit:
    """The tables at this place (PostgreSQL, or a path) are of a version that this software does not work with."""
    if got < SCHEMA_VERSION:
        return SinkUnfit(f"{where}: expected central tables of version {SCHEMA_VERSION}, got {got}: "
                         "`meterwire central run` brings them up")  # fmt: skip
    return SinkUnfit(f"{where}: expected central tables of version {SCHEMA_VERSION}, got {got}: "
                     "a later version of this software made them, use that one")  # fmt: skip


_LETTERS_TRIMMED_AT_ONCE = 1_000_000
"""SQLite wants a LIMIT before an OFFSET; more letters than this of one kind cannot be there."""


_NUMBERS = """\
WITH mark AS (SELECT coalesce(max(upto), 0) AS upto FROM epoch_mark WHERE gateway = ? AND epoch = ?)
SELECT 'mark', upto, NULL FROM mark
UNION ALL SELECT 'above', seq, NULL FROM (
    SELECT seq FROM inbox WHERE gateway = ? AND epoch = ? AND seq > (SELECT upto FROM mark) UNION
    SELECT seq FROM closed_number WHERE gateway = ? AND epoch = ? AND seq > (SELECT upto FROM mark) ORDER BY seq LIMIT ?
) AS above
UNION ALL SELECT 'refused', seq, code FROM closed_number WHERE gateway = ? AND epoch = ? AND voided_at IS NULL"""
"""All that a receipt says of an epoch's numbers, in one question."""
_HELD_KIDS = (
    "SELECT kid FROM dead_letter WHERE gateway = ? AND reason = ? AND last_at >= ?"
    " GROUP BY kid ORDER BY max(last_at) DESC, max(id) DESC LIMIT ?"
)
_Question = tuple[str, tuple[object, ...]]
"""A statement and its arguments."""


class SqlSink(AskingSink, ABC):
    """A sink over a DB-API connection. Statements are written with `?` and times go through `_time` and `_ms`."""

    @abstractmethod
    def _transaction(self) -> AbstractContextManager[Any]:
        """A cursor inside a transaction: COMMIT on leaving, ROLLBACK on an error, errors as SinkAway or SinkRefuses."""

    @abstractmethod
    def _reading(self) -> AbstractContextManager[Any]:
        """A cursor to read with; errors as SinkAway."""

    @abstractmethod
    def _sql(self, statement: str) -> Any:
        """The statement in the driver's placeholder style."""

    @abstractmethod
    def _time(self, ms: int | None) -> object:
        """A time as the database's driver takes it."""

    @abstractmethod
    def _ms(self, time: Any) -> int | None:
        """A time as the database's driver gives it, in UTC milliseconds."""

    @abstractmethod
    def _land_readings(self, cursor: Any, captures: Sequence[Capture], arrival: Arrival) -> Landed:
        """Put their values into reading; what differs from a value that stands there goes into conflict."""

    def _land_each(
        self, cursor: Any, arrivals: Sequence[Arrival], captures_of: Sequence[Sequence[Capture]]
    ) -> list[Landed]:
        """The readings of several arrivals, one after the other or faster."""
        return [
            self._land_readings(cursor, captures, arrival) if captures else Landed(outcome=Outcome.LANDED)
            for arrival, captures in zip(arrivals, captures_of, strict=True)
        ]

    @abstractmethod
    def _fill_slots(self, cursor: Any, slots: list[tuple[str, str, int, int]]) -> None:
        """Note (meter, task, slot, read_at) as filled, and close the gaps that stand open for them."""

    def _at(self, time: Any) -> int:
        found = self._ms(time)
        assert found is not None
        return found

    def _hold(self, cursor: Any, gateways: set[str]) -> None:
        """Keep other workers from landing batches of these until the transaction ends; one writer needs none."""

    def land(self, arrival: Arrival) -> Landed:
        """See Sink."""
        return self.land_all([arrival])[0]

    def land_all(self, arrivals: Sequence[Arrival]) -> list[Landed]:
        """See Sink."""
        with self._transaction() as cursor:
            self._hold(cursor, {arrival.gateway for arrival in arrivals})
            landed: dict[int, Landed] = {}
            fresh: dict[int, Arrival] = {}
            firsts: dict[tuple[str, int, int], Arrival] = {}
            for place, (arrival, closed) in enumerate(zip(arrivals, self._closed(cursor, arrivals), strict=True)):
                first = firsts.setdefault(_number(arrival), arrival)
                if closed is not None:
                    landed[place] = Landed(outcome=closed)
                elif first is arrival:
                    fresh[place] = arrival
                else:
                    again = first.sha256 == arrival.sha256
                    landed[place] = Landed(outcome=Outcome.REPEAT if again else Outcome.OTHER)
            if fresh:
                landed |= zip(fresh, self._land_fresh(cursor, list(fresh.values())), strict=True)
        return [landed[place] for place in range(len(arrivals))]

    def _land_fresh(self, cursor: Any, arrivals: Sequence[Arrival]) -> list[Landed]:
        """Arrivals whose numbers are open: inbox, readings, slots, and then gaps and events."""
        captures_of = [[record for record in one.records if isinstance(record, Capture)] for one in arrivals]
        cursor.executemany(
            self._sql("INSERT INTO inbox (gateway, epoch, seq, sha256, received_at, captures, bytes, oldest_at)"
                      " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"),
            [
                (*_number(one), one.sha256, self._time(one.received_at), len(captures), one.size,
                 self._time(min((_read_at(record) for record in one.records), default=None)))
                for one, captures in zip(arrivals, captures_of, strict=True)
            ],
        )  # fmt: skip
        landed = self._land_each(cursor, arrivals, captures_of)
        slots = [
            (storable(capture.meter), storable(capture.task), capture.slot, capture.read_at)
            for captures in captures_of
            for capture in captures
            if capture.slot is not None
        ]
        if slots:
            self._fill_slots(cursor, slots)
        for arrival in arrivals:
            for record in arrival.records:
                if isinstance(record, Gap):
                    self._land_gap(cursor, record)
                elif isinstance(record, Event):
                    self._land_event(cursor, record, arrival)
        return landed

    def closed_as(self, gateway: str, epoch: int, seq: int, sha256: bytes) -> Outcome | None:
        """See Sink."""
        with self._reading() as cursor:
            return self._closed_as(cursor, (gateway, epoch, seq), sha256)

    def _closed(self, cursor: Any, arrivals: Sequence[Arrival]) -> list[Outcome | None]:
        """What the number of each has come to before; None where it is open."""
        return [self._closed_as(cursor, _number(arrival), arrival.sha256) for arrival in arrivals]

    def _closed_as(self, cursor: Any, number: tuple[str, int, int], digest: bytes) -> Outcome | None:
        """What this number has come to before; None when it is open."""
        cursor.execute(
            self._sql("SELECT sha256, NULL, NULL FROM inbox WHERE gateway = ? AND epoch = ? AND seq = ? UNION ALL"
                      " SELECT NULL, code, voided_at FROM closed_number WHERE gateway = ? AND epoch = ? AND seq = ?"),
            (*number, *number),
        )  # fmt: skip
        found = cursor.fetchall()
        if any(voided_at is not None for _, _, voided_at in found):
            return Outcome.VOIDED
        if any(sha256 is not None and bytes(sha256) != digest for sha256, _, _ in found):
            return Outcome.OTHER
        if any(code is not None for _, code, _ in found):
            return Outcome.REFUSED
        return Outcome.REPEAT if found else None

    def _land_gap(self, cursor: Any, gap: Gap) -> None:
        """A gap whose slot a capture has filled is closed from the start: batches need not come in order."""
        key = (storable(gap.meter), storable(gap.task), self._time(gap.slot))
        detail = None if gap.detail is None else storable(gap.detail)
        cursor.execute(
            self._sql("INSERT INTO gap (meter, task, slot, fault, detail, opened_at, closed_at)"
                      " VALUES (?, ?, ?, ?, ?, ?, (SELECT read_at FROM filled_slot"
                      " WHERE meter = ? AND task = ? AND slot = ?)) ON CONFLICT DO NOTHING"),
            (*key, gap.fault.value, detail, self._time(gap.opened_at), *key),
        )  # fmt: skip

    def _land_event(self, cursor: Any, event: Event, arrival: Arrival) -> None:
        """The same event sealed a second time, after its first number was voided, is the same event."""
        cursor.execute(
            self._sql("INSERT INTO event (gateway, name, at, meter, detail, epoch, seq) VALUES (?, ?, ?, ?, ?, ?, ?)"
                      " ON CONFLICT DO NOTHING"),
            (arrival.gateway, storable(event.name), self._time(event.at),
             None if event.meter is None else storable(event.meter), event_detail(event), arrival.epoch, arrival.seq),
        )  # fmt: skip

    def numbers(self, gateway: str, epoch: int) -> EpochNumbers:
        """See Sink."""
        return _numbers(self._all(*_of_epoch(gateway, epoch)))

    def mark(self, gateway: str, epoch: int, upto: int) -> None:
        """See Sink."""
        with self._transaction() as cursor:
            cursor.execute(
                self._sql("INSERT INTO epoch_mark (gateway, epoch, upto) VALUES (?, ?, ?) ON CONFLICT (gateway, epoch)"
                          " DO UPDATE SET upto = excluded.upto WHERE epoch_mark.upto < excluded.upto"),
                (gateway, epoch, upto),
            )  # fmt: skip

    def closed_numbers(self, gateway: str, epoch: int) -> list[ClosedNumber]:
        """See Sink."""
        rows = self._all(
            "SELECT seq, code, voided_at FROM closed_number WHERE gateway = ? AND epoch = ? ORDER BY seq",
            (gateway, epoch),
        )
        return [ClosedNumber(seq=seq, code=code, voided=voided_at is not None) for seq, code, voided_at in rows]

    def close_numbers(
        self, gateway: str, numbers: Sequence[tuple[int, int]], *, code: str, voided: bool, at: int
    ) -> None:
        """See Sink."""
        voided_at = self._time(at) if voided else None
        with self._transaction() as cursor:
            for epoch, seq in numbers:
                cursor.execute(
                    self._sql("INSERT INTO closed_number (gateway, epoch, seq, code, closed_at, voided_at)"
                              " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (gateway, epoch, seq) DO UPDATE SET"
                              " voided_at = coalesce(closed_number.voided_at, excluded.voided_at)"),
                    (gateway, epoch, seq, code, self._time(at), voided_at),
                )  # fmt: skip

    def add_key_record(
        self, gateway: str, kid: bytes, epoch: int, day: int, message: bytes, at: int, *, replace: bool = False
    ) -> None:
        """See Sink."""
        again = (
            "(gateway, kid) DO UPDATE SET message = excluded.message, received_at = excluded.received_at"
            if replace
            else "DO NOTHING"
        )
        with self._transaction() as cursor:
            cursor.execute(
                self._sql("INSERT INTO key_record (gateway, kid, epoch, day, message, received_at)"
                          f" VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT {again}"),
                (gateway, kid, epoch, day, message, self._time(at)),
            )  # fmt: skip

    def key_record(self, gateway: str, kid: bytes) -> bytes | None:
        """See Sink."""
        row = self._one("SELECT message FROM key_record WHERE gateway = ? AND kid = ?", (gateway, kid))
        return None if row is None else bytes(row[0])

    def set_aside(self, letter: Letter, *, keep: int) -> None:
        """See Sink."""
        kind = (letter.gateway, letter.reason)
        at = self._time(letter.received_at)
        with self._transaction() as cursor:
            cursor.execute(
                self._sql("INSERT INTO dead_letter (gateway, reason, detail, topic, kid, sha256, payload, times,"
                          " first_at, last_at) VALUES (?, ?, ?, ?, ?, ?, ?, 1, ?, ?)"
                          " ON CONFLICT (gateway, reason, sha256)"
                          " DO UPDATE SET times = dead_letter.times + 1, last_at = excluded.last_at"),
                (*kind, storable(letter.detail), storable(letter.topic), letter.kid, sha256(letter.payload).digest(),
                 letter.payload, at, at),
            )  # fmt: skip
            cursor.execute(
                self._sql("DELETE FROM dead_letter WHERE id IN (SELECT id FROM dead_letter WHERE gateway = ?"
                          " AND reason = ? ORDER BY id DESC LIMIT ? OFFSET ?)"),
                (*kind, _LETTERS_TRIMMED_AT_ONCE, keep),
            )  # fmt: skip

    def held(self, gateway: str, kid: bytes, reason: str) -> list[Held]:
        """See Sink."""
        rows = self._all(
            "SELECT id, topic, payload FROM dead_letter WHERE gateway = ? AND reason = ? AND kid = ? ORDER BY id",
            (gateway, reason, kid),
        )
        return [Held(id=number, topic=topic, payload=bytes(payload)) for number, topic, payload in rows]

    def held_kids(self, gateway: str, reason: str, limit: int, *, since: int) -> list[bytes]:
        """See Sink."""
        rows = self._all(_HELD_KIDS, (gateway, reason, self._time(since), limit))
        return [bytes(kid) for (kid,) in rows]

    def standings(
        self, epochs: Sequence[tuple[str, int]], reason: str, limit: int, *, since: int
    ) -> list[tuple[EpochNumbers, list[bytes]]]:
        """See Sink."""
        held = [(_HELD_KIDS, (gateway, reason, self._time(since), limit)) for gateway, _ in epochs]
        found = self._answers([*(_of_epoch(*of) for of in epochs), *held])
        return [
            (_numbers(numbers), [bytes(kid) for (kid,) in kids])
            for numbers, kids in zip(found[: len(epochs)], found[len(epochs) :], strict=True)
        ]

    def release(self, ids: Sequence[int]) -> None:
        """See Sink."""
        with self._transaction() as cursor:
            for number in ids:
                cursor.execute(self._sql("DELETE FROM dead_letter WHERE id = ?"), (number,))

    def note(self, gateway: str, name: str, text: str, at: int) -> None:
        """See Sink."""
        with self._transaction() as cursor:
            cursor.execute(
                self._sql("INSERT INTO gateway_note (gateway, name, text, at) VALUES (?, ?, ?, ?)"
                          " ON CONFLICT (gateway, name) DO UPDATE SET text = excluded.text, at = excluded.at"),
                (gateway, name, storable(text), self._time(at)),
            )  # fmt: skip

    def readings(
        self, *, meter: str | None = None, since: int | None = None, until: int | None = None
    ) -> Iterator[ReadingRow]:
        """See Sink."""
        wanted = {
            "meter = ?": meter,
            "stamp >= ?": None if since is None else self._time(since),
            "stamp < ?": None if until is None else self._time(until),
        }
        chosen = {condition: value for condition, value in wanted.items() if value is not None}
        where = f" WHERE {' AND '.join(chosen)}" if chosen else ""
        with self._reading() as cursor:
            cursor.execute(
                self._sql("SELECT point, meter, quantity, stamp, source, value, text, quality, fault, detail, ratio,"
                          f" slot, read_at, task, gateway, epoch, seq FROM reading{where}"),
                tuple(chosen.values()),
            )  # fmt: skip
            for row in cursor:
                plain = row[6] if row[5] is None else _plain(row[5])
                point, meter, quantity, stamp, source, _, _, quality, fault, detail, ratio, slot, read_at, *origin = row
                yield ReadingRow(
                    point, meter, quantity, self._at(stamp), source, plain, quality, fault, detail, _plain(ratio),
                    self._ms(slot), self._at(read_at), *origin,
                )  # fmt: skip

    def slots_filled(self, meter: str, since: int, until: int) -> dict[str, int]:
        """See Sink."""
        return dict(
            self._all(
                "SELECT task, count(*) FROM filled_slot WHERE slot >= ? AND slot < ? AND meter = ? GROUP BY task",
                (self._time(since), self._time(until), meter),
            )
        )

    def gaps(
        self, *, meter: str | None = None, since: int = 0, until: int | None = None, closed: bool = True
    ) -> Iterator[GapRow]:
        """See Sink."""
        rows = self._all(*select_gaps(self._time, meter=meter, since=since, until=until, closed=closed))
        for name, task, slot, fault, detail, opened_at, closed_at in rows:
            yield GapRow(name, task, self._at(slot), fault, detail, self._at(opened_at), self._ms(closed_at))

    def inbox(self) -> Inbox:
        """See Sink."""
        sums = "SELECT count(*), coalesce(sum(captures), 0), coalesce(sum(bytes), 0) FROM inbox"
        return Inbox(*(int(number) for number in self._one(sums, ())))

    def _one(self, statement: str, arguments: tuple[object, ...]) -> Any:
        with self._reading() as cursor:
            cursor.execute(self._sql(statement), arguments)
            return cursor.fetchone()

    def _all(self, statement: str, arguments: tuple[object, ...]) -> list[Any]:
        with self._reading() as cursor:
            cursor.execute(self._sql(statement), arguments)
            return list(cursor.fetchall())

    def _answers(self, questions: Sequence[_Question]) -> list[list[Any]]:
        """The rows that each of these gives."""
        return [self._all(*question) for question in questions]


def _of_epoch(gateway: str, epoch: int) -> _Question:
    of = (gateway, epoch)
    return _NUMBERS, (*of, *of, *of, NUMBERS_MAX, *of)


def _numbers(rows: Iterable[tuple[str, int, str]]) -> EpochNumbers:
    upto, above, refused = 0, list[int](), list[tuple[int, str]]()
    for kind, number, code in rows:
        if kind == "mark":
            upto = number
        elif kind == "above":
            above.append(number)
        else:
            refused.append((number, code))
    return EpochNumbers(upto, sorted(above), sorted(refused))


def select_gaps(
    time: Callable[[int], object], *, meter: str | None, since: int, until: int | None, closed: bool
) -> tuple[str, tuple[object, ...]]:
    """The statement for rows of GapRow, and its arguments; time: as the database's driver takes one."""
    conditions: list[str] = ["slot >= ?"]
    arguments: list[object] = [time(since)]
    if until is not None:
        conditions.append("slot < ?")
        arguments.append(time(until))
    if meter is not None:
        conditions.append("meter = ?")
        arguments.append(meter)
    if not closed:
        conditions.append("closed_at IS NULL")
    columns, where = ", ".join(GapRow._fields), " AND ".join(conditions)
    return f"SELECT {columns} FROM gap WHERE {where} ORDER BY meter, slot, task", tuple(arguments)


def _number(arrival: Arrival) -> tuple[str, int, int]:
    return arrival.gateway, arrival.epoch, arrival.seq


def _read_at(record: Record) -> int:
    match record:
        case Capture():
            return record.read_at
        case Gap():
            return record.opened_at
        case Event():
            return record.at


def _plain(number: Any) -> str:
    return number if isinstance(number, str) else format(number, "f")
