"""How the task of a bus waits: woken in the very call, by time, from another task, and when it is cancelled."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from drivers.wakeup import NEVER, Wakeup
from simulators import virtual


def run(main: Callable[[Wakeup], Coroutine[Any, Any, None]]) -> None:
    virtual.run(main(Wakeup()), start_ms=0)


async def begun(coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """A task that has come to its first wait."""
    task = asyncio.create_task(coroutine)
    await asyncio.sleep(0)
    return task


async def wait(wakeup: Wakeup, until: float, log: list[Any]) -> None:
    await wakeup.until(until)
    log.append(asyncio.get_running_loop().time())


def test_a_callback_that_wakes_the_task_returns_when_it_waits_again() -> None:
    async def main(wakeup: Wakeup) -> None:
        log: list[Any] = []

        async def twice() -> None:
            await wait(wakeup, NEVER, log)
            await wait(wakeup, NEVER, log)

        def call() -> None:
            log.append("called")
            wakeup.wake()
            log.append("back")

        task = await begun(twice())
        loop = asyncio.get_running_loop()
        loop.call_at(1.0, call)
        loop.call_at(2.0, call)
        await task
        assert log == ["called", 1.0, "back", "called", 2.0, "back"]

    run(main)


def test_a_task_that_wakes_another_goes_on_first() -> None:
    async def main(wakeup: Wakeup) -> None:
        log: list[Any] = []
        task = await begun(wait(wakeup, NEVER, log))
        wakeup.wake()
        wakeup.wake_soon()
        assert not log
        await task
        assert log == [0.0]

    run(main)


def test_to_be_woken_soon_is_to_be_woken_in_the_next_turn_and_once() -> None:
    async def main(wakeup: Wakeup) -> None:
        log: list[Any] = []
        task = await begun(wait(wakeup, NEVER, log))

        def call() -> None:
            wakeup.wake_soon()
            wakeup.wake_soon()
            log.append("called")

        asyncio.get_running_loop().call_at(1.0, call)
        await task
        assert log == ["called", 1.0]
        with pytest.raises(TimeoutError):  # nothing is left over for the next wait
            async with asyncio.timeout(5.0):
                await wakeup.until(NEVER)

    run(main)


def test_what_wakes_it_before_it_waits_is_not_lost() -> None:
    async def main(wakeup: Wakeup) -> None:
        wakeup.wake()
        log: list[Any] = []
        await wait(wakeup, NEVER, log)
        assert log == [0.0]

    run(main)


def test_it_waits_until_its_time_whatever_timers_earlier_waits_left() -> None:
    async def main(wakeup: Wakeup) -> None:
        loop = asyncio.get_running_loop()
        log: list[Any] = []
        for woken_at, until, expected in (
            (1.0, 9.0, 1.0),  # leaves a timer for 9.0
            (NEVER, 1.5, 1.5),
            (2.0, 8.0, 2.0),  # and one for 8.0
            (3.0, 7.0, 3.0),  # a third takes the place of the second
            (NEVER, 10.0, 10.0),  # those for 7.0 and 9.0 strike in its midst, and mean nothing
            (NEVER, 10.0, 10.0),  # over already
            (11.0, NEVER, 11.0),
        ):
            if woken_at < NEVER:
                loop.call_at(woken_at, wakeup.wake)
            await wait(wakeup, until, log)
            assert log.pop() == pytest.approx(expected, abs=1e-6)
            assert len(wakeup._timers) <= 2

    run(main)


def test_two_timers_of_one_turn_do_not_take_each_other_away() -> None:
    async def main(wakeup: Wakeup) -> None:
        loop, log = asyncio.get_running_loop(), list[Any]()
        loop.call_at(0.5, wakeup.wake)
        await wait(wakeup, 1.0 + virtual.RESOLUTION_S / 2, log)
        await wait(wakeup, 1.0, log)  # strikes first; the other is ready in the same turn
        await wait(wakeup, 1.5, log)
        await wait(wakeup, 2.0, log)
        assert log == pytest.approx([0.5, 1.0, 1.5, 2.0], abs=1e-6)

    run(main)


def test_a_task_that_waits_can_be_cancelled_and_the_next_waits_as_ever() -> None:
    async def main(wakeup: Wakeup) -> None:
        log: list[Any] = []
        task = await begun(wait(wakeup, NEVER, log))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        never_began = asyncio.create_task(wait(wakeup, 3.0, log))
        never_began.cancel()
        with pytest.raises(asyncio.CancelledError):
            await never_began
        await wait(wakeup, 4.0, log)
        assert log == pytest.approx([4.0], abs=1e-6)

    run(main)


def test_it_leaves_no_timer_behind_and_serves_another_loop() -> None:
    struck: list[float] = []

    class Watched(Wakeup):
        def _struck(self, when: float) -> None:
            struck.append(when)
            super()._struck(when)

    async def main(*, close: bool) -> None:
        task = await begun(wait(wakeup, 5.0, []))
        wakeup.wake()
        await task
        if close:
            wakeup.close()
        await asyncio.sleep(10)

    wakeup = Watched()
    virtual.run(main(close=True), start_ms=0)
    virtual.run(main(close=True), start_ms=0)
    assert struck == []
    virtual.run(main(close=False), start_ms=0)
    assert struck == [5.0]
