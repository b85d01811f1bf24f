"""The gateway's side: its own P-256 key, and the centres that it believes and seals for.

DIRECTORY/gateway.key                PKCS#8 PEM, 0600
DIRECTORY/gateway.json               its public bundle: carry it to the centre
DIRECTORY/trusted/centres/ID.json    public bundles of centres, put there by `meterwire keys trust`
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from identity import files
from identity.files import IdentityError
from identity.public import PublicKeys, key_id, signer
from protocols.envelope import Sign
from protocols.topics import GATEWAY_ID

KEY_FILE: Final = "gateway.key"
BUNDLE_FILE: Final = "gateway.json"
CENTRES: Final = Path("trusted/centres")


def private_pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    """PKCS#8 PEM, not encrypted: what protects it is the mode of its file."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def load_private(path: Path) -> ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey:
    """The private key in a file 0600. Raises IdentityError."""
    data = files.read_private(path)
    try:
        key = load_pem_private_key(data, password=None)
    except (ValueError, TypeError) as error:
        raise IdentityError(f"{path}: expected a private key in PKCS#8 PEM without password: {error}") from None
    if isinstance(key, rsa.RSAPrivateKey) or (
        isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1)
    ):
        return key
    raise IdentityError(f"{path}: expected a P-256 or RSA key, got {type(key).__name__}")


def load_p256(path: Path) -> ec.EllipticCurvePrivateKey:
    """The P-256 private key in a file 0600. Raises IdentityError."""
    key = load_private(path)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise IdentityError(f"{path}: expected a P-256 key, got {type(key).__name__}")
    return key


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayIdentity:
    """Who the gateway is: its id and the key that signs for it."""

    gateway: str
    kid: bytes
    sign: Sign = field(repr=False)
    public: PublicKeys

    @classmethod
    def of(cls, gateway: str, key: ec.EllipticCurvePrivateKey) -> Self:
        """From a key in memory."""
        public = PublicKeys(role="gateway", id=gateway, sign=(key.public_key(),))
        return cls(gateway=gateway, kid=key_id(key.public_key()), sign=signer(key), public=public)

    @classmethod
    def create(cls, directory: Path, gateway: str) -> Self:
        """Make the key and its files. Raises IdentityError, also when there already is one."""
        if GATEWAY_ID.fullmatch(gateway) is None:
            raise IdentityError(f"gateway id: expected {GATEWAY_ID.pattern}, got {gateway!r}")
        files.make_directory(directory)
        key = ec.generate_private_key(ec.SECP256R1())
        made = cls.of(gateway, key)
        files.write_set(directory, {BUNDLE_FILE: made.public.encode()}, {KEY_FILE: private_pem(key)})
        return made

    @classmethod
    def load(cls, directory: Path, gateway: str | None = None) -> Self:
        """From its files; they must be of this gateway, where one is named, and readable by nobody else.

        Raises IdentityError saying which file, what was expected, what is there, and what to do.
        """
        key = load_p256(directory / KEY_FILE)
        bundle = PublicKeys.load(directory / BUNDLE_FILE)
        if key_id(bundle.sign[0]) != key_id(key.public_key()):
            raise IdentityError(f"{directory / BUNDLE_FILE}: not the public half of {KEY_FILE}; restore the pair")
        if bundle.role != "gateway" or gateway not in (None, bundle.id):
            raise IdentityError(
                f"{directory / KEY_FILE}: expected the key of gateway {gateway}, "
                f"got that of {bundle.role} {bundle.id}; give the site its own keys with `meterwire keys init`"
            )
        return cls.of(bundle.id, key)


@dataclass(frozen=True, slots=True)
class CentreTrust:
    """The centres that a gateway believes, and for which it wraps its data keys."""

    centres: tuple[PublicKeys, ...]

    @classmethod
    def load(cls, directory: Path) -> Self:
        """From the directory of the gateway's keys. Raises IdentityError, also when no centre is trusted yet."""
        found = sorted((directory / CENTRES).glob("*.json"))
        if not found:
            raise IdentityError(
                f"{directory / CENTRES}: expected the public keys of a centre, got none; "
                "run `meterwire keys trust centre.json`"
            )
        return cls(tuple(PublicKeys.load(path) for path in found))

    @classmethod
    def of(cls, *centres: PublicKeys) -> Self:
        """From bundles in memory."""
        return cls(centres)

    def verify(self, kid: bytes, data: bytes, signature: bytes) -> bool:
        """Whether one of the centres made the raw signature with its key of that id."""
        return any(centre.verify(kid, data, signature) for centre in self.centres)

    @property
    def recipients(self) -> Iterable[rsa.RSAPublicKey]:
        """The wrapping key in use of each centre."""
        return [centre.wrap[0] for centre in self.centres]
