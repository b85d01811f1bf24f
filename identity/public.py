"""Public keys as they are carried between gateway and centre: a small JSON bundle with PEM inside, and fingerprints.

    {"meterwire": "public-keys/1", "role": "gateway", "id": "gw-0001", "sign": [PEM, ...]}
    {"meterwire": "public-keys/1", "role": "centre", "id": "centre", "sign": [PEM, ...], "wrap": [PEM, ...]}

`sign` are ECDSA P-256 keys, `wrap` RSA keys of 3072 bits or more, each as SubjectPublicKeyInfo; the first of each is
the one in use, the others are older and still believed. A key's id (kid) is the first 8 bytes of the SHA-256 of its
DER; the fingerprint that people compare is the whole hash.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from identity import files
from identity.files import IdentityError
from protocols.envelope import KID_BYTES, Sign
from protocols.topics import GATEWAY_ID

FORMAT: Final = "public-keys/1"
KEYS_MAX: Final = 16
RSA_BITS_MIN: Final = 3072
Role = Literal["gateway", "centre"]
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey

OAEP: Final = padding.OAEP(mgf=padding.MGF1(SHA256()), algorithm=SHA256(), label=None)
"""RSAES-OAEP with SHA-256 for both hashes and no label (RFC 8230 section 3)."""


def der(key: PublicKey) -> bytes:
    """SubjectPublicKeyInfo of the key."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def pem(key: PublicKey) -> str:
    """The same, as PEM text."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def key_id(key: PublicKey) -> bytes:
    """The 8 bytes by which messages name the key."""
    return hashlib.sha256(der(key)).digest()[:KID_BYTES]


def fingerprint(key: PublicKey) -> str:
    """What people compare: `SHA256:` and 64 hex digits, which begin with the key's id."""
    return f"SHA256:{hashlib.sha256(der(key)).hexdigest()}"


def signer(key: ec.EllipticCurvePrivateKey) -> Sign:
    """Signs with the key: ECDSA over SHA-256, r and s as 32 bytes each.

    The nonce is derived from key and message (RFC 6979) where the library can: a device that has just booted and
    gathered little randomness must not give its key away.
    """
    try:
        algorithm = ec.ECDSA(SHA256(), deterministic_signing=True)
    except UnsupportedAlgorithm:
        algorithm = ec.ECDSA(SHA256())

    def sign(data: bytes) -> bytes:
        r, s = decode_dss_signature(key.sign(data, algorithm))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    return sign


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKeys:
    """One side's public keys: what `keys trust` takes in."""

    role: Role
    id: str
    sign: tuple[ec.EllipticCurvePublicKey, ...]
    wrap: tuple[rsa.RSAPublicKey, ...] = ()

    def verify(self, kid: bytes, data: bytes, signature: bytes) -> bool:
        """Whether the key of that id is one of these and made the raw signature."""
        if len(signature) != 64:
            return False
        raw = encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
        for key in self.sign:
            if key_id(key) == kid:
                try:
                    key.verify(raw, data, ec.ECDSA(SHA256()))
                except InvalidSignature:
                    return False
                return True
        return False

    def encode(self) -> bytes:
        """The bundle."""
        value: dict[str, object] = {"meterwire": FORMAT, "role": self.role, "id": self.id}
        value["sign"] = [pem(key) for key in self.sign]
        if self.role == "centre":
            value["wrap"] = [pem(key) for key in self.wrap]
        return (json.dumps(value, indent=1) + "\n").encode()

    @classmethod
    def decode(cls, data: bytes, origin: Path) -> Self:
        """The keys of a bundle. Raises IdentityError naming the file."""
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict) or value.get("meterwire") != FORMAT:
            raise IdentityError(f'{origin}: expected a bundle {{"meterwire": "{FORMAT}", ...}}, got {data[:40]!r}')
        role, name = value.get("role"), value.get("id")
        if role not in ("gateway", "centre") or not isinstance(name, str) or GATEWAY_ID.fullmatch(name) is None:
            raise IdentityError(
                f"{origin}: expected role gateway or centre and an id of {GATEWAY_ID.pattern}, got {role!r}, {name!r}"
            )
        sign = [key for key in _keys(value.get("sign"), origin, "sign") if isinstance(key, ec.EllipticCurvePublicKey)]
        wrap = [key for key in _keys(value.get("wrap", []), origin, "wrap") if isinstance(key, rsa.RSAPublicKey)]
        if len(sign) != len(value["sign"]) or not sign or not all(isinstance(k.curve, ec.SECP256R1) for k in sign):
            raise IdentityError(f"{origin}: sign: expected one or more ECDSA P-256 keys")
        if len(wrap) != len(value.get("wrap", [])) or any(key.key_size < RSA_BITS_MIN for key in wrap):
            raise IdentityError(f"{origin}: wrap: expected RSA keys of at least {RSA_BITS_MIN} bits")
        if bool(wrap) != (role == "centre"):
            raise IdentityError(f"{origin}: wrap: expected {'one or more' if role == 'centre' else 'no'} RSA keys")
        return cls(role=role, id=name, sign=tuple(sign), wrap=tuple(wrap))

    @classmethod
    def load(cls, path: Path) -> Self:
        """The keys of a bundle in a file. Raises IdentityError."""
        return cls.decode(files.read_public(path), path)


def _keys(items: object, origin: Path, name: str) -> list[object]:
    if not isinstance(items, list) or len(items) > KEYS_MAX or not all(isinstance(item, str) for item in items):
        raise IdentityError(f"{origin}: {name}: expected at most {KEYS_MAX} PEM texts")
    try:
        return [load_pem_public_key(item.encode()) for item in items]
    except (ValueError, UnsupportedAlgorithm) as error:
        raise IdentityError(f"{origin}: {name}: not a public key in PEM: {error}") from None
