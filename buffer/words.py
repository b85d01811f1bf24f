"""The words of the outbox: what goes in and out of it, and its bounds."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from protocols.envelope import BatchKind


class RecordClass(IntEnum):
    """As what a task's records are kept; the number stands in the store."""

    MONTHLY = 1
    DAILY = 2
    CURVE = 3
    BULK = 4


TABLES: Final = {BatchKind.EVENTS: "event", BatchKind.CAPTURES: "record"}
"""The lanes, in the order of sealing and sending, and the table of each one's rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Every bound of the outbox."""

    commit_delay_s: float = 1.0
    """A record is committed at the latest this long after the first of its group was given."""
    commit_records: int = 256
    pending_records: int = 8192
    """Records given and not committed; `append` waits while there are so many (a stalled disk)."""
    seal_values: int = 8000
    seal_bytes: int = 8 * 1024 - 54
    """Of the body of a batch: with the 54 bytes of its envelope 8 KiB, 7 s of a link of 9,600 bit/s, behind which an
    event may have to wait. One record that is longer still goes alone."""
    reseal_attempts: int = 12
    """How often a record's batch may be voided. Each time the next is half as long, so that what the centre cannot take
    ends alone; then it is parked: kept, counted, and not offered any more."""
    monthly_days: float = 731.0
    """Days of running for which settled records stay, by their class; events as long as daily ones."""
    daily_days: float = 62.0
    curve_days: float = 62.0
    curve_days_min: float = 10.0
    """What of it is left when room is needed, as long as any other settled record can go."""
    bulk_days: float = 10.0
    events_min: int = 1000
    """The newest events stay, however old they are."""
    bytes_max: int = 0
    """What the store's file may take; 0: what the disk has."""
    ballast_bytes: int = 0
    """Given back to a disk that is full, so that records can be let go."""
    full_patience: int = 3
    """Appends in a row that are refused before records are given up for them that the centre does not have."""
    relief_bytes: int = 1 << 20
    """Of records that are let go when there is no room; as much of `bytes_max` is left for sealing."""
    mark_every_s: float = 3600.0
    """Running time between two marks by which those days are counted."""
    purge_records: int = 512
    """Records that one step of `purge` deletes at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """A batch as it is sent, again and again as these very bytes, until it is settled."""

    epoch: int
    seq: int
    kind: BatchKind
    kid: bytes
    message: bytes
    records: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyEntry:
    """A committed key record."""

    kid: bytes
    epoch: int
    message: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsealed:
    """What waits to be sealed.

    age_s counts on the loop's clock from when the oldest new one was given; it is infinite for what a former start left
    behind. oldest_at is the same in UTC milliseconds, for people: None when nothing waits.
    """

    records: int
    again: int
    """Of those records, how many are to be sealed again: they have no age."""
    events: int
    """Of those records, how many are events."""
    age_s: float
    oldest_at: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What a receipt did: batches and records settled, the numbers that it rejected and that are now voided, and how
    many voided numbers the centre knows by now."""

    batches: int
    records: int
    voided: tuple[int, ...]
    passed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How the store stands after a job: replaced as a whole, so that any thread may look."""

    epoch: int
    next_seq: int
    first_unsettled: int
    unsealed: int
    unsealed_events: int
    requeued: int
    """Records that wait to be sealed again; they are not in `unsealed`."""
    parked: int
    batches: int
    voided: int
