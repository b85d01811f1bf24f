"""Slots that come a second time are looked up before they are read again; who is not concerned waits for no look."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from buffer.errors import StoreFailed
from config.model import TaskEntry
from protocols.capture import Fault
from simulators import virtual
from simulators.describe import uniform
from tests.chain import START, Chain

MINUTE = TaskEntry(name="minute", every_s=60, items=("voltage.a",))
HOUR = TaskEntry(name="hour", every_s=3600, items=("energy.active.import.total",))
MINUTE_MS = 60_000
BEFORE_S = 43 * 60 + 30
"""From START to half past 22:58."""
BACK_MS = 5 * MINUTE_MS
HOUR_SLOT = START + 45 * MINUTE_MS
Slots = Sequence[tuple[str, str, int]]


class SetBack(Chain):
    """The gateway's own clock is set back in the middle."""

    behind_ms = 0

    def gateway_ms(self) -> int:
        """As it does, or earlier."""
        return self.now_ms() - self.behind_ms


def minutes(chain: Chain) -> Counter[int | None]:
    """Captures of each slot of the minute's task."""
    return Counter(capture.slot for capture in chain.accepted.captures if capture.task == "minute")


def test_while_a_look_hangs_who_needs_none_is_asked_in_time(tmp_path: Path) -> None:
    async def scenario() -> None:
        chain = SetBack(tmp_path, uniform(buses=1, meters_per_bus=1), [MINUTE, HOUR])
        async with chain.running() as daemon:
            assert daemon.parts is not None
            outbox, answers = daemon.parts.outbox, asyncio.Event()
            look = outbox.captured

            async def hang(slots: Slots) -> frozenset[tuple[str, str, int]]:
                await answers.wait()
                return await look(slots)

            await asyncio.sleep(BEFORE_S)
            outbox.captured = hang  # type: ignore[method-assign]
            chain.behind_ms, before = BACK_MS, len(minutes(chain))
            await asyncio.sleep(10 * 60)
            assert len(minutes(chain)) == before, "each comes a second time, or waits behind one that does"
            assert [one.slot for one in chain.accepted.captures if one.task == "hour"][-1] == HOUR_SLOT, "it does not"
            answers.set()
            await asyncio.sleep(3 * 60)
            assert set(minutes(chain).values()) == {1}, "what was captured was not read again"
            missed = [gap for gap in chain.sink.gaps() if gap.task == "minute"]
            assert 4 <= len(missed) <= 6 and {gap.fault for gap in missed} <= {Fault.MISSED.value, Fault.CLOCK.value}
            await chain.drain(daemon)
        chain.close()

    virtual.run(scenario(), start_ms=START)


def test_where_the_store_does_not_answer_slots_are_read_again_rather_than_lost(tmp_path: Path) -> None:
    """And where it does they are not: the control of the one above."""

    async def scenario() -> None:
        chain = SetBack(tmp_path, uniform(buses=1, meters_per_bus=1), [MINUTE])
        async with chain.running() as daemon:
            assert daemon.parts is not None

            async def away(slots: Slots) -> frozenset[tuple[str, str, int]]:
                raise StoreFailed(f"{len(slots)} slots cannot be looked up")

            await asyncio.sleep(BEFORE_S)
            daemon.parts.outbox.captured = away  # type: ignore[method-assign]
            chain.behind_ms = BACK_MS
            await asyncio.sleep(10 * 60)
            assert list(minutes(chain).values()).count(2) in (4, 5, 6)
            assert list(chain.sink.gaps()) == []
            await chain.drain(daemon)
        chain.close()

    virtual.run(scenario(), start_ms=START)
