"""Messages in a file: what goes up or down between a gateway and its centre, carried by hand.

    meterwire-transfer/1 LF
    up|down SP GATEWAY LF
    entries:  name length, 1 byte | name | payload length, 4 bytes | payload | CRC-32 of the entry so far, 4 bytes
    the last: the entry `end`, its payload the number of entries before it in 4 bytes

The messages are sealed or signed as they always are: the file itself proves nothing, and needs not. The CRC says where
a file was cut off; what stands before that is good.
"""

import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from protocols.errors import Malformed
from protocols.topics import DOWN, GATEWAY_ID, UP, Direction

MAGIC: Final = b"meterwire-transfer/1\n"
SUFFIXES: Final = {"up": ".meterwire", "down": ".receipts"}
"""How names of files end, by the direction of what is in them."""
END: Final = "end"
PAYLOAD_MAX: Final = 2 << 20
_HEAD_MAX: Final = 64

Read = Callable[[int], bytes]
"""Like `read` of a binary file: at most so many bytes, fewer only at the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """What a file says of itself in its first lines."""

    gateway: str
    direction: Direction


def written(transfer: Transfer, messages: Iterable[tuple[str, bytes]]) -> Iterator[bytes]:
    """The bytes of a file with these messages (name of the topic, payload), piece by piece."""
    yield MAGIC + f"{transfer.direction} {transfer.gateway}\n".encode()
    count = 0
    for name, payload in messages:
        yield _entry(name, payload)
        count += 1
    yield _entry(END, struct.pack(">I", count))


def _entry(name: str, payload: bytes) -> bytes:
    body = struct.pack(">B", len(name)) + name.encode() + struct.pack(">I", len(payload)) + payload
    return body + struct.pack(">I", zlib.crc32(body))


def head(read: Read) -> Transfer:
    """The first lines of a file. Raises Malformed for anything else; it may then be a newer version's."""
    if read(len(MAGIC)) != MAGIC:
        raise Malformed("transfer: expected a file of meterwire-transfer/1")
    line = b""
    while not line.endswith(b"\n"):
        byte = read(1)
        if not byte or len(line) > _HEAD_MAX:
            raise Malformed("transfer: expected up or down and a gateway")
        line += byte
    direction, _, gateway = line[:-1].decode("ascii", "replace").partition(" ")
    if GATEWAY_ID.fullmatch(gateway) is None:
        raise Malformed(f"transfer: expected a gateway, got {gateway!r:.60}")
    if direction == "up":
        return Transfer(gateway=gateway, direction="up")
    if direction == "down":
        return Transfer(gateway=gateway, direction="down")
    raise Malformed(f"transfer: expected up or down, got {direction!r:.60}")


def messages(transfer: Transfer, read: Read) -> Iterator[tuple[str, bytes]]:
    """The messages behind the head. Raises Malformed where the file is damaged or cut off: what came before is good."""
    names = UP if transfer.direction == "up" else DOWN
    count = 0
    while True:
        name, payload = _next(read)
        if name == END:
            if payload != struct.pack(">I", count):
                raise Malformed(f"transfer: {count} messages, expected {int.from_bytes(payload, 'big')}")
            return
        if name not in names:
            raise Malformed(f"transfer: no message {name!r:.40} goes {transfer.direction}")
        count += 1
        yield name, payload


def _next(read: Read) -> tuple[str, bytes]:
    def some(count: int) -> bytes:
        data = read(count)
        if len(data) != count:
            raise Malformed("transfer: the file is cut off")
        return data

    length = some(1)
    name = some(length[0])
    size = some(4)
    count = int.from_bytes(size, "big")
    if count > PAYLOAD_MAX:
        raise Malformed(f"transfer: a message of {count} bytes")
    payload = some(count)
    if int.from_bytes(some(4), "big") != zlib.crc32(length + name + size + payload):
        raise Malformed("transfer: the file is damaged")
    return name.decode("ascii", "replace"), payload
