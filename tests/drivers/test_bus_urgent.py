"""A read on request on a saturated bus: the next frame, whatever else waits or is in the middle of something."""

import asyncio
from random import Random

import pytest

from drivers.bus import Lane, Outcome
from drivers.plan import ReadPlan, plan
from protocols.dlt645 import v2007
from simulators.dlt645 import Dlt645Meter
from simulators.wire import Asked
from tests.many import ENERGIES, ManyBus, Model, until

THREE_PHASE = Model(profile="dlt645-2007-3p", protocol="dlt645-2007", items=(*ENERGIES, "voltage.a", "voltage.b"))
GAP_S = 0.03
"""The longest of the mandatory gaps at 9600 baud: that of DL/T 645."""
ITEMS = {"dlt645": ("frequency",), "modbus": ("voltage.a",)}


def on_request(many: ManyBus, n: int) -> ReadPlan:
    """Something that nothing else reads."""
    meter = many.meters[n]
    items = ITEMS[meter.profile.family] if "frequency" in meter.profile.items else ("energy.active.import.total",)
    return plan(meter.profile, meter.entry, items, meter.settings)


def next_after(many: ManyBus, at: float) -> Asked:
    """The first question that began after this moment."""
    return next(asked for asked in many.asked if asked.at > at)


@pytest.mark.parametrize("lane", [Lane.CURVE, Lane.PRIORITY])
@pytest.mark.parametrize("seed", range(4))
def test_a_read_on_request_is_the_next_frame_after_the_exchange_in_progress(lane: Lane, seed: int) -> None:
    many = ManyBus(32, baud=9600)
    many.simulated[3].present = many.simulated[5].present = False
    rng = Random(seed)
    dead = {3, 5}

    async def script() -> None:
        loop = asyncio.get_running_loop()
        many.feed(lane=lane)
        await until(lambda: len(many.bus.silent) == 2)
        for _ in range(60):
            await asyncio.sleep(rng.uniform(0.05, 1.5))  # anywhere: in a question, a turnaround, an answer, a gap
            n = rng.choice([n for n in range(32) if n not in dead])
            ended: list[Outcome] = []
            # It may itself have been asked just now: while an answer that looks alike may come twice, it is left alone.
            own = n in [many.number(asked) for asked in many.asked[-3:]]
            at = loop.time()
            many.read(n, lane=Lane.READ_NOW, read=on_request(many, n), done=ended.append)
            await until(lambda ended=ended: bool(ended), step_s=0.002)  # type: ignore[misc]
            (outcome,) = ended
            assert outcome.values and outcome.values[0].fault is None
            asked = next_after(many, at)
            if not own:
                assert many.number(asked) == n
                before = many.asked[many.asked.index(asked) - 1]
                timed_out = many.number(before) in dead
                assert timed_out or asked.silence_s <= GAP_S + 1e-6

    many.run(script)


def test_a_read_of_many_exchanges_is_interrupted_between_two_frames() -> None:
    many = ManyBus(2, baud=2400, models=[THREE_PHASE])
    one = many.meters[0]
    long = plan(one.profile, one.entry, tuple(one.profile.items)[:40], one.settings)
    assert long.exchanges > 5

    async def script() -> None:
        many.read(0, read=long)
        await until(lambda: len(many.asked) == 3)
        at = many.asked[-1].at
        many.read(1, lane=Lane.READ_NOW)
        await until(lambda: len(many.outcomes) == 2)
        assert [n for n, _ in many.outcomes] == [1, 0]
        assert many.number(next_after(many, at)) == 1

    many.run(script)
    assert all(value.fault is None for _, outcome in many.outcomes for value in outcome.values or ())


def test_a_follow_up_chain_is_interrupted_for_other_meters_only() -> None:
    many = ManyBus(2, baud=9600, models=[THREE_PHASE])
    served = many.simulated[0].meter
    assert isinstance(served, Dlt645Meter)
    served.extra["04010000"] = bytes(range(200)) * 3  # longer than three frames
    chain = many.meters[0].entry.address
    order: list[str] = []

    async def script() -> None:
        many.read(0, read=_of(lambda: v2007.read(chain, ["04010000"])), done=lambda _: order.append("chain"))
        await until(lambda: len(many.asked) == 2)
        at = many.asked[-1].at
        assert many.asked[-1].data.lstrip(b"\xfe")[8] == 0x12
        many.read(0, lane=Lane.READ_NOW, done=lambda _: order.append("same meter"))
        many.read(1, lane=Lane.READ_NOW, done=lambda _: order.append("other meter"))
        await until(lambda: len(order) == 3)
        assert many.number(next_after(many, at)) == 1

    many.run(script)
    assert order == ["other meter", "chain", "same meter"]


def _of(dialogue: object) -> ReadPlan:
    return ReadPlan(items=(), quantities=(), wire_ms=0, cost_ms=0, exchanges=1, dialogue=dialogue)  # type: ignore[arg-type]


def test_a_meter_that_is_taken_for_silent_is_asked_at_once_and_answers_or_not() -> None:
    many = ManyBus(32, baud=9600)
    many.simulated[3].present = False
    ended: list[Outcome] = []

    async def script() -> None:
        loop = asyncio.get_running_loop()
        many.feed()
        await until(lambda: len(many.bus.silent) == 1)
        await asyncio.sleep(10.0)
        for back in (False, True):
            many.simulated[3].present = back
            at = loop.time()
            many.read(3, lane=Lane.READ_NOW, done=ended.append)
            await until(lambda back=back: len(ended) == 1 + back)  # type: ignore[misc]
            assert many.number(next_after(many, at)) == 3
            assert loop.time() - at < 6.0
            await asyncio.sleep(5.0)  # its late window

    many.run(script)
    silent, answered = ended
    assert silent.values is not None and {value.fault.value for value in silent.values if value.fault} == {"silent"}
    assert answered.values is not None and all(value.fault is None for value in answered.values)
    assert many.bus.counters.came_back == 1
