"""What a bus keeps of what happened: counts for the centre, and raw bytes for people."""

from dataclasses import dataclass
from typing import Protocol

from protocols.capture import Fault


class Evidence(Protocol):
    """Where raw bytes are kept: of answers that were damaged, or that we could not deal with."""

    def note(self, *, bus: str, meter: str, at: int, reason: str, sent: bytes, seen: bytes) -> None:
        """Keep it, or not: nothing depends on it. at: UTC milliseconds."""
        ...


@dataclass(slots=True)
class BusCounters:
    """What happened to the jobs of a bus since it was made. Whole numbers only."""

    jobs: int = 0
    answered: int = 0
    """Jobs whose dialogue came to its end with at least one answer."""
    failed_bus: int = 0
    """Jobs without any answer, by their fault."""
    failed_silent: int = 0
    failed_garbled: int = 0
    failed_missed: int = 0
    failed_internal: int = 0
    defects: int = 0
    """Exceptions of ours that a meter's answer brought about."""
    retries: int = 0
    restarts: int = 0
    """Reads that started over because their values would not have belonged to one moment."""
    quarantines: int = 0
    """Times that a meter was left alone until no late answer could come any more."""
    doubled: int = 0
    """Of these, after an answer with more behind it than was asked for."""
    divided: int = 0
    """Questions that were not put because their answer would hardly have come whole: less was asked for at a time."""
    probes: int = 0
    fell_silent: int = 0
    came_back: int = 0
    refused: int = 0
    """Jobs turned away because the queue was full; they count as missed."""

    def failed(self, fault: Fault) -> None:
        """A job ended without any answer."""
        name = f"failed_{fault.value}"
        setattr(self, name, getattr(self, name) + 1)
