"""Only the centre's receipt settles; what it rejects is sealed again; history stays, and only history is purged."""

import asyncio
from pathlib import Path

import pytest

from buffer.errors import OutboxError
from buffer.history import History
from buffer.inspect import rows, summary
from buffer.words import Limits
from protocols.capture import Capture, Gap
from simulators import virtual
from tests.crash.scenario import NOW, capture
from tests.outbox import Sealer, open_outbox, settle

SMALL = Limits(seal_values=2)
"""One capture a batch."""
YEAR_MS = 366 * 86_400_000


async def test_a_receipt_settles_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    async with open_outbox(tmp_path, limits=SMALL) as outbox:
        await outbox.append([capture(n) for n in range(1, 11)], urgent=True)
        await Sealer(outbox).all()
        settled = await settle(outbox, 3, ranges=((5, 6), (9, 9)))
        assert (settled.batches, settled.records, settled.voided) == (6, 6, ())
        assert [batch.seq for batch in outbox.offers(100)] == [4, 7, 8, 10]
        assert (outbox.first_unsettled, outbox.next_seq, outbox.unsettled) == (4, 11, 4)
        assert (await settle(outbox, 3, ranges=((5, 6), (9, 9)))).batches == 0, "a receipt may come twice"
        assert (await settle(outbox, 10)).batches == 4
        assert (outbox.first_unsettled, outbox.unsettled) == (11, 0)
        with History(tmp_path) as history:
            assert len(list(history.read("meter-1", 0, 2 * NOW))) == 10, "settled records stay as history"


async def test_a_receipt_for_another_gateway_is_refused(tmp_path: Path) -> None:
    async with open_outbox(tmp_path) as outbox:
        with pytest.raises(ValueError, match="gateway-2"):
            await settle(outbox, 1, gateway="gateway-2")


async def test_a_receipt_of_another_epoch_settles_that_epochs_batches_only(tmp_path: Path) -> None:
    async with open_outbox(tmp_path) as outbox:
        await outbox.append([capture(1)], urgent=True)
        await Sealer(outbox).all()
        former = outbox.epoch
    async with open_outbox(tmp_path) as outbox:
        await outbox.append([capture(2)], urgent=True)
        await Sealer(outbox).all()
        assert (await settle(outbox, 99, epoch=former + 1)).batches == 0
        assert [batch.epoch for batch in outbox.offers(10)] == [former, outbox.epoch]
        assert (await settle(outbox, 1, epoch=former)).records == 1
        assert [batch.epoch for batch in outbox.offers(10)] == [outbox.epoch]
        assert (await settle(outbox, 2)).records == 1
        assert outbox.counters["receipts_beyond"] == 1, "the centre knows a number that was never given"


async def test_a_rejected_number_never_settles_its_records(tmp_path: Path) -> None:
    async with open_outbox(tmp_path, limits=SMALL) as outbox:
        sealer = Sealer(outbox)
        await outbox.append([capture(n) for n in range(1, 4)], urgent=True)
        await sealer.all()
        settled = await settle(outbox, 3, rejected=((2, "bad_tag"),))
        assert (settled.batches, settled.voided) == (2, (2,))
        assert outbox.voided() == [(outbox.epoch, 2)]
        assert outbox.unsealed().records == 1
        assert not await outbox.void(outbox.epoch, 2, "again"), "the receipt has voided it already"
        again = await sealer.one()
        assert again is not None
        assert again.seq == 4
        assert sealer.open([again]) == [capture(2)]
        await settle(outbox, 3, rejected=((2, "bad_tag"),))
        assert outbox.voided() == [(outbox.epoch, 2)], "the centre still lists it, so it has not seen the hello"
        await settle(outbox, 4)
        assert outbox.voided() == []
        assert outbox.unsettled == 0


async def test_a_voided_batch_is_sealed_again_under_a_new_number_and_told_until_the_centre_is_past_it(
    tmp_path: Path,
) -> None:
    async with open_outbox(tmp_path, limits=SMALL) as outbox:
        sealer = Sealer(outbox)
        await outbox.append([capture(1), capture(2)], urgent=True)
        await sealer.all()
        assert await outbox.void(outbox.epoch, 1, "too long for the broker")
        assert not await outbox.void(outbox.epoch, 1, "too long for the broker")
        assert not await outbox.void(outbox.epoch, 77, "never was")
        assert outbox.unsealed().records == 1
        await outbox.append([capture(3)], urgent=True)
        batches = await sealer.all()
        assert [batch.seq for batch in batches] == [3, 4]
        assert sealer.open(batches) == [capture(1), capture(3)], "what waited longest goes first"
        assert rows(tmp_path, "gone") == [
            {"boot": 1, "epoch": outbox.epoch, "seq": 1, "reason": "too long for the broker"}
        ]
        await settle(outbox, 0, ranges=((2, 4),))
        assert outbox.voided() == [(outbox.epoch, 1)]
        await settle(outbox, 4)
        assert outbox.voided() == []


async def test_a_record_that_the_centre_cannot_take_ends_alone_and_parked(tmp_path: Path) -> None:
    poison = capture(5)
    async with open_outbox(tmp_path, limits=Limits(seal_values=16, reseal_attempts=6)) as outbox:
        sealer = Sealer(outbox)
        await outbox.append([capture(n) for n in range(1, 9)], urgent=True)
        landed: list[Capture | Gap] = []
        rounds = 0
        while await sealer.all() or outbox.unsettled:
            rounds += 1
            assert rounds < 50, "every retry has its bound"
            for batch in outbox.offers(100):
                records = sealer.open([batch])
                if poison in records:
                    await settle(outbox, 0, ranges=((batch.seq, batch.seq),), rejected=((batch.seq, "bad_body"),))
                else:
                    landed += [record for record in records if isinstance(record, Capture)]
                    await settle(outbox, 0, ranges=((batch.seq, batch.seq),))
        assert sorted(landed, key=lambda record: record.read_at if isinstance(record, Capture) else 0) == [
            capture(n) for n in range(1, 9) if n != 5
        ]
        assert outbox.counters["parked"] == 1
        assert outbox.unsealed().records == 0
        assert [row["attempts"] for row in rows(tmp_path, "requeued")] == [6]


async def test_key_records_stay_until_the_last_batch_under_them_is_settled(tmp_path: Path) -> None:
    async with open_outbox(tmp_path, limits=SMALL) as outbox:
        first, second, third = Sealer(outbox), Sealer(outbox), Sealer(outbox)
        await outbox.append([capture(1), capture(2)], urgent=True)
        await first.all()
        second.keys = third.keys = first.keys
        await outbox.append([capture(3)], urgent=True)
        await second.all()
        third.key = await third.keys.add(outbox)
        assert first.key is not None
        assert second.key is not None
        kids = [first.key.kid, second.key.kid, third.key.kid]
        assert [entry.kid for entry in outbox.key_records()] == kids
        await settle(outbox, 1)
        assert [entry.kid for entry in outbox.key_records()] == kids
        await settle(outbox, 2)
        assert [entry.kid for entry in outbox.key_records()] == kids[1:]
        await settle(outbox, 3)
        assert [entry.kid for entry in outbox.key_records()] == kids[2:], "the newest may yet seal"
    async with open_outbox(tmp_path) as outbox:
        assert outbox.key_records() == [], "a former epoch's key seals nothing more"


async def test_a_key_record_may_be_added_twice_but_not_changed(tmp_path: Path) -> None:
    async with open_outbox(tmp_path) as outbox:
        await outbox.add_key_record(b"kid", outbox.epoch, b"record")
        await outbox.add_key_record(b"kid", outbox.epoch, b"record")
        with pytest.raises(OutboxError, match="another record"):
            await outbox.add_key_record(b"kid", outbox.epoch, b"other")


def test_only_settled_records_beyond_the_history_are_purged_whatever_the_wall_clock_says(tmp_path: Path) -> None:
    wall = NOW

    async def main() -> None:
        nonlocal wall
        limits = Limits(seal_values=2, daily_days=2, bulk_days=2, purge_records=3)
        async with open_outbox(tmp_path, limits=limits, now_ms=lambda: wall) as outbox:
            sealer = Sealer(outbox)
            await outbox.append([capture(n) for n in range(1, 11)], urgent=True)
            await sealer.all()
            await outbox.append([capture(n) for n in range(11, 13)], urgent=True)
            await settle(outbox, 3, ranges=((5, 10),))  # 4 is unsettled; 11 and 12 are unsealed
            wall += 10 * YEAR_MS
            assert await outbox.purge() == 0, "the wall clock jumped, the gateway has not run"
            gone = 0
            for _ in range(49):
                await asyncio.sleep(3_600)
                gone += await outbox.purge()
            assert gone <= 3
            wall -= 20 * YEAR_MS
            for _ in range(9):
                step = await outbox.purge()
                assert step <= 3, "a step is bounded"
                gone += step
            assert gone == 9
            with History(tmp_path) as history:
                left = [record.read_at - NOW for record in history.read("meter-1", 0, 2 * NOW)
                        if isinstance(record, Capture)]  # fmt: skip
            assert left == [4, 11, 12]
            assert outbox.counters["purged"] == 9
            assert sealer.open([*outbox.offers(10), *(await sealer.all())]) == [capture(4), capture(11), capture(12)]

    virtual.run(main(), start_ms=NOW)


async def test_a_look_at_the_store_shows_how_it_stands(tmp_path: Path) -> None:
    async with open_outbox(tmp_path, limits=SMALL) as outbox:
        await outbox.append([capture(n, slot=NOW + n) for n in range(4)], urgent=True)
        sealer = Sealer(outbox)
        await sealer.one()
        await sealer.one()
        await settle(outbox, 1)
        figures = summary(tmp_path)
        assert (figures.boot, figures.epoch, figures.next_seq, figures.clean) == (1, outbox.epoch, 3, False)
        assert (figures.records, figures.unsealed, figures.batches, figures.batched_records) == (4, 2, 1, 1)
        assert outbox.pending == 3
        assert rows(tmp_path, "meters") == [
            {"meter": "meter-1", "task": "curve", "last_slot": NOW + 3, "records": 4, "gaps": 0}
        ]
        assert [(row["seq"], row["kind"]) for row in rows(tmp_path, "batches")] == [(2, "captures")]
    assert summary(tmp_path).clean
