"""PostgreSQL keeps readings by UTC day, in partitions ahead and on demand; tables of version 1 are brought up."""

import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from importlib.resources import files
from pathlib import Path

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from central.sinks.base import Outcome, ReadingRow, Sink, SinkAway, SinkRefuses
from central.sinks.partitions import AHEAD, DAY_MS, DAYS_MAX, day_name
from central.sinks.postgres import PostgresSink
from central.sinks.sqlite import SqliteSink
from protocols.capture import Capture, Record
from tests.central.test_sinks import SLOT, arrival, capture, number
from tests.records import CAPTURES

TODAY = SLOT // DAY_MS


@pytest.fixture
def sink(postgres: str) -> Iterator[PostgresSink]:
    opened = PostgresSink(postgres)
    yield opened
    opened.close()


def at(day: int, meter: str = "m-1") -> Capture:
    return replace(capture(meter=meter), stamp=day * DAY_MS + 1, slot=day * DAY_MS, read_at=day * DAY_MS + 2)


def tables(url: str) -> dict[str, int]:
    """The partitions that hold readings, with how many."""
    with psycopg.connect(url) as connection:
        return dict(connection.execute("SELECT tableoid::regclass::text, count(*) FROM reading GROUP BY 1").fetchall())


def partitions(url: str) -> set[str]:
    with psycopg.connect(url) as connection:
        found = connection.execute(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'reading'::regclass"
        )
        return {name for (name,) in found}


def test_there_is_a_partition_for_the_next_days_before_they_begin(sink: PostgresSink) -> None:
    sink.land(arrival(1, [capture()]))
    assert partitions(sink.url) == {"reading_before", "reading_after"} | {day_name(TODAY + n) for n in range(AHEAD)}
    assert tables(sink.url) == {"reading_20260528": 1}


def test_late_readings_get_their_days_and_wild_ones_none(sink: PostgresSink) -> None:
    days = [
        TODAY - 62,
        TODAY - 1,
        -3000,
        1,
        80_000,
    ]  # 1961 and 1970: a meter without a clock; 2189: one with a wild one
    sink.land(arrival(1, [at(day) for day in days]))
    assert tables(sink.url) == {
        day_name(TODAY - 62): 1,
        day_name(TODAY - 1): 1,
        "reading_before": 2,
        "reading_after": 1,
    }
    assert sorted(row.stamp for row in sink.readings()) == sorted(day * DAY_MS + 1 for day in days)


def test_the_key_is_unique_in_every_partition(sink: PostgresSink) -> None:
    days = [TODAY, 1, 80_000]
    sink.land(arrival(1, [at(day) for day in days]))
    landed = sink.land(arrival(2, [at(day) for day in days] + [at(TODAY + 1)]))
    assert (landed.readings, landed.repeats, landed.conflicts) == (1, 3, 0)


def test_two_workers_may_make_the_same_days(postgres: str) -> None:
    sinks = [PostgresSink(postgres) for _ in range(2)]
    days = range(TODAY - 30, TODAY)

    def land(worker: int) -> list[Outcome]:
        return [sinks[worker].land(arrival(day, [at(day, f"m-{worker}")], epoch=worker)).outcome for day in days]

    with ThreadPoolExecutor(2) as pool:
        outcomes = [outcome for each in pool.map(land, range(2)) for outcome in each]
    assert set(outcomes) == {Outcome.LANDED}
    assert tables(postgres) == {day_name(day): 2 for day in days}
    for opened in sinks:
        opened.close()


def test_a_day_that_was_dropped_is_made_again_when_readings_of_it_come(sink: PostgresSink) -> None:
    sink.land(arrival(1, [at(TODAY - 5)]))
    with psycopg.connect(sink.url) as other:
        other.execute(f"DROP TABLE {day_name(TODAY - 5)}".encode())
    assert sink.land(arrival(2, [at(TODAY - 5, "m-2")])).outcome is Outcome.LANDED
    assert tables(sink.url) == {day_name(TODAY - 5): 1}


def test_a_batch_of_too_many_new_days_is_refused_and_its_halves_land(sink: PostgresSink) -> None:
    records: list[Record] = [at(TODAY - day) for day in range(1, DAYS_MAX + 2)]
    with pytest.raises(SinkRefuses, match="new days in one batch"):
        sink.land(arrival(1, records))
    assert list(sink.readings()) == []
    for seq, half in enumerate((records[:50], records[50:]), start=2):
        assert sink.land(arrival(seq, half)).readings == len(half)


def test_a_batch_that_repeats_itself_lands_by_way_of_the_staging_table(sink: PostgresSink) -> None:
    twice = [capture(task="curve"), capture(task="billing")]
    for seq, meter in enumerate(("m-1", "m-2", "m-3"), start=1):
        landed = sink.land(arrival(seq, [replace(one, meter=meter) for one in twice]))
        assert (landed.readings, landed.repeats, landed.conflicts) == (1, 1, 0)
    assert sink.land(arrival(4, [capture(meter="m-4")])).readings == 1
    assert {row.task for row in sink.readings()} == {"curve"}


def told(row: ReadingRow) -> tuple[object, ...]:
    """The row with its numbers as numbers: PostgreSQL knows no negative zero. A text may say NaN."""
    plain: object = row.plain
    with suppress(ArithmeticError):
        number = Decimal(row.plain or "")
        plain = number if number.is_finite() else row.plain
    return (*row[:5], plain, *row[6:9], Decimal(row.ratio), *row[10:])


@given(batches=st.lists(st.lists(CAPTURES, min_size=1, max_size=4), min_size=1, max_size=3))
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_both_databases_hold_the_same(
    batches: list[list[Capture]], postgres_cluster: object, sink: PostgresSink, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other: Sink = SqliteSink(tmp_path_factory.mktemp("same") / "central.db")
    with psycopg.connect(sink.url) as connection:
        connection.execute("TRUNCATE reading, inbox, conflict, filled_slot")
    for each in (sink, other):
        for seq, batch in enumerate(batches, 1):
            each.land(arrival(seq, batch))
    rows = [{(row.meter, row.stamp, row.quantity, row.source): told(row) for row in each.readings()}
            for each in (sink, other)]  # fmt: skip
    assert rows[0] == rows[1]
    other.close()


def old_postgres(url: str, *days: int) -> None:
    """The tables as version 1 made them, with a reading of each day."""
    with psycopg.connect(url) as connection:
        connection.execute(files("central.sinks").joinpath("postgres_1.sql").read_bytes())
        connection.execute("INSERT INTO meterwire_schema VALUES (1)")
        for day in days:
            connection.execute(
                "INSERT INTO reading SELECT 'p-1', 'm-1', 'voltage.a', to_timestamp(%s), 'meter_live', 230.10, NULL,"
                " 'good', NULL, NULL, 1, NULL, to_timestamp(%s), NULL, 'trusted', 'curve', 'gw-0001', 1, %s",
                (day * 86_400, day * 86_400, day),
            )
        connection.execute("INSERT INTO inbox VALUES ('gw-0001', 1, 1, '\\x00', now(), 1, 1)")


def test_tables_of_version_1_become_the_first_partition(postgres: str) -> None:
    ahead = int(time.time()) // 86_400 + 20
    days = [TODAY - 400, 20_000, ahead]
    old_postgres(postgres, *days)
    opened = PostgresSink(postgres)
    assert sorted(row.stamp // DAY_MS for row in opened.readings()) == sorted(days)
    found = tables(postgres)
    assert found.pop("reading_before") == 2
    assert found == {day_name(ahead): 1}
    assert opened.numbers("gw-0001", 1).above == [1]
    again = replace(capture(number("voltage.a", "230.1"), slot=None), stamp=20_000 * DAY_MS, point="p-1")
    assert opened.land(arrival(2, [again])).repeats == 1
    opened.close()
    PostgresSink(postgres).close()  # and is not brought up twice


def test_empty_tables_of_version_1_are_as_new_ones(postgres: str) -> None:
    old_postgres(postgres)
    opened = PostgresSink(postgres)
    opened.land(arrival(1, [at(TODAY - 100)]))
    assert tables(postgres) == {day_name(TODAY - 100): 1}
    opened.close()


def test_a_file_of_version_1_is_brought_up(tmp_path: Path) -> None:
    path = tmp_path / "central.db"
    with sqlite3.connect(path) as connection:
        connection.executescript(files("central.sinks").joinpath("sqlite_1.sql").read_text(encoding="utf-8"))
        connection.execute("INSERT INTO inbox VALUES ('gw-0001', 1, 1, x'00', 1, 1, 1)")
        connection.execute("PRAGMA user_version = 1")
    opened = SqliteSink(path)
    assert opened.numbers("gw-0001", 1).above == [1]
    assert opened.land(arrival(2, [capture()])).outcome is Outcome.LANDED
    opened.close()
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (2,)


def test_a_drop_gives_way_to_who_reads_and_landing_goes_on(
    postgres: str, sink: PostgresSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink.land(arrival(1, [at(TODAY - 5)]))
    monkeypatch.setattr("central.sinks.partitions.DROP_PAUSES_S", (0.0,))
    operator = PostgresSink(postgres)
    with psycopg.connect(postgres) as reader:
        reader.execute("SELECT count(*) FROM reading")  # an export that goes on
        with ThreadPoolExecutor(1) as pool:
            dropping = pool.submit(operator.drop_before, date(2100, 1, 1))
            began = time.monotonic()
            for seq in range(2, 12):
                assert sink.land(arrival(seq, [at(TODAY)])).outcome is Outcome.LANDED
            assert time.monotonic() - began < 10.0
            with pytest.raises(SinkAway, match="somebody reads"):
                dropping.result()
    assert operator.drop_before(date(1970, 1, 1) + timedelta(TODAY - 4)) == [day_name(TODAY - 5)]
    assert {row.stamp // DAY_MS for row in sink.readings()} == {TODAY}
    operator.close()
