"""Key records read with the eyes of others: cwt and pycose open what we wrap, and we open what they wrap.

A key record is a COSE_Sign1 of an array, not a COSE_Encrypt, but each of its recipients is one: kid, algorithm and
wrapped key stand in a COSE_recipient as they are. So a message of another library with our recipients, or ours with
theirs, tells whether both understand the same by the numbers. cwt knows HPKE and no RSA, pycose RSA and no HPKE; the
signature around the record both know (tests/protocols/test_envelope.py has Encrypt0 and the other signed messages).
"""

import json
import os
from pathlib import Path
from typing import Any

import cbor2
import pycose.headers as headers
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import load_der_private_key
from cwt import COSE, COSEKey, DecodeError, Recipient
from pycose.algorithms import A256GCM as TheirA256GCM
from pycose.algorithms import RsaesOaepSha256
from pycose.keys.rsa import RSAKey
from pycose.keys.symmetric import SymmetricKey
from pycose.messages.cosemessage import CoseMessage
from pycose.messages.encmessage import EncMessage
from pycose.messages.recipient import KeyWrap

from identity.centre import Centre
from identity.datakey import key_record, new_data_key, open_key_record
from identity.gateway import CentreTrust, GatewayIdentity
from identity.public import key_id
from identity.wrapping import ENC_BYTES, info
from protocols.envelope import DataKey
from protocols.messages import KeyRecord, Wrapped, signed
from protocols.suites import A256GCM, HPKE_7_KE, RSA_OAEP_256

VECTORS = json.loads((Path(__file__).parents[2] / "docs/wire-vectors.json").read_text())
IDENTITY = GatewayIdentity.of("gw-1", ec.derive_private_key(0xC0FFEE, ec.SECP256R1()))
P256 = ec.derive_private_key(0xFACE, ec.SECP256R1())
BODY = b"what both can read"


def _rsa() -> rsa.RSAPrivateKey:
    key = load_der_private_key(bytes.fromhex(VECTORS["keys"]["centre_wrap_pkcs8"]), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    return key


RSA = _rsa()
CENTRE = Centre.of(ec.derive_private_key(0xBEAD, ec.SECP256R1()), RSA, more_wrap=(P256,))
KEY = new_data_key((3 << 32) | 77, 20_000, os.urandom)
BOUND = cbor2.dumps([1, "gw-1", KEY.epoch, KEY.kid])
"""The recipient_extra_info of the page: version, gateway, epoch, kid of the data key."""


def wrapped(algorithm: int) -> Wrapped:
    """Our data key, wrapped by that algorithm, out of a record for both."""
    record = key_record(IDENTITY, CentreTrust.of(CENTRE.public), KEY)
    payload = COSE.new().decode(record, _their_p256(IDENTITY.public.sign[0], IDENTITY.kid), external_aad=b"\x81\x01")
    (found,) = [each for each in KeyRecord.decode(payload).wrapped if each.algorithm == algorithm]
    return found


def ours(each: Wrapped) -> bytes:
    """The data key that the centre finds in a record with this recipient alone."""
    record = KeyRecord(gateway="gw-1", epoch=KEY.epoch, kid=KEY.kid, day=KEY.day, salt=KEY.salt, wrapped=(each,))
    message = signed(record, kid=IDENTITY.kid, sign=IDENTITY.sign)
    return open_key_record(message, gateway="gw-1", centre=CENTRE, verify=IDENTITY.public.verify).key


def _their_p256(public: ec.EllipticCurvePublicKey, kid: bytes, alg: Any = -7, d: int | None = None) -> Any:
    numbers = public.public_numbers()
    params: dict[Any, Any] = {1: 2, 2: kid, 3: alg, -1: 1, -2: numbers.x.to_bytes(32, "big"),
                              -3: numbers.y.to_bytes(32, "big")}  # fmt: skip
    return COSEKey.new(params if d is None else {**params, -4: d.to_bytes(32, "big")})


def _encrypted(recipient: list[Any], key: DataKey) -> bytes:
    """A COSE_Encrypt (RFC 9052 section 5.1) by hand, its content under the data key."""
    protected, nonce = cbor2.dumps({1: A256GCM}), bytes(12)
    content = AESGCM(key.key).encrypt(nonce, BODY, cbor2.dumps(["Encrypt", protected, b""]))
    return cbor2.dumps(cbor2.CBORTag(96, [protected, {5: nonce}, content, [recipient]]))


def test_cwt_opens_the_key_that_we_wrapped_by_hpke() -> None:
    each = wrapped(HPKE_7_KE)
    recipient = [cbor2.dumps({1: HPKE_7_KE}), {4: each.kid, -4: each.key[:ENC_BYTES]}, each.key[ENC_BYTES:]]
    key = _their_p256(P256.public_key(), each.kid, HPKE_7_KE, P256.private_numbers().private_value)
    assert COSE.new().decode(_encrypted(recipient, KEY), key, extra_info=BOUND) == BODY
    with pytest.raises(DecodeError, match="Failed to open"):
        COSE.new().decode(_encrypted(recipient, KEY), key, extra_info=BOUND + b"\0")


def test_we_open_the_key_that_cwt_wrapped_by_hpke() -> None:
    kid = key_id(P256.public_key())
    recipient = Recipient.new(
        protected={1: HPKE_7_KE}, unprotected={4: kid}, extra_info=BOUND,
        recipient_key=_their_p256(P256.public_key(), kid, HPKE_7_KE),
    )  # fmt: skip
    key = COSEKey.from_symmetric_key(KEY.key, alg="A256GCM", kid=KEY.kid)
    theirs = cbor2.loads(
        COSE.new().encode(BODY, key, protected={1: 3}, unprotected={5: bytes(12)}, recipients=[recipient])
    )
    protected, unprotected, sealed = theirs.value[3][0]
    assert cbor2.loads(protected) == {1: HPKE_7_KE}
    assert ours(Wrapped(kid=kid, algorithm=HPKE_7_KE, key=unprotected[-4] + sealed)) == KEY.key


def test_what_hpke_is_bound_to_is_the_recipient_structure_of_the_draft() -> None:
    """draft-ietf-cose-hpke: ["HPKE Recipient", next_layer_alg, recipient_protected_header, recipient_extra_info]."""
    found = info(gateway="gw-1", epoch=KEY.epoch, kid=KEY.kid, algorithm=A256GCM)
    assert cbor2.loads(found) == ["HPKE Recipient", 3, bytes.fromhex("A1011835"), BOUND]


def test_pycose_opens_the_key_that_we_wrapped_by_rsa() -> None:
    each = wrapped(RSA_OAEP_256)
    found: Any = CoseMessage.decode(_encrypted([b"", {1: each.algorithm, 4: each.kid}, each.key], KEY))
    found.recipients[0].key = RSAKey._from_cryptography_key(RSA)
    assert found.decrypt(found.recipients[0]) == BODY


def test_we_open_the_key_that_pycose_wrapped_by_rsa() -> None:
    kid = key_id(RSA.public_key())
    recipient = KeyWrap(uhdr={headers.Algorithm: RsaesOaepSha256, headers.KID: kid})
    recipient.key = RSAKey._from_cryptography_key(RSA)
    recipient.payload = KEY.key
    message = EncMessage(
        phdr={headers.Algorithm: TheirA256GCM}, uhdr={headers.IV: bytes(12)}, payload=BODY, recipients=[recipient]
    )
    message.key = SymmetricKey(k=KEY.key)
    sealed = cbor2.loads(message.encode()).value[3][0]
    assert sealed[1] == {1: RSA_OAEP_256, 4: kid}
    assert ours(Wrapped(kid=kid, algorithm=RSA_OAEP_256, key=sealed[2])) == KEY.key
