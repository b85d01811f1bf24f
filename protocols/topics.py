"""The topics that a gateway and its centre speak on: `mw/v1/{bucket}/{gateway}/{up|down}/{name}`."""

import re
import zlib
from typing import Final, Literal, NamedTuple

from protocols.errors import Malformed

Direction = Literal["up", "down"]
PREFIX: Final = "mw/v1"
UP: Final = frozenset({"state", "health", "key", "hello", "batch", "event", "reply", "manifest"})
DOWN: Final = frozenset({"receipt", "request"})
GATEWAY_ID: Final = re.compile(r"[a-z0-9-]{1,32}")


class Topic(NamedTuple):
    """A topic taken apart."""

    bucket: str
    gateway: str
    direction: Direction
    name: str


def bucket(gateway: str) -> str:
    """One of 256 shares of the fleet, so that workers can split it with plain wildcards: low byte of CRC-32, in hex."""
    return f"{zlib.crc32(gateway.encode()) & 0xFF:02x}"


def topic(gateway: str, direction: Direction, name: str) -> str:
    """The topic of one kind of message. Raises ValueError for an id or a name that there is not."""
    if GATEWAY_ID.fullmatch(gateway) is None:
        raise ValueError(f"gateway id: expected {GATEWAY_ID.pattern}, got {gateway!r}")
    if name not in (UP if direction == "up" else DOWN):
        raise ValueError(f"no topic {direction}/{name}")
    return f"{PREFIX}/{bucket(gateway)}/{gateway}/{direction}/{name}"


def parse_topic(text: str) -> Topic:
    """A topic taken apart, its bucket checked. Raises Malformed."""
    parts = text.split("/")
    if len(parts) != 6 or f"{parts[0]}/{parts[1]}" != PREFIX:
        raise Malformed(f"topic: expected {PREFIX}/BUCKET/GATEWAY/up|down/NAME, got {text!r:.120}")
    share, gateway, direction, name = parts[2:]
    if GATEWAY_ID.fullmatch(gateway) is None or share != bucket(gateway):
        raise Malformed(f"topic: gateway {gateway!r:.60} in bucket {share!r:.60}")
    if direction == "up" and name in UP:
        return Topic(share, gateway, "up", name)
    if direction == "down" and name in DOWN:
        return Topic(share, gateway, "down", name)
    raise Malformed(f"topic: no such message: {text!r:.120}")
