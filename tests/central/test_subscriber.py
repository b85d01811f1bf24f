"""The subscriber on a real broker: acknowledged after COMMIT, receipted, and nothing lost while something is away."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion

from central.config import BrokerEntry
from central.connection import tls_context
from central.landing import Landing
from central.sinks.base import Arrival, Landed, SinkAway
from central.sinks.sqlite import SqliteSink
from central.subscriber import Subscriber
from protocols.messages import Receipt
from tests.broker import CENTRE, Broker, running_broker
from tests.central.test_landing import capture, stamps
from tests.fleet import NOW, Gateway, centre, trust

WAIT_S_MAX = 20.0
FIGHT_S = 5.0


class FickleSink(SqliteSink):
    """A sink that can be away, and tells when it was asked meanwhile."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.away = threading.Event()
        self.asked_while_away = threading.Event()

    def land_all(self, arrivals: Sequence[Arrival]) -> list[Landed]:
        if self.away.is_set():
            self.asked_while_away.set()
            raise SinkAway("away")
        return super().land_all(arrivals)


@dataclass
class Client:
    """A gateway's MQTT client: publishes, and hears receipts."""

    gateway: Gateway
    client: mqtt.Client
    receipts: SimpleQueue[Receipt] = field(default_factory=SimpleQueue)

    def publish(self, *messages: tuple[str, bytes]) -> None:
        """Publish each and wait for its PUBACK."""
        for message in messages:
            self.client.publish(*message, qos=1).wait_for_publish(WAIT_S_MAX)

    def publish_batches(self, *seqs: int) -> None:
        """Batches of one capture each, of the slot of the batch's number."""
        self.publish(*(self.gateway.batch(seq, [capture(seq)]) for seq in seqs))

    def receipt(self, upto: int) -> Receipt:
        """The first receipt that says that this number and all before it are committed."""
        while True:
            said = self.receipts.get(timeout=WAIT_S_MAX)
            if said.contiguous_upto >= upto:
                return said


@contextmanager
def connected(broker: Broker, gateway: Gateway) -> Iterator[Client]:
    """A gateway on the broker, with its own certificate where the broker asks for one."""
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=gateway.id, protocol=MQTTProtocolVersion.MQTTv311)
    if broker.certificates is not None:
        mine = broker.certificates.client(gateway.id)
        client.tls_set(str(broker.certificates.ca), str(mine.certificate), str(mine.key))
    made = Client(gateway, client)
    subscribed = threading.Event()

    def on_connect(client: mqtt.Client, *_: Any) -> None:
        client.subscribe("mw/v1/+/" + gateway.id + "/down/#", qos=1)

    client.on_connect = on_connect
    client.on_subscribe = lambda *_: subscribed.set()
    client.on_message = lambda _, __, message: made.receipts.put(gateway.receipt(bytes(message.payload)))
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    assert subscribed.wait(WAIT_S_MAX)
    try:
        yield made
    finally:
        client.disconnect()
        client.loop_stop()


def entry(broker: Broker) -> BrokerEntry:
    if broker.certificates is None:
        return BrokerEntry(url=broker.url)
    mine = broker.certificates.client(CENTRE)
    return BrokerEntry(url=broker.url, ca=broker.certificates.ca, certificate=mine.certificate, key=mine.key)


@dataclass
class Running:
    """A subscriber in a thread."""

    landing: Landing
    connections: SimpleQueue[None]

    def connected(self) -> None:
        """Wait until it has connected and subscribed once more."""
        self.connections.get(timeout=WAIT_S_MAX)


@contextmanager
def running(
    broker: Broker, sink: SqliteSink, *, gateways: tuple[str, ...] = ("gw-0001", "gw-0002")
) -> Iterator[Running]:
    """A subscriber that has connected, for as long as the block lasts."""
    landing = Landing(sink, centre=centre(), gateways=trust(*gateways), now_ms=lambda: NOW)
    connections: SimpleQueue[None] = SimpleQueue()
    subscriber = Subscriber(entry(broker), landing, ready=lambda: connections.put(None))
    thread = threading.Thread(target=subscriber.run, name="subscriber")
    thread.start()
    made = Running(landing, connections)
    try:
        made.connected()
        yield made
    finally:
        subscriber.stop()
        thread.join(WAIT_S_MAX)
        assert not thread.is_alive()


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[FickleSink]:
    opened = FickleSink(tmp_path / "central.db")
    yield opened
    opened.close()


def test_over_tls_what_two_gateways_publish_lands_and_is_receipted(tls_broker: Broker, sink: FickleSink) -> None:
    one, two = Gateway(), Gateway("gw-0002", epoch=11, seed=2)
    with running(tls_broker, sink), connected(tls_broker, one) as a, connected(tls_broker, two) as b:
        for client, slots in ((a, (0, 1)), (b, (2, 3))):
            batches = (client.gateway.batch(seq, [capture(slot)]) for seq, slot in enumerate(slots, start=1))
            client.publish(client.gateway.key(), *batches)
        assert (a.receipt(2).epoch, b.receipt(2).epoch) == (one.epoch, two.epoch)
    assert stamps(sink) == [0, 1, 2, 3]


def test_a_gateway_cannot_publish_as_another(tls_broker: Broker, sink: FickleSink) -> None:
    one, two = Gateway(), Gateway("gw-0002", seed=2)
    with running(tls_broker, sink), connected(tls_broker, one) as client:
        client.publish(two.key(), one.key(), one.batch(1, [capture()]))
        client.receipt(1)
    assert sink.key_record("gw-0002", two.data_key.kid) is None
    assert sink.key_record("gw-0001", one.data_key.kid) is not None


def test_what_was_published_while_the_subscriber_was_away_lands_when_it_is_back(
    broker: Broker, sink: FickleSink
) -> None:
    gateway = Gateway()
    with connected(broker, gateway) as client:
        with running(broker, sink):
            client.publish(gateway.key())
        client.publish_batches(1, 2, 3)
        with running(broker, sink):
            client.receipt(3)
    assert stamps(sink) == [1, 2, 3]


def test_while_the_database_is_away_nothing_is_acknowledged_and_all_lands_later(
    broker: Broker, sink: FickleSink
) -> None:
    gateway = Gateway()
    with connected(broker, gateway) as client:
        with running(broker, sink):
            client.publish(gateway.key())
            sink.away.set()
            client.publish_batches(1, 2, 3)
            assert sink.asked_while_away.wait(WAIT_S_MAX)
        assert stamps(sink) == []
        sink.away.clear()
        with running(broker, sink):  # the broker still has them: they were not acknowledged
            client.receipt(3)
    assert stamps(sink) == [1, 2, 3]


def test_the_database_may_come_back_while_the_subscriber_runs(broker: Broker, sink: FickleSink) -> None:
    gateway = Gateway()
    with running(broker, sink), connected(broker, gateway) as client:
        client.publish(gateway.key())
        sink.away.set()
        client.publish_batches(1)
        assert sink.asked_while_away.wait(WAIT_S_MAX)
        sink.away.clear()
        client.receipt(1)
    assert stamps(sink) == [1]


@pytest.mark.slow
def test_the_broker_may_be_killed_and_come_back(broker: Broker, sink: FickleSink) -> None:
    gateway = Gateway()
    with running(broker, sink) as centre_side:
        with connected(broker, gateway) as client:
            client.publish(gateway.key())
            client.publish_batches(1)
            client.receipt(1)
        broker.kill()
        broker.start()
        centre_side.connected()
        with connected(broker, gateway) as client:
            client.publish_batches(2)
            client.receipt(2)
    assert stamps(sink) == [1, 2]


@pytest.mark.slow
def test_two_subscribers_with_one_client_id_do_not_storm_the_broker(
    broker: Broker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each connection ends the other's; without a pause between them there were hundreds a second."""
    with running(broker, FickleSink(tmp_path / "a.db")) as one, running(broker, FickleSink(tmp_path / "b.db")) as other:
        time.sleep(FIGHT_S)  # the matter of the test: how often they connect in this time
        connections = one.connections.qsize() + other.connections.qsize()
    assert 1 <= connections <= 30
    assert "is another subscriber at work as client_id=" in caplog.text


def test_a_connection_that_breaks_as_it_greets_is_made_anew(
    broker: Broker, sink: FickleSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """paho tells of it from inside `connect`, before that returns."""
    greet, broken = mqtt.Client._send_connect, list[bool]()

    def breaking(self: mqtt.Client, keepalive: int) -> MQTTErrorCode:
        if not broken:
            broken.append(True)
            return self._loop_rc_handle(MQTTErrorCode.MQTT_ERR_CONN_LOST)
        return greet(self, keepalive)

    monkeypatch.setattr(mqtt.Client, "_send_connect", breaking)
    with running(broker, sink):
        assert broken


def test_receipts_to_one_gateway_are_coalesced(broker: Broker, sink: FickleSink) -> None:
    gateway, batches = Gateway(), 200
    with running(broker, sink) as centre_side, connected(broker, gateway) as client:
        client.publish(gateway.key())
        for seq in range(1, batches + 1):
            client.client.publish(*gateway.batch(seq, [capture(seq)]), qos=1)
        assert client.receipt(batches).ranges == ()
        assert centre_side.landing.counters["receipts"] < batches / 4
    assert stamps(sink) == list(range(1, batches + 1))


def test_noise_from_the_fleet_does_not_stop_it(broker: Broker, sink: FickleSink) -> None:
    gateway = Gateway()
    with running(broker, sink) as centre_side, connected(broker, gateway) as client:
        for topic in ("mw/v1/00/gw-0001/up/batch", "mw/v1/zz/x/up/y", "mw/v1/8a/gw-9999/up/batch", gateway.key()[0]):
            client.publish((topic, b"\xff" * 40))
        client.publish(gateway.key(), gateway.batch(1, [capture()]))
        client.receipt(1)
        assert centre_side.landing.counters["messages"] == 6
    assert stamps(sink) == [0]


def test_a_subscriber_may_take_a_share_of_the_fleet(sink: FickleSink) -> None:
    landing = Landing(sink, centre=centre(), gateways=trust(), now_ms=lambda: NOW)
    whole = Subscriber(BrokerEntry(url="mqtt://127.0.0.1:1883"), landing)
    share = Subscriber(BrokerEntry(url="mqtt://127.0.0.1:1883", buckets=("00", "01")), landing)
    assert whole.topics == ["mw/v1/+/+/up/#"]
    assert share.topics == ["mw/v1/00/+/up/#", "mw/v1/01/+/up/#"]


@pytest.mark.parametrize("spoil", [lambda key: key.chmod(0o644), lambda key: key.unlink()], ids=["open", "missing"])
def test_a_tls_key_that_is_missing_or_open_to_others_is_refused(
    tls_broker: Broker, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    good = entry(tls_broker)
    assert tls_context(good) is not None
    assert good.key is not None
    key = tmp_path / "client.key"
    key.write_bytes(good.key.read_bytes())
    key.chmod(0o600)
    spoil(key)
    with pytest.raises(OSError, match=r"client\.key: expected"):
        tls_context(BrokerEntry(url=good.url, ca=good.ca, certificate=good.certificate, key=key))


def test_a_hello_is_answered_once(broker: Broker, sink: FickleSink) -> None:
    gateway = Gateway()
    with running(broker, sink) as centre_side, connected(broker, gateway) as client:
        client.publish(gateway.hello())
        assert client.receipt(0).contiguous_upto == 0
        with pytest.raises(Empty):
            client.receipts.get_nowait()
    assert centre_side.landing.counters["receipts"] == 1


def test_a_broker_that_knows_only_3_1_1_is_spoken_to_in_3_1_1(sink: FickleSink) -> None:
    gateway = Gateway()
    with (
        running_broker(mosquitto=False) as broker,
        running(broker, sink),
        connected(broker, gateway) as client,
    ):
        client.publish(gateway.key(), gateway.batch(1, [capture()]))
        client.receipt(1)
    assert stamps(sink) == [0]
