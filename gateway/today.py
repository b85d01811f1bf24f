"""How today goes: slots captured and slots that became gaps, of the site and of each meter."""

from dataclasses import dataclass

from gateway.slots import Slots
from protocols.capture import Capture, Fault, Gap


@dataclass(slots=True)
class MeterDay:
    """A meter's day so far. last_at: UTC milliseconds of its last answer, 0 before the first."""

    captured: int = 0
    gaps: int = 0
    last_at: int = 0
    fault: Fault | None = None
    """Why its last slot has nothing; None when it has."""

    @property
    def rate(self) -> float | None:
        """The share of its slots that were captured; None before the first."""
        slots = self.captured + self.gaps
        return self.captured / slots if slots else None


class Today:
    """Counts slots by the local day in which their answer, or the gap, came."""

    def __init__(self, slots: Slots, meters: list[str]) -> None:
        self.day = 0
        """The local day that is counted, in days since 1970-01-01."""
        self.meters = {meter: MeterDay() for meter in meters}
        self._slots = slots

    def take(self, record: Capture | Gap, now: int) -> None:
        """Count the end of a slot."""
        self.turn(now)
        of_meter = self.meters[record.meter]
        if isinstance(record, Capture):
            of_meter.captured += 1
            of_meter.last_at = max(of_meter.last_at, record.read_at)
            of_meter.fault = None
        else:
            of_meter.gaps += 1
            of_meter.fault = record.fault

    def turn(self, now: int) -> None:
        """Begin to count anew when a new local day has begun."""
        day = self._slots.day(now)
        if day != self.day:
            self.day = day
            for of_meter in self.meters.values():
                of_meter.captured = of_meter.gaps = 0

    @property
    def captured(self) -> int:
        """Slots of all meters with values."""
        return sum(of_meter.captured for of_meter in self.meters.values())

    @property
    def gaps(self) -> int:
        """Slots of all meters without."""
        return sum(of_meter.gaps for of_meter in self.meters.values())
