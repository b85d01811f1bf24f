"""docs/wire-vectors.json stays true: the code gives it, and takes it."""

import json
import re
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from identity.centre import Centre, GatewayTrust
from identity.datakey import open_key_record
from identity.gateway import GatewayIdentity
from protocols import batch, envelope, messages
from protocols.batch.codes import (
    COLUMNS_MAX,
    FAULTS,
    FORMS,
    QUALITIES,
    RECORDS_MAX,
    SIDES,
    SOURCES,
    STRINGS_MAX,
    TEXT_MAX,
    TIME_STATES,
    VALUES_MAX,
)
from protocols.batch.codes import KINDS as KINDS_OF
from protocols.batch.ints import Reader, Runs
from protocols.capture import Record
from protocols.envelope import BatchKind, DataKey, SignedKind
from protocols.manifest import DayPart
from protocols.suites import contents
from tests import wire_reader, wire_vectors
from tests.records import RECORDS, reference_load, series
from tests.wire_vectors import FILE, GATEWAY, build, told, written

KINDS: dict[str, type[Any]] = {
    "key": messages.KeyRecord, "hello": messages.Hello, "receipt": messages.Receipt, "request": messages.Request,
    "reply": messages.Reply, "manifest": messages.Manifest,
}  # fmt: skip


@pytest.fixture(scope="module")
def vectors() -> dict[str, Any]:
    """The file."""
    loaded: dict[str, Any] = json.loads(FILE.read_text())
    return loaded


@pytest.fixture(scope="module")
def data_key(vectors: dict[str, Any]) -> DataKey:
    """Its data key."""
    told_key = vectors["data_key"]
    return DataKey(
        kid=bytes.fromhex(told_key["kid"]), key=bytes.fromhex(told_key["key"]), salt=bytes.fromhex(told_key["salt"]),
        epoch=told_key["epoch"], day=told_key["day"],
    )  # fmt: skip


def test_the_code_gives_the_file(vectors: dict[str, Any]) -> None:
    assert written(build(vectors)) == FILE.read_text(), "run python -m tests.wire_vectors and look at what changed"


def test_every_column_and_body_of_the_file_reads_as_it_says(vectors: dict[str, Any]) -> None:
    for column in vectors["columns"]:
        reader = Reader(bytes.fromhex(column["bytes"]))
        numbers = reader.column(Runs(list(map(len, column["runs"]))))
        assert numbers == [number for run in column["runs"] for number in run]
        reader.end()
    for body in vectors["bodies"]:
        assert list(map(told, batch.decode(bytes.fromhex(body["body"])))) == body["records"]


def test_every_batch_of_the_file_opens(vectors: dict[str, Any], data_key: DataKey) -> None:
    for sealed in vectors["sealed"]:
        opened = envelope.open(bytes.fromhex(sealed["message"]), data_key=data_key, gateway=sealed["gateway"])
        assert (opened.seq, opened.kind, opened.body.hex()) == (
            int(sealed["seq"]),
            sealed["content_type"],
            sealed["body"],
        )


def test_a_batch_of_the_file_opens_with_the_other_algorithms(vectors: dict[str, Any]) -> None:
    part, keys = vectors["algorithms"], vectors["keys"]
    wrap = wire_vectors._p256(part["centre_wrap_p256"])
    centre = replace(Centre.of(wire_vectors._p256(keys["centre_sign"]), wrap), accepted=contents(["aes", "sm"]))
    known = GatewayTrust.of(GatewayIdentity.of(GATEWAY, wire_vectors._p256(keys["gateway_sign"])).public)
    key = open_key_record(bytes.fromhex(part["key"]), gateway=GATEWAY, centre=centre, verify=known.verifier(GATEWAY))
    assert key.key.hex() == part["data_key"]
    message = bytes.fromhex(part["message"])
    assert message[:11].hex().upper() == "D08355A3013A000101D003"
    assert envelope.open(message, data_key=key, gateway=GATEWAY).body.hex() == part["body"]


def test_every_signed_message_of_the_file_verifies(vectors: dict[str, Any], data_key: DataKey) -> None:
    keys = vectors["keys"]
    gateway = GatewayIdentity.of(GATEWAY, wire_vectors._p256(keys["gateway_sign"]))
    centre = Centre.of(wire_vectors._p256(keys["centre_sign"]), wire_vectors._rsa(keys["centre_wrap_pkcs8"]))
    signers = {"gateway_sign": gateway.public, "centre_sign": centre.public}
    for signed in vectors["signed"]:
        message, kind = bytes.fromhex(signed["message"]), KINDS[signed["kind"]]
        found = messages.verified(kind, message, gateway=GATEWAY, verify=signers[signed["signer"]].verify)
        assert found.encode().hex() == signed["payload"]
    record = bytes.fromhex(vectors["signed"][0]["message"])
    known = GatewayTrust.of(gateway.public)
    assert open_key_record(record, gateway=GATEWAY, centre=centre, verify=known.verifier(GATEWAY)) == data_key


def test_the_sums_of_the_file_are_those_of_the_page(vectors: dict[str, Any]) -> None:
    """By the words of section 4 alone, and by the house."""
    account = DayPart.decode(bytes.fromhex(vectors["account"]["body"]))
    for meter, day in zip(vectors["account"]["meters"], account.meters, strict=True):
        total = 0
        for quantity, stamp, source, value in meter["values"]:
            whole = re.sub(r"\.?0*$", "", value) if "." in value else value
            text = f"{quantity}\n{stamp}\n{source}\n{'0' if whole == '-0' else whole}"
            total += int.from_bytes(sha256(text.encode()).digest()[:8], "big")
        assert (total % 2**64).to_bytes(8, "big").hex() == meter["sum"] == day.total.to_bytes(8, "big").hex()
        assert (day.meter, day.values) == (meter["meter"], len(meter["values"]))


def test_the_page_about_the_wire_names_every_part_of_the_file(vectors: dict[str, Any]) -> None:
    page = (FILE.parent / "wire.md").read_text()
    for name in vectors:
        assert name == "about" or f"`{name}`" in page, name


def test_the_page_has_the_numbers_of_the_words() -> None:
    page = (FILE.parent / "wire.md").read_text()
    for what, words in {
        "quality": QUALITIES, "fault": FAULTS, "source": SOURCES, "time state": TIME_STATES,
        "kind of a quantity": KINDS_OF, "form of a quantity": FORMS, "side of a quantity": SIDES,
    }.items():  # fmt: skip
        numbers = ", ".join(f"{number} {word.value}" for number, word in enumerate(words))
        assert f"- {what}: {numbers}\n" in page
    for kind in SignedKind:
        assert f"{kind.name.lower()} {kind:d}" in page
    for sealed in BatchKind:
        assert f"| {sealed:d} |" in page
    for limit in (RECORDS_MAX, STRINGS_MAX, TEXT_MAX, VALUES_MAX, COLUMNS_MAX):
        assert f"{limit:,}" in page


@given(st.lists(RECORDS, max_size=6) | series())
@settings(max_examples=60)
def test_a_reader_written_from_the_page_alone_reads_the_same(records: list[Record]) -> None:
    assert wire_reader.Reader(batch.encode(records)).records() == list(map(told, records))


def test_a_reader_written_from_the_page_alone_reads_the_file(vectors: dict[str, Any]) -> None:
    for body in vectors["bodies"]:
        assert wire_reader.Reader(bytes.fromhex(body["body"])).records() == body["records"]
    numbers = wire_reader.Reader(bytes.fromhex(vectors["bodies"][0]["body"]))
    assert [numbers.name(each["number"]) for each in vectors["variants"]] == [e["name"] for e in vectors["variants"]]
    records = reference_load(meters=10)
    assert wire_reader.Reader(batch.encode(records)).records() == list(map(told, records))
