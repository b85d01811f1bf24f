"""What a running gateway looks up in its store is looked up beside the event loop."""

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from buffer.outbox import Outbox
from config.model import TaskEntry
from simulators import virtual
from simulators.describe import uniform
from tests.chain import START, Chain

QUARTER = TaskEntry(name="quarter", every_s=900, items=("voltage.a",))


def test_what_a_running_gateway_looks_up_it_looks_up_beside_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over the end of a session, and of a day with its account: a disk that hangs holds up no bus."""
    beside = False
    looks = Counter[bool]()
    run, look = Outbox.beside, Outbox.look

    async def noted(outbox: Outbox, work: Callable[[], object]) -> object:
        def flagged() -> object:
            nonlocal beside
            beside = True
            try:
                return work()
            finally:
                beside = False

        return await run(outbox, flagged)

    def counted(outbox: Outbox, work: Callable[[apsw.Connection], object]) -> object:
        looks[beside] += 1
        return look(outbox, work)

    monkeypatch.setattr(Outbox, "beside", noted)
    monkeypatch.setattr(Outbox, "look", counted)

    async def scenario() -> None:
        chain = Chain(tmp_path, uniform(buses=1, meters_per_bus=2), [QUARTER])
        async with chain.running() as daemon:
            await asyncio.sleep(3600)
            chain.broker.away = True
            await asyncio.sleep(60)
            chain.broker.away = False
            await asyncio.sleep(3 * 3600)
            assert daemon.parts is not None
            assert daemon.parts.manifests.counters.agreed == 1
        chain.close()

    virtual.run(scenario(), start_ms=START)
    assert looks[True] > 20 and not looks[False]
