"""Virtual time: exact, cheap, and honest about deadlock."""

import asyncio
import os
import time

import pytest

from simulators import virtual

START = 1_800_000_000_000


def test_a_day_passes_at_once_and_to_the_millisecond() -> None:
    async def day() -> tuple[int, float]:
        for _ in range(96):
            await asyncio.sleep(900)
        return virtual.now_ms(), asyncio.get_running_loop().time()

    began = time.process_time()
    assert virtual.run(day(), start_ms=START) == (START + 86_400_000, 86_400.0)
    assert time.process_time() - began < 2


def test_a_sleep_longer_than_a_day_is_one_sleep() -> None:
    async def month() -> int:
        await asyncio.sleep(30 * 86_400.5)
        return virtual.now_ms()

    assert virtual.run(month(), start_ms=0) == 30 * 86_400_500


def test_timers_fire_in_the_order_of_their_deadlines() -> None:
    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        seen: list[float] = []
        for delay in (0.3, 0.1, 0.2, 5000.0):
            loop.call_later(delay, lambda: seen.append(loop.time()))
        await asyncio.sleep(6000)
        return seen

    assert virtual.run(main(), start_ms=0) == pytest.approx([0.1, 0.2, 0.3, 5000.0], abs=1e-9)


def test_an_instant_slept_for_is_reached() -> None:
    async def main() -> list[int]:
        late = []
        for n in range(1, 2000):
            wanted = n * 37
            await asyncio.sleep((wanted - virtual.now_ms()) / 1000)
            late.append(virtual.now_ms() - wanted)
        return late

    assert set(virtual.run(main(), start_ms=0)) == {0}


def test_a_timeout_ends_what_would_wait_for_ever() -> None:
    async def main() -> float:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 3600)
        return asyncio.get_running_loop().time()

    assert virtual.run(main(), start_ms=0) == pytest.approx(3600, abs=1e-6)


def test_a_deadlock_names_the_tasks_that_wait() -> None:
    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.Event().wait(), name="bus:roof")

    with pytest.raises(virtual.Deadlock, match="bus:roof"):
        virtual.run(main(), start_ms=0)


def test_a_file_descriptor_is_refused() -> None:
    async def main() -> None:
        read, write = os.pipe()
        try:
            with pytest.raises(RuntimeError, match="file descriptor"):
                asyncio.get_running_loop().add_reader(read, lambda: None)
        finally:
            os.close(read)
            os.close(write)

    virtual.run(main(), start_ms=0)


def test_the_clock_belongs_to_virtual_loops_only() -> None:
    async def main() -> None:
        with pytest.raises(TypeError, match="VirtualLoop"):
            virtual.now_ms()

    asyncio.run(main())


def test_timers_are_cheap() -> None:
    async def main() -> None:
        for _ in range(20_000):
            await asyncio.sleep(1)

    began = time.process_time()
    virtual.run(main(), start_ms=0)
    assert time.process_time() - began < 5  # about 0.3 s on an idle core: 15 µs a sleep
