"""What a meter is asked when it is examined: three reads whose answers cannot be taken for each other.

One of them holds nearly still (an energy), so that it shows when two meters answer by turns; the others differ from
it, by identifier or in size, so that it shows when an answer belongs to another question.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from config.model import BusEntry, MeterEntry
from drivers.meter import MARGIN_S, MARGIN_S_TCP, Meter
from drivers.plan import ReadPlan, plan_items
from drivers.profile import Profile, load_profile
from protocols.capture import Value
from protocols.dialogue import Ask, Reply
from protocols.modbus.dialogue import Item

ORDER = "SXYSSXYSXSSYXSYS"
"""The steady item, and the other two, in the order in which they are asked, over and over. The steady one stands at
even and at odd places, and twice in a row: two meters that answer every other question cannot both hide."""

_DLT645 = {
    "dlt645-2007": ("00010000", "02010100", "04000402"),
    "dlt645-1997": ("9010", "B611", "C032"),
}
"""The energy, a voltage, and the number of the meter, which two meters with one address seldom share."""
_UNKNOWN = ("holding:0", "input:0:uint16:2", "holding:0:uint16:3")
"""Of a Modbus meter without a profile. That it refuses is an answer as good as any: it names the function."""
NEIGHBOURS_MAX = 4
"""Numbers side by side that are read at once."""
_STEADY = ("energy.active.import.total", "energy.active.sum.total", "energy.active.import.a")


@dataclass(frozen=True, slots=True)
class Question:
    """One read. steady: a value of it moves slowly, and only up, or not at all."""

    item: str
    steady: bool
    plan: ReadPlan

    def ask(self) -> Ask[Any]:
        """A fresh question."""
        return next(self.plan.dialogue())

    def value(self, frame: Any) -> Value | None:
        """What an answer says; None where it is only a part of one."""
        dialogue = self.plan.dialogue()
        next(dialogue)
        try:
            dialogue.send(Reply(frame=frame, sent_at=0, ended_at=0))
        except StopIteration as end:
            values: list[Value] = end.value
            return values[0] if values else None
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A meter under examination."""

    meter: Meter
    questions: tuple[Question, ...]
    tcp: bool = False
    """Whether a network stands between it and us."""

    @property
    def name(self) -> str:
        """Its address."""
        return self.meter.entry.address

    @property
    def allowed_s(self) -> float:
        """How long after the question the driver waits for the first byte of an answer, margin included."""
        return self.meter.profile.turnaround_ms_max / 1000 + (MARGIN_S_TCP if self.tcp else MARGIN_S)

    @property
    def window_s(self) -> float:
        """How long after the question an answer is still known to be late, and kept from answering another one."""
        return (self.meter.profile.turnaround_ms_max + self.meter.profile.late_max_ms) / 1000

    @property
    def power_kw_max(self) -> Decimal:
        """The most that it can measure."""
        return Decimal(self.meter.profile.power_kw_max)

    def question(self, number: int) -> Question:
        """The one at this place of ORDER."""
        return self.questions["SXY".index(ORDER[number % len(ORDER)])]


def subject(entry: MeterEntry, bus: BusEntry) -> Subject:
    """A meter of a bus, with what it is to be asked."""
    profile = load_profile(entry.profile)
    items = _DLT645.get(entry.protocol) or _registers(profile) or _UNKNOWN
    steady = entry.protocol in _DLT645 or items[0] in _STEADY
    plan = plan_items(entry, items, bus.serial)
    questions = tuple(
        Question(item, steady and (n == 0 or item == "04000402"), part)
        for n, (item, part) in enumerate(zip(items, plan.parts, strict=True))
    )
    return Subject(meter=Meter(entry, profile, bus), questions=questions, tcp=bus.port.startswith("tcp://"))


def _registers(profile: Profile) -> tuple[str, str, str] | None:
    """An energy, and two reads among the other registers, each answered in another size."""
    steady = next((name for name in _STEADY if name in profile.items), None)
    others = [one.register for name, one in profile.items.items() if one.register and not name.startswith("energy.")]
    if steady is None or not others:
        return None
    energy = profile.items[steady].register
    assert energy is not None
    sizes = {energy.format.words}
    chosen: list[str] = []
    for size, place in _reads(sorted(others, key=lambda one: (one.function, one.address))):
        if size not in sizes and len(chosen) < 2:
            sizes.add(size)
            chosen.append(place)
    return steady, chosen[0], chosen[1]


def _reads(items: Sequence[Item]) -> Iterator[tuple[int, str]]:
    """Reads over one item and over neighbouring ones, with their sizes in registers; at last such as cut an item, which
    not every meter allows: that it refuses is an answer as well."""
    for first in range(len(items)):
        end = items[first].end
        for last in range(first, min(first + NEIGHBOURS_MAX, len(items))):
            if last > first and (items[last].function, items[last].address) != (items[first].function, end):
                break
            end = items[last].end
            yield end - items[first].address, _read(items[first], end - items[first].address)
    yield from ((size, _read(items[0], size)) for size in (1, 2, 3))


def _read(item: Item, count: int) -> str:
    return f"{'holding' if item.function == 3 else 'input'}:{item.address}:uint16:{count}"
