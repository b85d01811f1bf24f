"""Whether a site's schedule fits its buses: what each task takes of each bus at a slot, and what is wrong with that.

A plan's cost is computed: characters, expected turnarounds and mandatory gaps. What is left of a bus's time is for
retries, probes of the silent and reads on demand.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from config.mistake import ConfigError, Mistake, near
from config.model import BusEntry, MeterEntry, SerialSettings, Site, TaskEntry
from drivers.plan import ReadPlan, plan
from drivers.profile import load_profile, profile_names

_Asked = tuple[ReadPlan, int]
"""What a meter is asked at a slot, and how often."""

LOAD_MAX, LOAD_TIGHT = 0.9, 0.7
"""The share of a bus's time that a schedule may plan for, and that above which it is worth a word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskLoad:
    """What one task takes of a bus at each of its slots. Times in milliseconds.

    exchanges: questions to all its meters on the bus. wire_ms: characters on the wire, both ways; bus_ms: that with the
    expected turnarounds and the gaps.
    """

    task: TaskEntry
    meters: int
    exchanges: int
    wire_ms: float
    bus_ms: float

    @property
    def share(self) -> float:
        """Of the bus's time."""
        return self.bus_ms / (self.task.every_s * 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class BusLoad:
    """What the schedule takes of a bus. twice: ids of meters that multiply by ratios set in them while the archive has
    others than 1 for them: right only where those in the meter were left at 1."""

    bus: BusEntry
    meters: int
    tasks: tuple[TaskLoad, ...]
    twice: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """Of the bus's time, all tasks together: 1.0 is all of it."""
        return sum(task.share for task in self.tasks)

    @property
    def fits(self) -> bool:
        """Whether enough is left for what cannot be planned."""
        return self.share <= LOAD_MAX

    @property
    def tight(self) -> bool:
        """Whether it fits, but with little to spare."""
        return LOAD_TIGHT < self.share <= LOAD_MAX

    @property
    def crowded(self) -> tuple[TaskLoad, ...]:
        """Tasks that come due together and then take longer than the shortest of them has until its next slot. Others
        are late or missed at those slots; an offset spreads them."""
        for offset_s in sorted({load.task.offset_s for load in self.tasks}):
            together = tuple(load for load in self.tasks if load.task.offset_s == offset_s)
            shortest_s = min(load.task.every_s for load in together)
            if len(together) > 1 and sum(load.bus_ms for load in together) > LOAD_MAX * shortest_s * 1000:
                return together
        return ()


def survey(site: Site) -> tuple[list[BusLoad], list[Mistake]]:
    """The load of each bus, and every mistake that needs the profiles to be seen: unknown profiles and items, protocols
    and addresses that do not fit them; each thing once, however many meters share it. Meters that cannot be planned
    count nothing."""
    file, buses = str(site.origin), {bus.name: bus for bus in site.buses}
    tasks = {task.name: task for task in site.tasks}
    plans: dict[tuple[str, str], list[_Asked]] = {(bus, task): [] for bus in buses for task in tasks}
    meters = dict.fromkeys(buses, 0)
    twice: dict[str, list[str]] = {bus: [] for bus in buses}
    mistakes: dict[Mistake, None] = {}
    for meter in site.meters:
        meters[meter.bus] += 1
        settings = settings_of(meter, buses[meter.bus])
        wrong = _meter_mistakes(meter, settings, str(site.archive))
        mistakes.update(dict.fromkeys(wrong))
        if wrong:
            continue
        profile = load_profile(meter.profile)
        if profile.ratios == "meter" and not meter.ct == meter.pt == 1:
            twice[meter.bus].append(meter.id)
        for name in meter.tasks:
            try:
                found = plan(profile, meter, tasks[name].items, settings)
            except ConfigError as error:
                where = f"task {name}, items"
                mistakes.update(dict.fromkeys(Mistake(file, where, m.expected, m.got) for m in error.mistakes))
            else:
                plans[meter.bus, name].append((found, _readings(tasks[name], settings, buses[meter.bus])))
    loads = [
        BusLoad(
            bus=bus,
            meters=meters[bus.name],
            tasks=tuple(_load(task, each, bus) for task in site.tasks if (each := plans[bus.name, task.name])),
            twice=tuple(twice[bus.name]),
        )
        for bus in site.buses
    ]
    return loads, list(mistakes)


def _readings(task: TaskEntry, settings: SerialSettings, bus: BusEntry) -> int:
    """How often a meter is read at a slot: what bills are made of twice where no parity can vouch for it (see
    `drivers.confirm`)."""
    return 2 if task.lane == "billing" and (settings.parity == "N" or bus.port.startswith("tcp://")) else 1


def _load(task: TaskEntry, asked: Sequence[_Asked], bus: BusEntry) -> TaskLoad:
    """Questions that are on their way at once share the time in which nothing is on the wire."""
    at_once = min(bus.pipeline, len(asked))
    wire_ms, all_ms = sum(one.wire_ms * n for one, n in asked), sum(one.cost_ms * n for one, n in asked)
    return TaskLoad(task=task, meters=len(asked), exchanges=sum(one.exchanges * n for one, n in asked),
                    wire_ms=wire_ms, bus_ms=wire_ms + (all_ms - wire_ms) / at_once)  # fmt: skip


def check(site: Site) -> list[Mistake]:
    """What `survey` finds wrong, and the buses that the schedule would load over 90 %."""
    loads, mistakes = survey(site)
    return [*mistakes, *overloads(loads, str(site.origin))]


def overloads(loads: Sequence[BusLoad], file: str) -> Iterator[Mistake]:
    """The buses that the schedule would load over 90 %."""
    for load in loads:
        if not load.fits:
            shares = ", ".join(f"{one.task.name} {one.share:.1%}" for one in sorted(load.tasks, key=_name))
            expected = f"a schedule that takes at most {LOAD_MAX:.0%} of the bus"
            yield Mistake(file, f"bus {load.bus.name}", expected, f"{load.share:.1%} ({shares})")


def _name(load: TaskLoad) -> str:
    return load.task.name


def loads(site: Site) -> Mapping[str, float]:
    """The share of each bus's time that the schedule takes: 1.0 is all of it."""
    return {load.bus.name: load.share for load in survey(site)[0]}


def settings_of(meter: MeterEntry, bus: BusEntry) -> SerialSettings:
    """The settings of the line that a meter is asked with: its own, or those of its bus."""
    return meter.serial or bus.serial


def _meter_mistakes(meter: MeterEntry, settings: SerialSettings, file: str) -> list[Mistake]:
    where = f"meter {meter.id}"
    if meter.profile not in profile_names():
        like = near(meter.profile, profile_names())
        expected = f"one of the profiles{like}" if like else f"one of {', '.join(profile_names())}"
        return [Mistake(file, f"{where}, profile", expected, meter.profile)]
    try:
        profile = load_profile(meter.profile)
    except ConfigError as error:
        return list(error.mistakes)
    wrong: list[Mistake] = []
    if meter.protocol not in profile.protocols:
        expected = f"{' or '.join(profile.protocols)}, which {profile.name} speaks"
        wrong.append(Mistake(file, f"{where}, protocol", expected, meter.protocol))
    if settings.data_bits == 7 and meter.protocol != "modbus-ascii":
        expected = f"8 data bits, which {meter.protocol} needs"
        wrong.append(Mistake(file, f"{where}, serial", expected, str(settings)))
    address = meter.address
    digits = address.isascii() and address.isdigit()
    if meter.protocol.startswith("dlt645"):
        if not digits or len(address) != 12:
            wrong.append(Mistake(file, f"{where}, address", "12 digits", address))
    else:
        low, high = (0, 255) if meter.protocol == "modbus-tcp" else (1, 247)
        if not digits or not low <= int(address) <= high:
            wrong.append(Mistake(file, f"{where}, address", f"a number from {low} to {high}", address))
    return wrong
