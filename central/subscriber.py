"""The centre's ear and mouth: messages from the broker to landing, PUBACK after COMMIT, receipts back.

Two threads. paho's own reads the network and keeps the connection alive, also while the database is away; the
caller's lands one message after the other. Every connection is made with a fresh client, for packet ids belong to a
connection; the session, with what was not acknowledged, is kept by the broker. Not so in a group of workers: a broker
goes on giving a member that is away its share of what comes, where its fellows cannot get at it. What is lost with such
a session the gateways offer again.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from central import canary
from central.config import BrokerEntry
from central.connection import CONNECT_S_MAX, KEEPALIVE_S, BrokerAway, address, make_client, tls_context
from central.landing import Landing
from central.sinks.base import SinkAway
from protocols.topics import PREFIX

log = logging.getLogger("central")

SESSION_EXPIRY_S = 7 * 86_400
"""How long the broker keeps messages for a subscriber that is away. What it drops, gateways offer again."""
RECEIVE_MAX = 128
"""Messages that an MQTT 5 broker may have under way to us unacknowledged."""
PACKET_BYTES_MAX = 2 << 20
"""Longer packets are not for us: a sealed message holds at most 1 MiB."""
FRAMING_BYTES_MAX = 64
"""Of a publish besides its payload: a topic of ours takes up to 55 bytes, MQTT itself 10."""
WAITING_MAX = 4096
"""Messages that may wait here; a 3.1.1 broker that sends more is disconnected, and sends them again."""
TOGETHER_MAX = 64
"""Messages that are landed before the first of them is acknowledged."""
RECEIPT_EVERY_S = 1.0
"""Between two receipts to one gateway."""
BACKOFF_S_MAX = 10.0
"""Between two attempts to reach the broker or the database."""
BRIEF_S = 30.0
"""A connection that is lost sooner says nothing good of the next one: two subscribers with one client id end each
other's, hundreds of times a second if neither waited."""
BRIEF_PAUSE_S_MAX = 2.0
"""Between brief connections: a broker that is restarted again and again must not keep readings waiting."""


@dataclass(eq=False, slots=True)
class _Connection:
    """One connection to the broker, from CONNECT to its loss."""

    client: mqtt.Client
    version: MQTTProtocolVersion
    ready: threading.Event = field(default_factory=threading.Event)
    lost: threading.Event = field(default_factory=threading.Event)
    why: str = ""
    message_bytes_max: int | None = None
    """What the broker carries, where it says so: for what is longer it would hang up."""

    def lose(self, why: str) -> None:
        """Give it up: the first reason counts."""
        self.why = self.why or why
        self.lost.set()
        self.ready.set()


_Waiting = tuple[_Connection, mqtt.MQTTMessage] | None
"""A message and the connection that it came on; None wakes the loop."""


class Subscriber:
    """Runs landing on what a broker delivers. `run` blocks; `stop` may be called from a signal handler."""

    def __init__(self, broker: BrokerEntry, landing: Landing, *, ready: Callable[[], None] = lambda: None) -> None:
        """ready is called at each connection, once the broker has granted the subscriptions. Raises OSError."""
        self._broker = broker
        self._landing = landing
        self._ready = ready
        self._tls = tls_context(broker)
        self._version = MQTTProtocolVersion.MQTTv5
        self._shared = False
        self._waiting: SimpleQueue[_Waiting] = SimpleQueue()
        self._stopping = threading.Event()
        self._receipt_at: dict[str, float] = {}
        self._spoke_at = 0.0

    @property
    def topics(self) -> list[str]:
        """What is subscribed to: the whole fleet with the group, or this worker's buckets."""
        if self._shared:
            return [f"$share/{self._broker.group}/{PREFIX}/+/+/up/#"]
        return [f"{PREFIX}/{bucket}/+/up/#" for bucket in self._broker.share or ("+",)]

    def stop(self) -> None:
        """End `run` after the message at hand. What was not acknowledged, the broker keeps."""
        self._stopping.set()
        self._waiting.put(None)

    def run(self) -> None:
        """Land what comes until `stop`. The broker or the database may go away and come back meanwhile."""
        pause = 0.1
        while not self._stopping.is_set():
            connection = self._connect()
            if connection is not None:
                began = time.monotonic()
                self._ready()
                self._serve(connection)
                self._hang_up(connection)
                if self._stopping.is_set() or time.monotonic() - began >= BRIEF_S:
                    pause = 0.1
                    continue
                log.warning("broker=%s the connection was brief: is another subscriber at work as client_id=%s?",
                            self._broker.url, self._broker.session)  # fmt: skip
                pause = min(pause, BRIEF_PAUSE_S_MAX)
            self._stopping.wait(pause)
            pause = min(2 * pause, BACKOFF_S_MAX)

    def _connect(self) -> _Connection | None:
        """A connection with its subscriptions granted. The version is changed in turn while none comes about."""
        five = self._version is MQTTProtocolVersion.MQTTv5
        try:
            # At each connection: it may be another broker by now.
            self._shared = self._broker.shareable and canary.shares(self._broker, self._tls, self._version, os.urandom)
        except BrokerAway as error:
            log.warning("broker away: %s", error)
            self._version = MQTTProtocolVersion.MQTTv311 if five else MQTTProtocolVersion.MQTTv5
            return None
        connection = _Connection(self._client(), self._version)
        connection.client.user_data_set(connection)  # before the first packet: its failure is told to it already
        try:
            if five:
                wishes = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
                wishes.SessionExpiryInterval = 0 if self._shared else SESSION_EXPIRY_S
                wishes.ReceiveMaximum = RECEIVE_MAX
                wishes.MaximumPacketSize = PACKET_BYTES_MAX
                connection.client.connect(*address(self._broker), KEEPALIVE_S, clean_start=False, properties=wishes)
            else:
                connection.client.connect(*address(self._broker), KEEPALIVE_S)
        except (OSError, ValueError) as error:  # no listener, no route, TLS refused: the version is not the reason
            log.warning("broker=%s away: %s", self._broker.url, error)
            return None
        connection.client.loop_start()
        if not connection.ready.wait(CONNECT_S_MAX):
            connection.lose(f"no answer within {CONNECT_S_MAX} s")
        if connection.lost.is_set():
            self._hang_up(connection)
            self._version = MQTTProtocolVersion.MQTTv311 if five else MQTTProtocolVersion.MQTTv5
            return None
        log.info("broker=%s connected mqtt=%s share=%s", self._broker.url, "5" if five else "3.1.1",
                 self._broker.group if self._shared else f"{len(self.topics)} topics")  # fmt: skip
        return connection

    def _client(self) -> mqtt.Client:
        client = make_client(
            self._tls, self._version, self._broker.session, manual_ack=True, clean=self._shared
        )  # fmt: skip
        client.max_queued_messages_set(WAITING_MAX)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_disconnect = self._on_disconnect
        return client

    def _on_connect(self, client: mqtt.Client, connection: _Connection, flags: Any, reason: Any, told: Any) -> None:
        if (carries := getattr(told, "MaximumPacketSize", None)) is not None:
            connection.message_bytes_max = carries - FRAMING_BYTES_MAX
        if reason.is_failure:
            connection.lose(f"refused: {reason}")
        elif connection.version is MQTTProtocolVersion.MQTTv5:
            client.subscribe([(topic, SubscribeOptions(qos=1)) for topic in self.topics])
        else:
            client.subscribe([(topic, 1) for topic in self.topics])

    def _on_subscribe(self, _: mqtt.Client, connection: _Connection, mid: int, reasons: Any, __: Any) -> None:
        refused = [topic for topic, reason in zip(self.topics, reasons, strict=False) if reason.is_failure]
        if refused:
            connection.lose(f"subscription refused: {', '.join(refused)}")
        connection.ready.set()

    def _on_message(self, client: mqtt.Client, connection: _Connection, message: mqtt.MQTTMessage) -> None:
        if self._waiting.qsize() >= WAITING_MAX:
            self._landing.counters["subscriber.overrun"] += 1
            connection.lose(f"{WAITING_MAX} messages wait already")
            return
        self._waiting.put((connection, message))

    def _on_disconnect(self, _: mqtt.Client, connection: _Connection, flags: Any, reason: Any, __: Any) -> None:
        connection.lose(f"disconnected: {reason}")
        self._waiting.put(None)

    def _hang_up(self, connection: _Connection) -> None:
        """Close the connection, not the session. Messages of it that still wait are not ours any more."""
        connection.client.disconnect()
        connection.client.loop_stop()
        if connection.why and not self._stopping.is_set():
            log.warning("broker=%s lost: %s", self._broker.url, connection.why)

    def _serve(self, connection: _Connection) -> None:
        """Land message after message and give receipts, until the connection is lost or `stop` was called."""
        while not (self._stopping.is_set() or connection.lost.is_set()):
            try:
                waiting = self._waiting.get(timeout=self._give_receipts(connection))
            except Empty:
                continue
            if waiting is not None and waiting[0] is connection:
                self._land(connection, [waiting[1], *self._more(connection)])
        if not connection.lost.is_set():
            self._receipt_at.clear()
            self._give_receipts(connection)

    def _more(self, connection: _Connection) -> Iterator[mqtt.MQTTMessage]:
        """What waits already, up to a bound: it lands faster together."""
        for _ in range(TOGETHER_MAX - 1):
            try:
                waiting = self._waiting.get_nowait()
            except Empty:
                return
            if waiting is not None and waiting[0] is connection:
                yield waiting[1]

    def _land(self, connection: _Connection, messages: Sequence[mqtt.MQTTMessage]) -> None:
        """Land them and acknowledge them; while the database is away, try again as long as the connection lasts."""
        pause = 0.1
        while not (self._stopping.is_set() or connection.lost.is_set()):
            try:
                self._landing.receive_all([(message.topic, bytes(message.payload)) for message in messages])
            except SinkAway as error:
                self._landing.counters["subscriber.database_away"] += 1
                log.warning("database away, again in %.1f s: %s", pause, error)
                self._stopping.wait(pause)
                pause = min(2 * pause, BACKOFF_S_MAX)
            else:
                for message in messages:
                    connection.client.ack(message.mid, message.qos)
                return

    def _give_receipts(self, connection: _Connection) -> float:
        """Publish what is due and may be said now; returns for how long there is nothing more to say, in seconds.

        While messages wait, receipts are put off until their interval has passed: each says all that there is to say.
        """
        due = self._landing.due()
        if not due:
            return RECEIPT_EVERY_S
        now = time.monotonic()
        if self._waiting.qsize() and now - self._spoke_at < RECEIPT_EVERY_S:
            return RECEIPT_EVERY_S
        self._receipt_at = {g: at for g, at in self._receipt_at.items() if now - at < RECEIPT_EVERY_S}
        allowed = due - self._receipt_at.keys()
        if allowed:
            self._publish(connection, allowed)
            self._spoke_at = now
            self._receipt_at.update(dict.fromkeys(allowed, now))
        return max(0.0, min(self._receipt_at.values(), default=now) + RECEIPT_EVERY_S - now)

    def _publish(self, connection: _Connection, gateways: frozenset[str]) -> None:
        try:
            receipts = self._landing.receipts(gateways, bytes_max=connection.message_bytes_max)
        except SinkAway as error:
            log.warning("database away, receipts later: %s", error)
            return
        for topic, payload in receipts:
            published = connection.client.publish(topic, payload, qos=1)
            if published.rc is not MQTTErrorCode.MQTT_ERR_SUCCESS:
                self._landing.counters["subscriber.receipts_unsent"] += 1
