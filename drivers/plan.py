"""What to ask a meter in one go, in which order, and what it costs of the bus.

A plan is built once per meter and task, and asked at every slot: requests are merged by cost and encoded beforehand.
What a meter refuses as a block is read in parts within the same dialogue, and the plan remembers the parts.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import chain, repeat
from typing import Any

from config.mistake import ConfigError, Mistake, near
from config.model import MeterEntry, ProtocolName, SerialSettings
from drivers.cost import Cost, cost_of, merge
from drivers.habits import NOTHING, Habits, Known
from drivers.identifiers import IdentifierReads, Step, steps_for
from drivers.notation import is_register, parse_registers
from drivers.profile import Profile, ProfileItem, load_profile, within
from drivers.registers import RegisterReads
from protocols.dialogue import Dialogue
from protocols.dlt645 import v1997, v2007
from protocols.dlt645.codes import Edition
from protocols.dlt645.items import layout, quantities
from protocols.dlt645.reading import opaque
from protocols.modbus.dialogue import Block, Item
from protocols.quantity import Quantity, by_name

TRANSACTIONS: Iterator[int] = chain.from_iterable(repeat(range(1, 0x10000)))
"""Transaction numbers of Modbus TCP: one sequence in a process, so that none comes back before 65,535 questions, also
after a reconnect and also for another meter behind the same gateway. (A cycle would keep them all: 2.6 MB.)"""

_STAND_IN = {"dlt645-2007": "dlt645-2007-3p", "dlt645-1997": "dlt645-1997"}
"""Which profile tells the quantities of a meter that has none (a live read from the command line)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadPlan:
    """How a set of items is read from one meter.

    items: as they were asked for. quantities: of the Values that a dialogue returns, in order (an identifier of the
    command line may give others, known only once it has answered). wire_ms: characters on the wire, both ways;
    cost_ms: that and the expected turnarounds and gaps: what one run takes of the bus. exchanges: how many questions.
    dialogue: makes a fresh dialogue at each call; it returns one Value per quantity, in order, faulty ones included.
    """

    items: tuple[str, ...]
    quantities: tuple[Quantity, ...]
    wire_ms: float
    cost_ms: float
    exchanges: int
    dialogue: Callable[[], Dialogue[Any]]
    parts: "tuple[ReadPlan, ...]" = ()
    """Of a plan made by `plan_items`: one plan for each item, for who wants to tell their Values apart."""


def plan(
    profile: Profile, meter: MeterEntry, items: Sequence[str], settings: SerialSettings, habits: Habits | None = None
) -> ReadPlan:
    """The cheapest way to read these items: names of the profile's quantities, or registers as `holding:10:uint16`.

    settings are those of the line (of the line behind it, for a serial server). habits: of this meter, shared by its
    plans, which learn from each other then. Raises ConfigError, naming every item that the profile does not have.
    """
    habits = habits or Habits()

    def make(known: Known) -> _Recipe:
        return _shared_recipe(profile, meter.protocol, tuple(items), settings, known)

    try:
        recipe = make(habits.known)
    except ConfigError as error:
        wrong = (Mistake(m.file, f"meter {meter.id}", m.expected, m.got) for m in error.mistakes)
        raise ConfigError(wrong) from None
    return _addressed(recipe, make, profile, meter, tuple(items), habits)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Recipe:
    """A plan without an address: what meters of one model share that are asked for the same."""

    quantities: tuple[Quantity, ...]
    steps: tuple[Step, ...] = ()
    blocks: tuple[Block, ...] = ()
    wire_ms: float
    cost_ms: float


@lru_cache(maxsize=256)
def _shared_recipe(
    profile: Profile, protocol: ProtocolName, items: tuple[str, ...], settings: SerialSettings, known: Known
) -> _Recipe:  # fmt: skip
    """Worked out once for all meters of a site that are alike. Raises ConfigError."""
    found: list[ProfileItem] = []
    mistakes: list[Mistake] = []
    for item in items:
        try:
            found += _resolve(profile, item)
        except ValueError as error:
            mistakes.append(Mistake(f"profile {profile.name}", "items", str(error), item))
    if mistakes or not found:
        raise ConfigError(mistakes or [Mistake(f"profile {profile.name}", "items", "items", "none")])
    return _recipe(profile, protocol, found, _cost(profile, protocol, settings, known.turnaround_ms), known)


def _resolve(profile: Profile, item: str) -> list[ProfileItem]:
    if is_register(item) and profile.family == "modbus":
        asked = parse_registers(item)
        if not all(within(register, profile.readable) for register in asked):
            ranges = " ".join(f"{first}..{last}" for first, last in profile.readable)
            raise ValueError(f"registers within {ranges}, which {profile.name} serves")
        return [ProfileItem(quantity=register.quantity, register=register) for register in asked]
    known = profile.items.get(item)
    if known is None:
        registers = "registers such as holding:10:uint16"
        if not profile.items:
            raise ValueError(f"{registers}, as {profile.name} has no names")
        named = f"a quantity of {profile.name}{near(item, profile.items)}"
        raise ValueError(f"{named}, or {registers}" if profile.family == "modbus" else named)
    return [known]


def _cost(
    profile: Profile, protocol: ProtocolName, settings: SerialSettings, turnaround_ms: float | None = None
) -> Cost:  # fmt: skip
    expected_ms = profile.turnaround_ms if turnaround_ms is None else turnaround_ms
    return cost_of(settings, protocol=protocol, turnaround_ms=expected_ms, min_gap_ms=profile.min_gap_ms)


def _recipe(
    profile: Profile, protocol: ProtocolName, found: Sequence[ProfileItem], cost: Cost, known: Known = NOTHING
) -> _Recipe:  # fmt: skip
    wanted = tuple(item.quantity for item in found)
    if profile.family == "dlt645":
        pairs = [(item.di, item.quantity) for item in found if item.di is not None]
        steps = tuple(steps_for(pairs, profile, Edition(protocol), cost, without=known.blocks))
        wire_ms = sum(step.wire_ms for step in steps)
        return _Recipe(quantities=wanted, steps=steps, wire_ms=wire_ms, cost_ms=wire_ms + len(steps) * cost.exchange)
    registers = [item.register for item in found if item.register is not None]
    blocks = tuple(_blocks(registers, profile, cost, known, as_ascii=protocol == "modbus-ascii"))
    wire_ms = sum(cost.modbus_wire(block.count) for block in blocks)
    return _Recipe(quantities=wanted, blocks=blocks, wire_ms=wire_ms, cost_ms=wire_ms + len(blocks) * cost.exchange)


def _addressed(
    recipe: _Recipe, make: Callable[[Known], _Recipe], profile: Profile, meter: MeterEntry, items: tuple[str, ...],
    habits: Habits,
) -> ReadPlan:  # fmt: skip
    reads: IdentifierReads | RegisterReads
    if profile.family == "dlt645":
        reads = IdentifierReads(
            meter.address,
            Edition(meter.protocol),
            lambda known: make(known).steps,
            habits,
            profile.preamble,
            meter=meter.id,
        )
    else:
        transactions = TRANSACTIONS if meter.protocol == "modbus-tcp" else None
        unit = int(meter.address)
        reads = RegisterReads(
            lambda known: [block.of_unit(unit) for block in make(known).blocks], habits, transactions, meter=meter.id
        )  # fmt: skip
    return ReadPlan(items=items, quantities=recipe.quantities, wire_ms=recipe.wire_ms, cost_ms=recipe.cost_ms,
                    exchanges=len(recipe.steps) + len(recipe.blocks), dialogue=reads.dialogue)  # fmt: skip


def _blocks(
    registers: Sequence[Item], profile: Profile, cost: Cost, known: Known, *, as_ascii: bool
) -> list[Block]:  # fmt: skip
    """Of no unit yet. Merged by cost, then ordered so that neighbours differ in size where that can be: an answer that
    comes late then has the wrong length for the next question."""
    widest = max((register.format.words for register in registers), default=1)
    most = min(profile.max_registers, max(widest, known.longest or profile.max_registers))
    merged = merge(registers, cost, max_registers=most, readable=profile.readable, holes=known.holes)
    waiting = [Block(0, [registers[n] for n in group], group, as_ascii=as_ascii) for group in merged]
    ordered: list[Block] = []
    while waiting:
        before = ordered[-1].count if ordered else 0
        ordered.append(waiting.pop(next((n for n, block in enumerate(waiting) if block.count != before), 0)))
    return ordered


def plan_items(meter: MeterEntry, items: Sequence[str], settings: SerialSettings | None = None) -> ReadPlan:
    """Reads items as the command line has them, in the order given and unmerged: names of quantities, DL/T 645
    identifiers, registers. The meter's profile may be empty: DL/T 645 needs none, Modbus has no names without one.

    Its dialogue returns the Values of all items, one after the other; `parts` holds a plan for each item. An
    identifier of a block gives as many Values as come. Raises ConfigError with every item that cannot be read.
    """
    profile = load_profile(meter.profile or _STAND_IN.get(meter.protocol, "modbus-generic"))
    cost = _cost(profile, meter.protocol, settings or meter.serial or SerialSettings(baud=2400, parity="E"))
    parts: list[ReadPlan] = []
    mistakes: list[Mistake] = []
    for item in items:
        try:
            if profile.family == "dlt645":
                parts.append(_identifier(item, profile, meter, cost))
            else:
                parts.append(_single(profile, meter, _resolve(profile, item), cost, item))
        except ValueError as error:
            mistakes.append(Mistake("items", item, str(error), repr(item)))
    if mistakes or not parts:
        raise ConfigError(mistakes or [Mistake("items", "ITEM", "at least one", "none")])

    def dialogue() -> Dialogue[Any]:
        values = []
        for part in parts:
            values += yield from part.dialogue()
        return values

    return ReadPlan(
        items=tuple(items), quantities=tuple(q for part in parts for q in part.quantities), dialogue=dialogue,
        wire_ms=sum(part.wire_ms for part in parts), cost_ms=sum(part.cost_ms for part in parts),
        exchanges=sum(part.exchanges for part in parts), parts=tuple(parts),
    )  # fmt: skip


def _single(
    profile: Profile, meter: MeterEntry, found: Sequence[ProfileItem], cost: Cost, item: str
) -> ReadPlan:  # fmt: skip
    def make(known: Known) -> _Recipe:
        return _recipe(profile, meter.protocol, found, cost, known)

    return _addressed(make(NOTHING), make, profile, meter, (item,), Habits())


def _identifier(item: str, profile: Profile, meter: MeterEntry, cost: Cost) -> ReadPlan:
    """One item of a DL/T 645 meter: an identifier in hex, or a name of the profile or, with an identifier, of the
    catalogue."""
    edition = Edition(meter.protocol)
    if len(item) != 2 * edition.di_length or not set(item) <= set("0123456789abcdefABCDEF"):
        found = profile.items.get(item) or _from_catalogue(item, profile, edition)
        return _single(profile, meter, [found], cost, item)
    di = item.upper()
    (step,) = steps_for([(di, opaque(di))], profile, edition, cost)
    read = v2007.read if edition is Edition.E2007 else v1997.read
    return ReadPlan(
        items=(item,), quantities=quantities(di, edition) or (opaque(di),), wire_ms=step.wire_ms, exchanges=1,
        cost_ms=step.wire_ms + cost.exchange, dialogue=partial(read, meter.address, (di,), preamble=profile.preamble),
    )  # fmt: skip


def _from_catalogue(name: str, profile: Profile, edition: Edition) -> ProfileItem:
    try:
        quantity = by_name(name)
    except KeyError:
        quantity = None
    if quantity is None or quantity.di is None or edition is not Edition.E2007 or not layout(quantity.di):
        digits = 2 * edition.di_length
        if quantity is not None and quantity.di is None and edition is Edition.E2007:
            raise ValueError(f"an identifier of {digits} hex digits, as what comes with a record has none of its own")
        named = f"the name of a quantity that {edition.value} has{near(name, profile.items)}"
        raise ValueError(f"{named}, or an identifier of {digits} hex digits")
    return ProfileItem(quantity=quantity, di=quantity.di)
