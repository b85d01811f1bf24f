"""Data keys wrapped for a recipient, and opened by it: RSAES-OAEP, or HPKE where the library has it.

The key says how: an RSA key takes RSAES-OAEP with SHA-256, a P-256 key HPKE-7-KE (RFC 9180 in base mode with
DHKEM(P-256), HKDF-SHA256 and AES-256-GCM, its parts put together as draft-ietf-cose-hpke does). What HPKE wraps is
bound to the gateway, the epoch, the data key's id and its algorithm; for RSA the gateway's signature over the record
does that.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import cbor2
import cryptography
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from identity.files import IdentityError
from protocols.envelope import VERSION
from protocols.suites import HPKE_7_KE, RSA_OAEP_256

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.hpke import Suite

WrapKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey
"""A recipient's public key."""

OAEP: Final = padding.OAEP(mgf=padding.MGF1(SHA256()), algorithm=SHA256(), label=None)
"""RSAES-OAEP with SHA-256 for both hashes and no label (RFC 8230 section 3)."""
ENC_BYTES: Final = 65
"""Of the ephemeral public key that HPKE puts before its ciphertext, for P-256 (RFC 9180 section 7.1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opener:
    """A private wrapping key, wherever it lies. open: (wrapped, info) to the data key; raises ValueError."""

    kid: bytes
    algorithm: int
    open: Callable[[bytes, bytes], bytes] = field(repr=False)


def algorithm_for(key: WrapKey) -> int:
    """The COSE number of the algorithm that wraps for such a key."""
    return RSA_OAEP_256 if isinstance(key, rsa.RSAPublicKey) else HPKE_7_KE


def info(*, gateway: str, epoch: int, kid: bytes, algorithm: int) -> bytes:
    """What a key that is wrapped by HPKE is for: the Recipient_structure of draft-ietf-cose-hpke."""
    bound = cbor2.dumps([VERSION, gateway, epoch, kid])
    return cbor2.dumps(["HPKE Recipient", algorithm, cbor2.dumps({1: HPKE_7_KE}), bound])


def _hpke() -> "Suite":
    try:
        from cryptography.hazmat.primitives import hpke
    except ImportError:
        raise IdentityError(
            f"HPKE: expected cryptography 47 or later, got {cryptography.__version__}; use an RSA key instead"
        ) from None
    return hpke.Suite(hpke.KEM.P256, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


def can_wrap(key: WrapKey) -> bool:
    """Whether this installation can wrap for the key."""
    if isinstance(key, rsa.RSAPublicKey):
        return True
    try:
        _hpke()
    except IdentityError:
        return False
    return True


def wrap(key: WrapKey, data_key: bytes, bound: bytes) -> bytes:
    """The data key for the holder of that key alone. bound: see `info`. Raises IdentityError where HPKE is lacking."""
    if isinstance(key, rsa.RSAPublicKey):
        return key.encrypt(data_key, OAEP)
    return _hpke().encrypt(data_key, key, info=bound)


def opener(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, kid: bytes) -> Opener:
    """What opens with a private key in memory. Raises IdentityError where HPKE is lacking."""
    if isinstance(key, rsa.RSAPrivateKey):
        return Opener(kid=kid, algorithm=RSA_OAEP_256, open=lambda wrapped, _: key.decrypt(wrapped, OAEP))
    suite = _hpke()

    def open_hpke(wrapped: bytes, bound: bytes) -> bytes:
        try:
            return suite.decrypt(wrapped, key, info=bound)
        except InvalidTag:
            raise ValueError("not wrapped for this key, or not for this use") from None

    return Opener(kid=kid, algorithm=HPKE_7_KE, open=open_hpke)
