"""A slow way up: what is under way stays small, events go next, and live data does not wait for the backlog."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from central.sinks.base import Arrival, Landed
from config.model import TaskEntry
from gateway import pace as pace_module
from gateway.daemon import Daemon
from gateway.pace import Pace, Shipment
from protocols.capture import Capture, Event
from simulators import virtual
from simulators.describe import uniform
from tests.chain import START, Chain
from tests.records import reference_load

SLOW = 9600 / 8
BATCH_MAX = 8 * 1024
HOUR_MS = 3_600_000
MINUTE = TaskEntry(name="minute", every_s=60, items=("energy.active.import.total", "voltage.a"))


# What is measured.


@given(st.lists(st.integers(200, BATCH_MAX), min_size=8, max_size=40), st.sampled_from([1200.0, 4800.0, 1e6]))
def test_no_more_is_under_way_than_a_second_of_the_link_and_never_nothing(sizes: list[int], rate: float) -> None:
    pace, now, free_at = Pace(), 0.0, 0.0
    under_way: list[tuple[float, Shipment]] = []
    for size in sizes:
        while not pace.fits(size):
            now, shipment = under_way.pop(0)
            pace.end(shipment, now)
        assert pace.under_way == 0 or pace.under_way + size <= rate * 1.001
        free_at = max(now, free_at) + size / rate
        under_way.append((free_at + 0.02, pace.begin(size, now)))


def test_a_fast_link_is_found_to_be_fast_from_small_messages() -> None:
    pace, now = Pace(), 0.0
    for _ in range(8):
        sent: list[Shipment] = []
        while pace.fits(300) and len(sent) < 1000:
            sent.append(pace.begin(300, now))
        now += 0.5
        for shipment in sent:
            pace.end(shipment, now)
    assert pace.rate > 100 * 300 / 0.5


def test_a_rate_that_is_not_reached_any_more_is_forgotten() -> None:
    pace = Pace()
    pace.end(pace.begin(8000, 0.0), 0.01)
    assert pace.rate > 500_000
    pace.end(pace.begin(8000, 5.0), 11.7)
    assert pace.rate == pytest.approx(8000 / 6.7)


def test_a_slow_link_is_given_the_time_that_it_takes() -> None:
    pace = Pace()
    assert pace.patience_s(BATCH_MAX) > BATCH_MAX / 600
    pace.end(pace.begin(BATCH_MAX, 0.0), 0.1)
    assert pace.patience_s(100) < 21


# What it comes to, behind a broker in memory over a slow link.


@cache
def _hour() -> Sequence[Capture]:
    return [record for record in reference_load() if isinstance(record, Capture)]


@dataclass(frozen=True, slots=True)
class Arrived:
    """A message of the gateway, when the broker had all of it."""

    at: float
    name: str
    size: int


class Slow:
    """A chain whose gateway has a backlog and whose broker is behind a link that carries so many bytes a second."""

    def __init__(self, directory: Path, rate: float) -> None:
        self.chain = Chain(directory, uniform(buses=1, meters_per_bus=2), [MINUTE])
        self.chain.broker.away = True
        self.chain.broker.rate = rate
        self.arrived: list[Arrived] = []
        self.chain.broker.attach(self._receive)

    def _receive(self, topic: str, payload: bytes) -> None:
        at = asyncio.get_running_loop().time()
        self.arrived.append(Arrived(at, topic.rpartition("/")[2], len(payload)))
        self.chain.landing.receive(topic, payload)

    async def connect_with_backlog(self, daemon: Daemon, hours: int) -> None:
        """Give the gateway hours of the reference load, sealed, and then its broker."""
        assert daemon.parts is not None
        parts = daemon.parts
        for hour in range(hours):
            await parts.outbox.append(old(hour), urgent=True)
        parts.sealer.at_once()
        await asyncio.sleep(1)
        assert not parts.outbox.unsealed().records
        self.chain.broker.away = False
        await asyncio.sleep(4)
        assert parts.uplink.connected


def old(hour: int) -> Sequence[Capture]:
    """An hour of the reference load, long ago."""
    back = START - (hour + 2) * HOUR_MS
    return [replace(record, slot=None, stamp=back + n, read_at=back + n) for n, record in enumerate(_hour())]


async def _event_over_a_slow_link(directory: Path) -> tuple[list[Arrived], float]:
    """What arrived after the moment at which an event happened, and that moment."""
    slow = Slow(directory, SLOW)
    async with slow.chain.running() as daemon:
        await slow.connect_with_backlog(daemon, 6)
        await asyncio.sleep(40)
        assert daemon.parts is not None
        assert daemon.parts.outbox.unsettled >= 5, "there is still a backlog"
        happened = asyncio.get_running_loop().time()
        daemon.parts.intake.add(Event(name="cover_opened", at=virtual.now_ms(), meter="m1"))
        await asyncio.sleep(60)
    slow.chain.close()
    assert max(one.size for one in slow.arrived) <= BATCH_MAX
    return [one for one in slow.arrived if one.at > happened], happened


def test_an_event_goes_next_after_at_most_one_batch_of_a_backlog_at_9600_bit_s(tmp_path: Path) -> None:
    after, happened = virtual.run(_event_over_a_slow_link(tmp_path), start_ms=START)
    place = [one.name for one in after].index("event")
    assert place <= 1
    assert after[place].at - happened < (BATCH_MAX + 1000) / SLOW


def test_without_the_window_an_event_waits_behind_a_queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: the rig shows what the window is for."""
    monkeypatch.setattr(pace_module, "WINDOW_S", 60.0)
    after, happened = virtual.run(_event_over_a_slow_link(tmp_path), start_ms=START)
    place = [one.name for one in after].index("event")
    assert place > 1
    assert after[place].at - happened > 2 * BATCH_MAX / SLOW


def test_live_data_stays_under_5_s_late_while_the_backlog_drains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late: list[float] = []

    async def scenario() -> None:
        slow = Slow(tmp_path, 6 * SLOW)
        land = slow.chain.sink.land
        async with slow.chain.running() as daemon:
            await slow.connect_with_backlog(daemon, 34)
            assert daemon.parts is not None
            since = virtual.now_ms()

            def landing(arrival: Arrival) -> Landed:
                read = [record.read_at for record in arrival.records if isinstance(record, Capture)]
                late.extend((virtual.now_ms() - at) / 1000 for at in read if at > since)
                return land(arrival)

            monkeypatch.setattr(slow.chain.sink, "land", landing)
            await asyncio.sleep(62)
            assert daemon.parts.outbox.unsettled >= 5, "there is still a backlog"
        slow.chain.close()

    virtual.run(scenario(), start_ms=START)
    assert len(late) >= 2
    assert max(late) < 5.0
