"""A request to a gateway as the database keeps it."""

from typing import NamedTuple


class Asked(NamedTuple):
    """What the centre has asked of a gateway, and what came of it. Times are UTC milliseconds."""

    request: bytes
    gateway: str
    action: str
    arguments: str
    """JSON."""
    lost: str
    """JSON: [epoch, number] pairs; up to each number the epoch is closed when the request is done."""
    sent_at: int
    expires_at: int
    status: str | None
    """As in the reply; None as long as there is none."""
    detail: str | None
    replied_at: int | None
