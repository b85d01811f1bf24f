"""What came of a job."""

from dataclasses import dataclass

from protocols.capture import Fault, Value
from protocols.made import maker


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Values, or the reason why there are none. Times are UTC milliseconds.

    values: what the dialogue returned, one per item in order, faulty ones included; None when it never came to its
    end, and then `fault` is set. started_at: when the first answered question began to leave; read_at: when the last
    answer was complete; both None when nothing was answered. frames: what was sent and what came in each of its
    exchanges, damaged answers included, the latest of many.
    """

    values: tuple[Value, ...] | None = None
    fault: Fault | None = None
    detail: str | None = None
    started_at: int | None = None
    read_at: int | None = None
    frames: tuple[tuple[bytes, bytes], ...] = ()

    def __post_init__(self) -> None:
        if (self.values is None) == (self.fault is None):
            raise ValueError(f"expected values or a fault, got {self.values!r} and {self.fault!r}")


make_outcome = maker(Outcome, "values", "started_at", "read_at", "frames")
