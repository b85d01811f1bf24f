"""A task of a meter, and where its slots have come to."""

from dataclasses import dataclass, replace

from config.model import TaskEntry
from drivers.bus import Lane, Outcome
from drivers.meter import Meter
from drivers.plan import ReadPlan


@dataclass(slots=True, eq=False)
class Series:
    """A task of a meter: where its slots have come to."""

    meter: Meter
    task: TaskEntry
    plan: ReadPlan
    asked: int = 0
    """The latest slot that was asked, filed or found in the store; UTC milliseconds, 0 before the first."""
    running: int | None = None
    """The slot whose job is with the bus."""
    ready: bool = False
    """Whether its missed slots have been filed, so that the next may be read."""

    @property
    def billed(self) -> bool:
        """Whether bills are made of it."""
        return self.task.lane == "billing"

    @property
    def lane(self) -> Lane:
        """In which lane its jobs go."""
        lane = Lane[self.task.lane.upper()]
        return min(lane, Lane.PRIORITY) if self.meter.entry.priority == "priority" else lane

    def share(self, outcome: Outcome) -> Outcome:
        """Its part of what was read for several tasks."""
        if outcome.values is None:
            return outcome
        wanted = {quantity.name for quantity in self.plan.quantities}
        return replace(outcome, values=tuple(value for value in outcome.values if value.quantity.name in wanted))
