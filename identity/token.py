"""Keys that lie in a PKCS#11 token (an HSM, a security chip, softhsm2 in tests) and never leave it.

Named by a URI (RFC 7512): `pkcs11:token=LABEL;object=LABEL?pin-source=FILE&module-path=LIBRARY`. The PIN is in a file
0600, never in the URI. Without module-path it is p11-kit's proxy, which knows the modules that the system has. Needs
the package `python-pkcs11` (the extra `pkcs11`), which is imported only here and only when a URI is met.
"""

import hashlib
import hmac
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import unquote

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from identity import files
from identity.files import IdentityError
from identity.wrapping import Opener
from protocols.envelope import Sign
from protocols.suites import RSA_OAEP_256

if TYPE_CHECKING:
    from types import ModuleType

SCHEME: Final = "pkcs11:"
MODULE: Final = "p11-kit-proxy.so"
"""What is asked where the URI names no module."""
HASH_BYTES: Final = 32


class TokenAway(IdentityError):
    """A token that is not there, or does not answer, just now: it may be plugged in, or known, a moment later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A key in a token."""

    uri: str
    token: str
    object: str
    module: str
    pin_source: Path | None

    def __str__(self) -> str:
        return self.uri


def parse(uri: str) -> Address:
    """What the URI names. Raises IdentityError."""
    path, _, query = uri.removeprefix(SCHEME).partition("?")
    try:
        found = dict(part.split("=", 1) for part in [*path.split(";"), *query.split("&")] if part)
    except ValueError:
        found = {}
    unknown = found.keys() - {"token", "object", "type", "pin-source", "module-path"}
    if not uri.startswith(SCHEME) or unknown or not found.get("token") or not found.get("object"):
        raise IdentityError(
            f"{uri}: expected pkcs11:token=LABEL;object=LABEL?pin-source=FILE&module-path=LIBRARY"
            + (f", got {', '.join(sorted(unknown))}" if unknown else "")
        )
    pin = unquote(found["pin-source"]).removeprefix("file:") if "pin-source" in found else None
    return Address(
        uri=uri, token=unquote(found["token"]), object=unquote(found["object"]),
        module=unquote(found.get("module-path", MODULE)), pin_source=Path(pin) if pin is not None else None,
    )  # fmt: skip


def _pkcs11() -> "ModuleType":
    try:
        import pkcs11
    except ImportError:
        raise IdentityError(
            "PKCS#11: expected the package python-pkcs11; install it, or keep the key in a file"
        ) from None
    return pkcs11


_sessions: dict[tuple[str, str], Any] = {}
_lock = threading.RLock()
"""A session does one thing at a time, and a token wants one login a process."""

Answer = TypeVar("Answer")


def _ask(address: Address, what: Callable[[Any, Any], Answer], *, write: bool = False) -> Answer:
    """What the token answers, in the session with it; in a new one if that has ended. Raises IdentityError."""
    pkcs11 = _pkcs11()
    place = (address.module, address.token)
    with _lock:
        for again in (True, False):
            try:
                if write or place not in _sessions:
                    _sessions[place] = _open(pkcs11, address, write=write)
                return what(pkcs11, _sessions[place])
            except pkcs11.exceptions.PKCS11Error as error:
                _sessions.pop(place, None)
                ended = (
                    pkcs11.exceptions.SessionHandleInvalid, pkcs11.exceptions.SessionClosed,
                    pkcs11.exceptions.UserNotLoggedIn, pkcs11.exceptions.DeviceRemoved,
                )  # fmt: skip
                if not (again and isinstance(error, ended)):
                    raise _refusal(pkcs11, error)(f"{address}: {_reason(error)}") from error
    raise AssertionError("the loop returns or raises")


def _refusal(pkcs11: Any, error: Exception) -> type[IdentityError]:
    """TokenAway for what time alone may mend. Never for a PIN: who tries one again and again locks the token."""
    away = (
        pkcs11.exceptions.NoSuchToken, pkcs11.exceptions.TokenNotPresent, pkcs11.exceptions.DeviceRemoved,
        pkcs11.exceptions.DeviceError,
    )  # fmt: skip
    return TokenAway if isinstance(error, away) else IdentityError


def _reason(error: Exception) -> str:
    """What a token's refusal means."""
    return {
        "NoSuchToken": "expected that token, got none of that label",
        "NoSuchKey": "expected that key in the token, got none",
        "MultipleObjectsReturned": "expected one key of that label in the token, got several",
        "PinIncorrect": "expected the PIN of the token in pin-source, got another one",
        "PinLocked": "the PIN of the token is locked",
    }.get(type(error).__name__, f"the token refused: {type(error).__name__} {error}".rstrip())


def _open(pkcs11: Any, address: Address, *, write: bool) -> Any:
    """A session, logged in. Never tries a PIN twice: a token counts wrong ones and locks itself."""
    pin = None
    if address.pin_source is not None:
        pin = files.read_secret(address.pin_source).decode(errors="replace").strip()
    found = pkcs11.lib(address.module).get_token(token_label=address.token)
    try:
        return found.open(user_pin=pin, rw=write)
    except pkcs11.exceptions.UserAlreadyLoggedIn:
        return found.open(rw=write)


def _public(address: Address, kind: str, encode: Callable[[Any], bytes]) -> Any:
    def read(pkcs11: Any, session: Any) -> bytes:
        key = session.get_key(
            object_class=pkcs11.ObjectClass.PUBLIC_KEY, key_type=getattr(pkcs11.KeyType, kind), label=address.object
        )
        return encode(key)

    try:
        return load_der_public_key(_ask(address, read))
    except ValueError as error:
        raise IdentityError(f"{address}: expected a public key, got {error}") from None


def p256_public(address: Address) -> ec.EllipticCurvePublicKey:
    """The public half of a P-256 key. Raises IdentityError."""
    _pkcs11()
    from pkcs11.util.ec import encode_ec_public_key

    key = _public(address, "EC", encode_ec_public_key)
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise IdentityError(f"{address}: expected a P-256 key, got {type(key).__name__}")
    return key


def rsa_public(address: Address) -> rsa.RSAPublicKey:
    """The public half of an RSA key. Raises IdentityError."""

    def encode(key: Any) -> bytes:
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        pkcs11 = _pkcs11()
        numbers = (key[pkcs11.Attribute.PUBLIC_EXPONENT], key[pkcs11.Attribute.MODULUS])
        public = rsa.RSAPublicNumbers(*(int.from_bytes(each, "big") for each in numbers)).public_key()
        return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    key = _public(address, "RSA", encode)
    if not isinstance(key, rsa.RSAPublicKey):
        raise IdentityError(f"{address}: expected an RSA key, got {type(key).__name__}")
    return key


def _private(pkcs11: Any, session: Any, address: Address) -> Any:
    return session.get_key(object_class=pkcs11.ObjectClass.PRIVATE_KEY, label=address.object)


def signer(address: Address) -> Sign:
    """Signs with a P-256 key in the token: ECDSA over SHA-256, r and s as 32 bytes each."""

    def sign(data: bytes) -> bytes:
        digest = hashlib.sha256(data).digest()

        def ask(pkcs11: Any, session: Any) -> bytes:
            key = _private(pkcs11, session, address)
            return bytes(key.sign(digest, mechanism=pkcs11.Mechanism.ECDSA))

        return _ask(address, ask)

    return sign


def opener(address: Address, public: rsa.RSAPublicKey, kid: bytes) -> Opener:
    """Opens with an RSA key in the token, whose public half is known."""
    length, modulus = public.key_size // 8, public.public_numbers().n
    plain = [False]
    """Whether the token is known to have no OAEP with SHA-256 (softhsm2 2.6 has it with SHA-1 alone)."""

    def open_rsa(wrapped: bytes, _: bytes) -> bytes:
        # A token would answer this with just any error; one of its own must not be taken for a bad record.
        if len(wrapped) != length or int.from_bytes(wrapped, "big") >= modulus:
            raise ValueError("does not open")

        def ask(pkcs11: Any, session: Any) -> bytes:
            key = _private(pkcs11, session, address)
            if not plain[0]:
                how = (pkcs11.Mechanism.SHA256, pkcs11.MGF.SHA256, None)
                try:
                    return bytes(key.decrypt(wrapped, mechanism=pkcs11.Mechanism.RSA_PKCS_OAEP, mechanism_param=how))
                except (
                    pkcs11.exceptions.ArgumentsBad, pkcs11.exceptions.MechanismInvalid,
                    pkcs11.exceptions.MechanismParamInvalid,
                ):  # fmt: skip
                    plain[0] = True
            return unpad(bytes(key.decrypt(wrapped, mechanism=pkcs11.Mechanism.RSA_X_509)))

        try:
            return _ask(address, ask)
        except IdentityError as error:
            cause = type(error.__cause__).__name__
            if cause in ("EncryptedDataInvalid", "EncryptedDataLenRange", "DataInvalid", "DataLenRange"):
                raise ValueError("does not open") from None
            raise

    return Opener(kid=kid, algorithm=RSA_OAEP_256, open=open_rsa)


def unpad(block: bytes) -> bytes:
    """EME-OAEP decoding with SHA-256 and no label (RFC 8017 section 7.1.2 step 3). Raises ValueError.

    Which part was wrong is told to nobody, and only what a trusted gateway has signed comes here: whoever could send
    many such blocks to learn from the time that they take could ask for the data keys of that gateway alone.
    """
    seed, masked = block[1 : 1 + HASH_BYTES], block[1 + HASH_BYTES :]
    if len(masked) < HASH_BYTES + 1:
        raise ValueError("does not open")
    seed = _xor(seed, _mask(masked, HASH_BYTES))
    data = _xor(masked, _mask(seed, len(masked)))
    good = hmac.compare_digest(data[:HASH_BYTES], hashlib.sha256(b"").digest())
    mark, _, message = data[HASH_BYTES:].partition(b"\x01")
    if not (good & (block[0] == 0) & (not mark.strip(b"\0"))):
        raise ValueError("does not open")
    return message


def _mask(seed: bytes, length: int) -> bytes:
    """MGF1 with SHA-256 (RFC 8017 appendix B.2.1)."""
    count = -(-length // HASH_BYTES)
    return b"".join(hashlib.sha256(seed + at.to_bytes(4, "big")).digest() for at in range(count))[:length]


def _xor(one: bytes, other: bytes) -> bytes:
    return (int.from_bytes(one, "big") ^ int.from_bytes(other, "big")).to_bytes(len(one), "big")


def make_p256(address: Address) -> bytes:
    """Make a P-256 key in the token, or take the one of that label; returns what its key file holds."""

    def make(pkcs11: Any, session: Any) -> None:
        from pkcs11.util.ec import encode_named_curve_parameters

        curve = {pkcs11.Attribute.EC_PARAMS: encode_named_curve_parameters("secp256r1")}
        parameters = session.create_domain_parameters(pkcs11.KeyType.EC, curve, local=True)
        parameters.generate_keypair(store=True, label=address.object)

    _make(address, make)
    p256_public(address)
    return f"{address}\n".encode()


def make_rsa(address: Address, bits: int) -> bytes:
    """Make an RSA key in the token, or take the one of that label; returns what its key file holds."""
    _make(address, lambda pkcs11, session: session.generate_keypair(
        pkcs11.KeyType.RSA, bits, store=True, label=address.object
    ))  # fmt: skip
    rsa_public(address)
    return f"{address}\n".encode()


def _make(address: Address, make: Callable[[Any, Any], object]) -> None:
    def there(pkcs11: Any, session: Any) -> bool:
        found = session.get_objects({
            pkcs11.Attribute.CLASS: pkcs11.ObjectClass.PRIVATE_KEY, pkcs11.Attribute.LABEL: address.object
        })  # fmt: skip
        return any(True for _ in found)

    if not _ask(address, there):
        _ask(address, make, write=True)
