"""A broker that carries only short messages gets short batches: what is too long is given up and sealed in parts."""

import asyncio
from pathlib import Path

import pytest

from config.model import TaskEntry, UplinkEntry
from gateway.session import FRAMING_BYTES_MAX, mqtt_sessions
from gateway.uplink import HELLO_AGAIN_S
from protocols.topics import UP, topic
from simulators import virtual
from simulators.describe import uniform
from tests.broker import Broker
from tests.chain import START, Chain

ITEMS = tuple(f"{stem}.{phase}" for stem in ("voltage", "current", "power.active") for phase in "abc")
MINUTE = TaskEntry(name="minute", every_s=60, items=ITEMS)
NARROW = 700
"""Bytes: a key record passes, and a batch of some minutes; one of an hour does not, nor does a health message."""


def backlog(directory: Path) -> Chain:
    """A site whose broker is away, and carries little when it is back."""
    chain = Chain(directory, uniform(buses=1, meters_per_bus=4), [MINUTE])
    chain.broker.message_bytes_max = NARROW
    chain.broker.away = True
    return chain


def test_batches_that_the_broker_does_not_carry_land_in_parts(tmp_path: Path) -> None:
    async def scenario() -> None:
        chain = backlog(tmp_path)
        async with chain.running() as daemon:
            await asyncio.sleep(2.5 * 3600)
            chain.broker.away = False
            await asyncio.sleep(HELLO_AGAIN_S + 60)
            assert daemon.parts is not None
            uplink, outbox = daemon.parts.uplink, daemon.parts.outbox
            assert uplink.counters.too_long >= 2 and uplink.counters.sessions == 1
            assert outbox.voided() == [] and outbox.counters.get("parked", 0) == 0
            await chain.drain(daemon)
        truth = chain.truth()
        assert truth.passed, truth.examples
        chain.close()

    virtual.run(scenario(), start_ms=START)


def test_what_is_sealed_once_the_broker_is_known_is_no_longer_than_what_it_carries(tmp_path: Path) -> None:
    """Also while it is away: nothing is sealed to be given up."""

    async def scenario() -> None:
        chain = Chain(tmp_path, uniform(buses=1, meters_per_bus=4), [MINUTE], profile="metered")
        chain.broker.message_bytes_max = NARROW
        async with chain.running() as daemon:
            await asyncio.sleep(1.5 * 3600)
            chain.broker.away = True
            await asyncio.sleep(3 * 3600)
            chain.broker.away = False
            await asyncio.sleep(2 * 3600)
            await chain.drain(daemon)
            assert daemon.parts is not None
            uplink, sealer = daemon.parts.uplink.counters, daemon.parts.sealer.counters
            assert uplink.too_long == 0 and uplink.sessions == 2
            assert sealer.bytes > 0.6 * NARROW * sealer.batches, "as long as they may be, most of them"
        truth = chain.truth()
        assert truth.passed, truth.examples
        chain.close()

    virtual.run(scenario(), start_ms=START)


def test_sent_all_the_same_they_hold_the_gateway_up_for_ever(tmp_path: Path) -> None:
    """The control: a broker that does not say so hangs up each time."""

    async def scenario() -> None:
        chain = backlog(tmp_path)
        chain.broker.says_so = False
        async with chain.running() as daemon:
            await asyncio.sleep(2.5 * 3600)
            chain.broker.away = False
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(3600):
                    await chain.drain(daemon)
            assert daemon.parts is not None
            assert daemon.parts.uplink.counters.sessions > 10
        assert chain.truth().missing > 0
        chain.close()

    virtual.run(scenario(), start_ms=START)


def test_no_topic_of_a_gateway_takes_more_than_the_framing_allows_for() -> None:
    mqtts_own = 5 + 2 + 2 + 1  # fixed header, length of the topic, packet id, length of the properties
    longest = max(len(topic("g" * 32, "up", name)) for name in UP)
    assert longest + mqtts_own <= FRAMING_BYTES_MAX


@pytest.mark.slow
@pytest.mark.real
def test_a_session_hears_from_the_broker_how_long_a_message_may_be(mosquitto: None, tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    (conf,) = tmp_path.glob("*.conf")
    conf.write_text(conf.read_text() + "\nmax_packet_size 2000\n")
    broker.start()

    async def longest() -> int:
        async with mqtt_sessions(UplinkEntry(url=broker.url), "gw-narrow")(b"{}") as session:
            await session.publish(topic("gw-narrow", "up", "health"), bytes(session.message_bytes_max))
            return session.message_bytes_max

    try:
        assert asyncio.run(longest()) == 2000 - FRAMING_BYTES_MAX
    finally:
        broker.kill()
