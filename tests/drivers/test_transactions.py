"""Transaction numbers of Modbus TCP: each comes back after all others, and they cost no memory."""

import asyncio
import tracemalloc
from collections.abc import Iterator
from itertools import chain, islice, repeat
from random import Random

import pytest

from drivers.plan import TRANSACTIONS
from protocols.modbus.frame import Frame
from tests.drivers import test_bus_pipelined as pipelined
from tests.drivers.test_bus_pipelined import FarEnd, Hall, Said, meters, right, serve


def test_none_comes_back_before_all_others_and_none_is_kept() -> None:
    tracemalloc.start()
    try:
        first = next(TRANSACTIONS)
        others = set(islice(TRANSACTIONS, 0xFFFE))
        assert others == set(range(1, 0x10000)) - {first}
        assert next(TRANSACTIONS) == first
        del others
        assert tracemalloc.get_traced_memory()[0] < 100_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("count", [1, 2, 5, 16])
def test_a_number_that_is_still_on_its_way_waits_for_itself(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if so few questions lay between two of a number; some are not answered, none of those that are is late."""
    few: Iterator[int] = chain.from_iterable(repeat(range(0x10000 - count, 0x10000)))
    monkeypatch.setattr(pipelined, "TRANSACTIONS", few)
    rng = Random(count)

    def answer(frame: Frame, n: int) -> Said:
        return [] if rng.random() < 0.05 else [(rng.uniform(0.01, 0.2), right(frame))]

    hall, many = Hall(FarEnd(answer)), meters(12, attempts=4)

    async def script() -> None:
        for n in range(4):
            for one in many:
                hall.ask(one, n, n + 5, name=f"{one.entry.address} {n}", within_s=300)
            await asyncio.sleep(0.1)

    serve(hall, script, for_s=400)
    assert len(hall.ended) == 48
    for name in hall.ended:
        unit, register = map(int, name.split())
        assert hall.plain(name) == [str(unit << 8 | register), str(unit << 8 | register + 5)]
