"""A gateway on a bad network, over a real broker: nothing is lost, it is back soon, and it makes no storm."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from config.model import UplinkEntry
from field.clock import wall_ms
from gateway import pace, session
from gateway.daemon import Daemon
from gateway.session import SessionLost, mqtt_sessions
from gateway.uplink import UplinkCounters
from protocols.capture import Event
from tests.broker import Broker
from tests.chain import GATEWAY
from tests.gateway.test_pace import SLOW, old
from tests.link import Link, brisk, linked, reset_along
from tests.others import others
from tests.proxy import Weather

pytestmark = [pytest.mark.slow, pytest.mark.real]

EVERY_BYTES = 64
"""Between two resets: the campaign in the soak takes every byte."""


async def drained(link: Link, daemon: Daemon) -> None:
    """Everything is with the centre, in a minute."""
    async with asyncio.timeout(60):
        await link.drain(daemon)


def told(link: Link) -> None:
    """The truth check, once the gateway has been drained."""
    link.disconnect_centre()
    truth = link.truth()
    assert truth.passed, truth.examples


def counters(daemon: Daemon) -> UplinkCounters:
    assert daemon.parts is not None
    return daemon.parts.uplink.counters


def has_lost(daemon: Daemon, sessions: int) -> bool:
    """Whether so many sessions, or attempts at one, have ended."""
    return counters(daemon).lost >= sessions


PATIENCE_S = 240
"""Where what it took is looked at afterwards."""


async def until(so: Callable[[], object], *, within_s: float = 60) -> None:
    """Wait for something that tells nobody."""
    async with asyncio.timeout(within_s):
        while not so():  # noqa: ASYNC110 - counters of other threads and parts
            await asyncio.sleep(0.05)


async def receipted(daemon: Daemon, *, within_s: float) -> float:
    """Wait until a receipt comes; returns the seconds that it took."""
    loop, before = asyncio.get_running_loop(), counters(daemon).receipts
    began = loop.time()
    await until(lambda: counters(daemon).receipts > before, within_s=within_s)
    return loop.time() - began


async def test_a_link_that_loses_30_percent_loses_nothing(broker: Broker, tmp_path: Path) -> None:
    async with linked(tmp_path, broker, weather=Weather(loss=0.3, latency_s=0.05, jitter_s=0.05)) as link:
        async with link.running() as daemon:
            await asyncio.sleep(10)
            await drained(link, daemon)
            assert counters(daemon).sessions == 1
        assert link.proxy.counters.pieces_lost > 10
        told(link)


async def test_at_9600_bit_s_a_real_event_is_behind_at_most_one_batch(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[tuple[float, str, int]] = []
    async with linked(tmp_path, broker, tasks=()) as link:
        receive = link.landing.receive

        def hear(topic: str, payload: bytes) -> None:
            heard.append((time.monotonic(), topic.rpartition("/")[2], len(payload)))
            receive(topic, payload)

        monkeypatch.setattr(link.landing, "receive", hear)
        link.proxy.weather.refusing = True
        async with link.running() as daemon:
            assert daemon.parts is not None
            parts = daemon.parts
            await parts.outbox.append([*old(1), *old(2)], urgent=True)
            parts.sealer.at_once()
            await asyncio.sleep(0.5)
            link.proxy.weather = Weather(rate=SLOW)
            await until(lambda: parts.uplink.counters.acknowledged)
            await asyncio.sleep(1)  # the next batch is under way
            happened = time.monotonic()
            with others() as had:
                parts.intake.add(Event(name="cover_opened", at=wall_ms()))
                await until(lambda: "event" in (name for _, name, _ in heard), within_s=PATIENCE_S)
            link.proxy.weather = Weather()
        after = [(at, name) for at, name, _ in heard if at > happened]
        assert [name for _, name in after][:2] in (["batch", "event"], ["event"])
        assert next(at for at, name in after if name == "event") - happened < 8192 / SLOW + 2 * had.slower
        assert max(size for _, _, size in heard) <= 8192


async def test_resets_along_a_session_lose_nothing(broker: Broker, tmp_path: Path) -> None:
    """From the first byte of a connection over greeting, batches, acknowledgements and receipts."""
    truth = await reset_along(tmp_path, broker, first=0, step=EVERY_BYTES)
    assert truth.passed, truth.examples


async def test_lost_pubacks_lose_nothing(broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "ANSWER_S", 0.5)
    monkeypatch.setattr(session, "CONNECT_TIMEOUT_S", 1.0)
    async with linked(tmp_path, broker) as link:
        with brisk():
            async with link.running() as daemon:
                for lost in range(1, 5):
                    await receipted(daemon, within_s=20)
                    link.proxy.weather.silent = frozenset({"down"})
                    await until(partial(has_lost, daemon, lost))
                    link.proxy.weather.silent = frozenset()
                await drained(link, daemon)
                assert counters(daemon).offered_again >= 1
        assert link.landing.counters["batches.repeated"] >= 1
        told(link)


async def test_a_half_open_connection_is_left_and_the_gateway_is_back_within_60_s(
    broker: Broker, tmp_path: Path
) -> None:
    async with linked(tmp_path, broker) as link:
        async with link.running() as daemon:
            await receipted(daemon, within_s=20)
            link.proxy.weather.silent = frozenset({"up", "down"})
            await asyncio.sleep(3)
            link.proxy.weather.silent = frozenset()
            assert await receipted(daemon, within_s=60) < 60
            await drained(link, daemon)
        told(link)


async def test_an_outage_makes_no_storm_and_ends_within_60_s_of_healing(broker: Broker, tmp_path: Path) -> None:
    async with linked(tmp_path, broker) as link:
        async with link.running() as daemon:
            await receipted(daemon, within_s=20)
            link.proxy.weather.refusing = True
            link.proxy.reset_all()
            await asyncio.sleep(6)
            assert link.proxy.most_in(60) <= 9
            link.proxy.weather.refusing = False
            assert await receipted(daemon, within_s=60) < 60
            await drained(link, daemon)
        told(link)


async def test_a_broker_that_lost_its_sessions_loses_nothing(mosquitto: None, broker: Broker, tmp_path: Path) -> None:
    async with linked(tmp_path, broker) as link:
        async with link.running() as daemon:
            await receipted(daemon, within_s=20)
            broker.kill()
            for kept in broker.directory.glob("*.db"):
                kept.unlink()
            await asyncio.to_thread(broker.start)
            assert await receipted(daemon, within_s=60) < 60
            await drained(link, daemon)
        told(link)


async def test_another_client_under_our_id_loses_nothing_and_makes_no_storm(broker: Broker, tmp_path: Path) -> None:
    over = threading.Event()

    async def rival() -> None:
        """Another gateway under the same id, that comes back a second after each loss."""
        connect = mqtt_sessions(UplinkEntry(url=broker.url), GATEWAY)
        while not over.is_set():
            try:
                async with connect(b"{}") as rivals:
                    async for _ in rivals.messages():
                        pass
            except* SessionLost:
                await asyncio.sleep(1)

    async with linked(tmp_path, broker) as link:
        async with link.running() as daemon:
            await receipted(daemon, within_s=20)
            async with asyncio.TaskGroup() as group:
                other = group.create_task(rival())
                await asyncio.sleep(15)
                over.set()
                other.cancel()
            assert counters(daemon).lost >= 2
            assert link.proxy.most_in(60) <= 9
            assert await receipted(daemon, within_s=60) < 60
            await drained(link, daemon)
        told(link)


@pytest.mark.parametrize(("resets", "spoken"), [((), "p5"), ((0,), "p2")], ids=["5", "3.1.1"])
async def test_the_chain_is_the_same_in_both_versions_of_mqtt(
    mosquitto: None, broker: Broker, tmp_path: Path, resets: tuple[int, ...], spoken: str
) -> None:
    """A broker that hangs up on the first attempt is spoken to in 3.1.1; mosquitto's log says which it was."""
    async with linked(tmp_path, broker, weather=Weather(resets=deque(resets))) as link:
        async with link.running() as daemon:
            await receipted(daemon, within_s=20)
            await asyncio.sleep(3)
            await drained(link, daemon)
        assert f"as {GATEWAY} ({spoken}" in broker.log.read_text()
        told(link)
