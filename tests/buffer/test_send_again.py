"""What the centre has lost is sealed once more; what waits already is not, and what is new does not wait for it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from buffer.outbox import Outbox
from buffer.words import Limits
from protocols.capture import Capture
from tests.crash.scenario import capture
from tests.outbox import Sealer, open_outbox, settle

SMALL = Limits(seal_values=2)
"""One capture a batch."""
ALL = (0, 1 << 50)


@asynccontextmanager
async def sealed(directory: Path, count: int) -> AsyncIterator[tuple[Outbox, Sealer, list[Capture]]]:
    """An outbox with so many captures, each sealed in a batch of its own."""
    async with open_outbox(directory, limits=SMALL) as outbox:
        sealer, records = Sealer(outbox), [capture(n) for n in range(1, count + 1)]
        await outbox.append(records, urgent=True)
        await sealer.all()
        yield outbox, sealer, records


async def test_settled_records_are_sealed_again_under_new_numbers(tmp_path: Path) -> None:
    async with sealed(tmp_path, 5) as (outbox, sealer, records):
        await settle(outbox, 5)
        assert await outbox.send_again(*ALL) == 5
        batches = await sealer.all()
        assert [batch.seq for batch in batches] == [6, 7, 8, 9, 10]
        assert sealer.open(batches) == records
        await settle(outbox, 10)
        assert (outbox.unsettled, outbox.unsealed().records) == (0, 0)


async def test_only_the_asked_time_is_sealed_again(tmp_path: Path) -> None:
    async with sealed(tmp_path, 7) as (outbox, sealer, records):
        await settle(outbox, 7)
        moments = [record.stamp for record in records]
        assert await outbox.send_again(moments[2], moments[5]) == 3
        assert sealer.open(await sealer.all()) == records[2:5]
        assert await outbox.send_again(5, 6) == 0


async def test_what_waits_for_its_receipt_or_to_be_sealed_is_not_doubled(tmp_path: Path) -> None:
    async with sealed(tmp_path, 5) as (outbox, sealer, _):
        await settle(outbox, 1, ranges=((3, 3),), rejected=((5, "bad_body"),))
        await outbox.append([capture(6)], urgent=True)
        assert await outbox.send_again(*ALL) == 2  # 1 and 3; 2 and 4 wait, 5 is queued, 6 was never sealed
        assert await outbox.send_again(*ALL) == 0
        await sealer.all()
        waiting = sealer.open(outbox.offers(100))
        assert sorted(waiting, key=repr) == sorted((capture(n) for n in range(1, 7)), key=repr)


async def test_new_records_need_not_wait_for_what_is_sealed_again(tmp_path: Path) -> None:
    async with sealed(tmp_path, 3) as (outbox, sealer, _):
        await settle(outbox, 3)
        await outbox.send_again(*ALL)
        await outbox.append([capture(9)], urgent=True)
        assert outbox.unsealed().again == 3
        batch = await outbox.seal(sealer.encrypt, again=False)
        assert batch is not None
        assert sealer.open([batch]) == [capture(9)]
        assert await outbox.seal(sealer.encrypt, again=False) is None
        assert len(await sealer.all()) == 3
