"""The way to the centre: only a signed receipt settles, and nothing that comes down can do harm."""

import asyncio
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.model import TaskEntry, UplinkEntry
from gateway.offers import AGAIN_S, AGAIN_S_MAX, JITTER, UNRECEIPTED_MAX, Offers
from gateway.session import Session, SessionLost, mqtt_sessions, tls_context
from gateway.uplink import KEY_AGAIN_S, Uplink
from identity.centre import Centre
from protocols.messages import Receipt, Reply, Request, State, signed, topic, verified
from simulators import virtual
from simulators.describe import uniform
from tests.broker import Broker, Certificates
from tests.chain import GATEWAY, START, Chain, keys
from tests.gateway_process import settle_on_puback

MINUTE = TaskEntry(name="minute", every_s=60, items=("energy.active.import.total", "voltage.a"))


def chain_of(directory: Path, **settings: object) -> Chain:
    return Chain(directory, uniform(buses=1, meters_per_bus=2), [MINUTE], **settings)  # type: ignore[arg-type]


def receipt(upto: int, *, epoch: int = 7, **more: object) -> Receipt:
    return Receipt(gateway=GATEWAY, epoch=epoch, contiguous_upto=upto, sent_at=0, **more)  # type: ignore[arg-type]


# When a batch is offered again.


@given(st.integers(1, 30), st.integers(0, 1 << 30))
def test_a_batch_is_offered_again_after_a_growing_and_bounded_time(tries: int, seed: int) -> None:
    offers = Offers(Random(seed))
    for _ in range(tries):
        offers.begin((7, 1))
        offers.acknowledged((7, 1), now=1000.0)
    again = offers.next_after(1000.0)
    assert again is not None
    wait = min(AGAIN_S * 2 ** (tries - 1), AGAIN_S_MAX)
    assert wait * (1 - JITTER) <= again - 1000.0 <= wait * (1 + JITTER)
    assert (7, 1) in offers.waiting(again - 1)
    assert (7, 1) not in offers.waiting(again)


def test_a_new_session_begins_the_growing_times_anew() -> None:
    offers = Offers(Random(1))
    for _ in range(6):
        offers.begin((7, 1))
        offers.acknowledged((7, 1), now=0.0)
    offers.lost()
    offers.at_once()
    assert offers.waiting(1.0) == frozenset()
    assert offers.begin((7, 1)) is False
    offers.acknowledged((7, 1), now=1.0)
    again = offers.next_after(1.0)
    assert again is not None
    assert again - 1.0 <= AGAIN_S * (1 + JITTER)


def test_what_a_receipt_covers_is_forgotten_and_nothing_else() -> None:
    offers = Offers(Random(1))
    for seq in range(1, 8):
        offers.begin((7, seq))
        offers.acknowledged((7, seq), now=0.0)
    offers.begin((6, 2))
    assert offers.receipted(receipt(2, ranges=((4, 5),), rejected=((7, "bad_body"),))) == 5
    assert offers.unreceipted == 3
    assert offers.waiting(1.0) == {(7, 3), (7, 6), (6, 2)}


def test_a_hole_in_a_receipt_is_offered_again_at_once_and_each_time_later() -> None:
    offers = Offers(Random(1))
    for seq, at in ((1, 0.0), (2, 0.5), (3, 4.0), (4, 4.1)):
        offers.begin((7, seq))
        offers.acknowledged((7, seq), now=at)
    offers.receipted(receipt(0, ranges=((4, 4),)))
    assert offers.waiting(5.0) == {(7, 3)}, "3 was acknowledged only just before 4: it may still be on its way"
    for seq in (1, 2):
        offers.begin((7, seq))
        offers.acknowledged((7, seq), now=5.0)
    offers.begin((7, 5))
    offers.acknowledged((7, 5), now=9.0)
    offers.receipted(receipt(0, ranges=((4, 5),)))
    assert offers.waiting(10.0) == {(7, 1), (7, 2)}, "3 is a hole now; 1 and 2, offered again, must be 4 s earlier"
    offers.begin((7, 6))
    offers.acknowledged((7, 6), now=9.1)
    offers.receipted(receipt(0, ranges=((4, 6),)))
    assert offers.waiting(10.0) == frozenset()


def test_no_more_is_under_way_than_the_broker_and_the_bounds_allow() -> None:
    offers = Offers(Random(1))
    assert offers.room(16, 0.0) == 16
    for seq in range(UNRECEIPTED_MAX - 3):
        offers.begin((7, seq))
        offers.acknowledged((7, seq), now=0.0)
    assert offers.room(16, 0.0) == 3
    offers.begin((7, 1000))
    assert offers.room(16, 0.0) == 2
    assert offers.room(1, 0.0) == 0


@pytest.mark.slow
def test_a_broker_that_is_away_for_a_day_is_still_tried_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        hourly = TaskEntry(name="hourly", every_s=3600, items=("energy.active.import.total",))
        chain = Chain(tmp_path, uniform(buses=1, meters_per_bus=1), [hourly])
        chain.broker.away = True
        async with chain.running() as daemon:
            await asyncio.sleep(20 * 3600)  # two to the power of as many attempts is no float
            assert daemon.parts is not None
            assert daemon.parts.uplink.counters.lost > 1_100
            chain.broker.away = False
            await chain.drain(daemon)
        truth = chain.truth()
        assert truth.passed, truth.examples
        assert truth.landed == 21  # of every hour, and of the one that had begun
        chain.close()

    virtual.run(scenario(), start_ms=START)


def test_two_gateways_under_one_id_lose_nothing_and_make_no_storm(tmp_path: Path) -> None:
    """Each ends the other's session, for an hour; both count as one of ours would."""

    async def scenario() -> None:
        chain, attempts = chain_of(tmp_path), list[float]()
        loop = asyncio.get_running_loop()

        async def rival() -> None:
            while True:
                try:
                    async with chain.broker.sessions(GATEWAY)(b"{}") as session:
                        async for _ in session.messages():
                            pass
                except SessionLost:
                    await asyncio.sleep(5)

        connect = chain.broker.sessions(GATEWAY)

        def counted(will: bytes) -> AbstractAsyncContextManager[Session]:
            attempts.append(loop.time())
            return connect(will)

        chain.sessions = lambda: counted  # type: ignore[method-assign]
        async with chain.running() as daemon:
            other = loop.create_task(rival())
            await asyncio.sleep(3600)
            assert daemon.parts is not None
            assert daemon.parts.uplink.counters.receipts > 100
            other.cancel()
            await chain.drain(daemon)
        truth = chain.truth()
        assert truth.passed, truth.examples
        most = max(sum(start <= at < start + 60 for at in attempts) for start in attempts)
        assert 4 <= most <= 9
        chain.close()

    virtual.run(scenario(), start_ms=START)


# What comes down.


def test_a_puback_settles_nothing_and_a_receipt_does(tmp_path: Path) -> None:
    async def scenario() -> None:
        chain = chain_of(tmp_path)
        chain.disconnect_centre()
        async with chain.running() as daemon:
            await asyncio.sleep(90)
            assert daemon.parts is not None
            assert daemon.parts.uplink.counters.acknowledged >= 2
            assert daemon.parts.outbox.unsettled >= 2
            chain.broker.lose_held()  # the broker is killed, and with it what it had acknowledged
            chain.connect_centre()
            await chain.drain(daemon)
            assert daemon.parts.outbox.unsettled == 0
            assert daemon.parts.uplink.counters.offered_again >= 2
        truth = chain.truth()
        assert truth.passed, truth.examples
        assert truth.accepted == 4
        chain.close()

    virtual.run(scenario(), start_ms=START)


def test_settling_on_the_puback_loses_what_the_broker_forgets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settle_on_puback(monkeypatch.setattr)

    async def scenario() -> None:
        chain = chain_of(tmp_path)
        chain.disconnect_centre()
        async with chain.running() as daemon:
            await asyncio.sleep(90)
            assert chain.broker.lose_held() >= 3
            chain.connect_centre()
            await chain.drain(daemon)
        assert chain.truth().missing == 4
        chain.close()

    virtual.run(scenario(), start_ms=START)


def test_nothing_forged_or_damaged_settles_a_batch_or_stops_the_uplink(tmp_path: Path) -> None:
    async def scenario() -> None:
        chain = chain_of(tmp_path)
        chain.disconnect_centre()
        async with chain.running() as daemon:
            await asyncio.sleep(20)
            assert daemon.parts is not None
            parts, down = daemon.parts, topic(GATEWAY, "down", "receipt")
            unsettled = parts.outbox.unsettled
            assert unsettled
            truly = receipt(1000, epoch=parts.outbox.epoch)
            stranger = keys()[0]
            messages = [
                (down, b""),
                (down, b"\xff" * 40),
                (down, truly.encode()),
                (down, signed(truly, kid=stranger.kid, sign=stranger.sign)),
                (down, signed(truly, kid=chain.centre.kid, sign=stranger.sign)),
                (down, _request(chain, "read_now")),
                (down, _other_gateway(chain.centre, parts.outbox.epoch)),
                (topic(GATEWAY, "up", "state"), b"{}"),
            ]
            for name, payload in messages:
                chain.broker.deliver(name, payload)
            await asyncio.sleep(1)
            assert parts.uplink.counters.malformed == len(messages)
            assert parts.outbox.unsettled == unsettled
            chain.connect_centre()
            await chain.drain(daemon)
        assert chain.truth().passed
        chain.close()

    virtual.run(scenario(), start_ms=START)


def _other_gateway(centre: Centre, epoch: int) -> bytes:
    other = Receipt(gateway="gw-other", epoch=epoch, contiguous_upto=1000, sent_at=0)
    return signed(other, kid=centre.kid, sign=centre.sign)


def _request(chain: Chain, action: str, *, number: int = 1, **arguments: str) -> bytes:
    now = virtual.now_ms()
    request = Request(
        gateway=GATEWAY, request=number.to_bytes(16, "big"), action=action, arguments=arguments, sent_at=now,
        expires_at=now + 60_000,
    )  # fmt: skip
    return signed(request, kid=chain.centre.kid, sign=chain.centre.sign)


def test_a_centre_that_lost_its_keys_is_sent_them_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        chain = chain_of(tmp_path)
        receive = chain.landing.receive
        dropped: list[bytes] = []

        def deaf_to_keys(name: str, payload: bytes) -> None:
            if name.endswith("/key") and not dropped:
                dropped.append(payload)
            else:
                receive(name, payload)

        chain.broker.attach(deaf_to_keys)
        async with chain.running() as daemon:
            await asyncio.sleep(50)
            await chain.drain(daemon)
            assert dropped
            assert daemon.parts is not None
            assert daemon.parts.uplink.counters.keys_asked >= 1
        assert chain.truth().passed
        chain.close()

    virtual.run(scenario(), start_ms=START)


def test_a_key_that_was_asked_for_too_soon_is_sent_when_it_may_be(tmp_path: Path) -> None:
    """A gateway that greets before the centre has ever subscribed: the ask comes right after the key was sent."""

    async def scenario() -> None:
        chain = chain_of(tmp_path)
        receive = chain.landing.receive
        keys_sent: list[float] = []

        def deaf_to_the_first_key(name: str, payload: bytes) -> None:
            if name.endswith("/key"):
                keys_sent.append(asyncio.get_running_loop().time())
            if not name.endswith("/key") or len(keys_sent) > 1:
                receive(name, payload)

        chain.broker.attach(deaf_to_the_first_key)
        async with chain.running() as daemon:
            await asyncio.sleep(2 * KEY_AGAIN_S)
            assert daemon.parts is not None
            assert daemon.parts.uplink.counters.acknowledged > 0
            assert daemon.parts.uplink.unreceipted == 0
            assert daemon.parts.uplink.counters.offered_again == 0
            await asyncio.sleep(10 * KEY_AGAIN_S)
        assert len(keys_sent) == 2
        assert keys_sent[1] - keys_sent[0] == pytest.approx(KEY_AGAIN_S, abs=0.1)
        chain.close()

    virtual.run(scenario(), start_ms=START)


def test_a_rejected_batch_is_sealed_again_and_lands(tmp_path: Path) -> None:
    async def scenario() -> None:
        chain = chain_of(tmp_path)
        chain.disconnect_centre()
        async with chain.running() as daemon:
            await asyncio.sleep(10)
            assert daemon.parts is not None
            parts = daemon.parts
            chain.broker.lose_held()
            rejection = receipt(1, epoch=parts.outbox.epoch, rejected=((1, "bad_body"),))
            chain.broker.deliver(
                topic(GATEWAY, "down", "receipt"),
                signed(rejection, kid=chain.centre.kid, sign=chain.centre.sign),
            )
            await asyncio.sleep(5)
            assert parts.uplink.counters.rejected == 1
            chain.broker.lose_held()
            chain.connect_centre()
            chain.broker.drop(GATEWAY)
            await asyncio.sleep(5)
            await chain.drain(daemon)
        truth = chain.truth()
        assert truth.passed, truth.examples
        chain.close()

    virtual.run(scenario(), start_ms=START)


def test_the_state_is_retained_and_the_will_speaks_for_a_gateway_that_is_lost(tmp_path: Path) -> None:
    async def scenario() -> None:
        chain = chain_of(tmp_path)
        where = topic(GATEWAY, "up", "state")
        async with chain.running():
            await asyncio.sleep(5)
            assert State.decode(chain.broker.retained[where]).online
            chain.broker.drop(GATEWAY)
            assert not State.decode(chain.broker.retained[where]).online
            await asyncio.sleep(5)
            assert State.decode(chain.broker.retained[where]).online
        assert not State.decode(chain.broker.retained[where]).online
        chain.close()

    virtual.run(scenario(), start_ms=START)


# Requests.


def test_a_meter_is_read_on_request_and_the_reading_lands_too(tmp_path: Path) -> None:
    async def scenario() -> None:
        chain = chain_of(tmp_path)
        replies: list[Reply] = []
        verify = chain.identity.public.verify

        def hear(name: str, payload: bytes) -> None:
            if name.endswith("/reply"):
                replies.append(verified(Reply, payload, gateway=GATEWAY, verify=verify))
            chain.landing.receive(name, payload)

        chain.broker.attach(hear)
        where = topic(GATEWAY, "down", "request")
        async with chain.running() as daemon:
            await asyncio.sleep(20)
            meter = chain.site.meters[0].id
            for number, (action, arguments) in enumerate(
                [
                    ("read_now", {"meter": meter, "items": "current.a;frequency"}),
                    ("read_now", {"meter": "nobody", "items": "current.a"}),
                    ("read_now", {"meter": meter, "items": "weather"}),
                    ("dance", {}),
                ]
            ):
                request = _request(chain, action, number=number, **arguments)
                chain.broker.deliver(where, request)
                chain.broker.deliver(where, request)  # twice: obeyed once
            await asyncio.sleep(30)
            assert [reply.status for reply in replies] == ["done", "refused", "refused", "unknown"]
            assert replies[0].sealed
            assert daemon.parts is not None
            assert daemon.parts.commands.counters.repeated == 4
            await chain.drain(daemon)
        rows = [row for row in chain.sink.readings() if row.task == "read_now"]
        assert {row.quantity for row in rows} == {"current.a", "frequency"}
        assert all(row.slot is None for row in rows)
        chain.close()

    virtual.run(scenario(), start_ms=START)


def test_a_reply_longer_than_the_broker_carries_comes_without_what_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        chain = chain_of(tmp_path)
        replies: list[Reply] = []

        def hear(name: str, payload: bytes) -> None:
            if name.endswith("/reply"):
                replies.append(verified(Reply, payload, gateway=GATEWAY, verify=chain.identity.public.verify))
            chain.landing.receive(name, payload)

        chain.broker.attach(hear)
        monkeypatch.setattr(Uplink, "carries", 300)
        async with chain.running() as daemon:
            await asyncio.sleep(20)
            meter = chain.site.meters[0]
            asked = sorted(daemon.parts.meters[meter.id].profile.items)[:64] if daemon.parts is not None else []
            request = _request(chain, "read_now", meter=meter.id, items=";".join(asked))
            chain.broker.deliver(topic(GATEWAY, "down", "request"), request)
            await asyncio.sleep(40)
            assert len(replies) == 1 and not replies[0].sealed
            assert "too long" in replies[0].detail
            await chain.drain(daemon)
        assert len([row for row in chain.sink.readings() if row.task == "read_now"]) > 10, "it comes in a batch"
        chain.close()

    virtual.run(scenario(), start_ms=START)


# A real broker.


def test_a_session_with_a_real_broker_publishes_hears_and_is_lost_when_it_dies(mosquitto: None, broker: Broker) -> None:
    entry = UplinkEntry(url=broker.url)
    _use_and_kill(broker, entry)


def test_a_session_over_tls_with_certificates_does_the_same(tls_broker: Broker, certificates: Certificates) -> None:
    issued = certificates.client(GATEWAY)
    _use_and_kill(
        tls_broker, UplinkEntry(url=tls_broker.url, ca=certificates.ca, certificate=issued.certificate, key=issued.key)
    )


def _use_and_kill(broker: Broker, entry: UplinkEntry) -> None:
    connect = mqtt_sessions(entry, GATEWAY)
    will = State(gateway=GATEWAY, online=False, epoch=1, at=1).encode()

    async def use_and_kill() -> None:
        async with connect(will) as session, asyncio.timeout(20):
            for n in range(20):
                await session.publish(topic(GATEWAY, "up", "batch"), b"x" * 1000 * n)
            await session.publish(topic(GATEWAY, "up", "state"), will, retain=True)
            broker.kill()
            async for name, _ in session.messages():
                raise AssertionError(f"nobody said anything, and {name} came")

    async def find_nobody() -> None:
        async with connect(will):
            raise AssertionError("there is no broker")

    with pytest.raises(SessionLost):
        asyncio.run(use_and_kill())
    with pytest.raises(SessionLost):
        asyncio.run(find_nobody())


def test_a_tls_key_that_others_can_read_is_refused(certificates: Certificates, tmp_path: Path) -> None:
    issued = certificates.client(GATEWAY)
    key = tmp_path / "key.pem"
    key.write_bytes(issued.key.read_bytes())
    key.chmod(0o644)
    entry = UplinkEntry(url="mqtts://localhost:8883", ca=certificates.ca, certificate=issued.certificate, key=key)
    with pytest.raises(PermissionError, match="0644"):
        tls_context(entry)
    key.unlink()
    with pytest.raises(FileNotFoundError, match=r"key\.pem"):
        tls_context(entry)
