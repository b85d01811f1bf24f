"""Files that were carried here from gateways: landed like messages from the broker, and the receipts to carry back."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from central.landing import Landing
from protocols import transfer
from protocols.errors import Malformed
from protocols.topics import topic
from protocols.transfer import Transfer

CARRIED = frozenset({"key", "batch", "event", "manifest"})
"""What is taken from a file; state and health say how things stand, and a file is from yesterday."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Brought:
    """A file, dealt with. damage: why it ends early, for people; empty when it was whole."""

    path: Path
    gateway: str
    messages: int
    landed: int
    """Batches that were new."""
    repeated: int
    aside: int
    """Messages that were set aside; `central letters` tells why."""
    damage: str


def brought(landing: Landing, path: Path) -> Brought:
    """Land what is in a file. Raises SinkAway, OSError, and Malformed for what is no such file."""
    before = landing.counters.copy()
    count, damage = 0, ""
    with path.open("rb") as file:
        of = transfer.head(file.read)
        if of.direction != "up":
            raise Malformed(f"{path.name}: these go {of.direction}, to a gateway")
        try:
            for name, payload in transfer.messages(of, file.read):
                if name in CARRIED:
                    landing.receive(topic(of.gateway, "up", name), payload)
                    count += 1
        except Malformed as error:
            damage = str(error)
    new = landing.counters - before
    return Brought(
        path=path, gateway=of.gateway, messages=count, landed=new["batches.landed"], repeated=new["batches.repeated"],
        aside=sum(number for name, number in new.items() if name.startswith("aside.")), damage=damage,
    )  # fmt: skip


def receipts(landing: Landing, gateway: str) -> Iterator[bytes]:
    """The bytes of a file with the receipts that are due to a gateway, to be carried back."""
    found = [("receipt", payload) for on, payload in landing.receipts([gateway]) if on.endswith("/receipt")]
    yield from transfer.written(Transfer(gateway=gateway, direction="down"), found)
