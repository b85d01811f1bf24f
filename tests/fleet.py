"""A gateway's half of the talk, by hand: keys, key records, sealed batches, hellos; for tests of the centre."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from random import Random

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from identity.centre import Centre, GatewayTrust
from identity.datakey import key_record, new_data_key
from identity.gateway import CentreTrust, GatewayIdentity
from protocols import batch, envelope
from protocols.capture import Record
from protocols.envelope import BatchKind, DataKey
from protocols.messages import Hello, Receipt, signed, topic, verified

NOW = 1_780_000_209_000


@lru_cache
def centre() -> Centre:
    """A centre with keys in memory, the same for the whole run (an RSA key takes its time)."""
    return Centre.of(ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 3072))


@lru_cache
def other_centre() -> Centre:
    """Another one, which nobody here trusts."""
    return Centre.of(ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 3072))


@cache
def identity(gateway: str) -> GatewayIdentity:
    """A gateway's identity, the same for the whole run."""
    return GatewayIdentity.of(gateway, ec.generate_private_key(ec.SECP256R1()))


def trust(*gateways: str) -> GatewayTrust:
    """The centre's trust in these gateways."""
    return GatewayTrust.of(*(identity(gateway).public for gateway in gateways))


@dataclass
class Gateway:
    """A gateway that seals what it is given: each method gives (topic, payload) as it would be published."""

    id: str = "gw-0001"
    epoch: int = (7 << 32) | 0x1234
    seed: int = 1
    data_key: DataKey = field(init=False)
    centre: Centre = field(default_factory=centre)
    """For whom it seals, and whose receipts it believes."""

    def __post_init__(self) -> None:
        self.data_key = new_data_key(self.epoch, 20_600, Random(self.seed).randbytes)

    def key(self, *, of: Centre | None = None) -> tuple[str, bytes]:
        """The signed record of the data key."""
        record = key_record(identity(self.id), CentreTrust.of((of or self.centre).public), self.data_key)
        return topic(self.id, "up", "key"), record

    def batch(self, seq: int, records: Sequence[Record]) -> tuple[str, bytes]:
        """A sealed batch of captures and gaps."""
        return self.sealed(seq, batch.encode(records))

    def events(self, seq: int, records: Sequence[Record]) -> tuple[str, bytes]:
        """A sealed batch of events."""
        return self.sealed(seq, batch.encode(records), BatchKind.EVENTS)

    def sealed(self, seq: int, body: bytes, kind: BatchKind = BatchKind.CAPTURES) -> tuple[str, bytes]:
        """Any body, sealed."""
        name = "batch" if kind is BatchKind.CAPTURES else "event"
        message = envelope.seal(self.data_key, gateway=self.id, seq=seq, kind=kind, body=body)
        return topic(self.id, "up", name), message

    def hello(self, *, voided: tuple[tuple[int, int], ...] = (), next_seq: int = 1) -> tuple[str, bytes]:
        """A signed hello."""
        hello = Hello(
            gateway=self.id, epoch=self.epoch, first_unsettled=1, next_seq=next_seq, voided=voided, pending=0,
            oldest_at=None, sent_at=NOW,
        )  # fmt: skip
        who = identity(self.id)
        return topic(self.id, "up", "hello"), signed(hello, kid=who.kid, sign=who.sign)

    def receipt(self, payload: bytes) -> Receipt:
        """A receipt as this gateway reads it. Raises Malformed."""
        return verified(Receipt, payload, gateway=self.id, verify=CentreTrust.of(self.centre.public).verify)
