"""The centre's side: its signing and wrapping keys, old ones included, and the gateways that it believes.

DIRECTORY/sign.key                     P-256, PKCS#8 PEM or the URI of a token's key, 0600: receipts and requests
DIRECTORY/wrap.key                     RSA-3072 (or P-256, for HPKE), the same: opens the data keys of the gateways
DIRECTORY/next/sign.key, wrap.key      the keys after these, published and not in use yet
DIRECTORY/retired/wrap.KID.key         earlier ones, kept as long as ciphertext under them is
DIRECTORY/centre.json                  the public bundle: carry it to the gateways
DIRECTORY/trusted/gateways/ID.json     public bundles of gateways, put there by `meterwire keys trust`
DIRECTORY/revoked.json                 keys that are never believed again
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Self

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from identity import files
from identity.files import IdentityError
from identity.gateway import in_use_first
from identity.private import (
    SigningKey,
    in_memory,
    load_signing,
    load_wrapping,
    new_signing,
    new_wrapping,
    signing_of,
    wrapping_of,
)
from identity.public import Dates, PublicKeys, key_id
from identity.wrapping import Opener, opener
from protocols.envelope import Sign, Verify
from protocols.errors import Malformed
from protocols.messages import Receipt, Request, Wrapped, signed
from protocols.suites import ACCEPTED, contents
from protocols.topics import GATEWAY_ID, topic

SIGN_FILE: Final = "sign.key"
WRAP_FILE: Final = "wrap.key"
BUNDLE_FILE: Final = "centre.json"
NEXT: Final = "next"
RETIRED: Final = "retired"
GATEWAYS: Final = Path("trusted/gateways")


@dataclass(frozen=True, slots=True, kw_only=True)
class Centre:
    """The private side of a centre: signs with the key in use, unwraps with every wrapping key that it holds."""

    id: str
    kid: bytes
    """Of the signing key in use."""
    sign: Sign = field(repr=False)
    public: PublicKeys
    openers: Mapping[bytes, Opener] = field(repr=False)
    """By the id of the wrapping key."""
    accepted: frozenset[int] = contents(ACCEPTED)
    """The content algorithms that it takes: no gateway is talked down to another."""

    @classmethod
    def of(
        cls,
        sign: ec.EllipticCurvePrivateKey,
        wrap: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey,
        *,
        id: str = "centre",  # noqa: A002 - the word of the bundle
        more_wrap: tuple[rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, ...] = (),
    ) -> Self:
        """From keys in memory. more_wrap: the next key or earlier ones."""
        wrapping = {key_id(key.public_key()): key for key in (wrap, *more_wrap)}
        public = PublicKeys(
            role="centre", id=id, sign=(sign.public_key(),), wrap=tuple(key.public_key() for key in wrapping.values())
        )
        return cls._of(public, in_memory(sign), {kid: opener(key, kid) for kid, key in wrapping.items()})

    @classmethod
    def _of(cls, public: PublicKeys, key: SigningKey, openers: Mapping[bytes, Opener]) -> Self:
        return cls(id=public.id, kid=key.kid, sign=key.sign, public=public, openers=openers)

    @classmethod
    def create(
        cls,
        directory: Path,
        *,
        id: str = "centre",  # noqa: A002
        wrap: str = "rsa",
        sign_token: str | None = None,
        wrap_token: str | None = None,
        now_ms: int | None = None,
    ) -> Self:
        """Make the keys, here or in a token, and their files. wrap: rsa or hpke.

        Raises IdentityError, also when there already are some.
        """
        if GATEWAY_ID.fullmatch(id) is None:
            raise IdentityError(f"centre id: expected {GATEWAY_ID.pattern}, got {id!r}")
        files.make_directory(directory)
        for name in (SIGN_FILE, WRAP_FILE):
            files.check_missing(directory, name)
        keys = {WRAP_FILE: new_wrapping(wrap, wrap_token), SIGN_FILE: new_signing(sign_token)}
        signing, wrapping = signing_of(keys[SIGN_FILE]), wrapping_of(keys[WRAP_FILE])
        dates = {kid: Dates(made=now_ms) for kid in (signing.kid, wrapping.opener.kid)}
        public = PublicKeys(role="centre", id=id, sign=(signing.public,), wrap=(wrapping.public,), dates=dates)
        files.write_set(directory, {BUNDLE_FILE: public.encode()}, keys)
        return cls._of(public, signing, {wrapping.opener.kid: wrapping.opener})

    @classmethod
    def load(
        cls,
        directory: Path,
        *,
        suites: Iterable[str] = ACCEPTED,
        sign_token: str | None = None,
        wrap_token: str | None = None,
    ) -> Self:
        """From its files. suites: what it accepts. sign_token, wrap_token: the URI of a key, in place of its file.

        Raises IdentityError saying which file, what was expected, what is there, what to do.
        """
        signing = load_signing(sign_token if sign_token is not None else directory / SIGN_FILE)
        wrapping = load_wrapping(wrap_token if wrap_token is not None else directory / WRAP_FILE)
        bundle = PublicKeys.load(directory / BUNDLE_FILE)
        if bundle.role != "centre":
            raise IdentityError(
                f"{directory / BUNDLE_FILE}: expected the keys of a centre, got those of a {bundle.role}"
            )
        sign, wrap = in_use_first(bundle.sign, signing.kid), in_use_first(bundle.wrap, wrapping.opener.kid)
        for name, found in ((SIGN_FILE, sign), (WRAP_FILE, wrap)):
            if found is None:
                raise IdentityError(f"{directory / BUNDLE_FILE}: not the public half of {name}; restore the pair")
        assert sign is not None
        assert wrap is not None
        others = sorted((directory / RETIRED).glob("wrap.*.key"))
        if (directory / NEXT / WRAP_FILE).exists():
            others.append(directory / NEXT / WRAP_FILE)
        found_openers = [wrapping.opener, *(load_wrapping(path).opener for path in others)]
        openers = {each.kid: each for each in found_openers}
        made = cls._of(replace(bundle, sign=sign, wrap=wrap), signing, openers)
        return replace(made, accepted=contents(suites))

    def says(self, message: Receipt | Request) -> tuple[str, bytes]:
        """(topic, payload) of a message to a gateway, signed with the key in use."""
        name = "receipt" if isinstance(message, Receipt) else "request"
        return topic(message.gateway, "down", name), signed(message, kid=self.kid, sign=self.sign)

    def unwrap(self, wrapped: Wrapped, bound: bytes) -> bytes:
        """The data key in it. bound: see `wrapping.info`. Raises Malformed."""
        found = self.openers.get(wrapped.kid)
        if found is None:
            raise Malformed(f"wrapped key: for key {wrapped.kid.hex()}, which is not one of this centre")
        try:
            return found.open(wrapped.key, bound)
        except ValueError:
            raise Malformed(f"wrapped key: does not open with key {wrapped.kid.hex()}") from None


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
        return bundle.verify if bundle is not None else nobody


def nobody(kid: bytes, data: bytes, signature: bytes) -> bool:
    """Believes no signature."""
    return False


def anyone(kid: bytes, data: bytes, signature: bytes) -> bool:
    """Believes any signature: of what was verified when it came, or is our own."""
    return True
