"""A centre in another language: Node.js programs written from docs/wire.md alone open what a gateway publishes."""

import asyncio
import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_der_private_key

from central.landing import Landing
from config.model import TaskEntry
from gateway.memory_session import MemoryBroker
from identity.centre import Centre
from identity.gateway import CentreTrust, GatewayIdentity
from protocols.envelope import REPLY_SEQ
from protocols.topics import DOWN, topic
from simulators import virtual
from simulators.describe import BusPlan, MeterGroup, SitePlan
from tests.chain import GATEWAY, START, Chain
from tests.fleet import Gateway, identity
from tests.mutation import some_records
from tests.substitution import required_as_root
from tests.wire_vectors import FILE, told
from tests.wire_vectors import GATEWAY as WRITTEN

PROGRAMS = Path(__file__).parents[1] / "node"
NODE = shutil.which("node")
TASKS = (
    TaskEntry(name="curve", every_s=900, items=("voltage.a", "current.a", "energy.active.import.t1", "frequency")),
    TaskEntry(name="demand", every_s=900, items=("demand.active.import.total", "demand.active.import.total.time")),
    TaskEntry(name="power", every_s=900, items=("voltage.a", "power.active.a")),
)
Message = tuple[str, bytes]


@pytest.fixture(scope="module", autouse=True)
def node() -> None:
    """Node.js is there, or the tests say so."""
    if NODE is None:
        required_as_root("nodejs")
        pytest.skip("needs nodejs (Debian)")


def opened(
    directory: Path, messages: Sequence[Message], *, program: str = "open_batches.js"
) -> tuple[int, list[dict[str, Any]], str]:
    """What the program makes of these messages with the keys in the directory: exit code, records, complaints."""
    lines = [json.dumps({"topic": on, "payload": payload.hex()}) for on, payload in messages]
    (directory / "messages.jsonl").write_text("\n".join(lines) + "\n")
    assert NODE is not None
    done = subprocess.run(
        [NODE, PROGRAMS / program, directory, FILE], capture_output=True, text=True, check=False, timeout=60
    )
    return done.returncode, list(map(json.loads, done.stdout.splitlines())), done.stderr


def believe(directory: Path, bundle: bytes, whose: str, role: str = "gateways") -> None:
    """As `meterwire keys trust` does it at a centre."""
    known = directory / "trusted" / role
    known.mkdir(parents=True, exist_ok=True)
    (known / f"{whose}.json").write_bytes(bundle)


class Live:
    """More than an hour of a site in virtual time, all that its gateway published, and what landed."""

    def __init__(self, directory: Path) -> None:
        self.keys = directory / "keys"
        self.messages: list[Message] = []
        self.centre = Centre.create(self.keys)
        self.identity = GatewayIdentity.create(directory / "gateway", GATEWAY)
        believe(self.keys, self.identity.public.encode(), GATEWAY)
        virtual.run(self._hour(directory), start_ms=START)

    async def _hour(self, directory: Path) -> None:
        meters = (
            MeterGroup(profile="dlt645-2007-3p", address="000000000001", count=2, tariffs=3),
            MeterGroup(profile="dlt645-2007-3p", address="000000000007", count=1, tariffs=3, present=False),
        )
        buses = (
            BusPlan(name="bus1", meters=meters),
            BusPlan(name="bus2", meters=(MeterGroup(profile="eastron-sdm630", address="1", count=1),)),
        )
        chain = Chain(directory, SitePlan(buses=buses, seed=3), TASKS)
        tasks = {"eastron-sdm630": ("power",)}
        chain.site = replace(chain.site, meters=tuple(
            replace(meter, tasks=tasks.get(meter.profile, ("curve", "demand"))) for meter in chain.site.meters
        ))  # fmt: skip
        chain.identity, chain.centre, chain.trust = self.identity, self.centre, CentreTrust.of(self.centre.public)
        chain.landing = chain._open_landing()
        self._tap(chain.broker, chain.landing)
        try:
            async with chain.running() as daemon:
                await asyncio.sleep(4000)
                await chain.drain(daemon)
            self.truth = chain.truth()
            self.readings = list(chain.sink.readings())
            self.gaps = list(chain.sink.gaps())
            self.events = chain.events
            self.accepted = list(chain.accepted.captures)
        finally:
            chain.close()

    def _tap(self, broker: MemoryBroker, landing: Landing) -> None:
        def receive(on: str, payload: bytes) -> None:
            self.messages.append((on, payload))
            landing.receive(on, payload)

        broker.attach(receive)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, node: None) -> Live:
    """One for all tests."""
    return Live(tmp_path_factory.mktemp("node"))


def test_it_opens_live_batches_and_reads_in_them_what_landed(live: Live) -> None:
    code, records, complaints = opened(live.keys, live.messages)
    assert (code, complaints) == (0, "")
    assert live.truth.passed
    captures = [record for record in records if record["type"] == "capture"]
    origin = {
        (each["meter"], value["quantity"], each["stamp"], each["source"]): (each, value)
        for each in captures for value in each["values"]
    }  # fmt: skip
    assert len(live.readings) == len(origin) >= 5 * (2 * 6 + 2)
    for row in live.readings:
        capture, value = origin[row.meter, row.quantity, row.stamp, row.source]
        shown = value["number"] or value["time"] or value["text"]
        assert (shown, value["quality"], value["fault"], value["detail"]) == (
            row.plain, row.quality, row.fault, row.detail
        )  # fmt: skip
        assert (capture["point"], capture["task"], capture["slot"], capture["read_at"]) == (
            row.point, row.task, row.slot, row.read_at
        )  # fmt: skip
        assert (capture["gateway"], capture["epoch"], capture["seq"]) == (row.gateway, str(row.epoch), str(row.seq))
        assert row.ratio == "1" == capture["ct"] == capture["pt"]
    assert sorted((each["meter"], each["task"], each["slot"]) for each in records if each["type"] == "gap") == sorted(
        (gap.meter, gap.task, gap.slot) for gap in live.gaps
    )
    assert live.gaps, "there is a dead meter"
    events = [(each["name"], each["at"], each["meter"], each["detail"]) for each in records if each["type"] == "event"]
    assert events == [(each.name, each.at, each.meter, dict(each.detail)) for each in live.events]


def test_it_opens_nothing_without_the_key_message(live: Live) -> None:
    batches = [message for message in live.messages if message[0].endswith(("/batch", "/event"))]
    code, records, complaints = opened(live.keys, batches)
    assert (code, records) == (1, [])
    assert complaints.count("has not come") == len(batches)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["key", "batch"])
def test_it_believes_no_message_in_which_a_bit_was_flipped(live: Live, name: str) -> None:
    key, batch = (next(each for each in live.messages if each[0].endswith(f"/{kind}")) for kind in ("key", "batch"))
    whole = opened(live.keys, [key, batch])
    assert whole[0] == 0
    on, payload = key if name == "key" else batch
    for at in range(3, len(payload), max(37, len(payload) // 8)):
        damaged = (on, payload[:at] + bytes((payload[at] ^ 4,)) + payload[at + 1 :])
        code, records, _ = opened(live.keys, [damaged, batch] if name == "key" else [key, damaged])
        assert (code, records) == (1, []), at


@pytest.fixture
def vectors(tmp_path: Path) -> dict[str, Any]:
    """Those of the page; their keys lie in the directory of the test."""
    loaded: dict[str, Any] = json.loads(FILE.read_text())
    wrap = load_der_private_key(bytes.fromhex(loaded["keys"]["centre_wrap_pkcs8"]), None)
    (tmp_path / "wrap.key").write_bytes(wrap.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    gateway, centre = (
        ec.derive_private_key(int(loaded["keys"][f"{role}_sign"], 16), ec.SECP256R1()) for role in ("gateway", "centre")
    )
    believe(tmp_path, GatewayIdentity.of(WRITTEN, gateway).public.encode(), WRITTEN)
    assert isinstance(wrap, rsa.RSAPrivateKey)
    believe(tmp_path, Centre.of(centre, wrap).public.encode(), "centre", "centres")
    return loaded


def test_it_reads_every_batch_of_the_vectors(tmp_path: Path, vectors: dict[str, Any]) -> None:
    messages = [(topic(WRITTEN, "up", "key"), bytes.fromhex(vectors["signed"][0]["message"]))]
    wanted: list[dict[str, Any]] = []
    records_of = {each["body"]: each["records"] for each in vectors["bodies"]}
    for sealed in vectors["sealed"]:
        if int(sealed["seq"]) < REPLY_SEQ:
            name = {65001: "batch", 65002: "event"}[sealed["content_type"]]
            messages.append((topic(WRITTEN, "up", name), bytes.fromhex(sealed["message"])))
            origin = {"gateway": WRITTEN, "epoch": str(sealed["epoch"]), "seq": sealed["seq"]}
            wanted += [origin | record for record in records_of[sealed["body"]]]
    code, records, complaints = opened(tmp_path, messages)
    assert (code, complaints) == (0, "")
    assert records == list(map(plainly, wanted))


def signed_messages(vectors: dict[str, Any]) -> list[Message]:
    """All that are signed, each on its topic."""
    return [
        (topic(WRITTEN, "down" if each["kind"] in DOWN else "up", each["kind"]), bytes.fromhex(each["message"]))
        for each in vectors["signed"]
    ]


def test_it_reads_every_other_message_of_the_vectors(tmp_path: Path, vectors: dict[str, Any]) -> None:
    plain = [(topic(WRITTEN, "up", name), told.encode()) for name, told in vectors["plain"].items()]
    code, told_messages, complaints = opened(
        tmp_path, [*signed_messages(vectors), *plain], program="read_messages.js"
    )  # fmt: skip
    assert (code, complaints) == (0, "")
    told_of = {each.pop("on"): each for each in told_messages}
    assert set(told_of) == {each["kind"] for each in vectors["signed"]} | set(vectors["plain"])
    contents = {name: told_of[name].pop("content") for name in ("reply", "manifest")}
    for each in vectors["signed"]:
        assert [1, *told_of[each["kind"]].values()] == each["fields"], each["kind"]
    for name, text in vectors["plain"].items():
        wanted = json.loads(text)
        assert told_of[name] == wanted | {"epoch": str(wanted["epoch"])}
    bodies = {each["body"]: each["records"] for each in vectors["bodies"]}
    sealed = {each["kind"]: each["body"] for each in vectors["sealed"]}
    assert contents["reply"] == list(map(plainly, bodies[sealed["reply"]]))
    assert [(meter, total) for meter, _, total, _ in contents["manifest"][6]] == [
        (each["meter"], each["sum"]) for each in vectors["account"]["meters"]
    ]


def test_it_believes_no_message_of_the_other_side_or_on_another_topic(tmp_path: Path, vectors: dict[str, Any]) -> None:
    names = ["key", "hello", "reply", "manifest", *DOWN]
    elsewhere = [
        (topic(WRITTEN, "down" if name in DOWN else "up", name), message)
        for on, message in signed_messages(vectors) for name in names if not on.endswith(name)
    ]  # fmt: skip
    code, told_messages, complaints = opened(tmp_path, elsewhere, program="read_messages.js")
    assert (code, told_messages, complaints.count("\n")) == (1, [], len(elsewhere))


@pytest.mark.parametrize("wrap", ["rsa", "hpke"])
def test_it_reads_any_records(wrap: str, tmp_path: Path) -> None:
    gateway = Gateway(centre=Centre.create(tmp_path / "keys", wrap=wrap))
    believe(tmp_path / "keys", identity(gateway.id).public.encode(), gateway.id)
    bodies = [some_records(Random(seed)) for seed in range(200)]
    code, records, complaints = opened(
        tmp_path / "keys", [gateway.key(), *(gateway.batch(seq, body) for seq, body in enumerate(bodies, 1))]
    )
    assert (code, complaints) == (0, "")
    assert records == [
        plainly({"gateway": gateway.id, "epoch": str(gateway.epoch), "seq": str(seq)} | told(record))
        for seq, body in enumerate(bodies, 1) for record in body
    ]  # fmt: skip


def plainly(record: dict[str, Any]) -> dict[str, Any]:
    """The record with its numbers written without an exponent."""
    for value in record.get("values", ()):
        if value["number"] is not None:
            value["number"] = format(Decimal(value["number"]), "f")
    return record
