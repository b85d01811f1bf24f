"""`meterwire central request`: a signed question through a real broker, the gateway's answer opened and shown."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from click.testing import CliRunner, Result
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from central.config import load_central
from central.keys import Keys
from central.sinks import open_sink
from field.main import main
from identity.centre import GATEWAYS, Centre, GatewayTrust
from identity.files import write
from identity.gateway import CentreTrust
from protocols import batch, envelope
from protocols.capture import Fault, faulty
from protocols.envelope import REPLY_SEQ, BatchKind
from protocols.messages import Reply, Request, signed, topic, verified
from protocols.quantity import by_name
from tests.broker import Broker, running_broker
from tests.central.test_sinks import capture, number
from tests.fleet import NOW, Gateway, identity

WAIT_S_MAX = 20.0
pytestmark = pytest.mark.real


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["central", "request", *map(str, arguments)])


def configure(directory: Path, broker: Broker) -> tuple[Path, Gateway]:
    """A centre that trusts one gateway and has its key record."""
    keys = directory / "keys"
    made = Centre.create(keys)
    for parent in (keys / GATEWAYS.parent, keys / GATEWAYS):
        parent.mkdir(mode=0o700)
    gateway = Gateway(centre=made)
    write(keys / GATEWAYS / f"{gateway.id}.json", identity(gateway.id).public.encode())
    file = directory / "central.toml"
    file.write_text(
        f'[broker]\nurl = "{broker.url}"\n[keys]\npath = "keys"\n[database]\nurl = "sqlite:///central.db"\n',
        encoding="utf-8",
    )
    sink = open_sink(load_central(file).database)
    Keys(sink, centre=made, gateways=GatewayTrust.load(keys)).add(gateway.id, gateway.key()[1], at=NOW)
    sink.close()
    return file, gateway


Answer = Callable[[Request], list[Reply]]


@contextmanager
def answering(broker: Broker, gateway: Gateway, answer: Answer, heard: list[Request]) -> Iterator[None]:
    """A gateway that answers requests so."""
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=gateway.id, protocol=MQTTProtocolVersion.MQTTv311)
    subscribed = threading.Event()
    who = identity(gateway.id)

    def on_message(client: mqtt.Client, _: Any, message: mqtt.MQTTMessage) -> None:
        verify = CentreTrust.of(gateway.centre.public).verify
        request = verified(Request, bytes(message.payload), gateway=gateway.id, verify=verify)
        heard.append(request)
        for reply in answer(request):
            client.publish(topic(gateway.id, "up", "reply"), signed(reply, kid=who.kid, sign=who.sign), qos=1)

    client.on_connect = lambda client, *_: client.subscribe(topic(gateway.id, "down", "request"), qos=1)
    client.on_subscribe = lambda *_: subscribed.set()
    client.on_message = on_message
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    assert subscribed.wait(WAIT_S_MAX)
    try:
        yield
    finally:
        client.disconnect()
        client.loop_stop()


def reply(gateway: Gateway, request: bytes, status: str, *, detail: str = "", sealed: bytes = b"") -> Reply:
    return Reply(gateway=gateway.id, epoch=gateway.epoch, request=request, status=status, detail=detail, sealed=sealed,
                 sent_at=NOW)  # fmt: skip


READ_NOW = ("read_now", "--meter", "m-1", "--item", "voltage.a", "--item", "voltage.b")


@pytest.mark.parametrize("mosquitto", [True, False], ids=["mosquitto", "rumqttd"])
def test_what_is_read_now_is_shown(tmp_path: Path, mosquitto: bool, request: pytest.FixtureRequest) -> None:
    if mosquitto:
        request.getfixturevalue("mosquitto")
    with running_broker(mosquitto=mosquitto) as broker:
        file, gateway = configure(tmp_path, broker)

        def answer(asked: Request) -> list[Reply]:
            body = batch.encode([capture(number("voltage.a", "230.10"), faulty(by_name("voltage.b"), Fault.ABSENT))])
            sealed = envelope.seal(gateway.data_key, gateway=gateway.id, seq=REPLY_SEQ, kind=BatchKind.REPLY, body=body)
            other = reply(gateway, b"o" * 16, "done")  # of another request: not ours
            return [other, reply(gateway, asked.request, "part", detail="1 items failed", sealed=sealed)]

        heard: list[Request] = []
        with answering(broker, gateway, answer, heard):
            result = invoke("-c", file, gateway.id, *READ_NOW, "--json")
    assert result.exit_code == 1, result.output
    line = json.loads(result.output)
    assert (line["status"], line["detail"], line["seconds"] < WAIT_S_MAX) == ("part", "1 items failed", True)
    assert [(value["quantity"], value["value"], value["fault"]) for value in line["values"]] == [
        ("voltage.a", "230.10", None), ("voltage.b", None, "absent"),
    ]  # fmt: skip
    (asked,) = heard
    assert (asked.action, dict(asked.arguments)) == ("read_now", {"meter": "m-1", "items": "voltage.a;voltage.b"})
    assert asked.expires_at > asked.sent_at
    sink = open_sink(load_central(file).database)
    kept = sink.last_asked(gateway.id, "read_now")
    assert kept is not None
    assert (kept.request, kept.status) == (asked.request, "part")
    sink.close()


def test_a_span_is_asked_for_again(broker: Broker, tmp_path: Path) -> None:
    file, gateway = configure(tmp_path, broker)
    heard: list[Request] = []
    with answering(broker, gateway, lambda asked: [reply(gateway, asked.request, "done", detail="7 records")], heard):
        result = invoke(
            "-c", file, gateway.id, "send_again", "--since", "2026-05-03", "--until", "2026-05-04", "--lang", "zh"
        )
    assert (result.exit_code, "完成：" in result.output) == (0, True)
    assert dict(heard[0].arguments) == {"since": 1_777_737_600_000, "until": 1_777_824_000_000}


def test_a_forged_answer_is_none(broker: Broker, tmp_path: Path) -> None:
    file, gateway = configure(tmp_path, broker)
    forger = Gateway(id="gw-0002")
    who = identity(forger.id)
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="forger", protocol=MQTTProtocolVersion.MQTTv311)
    client.connect("127.0.0.1", broker.port)
    client.loop_start()

    def forge(asked: Request) -> list[Reply]:
        forged = signed(reply(gateway, asked.request, "done"), kid=who.kid, sign=who.sign)
        client.publish(topic(gateway.id, "up", "reply"), forged, qos=1)
        return []

    with answering(broker, gateway, forge, []):
        result = invoke("-c", file, gateway.id, *READ_NOW, "--wait", "1", "--json")
    client.disconnect()
    client.loop_stop()
    assert (result.exit_code, "no answer within 1 s" in result.stderr) == (3, True)


@pytest.mark.parametrize(
    "options",
    [
        ["read_now", "--meter", "m-1"], ["read_now", "--item", "voltage.a"], [*READ_NOW, "--since", "2026-05-03"],
        ["send_again", "--since", "2026-05-03"], ["send_again", "--since", "2026-05-04", "--until", "2026-05-03"],
        ["send_again", "--since", "2026-05-03", "--until", "2026-05-04", "--meter", "m-1"], ["reboot"],
    ],
)  # fmt: skip
def test_options_that_do_not_belong_to_the_action_are_refused(
    broker: Broker, tmp_path: Path, options: list[str]
) -> None:
    file, gateway = configure(tmp_path, broker)
    assert invoke("-c", file, gateway.id, *options).exit_code == 2


def test_nobody_is_asked_who_is_not_trusted_or_without_a_broker(broker: Broker, tmp_path: Path) -> None:
    file, gateway = configure(tmp_path, broker)
    assert invoke("-c", file, "gw-9999", *READ_NOW).exit_code == 2
    assert invoke("-c", file, "../sign", *READ_NOW).exit_code == 2
    broker.kill()
    assert invoke("-c", file, gateway.id, *READ_NOW).exit_code == 3
