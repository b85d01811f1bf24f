"""Sealed and signed messages: opened as exactly what they were made as, or not at all."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cwt import COSE, COSEKey
from hypothesis import given, settings
from hypothesis import strategies as st
from pycose.algorithms import A256GCM, Es256
from pycose.headers import IV, Algorithm, ContentType
from pycose.headers import KID as KIDHeader
from pycose.keys.ec2 import EC2Key
from pycose.keys.symmetric import SymmetricKey
from pycose.messages.cosemessage import CoseMessage
from pycose.messages.enc0message import Enc0Message
from pycose.messages.sign1message import Sign1Message

from identity.public import PublicKeys, key_id, signer
from protocols import envelope
from protocols.cbor import read
from protocols.envelope import ADDED_MAX, REPLY_SEQ, BatchKind, DataKey, SignedKind, sign1, verify1
from protocols.errors import Malformed

KEY = DataKey(kid=b"kid-0001", key=bytes(range(32)), salt=b"salt", epoch=(3 << 32) | 77, day=20_000)
PRIVATE = ec.derive_private_key(0xC0FFEE, ec.SECP256R1())
PUBLIC = PublicKeys(role="gateway", id="gw-1", sign=(PRIVATE.public_key(),))
KID = key_id(PRIVATE.public_key())
SIGN = signer(PRIVATE)
BODY = b"a body that looks like nothing else" * 4


def sealed(seq: int = 7, kind: BatchKind = BatchKind.CAPTURES, body: bytes = BODY) -> bytes:
    """A message of gateway gw-1."""
    return envelope.seal(KEY, gateway="gw-1", seq=seq, kind=kind, body=body)


@given(
    st.binary(max_size=300),
    st.sampled_from(list(BatchKind)),
    st.integers(1, REPLY_SEQ - 1),
    st.from_regex(r"[a-z0-9-]{1,32}", fullmatch=True),
)
def test_what_was_sealed_opens(body: bytes, kind: BatchKind, count: int, gateway: str) -> None:
    seq = count if kind in (BatchKind.CAPTURES, BatchKind.EVENTS) else REPLY_SEQ + count
    message = envelope.seal(KEY, gateway=gateway, seq=seq, kind=kind, body=body)
    opened = envelope.open(message, data_key=KEY, gateway=gateway)
    assert (opened.seq, opened.kind, opened.body) == (seq, kind, body)
    head = envelope.header(message)
    assert (head.kid, head.salt, head.seq, head.kind) == (KEY.kid, KEY.salt, seq, kind)


@pytest.mark.parametrize("length", [0, 1, 7, 8, 239, 240, 8_000, 65_519, 65_520, 200_000])
def test_sealing_adds_at_most_56_bytes(length: int) -> None:
    message = sealed(body=bytes(length))
    assert len(message) - length <= ADDED_MAX == 56
    assert envelope.open(message, data_key=KEY, gateway="gw-1").body == bytes(length)


def test_a_batch_opens_only_as_what_it_was_sealed_as() -> None:
    message = sealed()
    for key, gateway in [
        (KEY, "gw-2"),
        (replace(KEY, epoch=KEY.epoch + 1), "gw-1"),
        (replace(KEY, key=bytes(32)), "gw-1"),
        (replace(KEY, kid=b"kid-0002"), "gw-1"),
        (replace(KEY, salt=b"tlas"), "gw-1"),
    ]:
        with pytest.raises(Malformed):
            envelope.open(message, data_key=key, gateway=gateway)


def _flips(message: bytes) -> list[bytes]:
    return [
        message[:at] + bytes((message[at] ^ 1 << bit,)) + message[at + 1 :]
        for at in range(len(message))
        for bit in range(8)
    ]


def test_every_flipped_bit_of_a_batch_is_rejected() -> None:
    for damaged in _flips(sealed()):
        with pytest.raises(Malformed):
            envelope.open(damaged, data_key=KEY, gateway="gw-1")


def test_every_cut_and_every_added_byte_is_rejected() -> None:
    message = sealed()
    for damaged in [message[:at] for at in range(len(message))] + [message + b"\0", b"\0" + message]:
        with pytest.raises(Malformed):
            envelope.open(damaged, data_key=KEY, gateway="gw-1")


def test_another_kind_or_number_put_in_front_is_rejected() -> None:
    batch, event, next_one = sealed(), sealed(kind=BatchKind.EVENTS), sealed(seq=8)
    for other in (event, next_one):
        with pytest.raises(Malformed):
            envelope.open(other[:35] + batch[35:], data_key=KEY, gateway="gw-1")


def test_the_same_bytes_in_another_form_are_rejected() -> None:
    message = sealed(body=b"x")
    assert message[35:36] == b"\x51"
    with pytest.raises(Malformed, match="shortest"):
        envelope.open(message[:35] + b"\x58\x11" + message[36:], data_key=KEY, gateway="gw-1")


@pytest.mark.parametrize(
    ("kind", "seq"),
    [(BatchKind.CAPTURES, 0), (BatchKind.EVENTS, REPLY_SEQ), (BatchKind.REPLY, 1), (BatchKind.MANIFEST, 1 << 64)],
)
def test_numbers_of_batches_and_of_replies_never_meet(kind: BatchKind, seq: int) -> None:
    with pytest.raises(ValueError):
        envelope.seal(KEY, gateway="gw-1", seq=seq, kind=kind, body=b"")


@given(st.binary(max_size=120))
def test_random_bytes_are_malformed(data: bytes) -> None:
    for message in (data, sealed()[:3] + data, sealed()[:35] + data):
        with pytest.raises(Malformed):
            envelope.open(message, data_key=KEY, gateway="gw-1")
        with pytest.raises(Malformed):
            verify1(b"\xd2" + message, kind=SignedKind.RECEIPT, verify=PUBLIC.verify)


def test_a_body_has_at_most_a_mebibyte() -> None:
    widest = bytes(1 << 20)
    assert envelope.open(sealed(body=widest), data_key=KEY, gateway="gw-1").body == widest
    with pytest.raises(ValueError, match="at most 1048576"):
        sealed(body=widest + b"\0")
    message = envelope.seal(KEY, gateway="gw-1", seq=7, kind=BatchKind.CAPTURES, body=b"")
    head, sixteen = message[:-17], message[-16:]
    assert message == head + b"\x50" + sixteen
    for announced in (b"\x4f" + sixteen[1:], b"\x5a\x00\x10\x00\x11" + bytes((1 << 20) + 17)):
        with pytest.raises(Malformed, match="announced"):
            envelope.header(head + announced)


@pytest.mark.parametrize("epoch", [-1, 2**63])
def test_a_data_key_is_of_an_epoch_that_there_can_be(epoch: int) -> None:
    assert replace(KEY, epoch=2**63 - 1).epoch == 2**63 - 1
    with pytest.raises(ValueError, match="epoch"):
        replace(KEY, epoch=epoch)


def test_a_data_key_never_shows_its_key() -> None:
    assert KEY.key.hex() not in repr(KEY)
    assert repr(KEY.key) not in repr(KEY)


def _external() -> bytes:
    """[version, gateway, epoch, kind] in CBOR, written out by hand."""
    return b"\x84\x01\x64gw-1\x1b" + KEY.epoch.to_bytes(8, "big") + b"\x19\xfd\xe9"


def test_cwt_opens_our_batch_and_we_open_its() -> None:
    key = COSEKey.from_symmetric_key(KEY.key, alg="A256GCM", kid=KEY.kid)
    assert COSE.new().decode(sealed(), key, external_aad=_external()) == BODY
    theirs = COSE.new().encode(
        BODY, key, protected={1: 3, 3: 65001, 4: KEY.kid}, unprotected={5: KEY.salt + (9).to_bytes(8, "big")},
        external_aad=_external(),
    )  # fmt: skip
    assert envelope.open(theirs, data_key=KEY, gateway="gw-1").body == BODY
    assert theirs == sealed(seq=9)


def test_pycose_opens_our_batch_and_we_open_its() -> None:
    found: Any = CoseMessage.decode(sealed())
    found.key, found.external_aad = SymmetricKey(k=KEY.key), _external()
    assert found.decrypt() == BODY
    theirs = Enc0Message(
        phdr={Algorithm: A256GCM, ContentType: 65001, KIDHeader: KEY.kid},
        uhdr={IV: KEY.salt + (9).to_bytes(8, "big")}, payload=BODY, external_aad=_external(),
        key=SymmetricKey(k=KEY.key),
    )  # fmt: skip
    assert envelope.open(theirs.encode(), data_key=KEY, gateway="gw-1").body == BODY


def signed(kind: SignedKind = SignedKind.RECEIPT, payload: bytes = b"payload") -> bytes:
    """A message signed by gw-1."""
    return sign1(payload, kind=kind, kid=KID, sign=SIGN)


@given(st.binary(min_size=1, max_size=300), st.sampled_from(list(SignedKind)))
@settings(max_examples=20)
def test_what_was_signed_verifies_only_as_its_kind(payload: bytes, kind: SignedKind) -> None:
    message = signed(kind, payload)
    assert verify1(message, kind=kind, verify=PUBLIC.verify) == payload
    for other in SignedKind:
        if other is not kind:
            with pytest.raises(Malformed):
                verify1(message, kind=other, verify=PUBLIC.verify)


def test_a_signed_message_says_who_signed_it() -> None:
    for kid in (KID, b"kid-0002"):
        assert envelope.signer_of(sign1(b"payload", kind=SignedKind.HELLO, kid=kid, sign=SIGN)) == kid


def test_every_flipped_bit_of_a_signed_message_is_rejected() -> None:
    for damaged in _flips(signed()):
        with pytest.raises(Malformed):
            verify1(damaged, kind=SignedKind.RECEIPT, verify=PUBLIC.verify)


def test_a_stranger_signs_in_vain() -> None:
    other = ec.derive_private_key(0xBAD, ec.SECP256R1())
    forged: list[Callable[[], bytes]] = [
        lambda: sign1(b"payload", kind=SignedKind.RECEIPT, kid=KID, sign=signer(other)),
        lambda: sign1(b"payload", kind=SignedKind.RECEIPT, kid=key_id(other.public_key()), sign=signer(other)),
        lambda: sign1(b"payload", kind=SignedKind.RECEIPT, kid=KID, sign=lambda _: bytes(64)),
    ]
    for make in forged:
        with pytest.raises(Malformed, match="not signed by a trusted key"):
            verify1(make(), kind=SignedKind.RECEIPT, verify=PUBLIC.verify)


def _numbers() -> tuple[bytes, bytes, bytes]:
    private, public = PRIVATE.private_numbers(), PRIVATE.public_key().public_numbers()
    return tuple(number.to_bytes(32, "big") for number in (public.x, public.y, private.private_value))  # type: ignore[return-value]


def test_cwt_verifies_our_signature_and_we_verify_its() -> None:
    x, y, d = _numbers()
    key = COSEKey.new({1: 2, 2: KID, 3: -7, -1: 1, -2: x, -3: y, -4: d})
    assert COSE.new().decode(signed(), key, external_aad=b"\x81\x01") == b"payload"
    theirs = COSE.new().encode(b"payload", key, protected={1: -7, 3: 65013, 4: KID}, external_aad=b"\x81\x01")
    assert verify1(theirs, kind=SignedKind.RECEIPT, verify=PUBLIC.verify) == b"payload"


def test_pycose_verifies_our_signature_and_we_verify_its() -> None:
    x, y, d = _numbers()
    key = EC2Key(crv="P_256", x=x, y=y, d=d)
    found: Any = CoseMessage.decode(signed())
    found.key, found.external_aad = key, b"\x81\x01"
    assert found.verify_signature()
    theirs = Sign1Message(
        phdr={Algorithm: Es256, ContentType: 65013, KIDHeader: KID}, payload=b"payload", external_aad=b"\x81\x01",
        key=key,
    )  # fmt: skip
    assert verify1(theirs.encode(), kind=SignedKind.RECEIPT, verify=PUBLIC.verify) == b"payload"


@pytest.mark.parametrize(
    "data",
    [
        "", "1800", "190001", "1a00000001", "5f4101ff", "9f01ff", "f90000", "fb0000000000000000", "c000", "d82345",
        "9b7fffffffffffffff", "bb7fffffffffffffff", "5b7fffffffffffffff", "81" * 4000 + "00", "a201020102", "a1f500",
        "61ff", "f7", "f814", "0000", "a14100f6",
    ],
)  # fmt: skip
def test_cbor_that_is_not_ours_is_malformed(data: str) -> None:
    with pytest.raises(Malformed):
        read(bytes.fromhex(data))


@given(st.binary(max_size=100))
def test_random_cbor_is_read_or_malformed(data: bytes) -> None:
    try:
        read(data)
    except Malformed:
        return
