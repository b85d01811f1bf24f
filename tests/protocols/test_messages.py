"""Messages and topics: what comes back is what was sent, and nothing else is believed."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from identity.public import PublicKeys, key_id, signer
from protocols.errors import Malformed
from protocols.messages import (
    Health,
    Hello,
    KeyRecord,
    Manifest,
    Receipt,
    Reply,
    Request,
    State,
    Wrapped,
    signed,
    verified,
)
from protocols.topics import DOWN, UP, bucket, parse_topic, topic

GATEWAYS = st.from_regex(r"[a-z0-9-]{1,32}", fullmatch=True)
WHOLE = st.integers(0, 2**63 - 1)
PAIRS = st.lists(st.tuples(WHOLE, WHOLE), max_size=4).map(tuple)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=16)
KIDS = st.binary(min_size=8, max_size=8)
DAYS = st.integers(0, 2**32 - 1)


@st.composite
def ranges(draw: st.DrawFn) -> tuple[int, tuple[tuple[int, int], ...]]:
    """(contiguous_upto, ranges above it)."""
    marks = sorted(draw(st.sets(st.integers(0, 10**6), min_size=1, max_size=9)))
    return marks[0] - 1, tuple(zip(marks[1::2], marks[2::2], strict=False))


@st.composite
def receipts(draw: st.DrawFn) -> Receipt:
    """Any receipt."""
    upto, above = draw(ranges())
    return Receipt(
        gateway=draw(GATEWAYS), epoch=draw(WHOLE), contiguous_upto=upto, ranges=above,
        rejected=draw(st.lists(st.tuples(WHOLE, TEXTS), max_size=3).map(tuple)),
        need_key=draw(st.lists(KIDS, max_size=3).map(tuple)), sent_at=draw(WHOLE),
    )  # fmt: skip


MESSAGES: dict[type[Any], st.SearchStrategy[Any]] = {
    KeyRecord: st.builds(
        KeyRecord, gateway=GATEWAYS, epoch=WHOLE, kid=KIDS, day=DAYS, salt=st.binary(min_size=4, max_size=4),
        wrapped=st.lists(
            st.builds(Wrapped, kid=KIDS, algorithm=st.integers(-70_000, 70_000), key=st.binary(min_size=1)), max_size=3
        ).map(tuple),
    ),
    Hello: st.builds(
        Hello, gateway=GATEWAYS, epoch=WHOLE, first_unsettled=WHOLE, next_seq=WHOLE, voided=PAIRS, pending=WHOLE,
        oldest_at=st.none() | WHOLE, sent_at=WHOLE,
    ),
    Receipt: receipts(),
    Request: st.builds(
        Request, gateway=GATEWAYS, request=st.binary(min_size=16, max_size=16), action=TEXTS,
        arguments=st.dictionaries(TEXTS, TEXTS | st.integers(-(2**63), 2**63), max_size=3), sent_at=WHOLE,
        expires_at=WHOLE,
    ),
    Reply: st.builds(
        Reply, gateway=GATEWAYS, epoch=WHOLE, request=st.binary(min_size=16, max_size=16), status=TEXTS, detail=TEXTS,
        sealed=st.binary(max_size=64), sent_at=WHOLE,
    ),
    Manifest: st.builds(
        Manifest, gateway=GATEWAYS, epoch=WHOLE, day=DAYS, plan=st.binary(min_size=32, max_size=32),
        sealed=st.binary(max_size=64), sent_at=WHOLE,
    ),
    State: st.builds(State, gateway=GATEWAYS, online=st.booleans(), epoch=WHOLE, at=WHOLE, software=TEXTS),
    Health: st.builds(
        Health, gateway=GATEWAYS, epoch=WHOLE, at=WHOLE, counters=st.dictionaries(TEXTS, st.integers(), max_size=3),
        facts=st.dictionaries(TEXTS, TEXTS, max_size=3),
    ),
}  # fmt: skip
SIGNED = [kind for kind in MESSAGES if kind not in (State, Health)]
EXAMPLES: dict[type[Any], Any] = {
    KeyRecord: KeyRecord(gateway="gw-1", epoch=1, kid=bytes(8), day=1, salt=bytes(4), wrapped=()),
    Hello: Hello(gateway="gw-1", epoch=1, first_unsettled=1, next_seq=1, pending=0, oldest_at=None, sent_at=1),
    Receipt: Receipt(gateway="gw-1", epoch=1, contiguous_upto=0, sent_at=1),
    Request: Request(gateway="gw-1", request=bytes(16), action="read", sent_at=1, expires_at=2),
    Reply: Reply(gateway="gw-1", epoch=1, request=bytes(16), status="done", sent_at=1),
    Manifest: Manifest(gateway="gw-1", epoch=1, day=1, plan=bytes(32), sealed=b"", sent_at=1),
}
PRIVATE = ec.derive_private_key(0xC0FFEE, ec.SECP256R1())
PUBLIC = PublicKeys(role="centre", id="centre", sign=(PRIVATE.public_key(),))


def sign(message: Any) -> bytes:
    """The message as it is published."""
    return signed(message, kid=key_id(PRIVATE.public_key()), sign=signer(PRIVATE))


@pytest.mark.parametrize("kind", list(MESSAGES))
@given(data=st.data())
@settings(max_examples=30)
def test_a_message_comes_back_as_it_was(kind: type[Any], data: st.DataObject) -> None:
    message = data.draw(MESSAGES[kind])
    assert kind.decode(message.encode()) == message


@pytest.mark.parametrize("kind", SIGNED)
def test_a_signed_message_is_taken_only_as_its_kind_and_for_its_gateway(kind: type[Any]) -> None:
    message = EXAMPLES[kind]
    published = sign(message)
    assert verified(kind, published, gateway="gw-1", verify=PUBLIC.verify) == message
    for other in SIGNED:
        if other is not kind:
            with pytest.raises(Malformed):
                verified(other, published, gateway="gw-1", verify=PUBLIC.verify)
    with pytest.raises(Malformed, match="gw-2"):
        verified(kind, published, gateway="gw-2", verify=PUBLIC.verify)
    with pytest.raises(Malformed, match="not signed"):
        verified(kind, published, gateway="gw-1", verify=lambda *_: False)


@pytest.mark.parametrize("kind", SIGNED)
def test_a_signed_message_has_no_other_kinds_payload(kind: type[Any]) -> None:
    """Told apart by their header; this shows that the payloads alone would not be mistaken either, but for luck."""
    for other in SIGNED:
        if len(cbor2.loads(EXAMPLES[other].encode())) != len(cbor2.loads(EXAMPLES[kind].encode())):
            with pytest.raises(Malformed):
                kind.decode(EXAMPLES[other].encode())


@pytest.mark.parametrize("kind", list(MESSAGES))
@given(data=st.binary(max_size=80))
@settings(max_examples=30)
def test_random_bytes_are_no_message(kind: type[Any], data: bytes) -> None:
    with pytest.raises(Malformed):
        kind.decode(data)


@pytest.mark.parametrize("kind", list(MESSAGES))
@given(data=st.data())
@settings(max_examples=40)
def test_a_damaged_message_raises_only_malformed(kind: type[Any], data: st.DataObject) -> None:
    payload = bytearray(data.draw(MESSAGES[kind]).encode())
    payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    try:
        kind.decode(bytes(payload))
    except Malformed:
        return


@pytest.mark.parametrize("kind", SIGNED)
def test_a_field_of_the_wrong_type_is_malformed(kind: type[Any]) -> None:
    fields = cbor2.loads(EXAMPLES[kind].encode())
    for place, field in enumerate(fields):
        wrongs: list[object] = [-2, 1 << 63, 1.5, "x" * 3000, b"x", {"a": []}, [[[1]]], True]
        for wrong in wrongs:
            if wrong == b"x" and kind in (Reply, Manifest) and field == b"":
                continue  # sealed: any bytes will do here, until they are opened
            with pytest.raises(Malformed):
                kind.decode(cbor2.dumps([*fields[:place], wrong, *fields[place + 1 :]]))


@pytest.mark.parametrize(
    ("upto", "above"), [(5, ((5, 6),)), (5, ((7, 8), (8, 9))), (5, ((9, 7),)), (0, ((3, 4), (1, 2)))]
)
def test_a_receipt_names_each_number_once_and_in_order(upto: int, above: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(ValueError, match="range"):
        replace(EXAMPLES[Receipt], contiguous_upto=upto, ranges=above)
    payload = cbor2.dumps([1, "gw-1", 1, upto, above, [], [], 1])
    with pytest.raises(Malformed, match="range"):
        Receipt.decode(payload)


def test_another_version_is_refused() -> None:
    for kind in SIGNED:
        fields = cbor2.loads(EXAMPLES[kind].encode())
        for version in (0, 3):
            with pytest.raises(Malformed, match="version"):
                kind.decode(cbor2.dumps([version, *fields[1:]]))
    with pytest.raises(Malformed, match="expected an array of 8"):
        KeyRecord.decode(cbor2.dumps([2, *cbor2.loads(EXAMPLES[KeyRecord].encode())[1:]]))
    with pytest.raises(Malformed, match="version"):
        State.decode(b'{"v": 2, "gateway": "gw-1", "state": "online", "epoch": 1, "at": 1}')


@given(GATEWAYS)
@settings(max_examples=30)
def test_a_topic_comes_apart_as_it_was_put_together(gateway: str) -> None:
    for direction, names in (("up", UP), ("down", DOWN)):
        for name in names:
            text = topic(gateway, direction, name)  # type: ignore[arg-type]
            assert text == f"mw/v1/{bucket(gateway)}/{gateway}/{direction}/{name}"
            assert parse_topic(text) == (bucket(gateway), gateway, direction, name)


def test_the_bucket_is_the_low_byte_of_crc32() -> None:
    assert topic("gw-0001", "up", "batch") == "mw/v1/21/gw-0001/up/batch"


@pytest.mark.parametrize(
    "text",
    [
        "", "mw/v1", "mw/v2/21/gw-0001/up/batch", "mw/v1/00/gw-0001/up/batch", "mw/v1/021/gw-0001/up/batch",
        "mw/v1/21/gw-0001/up/receipt", "mw/v1/21/gw-0001/down/batch", "mw/v1/21/gw-0001/sideways/batch",
        "mw/v1/21/gw-0001/up/batch/", "mw/v1/21/GW/up/batch", "mw/v1/00//up/batch", "mw/v1/21/gw-0001\n/up/batch",
    ],
)  # fmt: skip
def test_a_topic_that_is_not_ours_is_malformed(text: str) -> None:
    with pytest.raises(Malformed):
        parse_topic(text)


@pytest.mark.parametrize(
    "make", [lambda: topic("GW", "up", "batch"), lambda: topic("g", "up", "receipt"), lambda: topic("g", "down", "key")]
)
def test_a_topic_that_there_is_not_is_not_made(make: Callable[[], str]) -> None:
    with pytest.raises(ValueError):
        make()
