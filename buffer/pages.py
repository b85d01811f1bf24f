"""Rows found page by page, without the way that leads to them: what a salvage can still read below a damaged page.

A leaf of a table says by itself what stands on it, and every body by its checksum whether it is as it was written; so
any page of the file or of its WAL that looks like a leaf is asked. SQLite file format, sections 1.6, 2.1 and 4.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from buffer.rows import EventRow, Row, from_row, row_of
from protocols.errors import Malformed

LEAF: Final = 13
_HEADER, _WAL_HEADER, _FRAME_HEADER = 8, 32, 24
_OVERFLOW_MAX: Final = 2048
"""Pages of one row that is longer than a page: 2 MiB, twice the longest row."""


def rows_on_leaves(path: Path, size: int) -> Iterator[tuple[int, Row | EventRow]]:
    """(number, row) of each sound row on any leaf of the file, then of its WAL, for pages of `size` bytes.

    What stands on pages that are free is found too, so a row may come that was deleted, or an older one of a number.
    """
    with path.open("rb") as file:
        at = 0
        while len(page := _read(file.fileno(), at * size, size)) == size:
            for number, body in _cells(page, size, file.fileno()):
                yield from _sound(number, body)
            at += 1
        wal = path.with_name(f"{path.name}-wal")
        if wal.exists():
            with wal.open("rb") as frames:
                at = _WAL_HEADER + _FRAME_HEADER
                while len(page := _read(frames.fileno(), at, size)) == size:
                    for number, body in _cells(page, size, file.fileno()):
                        yield from _sound(number, body)
                    at += size + _FRAME_HEADER


def _read(descriptor: int, at: int, size: int) -> bytes:
    return os.pread(descriptor, size, at)


def _sound(number: int, body: bytes) -> Iterator[tuple[int, Row | EventRow]]:
    try:
        row = row_of(from_row(body), body)
    except Malformed:
        return  # Not a row of ours, or one that is damaged: the scan by number has counted it.
    yield number, row


def _cells(page: bytes, size: int, descriptor: int) -> Iterator[tuple[int, bytes]]:
    """(number, last column) of each cell of a leaf."""
    if page[0] != LEAF:
        return
    count = int.from_bytes(page[3:5], "big")
    for at in range(_HEADER, min(_HEADER + 2 * count, size - 1), 2):
        try:
            number, payload = _payload(page, int.from_bytes(page[at : at + 2], "big"), size, descriptor)
            yield number, _last_column(payload)
        except (IndexError, ValueError):
            continue  # A cell that points out of its page: damage, or no leaf at all.


def _payload(page: bytes, at: int, size: int, descriptor: int) -> tuple[int, bytes]:
    length, at = _varint(page, at)
    number, at = _varint(page, at)
    local = length
    if length > size - 35:
        least = (size - 12) * 32 // 255 - 23
        local = least + (length - least) % (size - 4)
        if local > size - 35:
            local = least
    payload = page[at : at + local]
    following = int.from_bytes(page[at + local : at + local + 4], "big")
    for _ in range(_OVERFLOW_MAX):
        if len(payload) >= length:
            break
        more = _read(descriptor, (following - 1) * size, size) if following > 0 else b""
        if len(more) < size:
            raise ValueError("a row that goes on nowhere")
        following, payload = int.from_bytes(more[:4], "big"), payload + more[4:]
    return number, payload[:length]


def _last_column(payload: bytes) -> bytes:
    """The last column of a record, which is a blob. Raises ValueError when it is something else."""
    header, at = _varint(payload, 0)
    kind = 0
    while at < header:
        kind, at = _varint(payload, at)
    if kind < 12 or kind % 2 or (length := (kind - 12) // 2) > len(payload) - header:
        raise ValueError(f"column type {kind}")
    return payload[len(payload) - length :]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place in range(8):
        byte = data[at + place]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + place + 1
    return value << 8 | data[at + 8], at + 9
