"""The algorithms, each known by its COSE number: the one place that says which there are and what they need.

A new one is a row here, and nothing else changes. What has no row is refused by its number; what has a row that this
installation cannot run is refused by its name and with what it lacks. COSE registers no number for SM2, SM3 and SM4:
theirs are from its private range, below -65536.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SM3, Hash

from protocols.errors import Malformed

TAG_BYTES: Final = 16
A256GCM, SM4_GCM = 3, -66001
RSA_OAEP_256, HPKE_7_KE = -41, 53
SHA_256, SM3_256 = -16, -66002
ES256, SM2 = -7, -66003


class Unavailable(Exception):
    """An algorithm that has a name here, and nothing in this installation that could run it."""


Row = TypeVar("Row", "Content", "Wrapping", "Digest", "Signature")


def _by_number(*rows: Row) -> Mapping[int, Row]:
    return {each.number: each for each in rows}


Seal = Callable[[bytes, bytes, bytes, bytes], bytes]
"""(key, nonce, body, associated data) to the ciphertext and its tag."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """How bodies are sealed: an AEAD with nonces of 12 bytes and tags of 16. `open` raises InvalidTag.

    whole_iv: whether a message carries the whole nonce. With a number of the private range, which takes 5 bytes, it
    carries the sequence number alone (Partial IV, RFC 9052 section 3.1), so that both are equally long.
    """

    number: int
    name: str
    key_bytes: int
    whole_iv: bool
    seal: Seal
    open: Seal


def _aes_seal(key: bytes, nonce: bytes, body: bytes, associated: bytes) -> bytes:
    return AESGCM(key).encrypt(nonce, body, associated)


def _aes_open(key: bytes, nonce: bytes, sealed: bytes, associated: bytes) -> bytes:
    return AESGCM(key).decrypt(nonce, sealed, associated)


def _sm4_seal(key: bytes, nonce: bytes, body: bytes, associated: bytes) -> bytes:
    try:
        encryptor = Cipher(algorithms.SM4(key), modes.GCM(nonce)).encryptor()
    except UnsupportedAlgorithm:
        raise Unavailable("SM4-GCM: expected an OpenSSL with SM4, got one without") from None
    encryptor.authenticate_additional_data(associated)
    return encryptor.update(body) + encryptor.finalize() + encryptor.tag


def _sm4_open(key: bytes, nonce: bytes, sealed: bytes, associated: bytes) -> bytes:
    body, tag = sealed[:-TAG_BYTES], sealed[-TAG_BYTES:]
    try:
        decryptor = Cipher(algorithms.SM4(key), modes.GCM(nonce, tag)).decryptor()
    except UnsupportedAlgorithm:
        raise Unavailable("SM4-GCM: expected an OpenSSL with SM4, got one without") from None
    decryptor.authenticate_additional_data(associated)
    return decryptor.update(body) + decryptor.finalize()


CONTENT: Final[Mapping[int, Content]] = _by_number(
    Content(number=A256GCM, name="A256GCM", key_bytes=32, whole_iv=True, seal=_aes_seal, open=_aes_open),
    # GB/T 32907-2016 (SM4) in Galois/counter mode, as RFC 8998 uses it.
    Content(number=SM4_GCM, name="SM4-GCM", key_bytes=16, whole_iv=False, seal=_sm4_seal, open=_sm4_open),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrapping:
    """How a data key is wrapped for a recipient. Done in `identity.wrapping`, where the private keys are."""

    number: int
    name: str
    key: str
    """Of the recipient."""


WRAPPING: Final[Mapping[int, Wrapping]] = _by_number(
    Wrapping(number=RSA_OAEP_256, name="RSAES-OAEP-256", key="RSA of 3072 bits or more"),  # RFC 8230 section 3
    Wrapping(number=HPKE_7_KE, name="HPKE-7-KE", key="P-256"),  # RFC 9180; draft-ietf-cose-hpke
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Digest:
    """A hash of 32 bytes. prefix: what stands before it where people read it."""

    number: int
    name: str
    prefix: str
    of: Callable[[bytes], bytes]


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _sm3(data: bytes) -> bytes:
    try:
        digest = Hash(SM3())
    except UnsupportedAlgorithm:
        raise Unavailable("SM3: expected an OpenSSL with SM3, got one without") from None
    digest.update(data)
    return digest.finalize()


DIGEST: Final[Mapping[int, Digest]] = _by_number(
    Digest(number=SHA_256, name="SHA-256", prefix="SHA256", of=_sha256),
    Digest(number=SM3_256, name="SM3", prefix="SM3", of=_sm3),  # GB/T 32905-2016
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """How messages are signed. available: whether anything here can make and check one."""

    number: int
    name: str
    available: bool


SIGNATURE: Final[Mapping[int, Signature]] = _by_number(
    Signature(number=ES256, name="ES256", available=True),
    # GB/T 32918-2016. The row is ready; `cryptography` has no SM2.
    Signature(number=SM2, name="SM2", available=False),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """What a gateway seals with, by the name that its configuration and its centre's use."""

    name: str
    content: int
    digest: int
    """Of the fingerprints that people compare."""
    signature: int


SUITES: Final[Mapping[str, Suite]] = {
    suite.name: suite
    for suite in (
        Suite(name="aes", content=A256GCM, digest=SHA_256, signature=ES256),
        Suite(name="sm", content=SM4_GCM, digest=SM3_256, signature=ES256),
    )
}
ACCEPTED: Final = ("aes",)
"""The suites that a centre takes where its configuration names none."""


def contents(suites: Iterable[str]) -> frozenset[int]:
    """The content algorithms of these suites. Raises KeyError for a name that there is not."""
    return frozenset(SUITES[name].content for name in suites)


def check(suites: Iterable[str]) -> None:
    """Raises Unavailable if this installation cannot run one of them."""
    for number in contents(suites):
        content = CONTENT[number]
        content.seal(bytes(content.key_bytes), bytes(12), b"", b"")


def row(table: Mapping[int, Row], number: int) -> Row:
    """The row of that number. Raises Malformed naming what there is."""
    found = table.get(number)
    if found is None:
        known = ", ".join(f"{each.name} ({each.number})" for each in table.values())
        raise Malformed(f"algorithm {number}: expected {known}")
    return found


def signature(number: int) -> Signature:
    """The row of a signature that can be checked. Raises Malformed for one that there is not, or that is not built."""
    found = row(SIGNATURE, number)
    if not found.available:
        raise Malformed(f"signature {found.name} ({number}): known, and not available in this installation")
    return found
