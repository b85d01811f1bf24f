"""Probes of a silent meter whose dialogue asks nothing, or fails before it asks: each has its turn, no more."""

import asyncio
from itertools import pairwise

import pytest

from drivers.run import INTERNAL_S_MAX
from drivers.silent import PROBE_EVERY_S
from protocols.dialogue import Dialogue
from protocols.dlt645 import v2007
from protocols.dlt645.frame import Frame
from tests.desk import Desk, good, serve
from tests.script import ScriptedLine, meter

DEAD, LIVE = "000000000001", "000000000002"


@pytest.mark.parametrize("fails", [False, True])
def test_a_probe_that_asks_nothing_holds_up_nobody(fails: bool) -> None:
    desk = Desk(ScriptedLine(lambda data, n: good(data, n) if data.lstrip(b"\xfe")[1] == 2 else []))
    begun: list[float] = []

    def once() -> Dialogue[Frame]:
        begun.append(asyncio.get_running_loop().time())
        assert len(begun) < 1000, "the bus does nothing else"
        if len(begun) == 1:
            return (yield from v2007.read(DEAD, ["00010000"]))
        if fails:
            raise ZeroDivisionError
        return []

    async def script() -> None:
        desk.ask(meter(DEAD), once, name="dead")
        await asyncio.sleep(20.0)
        assert desk.bus.silent
        for n in range(10):
            await asyncio.sleep(PROBE_EVERY_S)
            desk.energy(meter(LIVE), name=f"live {n}")

    serve(desk, script, for_s=60.0)
    assert all(desk.plain(f"live {n}") == ["12.34"] for n in range(10))
    apart = [after - before for before, after in pairwise(begun[1:])]
    assert apart and all(PROBE_EVERY_S - 1.0 <= seconds <= INTERNAL_S_MAX for seconds in apart)
