"""The gateway as a whole, in virtual time: what meters served is what landed, whatever happens in between."""

import asyncio
from pathlib import Path

from config.model import TaskEntry
from simulators import virtual
from simulators.describe import uniform
from tests.chain import START, Chain

ITEMS = ("energy.active.import.total", "voltage.a", "current.a", "power.active.total")
MINUTE = TaskEntry(name="minute", every_s=60, items=ITEMS)


def test_all_that_was_accepted_lands_once_across_a_broker_outage(tmp_path: Path) -> None:
    async def half_an_hour() -> None:
        chain = Chain(tmp_path, uniform(buses=1, meters_per_bus=4), [MINUTE])
        async with chain.running() as daemon:
            await asyncio.sleep(10 * 60)
            chain.broker.away = True
            landed_before = len(list(chain.sink.readings()))
            await asyncio.sleep(10 * 60)
            assert len(list(chain.sink.readings())) == landed_before
            chain.broker.away = False
            await asyncio.sleep(10 * 60 - 30)
            await daemon.drain()
        truth = chain.truth()
        assert truth.passed, truth.examples
        assert truth.planned == 4 * 30
        assert truth.accepted == 4 * 30
        assert truth.gaps == 0
        assert truth.landed == 4 * 30 * len(ITEMS)
        chain.close()

    virtual.run(half_an_hour(), start_ms=START)
