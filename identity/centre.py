"""The centre's side: its signing and wrapping keys, old ones included, and the gateways that it believes.

DIRECTORY/sign.key                     P-256, PKCS#8 PEM, 0600: receipts and requests
DIRECTORY/wrap.key                     RSA-3072, the same: opens the data keys of the gateways
DIRECTORY/retired/sign.KID.key, wrap.KID.key   earlier ones, kept as long as ciphertext under them is
DIRECTORY/centre.json                  the public bundle: carry it to the gateways
DIRECTORY/trusted/gateways/ID.json     public bundles of gateways, put there by `meterwire keys trust`
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from identity import files
from identity.files import IdentityError
from identity.gateway import load_p256, load_private, private_pem
from identity.public import OAEP, RSA_BITS_MIN, PublicKeys, key_id, signer
from protocols.envelope import Sign, Verify
from protocols.errors import Malformed
from protocols.topics import GATEWAY_ID

SIGN_FILE: Final = "sign.key"
WRAP_FILE: Final = "wrap.key"
BUNDLE_FILE: Final = "centre.json"
RETIRED: Final = "retired"
GATEWAYS: Final = Path("trusted/gateways")


@dataclass(frozen=True, slots=True, kw_only=True)
class Centre:
    """The private side of a centre: signs with the key in use, unwraps with that and every earlier one."""

    id: str
    kid: bytes
    """Of the signing key in use."""
    sign: Sign = field(repr=False)
    public: PublicKeys
    unwrapping: Mapping[bytes, rsa.RSAPrivateKey] = field(repr=False)

    @classmethod
    def of(
        cls,
        sign: ec.EllipticCurvePrivateKey,
        wrap: rsa.RSAPrivateKey,
        *,
        id: str = "centre",  # noqa: A002 - the word of the bundle
        retired_sign: tuple[ec.EllipticCurvePrivateKey, ...] = (),
        retired_wrap: tuple[rsa.RSAPrivateKey, ...] = (),
    ) -> Self:
        """From keys in memory."""
        signing, wrapping = (sign, *retired_sign), (wrap, *retired_wrap)
        public = PublicKeys(
            role="centre",
            id=id,
            sign=tuple(key.public_key() for key in signing),
            wrap=tuple(key.public_key() for key in wrapping),
        )
        unwrapping = {key_id(key.public_key()): key for key in wrapping}
        return cls(id=id, kid=key_id(sign.public_key()), sign=signer(sign), public=public, unwrapping=unwrapping)

    @classmethod
    def create(cls, directory: Path, *, id: str = "centre") -> Self:  # noqa: A002
        """Make the keys and their files. Raises IdentityError, also when there already are some."""
        if GATEWAY_ID.fullmatch(id) is None:
            raise IdentityError(f"centre id: expected {GATEWAY_ID.pattern}, got {id!r}")
        files.make_directory(directory)
        sign = ec.generate_private_key(ec.SECP256R1())
        wrap = rsa.generate_private_key(65537, RSA_BITS_MIN)
        made = cls.of(sign, wrap, id=id)
        keys = {WRAP_FILE: private_pem(wrap), SIGN_FILE: private_pem(sign)}
        files.write_set(directory, {BUNDLE_FILE: made.public.encode()}, keys)
        return made

    @classmethod
    def load(cls, directory: Path) -> Self:
        """From its files. Raises IdentityError saying which file, what was expected, what is there, what to do."""
        sign, wrap = load_p256(directory / SIGN_FILE), _load_rsa(directory / WRAP_FILE)
        name = PublicKeys.load(directory / BUNDLE_FILE).id
        old = sorted((directory / RETIRED).glob("*.key"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
        return cls.of(
            sign,
            wrap,
            id=name,
            retired_sign=tuple(load_p256(path) for path in old if path.name.startswith("sign.")),
            retired_wrap=tuple(_load_rsa(path) for path in old if path.name.startswith("wrap.")),
        )

    @classmethod
    def rotate(cls, directory: Path) -> Self:
        """Make new keys and retire those in use, which still verify and unwrap. Raises IdentityError.

        A crash in between leaves the old keys in use, with copies of them among the retired.
        """
        before = cls.load(directory)
        files.make_directory(directory / RETIRED)
        sign = ec.generate_private_key(ec.SECP256R1())
        wrap = rsa.generate_private_key(65537, RSA_BITS_MIN)
        for name, new, old in ((WRAP_FILE, wrap, before.public.wrap[0]), (SIGN_FILE, sign, before.public.sign[0])):
            retired = directory / RETIRED / f"{name.removesuffix('.key')}.{key_id(old).hex()}.key"
            files.write(retired, files.read_private(directory / name), replace=True)
            files.write(directory / name, private_pem(new), replace=True)
        made = cls.load(directory)
        files.write(directory / BUNDLE_FILE, made.public.encode(), replace=True)
        return made

    def unwrap(self, kid: bytes, wrapped: bytes) -> bytes:
        """What was wrapped for the key of that id. Raises Malformed."""
        key = self.unwrapping.get(kid)
        if key is None:
            raise Malformed(f"wrapped key: for key {kid.hex()}, which is not one of this centre")
        try:
            return key.decrypt(wrapped, OAEP)
        except ValueError:
            raise Malformed(f"wrapped key: does not open with key {kid.hex()}") from None


def _load_rsa(path: Path) -> rsa.RSAPrivateKey:
    key = load_private(path)
    if not isinstance(key, rsa.RSAPrivateKey) or key.key_size < RSA_BITS_MIN:
        raise IdentityError(f"{path}: expected an RSA key of at least {RSA_BITS_MIN} bits, got {type(key).__name__}")
    return key


class GatewayTrust:
    """The gateways that a centre believes. With a directory, a bundle put in or taken out counts at once."""

    def __init__(self, directory: Path | None = None, known: Mapping[str, PublicKeys] | None = None) -> None:
        self._directory = directory
        self._known = dict(known or {})
        self._read: dict[str, tuple[tuple[int, int, int], PublicKeys]] = {}

    @classmethod
    def load(cls, directory: Path) -> "GatewayTrust":
        """From the directory of the centre's keys. Raises IdentityError if it is open to others."""
        files.check_directory(directory)
        return cls(directory / GATEWAYS)

    @classmethod
    def of(cls, *gateways: PublicKeys) -> "GatewayTrust":
        """From bundles in memory."""
        return cls(known={bundle.id: bundle for bundle in gateways})

    def find(self, gateway: str) -> PublicKeys | None:
        """The keys of the gateway, or None if it is not trusted. Raises IdentityError for a damaged bundle."""
        if self._directory is None or GATEWAY_ID.fullmatch(gateway) is None:
            return self._known.get(gateway)
        path = self._directory / f"{gateway}.json"
        try:
            found = path.stat()
        except OSError:
            self._read.pop(gateway, None)
            return self._known.get(gateway)
        stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
        cached = self._read.get(gateway)
        if cached is None or cached[0] != stamp:
            bundle = PublicKeys.load(path)
            if (bundle.role, bundle.id) != ("gateway", gateway):
                raise IdentityError(f"{path}: expected keys of gateway {gateway}, got {bundle.role} {bundle.id}")
            cached = self._read[gateway] = (stamp, bundle)
        return cached[1]

    def verifier(self, gateway: str) -> Verify:
        """Tells whether a signature is that gateway's; says no to all where it is not trusted."""
        bundle = self.find(gateway)
        return bundle.verify if bundle is not None else _no


def _no(kid: bytes, data: bytes, signature: bytes) -> bool:
    return False
