"""A record as it stands in a row: packed, with a checksum, as SQLite's pages have none.

A bit that flips on the medium would else become a reading like any other; so it becomes a row that does not decode,
which is counted and left out.
"""

import zlib
from typing import Final, NamedTuple

from protocols.batch import pack, unpack
from protocols.capture import Capture, Event, Record
from protocols.errors import Malformed

CRC_BYTES: Final = 4
"""CRC-32 of zlib, big-endian, behind the packed record."""

GAP, PLANNED, UNPLANNED = 1, 2, 3
"""What a row of `record` is, in its column `kind`."""


class Row(NamedTuple):
    """A capture or a gap."""

    meter: str
    task: str
    slot: int | None
    moment: int
    kind: int
    body: bytes


class EventRow(NamedTuple):
    """An event."""

    moment: int
    body: bytes


def row_of(record: Record, body: bytes) -> Row | EventRow:
    """The columns of a record whose body is known."""
    if isinstance(record, Event):
        return EventRow(record.at, body)
    if not isinstance(record, Capture):
        return Row(record.meter, record.task, record.slot, record.slot, GAP, body)
    slot = record.slot
    if slot is None:
        return Row(record.meter, record.task, None, record.stamp, UNPLANNED, body)
    return Row(record.meter, record.task, slot, slot, PLANNED, body)


def to_row(record: Record) -> Row | EventRow:
    """The row of a record, its body packed and with its checksum."""
    body = pack(record)
    return row_of(record, body + zlib.crc32(body).to_bytes(CRC_BYTES, "big"))


def from_row(row: bytes) -> Record:
    """The record of a row's body. Raises Malformed when it is not as it was written."""
    body, crc = row[:-CRC_BYTES], row[-CRC_BYTES:]
    if zlib.crc32(body).to_bytes(CRC_BYTES, "big") != crc:
        raise Malformed(f"row of {len(row)} bytes: checksum {crc.hex()}, {zlib.crc32(body):08x} computed")
    return unpack(body)
