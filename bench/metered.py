"""Megabytes a month on a metered link: the reference load over TLS, counted by a proxy between gateway and broker.

Each thing that happens in a month is done some times for real, with the very parts that run in the field (daemon,
outbox, aiomqtt, mosquitto, subscriber), and its bytes are counted both ways; the month is the sum of their shares.
Bytes are those that TCP carries, TLS records included. What the packets' own headers would add is told beside it.
"""

import asyncio
import logging
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

from bench.figure import Figure
from config.model import TaskEntry
from field.clock import wall_ms
from gateway import session
from gateway.daemon import Daemon
from gateway.health import PUBLISH_EVERY_S, HealthWatch
from gateway.snapshot import Snapshot
from protocols.capture import Capture
from protocols.envelope import BatchKind
from protocols.manifest import METERS_MAX, DayPart, MeterDay, TaskDay
from protocols.messages import Manifest, signed
from simulators.describe import uniform
from tests.broker import MOSQUITTO, Broker, make_certificates, running_broker
from tests.link import Link, linked
from tests.records import reference_load

MEGABYTES_MAX = 12.0
DAYS = 30
HOURS = 12
"""Hourly batches that are sent."""
CONNECTIONS_A_DAY = 1
"""A carrier ends a connection now and then; the profile itself never does."""
PING_S = 1
"""Keepalive of the session on which pings are counted."""
PINGS = 8
WAIT_S_MAX = 120.0
HEADER_BYTES, SEGMENT_BYTES = 40, 1400
"""IPv4 and TCP without options, and what a segment carries: each is acknowledged by one of headers alone."""
CURVE = TaskEntry(name="curve", every_s=900, items=("energy.active.import.total", "voltage.a", "current.a"))


def run() -> Iterator[Figure]:
    """The month, and of what it is made up."""
    logging.disable()  # the account is made up, and the centre says so
    with tempfile.TemporaryDirectory(prefix="meterwire-bench-") as name:
        certificates = make_certificates(Path(name)) if MOSQUITTO else None
        with running_broker(certificates=certificates) as broker:
            cost = asyncio.run(_measure(Path(name), broker))
    pings = 3600 // session.KEEPALIVE_S["metered"]
    month = {
        "hourly batches with their receipts": DAYS * 24 * cost["hour"],
        "pings": DAYS * 24 * pings * cost["ping"],
        "health": DAYS * 86_400 / PUBLISH_EVERY_S["metered"] * cost["health"],
        "accounts of days": DAYS * cost["account"],
        "connections": DAYS * CONNECTIONS_A_DAY * cost["connection"],
    }
    packets = sum(bytes_ / SEGMENT_BYTES + count for bytes_, count in (
        (month["hourly batches with their receipts"], DAYS * 24 * 4), (month["pings"], DAYS * 24 * pings * 2),
        (month["connections"], DAYS * 12), (month["health"], DAYS * 8), (month["accounts of days"], DAYS * 8),
    ))  # fmt: skip
    yield Figure(
        bench="metered",
        what=f"100 meters x 20 quantities x 15 min, {'TLS' if MOSQUITTO else 'plain'}, a month of {DAYS} days",
        figure=sum(month.values()) / 1e6, unit="MB", at_most=MEGABYTES_MAX,
        more={
            "MB": {name: round(bytes_ / 1e6, 3) for name, bytes_ in month.items()},
            "bytes": {name: round(bytes_) for name, bytes_ in cost.items()},
            "measured": f"{HOURS} hourly batches, {PINGS} pings, one connection, health message and account",
            "TCP and IP headers besides, estimated, MB": round(2 * packets * HEADER_BYTES / 1e6, 2),
        },
    )  # fmt: skip


async def _measure(directory: Path, broker: Broker) -> dict[str, float]:
    """Bytes both ways of each thing that happens."""
    plan = uniform(buses=4, meters_per_bus=25)
    cost: dict[str, float] = {}
    async with (
        linked(directory, broker, plan=plan, tasks=(CURVE,), profile="metered") as link,
        link.running() as daemon,
    ):
        parts = daemon.parts
        assert parts is not None
        cost["connection"] = await _quiet(link)
        await _until(lambda: parts.schedule.counters.captured >= len(daemon.site.meters))  # the counters are there
        parts.sealer.at_once()
        await _settled(daemon)
        cost["hour"] = sum([await _spent(link, _hour(daemon, hour)) for hour in range(HOURS)]) / HOURS
        cost["health"] = await _spent(link, _health(daemon))
        cost["account"] = await _spent(link, _account(daemon))
    before = session.KEEPALIVE_S["metered"]
    session.KEEPALIVE_S["metered"] = PING_S
    try:
        async with linked(directory / "pings", broker, tasks=(), profile="metered") as link, link.running():
            await asyncio.sleep(4)
            cost["ping"] = await _ping(link)
    finally:
        session.KEEPALIVE_S["metered"] = before
    return cost


def _bytes(link: Link) -> int:
    return link.proxy.counters.up + link.proxy.counters.down


async def _quiet(link: Link) -> int:
    """Wait until nothing passes any more; returns the bytes that have."""
    at, seen = time.monotonic(), -1
    while time.monotonic() - at < 1.6:
        await asyncio.sleep(0.1)
        if _bytes(link) != seen:
            at, seen = time.monotonic(), _bytes(link)
    return seen


async def _ping(link: Link) -> float:
    """The bytes of a ping and its answer, on a session that does nothing else."""
    before, up, pings = _bytes(link), link.proxy.counters.up, 0
    while pings < PINGS:
        await asyncio.sleep(0.02)
        pings += link.proxy.counters.up != up
        up = link.proxy.counters.up
    await asyncio.sleep(0.2)  # the last answer
    return (_bytes(link) - before) / PINGS


async def _spent(link: Link, work: Callable[[], Awaitable[object]]) -> int:
    """The bytes that the work costs, with all that follows from it."""
    before = _bytes(link)
    await work()
    return await _quiet(link) - before


async def _until(so: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S_MAX):
        while not so():  # noqa: ASYNC110 - counters tell nobody
            await asyncio.sleep(0.1)


async def _settled(daemon: Daemon) -> None:
    parts = daemon.parts
    assert parts is not None
    await _until(lambda: not (parts.outbox.unsealed().records or parts.outbox.unsettled))


def _hour(daemon: Daemon, hour: int) -> Callable[[], Awaitable[None]]:
    """An hour of the reference load, sealed and settled."""

    async def work() -> None:
        assert daemon.parts is not None
        shift = hour * 3_600_000
        records = [
            replace(one, slot=(one.slot or 0) + shift, stamp=one.stamp + shift, read_at=one.read_at + shift)
            for one in reference_load(seed=hour)
            if isinstance(one, Capture)
        ]
        await daemon.parts.outbox.append(records, urgent=True)
        await _settled(daemon)

    return work


def _health(daemon: Daemon) -> Callable[[], Awaitable[bool]]:
    parts = daemon.parts
    assert parts is not None
    snapshot = Snapshot(parts, now_ms=wall_ms)
    watch = HealthWatch(
        daemon.site, outbox=parts.outbox, clock=parts.clock, parts=snapshot.counters, facts=snapshot.facts,
        uplink=parts.uplink, progressing=parts.progress, now_ms=wall_ms,
    )  # fmt: skip
    return lambda: parts.uplink.say("health", watch.message(parts.uplink.carries))


def _account(daemon: Daemon) -> Callable[[], Awaitable[None]]:
    """A day's account, and the centre's answer to it."""

    async def work() -> None:
        parts, world = daemon.parts, daemon.world
        assert parts is not None
        day = (TaskDay(task="curve", planned=96, captured=96, gaps=0),)
        meters = tuple(
            MeterDay(meter=meter.id, values=1920, total=hash(meter.id) % (1 << 64), tasks=day)
            for meter in daemon.site.meters
        )
        pieces = [meters[at : at + METERS_MAX] for at in range(0, len(meters), METERS_MAX)]
        for number, piece in enumerate(pieces):
            body = DayPart(since=0, until=86_400_000, cut=wall_ms(), part=number, parts=len(pieces), meters=piece)
            sealed = await parts.sealer.seal_reply(body.encode(), BatchKind.MANIFEST)
            account = Manifest(gateway=world.identity.gateway, epoch=parts.outbox.epoch, day=20_000, plan=bytes(32),
                               sealed=sealed, sent_at=wall_ms())  # fmt: skip
            await parts.uplink.say("manifest", signed(account, kid=world.identity.kid, sign=world.identity.sign))

    return work
