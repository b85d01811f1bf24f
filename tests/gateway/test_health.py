"""How the gateway is goes up as often as its profile says, and only where somebody hears it."""

import asyncio
from pathlib import Path

import pytest

from config.model import TaskEntry
from gateway.health import PUBLISH_EVERY_S, HealthWatch
from simulators import virtual
from simulators.describe import uniform
from tests.chain import START, Chain

MINUTE = TaskEntry(name="minute", every_s=60, items=("voltage.a",))


def test_health_is_told_every_five_minutes_and_not_made_while_nobody_hears_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[float] = []
    message = HealthWatch.message

    def noted(self: HealthWatch, bytes_max: int) -> bytes:
        made.append(asyncio.get_running_loop().time())
        return message(self, bytes_max)

    async def scenario() -> None:
        chain = Chain(tmp_path, uniform(buses=1, meters_per_bus=1), [MINUTE])
        async with chain.running():
            await asyncio.sleep(3 * PUBLISH_EVERY_S["prompt"])
            before = len(made)
            assert before == 3
            chain.broker.away = True
            await asyncio.sleep(3_600)
            assert len(made) == before
            chain.broker.away = False
            await asyncio.sleep(120)
            assert len(made) == before + 1, "the first is overdue"
        assert chain.landing.counters["health"] == len(made)
        chain.close()

    monkeypatch.setattr(HealthWatch, "message", noted)
    virtual.run(scenario(), start_ms=START)
