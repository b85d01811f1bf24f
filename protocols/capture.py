"""The words that every layer shares: what was read, for when, how well, and why not.

All of them are valid or not built at all. Times of the gateway are UTC milliseconds (int); times that a meter
reports are ISO text in the meter's own civil time, with unknown parts left out (a Value of kind time).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum
from types import MappingProxyType

from protocols.made import maker
from protocols.quantity import Quantity


class Quality(Enum):
    """How far a value can be trusted."""

    GOOD = "good"
    DOUBTFUL = "doubtful"
    UNAVAILABLE = "unavailable"
    """The meter says that it has none, or nothing came."""
    INVALID = "invalid"
    """Something came that cannot be decoded, or cannot be true."""


class Source(Enum):
    """Where the value was fixed in time. A live read is never sent as a freeze."""

    METER_FREEZE = "meter_freeze"
    METER_LOAD_RECORD = "meter_load_record"
    METER_LIVE = "meter_live"
    GATEWAY_FREEZE = "gateway_freeze"
    """A live read filed as a freeze."""
    MANUAL = "manual"
    ESTIMATED = "estimated"


class Fault(Enum):
    """Why there is no value. A small closed set; the detail beside it is for people."""

    BUS = "bus"
    SILENT = "silent"
    GARBLED = "garbled"
    REFUSED = "refused"
    ABSENT = "absent"
    IMPLAUSIBLE = "implausible"
    CLOCK = "clock"
    MISSED = "missed"
    INTERNAL = "internal"
    DROPPED = "dropped"
    """It was read and accepted, and given up when the disk was full."""


class TimeState(Enum):
    """Whether the gateway's clock was to be trusted when the capture was made."""

    TRUSTED = "trusted"
    UNTRUSTED = "untrusted"


_FAULTY_QUALITY = MappingProxyType({Fault.GARBLED: Quality.INVALID, Fault.IMPLAUSIBLE: Quality.INVALID})


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """One quantity: exactly one of number, time or text, or the reason why there is none.

    number: a finite Decimal in the quantity's unit, on the meter's own side (never multiplied by a ratio);
    time: ISO text in the meter's civil time; text: as the meter gave it, padding removed.
    """

    quantity: Quantity
    number: Decimal | None = None
    time: str | None = None
    text: str | None = None
    quality: Quality = Quality.GOOD
    fault: Fault | None = None
    detail: str | None = None

    def __post_init__(self) -> None:
        filled = (self.number is not None) + (self.time is not None) + (self.text is not None)
        if filled > 1:
            raise ValueError(f"{self.quantity.name}: more than one of number, time, text")
        if filled:
            if self.fault is not None or self.quality in (Quality.UNAVAILABLE, Quality.INVALID):
                raise ValueError(f"{self.quantity.name}: a value with quality {self.quality.value}, fault {self.fault}")
            if self.number is not None and not self.number.is_finite():
                raise ValueError(f"{self.quantity.name}: {self.number} is not a finite number")
        elif self.quality in (Quality.GOOD, Quality.DOUBTFUL):
            raise ValueError(f"{self.quantity.name}: quality {self.quality.value} without a value")

    @property
    def plain(self) -> str | None:
        """The value as text: a decimal without exponent, ISO time, text, or None."""
        if self.number is not None:
            return format(self.number, "f")
        return self.time if self.time is not None else self.text


measured: Callable[[Quantity, Decimal], Value] = maker(Value, "quantity", "number")
"""A good number, made in a fraction of the time of a Value that is checked: the number has to be finite."""

stated: Callable[[Quantity, str | None, str | None], Value] = maker(Value, "quantity", "time", "text")
"""A good time or a good text, made as fast as a measured number: exactly one of the two is None."""


def faulty(quantity: Quantity, fault: Fault, detail: str | None = None) -> Value:
    """A Value that says why there is none."""
    return Value(quantity=quantity, quality=_FAULTY_QUALITY.get(fault, Quality.UNAVAILABLE), fault=fault, detail=detail)


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """What one meter said at one moment: the unit of storing, sending and landing.

    stamp is the instant that the values are for, read_at when the reply was complete, slot the planned instant
    (None for unplanned reads): UTC milliseconds. clock_error_ms is the meter's clock minus ours, where known.
    ct and pt are the point's transformer ratios valid at stamp (1 for a meter set to primary values); the values
    themselves are never multiplied by them.
    """

    meter: str
    point: str
    task: str
    slot: int | None
    stamp: int
    read_at: int
    time_state: TimeState
    clock_error_ms: int | None
    source: Source
    ct: Decimal = Decimal(1)
    pt: Decimal = Decimal(1)
    values: tuple[Value, ...]

    def __post_init__(self) -> None:
        if not self.meter or not self.task:
            raise ValueError("a capture needs its meter and its task")
        if not self.values:
            raise ValueError(f"capture of {self.meter}: no values (a slot with none is a Gap)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A slot of a task whose every item failed, with the reason. A later capture for the slot closes it."""

    meter: str
    task: str
    slot: int
    fault: Fault
    detail: str | None = None
    opened_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened at the gateway or a meter, to be known centrally at once."""

    name: str
    at: int
    meter: str | None = None
    detail: Mapping[str, str | int] = field(default_factory=dict)


Record = Capture | Gap | Event
"""What the outbox accepts."""
