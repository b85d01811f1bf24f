"""The outbox's promise: what was accepted is there, in order, once, until the centre has it."""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from buffer import sealing
from buffer.errors import OutboxError, StoreBusy
from buffer.history import History
from buffer.opening import STORE_NAME
from buffer.outbox import Outbox
from buffer.words import Limits
from protocols import batch, envelope
from protocols.batch import decode
from protocols.capture import Capture, Event, Fault, Gap, Record
from protocols.envelope import BatchKind
from simulators import virtual
from tests.crash.scenario import NOW, capture
from tests.outbox import Sealer, open_outbox, settle
from tests.records import reference_load

SLOT = NOW + 900_000


def _event(number: int) -> Event:
    return Event(name="door.opened", at=NOW + number, detail={"n": number})


def _stored(directory: Path) -> int:
    """Rows that another process would see."""
    connection = apsw.Connection(str(directory / STORE_NAME), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        row = connection.execute("SELECT (SELECT count(*) FROM record) + (SELECT count(*) FROM event)").fetchone()
        assert row is not None
        return int(row[0])
    finally:
        connection.close()


# ---- accepting


async def test_what_append_returned_for_is_in_the_file(tmp_path: Path) -> None:
    async with open_outbox(tmp_path) as outbox:
        await outbox.append([capture(1), capture(2)], urgent=True)
        assert _stored(tmp_path) == 2


def test_a_record_waits_at_most_a_second_for_company(tmp_path: Path) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with open_outbox(tmp_path) as outbox:
            began = loop.time()
            async with asyncio.TaskGroup() as group:
                group.create_task(outbox.append([capture(1)]), name="first")
                await asyncio.sleep(0.7)
                group.create_task(outbox.append([capture(2)]), name="second")
            assert loop.time() - began == pytest.approx(1.0)
            assert outbox.counters["commits"] == 1
            assert _stored(tmp_path) == 2

    virtual.run(main(), start_ms=NOW)


def test_a_full_group_and_a_flush_and_urgent_records_and_events_do_not_wait(tmp_path: Path) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with open_outbox(tmp_path, limits=Limits(commit_records=8)) as outbox:
            began = loop.time()
            await outbox.append([capture(n) for n in range(8)])
            await outbox.append([capture(8)], urgent=True)
            await outbox.append([capture(9), _event(10)])
            waiting = asyncio.ensure_future(outbox.append([capture(11)]))
            await asyncio.sleep(0)
            await outbox.flush()
            await waiting
            assert loop.time() == began
            assert outbox.counters["commits"] == 4
            assert _stored(tmp_path) == 12

    virtual.run(main(), start_ms=NOW)


@pytest.mark.parametrize("writer", ["inline", "thread"])
async def test_a_cancelled_append_is_written_before_the_cancellation_goes_on(tmp_path: Path, writer: str) -> None:
    async with open_outbox(tmp_path, writer="thread" if writer == "thread" else "inline") as outbox:
        task = asyncio.ensure_future(outbox.append([capture(1)]))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert _stored(tmp_path) == 1


async def test_closing_commits_what_was_given(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path)
    task = asyncio.ensure_future(outbox.append([capture(1)]))
    await asyncio.sleep(0)
    await outbox.close()
    await task
    assert _stored(tmp_path) == 1
    with pytest.raises(OutboxError, match="closed"):
        await outbox.append([capture(2)])


async def test_append_waits_while_too_much_is_pending(tmp_path: Path) -> None:
    async with open_outbox(tmp_path, limits=Limits(pending_records=4, commit_delay_s=30)) as outbox:
        async with asyncio.TaskGroup() as group:
            for n in range(9):
                group.create_task(outbox.append([capture(n)]), name=f"append {n}")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            await outbox.flush()
            await asyncio.sleep(0)
            await outbox.flush()
            await asyncio.sleep(0)
            await outbox.flush()
        assert outbox.counters["append_waits"] > 0
        assert _stored(tmp_path) == 9


async def test_a_second_process_is_kept_out(tmp_path: Path) -> None:
    async with open_outbox(tmp_path):
        with pytest.raises(StoreBusy, match="another process"):
            open_outbox(tmp_path)
    await open_outbox(tmp_path).close()


async def test_the_files_are_for_their_owner_only(tmp_path: Path) -> None:
    store = tmp_path / "store"
    async with open_outbox(store) as outbox:
        await outbox.append([capture(1)], urgent=True)
        assert {path.stat().st_mode & 0o077 for path in [store, *store.iterdir()]} == {0}


# ---- looking


async def test_slots_are_known_by_meter_and_task_also_over_a_restart(tmp_path: Path) -> None:
    async with open_outbox(tmp_path) as outbox:
        assert outbox.last_slot("meter-1", "curve") is None
        gap = Gap(meter="meter-2", task="curve", slot=SLOT, fault=Fault.SILENT, opened_at=SLOT)
        await outbox.append([capture(1, slot=SLOT), capture(2), gap], urgent=True)
    async with open_outbox(tmp_path) as outbox:
        assert outbox.has_slot("meter-1", "curve", SLOT)
        assert outbox.has_capture("meter-1", "curve", SLOT)
        assert outbox.last_slot("meter-1", "curve") == SLOT
        assert not outbox.has_slot("meter-1", "billing", SLOT)
        assert not outbox.has_slot("meter-1", "curve", SLOT - 900_000)
        assert not outbox.has_slot("meter-1", "curve", capture(2).stamp), "an unplanned capture fills no slot"
        assert outbox.has_slot("meter-2", "curve", SLOT)
        assert not outbox.has_capture("meter-2", "curve", SLOT), "a gap is not a capture"
        await outbox.append([capture(3, meter="meter-2", slot=SLOT)], urgent=True)
        assert outbox.has_capture("meter-2", "curve", SLOT), "a capture closes its gap"
        await outbox.append([capture(4, slot=SLOT - 900_000)], urgent=True)
        assert outbox.last_slot("meter-1", "curve") == SLOT, "a late capture does not move the last slot back"


async def test_looking_up_a_slot_reads_no_table_from_end_to_end(tmp_path: Path) -> None:
    async with open_outbox(tmp_path):
        connection = apsw.Connection(str(tmp_path / STORE_NAME), flags=apsw.SQLITE_OPEN_READONLY)
        for sql in (
            "SELECT 1 FROM record WHERE moment = 1 AND series = 1 AND kind IN (1, 2) LIMIT 1",
            "SELECT id, epoch, seq FROM batch WHERE kind = 1 ORDER BY epoch, seq",
            "SELECT id, seq, records FROM batch WHERE epoch = 1 AND seq BETWEEN 1 AND 2",
            "SELECT id, body FROM record WHERE id BETWEEN 1 AND 2 ORDER BY id",
        ):
            plan = " ".join(str(row[3]) for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}"))
            assert "SCAN" not in plan, (sql, plan)
            assert "TEMP B-TREE" not in plan, (sql, plan)
        connection.close()


async def test_facts_are_kept(tmp_path: Path) -> None:
    async with open_outbox(tmp_path) as outbox:
        assert outbox.fact("turnaround.meter-1") is None
        await outbox.set_fact("turnaround.meter-1", "80")
        await outbox.set_fact("turnaround.meter-1", "90")
    async with open_outbox(tmp_path) as outbox:
        assert outbox.fact("turnaround.meter-1") == "90"


async def test_history_gives_a_meters_records_of_a_range(tmp_path: Path) -> None:
    async with open_outbox(tmp_path) as outbox:
        records = [capture(n, meter=f"meter-{n % 2}", slot=SLOT + n // 2 * 900_000) for n in range(20)]
        gap = Gap(meter="meter-1", task="billing", slot=SLOT, fault=Fault.ABSENT, opened_at=SLOT)
        await outbox.append([*records, gap, _event(1)], urgent=True)
        with History(tmp_path) as history:
            assert list(history.read("meter-1", SLOT, SLOT + 1, task="curve")) == [records[1]]
            assert list(history.read("meter-1", SLOT, SLOT + 1)) == [records[1], gap]
            assert list(history.read("meter-0", SLOT + 900_000, SLOT + 3 * 900_000)) == [records[2], records[4]]
            assert list(history.read("meter-9", 0, 2 * SLOT)) == []
            assert history.events() == [_event(1)]


# ---- sealing


async def test_batches_are_numbered_without_gap_and_hold_every_record_once(tmp_path: Path) -> None:
    async with open_outbox(tmp_path, limits=Limits(seal_values=10)) as outbox:
        records = [capture(n) for n in range(23)]
        await outbox.append(records, urgent=True)
        sealer = Sealer(outbox)
        batches = await sealer.all()
        assert [batch.seq for batch in batches] == [1, 2, 3, 4, 5]
        assert {batch.epoch for batch in batches} == {outbox.epoch}
        assert sealer.open(batches) == records
        assert (outbox.first_unsettled, outbox.next_seq, outbox.unsettled) == (1, 6, 5)
        assert outbox.offers(100) == batches
        assert _stored(tmp_path) == 23, "rows are not touched"
        assert await sealer.one() is None


async def test_events_go_first_and_in_batches_of_their_own(tmp_path: Path) -> None:
    async with open_outbox(tmp_path) as outbox:
        sealer = Sealer(outbox)
        await outbox.append([capture(1), _event(2)], urgent=True)
        await sealer.all()
        await outbox.append([capture(3), _event(4), capture(5)], urgent=True)
        await sealer.all()
        offered = outbox.offers(10)
        assert [(batch.kind, batch.seq) for batch in offered] == [
            (BatchKind.EVENTS, 1), (BatchKind.EVENTS, 3), (BatchKind.CAPTURES, 2), (BatchKind.CAPTURES, 4),
        ]  # fmt: skip
        assert sealer.open(offered) == [_event(2), _event(4), capture(1), capture(3), capture(5)]
        assert outbox.offers(2, {(outbox.epoch, 1), (outbox.epoch, 2)}) == [offered[1], offered[3]]


async def test_a_batch_keeps_to_its_bytes_and_one_long_record_goes_alone(tmp_path: Path) -> None:
    async with open_outbox(tmp_path, limits=Limits(seal_bytes=300)) as outbox:
        records: list[Record] = [capture(n * 7919 % 10_007) for n in range(200)]
        records.append(Gap(meter="meter-9", task="curve", slot=SLOT, fault=Fault.REFUSED, opened_at=SLOT,
                           detail="".join(chr(0x4E00 + n * 37 % 20_000) for n in range(300))))  # fmt: skip
        await outbox.append(records, urgent=True)
        bodies: list[bytes] = []
        sealer = Sealer(outbox)

        def encrypt(seq: int, kind: BatchKind, body: bytes) -> tuple[bytes, bytes]:
            bodies.append(body)
            return sealer.encrypt(seq, kind, body)

        await sealer.one()
        while await outbox.seal(encrypt):
            assert bodies
        assert sealer.open(outbox.offers(1_000)) == records
        long = [body for body in bodies if len(body) > 300]
        assert [len(decode(body)) for body in long] == [1]


async def test_a_backlog_is_encoded_once_a_batch_and_its_batches_are_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where its records change: those of some hours have 20 values each, those of others one, or four."""
    encoded: list[int] = []

    def encode(records: Sequence[Record]) -> bytes:
        encoded.append(len(records))
        return batch.encode(records)

    monkeypatch.setattr(sealing, "encode", encode)
    hours = [record for record in reference_load(snapshots=12) if isinstance(record, Capture)]
    records: list[Record] = [
        replace(record, values=record.values[:width]) for width in (20, 1, 4, 20) for record in hours
    ]  # fmt: skip
    async with open_outbox(tmp_path) as outbox:
        await outbox.append(records, urgent=True)
        sealer = Sealer(outbox)
        batches = await sealer.all()
        assert sealer.open(batches) == records
    assert len(batches) > 12
    assert len(encoded) <= len(batches) + 4, "the first, and where the records change"
    sizes = [len(one.message) for one in batches]
    bytes_max = Limits().seal_bytes + envelope.ADDED_MAX
    assert max(sizes) <= bytes_max
    assert sum(size < 0.85 * bytes_max for size in sizes) <= 4, sizes


async def test_sealing_without_a_committed_key_record_is_refused_and_spends_no_number_twice(tmp_path: Path) -> None:
    async with open_outbox(tmp_path) as outbox:
        await outbox.append([capture(1)], urgent=True)
        sealer = Sealer(outbox)
        calls = 0

        def encrypt(seq: int, kind: BatchKind, body: bytes) -> tuple[bytes, bytes]:
            nonlocal calls
            calls += 1
            return b"kid-kid-", b"sealed " + body

        with pytest.raises(OutboxError, match="no committed key record"):
            await outbox.seal(encrypt)
        with pytest.raises(OutboxError, match="no committed key record"):
            await outbox.seal(encrypt)
        await outbox.add_key_record(b"kid-kid-", outbox.epoch, b"record")
        sealed = await outbox.seal(encrypt)
        assert calls == 1, "a nonce is used once"
        assert sealed is not None
        assert sealed.seq == 1
        assert await sealer.one() is None


async def test_unsealed_tells_how_many_and_how_old(tmp_path: Path) -> None:
    async with open_outbox(tmp_path) as outbox:
        assert outbox.unsealed().records == 0
        assert outbox.unsealed().oldest_at is None
        await outbox.append([capture(1)], urgent=True)
        await outbox.append([capture(2), _event(3)], urgent=True)
        waiting = outbox.unsealed()
        assert (waiting.records, waiting.events, waiting.oldest_at) == (3, 1, NOW)
        assert 0 <= waiting.age_s < 60
    async with open_outbox(tmp_path) as outbox:
        assert outbox.unsealed().age_s == math.inf, "what a former start left is due at once"
        await Sealer(outbox).all()
        assert outbox.unsealed().records == 0


def test_the_age_of_what_waits_is_that_of_the_oldest(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_outbox(tmp_path, limits=Limits(seal_values=2), now_ms=virtual.now_ms) as outbox:
            sealer = Sealer(outbox)
            await outbox.append([capture(1)], urgent=True)
            await asyncio.sleep(5)
            await outbox.append([capture(2)], urgent=True)
            await asyncio.sleep(5)
            assert outbox.unsealed().age_s == pytest.approx(10)
            assert outbox.unsealed().oldest_at == NOW
            await sealer.one()
            assert outbox.unsealed().age_s == pytest.approx(5)
            assert outbox.unsealed().oldest_at == NOW + 5_000

    virtual.run(main(), start_ms=NOW)


async def test_a_row_that_no_longer_decodes_is_left_out_and_counted(tmp_path: Path) -> None:
    async with open_outbox(tmp_path) as outbox:
        await outbox.append([capture(n) for n in range(5)], urgent=True)
        await outbox.close()
    connection = apsw.Connection(str(tmp_path / STORE_NAME))
    connection.execute("UPDATE record SET body = x'00' WHERE id IN (2, 5)")
    connection.close()
    async with open_outbox(tmp_path) as outbox:
        sealer = Sealer(outbox)
        assert sealer.open(await sealer.all()) == [capture(0), capture(2), capture(3)]
        assert outbox.counters["unreadable"] == 2
        assert outbox.unsealed().records == 0
    with pytest.raises(OutboxError, match="closed"):
        outbox.offers(1)


async def test_more_is_set_when_there_is_something_to_seal_or_send(tmp_path: Path) -> None:
    outbox = open_outbox(tmp_path)
    assert not outbox.more.is_set()
    for step in (outbox.append([capture(1)], urgent=True), Sealer(outbox).all(), outbox.void(outbox.epoch, 1, "test")):
        await step
        assert outbox.more.is_set()
        outbox.more.clear()
    await outbox.close()
    outbox = open_outbox(tmp_path)
    assert outbox.more.is_set(), "what a former start left"
    await Sealer(outbox).all()
    outbox.more.clear()
    await settle(outbox, 1)
    assert not outbox.more.is_set()
    await outbox.close()


async def _two_starts(directory: Path) -> tuple[Outbox, Sealer, int]:
    """An outbox with batch 1 of a former epoch, and one record that it had not sealed."""
    outbox = open_outbox(directory)
    await outbox.append([capture(1)], urgent=True)
    sealer = Sealer(outbox)
    await sealer.all()
    await outbox.append([capture(2)], urgent=True)
    former = outbox.epoch
    await outbox.close()
    outbox = open_outbox(directory)
    again = Sealer(outbox)
    again.keys.keys.update(sealer.keys.keys)
    return outbox, again, former


async def test_a_new_start_resends_the_old_bytes_and_seals_the_rest_under_its_own_epoch(tmp_path: Path) -> None:
    outbox, sealer, former = await _two_starts(tmp_path)
    (old,) = outbox.offers(10)
    assert old.epoch == former
    assert (former >> 32, outbox.epoch >> 32) == (1, 2)
    new = await sealer.one()
    assert new is not None
    assert (new.epoch, new.seq) == (outbox.epoch, 1)
    assert outbox.offers(10) == [old, new], "earlier epochs first"
    assert sealer.open([old, new]) == [capture(1), capture(2)]
    assert outbox.first_unsettled == 1
    await outbox.close()
