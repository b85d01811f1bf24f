"""Meters that fell silent because nothing reached them any more are asked as soon as the port is open again."""

import asyncio
from typing import Any

import pytest

from drivers.run import Standing
from drivers.silent import PROBE_EVERY_S
from tests.desk import Desk, good, serve
from tests.script import Said, ScriptedLine, meter

QUICK: dict[str, Any] = {"turnaround_ms_max": 200, "late_max_ms": 300, "attempts": 2}
METERS, AWAY_S = 6, 20.0


def back_after_s() -> float:
    """How long after the port is open again all meters have answered, of a network that was away for a while before the
    connection was lost."""
    away = [False]

    def answer(question: bytes, n: int) -> Said:
        return [] if away[0] else good(question, n)

    line = ScriptedLine(answer)
    desk, many = Desk(line), [meter(f"{n:012d}", **QUICK) for n in range(METERS)]
    opened: list[float] = []

    async def script() -> None:
        loop = asyncio.get_running_loop()
        away[0] = True
        for one in many:
            desk.energy(one, name=f"away {one.id}", within_s=AWAY_S - 1)
        await asyncio.sleep(AWAY_S)
        assert len(desk.bus.silent) == METERS
        away[0] = False
        line.tear()
        for one in many:
            desk.energy(one, name=f"back {one.id}")
        while not desk.bus.port.is_open or desk.bus.trouble is not None:  # noqa: ASYNC110 - a bus tells nobody
            await asyncio.sleep(0.01)
        opened.append(loop.time())

    serve(desk, script, for_s=2 * PROBE_EVERY_S)
    assert not desk.bus.silent
    return max(desk.at[f"back {one.id}"] for one in many) - opened[0]


def test_meters_are_asked_at_once_when_the_port_is_open_again(monkeypatch: pytest.MonkeyPatch) -> None:
    assert back_after_s() < 2.0
    monkeypatch.setattr(Standing, "reopened", lambda *_: None)
    assert back_after_s() > PROBE_EVERY_S / 2
