"""What a quantity is: the words of the catalogue, apart from its rows."""

from dataclasses import dataclass
from decimal import Decimal
from enum import Enum

TARIFF_MAX, LAST_MAX, HARMONIC_MAX = 63, 12, 21
ROW_LOW_BITS, ROW_HIGH_SHIFT = 10, 34
"""A row's number has its low bits at the bottom of a quantity's number, and the others at the top."""


def number_of(row: int) -> int:
    """The number of a row's own quantity: that of the row, the same up to 1023."""
    return row & (1 << ROW_LOW_BITS) - 1 | row >> ROW_LOW_BITS << ROW_HIGH_SHIFT


class Kind(Enum):
    """What sort of thing a quantity is."""

    REGISTER = "register"
    DEMAND = "demand"
    INSTANT = "instant"
    CLOCK = "clock"
    IDENTITY = "identity"
    STATUS = "status"
    EVENT = "event"


class Form(Enum):
    """Which of its three shapes a value of this quantity has."""

    NUMBER = "number"
    TIME = "time"
    TEXT = "text"


class Side(Enum):
    """By which transformer ratio a value on the meter's own side becomes a primary one."""

    NONE = "none"
    CURRENT = "current"
    VOLTAGE = "voltage"
    BOTH = "both"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """One thing that is measured. The name is the stable key from the meter to the central table.

    unit is one of kWh kvarh kVAh kW kvar kVA V A Ah Hz deg °C % min ms CNY CNY/kWh 1, or empty for times and texts.
    di is the DL/T 645-2007 data identifier (8 hex digits, high byte first), oad the DL/T 698.45 object attribute
    descriptor (8 hex digits), obis and cim the codes of IEC 62056-6-1 and IEC 61968-9; None where there is none.
    """

    number: int
    """0 for a quantity that is not in the catalogue (a profile may name its own); such a one travels by its name."""
    name: str
    unit: str
    kind: Kind
    form: Form = Form.NUMBER
    phase: str | None = None
    tariff: int = 0
    last: int = 0
    store: str = ""
    """Which of the meter's stores it is from (a key of STORES), or empty: it is the present register."""
    nth: int = 0
    """How many times back in the store, or which entry; 0 where the store has only one."""
    side: Side = Side.NONE
    obis: str | None = None
    di: str | None = None
    oad: str | None = None
    cim: str | None = None
    zh: str = ""

    def __hash__(self) -> int:
        return hash(self.name)

    def ratio(self, ct: Decimal, pt: Decimal) -> Decimal:
        """The factor from the meter's own side to the primary side, given the point's CT and PT ratios."""
        match self.side:
            case Side.CURRENT:
                return ct
            case Side.VOLTAGE:
                return pt
            case Side.BOTH:
                return ct * pt
        return Decimal(1)
