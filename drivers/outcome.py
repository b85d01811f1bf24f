"""What came of a job."""

from dataclasses import dataclass, replace

from protocols.capture import Fault, Value
from protocols.made import maker
from protocols.quantity import Quantity

MOMENT_S = 1.5
"""What is read within so long is of one moment. The truth check allows for 2 s; the rest is for what lies between the
end of an answer on the wire and our clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Values, or the reason why there are none. Times are UTC milliseconds.

    values: what the dialogue returned, one per item in order, faulty ones included; None when it never came to its
    end, and then `fault` is set. started_at: when the first answered question began to leave; read_at: when the last
    answer was complete; both None when nothing was answered. answers: what each answer gave, and when it was complete,
    where that is known. frames: what was sent and what came in each of its exchanges, damaged answers included, the
    latest of many.
    """

    values: tuple[Value, ...] | None = None
    fault: Fault | None = None
    detail: str | None = None
    started_at: int | None = None
    read_at: int | None = None
    answers: tuple[tuple[tuple[Quantity, ...], int], ...] = ()
    frames: tuple[tuple[bytes, bytes], ...] = ()

    def __post_init__(self) -> None:
        if (self.values is None) == (self.fault is None):
            raise ValueError(f"expected values or a fault, got {self.values!r} and {self.fault!r}")

    def moments(self) -> "tuple[Outcome, ...]":
        """The same in parts, in the order of time, each with values of one moment: none was read more than MOMENT_S
        before the `read_at` of its part. Of values that a quantity was given several times, the last counts. What was
        not given is in the last part, with its fault."""
        values, read_at = self.values, self.read_at
        if not values or read_at is None or not self.answers or read_at - self.answers[0][1] <= 1000 * MOMENT_S:
            return (self,)
        given = {quantity.name: at for quantities, at in self.answers for quantity in quantities}
        times = [given.get(value.quantity.name, read_at) if value.fault is None else None for value in values]
        part_of: dict[int, int] = {}
        """By the time of an answer: the `read_at` of its part."""
        end: int | None = None
        for at in sorted((at for at in times if at is not None), reverse=True):
            if end is None or end - at > 1000 * MOMENT_S:
                end = at
            part_of[at] = end
        if not part_of:
            return (self,)
        last = max(part_of)
        ends = [part_of[last if at is None else at] for at in times]
        return tuple(
            replace(self, values=tuple(value for value, of in zip(values, ends, strict=True) if of == end), read_at=end,
                    answers=())
            for end in sorted(set(ends))
        )  # fmt: skip


make_outcome = maker(Outcome, "values", "started_at", "read_at", "answers", "frames")
