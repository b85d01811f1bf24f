"""The table of algorithms: each one works or says what is lacking, and none is talked down to another."""

import os
from dataclasses import replace
from typing import Any

import cbor2
import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from identity.centre import Centre, GatewayTrust
from identity.datakey import NotAccepted, key_record, new_data_key, open_key_record
from identity.gateway import CentreTrust, GatewayIdentity
from identity.public import fingerprint
from identity.wrapping import info, wrap
from protocols import envelope, suites
from protocols.envelope import ADDED_MAX, BatchKind, DataKey, SignedKind, sign1, verify1
from protocols.errors import Malformed
from protocols.messages import KeyRecord, Wrapped, signed
from protocols.suites import A256GCM, CONTENT, DIGEST, ES256, SM2, SM3_256, SM4_GCM, SUITES, contents

IDENTITY = GatewayIdentity.of("gw-1", ec.derive_private_key(0xC0FFEE, ec.SECP256R1()))
CENTRE = Centre.of(ec.derive_private_key(0xBEAD, ec.SECP256R1()), ec.derive_private_key(0xFACE, ec.SECP256R1()))
TRUST, KNOWN = CentreTrust.of(CENTRE.public), GatewayTrust.of(IDENTITY.public)
BOTH = replace(CENTRE, accepted=contents(SUITES))
BODY = b"a body that looks like nothing else" * 4


def a_key(algorithm: int = SM4_GCM) -> DataKey:
    return new_data_key((3 << 32) | 77, 20_000, os.urandom, algorithm)


def sealed(key: DataKey, seq: int = 7, body: bytes = BODY) -> bytes:
    """A message of gateway gw-1."""
    return envelope.seal(key, gateway="gw-1", seq=seq, kind=BatchKind.CAPTURES, body=body)


def opened(message: bytes, key: DataKey) -> bytes:
    return envelope.open(message, data_key=key, gateway="gw-1").body


@pytest.mark.parametrize("suite", SUITES.values(), ids=list(SUITES))
@given(body=st.binary(max_size=200), seq=st.integers(1, 2**63 - 1))
def test_what_a_suite_seals_it_opens(suite: suites.Suite, body: bytes, seq: int) -> None:
    key = a_key(suite.content)
    message = sealed(key, seq, body)
    assert opened(message, key) == body
    assert envelope.header(message).algorithm == suite.content
    for other in (key.algorithm, *CONTENT):
        if other != key.algorithm:
            with pytest.raises(Malformed):
                opened(message, replace(a_key(other), kid=key.kid, salt=key.salt))


@pytest.mark.parametrize("suite", SUITES.values(), ids=list(SUITES))
@pytest.mark.parametrize("length", [0, 8, 65_519, 65_520, 1 << 20])
def test_every_suite_adds_the_same_few_bytes(suite: suites.Suite, length: int) -> None:
    message = sealed(a_key(suite.content), body=bytes(length))
    assert len(message) - length <= ADDED_MAX == 56


def test_every_flipped_bit_of_an_sm4_batch_is_rejected() -> None:
    key = a_key()
    message = sealed(key)
    for at in range(len(message)):
        for bit in range(8):
            with pytest.raises(Malformed):
                opened(message[:at] + bytes((message[at] ^ 1 << bit,)) + message[at + 1 :], key)


def test_sm4_gcm_has_the_answer_of_rfc_8998() -> None:
    """RFC 8998 appendix A.1."""
    key, nonce = bytes.fromhex("0123456789ABCDEFFEDCBA9876543210"), bytes.fromhex("00001234567800000000ABCD")
    associated = bytes.fromhex("FEEDFACEDEADBEEFFEEDFACEDEADBEEFABADDAD2")
    body = b"".join(bytes((byte,)) * 8 for byte in (0xAA, 0xBB, 0xCC, 0xDD, 0xEE, 0xFF, 0xEE, 0xAA))
    expected = bytes.fromhex(
        "17F399F08C67D5EE19D0DC9969C4BB7D5FD46FD3756489069157B282BB200735"
        "D82710CA5C22F0CCFA7CBF93D496AC15A56834CBCF98C397B4024A2691233B8D"
        "83DE3541E4C2B58177E065A9BF7B62EC"
    )
    row = CONTENT[SM4_GCM]
    assert row.seal(key, nonce, body, associated) == expected
    assert row.open(key, nonce, expected, associated) == body


def test_sm3_has_the_answer_of_the_standard() -> None:
    """GB/T 32905-2016 appendix A.1."""
    assert DIGEST[SM3_256].of(b"abc").hex() == "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0"
    assert fingerprint(CENTRE.public.sign[0], SM3_256).startswith("SM3:")


def test_a_nonce_of_sm4_is_the_salt_and_the_number_though_only_the_number_travels() -> None:
    key = a_key()
    message = sealed(key, seq=0x1122334455667788)
    assert key.salt not in message and bytes.fromhex("A106481122334455667788") in message
    assert opened(message, key) == BODY
    with pytest.raises(Malformed):
        opened(message, replace(key, salt=bytes(4)))


def test_a_centre_opens_what_it_accepts_and_no_more() -> None:
    for algorithm in CONTENT:
        key = a_key(algorithm)
        record = key_record(IDENTITY, TRUST, key)
        assert open_key_record(record, gateway="gw-1", centre=BOTH, verify=KNOWN.verifier("gw-1")) == key
    with pytest.raises(NotAccepted, match="for SM4-GCM, accepted here: A256GCM"):
        open_key_record(
            key_record(IDENTITY, TRUST, a_key()), gateway="gw-1", centre=CENTRE, verify=KNOWN.verifier("gw-1")
        )
    only_sm = replace(CENTRE, accepted=contents(["sm"]))
    with pytest.raises(NotAccepted, match="for A256GCM, accepted here: SM4-GCM"):
        open_key_record(
            key_record(IDENTITY, TRUST, a_key(A256GCM)), gateway="gw-1", centre=only_sm, verify=KNOWN.verifier("gw-1")
        )


def test_an_algorithm_that_there_is_not_is_named() -> None:
    message = sealed(a_key())
    at = message.index(cbor2.dumps(SM4_GCM))
    for number in (-66999, -70000):
        with pytest.raises(Malformed, match=rf"algorithm {number}: expected A256GCM \(3\), SM4-GCM"):
            envelope.header(message[:at] + cbor2.dumps(number) + message[at + 5 :])
    record = KeyRecord(gateway="gw-1", epoch=1, kid=bytes(8), day=1, salt=bytes(4), wrapped=(), algorithm=SM4_GCM)
    fields = cbor2.loads(record.encode())
    wrongs: list[tuple[object, str]] = [
        (24, "algorithm 24: expected A256GCM"), (A256GCM, "expected version 1"), ("3", "expected")
    ]  # fmt: skip
    for wrong, said in wrongs:
        with pytest.raises(Malformed, match=said):
            KeyRecord.decode(cbor2.dumps([*fields[:-1], wrong]))


@pytest.mark.parametrize(("number", "said"), [(SM2, "SM2 .* not available"), (-8, "algorithm -8: expected ES256")])
def test_a_signature_that_cannot_be_checked_is_named(number: int, said: str) -> None:
    message = cbor2.loads(sign1(b"payload", kind=SignedKind.RECEIPT, kid=IDENTITY.kid, sign=IDENTITY.sign))
    parts: list[Any] = list(message.value)
    assert cbor2.loads(parts[0])[1] == ES256
    parts[0] = cbor2.dumps({**cbor2.loads(parts[0]), 1: number})
    with pytest.raises(Malformed, match=said):
        verify1(b"\xd2" + cbor2.dumps(parts), kind=SignedKind.RECEIPT, verify=lambda *_: True)


def test_a_wrapping_that_the_recipient_does_not_use_is_named() -> None:
    key = a_key(A256GCM)
    (kid,) = CENTRE.openers
    record = KeyRecord(
        gateway="gw-1", epoch=key.epoch, kid=key.kid, day=key.day, salt=key.salt,
        wrapped=(Wrapped(kid=kid, algorithm=-42, key=b"x"), Wrapped(kid=bytes(8), algorithm=-41, key=b"x")),
    )  # fmt: skip
    message = signed(record, kid=IDENTITY.kid, sign=IDENTITY.sign)
    with pytest.raises(Malformed, match=rf"{kid.hex()} \(unknown algorithm -42\), 0{{16}} \(RSAES-OAEP-256\)"):
        open_key_record(message, gateway="gw-1", centre=CENTRE, verify=KNOWN.verifier("gw-1"))


def test_a_wrapped_key_is_not_moved_to_another_gateway_epoch_or_algorithm() -> None:
    """HPKE binds it. What RSA wraps is bound by the signature over the record alone: the thief must be trusted."""
    key = a_key(A256GCM)
    stolen = KeyRecord.decode(verify1(key_record(IDENTITY, TRUST, key), kind=SignedKind.KEY, verify=lambda *_: True))
    thief = GatewayIdentity.of("gw-2", ec.derive_private_key(0xBAD, ec.SECP256R1()))
    known = GatewayTrust.of(IDENTITY.public, thief.public)
    for who, changed in (
        (thief, replace(stolen, gateway="gw-2")),
        (IDENTITY, replace(stolen, epoch=stolen.epoch + 1)),
        (IDENTITY, replace(stolen, kid=bytes(8))),
        (IDENTITY, replace(stolen, algorithm=SM4_GCM)),
    ):
        message = signed(changed, kid=who.kid, sign=who.sign)
        with pytest.raises(Malformed, match="does not open"):
            open_key_record(message, gateway=changed.gateway, centre=BOTH, verify=known.verifier(changed.gateway))


def test_a_data_key_of_the_wrong_length_is_refused() -> None:
    key = a_key(A256GCM)
    record = KeyRecord.decode(verify1(key_record(IDENTITY, TRUST, key), kind=SignedKind.KEY, verify=lambda *_: True))
    bound = info(gateway="gw-1", epoch=key.epoch, kid=key.kid, algorithm=A256GCM)
    short = wrap(CENTRE.public.wrap[0], bytes(16), bound)
    message = signed(
        replace(record, wrapped=(replace(record.wrapped[0], key=short),)), kid=IDENTITY.kid, sign=IDENTITY.sign
    )
    with pytest.raises(Malformed, match="expected 32 bytes, got 16"):
        open_key_record(message, gateway="gw-1", centre=CENTRE, verify=KNOWN.verifier("gw-1"))
    with pytest.raises(ValueError, match="expected 8, 16, 4 bytes"):
        replace(key, algorithm=SM4_GCM)


def test_a_library_without_sm4_or_sm3_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(*_: object) -> None:
        raise UnsupportedAlgorithm("not here")

    monkeypatch.setattr(suites, "Cipher", lacking)
    monkeypatch.setattr(suites, "Hash", lacking)
    suites.check(["aes"])
    with pytest.raises(suites.Unavailable, match="SM4-GCM: expected an OpenSSL with SM4, got one without"):
        suites.check(["aes", "sm"])
    with pytest.raises(suites.Unavailable, match="SM4-GCM"):
        CONTENT[SM4_GCM].open(bytes(16), bytes(12), bytes(16), b"")
    with pytest.raises(suites.Unavailable, match="SM3: expected an OpenSSL with SM3"):
        DIGEST[SM3_256].of(b"")
