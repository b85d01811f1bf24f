"""Several workers at once: a batch lands once, receipts agree, held batches find their key, a kill loses nothing."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from central import canary
from central.config import BrokerEntry, worker
from central.connection import BrokerAway, Talk, Version
from central.landing import Landing, Reason
from central.sinks.base import Letter
from central.sinks.postgres import PostgresSink
from central.sinks.sqlite import SqliteSink
from central.subscriber import Subscriber
from identity.centre import GATEWAYS, Centre
from identity.files import write
from protocols.messages import Receipt
from tests.broker import Broker, running_broker
from tests.central.test_landing import capture, receipt, receipts
from tests.central.test_subscriber import Client, connected, entry
from tests.fleet import NOW, Gateway, centre, identity, trust
from tests.processes import free_port

ROOT = Path(__file__).resolve().parents[2]
WAIT_S_MAX = 60.0


def open_landing(sink: SqliteSink | PostgresSink) -> Landing:
    return Landing(sink, centre=centre(), gateways=trust("gw-0001", "gw-0002"), now_ms=lambda: NOW)


@pytest.fixture(params=["sqlite", "postgresql"])
def sinks(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[SqliteSink | PostgresSink, ...]]:
    """Two connections to one database."""
    with ExitStack() as stack:
        opened: list[SqliteSink | PostgresSink] = []
        for _ in range(2):
            if request.param == "sqlite":
                opened.append(SqliteSink(tmp_path / "central.db"))
            else:
                opened.append(PostgresSink(request.getfixturevalue("postgres")))
            stack.callback(opened[-1].close)
        yield tuple(opened)


@pytest.fixture
def workers(sinks: tuple[SqliteSink | PostgresSink, ...]) -> list[Landing]:
    return [open_landing(sink) for sink in sinks]


def test_a_receipt_says_what_any_worker_has_landed(workers: list[Landing]) -> None:
    one, other = workers
    gateway = Gateway()
    one.receive(*gateway.key())
    one.receive(*gateway.batch(1, [capture(1)]))
    assert receipt(one, gateway).contiguous_upto == 1
    other.receive(*gateway.batch(3, [capture(3)]))
    said = receipt(other, gateway)
    assert (said.contiguous_upto, said.ranges) == (1, ((3, 3),))
    other.receive(*gateway.batch(2, [capture(2)]))
    assert receipt(other, gateway).contiguous_upto == 3
    one.receive(*gateway.hello())
    assert receipt(one, gateway).contiguous_upto == 3


def test_a_batch_that_two_workers_see_lands_once(workers: list[Landing]) -> None:
    gateway = Gateway()
    workers[0].receive(*gateway.key())
    for each in workers:
        each.receive(*gateway.batch(1, [capture()]))
        assert receipt(each, gateway).contiguous_upto == 1
    assert [each.counters["batches.landed"] for each in workers] == [1, 0]
    assert workers[1].counters["batches.repeated"] == 1


def test_what_one_worker_refuses_the_other_says_too(workers: list[Landing]) -> None:
    gateway = Gateway()
    workers[0].receive(*gateway.key())
    workers[0].receive(*gateway.sealed(1, b"no body"))
    for each in workers:
        each.receive(*gateway.hello())
        assert receipt(each, gateway).rejected == ((1, "bad_body"),)
    workers[1].receive(*gateway.hello(voided=((gateway.epoch, 1),)))
    workers[0].receive(*gateway.batch(2, [capture()]))
    said = receipt(workers[0], gateway)
    assert (said.contiguous_upto, said.rejected) == (2, ())


def said(landing: Landing, gateway: Gateway) -> Receipt:
    """The receipt on the gateway's epoch; one that only asks for keys is on none."""
    return receipts(landing, gateway)[gateway.epoch]


def test_a_batch_that_one_worker_holds_lands_with_the_key_that_comes_to_another(workers: list[Landing]) -> None:
    one, other = workers
    gateway = Gateway()
    one.receive(*gateway.batch(1, [capture()]))
    for each in workers:
        each.receive(*gateway.hello())
        assert said(each, gateway).need_key == (gateway.data_key.kid,)
    other.receive(*gateway.key())
    for each in workers:
        each.receive(*gateway.hello())
        last = said(each, gateway)
        assert (last.contiguous_upto, last.need_key) == (1, ())


def test_a_key_that_comes_between_looking_for_it_and_holding_the_batch_is_found(
    workers: list[Landing], sinks: tuple[SqliteSink | PostgresSink, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = workers
    gateway = Gateway()
    hold = sinks[0].set_aside

    def late(letter: Letter, *, keep: int) -> None:
        if letter.reason == Reason.UNKNOWN_KEY.value:
            other.receive(*gateway.key())
        hold(letter, keep=keep)

    monkeypatch.setattr(sinks[0], "set_aside", late)
    one.receive(*gateway.batch(1, [capture()]))
    assert said(one, gateway).contiguous_upto == 1
    assert one.counters["held.released"] == 1


def test_a_database_restored_under_a_worker_is_not_talked_over(tmp_path: Path) -> None:
    sink = SqliteSink(tmp_path / "central.db")
    landing, gateway = open_landing(sink), Gateway()
    for message in (gateway.key(), gateway.batch(1, [capture(1)]), gateway.batch(2, [capture(2)])):
        landing.receive(*message)
    assert receipt(landing, gateway).contiguous_upto == 2
    with sink._transaction() as cursor:
        cursor.execute("DELETE FROM inbox WHERE seq = 2")
    landing.receive(*gateway.hello())
    assert receipt(landing, gateway).contiguous_upto == 1
    sink.close()


@pytest.mark.parametrize("of", [1, 2, 3, 256])
def test_the_workers_buckets_are_the_whole_fleet_once(of: int) -> None:
    shares = [BrokerEntry(url="mqtt://127.0.0.1:1", worker=(number, of)) for number in range(1, of + 1)]
    taken = [bucket for each in shares for bucket in each.share]
    assert sorted(taken) == ([] if of == 1 else [f"{bucket:02x}" for bucket in range(256)])
    assert len({each.session for each in shares}) == of
    half = BrokerEntry(url="mqtt://127.0.0.1:1", worker=(2, 2), buckets=("10", "11", "12"))
    assert (half.share, half.shareable) == (("11",), False)


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "1/257", "1/0", "a/b", 1, "-1/2"])
def test_a_worker_is_one_of_several(text: object) -> None:
    with pytest.raises(ValueError, match="such as 1/2"):
        worker(text)


def shares(broker: BrokerEntry, version: Version = Version.MQTTv5) -> bool:
    return canary.shares(broker, None, version, lambda count: b"c" * count)


@pytest.mark.real
@pytest.mark.parametrize("version", Version.__members__.values(), ids=str)
@pytest.mark.usefixtures("mosquitto")
def test_the_canary_finds_that_mosquitto_shares(version: Version) -> None:
    if version is not Version.MQTTv31:
        with running_broker() as broker:
            assert shares(BrokerEntry(url=broker.url), version)


@pytest.mark.real
def test_the_canary_finds_that_rumqttd_shares() -> None:
    with running_broker(mosquitto=False) as broker:
        assert shares(BrokerEntry(url=broker.url), Version.MQTTv311)


def delivers_to_all(topic: str) -> str:
    return topic.split("/", 2)[2]


def delivers_nothing(topic: str) -> str:
    return "granted/and/silent"


@pytest.mark.real
@pytest.mark.parametrize("takes", [delivers_to_all, delivers_nothing])
def test_a_broker_that_only_grants_is_found_out(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, takes: Callable[[str], str]
) -> None:
    monkeypatch.setattr(canary, "WAIT_S_MAX", 1.0)
    subscribe = Talk.subscribe
    monkeypatch.setattr(Talk, "subscribe", lambda self, topic: subscribe(self, takes(topic)))
    assert not shares(BrokerEntry(url=broker.url), Version.MQTTv311)


def test_without_a_broker_there_is_no_canary() -> None:
    with pytest.raises(BrokerAway, match="mqtt://"):
        shares(BrokerEntry(url=f"mqtt://127.0.0.1:{free_port()}"))


@pytest.mark.real
@pytest.mark.parametrize(("allowed", "topics"), [(True, 1), (False, 128)])
def test_a_worker_that_may_not_send_canaries_takes_its_buckets(
    tls_broker: Broker, tmp_path: Path, allowed: bool, topics: int
) -> None:
    if not allowed:
        tls_broker.stop()
        acl = tls_broker.directory / "acl"
        acl.write_text(
            acl.read_text(encoding="utf-8").replace("topic readwrite mw/v1/canary/#\n", ""), encoding="utf-8"
        )
        tls_broker.start()
    sink = SqliteSink(tmp_path / "central.db")
    subscriber = Subscriber(
        replace(entry(tls_broker), worker=(1, 2)), open_landing(sink), ready=lambda: subscriber.stop()
    )
    subscriber.run()
    assert len(subscriber.topics) == topics
    sink.close()


@contextmanager
def process(file: Path, number: int) -> Iterator["subprocess.Popen[str]"]:
    """Worker `number` of 2, connected."""
    started = subprocess.Popen(
        [sys.executable, "-c", "from field.main import main; main()", "central", "run", "-c", str(file), "--json",
         "--worker", f"{number}/2"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert started.stdout is not None
    try:
        assert json.loads(started.stdout.readline() or "{}").get("ready") is True
        yield started
    finally:
        started.kill()
        started.communicate()


def configure(directory: Path, broker: Broker, database: str, gateways: list[Gateway]) -> Path:
    keys = directory / "keys"
    made = Centre.create(keys)
    for parent in (keys / GATEWAYS.parent, keys / GATEWAYS):
        parent.mkdir(mode=0o700)
    for gateway in gateways:
        gateway.centre = made
        write(keys / GATEWAYS / f"{gateway.id}.json", identity(gateway.id).public.encode())
    file = directory / "central.toml"
    file.write_text(f'[broker]\nurl = "{broker.url}"\n[keys]\npath = "keys"\n[database]\nurl = "{database}"\n')
    return file


def offer(clients: list[Client], messages: dict[str, list[tuple[str, bytes]]], until: Callable[[], bool]) -> None:
    """Offer what has no receipt, again each second, as gateways do, until all of it has one or `until` says enough."""
    upto = dict.fromkeys(messages, 0)
    deadline = time.monotonic() + WAIT_S_MAX
    while any(upto[name] < len(all_) for name, all_ in messages.items()) and not until():
        assert time.monotonic() < deadline, upto
        for client in clients:
            topic, key = client.gateway.key()
            client.client.publish(topic, key, qos=1)
            for topic, payload in messages[client.gateway.id][upto[client.gateway.id] :]:
                client.client.publish(topic, payload, qos=1)
        again = time.monotonic() + 1.0
        while time.monotonic() < again and not until():
            for client in clients:
                while not client.receipts.empty():
                    upto[client.gateway.id] = max(upto[client.gateway.id], client.receipts.get().contiguous_upto)
            time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.real
def test_a_worker_killed_in_mid_run_loses_nothing(broker: Broker, postgres: str, tmp_path: Path) -> None:
    batches, gateways = 30, [Gateway(id=f"gw-{n}", seed=n) for n in range(4)]
    file = configure(tmp_path, broker, postgres, gateways)
    sink = PostgresSink(postgres)
    messages = {
        gateway.id: [gateway.batch(seq, [capture(seq * 10 + n)]) for seq in range(1, batches + 1)]
        for n, gateway in enumerate(gateways)
    }
    with ExitStack() as stack:
        first, second = (stack.enter_context(process(file, number)) for number in (1, 2))
        clients = [stack.enter_context(connected(broker, gateway)) for gateway in gateways]
        offer(clients, messages, lambda: sink.inbox().batches >= batches)
        first.send_signal(signal.SIGKILL)
        first.wait()
        assert batches <= sink.inbox().batches < 4 * batches, "killed while there was work"
        offer(clients, messages, lambda: False)
        second.send_signal(signal.SIGTERM)
        out, _ = second.communicate(timeout=20)
    counters = json.loads(out.splitlines()[-1])["counters"]
    assert 0 < counters["batches.landed"] < 4 * batches  # both worked
    assert sink.inbox().batches == 4 * batches
    assert len(list(sink.readings())) == 4 * batches
    sink.close()
