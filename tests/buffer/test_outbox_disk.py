"""When the disk fails, is full, stalls or lies: what was acknowledged stays, and what was not is said to be not."""

import asyncio
import itertools
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffer import sqlite
from buffer.errors import StoreDamaged, StoreFailed, StoreForeign
from buffer.graft import PAGE_SIZES
from buffer.history import History
from buffer.opening import STORE_NAME
from buffer.rows import from_row, to_row
from buffer.sqlite import PAGE_BYTES, open_store
from buffer.words import Limits
from protocols.batch import pack
from protocols.capture import Capture, Record
from protocols.errors import Malformed
from tests.crash.recording import Op, Recording
from tests.crash.scenario import NOW, Keys, capture
from tests.outbox import Sealer, open_outbox, settle

SLOT = NOW + 900_000
_numbers = itertools.count()


def _names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.fixture
def disk() -> Iterator[Recording]:
    vfs = Recording(f"failing-{next(_numbers)}")
    yield vfs
    vfs.unregister()


# ---- how a store is opened


def test_every_setting_is_read_back(tmp_path: Path) -> None:
    connection = open_store(tmp_path / "a.db")
    settings = {name: sqlite.pragma(connection, name) for name in (
        "journal_mode", "synchronous", "busy_timeout", "wal_autocheckpoint", "journal_size_limit", "mmap_size",
        "temp_store", "auto_vacuum", "foreign_keys",
    )}  # fmt: skip
    connection.close()
    assert settings == {
        "journal_mode": "wal", "synchronous": 2, "busy_timeout": 5_000, "wal_autocheckpoint": 4_000,
        "journal_size_limit": 16_777_216, "mmap_size": 0, "temp_store": 2, "auto_vacuum": 2, "foreign_keys": 1,
    }  # fmt: skip


def test_a_file_that_cannot_have_wal_is_refused() -> None:
    with pytest.raises(StoreForeign, match="journal_mode is 'memory' where 'wal' was set"):
        open_store(Path(":memory:"))


def test_somebody_elses_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    connection = apsw.Connection(str(tmp_path / STORE_NAME))
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    with pytest.raises(StoreForeign, match="not a store of Meterwire"):
        open_outbox(tmp_path)
    connection = apsw.Connection(str(tmp_path / STORE_NAME))
    assert connection.execute("SELECT name FROM sqlite_schema").fetchall() == [("theirs",)]
    connection.close()


# ---- when it fails


async def test_a_commit_that_went_through_although_its_sync_failed_leaves_no_trace(tmp_path: Path) -> None:
    """Rows that were refused are not there, nor do they count as a slot that is known."""

    class Unsyncable(Recording):
        broken = False

        def note(self, op: Op) -> None:
            if self.broken and op.kind == "sync":
                raise apsw.IOError("made to fail: sync")

    vfs = Unsyncable("unsyncable")
    outbox = open_outbox(tmp_path, vfs=vfs.name)
    await outbox.append([capture(1, slot=SLOT)], urgent=True)
    vfs.broken = True
    with pytest.raises(StoreFailed, match="nothing was accepted"):
        await outbox.append([capture(2, slot=SLOT + 1), capture(3, meter="meter-2", slot=SLOT)], urgent=True)
    with pytest.raises(StoreFailed):
        await outbox.append([capture(4)], urgent=True)
    vfs.broken = False
    assert not outbox.has_slot("meter-1", "curve", SLOT + 1)
    assert outbox.last_slot("meter-1", "curve") == SLOT
    assert outbox.last_slot("meter-2", "curve") is None
    await outbox.append([capture(5, meter="meter-2")], urgent=True)
    sealer = Sealer(outbox)
    assert sealer.open(await sealer.all()) == [capture(1, slot=SLOT), capture(5, meter="meter-2")]
    await outbox.close()
    vfs.unregister()


async def test_acknowledged_rows_that_are_gone_after_a_disk_error_stop_everything(
    tmp_path: Path, disk: Recording
) -> None:
    outbox = open_outbox(tmp_path, vfs=disk.name)
    await outbox.append([capture(1)], urgent=True)
    disk.changes, disk.fail_at, disk.failed = 0, 0, False
    with pytest.raises(StoreFailed):
        await outbox.append([capture(2)], urgent=True)
    connection = apsw.Connection(str(tmp_path / STORE_NAME))
    connection.execute("DELETE FROM record")
    connection.close()
    for _ in range(2):
        with pytest.raises(StoreDamaged, match="rows are missing that had been acknowledged"):
            await outbox.append([capture(3)], urgent=True)
    await outbox.close()


async def test_the_loop_never_waits_for_the_disk(tmp_path: Path) -> None:
    """The writer's sync stalls; meanwhile the loop goes on, looks things up, and takes more records."""
    stalled, go_on = threading.Event(), threading.Event()

    class Stalling(Recording):
        def note(self, op: Op) -> None:
            if threading.current_thread() is not threading.main_thread() and op.kind == "sync":
                stalled.set()
                assert go_on.wait(30)

    vfs = Stalling("stalling")
    outbox = open_outbox(tmp_path, vfs=vfs.name, writer="thread")
    async with asyncio.TaskGroup() as group:
        group.create_task(outbox.append([capture(1, slot=SLOT)], urgent=True), name="append 1")
        await asyncio.to_thread(stalled.wait, 30)
        assert not outbox.has_slot("meter-1", "curve", SLOT), "not committed yet"
        assert outbox.unsealed().records == 0
        assert outbox.offers(5) == []
        group.create_task(outbox.append([capture(2)], urgent=True), name="append 2")
        group.create_task(outbox.append([capture(3)], urgent=True), name="append 3")
        await asyncio.sleep(0)
        assert outbox.counters["commits"] == 0
        go_on.set()
    assert outbox.counters["commits"] == 2, "what came during the stall went together"
    assert outbox.has_slot("meter-1", "curve", SLOT)
    sealer = Sealer(outbox)
    assert sealer.open(await sealer.all()) == [capture(1, slot=SLOT), capture(2), capture(3)]
    await outbox.close()
    vfs.unregister()
    assert _names_in(tmp_path) == ["outbox.db", "outbox.lock"], "one file holds it all"


# ---- when it lies


@given(number=st.integers(0, 10**9), bit=st.integers(0, 10**6))
def test_a_flipped_bit_in_a_row_is_never_a_reading(number: int, bit: int) -> None:
    row = to_row(capture(number))
    assert from_row(row.body) == capture(number)
    flipped = bytearray(row.body)
    flipped[bit // 8 % len(flipped)] ^= 1 << bit % 8
    with pytest.raises(Malformed, match="checksum"):
        from_row(bytes(flipped))


async def _filled(directory: Path, *, clean: bool = True, keys: Keys | None = None) -> list[Record]:
    """A store with settled, unsettled and unsealed records, 60 each; returns those that the centre does not have."""
    outbox = open_outbox(directory, limits=Limits(seal_values=40))
    sealer = Sealer(outbox)
    sealer.keys = keys or sealer.keys
    records: list[Record] = [capture(n, meter=f"meter-{n % 7}", slot=SLOT + n) for n in range(180)]
    await outbox.append(records[:60], urgent=True)
    await sealer.all()
    await settle(outbox, 3)
    await outbox.append(records[60:120], urgent=True)
    await sealer.all()
    await outbox.append(records[120:], urgent=True)
    await outbox.set_fact("floor", "1")
    await outbox.close()
    if not clean:
        connection = apsw.Connection(str(directory / STORE_NAME))
        connection.execute("UPDATE boot SET clean = 0")
        connection.close()
    return records[60:]


def _pages(path: Path, where: str) -> list[int]:
    """Pages, from 0, of this kind."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    rows: list[int] = [row[0] for row in connection.execute(f"SELECT pageno FROM dbstat WHERE {where}")]
    connection.close()
    return [page - 1 for page in rows]


def _inner_pages(path: Path) -> set[int]:
    """Pages that lead to others: where one of these is hit, its subtree is not met."""
    return {0, 1, *_pages(path, "pagetype = 'internal'")}


async def _left(directory: Path) -> tuple[list[str], list[Record], list[tuple[int, int]]]:
    """Open after damage: what is said of it, what there is to send, and the voided numbers."""
    async with open_outbox(directory) as outbox:
        sealer = Sealer(outbox)
        sent = sealer.open(await sealer.all())
        assert outbox.next_seq > 1
        return outbox.damage, sent, outbox.voided()


async def test_a_sound_file_is_not_touched(tmp_path: Path) -> None:
    wanted = await _filled(tmp_path, clean=False)
    async with open_outbox(tmp_path) as outbox:
        assert outbox.damage == []
        assert outbox.pending == len(wanted)
        assert await outbox.check() == []


@pytest.mark.parametrize("writer", ["inline", "thread"])
async def test_damage_that_comes_while_it_runs_is_found_by_a_check(tmp_path: Path, writer: str) -> None:
    await _filled(tmp_path)
    async with open_outbox(tmp_path, writer="thread" if writer == "thread" else "inline") as outbox:
        with (tmp_path / STORE_NAME).open("r+b") as file:
            leaf = _pages(tmp_path / STORE_NAME, "name = 'record' AND pagetype = 'leaf'")[3]
            file.seek(leaf * PAGE_BYTES + 8)
            file.write(bytes(800))
        assert await outbox.check()


@pytest.mark.parametrize("page_bytes", PAGE_SIZES)
@pytest.mark.parametrize("size", [16, 100, None], ids=["magic", "header", "first page"])
async def test_a_broken_header_loses_nothing(tmp_path: Path, size: int | None, page_bytes: int) -> None:
    open_store(tmp_path / STORE_NAME, page_bytes=page_bytes).close()
    size = size or page_bytes
    wanted = await _filled(tmp_path)
    path = tmp_path / STORE_NAME
    damaged = bytearray(path.read_bytes())
    damaged[:size] = random.Random(size).randbytes(size)
    path.write_bytes(damaged)
    damage, sent, voided = await _left(tmp_path)
    assert len(damage) == 1
    assert "set aside as outbox.damaged-1.db; taken over: 180 records, 0 events" in damage[0]
    assert [record for record in sent if record in wanted] == wanted, "all that is unsettled is sealed again"
    assert [seq for _, seq in voided] == [4, 5, 6]
    assert (tmp_path / "outbox.damaged-1.db").read_bytes() == damaged, "never deleted, never changed"
    with History(tmp_path) as history:
        assert len(list(history.read("meter-0", 0, 2 * NOW))) == 26
        assert [event.name for event in history.events()] == ["store_damaged"]
    async with open_outbox(tmp_path) as outbox:
        assert outbox.damage == []
        assert outbox.fact("floor") == "1"
        assert outbox.has_capture("meter-0", "curve", SLOT)
        assert outbox.last_slot("meter-0", "curve") == SLOT + 175
        assert outbox.epoch >> 32 == 3, "the boot count went on"


async def test_settled_records_are_not_sent_again_when_the_tables_that_say_so_are_whole(tmp_path: Path) -> None:
    wanted = await _filled(tmp_path)
    path = tmp_path / STORE_NAME
    damaged = bytearray(path.read_bytes())
    damaged[:100] = bytes(100)
    path.write_bytes(damaged)
    _, sent, _ = await _left(tmp_path)
    assert sorted(map(str, sent[1:])) == sorted(map(str, wanted)), "besides the event that tells of it"


async def test_a_second_case_gets_a_number_of_its_own(tmp_path: Path) -> None:
    await _filled(tmp_path)
    for number in (1, 2):
        (tmp_path / STORE_NAME).write_bytes(b"not a database at all" * 500)
        async with open_outbox(tmp_path) as outbox:
            assert f"set aside as outbox.damaged-{number}.db" in outbox.damage[0]
            await outbox.append([capture(1)], urgent=True)
    assert {"outbox.damaged-1.db", "outbox.damaged-2.db"} <= set(_names_in(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(24))
async def test_random_damage_stops_nothing_invents_nothing_and_spares_what_it_did_not_hit(
    tmp_path: Path, seed: int
) -> None:
    former = Keys(random.Random(seed))
    wanted = await _filled(tmp_path, clean=False, keys=former)
    path = tmp_path / STORE_NAME
    rng = random.Random(seed)
    whole = path.read_bytes()
    inner = _inner_pages(path)
    hit = rng.sample([page for page in range(len(whole) // PAGE_BYTES) if page not in inner], 2)
    damaged = bytearray(whole)
    for page in hit:
        at = page * PAGE_BYTES + rng.randrange(PAGE_BYTES - 300)
        damaged[at : at + 300] = rng.randbytes(300)
    path.write_bytes(damaged)
    async with open_outbox(tmp_path) as outbox:
        await outbox.append([capture(1_000)], urgent=True)
        sealer = Sealer(outbox)
        sealer.keys.keys.update(former.keys)
        sealed: list[Record] = []
        while await sealer.all() or outbox.unsettled:
            for batch in outbox.offers(1_000):
                try:
                    sealed += sealer.open([batch])
                except Malformed:
                    await outbox.void(batch.epoch, batch.seq, "as the centre would say: bad_tag")
                else:
                    await settle(outbox, epoch=batch.epoch, ranges=((batch.seq, batch.seq),))
        assert capture(1_000) in sealed
        given = [capture(n, meter=f"meter-{n % 7}", slot=SLOT + n) for n in range(180)]
        assert [record for record in sealed if isinstance(record, Capture) and record not in given] == [capture(1_000)]
        lost = [record for record in wanted if record not in sealed]
        assert {whole.find(pack(record)) // PAGE_BYTES for record in lost} <= set(hit), outbox.damage
        if outbox.damage:
            assert (tmp_path / "outbox.damaged-1.db").read_bytes() == damaged


TABLES = ("boot", "series", "record", "event", "lane", "key_record", "batch", "requeue", "voided", "unreadable",
          "mark", "fact", "sqlite_sequence", "sqlite_schema", "record_by_moment", "batch_by_number")  # fmt: skip


@pytest.mark.parametrize("table", TABLES)
async def test_every_record_whose_page_is_whole_comes_back_whichever_page_is_damaged(
    tmp_path: Path, table: str
) -> None:
    """Each page of a table in turn, those that lead to others too."""
    whole_store = tmp_path / "whole"
    wanted = await _filled(whole_store, clean=False)
    path = whole_store / STORE_NAME
    whole = path.read_bytes()
    where = {record: whole.find(pack(record)) // PAGE_BYTES for record in wanted}
    pages = _pages(path, f"name = '{table}'")
    assert pages
    rng = random.Random(table)
    for page in rng.sample(pages, min(6, len(pages))):
        directory = tmp_path / str(page)
        directory.mkdir()
        damaged = bytearray(whole)
        damaged[page * PAGE_BYTES : (page + 1) * PAGE_BYTES] = rng.randbytes(PAGE_BYTES)
        (directory / STORE_NAME).write_bytes(damaged)
        damage, sent, voided = await _left(directory)
        if not damage:  # Nothing was set aside, so what stood in batches stands there still.
            sent += [record for record in wanted[:60] if record not in sent]
        lost = [record for record in wanted if record not in sent]
        assert all(where[record] == page for record in lost), (page, damage)
        assert len(lost) <= 12
        if table not in ("batch", "sqlite_schema", "boot", "voided") and damage:
            assert len(voided) == 3


@pytest.mark.parametrize("moved", [0, 1, 2], ids=["nothing moved", "WAL moved", "all moved"])
async def test_setting_aside_survives_a_power_cut(tmp_path: Path, moved: int) -> None:
    wanted = await _filled(tmp_path)
    path = tmp_path / STORE_NAME
    (tmp_path / "outbox.damaged").write_text("1")
    (tmp_path / "outbox.new.db").write_bytes(b"half made")
    (tmp_path / "outbox.db-wal").write_bytes(b"")
    for part in ("-wal", "")[:moved]:
        path.with_name(path.name + part).rename(tmp_path / f"outbox.damaged-1.db{part}")
    damage, sent, _ = await _left(tmp_path)
    assert "an earlier start was cut off" in damage[0]
    assert [record for record in sent if record in wanted] == wanted
    assert not (tmp_path / "outbox.damaged").exists()
    assert not (tmp_path / "outbox.new.db").exists()
