"""A session with the broker: publish, and hear what comes down. Here over aiomqtt; see memory_session for the other.

The outbox is the only queue. A session therefore keeps nothing: every connection is made with a fresh client, and what
it had in flight is offered again by the uplink. (paho resends all at once on reconnecting, and reuses packet ids.)
"""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol
from urllib.parse import urlsplit

import aiomqtt
from paho.mqtt.client import MQTT_CLEAN_START_FIRST_ONLY

from config.model import UplinkEntry
from identity.client import client_context
from protocols.topics import DOWN, topic

log = logging.getLogger(__name__)

PATIENCE_S = 30.0
"""How long a publish may go unanswered, where the caller does not know better."""
CONNECT_TIMEOUT_S = 20.0
"""Bounds the wait for the broker's CONNACK and SUBACK."""
KEEPALIVE_S = {"prompt": 60, "metered": 240}
"""Pings on an idle connection; carriers forget one after about 5 minutes (recalled), and bill each ping."""
IN_FLIGHT_MAX = 16
"""Publishes that may await their PUBACK at once; a broker with a smaller Receive Maximum lowers it."""
PACKET_BYTES_MAX = 268_435_460
"""What MQTT can say the length of; a broker may carry less, and one of MQTT 5 says so."""
FRAMING_BYTES_MAX = 64
"""Of a publish besides its payload: a topic of ours takes up to 53 bytes, MQTT itself 10."""
INCOMING_MAX = 256
"""Messages from the centre that wait to be looked at. Receipts repeat themselves, so what is dropped comes again."""


class SessionLost(Exception):
    """There is no connection, or no more: make a new one after a while."""


class Session(Protocol):
    """A live connection."""

    in_flight_max: int
    """Publishes that may be under way at once."""
    message_bytes_max: int
    """What is longer the broker does not carry: it would end the session."""

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False, within_s: float = PATIENCE_S) -> None:
        """Publish with QoS 1; returns at the PUBACK, which paces us and promises nothing.

        Raises SessionLost, also when there is none within this time: the connection is dead.
        """
        ...

    def messages(self) -> AsyncIterator[tuple[str, bytes]]:
        """What comes on the gateway's down topics: (topic, payload). Ends by raising SessionLost."""
        ...


SessionFactory = Callable[[bytes], AbstractAsyncContextManager[Session]]
"""Makes a connection that has subscribed to the gateway's down topics. The argument is the will: the retained state
that the broker gives out when the gateway is lost. Entering raises SessionLost."""


def tls_context(uplink: UplinkEntry) -> ssl.SSLContext:
    """TLS 1.2 or later, both sides with certificates. Raises OSError where a file is not right."""
    return client_context(ca=uplink.ca, certificate=uplink.certificate, key=uplink.key)


class _Client(aiomqtt.Client):
    """An aiomqtt client that also tells what it otherwise keeps to itself."""

    receive_max = IN_FLIGHT_MAX
    packet_bytes_max = PACKET_BYTES_MAX
    hung_up = False
    """Whether the connection was closed before there was a CONNACK."""

    def _on_connect(self, client: Any, userdata: Any, flags: Any, reason_code: Any, properties: Any = None) -> None:
        self.receive_max = getattr(properties, "ReceiveMaximum", IN_FLIGHT_MAX)
        self.packet_bytes_max = getattr(properties, "MaximumPacketSize", PACKET_BYTES_MAX)
        super()._on_connect(client, userdata, flags, reason_code, properties)

    def _on_disconnect(self, client: Any, userdata: Any, flags: Any, reason_code: Any, properties: Any = None) -> None:
        """aiomqtt waits out its time for a broker that hangs up before it has answered: here it need not."""
        if not self._connected.done():
            self.hung_up = True
            self._connected.set_exception(aiomqtt.MqttError("hung up before it answered"))
            self._connected.exception()  # whoever waits is told; one that nobody asks any more would complain
            return
        super()._on_disconnect(client, userdata, flags, reason_code, properties)
        if self._disconnected.done():
            self._disconnected.exception()

    def _on_publish(self, client: Any, userdata: Any, mid: int, reason_code: Any, properties: Any) -> None:
        if getattr(reason_code, "is_failure", False):
            log.warning("publish refused reason=%s", reason_code)
        super()._on_publish(client, userdata, mid, reason_code, properties)


class _MqttSession:
    def __init__(self, client: _Client) -> None:
        self._client = client
        self.in_flight_max = max(1, min(IN_FLIGHT_MAX, client.receive_max))
        self.message_bytes_max = client.packet_bytes_max - FRAMING_BYTES_MAX

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False, within_s: float = PATIENCE_S) -> None:
        try:
            await self._client.publish(topic, payload, qos=1, retain=retain, timeout=within_s)
        except (aiomqtt.MqttError, ValueError, OSError) as error:  # paho raises ValueError for what it cannot send
            raise SessionLost(f"publish: {error}") from error

    async def messages(self) -> AsyncIterator[tuple[str, bytes]]:
        try:
            async for message in self._client.messages:
                payload = message.payload
                yield str(message.topic), bytes(payload) if isinstance(payload, (bytes, bytearray)) else b""
        except aiomqtt.MqttError as error:
            raise SessionLost(str(error)) from error


def mqtt_sessions(uplink: UplinkEntry, gateway: str) -> SessionFactory:
    """Sessions with the broker of the site file.

    The first attempt speaks MQTT 5. A broker that refuses it, or answers a connection with nothing, is asked in 3.1.1
    the next time, and so on in turn. Raises OSError where the TLS files are not right.
    """
    url = urlsplit(uplink.url)
    assert url.hostname is not None  # the site file was checked
    assert url.port is not None
    host, port = url.hostname, url.port
    context = tls_context(uplink) if url.scheme == "mqtts" else None
    version = aiomqtt.ProtocolVersion.V5

    def client(will: bytes) -> _Client:
        five = version is aiomqtt.ProtocolVersion.V5
        return _Client(
            host,
            port,
            identifier=gateway,
            protocol=version,
            # Each version has its own word for a session without memory, and paho refuses the other's.
            clean_session=None if five else True,
            clean_start=True if five else MQTT_CLEAN_START_FIRST_ONLY,
            keepalive=KEEPALIVE_S[uplink.profile],
            timeout=CONNECT_TIMEOUT_S,
            tls_context=context,
            will=aiomqtt.Will(topic(gateway, "up", "state"), will, qos=1, retain=True),
            max_queued_incoming_messages=INCOMING_MAX,
        )

    @asynccontextmanager
    async def connect(will: bytes) -> AsyncIterator[Session]:
        nonlocal version
        made = client(will)
        made.pending_calls_threshold = 4 * IN_FLIGHT_MAX  # below that, publishes under way are no news
        connected = False
        try:
            async with made:
                connected = True
                await made.subscribe([(topic(gateway, "down", name), 1) for name in sorted(DOWN)])
                yield _MqttSession(made)
        except aiomqtt.MqttError as error:
            silent = isinstance(error.__cause__, asyncio.TimeoutError) or "timed out" in str(error)
            # A hang-up may come before paho has said a word; aiomqtt then says it in words of its own, from None.
            hung_up = made.hung_up or isinstance(error.__context__, (ConnectionResetError, BrokenPipeError))
            if not connected and (silent or hung_up or isinstance(error, aiomqtt.MqttCodeError)):
                version = _other(version)
            raise SessionLost(f"{uplink.url}: {error}") from error

    return connect


def _other(version: aiomqtt.ProtocolVersion) -> aiomqtt.ProtocolVersion:
    five = version is aiomqtt.ProtocolVersion.V5
    return aiomqtt.ProtocolVersion.V311 if five else aiomqtt.ProtocolVersion.V5
