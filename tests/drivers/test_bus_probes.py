"""A probe of a silent meter is no job: nobody waits for it, whoever asked the meter last."""

import asyncio
from typing import Any

import pytest

from drivers.bus import Lane
from drivers.silent import PROBE_EVERY_S
from tests.desk import Desk, good, serve
from tests.script import Said, ScriptedLine, meter

QUICK: dict[str, Any] = {"turnaround_ms_max": 200, "late_max_ms": 300, "attempts": 2}
DEAD = "000000000009"


@pytest.mark.parametrize("lane", [Lane.READ_NOW, Lane.EVENT, Lane.CURVE])
def test_probes_of_a_meter_are_counted_apart_from_jobs(lane: Lane) -> None:
    def answer(question: bytes, n: int) -> Said:
        return [] if question.lstrip(b"\xfe")[6:0:-1].hex() == DEAD else good(question, n)

    desk, dead = Desk(ScriptedLine(answer)), meter(DEAD, **QUICK)

    async def script() -> None:
        desk.energy(dead, name="first", within_s=10)
        await asyncio.sleep(15)
        assert desk.bus.silent == (dead.id,)
        desk.energy(dead, name="last", lane=lane, within_s=10)

    serve(desk, script, for_s=6.5 * PROBE_EVERY_S)
    counters = desk.bus.counters
    assert counters.probes >= 6
    assert (counters.jobs, counters.failed_silent, counters.answered) == (2, 2, 0)
