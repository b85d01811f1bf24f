"""A broker that carries only short messages gets short batches: what is too long is given up and sealed in parts."""

import asyncio
from collections.abc import Iterator
from datetime import date
from functools import partial
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from central.kpi import kpi
from central.look import looking
from config.model import TaskEntry, UplinkEntry
from field.clock import wall_ms
from gateway import hellos, manifest
from gateway.hellos import AGAIN_S as HELLO_AGAIN_S
from gateway.session import FRAMING_BYTES_MAX, mqtt_sessions
from protocols.manifest import shares
from protocols.messages import (
    HELLO_BYTES_MAX,
    MANIFEST_ADDED_MAX,
    VOIDED_BYTES_MAX,
    VOIDED_MAX,
    Health,
    Hello,
    Manifest,
    signed,
)  # fmt: skip
from protocols.topics import UP, topic
from simulators import virtual
from simulators.describe import uniform
from tests import link
from tests.broker import Broker
from tests.chain import START, Chain

ITEMS = tuple(f"{stem}.{phase}" for stem in ("voltage", "current", "power.active") for phase in "abc")
MINUTE = TaskEntry(name="minute", every_s=60, items=ITEMS)
TASKS = [TaskEntry(name="hour", every_s=3600, items=ITEMS[:1]), TaskEntry(name="day", every_s=86400, items=ITEMS[1:2])]
PACKET_MAX = 1000
EVENING = 1_790_004_600_000
"""23:30 at Shanghai."""
PATIENCE_S = 60.0
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


def test_a_day_ends_with_an_account_that_agrees_however_little_the_broker_carries(tmp_path: Path) -> None:
    """Also where the broker, and so the parts, become others before the centre's verdict is heard."""

    async def scenario() -> None:
        chain = Chain(tmp_path, uniform(buses=1, meters_per_bus=12), TASKS)
        broker, deliver = chain.broker, chain.broker.deliver
        broker.message_bytes_max = NARROW
        broker.deliver = lambda name, payload: None if "request" in name else deliver(name, payload)  # type: ignore[method-assign]
        async with chain.running() as daemon:
            await asyncio.sleep(2.4 * 3600)
            assert daemon.parts is not None
            counters = daemon.parts.manifests.counters
            narrow, agreed = counters.sent, counters.agreed
            assert (narrow % 3, agreed) == (0, 0)
            broker.deliver = deliver  # type: ignore[method-assign]
            broker.away = True
            broker.message_bytes_max = 2 * NARROW
            broker.away = False
            await asyncio.sleep(2 * 3600)
            assert counters == manifest.ManifestCounters(sent=narrow + 1, agreed=1)
            await chain.drain(daemon)
        with looking(str(chain.database)) as look:
            (line,) = kpi(look, days=[date(2026, 9, 21)], zone=ZoneInfo("Asia/Shanghai"))
        assert line.account == "agrees", "of the part that came last"
        chain.close()

    virtual.run(scenario(), start_ms=START)


def test_an_account_in_one_part_never_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control."""
    monkeypatch.setattr(manifest, "shares", lambda meters, _: shares(meters, 1 << 20))

    async def scenario() -> None:
        chain = Chain(tmp_path, uniform(buses=1, meters_per_bus=12), TASKS)
        chain.broker.message_bytes_max = NARROW
        async with chain.running() as daemon:
            await asyncio.sleep(6 * 3600)
            assert daemon.parts is not None
            counters = daemon.parts.manifests.counters
            assert (counters.sent, counters.agreed) == (0, 0)
            assert 0 < counters.too_long < 10, "told, and not every minute"
            await chain.drain(daemon)
        chain.close()

    virtual.run(scenario(), start_ms=START)


@pytest.mark.parametrize("parted", [True, False], ids=["as many as fit", "control: all"])
def test_numbers_that_were_given_up_are_told_in_as_many_hellos_as_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parted: bool
) -> None:
    if not parted:
        monkeypatch.setattr(hellos, "HELLO_BYTES_MAX", -1_000_000)

    async def scenario() -> None:
        chain = Chain(tmp_path, uniform(buses=1, meters_per_bus=1), [MINUTE])
        chain.broker.message_bytes_max = NARROW
        chain.broker.away = True
        async with chain.running() as daemon:
            assert daemon.parts is not None
            uplink, outbox = daemon.parts.uplink, daemon.parts.outbox
            daemon.parts.sealer.at_once()
            await asyncio.sleep(100 * 60)
            for batch in outbox.offers(100):
                await outbox.void(batch.epoch, batch.seq, "for the test")
            voided = len(outbox.voided())
            assert voided > 90
            chain.broker.away = False
            await asyncio.sleep(120)
            if parted:
                assert outbox.voided() == [] and uplink.counters.sessions == 1
                await chain.drain(daemon)
            else:
                assert len(outbox.voided()) >= voided and uplink.counters.sessions > 3
        truth = chain.truth()
        assert truth.passed == parted, truth.examples
        chain.close()

    virtual.run(scenario(), start_ms=START)


def test_a_health_message_tells_as_much_as_fits(tmp_path: Path) -> None:
    async def scenario() -> None:
        chain = Chain(tmp_path, uniform(buses=1, meters_per_bus=1), [MINUTE])
        chain.broker.message_bytes_max = most = NARROW - 100
        async with chain.running() as daemon:
            await asyncio.sleep(3600)
            assert daemon.parts is not None and daemon.parts.uplink.counters.unsaid == 0
        with looking(str(chain.database)) as look:
            ((text,),) = look.rows("SELECT text FROM gateway_note WHERE name = 'health'", ())
        health = Health.decode(text.encode())
        assert 0.7 * most < len(text.encode()) <= most
        assert health.counters["schedule.asked"] > 0 and int(health.facts["left_out"]) > 2
        chain.close()

    virtual.run(scenario(), start_ms=START)


def test_what_is_added_to_a_message_is_no_more_than_is_allowed_for() -> None:
    sign = partial(signed, kid=bytes(8), sign=lambda _: bytes(64))
    wide, id_ = (1 << 63) - 1, "g" * 32
    manifest = Manifest(gateway=id_, epoch=wide, day=0xFFFFFFFF, plan=bytes(32), sealed=bytes(60_000), sent_at=wide)
    assert len(sign(manifest)) - 60_000 <= MANIFEST_ADDED_MAX
    for count in (0, VOIDED_MAX):
        hello = Hello(gateway=id_, epoch=wide, first_unsettled=wide, next_seq=wide, voided=((wide, wide),) * count,
                      pending=wide, oldest_at=wide, sent_at=wide)  # fmt: skip
        assert len(sign(hello)) <= HELLO_BYTES_MAX + VOIDED_BYTES_MAX * count


def test_no_topic_of_a_gateway_takes_more_than_the_framing_allows_for() -> None:
    mqtts_own = 5 + 2 + 2 + 1  # fixed header, length of the topic, packet id, length of the properties
    longest = max(len(topic("g" * 32, "up", name)) for name in UP)
    assert longest + mqtts_own <= FRAMING_BYTES_MAX


@pytest.fixture
def narrow_broker(mosquitto: None, tmp_path: Path) -> Iterator[Broker]:
    """A real one."""
    broker = Broker(tmp_path)
    (conf,) = tmp_path.glob("*.conf")
    conf.write_text(conf.read_text() + f"\nmax_packet_size {PACKET_MAX}\n")
    broker.start()
    yield broker
    broker.kill()


@pytest.mark.slow
@pytest.mark.real
async def test_the_account_of_a_day_comes_through_a_real_broker_of_short_packets(
    narrow_broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gateway's clock is set from before midnight to after the time of accounts."""
    ahead_ms = EVENING - wall_ms()
    monkeypatch.setattr(link, "wall_ms", lambda: wall_ms() + ahead_ms)
    monkeypatch.setattr(manifest, "ROUND_S", 0.1)
    plan = uniform(buses=2, meters_per_bus=10)
    async with link.linked(tmp_path, narrow_broker, plan=plan, tasks=TASKS) as chain, chain.running() as daemon:
        parts = daemon.parts
        assert parts is not None
        async with asyncio.timeout(PATIENCE_S):
            while len(chain.accepted.captures) < 2 * len(chain.site.meters):  # noqa: ASYNC110 - a log tells nobody
                await asyncio.sleep(0.1)
            ahead_ms += 3 * 3600 * 1000
            while not parts.manifests.counters.agreed:  # noqa: ASYNC110 - counters tell nobody
                await asyncio.sleep(0.1)
        assert parts.manifests.counters.sent > 2
        assert (parts.uplink.counters.sessions, parts.uplink.counters.lost, parts.uplink.counters.unsaid) == (1, 0, 0)


@pytest.mark.slow
@pytest.mark.real
def test_a_session_hears_from_the_broker_how_long_a_message_may_be(narrow_broker: Broker) -> None:
    async def longest() -> int:
        async with mqtt_sessions(UplinkEntry(url=narrow_broker.url), "gw-narrow")(b"{}") as session:
            await session.publish(topic("gw-narrow", "up", "health"), bytes(session.message_bytes_max))
            return session.message_bytes_max

    assert asyncio.run(longest()) == PACKET_MAX - FRAMING_BYTES_MAX
