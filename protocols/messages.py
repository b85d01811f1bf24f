"""What gateway and centre tell each other besides batches: frozen values, their bytes, and how they are signed.

Key record, hello, receipt, request, reply and manifest are arrays in CBOR that begin with their version, inside a
COSE_Sign1 (`signed`, `verified`). State and health are plain JSON and carry no meter data. `docs/wire.md` lays them
out field by field. Times are UTC milliseconds. Building one that cannot be raises ValueError, reading one Malformed.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Final, Protocol, Self, TypeVar

import cbor2

from protocols import cbor
from protocols.cbor import Fields
from protocols.envelope import KID_BYTES, SALT_BYTES, Sign, SignedKind, Verify, sign1, verify1
from protocols.errors import Malformed
from protocols.suites import A256GCM, CONTENT, RSA_OAEP_256, row
from protocols.topics import GATEWAY_ID, bucket, parse_topic, topic

__all__ = [
    "RSA_OAEP_256", "Health", "Hello", "KeyRecord", "Manifest", "Receipt", "Reply", "Request", "State",
    "Wrapped", "bucket", "parse_topic", "signed", "topic", "verified",
]  # fmt: skip

VERSION: Final = 1
"""First field of every signed payload. A reader refuses any other."""
RECIPIENTS_MAX, VOIDED_MAX, RANGES_MAX = 16, 4096, 1024
JSON_MAX: Final = 256 * 1024
MANIFEST_ADDED_MAX, HELLO_BYTES_MAX, VOIDED_BYTES_MAX = 200, 200, 19
"""Bytes: what a manifest adds to what is sealed in it; a hello without voided numbers, and one of these; at most."""
RECEIPT_BYTES_MAX, RANGE_BYTES_MAX = 310, 65
"""Bytes: a receipt that settles nothing and asks for 16 keys; a range and a refusal in it; at most."""
KEY_VERSION: Final = 2
"""First field of a key record that names its algorithm; without one (version 1) it is A256GCM."""


class _Signed(Protocol):
    """A message that travels signed."""

    KIND: ClassVar[SignedKind]

    @property
    def gateway(self) -> str: ...

    def encode(self) -> bytes: ...

    @classmethod
    def decode(cls, payload: bytes) -> Self: ...


SignedT = TypeVar("SignedT", bound=_Signed)


def signed(message: _Signed, *, kid: bytes, sign: Sign) -> bytes:
    """The message as it is published."""
    return sign1(message.encode(), kind=message.KIND, kid=kid, sign=sign)


def verified(what: type[SignedT], message: bytes, *, gateway: str, verify: Verify) -> SignedT:
    """The message of this kind, from or for this gateway, if it is truly signed. Raises Malformed."""
    found = what.decode(verify1(message, kind=what.KIND, verify=verify))
    if found.gateway != gateway:
        raise Malformed(f"{what.__name__}: expected one of gateway {gateway}, got {found.gateway}")
    return found


def _begin(what: str, payload: bytes, count: int, version: int = VERSION) -> Fields:
    """The fields of a payload after its version."""
    fields = Fields(what, cbor.read(payload), count + 1)
    fields.integer("version", version, version)
    return fields


def _gateway(fields: Fields) -> str:
    gateway = fields.text("gateway")
    if GATEWAY_ID.fullmatch(gateway) is None:
        raise Malformed(f"gateway id: expected {GATEWAY_ID.pattern}, got {gateway!r:.60}")
    return gateway


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrapped:
    """A data key, wrapped for one recipient. algorithm: a COSE number."""

    kid: bytes
    algorithm: int
    key: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """A data key for those who may open batches. Has no seq; sent until the last batch under it is settled."""

    KIND: ClassVar = SignedKind.KEY

    gateway: str
    epoch: int
    kid: bytes
    day: int
    """Site-local days since 1970-01-01."""
    salt: bytes
    wrapped: tuple[Wrapped, ...]
    algorithm: int = A256GCM
    """The COSE number of the one that batches under the key are sealed with, and no other."""

    def encode(self) -> bytes:
        recipients = [[each.kid, each.algorithm, each.key] for each in self.wrapped]
        fields = [self.gateway, self.epoch, self.kid, self.day, self.salt, recipients]
        if self.algorithm == A256GCM:
            return cbor2.dumps([VERSION, *fields])
        return cbor2.dumps([KEY_VERSION, *fields, self.algorithm])

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        named = len(payload) > 1 and payload[1] == KEY_VERSION
        fields = _begin("key record", payload, 7, KEY_VERSION) if named else _begin("key record", payload, 6)
        return cls(
            gateway=_gateway(fields), epoch=fields.integer("epoch"), kid=fields.octets("kid", KID_BYTES, KID_BYTES),
            day=fields.integer("day", 0, 0xFFFFFFFF), salt=fields.octets("salt", SALT_BYTES, SALT_BYTES),
            wrapped=tuple(map(_wrapped, fields.array("wrapped", RECIPIENTS_MAX))),
            algorithm=_algorithm(fields) if named else A256GCM,
        )  # fmt: skip


def _algorithm(fields: Fields) -> int:
    number = row(CONTENT, fields.integer("algorithm", -(1 << 31), 1 << 31)).number
    if number == A256GCM:
        raise Malformed(f"key record: version {KEY_VERSION} for A256GCM, expected version {VERSION}")
    return number


def _wrapped(item: object) -> Wrapped:
    fields = Fields("wrapped key", item, 3)
    return Wrapped(
        kid=fields.octets("kid", KID_BYTES, KID_BYTES), algorithm=fields.integer("algorithm", -(1 << 31), 1 << 31),
        key=fields.octets("key", 1, 2048),
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """Sent after each connection: where the gateway stands, and which batches it has given up for ever."""

    KIND: ClassVar = SignedKind.HELLO

    gateway: str
    epoch: int
    first_unsettled: int
    """Of this epoch; equals next_seq when all is settled."""
    next_seq: int
    voided: tuple[tuple[int, int], ...] = ()
    """(epoch, seq) of batches whose records were sealed again under other numbers."""
    pending: int
    """Records not yet settled, of all epochs."""
    oldest_at: int | None
    """When the oldest of them was read; None when there is none."""
    sent_at: int

    def encode(self) -> bytes:
        return cbor2.dumps(
            [VERSION, self.gateway, self.epoch, self.first_unsettled, self.next_seq, self.voided, self.pending,
             self.oldest_at, self.sent_at]
        )  # fmt: skip

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        fields = _begin("hello", payload, 8)
        return cls(
            gateway=_gateway(fields), epoch=fields.integer("epoch"), first_unsettled=fields.integer("first_unsettled"),
            next_seq=fields.integer("next_seq"), voided=_pairs("voided", fields.array("voided", VOIDED_MAX)),
            pending=fields.integer("pending"), oldest_at=fields.optional("oldest_at"),
            sent_at=fields.integer("sent_at"),
        )  # fmt: skip


def _pairs(what: str, items: list[object]) -> tuple[tuple[int, int], ...]:
    pairs = []
    for item in items:
        fields = Fields(what, item, 2)
        pairs.append((fields.integer("first"), fields.integer("second")))
    return tuple(pairs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What the centre has committed: the only thing that settles a batch. One epoch each.

    contiguous_upto: every seq up to it is committed or rejected (0 or less: none). ranges: (first, last) of the
    committed above it, ascending, apart from each other. rejected: (seq, code), which settles nothing: the gateway
    voids these and seals their records again. need_key: ids of data keys whose record is missing.
    """

    KIND: ClassVar = SignedKind.RECEIPT

    gateway: str
    epoch: int
    contiguous_upto: int
    ranges: tuple[tuple[int, int], ...] = ()
    rejected: tuple[tuple[int, str], ...] = ()
    need_key: tuple[bytes, ...] = ()
    sent_at: int

    def __post_init__(self) -> None:
        above = self.contiguous_upto
        for first, last in self.ranges:
            if not above < first <= last:
                raise ValueError(f"receipt: range {first}..{last} after {above}")
            above = last

    def encode(self) -> bytes:
        return cbor2.dumps(
            [VERSION, self.gateway, self.epoch, self.contiguous_upto, self.ranges, self.rejected, self.need_key,
             self.sent_at]
        )  # fmt: skip

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        fields = _begin("receipt", payload, 7)
        gateway, epoch = _gateway(fields), fields.integer("epoch")
        upto = fields.integer("contiguous_upto", -1)
        ranges = _pairs("ranges", fields.array("ranges", RANGES_MAX))
        rejected = tuple(map(_rejected, fields.array("rejected", RANGES_MAX)))
        need_key = tuple(_kid("need_key", item) for item in fields.array("need_key", RANGES_MAX))
        try:
            return cls(gateway=gateway, epoch=epoch, contiguous_upto=upto, ranges=ranges, rejected=rejected,
                       need_key=need_key, sent_at=fields.integer("sent_at"))  # fmt: skip
        except ValueError as error:
            raise Malformed(str(error)) from None


def _rejected(item: object) -> tuple[int, str]:
    fields = Fields("rejected", item, 2)
    return fields.integer("seq"), fields.text("code", 32)


def _kid(what: str, item: object) -> bytes:
    return Fields(what, [item], 1).octets("kid", KID_BYTES, KID_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Something that the centre asks of a gateway. Not to be obeyed after expires_at, nor twice for one id."""

    KIND: ClassVar = SignedKind.REQUEST

    gateway: str
    request: bytes
    """16 bytes that no other request has."""
    action: str
    arguments: Mapping[str, str | int] = field(default_factory=dict)
    sent_at: int
    expires_at: int

    def encode(self) -> bytes:
        return cbor2.dumps(
            [VERSION, self.gateway, self.request, self.action, dict(self.arguments), self.sent_at, self.expires_at]
        )

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        fields = _begin("request", payload, 6)
        return cls(
            gateway=_gateway(fields), request=fields.octets("request", 16, 16), action=fields.text("action", 64),
            arguments=_arguments(fields.map("arguments", 64)), sent_at=fields.integer("sent_at"),
            expires_at=fields.integer("expires_at"),
        )  # fmt: skip


def _arguments(items: dict[object, object]) -> dict[str, str | int]:
    arguments: dict[str, str | int] = {}
    for key, value in items.items():
        if not isinstance(key, str) or isinstance(value, bool) or not isinstance(value, str | int):
            raise Malformed(f"argument {key!r:.40}: expected a text or a number, got {value!r:.40}")
        arguments[key] = value
    return arguments


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What became of a request. sealed: a sealed message of kind REPLY with what was read, or empty."""

    KIND: ClassVar = SignedKind.REPLY

    gateway: str
    epoch: int
    request: bytes
    status: str
    """done, part, failed, expired, unknown or refused."""
    detail: str = ""
    sealed: bytes = b""
    sent_at: int

    def encode(self) -> bytes:
        return cbor2.dumps(
            [VERSION, self.gateway, self.epoch, self.request, self.status, self.detail, self.sealed, self.sent_at]
        )

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        fields = _begin("reply", payload, 7)
        return cls(
            gateway=_gateway(fields), epoch=fields.integer("epoch"), request=fields.octets("request", 16, 16),
            status=fields.text("status", 16), detail=fields.text("detail", 1024),
            sealed=fields.octets("sealed", 0, 256 * 1024), sent_at=fields.integer("sent_at"),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The account of a day, or a part of it. sealed: a sealed message of kind MANIFEST with a `manifest.DayPart`."""

    KIND: ClassVar = SignedKind.MANIFEST

    gateway: str
    epoch: int
    day: int
    """Site-local days since 1970-01-01."""
    plan: bytes
    """SHA-256 of the plan in force."""
    sealed: bytes
    sent_at: int

    def encode(self) -> bytes:
        return cbor2.dumps([VERSION, self.gateway, self.epoch, self.day, self.plan, self.sealed, self.sent_at])

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        fields = _begin("manifest", payload, 6)
        return cls(
            gateway=_gateway(fields), epoch=fields.integer("epoch"), day=fields.integer("day", 0, 0xFFFFFFFF),
            plan=fields.octets("plan", 32, 32), sealed=fields.octets("sealed", 0, 256 * 1024),
            sent_at=fields.integer("sent_at"),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Whether the gateway is there. Retained; with online=False also the will, whose `at` is when it was given."""

    gateway: str
    online: bool
    epoch: int
    at: int
    software: str = ""

    def encode(self) -> bytes:
        state = "online" if self.online else "offline"
        return _json({"v": VERSION, "gateway": self.gateway, "state": state, "epoch": self.epoch, "at": self.at,
                      "software": self.software})  # fmt: skip

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        gateway, epoch, at, item = _plain("state", payload)
        state, software = item.get("state"), item.get("software", "")
        if state not in ("online", "offline") or not isinstance(software, str):
            raise Malformed(f"state: expected online or offline, got {state!r:.40}")
        return cls(gateway=gateway, online=state == "online", epoch=epoch, at=at, software=software[:64])


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Counters and facts of the gateway, by dotted names. Plain: no meter data."""

    gateway: str
    epoch: int
    at: int
    counters: Mapping[str, int] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)

    def encode(self) -> bytes:
        return _json({"v": VERSION, "gateway": self.gateway, "epoch": self.epoch, "at": self.at,
                      "counters": dict(self.counters), "facts": dict(self.facts)})  # fmt: skip

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        gateway, epoch, at, item = _plain("health", payload)
        counters, facts = item.get("counters", {}), item.get("facts", {})
        if not isinstance(counters, dict) or not all(type(value) is int for value in counters.values()):
            raise Malformed("health: counters: expected whole numbers by name")
        if not isinstance(facts, dict) or not all(isinstance(value, str) for value in facts.values()):
            raise Malformed("health: facts: expected texts by name")
        return cls(gateway=gateway, epoch=epoch, at=at, counters=counters, facts=facts)


def _json(value: Mapping[str, object]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _plain(what: str, payload: bytes) -> tuple[str, int, int, dict[str, object]]:
    """Gateway, epoch, time and the object of a JSON message. Raises Malformed."""
    if len(payload) > JSON_MAX:
        raise Malformed(f"{what}: {len(payload)} bytes, expected at most {JSON_MAX}")
    try:
        item = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"{what}: not JSON: {error}") from None
    if not isinstance(item, dict) or item.get("v") != VERSION:
        raise Malformed(f"{what}: expected an object of version {VERSION}, got {payload[:40]!r}")
    fields = Fields(what, [item.get("gateway"), item.get("epoch"), item.get("at")], 3)
    return _gateway(fields), fields.integer("epoch"), fields.integer("at"), item
