"""Batch body to sealed bytes and back (COSE, RFC 9052 and 9053). Keys, nonces and signers are passed in.

A sealed message is a tagged COSE_Encrypt0, 54 bytes longer than its body (56 above 64 KiB). With AES-256-GCM:

    D0 83                               tag 16, array of 3
       51 A3 01 03 03 19 kk kk 04 48 id*8   protected: {alg: A256GCM, content type: kind, kid: id of the data key}
       A1 05 4C salt*4 seq*8            unprotected: {IV: salt of the data key, sequence number, both big-endian}
       58|59|5A length ciphertext tag*16

With an algorithm whose number takes 5 bytes the message carries the Partial IV, the sequence number alone, and the salt
is known from the key record: 55 for 51, A1 06 48 seq*8 for the third line, and as many bytes in all.

The additional data is the Enc_structure over the external data [version, gateway, epoch, kind], so a message opens
only as what it was sealed as. The nonce repeats only if a sequence number is used twice under one data key.
A signed message is a tagged COSE_Sign1 with ES256 whose protected content type says what it is: a receipt is never
taken for a request. Both are read strictly: shortest forms only, no other headers, nothing behind them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

import cbor2
from cryptography.exceptions import InvalidTag

from protocols import cbor
from protocols.errors import Malformed
from protocols.suites import A256GCM, CONTENT, ES256, TAG_BYTES, Content, row, signature

VERSION: Final = 1
"""Of the envelope: bound into every sealed and every signed message."""
KID_BYTES, SALT_BYTES = 8, 4
ADDED_MAX: Final = 56
"""Bytes that sealing adds to a body, at most."""
BODY_MAX: Final = 1 << 20
"""The longest body that is sealed or opened. An outbox seals at most 64 KiB."""
REPLY_SEQ: Final = 1 << 63
"""Replies and manifests count from here, batches from 1: one data key serves both and no nonce repeats."""

Sign = Callable[[bytes], bytes]
"""Bytes to a raw ECDSA P-256 signature over their SHA-256: r and s, 32 bytes each, big-endian."""
Verify = Callable[[bytes, bytes, bytes], bool]
"""(kid of the signer, signed bytes, raw signature) to whether that key is trusted and made that signature."""


class BatchKind(IntEnum):
    """What a sealed body is. The number is its content type, in the range that RFC 7252 leaves to experiments."""

    CAPTURES = 65001
    """Captures and gaps, in a batch body."""
    EVENTS = 65002
    """Events, in a batch body."""
    REPLY = 65003
    """A reply to a request; numbered from REPLY_SEQ, carried inside a signed message."""
    MANIFEST = 65004
    """A day's account; numbered from REPLY_SEQ, carried inside a signed message."""


class SignedKind(IntEnum):
    """What a signed message is. The number is its content type."""

    KEY = 65011
    HELLO = 65012
    RECEIPT = 65013
    REQUEST = 65014
    REPLY = 65015
    MANIFEST = 65016


@dataclass(frozen=True, slots=True, kw_only=True)
class DataKey:
    """The key of one epoch and day: in memory only, and wrapped in a key record. day: site-local days since 1970.

    algorithm: the COSE number of the one with which it seals and opens, and of no other.
    """

    kid: bytes
    key: bytes = field(repr=False)
    salt: bytes
    epoch: int
    day: int
    algorithm: int = A256GCM

    def __post_init__(self) -> None:
        expected = (KID_BYTES, CONTENT[self.algorithm].key_bytes, SALT_BYTES)
        if (len(self.kid), len(self.key), len(self.salt)) != expected:
            raise ValueError(f"kid, key, salt: expected {', '.join(map(str, expected))} bytes")
        if not 0 <= self.epoch <= cbor.INT_MAX:
            raise ValueError(f"epoch: expected 0..2^63-1, got {self.epoch}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a sealed message says of itself. Not to be believed before it is opened."""

    kid: bytes
    salt: bytes
    """Empty where the message does not carry it."""
    seq: int
    kind: BatchKind
    algorithm: int = A256GCM


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A message that was sealed by the holder of the data key, for exactly this gateway, epoch, seq and kind."""

    seq: int
    kind: BatchKind
    body: bytes


_PROTECTED = {
    (each.number, kind): b"\xa3\x01" + cbor2.dumps(each.number) + bytes.fromhex(f"0319{kind:04X}0448")
    for each in CONTENT.values()
    for kind in BatchKind
}
_KINDS = {head: found for found, head in _PROTECTED.items()}
_SEQ_BYTES = 8


def _associated(protected: bytes, gateway: str, epoch: int, kind: BatchKind) -> bytes:
    """Enc_structure (RFC 9052 section 5.3) over [version, gateway, epoch, kind]."""
    return cbor2.dumps(["Encrypt0", protected, cbor2.dumps([VERSION, gateway, epoch, int(kind)])])


def _checked_seq(kind: BatchKind, seq: int) -> bool:
    if kind in (BatchKind.REPLY, BatchKind.MANIFEST):
        return REPLY_SEQ <= seq < 2 * REPLY_SEQ
    return 1 <= seq < REPLY_SEQ


def seal(data_key: DataKey, *, gateway: str, seq: int, kind: BatchKind, body: bytes) -> bytes:
    """The body sealed under the data key. Never call it twice with one key and one seq: store what it returned.

    Raises ValueError for a seq outside its kind's range or a body longer than BODY_MAX.
    """
    if not _checked_seq(kind, seq):
        raise ValueError(f"seq {seq} is not one of a sealed message of kind {kind.name}")
    if len(body) > BODY_MAX:
        raise ValueError(f"a body of {len(body)} bytes, expected at most {BODY_MAX}")
    content = CONTENT[data_key.algorithm]
    protected = _PROTECTED[content.number, kind] + data_key.kid
    number = seq.to_bytes(_SEQ_BYTES, "big")
    associated = _associated(protected, gateway, data_key.epoch, kind)
    sealed = content.seal(data_key.key, data_key.salt + number, body, associated)
    carried = data_key.salt + number if content.whole_iv else number
    return b"".join(
        (b"\xd0\x83", cbor2.dumps(protected), _iv_head(content), carried, cbor2.dumps(sealed))
    )  # fmt: skip


def _iv_head(content: Content) -> bytes:
    """What stands before the nonce ({5: 12 bytes}) or the sequence number ({6: 8 bytes})."""
    return b"\xa1\x05\x4c" if content.whole_iv else b"\xa1\x06\x48"


def _parse(message: bytes) -> tuple[Header, bytes, bytes]:
    """Header, protected bytes and ciphertext of a message laid out as above. Raises Malformed."""
    length = message[2] & 31 if len(message) > 2 else 0
    protected = message[3 : 3 + length]
    known = _KINDS.get(protected[:-KID_BYTES])
    if known is None or message[:2] != b"\xd0\x83" or message[2] >> 5 != 2:
        _refuse_algorithm(message, protected)
        raise Malformed(f"not a sealed message of version {VERSION}: {message[:24].hex().upper()}")
    algorithm, kind = known
    content = CONTENT[algorithm]
    iv_at = 3 + length + 3
    seq_at = iv_at + SALT_BYTES if content.whole_iv else iv_at
    if message[3 + length : iv_at] != _iv_head(content):
        raise Malformed(f"not a sealed message of version {VERSION}: {message[:40].hex().upper()}")
    major, length, at = cbor.read_head(message, seq_at + _SEQ_BYTES)
    if major != 2 or length != len(message) - at or not TAG_BYTES <= length <= BODY_MAX + TAG_BYTES:
        raise Malformed(f"sealed message: ciphertext of {length} bytes announced, {len(message) - at} there")
    seq = int.from_bytes(message[seq_at : seq_at + _SEQ_BYTES], "big")
    if not _checked_seq(kind, seq):
        raise Malformed(f"sealed message: seq {seq} in kind {kind.name}")
    head = Header(
        kid=protected[-KID_BYTES:], salt=message[iv_at:seq_at], seq=seq, kind=kind, algorithm=algorithm
    )  # fmt: skip
    return head, protected, message[at:]


def _refuse_algorithm(message: bytes, protected: bytes) -> None:
    """Raises Malformed naming the algorithm, if that is what is not known of a sealed message."""
    if message[:2] == b"\xd0\x83" and protected[:2] == b"\xa3\x01":
        number, _ = cbor.read_item(protected, 2)
        if isinstance(number, int):
            row(CONTENT, number)


def header(message: bytes) -> Header:
    """Which data key opens the message, and what it says that it is. Raises Malformed."""
    return _parse(message)[0]


def open(message: bytes, *, data_key: DataKey, gateway: str) -> Opened:  # noqa: A001 - read as envelope.open
    """Open a message of this gateway with its data key. Raises Malformed if it is anything else, or was touched."""
    head, protected, sealed = _parse(message)
    if head.kid != data_key.kid or head.salt not in (b"", data_key.salt):
        raise Malformed(f"sealed message: under data key {head.kid.hex()}, got {data_key.kid.hex()} to open it")
    content = CONTENT[data_key.algorithm]
    if head.algorithm != content.number:
        raise Malformed(f"sealed message: expected {content.name}, for which its key is, got {head.algorithm}")
    associated = _associated(protected, gateway, data_key.epoch, head.kind)
    try:
        nonce = data_key.salt + head.seq.to_bytes(_SEQ_BYTES, "big")
        body = content.open(data_key.key, nonce, sealed, associated)
    except InvalidTag:
        raise Malformed(f"sealed message: not what {gateway} sealed as seq {head.seq} of its epoch") from None
    return Opened(seq=head.seq, kind=head.kind, body=body)


def _to_sign(protected: bytes, payload: bytes) -> bytes:
    """Sig_structure (RFC 9052 section 4.4) over the external data [version]."""
    return cbor2.dumps(["Signature1", protected, cbor2.dumps([VERSION]), payload])


def sign1(payload: bytes, *, kind: SignedKind, kid: bytes, sign: Sign) -> bytes:
    """COSE_Sign1 with ES256: D2 84, protected {alg: -7, content type: kind, kid}, {}, payload, signature."""
    if len(kid) != KID_BYTES:
        raise ValueError(f"kid: expected {KID_BYTES} bytes, got {len(kid)}")
    protected = cbor2.dumps({1: ES256, 3: int(kind), 4: kid})
    raw = sign(_to_sign(protected, payload))
    return b"\xd2\x84" + b"".join(map(cbor2.dumps, (protected, {}, payload, raw)))


def verify1(message: bytes, *, kind: SignedKind, verify: Verify) -> bytes:
    """The payload of a message of this kind, if `verify` finds its signature good. Raises Malformed."""
    if message[:1] != b"\xd2":
        raise Malformed(f"not a signed message: {message[:8].hex().upper()}")
    parts = cbor.Fields("signed message", cbor.read(message[1:]), 4)
    protected = parts.octets("protected header", 1, 64)
    if parts.map("unprotected header", 0):
        raise Malformed("signed message: an unprotected header")
    payload, raw = parts.octets("payload", 1, BODY_MAX), parts.octets("signature", 64, 64)
    head = cbor.read(protected)
    kid = head.get(4) if isinstance(head, dict) else None
    if isinstance(head, dict) and isinstance(algorithm := head.get(1), int):
        signature(algorithm)
    if (
        not isinstance(kid, bytes)
        or len(kid) != KID_BYTES
        or protected != cbor2.dumps({1: ES256, 3: int(kind), 4: kid})
    ):
        raise Malformed(f"signed message: expected ES256 and kind {kind.name}, got header {protected.hex().upper()}")
    if not verify(kid, _to_sign(protected, payload), raw):
        raise Malformed(f"signed message: {kind.name} not signed by a trusted key (signer {kid.hex()})")
    return payload


def signer_of(message: bytes) -> bytes:
    """The id of the key that signed a message which `verify1` has found good."""
    head = cbor.read(cbor.Fields("signed message", cbor.read(message[1:]), 4).octets("protected header", 1, 64))
    kid = head.get(4) if isinstance(head, dict) else None
    assert isinstance(kid, bytes), "verified before"
    return kid
