"""A store of every schema that ever was opens, and drains; one of a schema to come is refused and left as it is."""

import gzip
from pathlib import Path

import apsw
import pytest

from buffer import sqlite
from buffer.errors import OutboxError, StoreForeign
from buffer.history import History
from buffer.opening import STORE_NAME
from buffer.sqlite import open_store
from buffer.words import RecordClass
from protocols.batch import pack
from tests.crash.scenario import NOW, capture
from tests.former import sample, unsettled
from tests.outbox import Sealer, open_outbox, settle


@pytest.mark.parametrize("version", sqlite.schemas())
async def test_a_store_of_every_schema_opens_and_drains(tmp_path: Path, version: int) -> None:
    path = tmp_path / STORE_NAME
    path.write_bytes(gzip.decompress(sample(version).read_bytes()))
    batches, records = unsettled(path)
    assert len(batches) > 4
    assert len(records) == 4
    with History(tmp_path) as history:
        before = [list(history.read(f"meter-{n}", 0, 2 * NOW)) for n in range(10)]
    async with open_outbox(tmp_path, classes={"curve": RecordClass.CURVE}) as outbox:
        assert outbox.damage == []
        assert outbox.epoch >> 32 == 3
        assert outbox.fact("clock.floor") == str(NOW)
        held = [(batch.epoch, batch.seq, batch.message) for batch in outbox.offers(1_000)]
        assert sorted(held) == batches, "what was sealed stays as it is"
        assert len(outbox.key_records()) == 2
        sealer = Sealer(outbox)
        sealed = sealer.open(await sealer.all())
        assert sorted(map(pack, sealed)) == sorted(map(pack, records))
        for epoch, seq, _ in batches:
            await settle(outbox, epoch=epoch, ranges=((seq, seq),))
        await settle(outbox, outbox.next_seq - 1)
        assert outbox.pending == outbox.unsettled == 0
        assert await outbox.check() == []
        with History(tmp_path) as history:
            assert [list(history.read(f"meter-{n}", 0, 2 * NOW)) for n in range(10)] == before
    connection = apsw.Connection(str(path))
    assert sqlite.pragma(connection, "user_version") == max(sqlite.schemas())
    assert connection.execute("SELECT DISTINCT task, class FROM series ORDER BY task").fetchall() == [
        ("curve", RecordClass.CURVE), ("day", RecordClass.DAILY if version == 1 else RecordClass.BULK),
    ]  # fmt: skip
    connection.close()


def test_a_newer_schema_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / STORE_NAME
    connection = open_store(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = path.read_bytes()
    told = (
        f"schema 99, written by a newer Meterwire; this one knows up to {max(sqlite.schemas())}. Install the newer one"
    )
    with pytest.raises(StoreForeign, match=told):
        open_outbox(tmp_path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.glob("*damaged*")] == []


async def test_a_migration_is_one_transaction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_outbox(tmp_path) as outbox:
        await outbox.append([capture(1)], urgent=True)
    newest = max(sqlite.schemas())
    steps = {
        **sqlite.schemas(),
        newest + 1: "ALTER TABLE record ADD COLUMN extra INTEGER; CREATE TABLE more (x) STRICT, STRICT",
    }
    monkeypatch.setattr(sqlite, "schemas", lambda: steps)
    with pytest.raises(OutboxError):
        open_outbox(tmp_path)
    steps[newest + 1] = "ALTER TABLE record ADD COLUMN extra INTEGER; CREATE TABLE more (x INTEGER) STRICT"
    async with open_outbox(tmp_path) as outbox:
        sealer = Sealer(outbox)
        assert sealer.open(await sealer.all()) == [capture(1)]
    connection = apsw.Connection(str(tmp_path / STORE_NAME))
    assert sqlite.pragma(connection, "user_version") == newest + 1
    assert connection.execute("SELECT count(*), count(extra) FROM record").fetchone() == (1, 0)
    connection.close()
