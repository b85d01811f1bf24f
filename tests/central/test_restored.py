"""A centre restored from a backup ends complete: it finds out what it has settled and lost, and asks for it again."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from central.landing import Landing
from central.restored import LASTS_MS, MARGIN_MS, PATIENCE_MS, Restored
from central.sinks.sqlite import SqliteSink
from config.model import SerialSettings, TaskEntry
from identity.gateway import CentreTrust
from protocols.messages import Hello, Reply, Request, signed, topic, verified
from simulators import virtual
from simulators.describe import uniform
from tests.central.test_landing import capture
from tests.chain import START, Chain
from tests.fleet import NOW, Gateway, centre, identity, trust

CURVE = TaskEntry(name="curve", every_s=900, items=("voltage.a", "energy.active.import.total"))
HOUR_S = 3600


async def lose_two_hours(directory: Path, *, one_epoch: bool, sessions_last: bool = False) -> Chain:
    """A site whose centre loses the third and fourth hour of five to a backup that is restored."""
    plan = uniform(buses=2, meters_per_bus=3, profile="acrel-dtsd1352", serial=SerialSettings(baud=9600, parity="E"))
    chain = Chain(directory, plan, [CURVE])
    backup = directory / "backup.db"
    async with chain.running() as daemon:
        await asyncio.sleep(2 * HOUR_S)
        chain.back_up(backup)
        await asyncio.sleep(2 * HOUR_S)
        if one_epoch:
            chain.restore(backup, sessions_last=sessions_last)
            await asyncio.sleep(HOUR_S)
            await chain.drain(daemon)
    if not one_epoch:
        async with chain.running() as daemon:  # a new epoch, part of which is lost too
            await asyncio.sleep(HOUR_S)
            chain.restore(backup, sessions_last=sessions_last)
            await asyncio.sleep(HOUR_S)
            await chain.drain(daemon)
    return chain


@pytest.mark.slow
@pytest.mark.parametrize("sessions_last", [False, True], ids=["sessions break", "sessions last"])
@pytest.mark.parametrize("one_epoch", [True, False], ids=["one epoch", "two epochs"])
def test_a_centre_restored_from_a_backup_ends_complete(tmp_path: Path, one_epoch: bool, sessions_last: bool) -> None:
    async def run() -> None:
        chain = await lose_two_hours(tmp_path, one_epoch=one_epoch, sessions_last=sessions_last)
        assert chain.landing.counters["requests"] == 1
        truth = chain.truth()
        assert truth.passed, truth
        assert chain.landing.counters["readings.conflicting"] == 0
        chain.close()

    virtual.run(run(), start_ms=START)


@pytest.mark.slow
def test_without_asking_again_it_stays_incomplete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: what is settled is not offered again by itself."""
    monkeypatch.setattr(Restored, "notice", lambda self, hello: None)

    async def run() -> None:
        chain = await lose_two_hours(tmp_path, one_epoch=True)
        assert not chain.truth().passed
        chain.close()

    virtual.run(run(), start_ms=START)


def test_it_is_complete_within_seconds_of_the_next_batch_also_while_sessions_last(tmp_path: Path) -> None:
    async def run() -> None:
        chain = Chain(tmp_path, uniform(buses=1, meters_per_bus=2), [CURVE])
        backup = tmp_path / "backup.db"
        async with chain.running() as daemon:
            await asyncio.sleep(600)
            chain.back_up(backup)
            await asyncio.sleep(4 * 900)
            assert daemon.parts is not None
            chain.restore(backup, sessions_last=True)
            assert chain.truth().missing == 2 * 4
            await asyncio.sleep(900 + 30)
            assert daemon.parts.uplink.counters.sessions == 1
            assert chain.truth().missing == 0
            await asyncio.sleep(HOUR_S)
            assert chain.landing.counters["hellos"] == 1, "and once is enough"
        chain.close()

    virtual.run(run(), start_ms=START)


class Clock:
    def __init__(self) -> None:
        self.ms = NOW

    def __call__(self) -> int:
        return self.ms


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[SqliteSink]:
    opened = SqliteSink(tmp_path / "central.db")
    yield opened
    opened.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def landing(sink: SqliteSink, clock: Clock) -> Landing:
    return Landing(sink, centre=centre(), gateways=trust("gw-0001"), now_ms=clock)


def hello(gateway: Gateway, *, first_unsettled: int, voided: tuple[tuple[int, int], ...] = ()) -> tuple[str, bytes]:
    said = Hello(
        gateway=gateway.id, epoch=gateway.epoch, first_unsettled=first_unsettled, next_seq=first_unsettled + 3,
        voided=voided, pending=0, oldest_at=None, sent_at=NOW,
    )  # fmt: skip
    who = identity(gateway.id)
    return topic(gateway.id, "up", "hello"), signed(said, kid=who.kid, sign=who.sign)


def reply(gateway: Gateway, request: Request, status: str) -> tuple[str, bytes]:
    said = Reply(gateway=gateway.id, epoch=gateway.epoch, request=request.request, status=status, sent_at=NOW)
    who = identity(gateway.id)
    return topic(gateway.id, "up", "reply"), signed(said, kid=who.kid, sign=who.sign)


def requests(landing: Landing, gateway: Gateway) -> list[Request]:
    """What the gateway is asked, as it reads it."""
    verify = CentreTrust.of(centre().public).verify
    return [
        verified(Request, payload, gateway=gateway.id, verify=verify)
        for on, payload in landing.receipts()
        if on == topic(gateway.id, "down", "request")
    ]


def test_nothing_is_asked_where_nothing_is_lost(landing: Landing) -> None:
    gateway = Gateway()
    for message in (
        gateway.key(),
        gateway.batch(1, [capture(1)]),
        gateway.batch(2, [capture(2)]),
        gateway.sealed(3, b""),
    ):
        landing.receive(*message)
    landing.receive(*hello(gateway, first_unsettled=3))
    landing.receive(*hello(gateway, first_unsettled=5, voided=((gateway.epoch, 3), (gateway.epoch, 4))))
    assert requests(landing, gateway) == []


def test_what_was_settled_and_is_not_here_is_asked_for_since_the_last_that_is(landing: Landing) -> None:
    gateway = Gateway()
    for message in (gateway.key(), gateway.batch(1, [capture(1)]), gateway.batch(3, [capture(3)])):
        landing.receive(*message)
    landing.receive(*hello(gateway, first_unsettled=3))
    (asked,) = requests(landing, gateway)
    assert asked.action == "send_again"
    last_known = capture(1).read_at
    assert asked.arguments["since"] == min(last_known, NOW) - MARGIN_MS
    assert int(asked.arguments["until"]) > NOW
    landing.receive(*reply(gateway, asked, "done"))
    ((_, payload),) = landing.receipts()
    assert gateway.receipt(payload).contiguous_upto == 3, "what is lost is closed"
    landing.receive(*hello(gateway, first_unsettled=3))
    assert requests(landing, gateway) == []


def test_a_gateway_of_which_nothing_is_known_sends_all_it_has(landing: Landing) -> None:
    gateway = Gateway()
    landing.receive(*hello(gateway, first_unsettled=2))
    (asked,) = requests(landing, gateway)
    assert asked.arguments["since"] == 0


def test_one_that_does_not_answer_is_asked_again_when_it_says_something(landing: Landing, clock: Clock) -> None:
    gateway = Gateway()
    landing.receive(*hello(gateway, first_unsettled=2))
    assert len(requests(landing, gateway)) == 1
    landing.receive(*hello(gateway, first_unsettled=2))
    landing.receive(*gateway.key())
    assert requests(landing, gateway) == []
    clock.ms += LASTS_MS + 1
    landing.receive(*gateway.key())
    assert len(requests(landing, gateway)) == 1


def test_one_that_cannot_is_left_in_peace_for_an_hour(landing: Landing, clock: Clock) -> None:
    gateway = Gateway()
    landing.receive(*hello(gateway, first_unsettled=2))
    (asked,) = requests(landing, gateway)
    landing.receive(*reply(gateway, asked, "unknown"))
    clock.ms += PATIENCE_MS - 1
    landing.receive(*hello(gateway, first_unsettled=2))
    assert requests(landing, gateway) == []
    clock.ms += 2
    landing.receive(*hello(gateway, first_unsettled=2))
    assert len(requests(landing, gateway)) == 1


def test_an_answer_that_nobody_asked_for_closes_nothing(landing: Landing) -> None:
    gateway = Gateway()
    landing.receive(*hello(gateway, first_unsettled=2))
    (asked,) = requests(landing, gateway)
    other = Request(gateway=gateway.id, request=b"r" * 16, action="send_again", sent_at=NOW, expires_at=NOW)
    landing.receive(*reply(gateway, other, "done"))
    landing.receive(*reply(gateway, asked, "done"))
    landing.receive(*reply(gateway, asked, "done"))
    assert (landing.counters["replies"], landing.counters["replies.unasked"]) == (1, 2)
