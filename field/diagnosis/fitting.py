"""Which model a Modbus meter is, told from what its registers hold. Pure: what was read goes in, models come out.

Registers have no names: a model fits when the meter has its registers and they hold what they should, a voltage that
is one, a frequency near that of the grid. Nearly every wrong guess shows numbers that cannot be.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from config.model import ProtocolName
from drivers.profile import Profile, load_profile, profile_names
from protocols.capture import Quality
from protocols.modbus.dialogue import Item

Place = tuple[int, int, int]
"""Function, first register, registers."""
Answers = Mapping[Place, bytes | None]
"""What the meter holds at a place, None where it refuses; places that were not asked are missing."""

TELLING = (
    "voltage.a", "voltage.b", "voltage.ab", "frequency", "power_factor.total", "current.a", "power.active.total",
    "energy.active.import.total",
)  # fmt: skip
"""Quantities by which models are told apart, most of which every meter has."""
FINALISTS = 6
"""Models whose every register is asked for."""
SURE = 0.8
"""The share of a model's registers that has to hold what it should."""
GRID = ("voltage.", "frequency")
"""Of these one at least has to be there: everything else may be 0 in any register."""
_RANGES: Sequence[tuple[str, Decimal, Decimal]] = (
    ("voltage.ab", Decimal(80), Decimal(550)), ("voltage.bc", Decimal(80), Decimal(550)),
    ("voltage.ca", Decimal(80), Decimal(550)), ("voltage.", Decimal(45), Decimal(550)),
    ("frequency", Decimal(45), Decimal(65)), ("power_factor", Decimal(-1), Decimal(1)),
    ("current.", Decimal(-6000), Decimal(6000)), ("power.", Decimal(-10_000), Decimal(10_000)),
    ("energy.", Decimal(0), Decimal(100_000_000)), ("demand.", Decimal(-10_000), Decimal(10_000)),
    ("phase_angle", Decimal(-360), Decimal(360)),
)  # fmt: skip
"""What quantities can be, on the meter's own side: low voltage, or the 57.7 V and 100 V behind transformers."""
_CHANGES, _IDLE_W = 5, 50
"""How much more power than voltage times current says no contradiction: a load that came between two reads."""
_LEAST = Decimal("1e-7")
"""A float nearer to 0 than this, without being 0, is two integers read as one float."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """How a model fits. right: registers that hold what they should; zero: that hold 0, which says nothing; wrong: what
    cannot be; refused: which the meter has not. grid: whether a voltage or a frequency is among the right ones. named:
    whether the meter says that it is of this maker."""

    profile: str
    right: int
    zero: int
    wrong: int
    refused: int
    grid: bool
    named: bool = False

    @property
    def share(self) -> float:
        """Of what was asked, zeros left out."""
        told = self.right + self.wrong + self.refused
        return self.right / told if told else 0.0

    @property
    def sure(self) -> bool:
        """Whether it may be the model."""
        return self.grid and self.right >= 3 and self.share >= SURE

    @property
    def rank(self) -> tuple[bool, bool, float, int, int]:
        """Better ones are higher. Models with the same registers rank alike."""
        return self.grid, self.named, round(self.share, 2), self.right, -self.zero


def place_of(item: Item) -> Place:
    """Where an item stands."""
    return item.function, item.address, item.format.words


def candidates(protocol: ProtocolName) -> list[Profile]:
    """The models that speak this and have registers."""
    profiles = (load_profile(name) for name in profile_names())
    return [one for one in profiles if protocol in one.protocols and one.family == "modbus" and one.items]


def telling_places(profiles: Iterable[Profile]) -> list[Place]:
    """What to ask to tell these models apart, each place once."""
    items = (one.items[name].register for one in profiles for name in TELLING if name in one.items)
    return list(dict.fromkeys(place_of(item) for item in items if item is not None))


def all_places(profile: Profile) -> list[Place]:
    """Where all its items stand."""
    return [place_of(one.register) for one in profile.items.values() if one.register is not None]


def fit(profile: Profile, answers: Answers, identity: str = "") -> Fit:
    """How a model fits what was answered."""
    counts = dict.fromkeys(("right", "zero", "wrong", "refused"), 0)
    grid = False
    values: dict[str, Decimal] = {}
    for name, one in profile.items.items():
        if one.register is None or (place := place_of(one.register)) not in answers:
            continue
        data = answers[place]
        value = None if data is None else one.register.format.decoder()(data)
        if value is Quality.UNAVAILABLE:
            continue  # the meter says that it has none of this
        verdict = "refused" if data is None else judge(name, value)
        counts[verdict] += 1
        grid = grid or (verdict == "right" and name.startswith(GRID))
        if isinstance(value, Decimal):
            values[name] = value
    for name in contradictions(values):
        counts["right"] -= 1 if judge(name, values[name]) == "right" else 0
        counts["wrong"] += 1
    maker = profile.model.split()[0].lower()
    return Fit(profile=profile.name, grid=grid, named=maker in identity.lower(), **counts)


def judge(name: str, value: Decimal | Quality | None) -> str:
    """What a register says, held against what its quantity can be: right, zero, or wrong."""
    if not isinstance(value, Decimal):
        return "wrong"
    if not value:
        return "zero"
    low, high = next(((low, high) for prefix, low, high in _RANGES if name.startswith(prefix)), (None, None))
    if abs(value) < _LEAST or (low is not None and high is not None and not low <= value <= high):
        return "wrong"
    return "right"


def contradictions(values: Mapping[str, Decimal]) -> list[str]:
    """Quantities that cannot be together: a power of a phase above its voltage times its current. The three are read
    one after the other, so it takes more than a load that changes."""
    found = []
    for phase in "abc":
        name = f"power.active.{phase}"
        volts, amperes, kilowatts = (values.get(key) for key in (f"voltage.{phase}", f"current.{phase}", name))
        if volts is None or amperes is None or not kilowatts:
            continue
        if abs(kilowatts) * 1000 > _CHANGES * abs(volts * amperes) + _IDLE_W:
            found.append(name)
    return found


def best(fits: Iterable[Fit]) -> list[Fit]:
    """The better ones first."""
    return sorted(sorted(fits, key=lambda one: one.profile), key=lambda one: one.rank, reverse=True)
