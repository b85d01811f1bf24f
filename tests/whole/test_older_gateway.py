"""What a gateway of an earlier version has sealed, and the centre of today does not take, lands in smaller batches."""

import os
from pathlib import Path

import pytest

import buffer.sealing
import protocols.batch.writing
from buffer.outbox import Outbox
from buffer.words import Limits
from config.model import TaskEntry
from gateway.sealer import Sealer
from protocols import batch, envelope
from protocols.batch import RECORDS_MAX
from protocols.errors import Malformed
from simulators import virtual
from simulators.describe import uniform
from tests.chain import GATEWAY, START, Chain
from tests.crash.scenario import capture

RECORDS = 2 * RECORDS_MAX + 700
MINUTE = TaskEntry(name="minute", every_s=60, items=("voltage.a",))


async def seal_all_in_one(chain: Chain) -> None:
    """An earlier version's life on the gateway's store: a batch of more records than may be in one today."""
    limits = Limits(seal_values=1 << 20, seal_bytes=1 << 20, pending_records=RECORDS)
    outbox = Outbox.open(
        chain.site.store, gateway=GATEWAY, random=os.urandom, now_ms=chain.now_ms, writer="inline", limits=limits
    )
    async with outbox:
        await outbox.append([capture(n, meter="older") for n in range(RECORDS)])
        sealer = Sealer(outbox, identity=chain.identity, trust=chain.trust, profile="prompt", zone=chain.site.zone,
                        now_ms=chain.now_ms, random=os.urandom)  # fmt: skip
        sealer.at_once()
        await sealer.seal_due()
        (sealed,) = outbox.offers(9)
        assert sealed.records == RECORDS
        key = await sealer.data_key()
        with pytest.raises(Malformed, match=f"at most {RECORDS_MAX} .* got {RECORDS}"):
            batch.decode(envelope.open(sealed.message, data_key=key, gateway=GATEWAY).body)


def test_a_batch_of_more_records_than_are_taken_today_is_given_up_and_lands_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        chain = Chain(tmp_path, uniform(buses=1, meters_per_bus=1), [MINUTE])
        with monkeypatch.context() as older:
            for module in (buffer.sealing, protocols.batch.writing):
                older.setattr(module, "RECORDS_MAX", 1 << 14)
            older.setattr(buffer.sealing, "VALUES_MAX", 1 << 20)
            older.setattr(protocols.batch.writing, "VALUES_MAX", 1 << 20)
            await seal_all_in_one(chain)
        async with chain.running() as daemon:
            await chain.drain(daemon)
            assert daemon.parts is not None
            outbox, uplink = daemon.parts.outbox, daemon.parts.uplink
            assert uplink.counters.rejected == 1 and outbox.counters.get("parked", 0) == 0
            assert (outbox.unsettled, outbox.pending, outbox.voided()) == (0, 0, [])
        counters = chain.landing.counters
        assert counters["aside.bad_body"] == 1
        assert counters["readings.repeated"] == counters["readings.conflicting"] == 0
        landed = sorted(row.stamp for row in chain.sink.readings(meter="older") if row.quantity == "voltage.a")
        assert landed == [capture(n).stamp for n in range(RECORDS)]
        chain.close()

    virtual.run(scenario(), start_ms=START)
