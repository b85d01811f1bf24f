"""The face of a sink: what landing asks of a database, and the words it uses.

Every method that changes something is one transaction and returns after its COMMIT. Times are UTC milliseconds.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, Protocol

from central.sinks.asked import Asked
from protocols.capture import Record
from protocols.messages import Request

NUMBERS_MAX = 65_536
"""Batch numbers above the mark of an epoch that are looked at together."""


class SinkAway(Exception):
    """The database cannot be reached or cannot write now; nothing was changed, or it is not known. Try again."""


class SinkRefuses(Exception):
    """The database is there, and will never take this batch (a value that its types cannot hold)."""


class SinkUnfit(Exception):
    """The database is not what was asked for: another schema version, or it would not be durable. Do not start."""


class Outcome(Enum):
    """What became of a batch."""

    LANDED = "landed"
    REPEAT = "repeat"
    """The same number with the same bytes was committed before: nothing was changed."""
    OTHER = "other"
    """The number was committed before with other bytes: nothing was changed."""
    REFUSED = "refused"
    """The number was closed before without landing, and the gateway does not know yet: nothing was changed."""
    VOIDED = "voided"
    """The gateway itself has given the number up: nothing was changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """An opened batch on its way into the tables. sha256 and size are of the message as it came."""

    gateway: str
    epoch: int
    seq: int
    sha256: bytes
    size: int
    received_at: int
    records: Sequence[Record]


@dataclass(slots=True, kw_only=True)
class Landed:
    """What a sink made of an arrival, in rows of the reading table."""

    outcome: Outcome
    readings: int = 0
    """Rows that are new, or that now have a value instead of none."""
    repeats: int = 0
    """Values that were there already, or came without a value where a row was."""
    conflicts: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A message that was kept aside, with the reason. gateway is empty when its topic names none that is known."""

    topic: str
    gateway: str
    reason: str
    detail: str
    payload: bytes
    received_at: int
    kid: bytes = b""


class Held(NamedTuple):
    """A message kept aside until its key comes."""

    id: int
    topic: str
    payload: bytes


class ClosedNumber(NamedTuple):
    """A batch number that counts as closed though nothing landed under it."""

    seq: int
    code: str
    voided: bool
    """The gateway has said so: it need not be told again."""


class EpochNumbers(NamedTuple):
    """What the database knows of an epoch's numbers."""

    upto: int
    """Up to this one all are closed: as it was marked last, which may be less than could be said."""
    above: list[int]
    """Closed numbers above it, in order: landed, refused or voided."""
    refused: list[tuple[int, str]]
    """(seq, code) of those that are refused and not yet voided, in order, wherever they are."""


class ReadingRow(NamedTuple):
    """What a reading row says, alike from every sink: numbers in their plain spelling, times in milliseconds."""

    point: str
    meter: str
    quantity: str
    stamp: int
    source: str
    plain: str | None
    quality: str
    fault: str | None
    detail: str | None
    ratio: str
    slot: int | None
    read_at: int
    task: str
    gateway: str
    epoch: int
    seq: int


class GapRow(NamedTuple):
    """A row of the gap table."""

    meter: str
    task: str
    slot: int
    fault: str
    detail: str | None
    opened_at: int
    closed_at: int | None


class Inbox(NamedTuple):
    """What has been landed so far, in numbers."""

    batches: int
    captures: int
    bytes: int
    """Of the sealed messages, as they came."""


class Sink(Protocol):
    """A database with the central tables. Used by one thread at a time. Any method may raise SinkAway."""

    def land(self, arrival: Arrival) -> Landed:
        """The inbox row and everything in the batch, in one transaction. Raises SinkRefuses."""
        ...

    def land_all(self, arrivals: Sequence[Arrival]) -> list[Landed]:
        """All of these batches in one transaction, which many small ones land faster in; what came of each.

        Raises SinkRefuses when one of them cannot land: then none has, and each is to be tried by itself.
        """
        ...

    def closed_as(self, gateway: str, epoch: int, seq: int, sha256: bytes) -> Outcome | None:
        """What `land` would make of a batch with this hash without looking into it; None when the number is open."""
        ...

    def numbers(self, gateway: str, epoch: int) -> EpochNumbers:
        """What is closed in this epoch; of more than NUMBERS_MAX above the mark only the lowest."""
        ...

    def mark(self, gateway: str, epoch: int, upto: int) -> None:
        """Note that all numbers up to this one are closed. A higher mark that stands is kept."""
        ...

    def closed_numbers(self, gateway: str, epoch: int) -> list[ClosedNumber]:
        """The numbers of this epoch that were refused or voided, in order."""
        ...

    def close_numbers(
        self, gateway: str, numbers: Sequence[tuple[int, int]], *, code: str, voided: bool, at: int
    ) -> None:
        """Close numbers (epoch, seq). A code that stands is kept; voided is only ever added."""
        ...

    def add_key_record(
        self, gateway: str, kid: bytes, epoch: int, day: int, message: bytes, at: int, *, replace: bool = False
    ) -> None:
        """Keep a key record as it came, its key still wrapped. The first one for a kid stays, unless it is replaced."""
        ...

    def key_record(self, gateway: str, kid: bytes) -> bytes | None:
        """The key record with this kid, as it came."""
        ...

    def set_aside(self, letter: Letter, *, keep: int) -> None:
        """Put a message into dead_letter; of one gateway and reason only the newest `keep` stay."""
        ...

    def held(self, gateway: str, kid: bytes, reason: str) -> list[Held]:
        """The messages kept aside for this reason and key, oldest first."""
        ...

    def held_kids(self, gateway: str, reason: str, limit: int, *, since: int) -> list[bytes]:
        """The keys for which messages are kept aside for this reason, at most so many: those of the latest messages.

        Only keys of which a message came since then, for the first time or again.
        """
        ...

    def standings(
        self, epochs: Sequence[tuple[str, int]], reason: str, limit: int, *, since: int
    ) -> list[tuple[EpochNumbers, list[bytes]]]:
        """`numbers` and `held_kids` of many (gateway, epoch) at once, in their order: what their receipts say."""
        ...

    def release(self, ids: Sequence[int]) -> None:
        """Take messages out of dead_letter: they have been dealt with."""
        ...

    def note(self, gateway: str, name: str, text: str, at: int) -> None:
        """Remember the gateway's last `state`, `health` or `hello`, as text."""
        ...

    def ask(self, request: Request, *, lost: str = "[]") -> None:
        """Keep a request that is about to be sent; lost as in Asked."""
        ...

    def answered(self, gateway: str, request: bytes, *, status: str, detail: str, at: int) -> Asked | None:
        """Note the answer to a request; None when there is no such request, or it had one."""
        ...

    def last_asked(self, gateway: str, action: str) -> Asked | None:
        """The newest request of this kind to the gateway."""
        ...

    def landed_epochs(self, gateway: str) -> list[tuple[int, int]]:
        """(epoch, when the newest batch of it came) of every epoch of which something has landed."""
        ...

    def oldest_record(self, gateway: str, epoch: int, upto: int) -> int:
        """When the oldest record was read of the last batch up to this number; of the first one where there is none.

        0 where nothing of the epoch has landed.
        """
        ...

    def readings(
        self, *, meter: str | None = None, since: int | None = None, until: int | None = None
    ) -> Iterator[ReadingRow]:
        """All reading rows, or those of a meter, or of stamps in [since, until)."""
        ...

    def slots_filled(self, meter: str, since: int, until: int) -> dict[str, int]:
        """By task, how many slots of a meter in [since, until) have a capture."""
        ...

    def gaps(
        self, *, meter: str | None = None, since: int = 0, until: int | None = None, closed: bool = True
    ) -> Iterator[GapRow]:
        """Gap rows by meter and slot (since inclusive, until exclusive); without the closed ones if asked."""
        ...

    def inbox(self) -> Inbox:
        """The sums over the inbox."""
        ...

    def close(self) -> None:
        """Give the connection up."""
        ...
