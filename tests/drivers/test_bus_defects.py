"""A defect of ours on one meter costs that meter, and neither the bus nor those that wait for it."""

import asyncio
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from drivers.bus import Lane
from drivers.lanes import Lanes
from drivers.queue import Queue
from drivers.run import INTERNAL_S_FIRST
from drivers.silent import PROBE_EVERY_S
from protocols.dialogue import Dialogue
from protocols.dlt645 import v2007
from protocols.dlt645.frame import Frame
from tests.desk import Desk, good, serve
from tests.script import Said, ScriptedLine, meter

QUICK: dict[str, Any] = {"turnaround_ms_max": 200, "late_max_ms": 300, "attempts": 2}
ODD, BACK, DEAD = "000000000009", "000000000001", "000000000002"


class Hung(BaseException):
    """In place of a loop without an end."""


def once(tries: list[int]) -> Callable[[], Dialogue[Frame]]:
    """A dialogue that can be begun one time, and later no more."""

    def dialogue() -> Dialogue[Frame]:
        tries.append(len(tries))
        if len(tries) > 100:
            raise Hung
        if len(tries) > 1:
            raise RuntimeError("a defect")
        return v2007.read(ODD, ["00010000"])

    return dialogue


def probed(tries: list[int]) -> Desk:
    """Three meters are silent, of which one comes back and one can no longer be asked for a defect of ours."""
    silent = {ODD, BACK, DEAD}

    def answer(question: bytes, n: int) -> Said:
        return [] if question.lstrip(b"\xfe")[6:0:-1].hex() in silent else good(question, n)

    desk = Desk(ScriptedLine(answer))

    async def script() -> None:
        desk.ask(meter(ODD, **QUICK), once(tries), name="odd", within_s=20)
        for address in (BACK, DEAD):
            desk.energy(meter(address, **QUICK), name=address, within_s=20)
        await asyncio.sleep(30)
        assert len(desk.bus.silent) == 3
        silent.discard(BACK)
        await asyncio.sleep(4 * PROBE_EVERY_S)
        desk.energy(meter(BACK, **QUICK), name="again")

    return serve(desk, script, for_s=10)


def test_a_silent_meter_that_cannot_be_asked_any_more_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[int] = []
    desk = probed(tries)
    assert desk.plain("again") == ["12.34"] and desk.bus.counters.came_back == 1
    assert desk.bus.counters.defects == len(tries) - 1 >= 2
    assert len(tries) - 1 < 4 * PROBE_EVERY_S / INTERNAL_S_FIRST
    dead = [at for at, question in desk.line.asked if question.lstrip(b"\xfe")[6:0:-1].hex() == DEAD]
    assert len(dead) >= 6 and all(second - first < PROBE_EVERY_S + 2 for first, second in pairwise(dead))
    monkeypatch.setattr(Queue, "left_alone", lambda *_: None)
    tries.clear()
    with pytest.raises(BaseExceptionGroup) as hung:
        probed(tries)
    assert hung.group_contains(Hung)


def waits_for_a_long_reading(*, defect: bool) -> float:
    """How long an event waits on a bus on which another meter's job waits for the end of what a defect brought it."""
    desk, loop = Desk(ScriptedLine(good)), asyncio.get_running_loop
    begun: list[float] = []

    def broken() -> Dialogue[Frame]:
        raise RuntimeError("a defect")

    async def script() -> None:
        if defect:
            desk.ask(meter(ODD, **QUICK), broken, name="broken")
            await asyncio.sleep(1)
            desk.energy(meter(ODD, **QUICK), name="left alone")
        for n in range(20):
            desk.energy(meter(BACK, **QUICK), name=f"event {n}", lane=Lane.EVENT)
            await asyncio.sleep(0.3)
        desk.energy(meter(DEAD, **QUICK), *["00010000"] * 100, name="long", lane=Lane.BACKFILL)
        await asyncio.sleep(1)
        begun.append(loop().time())
        desk.energy(meter(BACK, **QUICK), name="event", lane=Lane.EVENT)

    serve(desk, script, for_s=30)
    assert desk.at["long"] - begun[0] > 5
    return desk.at["event"] - begun[0]


def test_an_event_comes_between_a_long_reading_whoever_else_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert waits_for_a_long_reading(defect=False) < 0.2
    assert waits_for_a_long_reading(defect=True) < 0.2
    monkeypatch.setattr(Lanes, "_starves", lambda self, _: any(queue.passed >= 16 for queue in self._all))
    assert waits_for_a_long_reading(defect=True) > 5
