"""Dead meters among many on one wire: what they cost the others, what they may take, how soon they are found again."""

import asyncio

import pytest

from tests.many import ManyBus, until

METERS = 32
STEADY_S = 600.0


def served(dead: set[int], *, baud: int, seconds: float = STEADY_S) -> tuple[ManyBus, int, float]:
    """A bus whose meters are read all the time, these of them dead: it, how many of its reads were answered once all
    the dead were known to be, and the time that questions to the dead took."""
    many = ManyBus(METERS, baud=baud)
    for n in dead:
        many.simulated[n].present = False
    counted: list[int] = []

    async def script() -> None:
        many.feed()
        await until(lambda: len(many.bus.silent) == len(dead))
        await asyncio.sleep(60.0)
        many.asked.clear()
        before = len(many.outcomes)
        await asyncio.sleep(seconds)
        counted.append(sum(outcome.read_at is not None for _, outcome in many.outcomes[before:]))

    many.run(script)
    taken_s = 0.0
    for asked, following in zip(many.asked, many.asked[1:], strict=False):
        n = many.number(asked)
        if n in dead:
            taken_s += following.at - asked.at - many.meters[many.number(following)].gap_s
    return many, counted[0], taken_s


@pytest.mark.slow
@pytest.mark.parametrize(("baud", "seconds"), [(1200, 5000.0), (9600, 600.0), (115200, 150.0)])
@pytest.mark.parametrize("n", [0, 1])
def test_one_dead_meter_in_32_costs_the_others_at_most_5_percent(baud: int, seconds: float, n: int) -> None:
    # With nobody dead but that one not asked either: what the 31 others could have had.
    alone = ManyBus(METERS, baud=baud)
    count: list[int] = []

    async def script() -> None:
        alone.feed(but={n})
        await asyncio.sleep(60.0)
        before = len(alone.outcomes)
        await asyncio.sleep(seconds)
        count.append(len(alone.outcomes) - before)

    alone.run(script)
    _, with_dead, _ = served({n}, baud=baud, seconds=seconds)
    assert with_dead >= 0.95 * count[0]


@pytest.mark.slow
@pytest.mark.parametrize("dead", [8, 31])
def test_the_dead_keep_to_a_tenth_of_the_bus_while_others_are_asked(dead: int) -> None:
    _, answered, taken_s = served(set(range(1, dead + 1)), baud=9600)
    assert answered > 0
    assert 0 < taken_s <= 0.10 * STEADY_S + 2.0  # a probe or two may be on credit


@pytest.mark.slow
@pytest.mark.parametrize(("dead", "busy"), [(1, True), (8, True), (31, True), (32, False)])
def test_the_dead_are_found_in_time_and_the_first_to_answer_brings_a_probe_of_all(dead: int, busy: bool) -> None:
    many = ManyBus(METERS, baud=2400)
    gone = set(range(METERS - dead, METERS))
    for n in gone:
        many.simulated[n].present = False
    first = min(gone)

    async def script() -> None:
        loop = asyncio.get_running_loop()
        for n in gone:
            many.read(n)
        if busy:
            many.feed(but=gone)
        await until(lambda: len(many.bus.silent) == dead)
        probes_s = sum(many.meters[n].timeout_s(next(many.plans[n].dialogue())) + many.meters[n].gap_s for n in gone)
        bound_s = max(60.0, 10 * probes_s)
        many.asked.clear()
        await until(lambda: any(many.number(asked) == first for asked in many.asked))
        await asyncio.sleep(many.meters[first].timeout_s(next(many.plans[first].dialogue())))
        back_at = loop.time()  # just after it was asked in vain: the worst moment
        many.simulated[first].present = True
        await until(lambda: many.meters[first].id not in many.bus.silent)
        assert loop.time() - back_at <= bound_s
        found_at = min(asked.at for asked in many.asked if many.number(asked) == first and asked.at > back_at)
        await asyncio.sleep(3 * probes_s + 5.0)
        for n in gone - {first}:
            soonest = min(asked.at for asked in many.asked if many.number(asked) == n and asked.at > found_at)
            assert soonest - found_at <= 2 * probes_s + 5.0  # every other turn, while others are asked

    many.run(script)
    assert many.bus.counters.came_back == 1


def test_a_block_over_tariffs_is_waited_for_as_long_as_meters_have_tariffs() -> None:
    many = ManyBus(1, baud=1200)
    ask = next(many.plans[0].dialogue())
    assert ask.reply_max == len(ask.data) + 15 * 4  # a total and 14 tariffs, though the profile says 4
    assert many.meters[0].timeout_s(ask) < 1.6


@pytest.mark.slow
def test_when_power_comes_back_all_are_found_with_the_first() -> None:
    many = ManyBus(METERS, baud=9600)
    for one in many.simulated:
        one.present = False

    async def script() -> None:
        loop = asyncio.get_running_loop()
        for n in range(METERS):
            many.read(n)
        await until(lambda: len(many.bus.silent) == METERS)
        await asyncio.sleep(100.0)
        for one in many.simulated:
            one.present = True
        back_at = loop.time()
        probes_s = sum(meter.timeout_s(next(p.dialogue())) for meter, p in zip(many.meters, many.plans, strict=True))
        await until(lambda: not many.bus.silent)
        assert loop.time() - back_at <= max(60.0, 10 * probes_s)

    many.run(script)
    assert many.bus.counters.came_back == METERS
