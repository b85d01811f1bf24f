"""Talking to the broker: TLS, clients of either MQTT version, and a short talk (connect, subscribe, publish, hear).

The subscriber keeps a client of its own for as long as it runs; a canary or a request from the command line is a talk.
"""

import ssl
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion

from central.config import BrokerEntry
from identity.client import client_context

KEEPALIVE_S = 60
CONNECT_S_MAX = 20
"""From the first packet to the last SUBACK."""
Version = MQTTProtocolVersion


class BrokerAway(Exception):
    """The broker cannot be reached, refuses us, or does not answer; with words for people."""


def tls_context(broker: BrokerEntry) -> ssl.SSLContext | None:
    """TLS 1.2 or later with certificates on both sides; None for mqtt. Raises OSError where a file is not right."""
    if not broker.url.startswith("mqtts:"):
        return None
    return client_context(ca=broker.ca, certificate=broker.certificate, key=broker.key)


def address(broker: BrokerEntry) -> tuple[str, int]:
    """Host and port."""
    url = urlsplit(broker.url)
    assert url.hostname is not None  # the file was checked
    assert url.port is not None
    return url.hostname, url.port


def make_client(
    tls: ssl.SSLContext | None, version: Version, client_id: str, *, manual_ack: bool, clean: bool
) -> mqtt.Client:
    """A client that does not connect again by itself. clean: of 3.1.1; MQTT 5 says it with each CONNECT."""
    client = mqtt.Client(
        CallbackAPIVersion.VERSION2, client_id=client_id, protocol=version,
        clean_session=None if version is MQTTProtocolVersion.MQTTv5 else clean, manual_ack=manual_ack,
        reconnect_on_failure=False,
    )  # fmt: skip
    client.connect_timeout = CONNECT_S_MAX
    if tls is not None:
        client.tls_set_context(tls)
    return client


class Talk:
    """A connection for a moment: a session that the broker forgets. A context manager; raises BrokerAway."""

    def __init__(self, broker: BrokerEntry, tls: ssl.SSLContext | None, version: Version, client_id: str) -> None:
        self._broker = broker
        self._client = make_client(tls, version, client_id, manual_ack=False, clean=True)
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_disconnect = lambda *arguments: self._answers.put(f"disconnected: {arguments[3]}")
        self._client.on_message = lambda _, __, message: self.messages.put((message.topic, bytes(message.payload)))
        self._answers: SimpleQueue[str] = SimpleQueue()
        self.messages: SimpleQueue[tuple[str, bytes]] = SimpleQueue()
        """(topic, payload) of what came, in its order."""

    def __enter__(self) -> Self:
        try:
            self._client.connect(*address(self._broker), KEEPALIVE_S)
        except (OSError, ValueError) as error:
            raise BrokerAway(f"{self._broker.url}: {error}") from error
        self._client.loop_start()
        try:
            self._answer("no answer")
        except BaseException:
            self._client.loop_stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def subscribe(self, topic: str) -> None:
        """Subscribe with QoS 1. Raises BrokerAway where it is not granted."""
        self._client.subscribe(topic, 1)
        self._answer(f"no answer to the subscription of {topic}")

    def publish(self, topic: str, payload: bytes) -> None:
        """Publish with QoS 1 and wait for the PUBACK."""
        sent = self._client.publish(topic, payload, qos=1)
        if sent.rc is not MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise BrokerAway(f"{self._broker.url}: not sent: {mqtt.error_string(sent.rc)}")
        sent.wait_for_publish(CONNECT_S_MAX)
        if not sent.is_published():
            raise BrokerAway(f"{self._broker.url}: not acknowledged within {CONNECT_S_MAX} s")

    def _answer(self, otherwise: str) -> None:
        try:
            wrong = self._answers.get(timeout=CONNECT_S_MAX)
        except Empty:
            wrong = otherwise
        if wrong:
            raise BrokerAway(f"{self._broker.url}: {wrong}")

    def _on_connect(self, _: mqtt.Client, __: Any, ___: Any, reason: Any, ____: Any) -> None:
        self._answers.put(f"refused: {reason}" if reason.is_failure else "")

    def _on_subscribe(self, _: mqtt.Client, __: Any, ___: int, reasons: Any, ____: Any) -> None:
        refused = [str(reason) for reason in reasons if reason.is_failure]
        self._answers.put(f"subscription refused: {refused[0]}" if refused else "")
