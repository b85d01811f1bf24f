"""A session with real brokers: MQTT 5 where it is spoken, 3.1.1 where it is not."""

import asyncio
import contextlib

import aiomqtt
import pytest

from config.model import UplinkEntry
from gateway.session import SessionLost, mqtt_sessions
from protocols.topics import topic
from tests.broker import Broker, running_broker

GATEWAY = "gw-session"
TRIES = 3


async def heard(broker: Broker, *, tries: int = TRIES) -> bytes:
    """Publish on our own down topic, as the centre would, and return what the session hears."""
    sessions = mqtt_sessions(UplinkEntry(url=broker.url), GATEWAY)
    for _ in range(tries):
        with contextlib.suppress(SessionLost):
            async with sessions(b"{}") as session:
                await session.publish(topic(GATEWAY, "down", "receipt"), b"said")
                async for where, payload in session.messages():
                    assert where == topic(GATEWAY, "down", "receipt")
                    return payload
    raise AssertionError(f"no session in {tries} tries")


@pytest.mark.slow
@pytest.mark.real
def test_a_session_is_had_with_the_broker_at_hand(broker: Broker) -> None:
    assert asyncio.run(asyncio.wait_for(heard(broker), 40)) == b"said"


@pytest.mark.slow
@pytest.mark.real
def test_a_broker_that_speaks_only_3_1_1_is_spoken_to_in_3_1_1() -> None:
    with running_broker(mosquitto=False) as rumqttd:
        assert asyncio.run(asyncio.wait_for(heard(rumqttd), 30)) == b"said"


@pytest.mark.slow
@pytest.mark.real
def test_a_reset_before_the_first_word_is_a_hang_up_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine the broker's reset is there before paho has sent its CONNECT."""
    connect, greeted = aiomqtt.Client._client_connect, list[bool]()

    def resetting(self: aiomqtt.Client) -> None:
        greeted.append(True)
        if len(greeted) == 1:
            raise ConnectionResetError(104, "Connection reset by peer")
        connect(self)

    monkeypatch.setattr(aiomqtt.Client, "_client_connect", resetting)
    with running_broker(mosquitto=False) as rumqttd:
        assert asyncio.run(asyncio.wait_for(heard(rumqttd, tries=2), 30)) == b"said"
    assert len(greeted) == 2
