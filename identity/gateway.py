"""The gateway's side: its own P-256 key, and the centres that it believes and seals for.

DIRECTORY/gateway.key                PKCS#8 PEM or the URI of a token's key, 0600
DIRECTORY/gateway.json               its public bundle: carry it to the centre
DIRECTORY/next/gateway.key           the key after this one, published and not in use yet
DIRECTORY/trusted/centres/ID.json    public bundles of centres, put there by `meterwire keys trust`
DIRECTORY/revoked.json               keys that are never believed again
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Self, TypeVar

from cryptography.hazmat.primitives.asymmetric import ec

from identity import files
from identity.files import IdentityError
from identity.private import SigningKey, in_memory, load_signing, new_signing, signing_of
from identity.public import Dates, PublicKeys, key_id
from identity.wrapping import WrapKey, can_wrap, wrap
from protocols.envelope import Sign
from protocols.messages import RECIPIENTS_MAX
from protocols.topics import GATEWAY_ID

KEY_FILE: Final = "gateway.key"
BUNDLE_FILE: Final = "gateway.json"
CENTRES: Final = Path("trusted/centres")
Key = TypeVar("Key", ec.EllipticCurvePublicKey, WrapKey)


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
        return cls._of(PublicKeys(role="gateway", id=gateway, sign=(key.public_key(),)), in_memory(key))

    @classmethod
    def _of(cls, public: PublicKeys, key: SigningKey) -> Self:
        return cls(gateway=public.id, kid=key.kid, sign=key.sign, public=public)

    @classmethod
    def create(cls, directory: Path, gateway: str, *, token: str | None = None, now_ms: int | None = None) -> Self:
        """Make the key, here or in a token, and its files. Raises IdentityError, also when there already is one."""
        if GATEWAY_ID.fullmatch(gateway) is None:
            raise IdentityError(f"gateway id: expected {GATEWAY_ID.pattern}, got {gateway!r}")
        files.make_directory(directory)
        files.check_missing(directory, KEY_FILE)
        made = new_signing(token)
        key = signing_of(made)
        public = PublicKeys(role="gateway", id=gateway, sign=(key.public,), dates={key.kid: Dates(made=now_ms)})
        files.write_set(directory, {BUNDLE_FILE: public.encode()}, {KEY_FILE: made})
        return cls._of(public, key)

    @classmethod
    def load(cls, directory: Path, gateway: str | None = None, *, token: str | None = None) -> Self:
        """From its files; they must be of this gateway, where one is named, and readable by nobody else.

        token: the URI of the key, in place of the file. Raises IdentityError saying which file, what was expected,
        what is there, and what to do.
        """
        place = token if token is not None else directory / KEY_FILE
        key = load_signing(place)
        bundle = PublicKeys.load(directory / BUNDLE_FILE)
        sign = in_use_first(bundle.sign, key.kid)
        if sign is None:
            raise IdentityError(f"{directory / BUNDLE_FILE}: not the public half of {KEY_FILE}; restore the pair")
        if bundle.role != "gateway" or gateway not in (None, bundle.id):
            raise IdentityError(
                f"{directory / KEY_FILE}: expected the key of gateway {gateway}, "
                f"got that of {bundle.role} {bundle.id}; give the site its own keys with `meterwire keys init`"
            )
        return cls._of(replace(bundle, sign=sign), key)


def in_use_first(keys: Sequence[Key], kid: bytes) -> tuple[Key, ...] | None:
    """The keys with the one of that id first, wherever it stood; None if it is not among them."""
    first = tuple(key for key in keys if key_id(key) == kid)
    return first + tuple(key for key in keys if key_id(key) != kid) if first else None


class CentreTrust:
    """The centres that a gateway believes, and for which it wraps its data keys.

    With a directory, a bundle put in, changed or taken out counts at once; while one is damaged, what was believed
    before goes on being believed.
    """

    def __init__(self, centres: tuple[PublicKeys, ...] = (), directory: Path | None = None) -> None:
        self._centres = centres
        self._directory = directory
        self._stamp: tuple[tuple[str, int, int, int], ...] = ()
        """Name, time, size and inode of each bundle as it was read."""

    @classmethod
    def load(cls, directory: Path) -> Self:
        """From the directory of the gateway's keys.

        Raises IdentityError, also when no centre is trusted yet, or one has only keys that cannot be wrapped for here.
        """
        trust = cls(directory=directory / CENTRES)
        trust._read()
        if not trust._centres:
            raise trust._nobody()
        return trust

    @classmethod
    def of(cls, *centres: PublicKeys) -> Self:
        """From bundles in memory."""
        return cls(centres)

    def _nobody(self) -> IdentityError:
        return IdentityError(
            f"{self._directory}: expected the public keys of a centre, got none; run `meterwire keys trust centre.json`"
        )

    def _read(self) -> None:
        """Read the bundles where one has changed. Raises IdentityError."""
        assert self._directory is not None
        found = sorted(self._directory.glob("*.json"))
        stamp = tuple((path.name, *_stamp(path)) for path in found)
        if stamp == self._stamp:
            return
        centres = tuple(PublicKeys.load(path) for path in found)
        for centre in centres:
            if not any(map(can_wrap, centre.wrap)):
                wrap(centre.wrap[0], b"", b"")  # says what is lacking
        self._centres, self._stamp = centres, stamp

    @property
    def centres(self) -> tuple[PublicKeys, ...]:
        """The bundles that are believed now."""
        if self._directory is not None:
            with suppress(IdentityError, OSError):
                self._read()
        return self._centres

    def now(self) -> "CentreTrust":
        """What is believed at this moment, in memory: it waits for no disk any more."""
        return CentreTrust(self.centres)

    def verify(self, kid: bytes, data: bytes, signature: bytes) -> bool:
        """Whether one of the centres made the raw signature with its key of that id."""
        return any(centre.verify(kid, data, signature) for centre in self.centres)

    @property
    def recipients(self) -> Sequence[WrapKey]:
        """Every wrapping key of every centre: that in use, the next, the one before. At most as many as a record takes.

        Those in use come first: should there be too many, an earlier one is left out. Raises IdentityError where no
        centre is believed any more.
        """
        centres = self.centres
        ranked = sorted((place, number) for number, centre in enumerate(centres) for place, _ in enumerate(centre.wrap))
        keys = [centres[number].wrap[place] for place, number in ranked]
        if not keys:
            raise self._nobody()
        return [key for key in keys if can_wrap(key)][:RECIPIENTS_MAX]


def _stamp(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino
