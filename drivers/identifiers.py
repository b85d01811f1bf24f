"""Which DL/T 645 identifiers to ask for a set of quantities: single ones, or blocks where these are cheaper."""

import logging
from collections.abc import Callable, Collection, Generator, Sequence
from dataclasses import dataclass

from drivers.cost import Cost
from drivers.habits import DAYS_MAX, Habits, Known
from drivers.profile import Profile
from drivers.witness import Witness
from protocols.capture import Fault, Value, faulty
from protocols.dialogue import MUTE, Answer, Ask, Dialogue
from protocols.dlt645 import v1997, v2007
from protocols.dlt645.codes import Edition
from protocols.dlt645.frame import Frame
from protocols.dlt645.items import block_of, days_block_of, layout
from protocols.dlt645.reading import TOO_LONG, ReadItem
from protocols.quantity import Quantity

log = logging.getLogger(__name__)

TARIFFS_MIN = 14
"""A block over tariffs is waited for as if it had at least so many, whatever its profile says: a meter with more
tariffs than expected is still heard, and one that is silent does not cost the time of the 63 that the standard allows
(1.8 s at 1200 baud)."""

_REFUSED = frozenset({Fault.ABSENT, Fault.REFUSED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One identifier to read: what it is for, and where each Value stands in the result.

    singles: the steps that give the same without the block; empty for a single identifier.
    """

    item: ReadItem
    places: tuple[int, ...]
    wire_ms: float
    singles: tuple["Step", ...] = ()


class IdentifierReads:
    """Steps for one meter, and the dialogue that runs them.

    make: the steps for what is known of the meter. A block that it refuses is replaced by its single identifiers in
    the same dialogue; when any of these is given, in those to come, too. What it is mute to (see `drivers.witness`) is
    replaced likewise, and in those to come when two readings in a row show the same.
    """

    __slots__ = ("_address", "_habits", "_known", "_make", "_meter", "_preamble", "_read", "_steps", "_witness")

    def __init__(
        self, address: str, edition: Edition, make: Callable[[Known], Sequence[Step]], habits: Habits, preamble: int,
        *, meter: str = "",
    ) -> None:  # fmt: skip
        """meter: its name, for the log."""
        self._meter = meter
        self._witness = Witness()
        self._address = address
        self._preamble = preamble
        self._read = v2007.read_items if edition is Edition.E2007 else v1997.read_items
        self._make = make
        self._habits = habits
        self._known = habits.known
        self._steps = make(self._known)

    def dialogue(self) -> Dialogue[Frame]:
        """Reads all steps. Silence ends it, unless it is of one step alone: what was not asked yet is silent too."""
        if self._known is not self._habits.known:
            self._known = self._habits.known
            self._steps = self._make(self._known)
        habits = self._habits
        found: dict[int, Value] = {}
        waiting = list(reversed(self._steps))
        refused: list[Step] = []
        mute: list[str] = []
        if habits.down and len(items := _singles(self._steps)) > 1 and not (yield from self._heard(items, ())):
            _fail(waiting, Fault.SILENT, None, found)
            waiting.clear()
        while waiting:
            step = waiting.pop()
            di = step.item.di
            if habits.mute.get(di) == habits.today and not habits.down:
                _fail([step], Fault.ABSENT, MUTE, found)
                continue
            values = yield from self._read(self._address, (step.item,), preamble=self._preamble)
            if step.singles and values[0].detail == TOO_LONG:
                waiting += reversed(step.singles)
            elif step.singles and all(value.fault in _REFUSED for value in values):
                refused.append(step)
                waiting += reversed(step.singles)
            elif values[0].fault is not Fault.SILENT:
                found.update(zip(step.places, values, strict=True))
                if di in habits.blocks and all(value.fault is None for value in values):
                    habits.gives(di)
            elif not (yield from self._heard(_singles(self._steps), step.singles or (step,))):
                _fail([step, *waiting], Fault.SILENT, None, found)
                break
            elif values[0].detail is not None:  # it began to answer
                found.update(zip(step.places, values, strict=True))
            else:
                mute.append(di)
                waiting += reversed(step.singles)
                if not step.singles and di in habits.blocks:
                    habits.mute[di] = habits.today
                    _fail([step], Fault.ABSENT, MUTE, found)
                elif not step.singles:
                    _fail([step], Fault.SILENT, MUTE, found)
        if refused:
            habits.refuses(blocks=[s.item.di for s in refused if any(found[place].fault is None for place in s.places)])
        if self._witness.alert:
            self._learn([di for di in self._witness.certain(mute) if di not in habits.blocks])
        return [found[place] for place in sorted(found)]

    def _learn(self, mute: Sequence[str]) -> None:
        """It is certainly mute to these."""
        if mute:
            log.warning("meter=%s is silent to %s, and answers others: asked for otherwise for %d days", self._meter,
                        ", ".join(mute), DAYS_MAX)  # fmt: skip
            self._habits.refuses(blocks=mute)

    def _heard(
        self, items: Sequence[Step], silent: Collection[Step]
    ) -> Generator[Ask[Frame], Answer[Frame], bool]:  # fmt: skip
        """Whether the meter answers another single identifier."""
        return self._witness.heard(
            items, silent, lambda step: self._read(self._address, (step.item,), preamble=self._preamble)
        )


def _singles(steps: Sequence[Step]) -> list[Step]:
    return [single for step in steps for single in (step.singles or (step,))]


def _fail(steps: Sequence[Step], fault: Fault, detail: str | None, into: dict[int, Value]) -> None:
    """Put at the places of these the reason why none was read."""
    for step in steps:
        for place, quantity in zip(step.places, step.item.wants, strict=True):
            into[place] = faulty(quantity, fault, detail)


def steps_for(
    wanted: Sequence[tuple[str, Quantity]], profile: Profile, edition: Edition, cost: Cost,
    *, without: Collection[str] = (),
) -> list[Step]:  # fmt: skip
    """The cheapest steps that give these quantities, each with the single identifier that holds it.

    without: blocks that are not asked.

    Tariff and phase blocks are weighed first, then blocks over settlement days among what is left single: each
    identifier is in one block of a kind at most, so weighing block by block finds the optimum of a kind.
    """
    singles: dict[str, Step] = {}
    for place, (di, quantity) in enumerate(wanted):
        before = singles.get(di)
        wants = (*(before.item.wants if before else ()), quantity)
        places = (*(before.places if before else ()), place)
        singles[di] = Step(item=ReadItem(di=di, wants=wants), places=places, wire_ms=_wire(di, profile, edition, cost))
    kinds: list[Callable[[str], str | None]] = [lambda di: block_of(di, edition)]
    if edition is Edition.E2007:
        kinds.append(days_block_of)
    left, steps = list(singles.values()), []
    for block_for in kinds:
        groups: dict[str, list[Step]] = {}
        for step in left:
            answered = step.item.di.startswith(profile.blocks)
            in_reach = all(quantity.tariff <= profile.tariffs for quantity in step.item.wants)
            block = block_for(step.item.di) if answered and in_reach else None
            groups.setdefault(block if block and block not in without else step.item.di, []).append(step)
        left = []
        for block, group in groups.items():
            wire_ms = _wire(block, profile, edition, cost)
            apart_ms = sum(step.wire_ms + cost.exchange for step in group)
            if len(group) > 1 and wire_ms + cost.exchange < apart_ms:
                steps.append(_joined(block, group, wire_ms, max(TARIFFS_MIN, profile.tariffs)))
            else:
                left += group
    return sorted((*steps, *left), key=lambda step: min(step.places))


def _joined(block: str, group: Sequence[Step], wire_ms: float, tariffs: int) -> Step:
    wants = tuple(quantity for step in group for quantity in step.item.wants)
    places = tuple(place for step in group for place in step.places)
    return Step(
        item=ReadItem(di=block, wants=wants, tariffs=tariffs, divisible=True),
        places=places,
        wire_ms=wire_ms,
        singles=tuple(group),
    )


def _wire(di: str, profile: Profile, edition: Edition, cost: Cost) -> float:
    """Milliseconds of characters, both ways. A tariff block is as long as the profile's tariffs make it."""
    found = layout(di, edition)
    if found is None:
        payload = 0
    elif found.open_ended:
        payload = sum(item.shape.length for item in found.items[: profile.tariffs + 1])
    else:
        payload = sum(item.shape.length for item in found.items)
    return cost.dlt645_wire(payload, di_length=edition.di_length, preamble=profile.preamble)
