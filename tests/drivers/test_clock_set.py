"""Our clock is set while a meter is read: each value comes once, as it is, and dated by a clock that was shown."""

import asyncio
from collections.abc import Callable

import pytest

from drivers.outcome import MOMENT_S, Outcome
from protocols.capture import Quality
from simulators import virtual
from simulators.dlt645 import Dlt645Meter
from simulators.load import Load
from tests.drivers.test_mute import ENERGIES, Site

ITEMS = (*ENERGIES, "voltage.a", "frequency", "energy.active.export.total", "demand.active.import.total")
MINUTE_MS, YEAR_MS = 60_000, 365 * 86_400_000
LEAPS = [MINUTE_MS, -MINUTE_MS, YEAR_MS, -YEAR_MS]


def leaping(offset: Callable[[], int]) -> Callable[[], int]:
    """Our clock: the right one, and so many milliseconds."""
    return lambda: virtual.now_ms() + offset()


def read(leap_ms: int, after_questions: int, *, into_s: float = 0.0, billing: bool = False) -> tuple[Outcome, int, int]:
    """One reading of several frames while our clock leaps so far, so long after the question with this number left. The
    outcome; when it began and ended by a clock that does not leap, in ms."""
    offset_ms = 0
    clock = leaping(lambda: offset_ms)
    site = Site(Dlt645Meter("000000000001", Load(3)), ITEMS, billing=billing, now_ms=clock)
    found: list[tuple[Outcome, int, int]] = []

    async def script() -> None:
        nonlocal offset_ms
        asked = site.wire.asked
        assert asked is not None
        began = virtual.now_ms()
        reading = asyncio.ensure_future(site.read())
        while not reading.done():
            if not offset_ms and len(asked) > after_questions:
                await asyncio.sleep(into_s)
                offset_ms = leap_ms
            await asyncio.sleep(0.001)
        found.append((reading.result(), began, virtual.now_ms()))

    site.run(script)
    return found[0]


def told(outcome: Outcome) -> dict[str, str | None]:
    """What its records say, by quantity. None says what another says."""
    values = [value for part in outcome.moments() for value in part.values or ()]
    assert len({value.quantity.name for value in values}) == len(values)
    assert all(value.fault is None and value.quality is Quality.GOOD for value in values)
    return {value.quantity.name: value.plain for value in values}


@pytest.mark.parametrize("leap_ms", LEAPS)
@pytest.mark.parametrize("billing", [False, True])
def test_a_clock_that_is_set_within_a_reading_changes_no_value_and_no_date_by_more_than_it_was_set(
    leap_ms: int, billing: bool
) -> None:
    right, began, ended = read(0, 0, billing=billing)
    questions = 5 * (1 + billing)
    for after in range(questions):
        for into_s in (0.0, 0.03):  # while the question leaves, and while the answer comes
            outcome, began, ended = read(leap_ms, after, into_s=into_s, billing=billing)
            assert told(outcome) == told(right)
            dates = [part.read_at or 0 for part in outcome.moments()]
            before, since = range(began, ended + 1), range(began + leap_ms, ended + leap_ms + 1)
            assert all(date in before or date in since for date in dates) and dates[-1] in since
            assert (outcome.started_at or 0) in before or (outcome.started_at or 0) in since
            if ended - began <= 1000 * MOMENT_S:
                assert len(dates) <= 2  # those of the clock before, and those since


def test_readings_after_the_clock_was_set_are_as_those_before() -> None:
    offset_ms = 0
    clock = leaping(lambda: offset_ms)
    site = Site(Dlt645Meter("000000000001", Load(3)), ITEMS, now_ms=clock)

    async def script() -> None:
        nonlocal offset_ms
        for leap_ms in (*LEAPS, 0):
            offset_ms = leap_ms
            outcome = await site.read()
            assert outcome.read_at is not None and outcome.started_at is not None
            assert 0 <= clock() - outcome.read_at < 10 and len(outcome.moments()) == 1
            assert 0 < outcome.read_at - outcome.started_at < 1000 * MOMENT_S
            await asyncio.sleep(60.0)

    site.run(script)
    counters = site.bus.counters
    assert (counters.retries, counters.restarts, counters.quarantines, counters.fell_silent) == (0, 0, 0, 0)
