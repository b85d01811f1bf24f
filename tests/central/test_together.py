"""Batches that land in one transaction leave what they would have left one by one, or nothing at all."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from central.sinks import open_sink
from central.sinks.base import Arrival, Landed, Outcome, Sink, SinkRefuses
from protocols.capture import Fault, Record, faulty
from protocols.quantity import by_name
from tests.central.test_sinks import SLOT, arrival, capture, gap, number, rows
from tests.postgres import Postgres

TABLES = {
    "reading": "SELECT meter, quantity, stamp, CAST(value AS text), text, fault, gateway, epoch, seq FROM reading",
    "conflict": "SELECT meter, quantity, stamp, CAST(value AS text), gateway, seq FROM conflict",
    "gap": "SELECT meter, task, slot, fault, closed_at FROM gap",
    "filled_slot": "SELECT meter, task, slot, read_at FROM filled_slot",
    "inbox": "SELECT gateway, epoch, seq, sha256, captures, bytes, oldest_at FROM inbox",
}


@pytest.fixture(params=["sqlite", "postgresql"])
def sinks(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Sink, Sink]]:
    if request.param == "sqlite":
        urls = [f"sqlite:///{tmp_path}/{name}.db" for name in ("one", "all")]
    else:
        server: Postgres = request.getfixturevalue("postgres_cluster")
        urls = [server.create(), server.create()]
    one, together = (open_sink(url) for url in urls)
    yield one, together
    one.close()
    together.close()


def tables(sink: Sink) -> dict[str, list[tuple[object, ...]]]:
    return {name: sorted(rows(sink, statement), key=repr) for name, statement in TABLES.items()}


def drawn(random: Random) -> list[Arrival]:
    """Batches of three gateways: few meters, slots and values, so that keys, gaps and numbers come again."""
    arrivals = []
    for _ in range(random.randint(2, 12)):
        records: list[Record] = []
        for _ in range(random.randint(0, 4)):
            meter, slot = f"m-{random.randint(1, 3)}", SLOT + 900_000 * random.randint(0, 2)
            if random.random() < 0.3:
                records.append(gap(meter=meter, slot=slot))
                continue
            first = (
                faulty(by_name("voltage.a"), Fault.ABSENT)
                if random.random() < 0.2
                else number("voltage.a", random.choice(("230.1", "230.10", "231.0")))
            )
            one = capture(first, number("voltage.b", "229.9"), meter=meter)
            records.append(replace(one, slot=slot, stamp=slot, read_at=slot + 812))
        made = arrival(random.randint(1, 6), records, salt=random.choice((b"", b"", b"x")))
        arrivals.append(replace(made, gateway=f"gw-{random.randint(1, 3)}"))
    return arrivals


@pytest.mark.parametrize("seed", range(4))
def test_together_or_one_by_one_the_tables_are_the_same(sinks: tuple[Sink, Sink], seed: int) -> None:
    one, together = sinks
    random = Random(seed)
    for _ in range(6):
        arrivals = drawn(random)
        assert together.land_all(arrivals) == [one.land(each) for each in arrivals]
        assert tables(together) == tables(one)


def test_one_that_cannot_land_keeps_all_of_them_out(sinks: tuple[Sink, Sink]) -> None:
    _, sink = sinks
    wild = capture(meter="m-2", late_ms=1 << 64)
    with pytest.raises(SinkRefuses):
        sink.land_all([arrival(1, [capture()]), arrival(2, [wild])])
    assert not any(tables(sink).values())
    assert sink.land_all([arrival(1, [capture()])]) == [Landed(outcome=Outcome.LANDED, readings=1)]


def test_closed_numbers_stay_closed_among_others(sinks: tuple[Sink, Sink]) -> None:
    _, sink = sinks
    first = arrival(3, [capture()])
    sink.land(first)
    sink.close_numbers(first.gateway, [(first.epoch, 1)], code="bad_body", voided=False, at=SLOT)
    sink.close_numbers(first.gateway, [(first.epoch, 2)], code="voided", voided=True, at=SLOT)
    landed = sink.land_all([arrival(seq, [capture(meter=f"m-{seq}")]) for seq in (1, 2)] + [first, arrival(4, [])])
    assert [one.outcome for one in landed] == [Outcome.REFUSED, Outcome.VOIDED, Outcome.REPEAT, Outcome.LANDED]
    assert {row.meter for row in sink.readings()} == {"m-1"}


def test_nothing_lands_as_nothing(sinks: tuple[Sink, Sink]) -> None:
    assert sinks[1].land_all([]) == []
