"""Private keys, wherever they lie: PKCS#8 PEM in a file 0600, or in a token that the file or the configuration names.

A key file holds either the key itself or one line, the PKCS#11 URI of a key that never leaves its token. So whatever
works on keys (loading, showing, rotating, revoking) works on both.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from identity import files, token
from identity.files import IdentityError
from identity.public import RSA_BITS_MIN, key_id, signer
from identity.wrapping import Opener, WrapKey, opener
from protocols.envelope import Sign

Place = Path | str
"""A key file, or a PKCS#11 URI."""
KINDS: Final = ("rsa", "hpke")
"""What a wrapping key may be: RSA of 3072 bits, or P-256 for HPKE."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """A P-256 key that signs."""

    public: ec.EllipticCurvePublicKey
    sign: Sign = field(repr=False)

    @property
    def kid(self) -> bytes:
        """Its id."""
        return key_id(self.public)


@dataclass(frozen=True, slots=True, kw_only=True)
class WrappingKey:
    """A key that opens what was wrapped for it."""

    public: WrapKey
    opener: Opener


def private_pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    """PKCS#8 PEM, not encrypted: what protects it is the mode of its file."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def in_memory(key: ec.EllipticCurvePrivateKey) -> SigningKey:
    """What signs with a key in memory."""
    return SigningKey(public=key.public_key(), sign=signer(key))


def load_signing(place: Place) -> SigningKey:
    """The signing key there. Raises IdentityError saying which, what was expected, what is there, and what to do."""
    return signing_of(_read(place), place)


def load_wrapping(place: Place) -> WrappingKey:
    """The wrapping key there. Raises IdentityError, also for HPKE where the library has none."""
    return wrapping_of(_read(place), place)


def _read(place: Place) -> bytes:
    return place.encode() if isinstance(place, str) else files.read_private(place)


def signing_of(data: bytes, place: Place = "new key") -> SigningKey:
    """The signing key that a key file of this content holds. Raises IdentityError."""
    found = _parse(data, place)
    if isinstance(found, token.Address):
        return SigningKey(public=token.p256_public(found), sign=token.signer(found))
    if not isinstance(found, ec.EllipticCurvePrivateKey):
        raise IdentityError(f"{place}: expected a P-256 key, got {type(found).__name__}")
    return in_memory(found)


def wrapping_of(data: bytes, place: Place = "new key") -> WrappingKey:
    """The wrapping key that a key file of this content holds. Raises IdentityError."""
    found = _parse(data, place)
    if isinstance(found, token.Address):
        public = token.rsa_public(found)
        _long_enough(public, place)
        return WrappingKey(public=public, opener=token.opener(found, public, key_id(public)))
    if isinstance(found, rsa.RSAPrivateKey):
        _long_enough(found.public_key(), place)
    return WrappingKey(public=found.public_key(), opener=opener(found, key_id(found.public_key())))


def _long_enough(key: rsa.RSAPublicKey, place: Place) -> None:
    if key.key_size < RSA_BITS_MIN:
        raise IdentityError(f"{place}: expected an RSA key of at least {RSA_BITS_MIN} bits, got {key.key_size} bits")


def _parse(data: bytes, place: Place) -> ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | token.Address:
    if data.startswith(token.SCHEME.encode()):
        return token.parse(data.decode(errors="replace").strip())
    try:
        key = load_pem_private_key(data, password=None)
    except (ValueError, TypeError) as error:
        raise IdentityError(f"{place}: expected a private key in PKCS#8 PEM without password: {error}") from None
    if isinstance(key, rsa.RSAPrivateKey) or (
        isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1)
    ):
        return key
    raise IdentityError(f"{place}: expected a P-256 or RSA key, got {type(key).__name__}")


def new_signing(uri: str | None = None) -> bytes:
    """A new P-256 key, made here or in a token: what its file holds. Raises IdentityError."""
    if uri is not None:
        return token.make_p256(token.parse(uri))
    return private_pem(ec.generate_private_key(ec.SECP256R1()))


def new_wrapping(kind: str = "rsa", uri: str | None = None) -> bytes:
    """A new wrapping key of that kind, made here or in a token: what its file holds. Raises IdentityError."""
    if uri is not None:
        if kind != "rsa":
            raise IdentityError(f"a token: expected a wrapping key of kind rsa, got {kind}")
        return token.make_rsa(token.parse(uri), RSA_BITS_MIN)
    if kind == "rsa":
        return private_pem(rsa.generate_private_key(65537, RSA_BITS_MIN))
    private = ec.generate_private_key(ec.SECP256R1())
    opener(private, b"")  # says now, not when the first record comes, that the library has no HPKE
    return private_pem(private)
