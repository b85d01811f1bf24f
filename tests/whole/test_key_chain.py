"""Keys change while a backlog waits, in virtual time: whatever the order, each reading lands once."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from config.model import TaskEntry
from gateway.keys import DataKeys, Renewal
from identity import rotation
from identity.centre import Centre
from identity.gateway import CentreTrust, GatewayIdentity
from identity.trust import Revoked, revoke, trust
from protocols.suites import contents
from simulators import virtual
from simulators.describe import uniform
from simulators.virtual import now_ms
from tests.chain import GATEWAY, START, Chain

MINUTE = TaskEntry(name="minute", every_s=60, items=("energy.active.import.total", "voltage.a"))
MIDNIGHT = START + (24 * 60 - (22 * 60 + 15)) * 60_000
"""Of the site, after START."""


def new_centre(*, keep: Centre | None = None) -> Centre:
    """A centre with new keys (P-256 for HPKE: quickly made). keep: one whose wrapping keys it still has."""
    made = Centre.of(ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1()))
    return made if keep is None else replace(made, openers={**keep.openers, **made.openers})


def seat(chain: Chain, centre: Centre) -> None:
    """Put another centre in the place of the one that is there; it believes the gateway's keys of now."""
    chain.disconnect_centre()
    chain.centre = centre
    chain.landing = chain._open_landing()
    chain.connect_centre()


def live(tmp_path: Path, story: Callable[[Chain], Awaitable[None]], *, start: int = START) -> None:
    """Live through the story, and find that each reading landed once."""

    async def whole() -> None:
        chain = Chain(tmp_path, uniform(buses=1, meters_per_bus=3), [MINUTE])
        await story(chain)
        truth = chain.truth()
        assert truth.passed, truth.examples
        assert truth.gaps == 0
        assert truth.landed == 2 * truth.accepted
        assert truth.accepted >= 3 * 10
        chain.close()

    virtual.run(whole(), start_ms=start)


async def backlog(chain: Chain) -> None:
    """Ten minutes of readings that the broker acknowledged and the centre never saw."""
    chain.disconnect_centre()
    await chain.run(600)


@pytest.mark.parametrize("held", [True, False], ids=["the broker kept it", "the broker lost it"])
def test_the_centres_key_destroyed_in_mid_backlog_loses_nothing(tmp_path: Path, held: bool) -> None:
    async def story(chain: Chain) -> None:
        await backlog(chain)
        if not held:
            chain.broker.lose_held()
        centre = new_centre()
        chain.trust = CentreTrust.of(centre.public)
        seat(chain, centre)
        async with chain.running() as daemon:
            await chain.drain(daemon)
            assert daemon.parts is not None
            counters = daemon.parts.sealer.keys.counters
            assert counters.resealed >= 10 and counters.renewed == 0
            assert daemon.parts.outbox.counters.get("parked", 0) == 0
            assert daemon.parts.outbox.voided() == [], "the centre has closed the numbers that will not come"
        assert chain.landing.counters["voided"] == counters.resealed

    live(tmp_path, story)


def test_without_sealing_again_a_destroyed_key_holds_the_backlog_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of the test above."""

    async def only_send(keys: DataKeys, kids: frozenset[bytes]) -> Renewal:
        records = {entry.kid: entry.message for entry in keys._outbox.key_records() if entry.kid in kids}
        return Renewal(records=records, resealed=0)

    async def story() -> None:
        chain = Chain(tmp_path, uniform(buses=1, meters_per_bus=3), [MINUTE])
        await backlog(chain)
        centre = new_centre()
        chain.trust = CentreTrust.of(centre.public)
        seat(chain, centre)
        monkeypatch.setattr(DataKeys, "renew", only_send)
        async with chain.running() as daemon:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(900):
                    await chain.drain(daemon)
        assert not chain.truth().passed
        chain.close()

    virtual.run(story(), start_ms=START)


def test_a_backlog_under_a_retired_key_opens_as_it_is(tmp_path: Path) -> None:
    async def story(chain: Chain) -> None:
        await backlog(chain)
        centre = new_centre(keep=chain.centre)
        chain.trust = CentreTrust.of(centre.public)
        seat(chain, centre)
        async with chain.running() as daemon:
            await chain.drain(daemon)
            assert daemon.parts is not None
            counters = daemon.parts.sealer.keys.counters
            assert (counters.resealed, counters.renewed) == (0, 0)

    live(tmp_path, story)


def _believing(tmp_path: Path, chain: Chain) -> Path:
    """The chain's gateway, with its keys and its trust in files."""
    home = tmp_path / "keys"
    chain.identity = GatewayIdentity.create(home, GATEWAY)
    trust(home, chain.centre.public)
    chain.trust = CentreTrust.load(home)
    seat(chain, chain.centre)
    return home


@pytest.mark.parametrize("minutes_before_midnight", [60, 5], ids=["the key of now", "yesterday's key too"])
def test_a_new_centre_that_a_running_gateway_comes_to_trust_gets_everything(
    tmp_path: Path, minutes_before_midnight: int
) -> None:
    """The key of now is wrapped again; what was sealed under yesterday's, which is gone, is sealed again."""

    async def story(chain: Chain) -> None:
        home = _believing(tmp_path, chain)
        chain.disconnect_centre()
        async with chain.running() as daemon:
            await asyncio.sleep(600)
            centre = new_centre()
            seat(chain, centre)
            await asyncio.sleep(60)
            assert trust(home, centre.public, replace=True) == "replaced"
            await chain.drain(daemon)
            assert daemon.parts is not None
            counters = daemon.parts.sealer.keys.counters
            assert counters.renewed == 1
            assert (counters.resealed > 0) == (minutes_before_midnight < 10)

    live(tmp_path, story, start=MIDNIGHT - minutes_before_midnight * 60_000)


def test_a_gateways_key_rotated_and_revoked_in_mid_backlog_loses_nothing(tmp_path: Path) -> None:
    async def story(chain: Chain) -> None:
        home = _believing(tmp_path, chain)
        await backlog(chain)
        before = chain.identity.kid
        rotation.prepare(home)
        rotation.rotate(home)
        after = GatewayIdentity.load(home, GATEWAY)
        assert after.kid != before
        chain.identity = replace(after, public=after.public.without(frozenset({before})))
        chain.trust = CentreTrust.load(home)
        seat(chain, chain.centre)
        async with chain.running() as daemon:
            await chain.drain(daemon)
            assert daemon.parts is not None
            counters = daemon.parts.sealer.keys.counters
            assert counters.renewed >= 1 and counters.resealed == 0
        assert chain.landing.counters["aside.forged"] >= 1, "what the revoked key had signed was refused first"

    live(tmp_path, story)


def test_a_revoked_centre_settles_nothing_more(tmp_path: Path) -> None:
    async def story(chain: Chain) -> None:
        home = _believing(tmp_path, chain)
        thief, second = chain.centre, new_centre()
        trust(home, replace(second.public, id="second"))
        async with chain.running() as daemon:
            await asyncio.sleep(300)
            assert daemon.parts is not None
            revoke(home, {kid: Revoked(role="centre", id="centre", at=now_ms()) for kid in thief.public.kids})
            settled = daemon.parts.uplink.counters.settled_batches
            await asyncio.sleep(300)
            assert settled > 0 and daemon.parts.uplink.counters.settled_batches == settled
            seat(chain, second)
            await chain.drain(daemon)

    live(tmp_path, story)


def test_a_suite_that_the_centre_does_not_accept_waits_until_it_does(tmp_path: Path) -> None:
    async def story(chain: Chain) -> None:
        chain.site = replace(chain.site, suite="sm")
        async with chain.running() as daemon:
            await asyncio.sleep(300)
            assert not list(chain.sink.readings())
            assert chain.landing.counters["aside.suite"] >= 1
            assert chain.landing.counters["batches.landed"] == 0
            seat(chain, replace(chain.centre, accepted=contents(("aes", "sm"))))
            await asyncio.sleep(300)
            await chain.drain(daemon)
        assert chain.landing.counters["batches.landed"] > 0

    live(tmp_path, story)
