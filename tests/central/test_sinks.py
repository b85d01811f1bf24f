"""What both databases promise: each reading once, exact, with its batch or not at all."""

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from central.sinks import open_sink
from central.sinks.base import Arrival, Landed, Letter, Outcome, Sink, SinkAway, SinkRefuses, SinkUnfit
from central.sinks.postgres import PostgresSink
from central.sinks.sqlite import SqliteSink
from protocols.capture import Capture, Event, Fault, Gap, Record, Source, TimeState, Value, faulty
from protocols.quantity import by_name
from tests.postgres import Postgres

SLOT = 1_780_000_200_000
GATEWAY = "gw-0001"


@pytest.fixture(params=["sqlite", "postgresql"])
def sink(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Sink]:
    url = f"sqlite:///{tmp_path}/central.db" if request.param == "sqlite" else request.getfixturevalue("postgres")
    opened = open_sink(url)
    yield opened
    opened.close()


def number(name: str, plain: str) -> Value:
    return Value(quantity=by_name(name), number=Decimal(plain))


def capture(
    *values: Value, meter: str = "m-1", task: str = "curve", slot: int | None = SLOT, late_ms: int = 0
) -> Capture:
    return Capture(
        meter=meter, point="p-1", task=task, slot=slot, stamp=SLOT + late_ms, read_at=SLOT + late_ms + 812,
        time_state=TimeState.TRUSTED, clock_error_ms=-40, source=Source.METER_LIVE, ct=Decimal(40), pt=Decimal(100),
        values=values or (number("voltage.a", "230.1"),),
    )  # fmt: skip


def gap(*, meter: str = "m-1", slot: int = SLOT, fault: Fault = Fault.SILENT) -> Gap:
    return Gap(meter=meter, task="curve", slot=slot, fault=fault, detail="no answer", opened_at=slot + 5000)


def arrival(seq: int, records: Sequence[Record], *, epoch: int = 1 << 32, salt: bytes = b"") -> Arrival:
    return Arrival(
        gateway=GATEWAY, epoch=epoch, seq=seq, sha256=sha256(b"%d" % seq + salt).digest(), size=1000 + seq,
        received_at=SLOT + 9000, records=records,
    )  # fmt: skip


def plain(sink: Sink) -> dict[tuple[str, str, int], str | None]:
    return {(row.meter, row.quantity, row.stamp): row.plain for row in sink.readings()}


def rows(sink: Sink, statement: str) -> list[tuple[object, ...]]:
    """Straight from the database, past the sink."""
    if isinstance(sink, SqliteSink):
        with sqlite3.connect(sink.path) as connection:
            return connection.execute(statement).fetchall()
    assert isinstance(sink, PostgresSink)
    with psycopg.connect(sink.url) as other:
        return other.execute(statement.encode()).fetchall()


def test_a_capture_lands_as_one_row_a_value_with_all_its_columns(sink: Sink) -> None:
    values = (
        number("energy.active.import.total", "1325.70"), number("current.a", "0.250"), number("voltage.a", "230.1"),
        Value(quantity=by_name("demand.active.import.total.time"), time="2026-05-03T10:15"),
        Value(quantity=by_name("meter.model"), text="DT\tZ\\N\n\\x\r电"), number("frequency", "50.00"),
        faulty(by_name("power.active.a"), Fault.REFUSED, "code 02\t\\N"),
    )  # fmt: skip
    landed = sink.land(arrival(1, [capture(*values)]))
    assert landed == Landed(outcome=Outcome.LANDED, readings=7)
    found = {row.quantity: row for row in sink.readings()}
    energy = found["energy.active.import.total"]
    assert energy._replace(quantity="") == energy._replace(
        quantity="", point="p-1", meter="m-1", stamp=SLOT, source="meter_live", plain="1325.70", quality="good",
        fault=None, detail=None, ratio="4000", slot=SLOT, read_at=SLOT + 812, task="curve", gateway=GATEWAY,
        epoch=1 << 32, seq=1,
    )  # fmt: skip
    assert [found[name].ratio for name in ("current.a", "voltage.a", "frequency")] == ["40", "100", "1"]
    assert found["demand.active.import.total.time"].plain == "2026-05-03T10:15"
    assert found["meter.model"].plain == "DT\tZ\\N\n\\x\r电"
    refused = found["power.active.a"]
    assert (refused.plain, refused.fault, refused.detail) == (None, "refused", "code 02\t\\N")
    assert rows(sink, "SELECT gateway, epoch, seq, captures, bytes FROM inbox") == [(GATEWAY, 1 << 32, 1, 1, 1001)]


def test_the_same_batch_again_changes_nothing(sink: Sink) -> None:
    first = arrival(1, [capture(), gap(meter="m-2")])
    assert sink.land(first).outcome is Outcome.LANDED
    before = (list(sink.readings()), list(sink.gaps()), rows(sink, "SELECT * FROM inbox"))
    assert sink.land(replace(first, received_at=SLOT + 60_000)).outcome is Outcome.REPEAT
    assert (list(sink.readings()), list(sink.gaps()), rows(sink, "SELECT * FROM inbox")) == before


def test_another_batch_under_a_landed_number_does_not_land(sink: Sink) -> None:
    sink.land(arrival(1, [capture()]))
    assert sink.land(arrival(1, [capture(meter="m-9")], salt=b"x")).outcome is Outcome.OTHER
    assert {row.meter for row in sink.readings()} == {"m-1"}
    landed = arrival(1, [])
    assert sink.closed_as(GATEWAY, landed.epoch, 1, landed.sha256) is Outcome.REPEAT
    assert sink.closed_as(GATEWAY, landed.epoch, 1, b"x" * 32) is Outcome.OTHER
    assert sink.closed_as(GATEWAY, landed.epoch, 2, landed.sha256) is None


@pytest.mark.parametrize(("again", "same"), [("230.00", True), ("230", True), ("230.01", False), ("-230.0", False)])
def test_an_equal_number_is_a_repeat_and_another_one_a_conflict(sink: Sink, again: str, same: bool) -> None:
    sink.land(arrival(1, [capture(number("voltage.a", "230.0"))]))
    landed = sink.land(arrival(2, [capture(number("voltage.a", again), number("voltage.b", "231.0"))]))
    assert landed == Landed(outcome=Outcome.LANDED, readings=1, repeats=same, conflicts=not same)
    assert plain(sink) == {("m-1", "voltage.a", SLOT): "230.0", ("m-1", "voltage.b", SLOT): "231.0"}
    kept = rows(sink, "SELECT meter, quantity, CAST(value AS text), seq FROM conflict")
    assert kept == ([] if same else [("m-1", "voltage.a", again, 2)])


def test_a_text_is_compared_as_text(sink: Sink) -> None:
    time = by_name("clock")
    sink.land(arrival(1, [capture(Value(quantity=time, time="2026-05-03T10:15:00"))]))
    landed = sink.land(arrival(2, [capture(Value(quantity=time, time="2026-05-03T10:15"))]))
    assert (landed.readings, landed.repeats, landed.conflicts) == (0, 0, 1)
    assert rows(sink, "SELECT value, text FROM conflict") == [(None, "2026-05-03T10:15")]


NONE, SOME, MORE = (
    faulty(by_name("voltage.a"), Fault.SILENT),
    number("voltage.a", "230.0"),
    number("voltage.a", "231.0"),
)


@pytest.mark.parametrize(
    ("order", "stands", "conflicts"),
    [
        ([NONE, SOME], "230.0", 0), ([SOME, NONE], "230.0", 0), ([NONE, NONE], None, 0),
        ([NONE, SOME, NONE], "230.0", 0),
        ([NONE, SOME, MORE], "230.0", 1), ([SOME, MORE, MORE], "230.0", 1), ([SOME, MORE, NONE, SOME], "230.0", 1),
    ],
)  # fmt: skip
@pytest.mark.parametrize("together", [False, True])
def test_a_value_replaces_none_and_never_the_reverse(
    sink: Sink, order: list[Value], stands: str | None, conflicts: int, together: bool
) -> None:
    captures = [capture(value, task=f"t{n}") for n, value in enumerate(order)]
    for seq, batch in enumerate([captures] if together else [[one] for one in captures], start=1):
        sink.land(arrival(seq, batch))
    assert [row.plain for row in sink.readings()] == [stands]
    assert len(rows(sink, "SELECT * FROM conflict")) == conflicts
    if stands is not None:
        (row,) = sink.readings()
        assert (row.quality, row.fault, row.task) == ("good", None, f"t{order.index(SOME)}")


def test_a_replaced_row_says_where_its_value_came_from(sink: Sink) -> None:
    sink.land(arrival(1, [capture(NONE, task="curve")]))
    late = replace(capture(SOME, task="again", slot=None), read_at=SLOT + 77_000)
    assert sink.land(arrival(2, [late])).readings == 1
    (row,) = sink.readings()
    assert (row.task, row.slot, row.read_at, row.seq) == ("again", None, SLOT + 77_000, 2)


@pytest.mark.parametrize("captures_first", [False, True])
def test_a_gap_is_closed_by_a_capture_of_its_slot_in_whatever_order_they_land(sink: Sink, captures_first: bool) -> None:
    gaps = [gap(), gap(meter="m-2"), gap(slot=SLOT + 900_000)]
    batches: list[list[Record]] = [[*gaps], [capture(late_ms=1500)]]
    for seq, batch in enumerate(reversed(batches) if captures_first else batches, start=1):
        sink.land(arrival(seq, batch))
    found = {(row.meter, row.slot): row.closed_at for row in sink.gaps()}
    assert found == {("m-1", SLOT): SLOT + 2312, ("m-2", SLOT): None, ("m-1", SLOT + 900_000): None}
    (one, *_) = sink.gaps(meter="m-1")
    assert one == ("m-1", "curve", SLOT, "silent", "no answer", SLOT + 5000, SLOT + 2312)
    assert [(row.meter, row.slot) for row in sink.gaps(closed=False, until=SLOT + 1)] == [("m-2", SLOT)]
    assert [row.slot for row in sink.gaps(since=SLOT + 1)] == [SLOT + 900_000]


def test_a_capture_of_another_task_or_of_no_slot_closes_no_gap(sink: Sink) -> None:
    sink.land(arrival(1, [gap(), capture(task="billing"), capture(slot=None, late_ms=3000)]))
    assert [row.closed_at for row in sink.gaps()] == [None]


def test_an_event_sealed_twice_is_one_event(sink: Sink) -> None:
    event = Event(name="store.damaged", at=SLOT, detail={"file": "outbox.db", "bytes": 12})
    other = replace(event, meter="m-1")
    sink.land(arrival(1, [event, other]))
    sink.land(arrival(2, [event]))
    assert rows(sink, "SELECT name, meter, detail, seq FROM event ORDER BY meter IS NOT NULL") == [
        ("store.damaged", None, '{"bytes":12,"file":"outbox.db"}', 1),
        ("store.damaged", "m-1", '{"bytes":12,"file":"outbox.db"}', 1),
    ]


def test_a_batch_that_cannot_be_held_leaves_nothing_behind(sink: Sink) -> None:
    with pytest.raises(SinkRefuses):
        sink.land(arrival(1, [capture(), capture(meter="m-2", late_ms=1 << 64)]))
    assert list(sink.readings()) == []
    assert sink.numbers(GATEWAY, 1 << 32).above == []
    assert sink.land(arrival(1, [capture()])).outcome is Outcome.LANDED


def test_a_mark_only_rises_and_hides_what_is_below_it(sink: Sink) -> None:
    for seq in (1, 2, 3, 5):
        sink.land(arrival(seq, [gap(meter=f"m-{seq}")]))
    sink.close_numbers(GATEWAY, [(1 << 32, 4)], code="bad_body", voided=False, at=SLOT)
    for upto in (2, 4, 3):
        sink.mark(GATEWAY, 1 << 32, upto)
    assert sink.numbers(GATEWAY, 1 << 32) == (4, [5], [(4, "bad_body")])


def test_a_number_that_is_closed_takes_no_batch(sink: Sink) -> None:
    sink.close_numbers(GATEWAY, [(1 << 32, 1)], code="bad_body", voided=False, at=SLOT)
    sink.close_numbers(GATEWAY, [(1 << 32, 2)], code="voided", voided=True, at=SLOT)
    assert [sink.land(arrival(seq, [capture()])).outcome for seq in (1, 2)] == [Outcome.REFUSED, Outcome.VOIDED]
    assert list(sink.readings()) == []
    assert sink.inbox().batches == 0


@given(digits=st.lists(st.decimals(allow_nan=False, allow_infinity=False, places=6), min_size=1, max_size=8))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_numbers_come_back_digit_for_digit(sink: Sink, digits: list[Decimal]) -> None:
    seq = 1 + max(sink.numbers(GATEWAY, 7).above, default=0)
    captures = [
        capture(Value(quantity=by_name("voltage.a"), number=digit), meter=f"m-{seq}-{n}")
        for n, digit in enumerate(digits)
    ]
    sink.land(arrival(seq, captures, epoch=7))
    found = {row.meter: row.plain for row in sink.readings() if row.seq == seq}
    assert found == {f"m-{seq}-{n}": format(abs(d) if d.is_zero() else d, "f") for n, d in enumerate(digits)} or (
        isinstance(sink, SqliteSink) and found == {f"m-{seq}-{n}": format(d, "f") for n, d in enumerate(digits)}
    )


def test_numbers_of_batches_are_remembered_by_epoch(sink: Sink) -> None:
    for seq in (3, 1, 2):
        sink.land(arrival(seq, [gap(meter=f"m-{seq}")]))
    sink.land(arrival(9, [gap()], epoch=5))
    assert sink.numbers(GATEWAY, 1 << 32) == (0, [1, 2, 3], [])
    assert sink.numbers("gw-0002", 1 << 32) == (0, [], [])
    sink.close_numbers(GATEWAY, [(5, 2), (5, 4)], code="bad_body", voided=False, at=SLOT)
    sink.close_numbers(GATEWAY, [(5, 4), (5, 6), (6, 1)], code="voided", voided=True, at=SLOT)
    sink.close_numbers(GATEWAY, [(5, 4)], code="bad_body", voided=False, at=SLOT)
    assert sink.numbers(GATEWAY, 5) == (0, [2, 4, 6, 9], [(2, "bad_body")])
    assert sink.closed_numbers(GATEWAY, 5) == [(2, "bad_body", False), (4, "bad_body", True), (6, "voided", True)]


def test_many_epochs_stand_as_each_by_itself_and_are_asked_for_at_once(
    sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    epochs = [(f"gw-{n:04}", epoch) for n in range(20) for epoch in (5, 6)]
    for n, (gateway, epoch) in enumerate(epochs):
        for seq in range(1, 1 + n % 4):
            sink.land(replace(arrival(seq, [gap(meter=f"m-{n}-{seq}")], epoch=epoch), gateway=gateway))
        sink.close_numbers(gateway, [(epoch, 9)], code="bad_body", voided=False, at=SLOT)
        letter = Letter(topic="mw/v1/x", gateway=gateway, reason="unknown_key", detail="", payload=b"%d" % n,
                        received_at=SLOT + n, kid=b"%08d" % n)  # fmt: skip
        sink.set_aside(letter, keep=3)
    each = [
        (sink.numbers(gateway, epoch), sink.held_kids(gateway, "unknown_key", 3, since=SLOT + 7))
        for gateway, epoch in epochs
    ]
    assert len({len(kids) for _, kids in each}) > 1 and len({len(numbers.above) for numbers, _ in each}) > 1
    begun, pipeline = 0, psycopg.Connection.pipeline

    def counted(connection: psycopg.Connection[Any]) -> Any:
        nonlocal begun
        begun += 1
        return pipeline(connection)

    monkeypatch.setattr(psycopg.Connection, "pipeline", counted)
    assert sink.standings(epochs, "unknown_key", 3, since=SLOT + 7) == each
    assert begun == isinstance(sink, PostgresSink), "all questions before the first answer"


def test_the_first_key_record_of_an_id_stays(sink: Sink) -> None:
    assert sink.key_record(GATEWAY, b"k" * 8) is None
    sink.add_key_record(GATEWAY, b"k" * 8, 1 << 33, 20_000, b"first", SLOT)
    sink.add_key_record(GATEWAY, b"k" * 8, 1 << 33, 20_000, b"second", SLOT)
    assert sink.key_record(GATEWAY, b"k" * 8) == b"first"
    sink.add_key_record(GATEWAY, b"k" * 8, 1 << 33, 20_000, b"third", SLOT, replace=True)
    assert sink.key_record(GATEWAY, b"k" * 8) == b"third"
    assert sink.key_record("gw-0002", b"k" * 8) is None


def test_dead_letters_are_bounded_for_each_gateway_and_reason(sink: Sink) -> None:
    def letter(n: int, reason: str = "forged", gateway: str = GATEWAY) -> Letter:
        return Letter(
            topic="mw/v1/x", gateway=gateway, reason=reason, detail="d\0", payload=b"%d" % n, received_at=SLOT + n,
            kid=b"k" * 8,
        )  # fmt: skip

    sink.set_aside(letter(0, gateway="gw-0002"), keep=3)
    for n in (0, 1, 2, 2, 3, 4):
        sink.set_aside(letter(n), keep=3)
        sink.set_aside(letter(n, "unknown_key"), keep=3)
    kept = rows(sink, f"SELECT payload, times FROM dead_letter WHERE reason = 'forged' AND gateway = '{GATEWAY}'"
                      " ORDER BY id")  # fmt: skip
    assert kept == [(b"2", 2), (b"3", 1), (b"4", 1)]
    held = sink.held(GATEWAY, b"k" * 8, "unknown_key")
    assert [one.payload for one in held] == [b"2", b"3", b"4"]
    assert sink.held(GATEWAY, b"other kid", "unknown_key") == []
    assert sink.held_kids(GATEWAY, "unknown_key", 9, since=SLOT + 4) == [b"k" * 8]
    for gateway, limit, since in ((GATEWAY, 0, SLOT), (GATEWAY, 9, SLOT + 5), ("gw-0002", 9, SLOT)):
        assert sink.held_kids(gateway, "unknown_key", limit, since=since) == []
    sink.release([one.id for one in held])
    assert rows(sink, "SELECT count(*) FROM dead_letter") == [(4,)]


def test_the_last_note_of_a_gateway_stays(sink: Sink) -> None:
    for text in ("{}", '{"online": true}'):
        sink.note(GATEWAY, "state", text, SLOT)
    assert rows(sink, "SELECT gateway, name, text FROM gateway_note") == [(GATEWAY, "state", '{"online": true}')]


def test_what_was_committed_is_there_after_opening_again(sink: Sink) -> None:
    sink.land(arrival(1, [capture()]))
    again = open_sink(f"sqlite:///{sink.path}" if isinstance(sink, SqliteSink) else _url(sink))
    assert again.numbers(GATEWAY, 1 << 32).above == [1]
    assert list(again.readings()) == list(sink.readings())
    again.close()


def _url(sink: Sink) -> str:
    assert isinstance(sink, PostgresSink)
    return sink.url


def test_sqlite_of_another_version_is_not_touched(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "central.db") as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(SinkUnfit, match="expected central tables of version 2, got 99"):
        SqliteSink(tmp_path / "central.db")


def test_sqlite_runs_in_wal_and_full(tmp_path: Path) -> None:
    opened = SqliteSink(tmp_path / "central.db")
    with opened._reading() as cursor:
        pragmas = {name: cursor.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")}
    opened.close()
    assert pragmas == {"journal_mode": "wal", "synchronous": 2}


def test_a_sqlite_file_that_someone_holds_is_away_and_then_lands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("central.sinks.sqlite._BUSY_MS", 1)
    opened = SqliteSink(tmp_path / "central.db")
    holder = sqlite3.connect(tmp_path / "central.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(SinkAway, match="locked"):
        opened.land(arrival(1, [capture()]))
    holder.execute("ROLLBACK")
    holder.close()
    assert opened.land(arrival(1, [capture()])).outcome is Outcome.LANDED
    opened.close()


@pytest.mark.slow
def test_postgresql_may_go_away_and_come_back(postgres_cluster: Postgres, postgres: str) -> None:
    opened = PostgresSink(postgres)
    opened.land(arrival(1, [capture()]))
    postgres_cluster.kill()
    try:
        for _ in range(2):
            with pytest.raises(SinkAway):
                opened.land(arrival(2, [capture(meter="m-2")]))
    finally:
        postgres_cluster.start()
    assert opened.land(arrival(2, [capture(meter="m-2")])).outcome is Outcome.LANDED
    assert opened.land(arrival(1, [capture()])).outcome is Outcome.REPEAT
    assert {row.meter for row in opened.readings()} == {"m-1", "m-2"}
    opened.close()


def test_postgresql_commits_synchronously_whatever_the_database_says(postgres: str) -> None:
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {connection.info.dbname} SET synchronous_commit = off".encode())
    opened = PostgresSink(postgres)
    with opened._reading() as cursor:
        cursor.execute("SHOW synchronous_commit")
        assert cursor.fetchone() == ("on",)
    opened.close()


@pytest.mark.parametrize("url", ["sqlite:///", "sqlite://x", "mysql://h/d", "central.db", ""])
def test_a_database_of_another_form_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="expected sqlite:///PATH or postgresql://"):
        open_sink(url)
