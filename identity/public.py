"""Public keys as they are carried between gateway and centre: a small JSON bundle with PEM inside, and fingerprints.

    {"meterwire": "public-keys/1", "role": "gateway", "id": "gw-0001", "sign": [PEM, ...]}
    {"meterwire": "public-keys/1", "role": "centre", "id": "centre", "sign": [PEM, ...], "wrap": [PEM, ...]}

`sign` are ECDSA P-256 keys, `wrap` RSA keys of 3072 bits or more or P-256 keys (for HPKE), each as a
SubjectPublicKeyInfo; the first of each is the one in use, the others are the next one or earlier ones, and believed
too. A key's id (kid) is the first 8 bytes of the SHA-256 of its DER; the fingerprint that people compare is the whole
hash.

Three more keys may stand in it. `dates`: {kid: {"made": date, "retired": date}}. `issue`: a number that grows with each
change. `succeeds`: {"kid": ..., "signature": ...}, the signature of the key that was in use before the change over the
bundle without this key: whoever believes that key may take the bundle in without comparing fingerprints again.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, Self, TypeGuard

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from identity import files
from identity.files import IdentityError
from identity.wrapping import WrapKey
from protocols.envelope import KID_BYTES, Sign
from protocols.suites import DIGEST, SHA_256
from protocols.topics import GATEWAY_ID

FORMAT: Final = "public-keys/1"
KEYS_MAX: Final = 16
RSA_BITS_MIN: Final = 3072
Role = Literal["gateway", "centre"]
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey


def der(key: PublicKey) -> bytes:
    """SubjectPublicKeyInfo of the key."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def pem(key: PublicKey) -> str:
    """The same, as PEM text."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def key_id(key: PublicKey) -> bytes:
    """The 8 bytes by which messages name the key."""
    return DIGEST[SHA_256].of(der(key))[:KID_BYTES]


def fingerprint(key: PublicKey, digest: int = SHA_256) -> str:
    """What people compare: `SHA256:` and 64 hex digits, which begin with the key's id; or `SM3:` and its 64."""
    row = DIGEST[digest]
    return f"{row.prefix}:{row.of(der(key)).hex()}"


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
class Dates:
    """When a key was made and when another took its place, in UTC milliseconds; None where nobody wrote it down."""

    made: int | None = None
    retired: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Succession:
    """The word of the key in use for the keys that come after it."""

    kid: bytes
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKeys:
    """One side's public keys: what `keys trust` takes in."""

    role: Role
    id: str
    sign: tuple[ec.EllipticCurvePublicKey, ...]
    wrap: tuple[WrapKey, ...] = ()
    dates: Mapping[bytes, Dates] = field(default_factory=dict)
    """By key id."""
    issue: int = 0
    """Grows with each change, so that an earlier bundle never takes the place of a later one."""
    succession: Succession | None = None

    @property
    def kids(self) -> frozenset[bytes]:
        """The ids of all of them."""
        return frozenset(key_id(key) for key in (*self.sign, *self.wrap))

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

    def follows(self, before: "PublicKeys") -> bool:
        """Whether the key in use among those of `before` gave its word for these, as a later issue of its own."""
        said = self.succession
        if said is None or (self.role, self.id) != (before.role, before.id) or self.issue <= before.issue:
            return False
        return said.kid == key_id(before.sign[0]) and before.verify(said.kid, self.bare().encode(), said.signature)

    def bare(self) -> Self:
        """These without the word of the key before."""
        return replace(self, succession=None)

    def without(self, kids: frozenset[bytes]) -> Self:
        """These without some of them; the word of the key before does not hold for that."""
        if not kids & self.kids:
            return self
        sign = tuple(key for key in self.sign if key_id(key) not in kids)
        wrap = tuple(key for key in self.wrap if key_id(key) not in kids)
        dates = {kid: dates for kid, dates in self.dates.items() if kid not in kids}
        return replace(self, sign=sign, wrap=wrap, dates=dates, succession=None)

    def encode(self) -> bytes:
        """The bundle."""
        value: dict[str, object] = {"meterwire": FORMAT, "role": self.role, "id": self.id}
        value["sign"] = [pem(key) for key in self.sign]
        if self.role == "centre":
            value["wrap"] = [pem(key) for key in self.wrap]
        dates = {kid.hex(): _dates_out(self.dates[kid]) for kid in sorted(self.kids & self.dates.keys())}
        if dates:
            value["dates"] = dates
        if self.issue:
            value["issue"] = self.issue
        if self.succession is not None:
            value["succeeds"] = {"kid": self.succession.kid.hex(), "signature": self.succession.signature.hex()}
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
        sign = tuple(key for key in _keys(value.get("sign"), origin, "sign") if _p256(key))
        found = _keys(value.get("wrap", []), origin, "wrap")
        wrap = tuple(key for key in found if _rsa(key) or _p256(key))
        if len(sign) != len(value["sign"]) or not sign:
            raise IdentityError(f"{origin}: sign: expected one or more ECDSA P-256 keys")
        if len(wrap) != len(found):
            raise IdentityError(f"{origin}: wrap: expected RSA keys of at least {RSA_BITS_MIN} bits, or P-256 keys")
        if bool(wrap) != (role == "centre"):
            raise IdentityError(f"{origin}: wrap: expected {'one or more' if role == 'centre' else 'no'} keys")
        dates, issue, succession = _history(value, origin)
        return cls(role=role, id=name, sign=sign, wrap=wrap, dates=dates, issue=issue, succession=succession)

    @classmethod
    def load(cls, path: Path) -> Self:
        """The keys of a bundle in a file. Raises IdentityError."""
        return cls.decode(files.read_public(path), path)


def _history(value: Mapping[str, Any], origin: Path) -> tuple[dict[bytes, Dates], int, Succession | None]:
    """What a bundle says of its keys besides: dates, issue, who gave its word. Raises IdentityError."""
    issue, said = value.get("issue", 0), value.get("succeeds")
    try:
        dates = {bytes.fromhex(kid): _dates_in(each) for kid, each in value.get("dates", {}).items()}
        word = None if said is None else {name: bytes.fromhex(said[name]) for name in ("kid", "signature")}
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
        dates, word, issue = {}, None, None
    if type(issue) is not int or not 0 <= issue < 1 << 31:
        raise IdentityError(f"{origin}: dates, issue, succeeds: expected them as `meterwire keys` writes them")
    return dates, issue, None if word is None else Succession(**word)


def _p256(key: object) -> TypeGuard[ec.EllipticCurvePublicKey]:
    return isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)


def _rsa(key: object) -> TypeGuard[rsa.RSAPublicKey]:
    return isinstance(key, rsa.RSAPublicKey) and key.key_size >= RSA_BITS_MIN


def moment(ms: int) -> str:
    """A time as bundles and `keys show` write it."""
    return datetime.fromtimestamp(ms // 1000, UTC).isoformat().replace("+00:00", "Z")


def _dates_out(dates: Dates) -> dict[str, str]:
    both = (("made", dates.made), ("retired", dates.retired))
    return {name: moment(ms) for name, ms in both if ms is not None}


def _dates_in(value: Mapping[str, str]) -> Dates:
    """Raises ValueError or another error of a value that is none."""
    return Dates(**{name: int(datetime.fromisoformat(value[name]).timestamp()) * 1000
                    for name in ("made", "retired") if name in value})  # fmt: skip


def _keys(items: object, origin: Path, name: str) -> list[object]:
    if not isinstance(items, list) or len(items) > KEYS_MAX or not all(isinstance(item, str) for item in items):
        raise IdentityError(f"{origin}: {name}: expected at most {KEYS_MAX} PEM texts")
    try:
        return [load_pem_public_key(item.encode()) for item in items]
    except (ValueError, UnsupportedAlgorithm) as error:
        raise IdentityError(f"{origin}: {name}: not a public key in PEM: {error}") from None
