"""What a simulated site is, as sim.toml says it: N buses by M meters, their faults, one seed."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from config.mistake import ConfigError, Mistake
from config.model import BusEntry, MeterEntry, ProtocolName, SerialSettings
from config.toml import REQUIRED, Key, load_toml, read_table, show, tables
from config.values import choice, integer, name, path, serial, text
from drivers.profile import load_profile, profile_names
from simulators.answer import Holes
from simulators.meter import SimulatedMeter, build_meter
from simulators.noise import QUIET, Faults
from simulators.trace import TraceName
from simulators.wire import Match

BusKind = Literal["pty", "tcp", "modbus-tcp"]
_SERIAL = SerialSettings(baud=2400, parity="E")


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterGroup:
    """`count` meters of one model, their addresses counted up from the first one."""

    profile: str
    address: str
    count: int = 1
    protocol: ProtocolName | None = None
    """None: the first that the profile allows (on a modbus-tcp bus: modbus-tcp)."""
    serial: SerialSettings | None = None
    tariffs: int | None = None
    """None: as many as the profile has."""
    trace: TraceName = "household"
    reverse: bool = False
    turnaround_ms: tuple[float, float] = (20.0, 20.0)
    present: bool = True
    holes: Holes = "zero"


@dataclass(frozen=True, slots=True, kw_only=True)
class BusPlan:
    """One bus, and how other programs reach it."""

    name: str
    kind: BusKind = "pty"
    serial: SerialSettings = _SERIAL
    port: int = 0
    """Of TCP; 0: a free one."""
    link: Path | None = None
    """A lasting name for the pty."""
    pieces: int = 0
    """Bytes that arrive at a time; 0: an answer arrives whole."""
    match: Match = "none"
    faults: Faults = QUIET
    meters: tuple[MeterGroup, ...]

    def entries(self) -> Iterator[tuple[MeterGroup, MeterEntry]]:
        """Every meter of the bus as a meter archive has it; its id is the bus's name and its address."""
        for group in self.meters:
            protocol = group.protocol or _protocol(group.profile, self.kind)
            first, width = int(group.address), len(group.address)
            for number in range(first, first + group.count):
                address = f"{number:0{width}d}" if protocol.startswith("dlt645") else str(number)
                entry = MeterEntry(id=f"{self.name}-{address}", point=f"{self.name}-{address}", bus=self.name,
                                   address=address, profile=group.profile, protocol=protocol,
                                   serial=group.serial)  # fmt: skip
                yield group, entry


@dataclass(frozen=True, slots=True, kw_only=True)
class SitePlan:
    """The whole site. The same plan gives the same meters, the same values and the same faults."""

    buses: tuple[BusPlan, ...]
    seed: int = 0
    served: Path | None = None
    """Where the served log goes; None: memory."""

    @property
    def meter_count(self) -> int:
        """How many meters there are."""
        return sum(group.count for bus in self.buses for group in bus.meters)

    def meters(self, bus: BusPlan) -> list[SimulatedMeter]:
        """The meters of a bus, built anew."""
        return [
            build_meter(
                load_profile(entry.profile), meter_id=entry.id, address=entry.address, protocol=entry.protocol,
                seed=self.seed, tariffs=group.tariffs, trace=group.trace, reverse=group.reverse, serial=group.serial,
                turnaround_ms=group.turnaround_ms, present=group.present, holes=group.holes,
            )
            for group, entry in bus.entries()
        ]  # fmt: skip


def uniform(
    *, buses: int, meters_per_bus: int, profile: str = "dlt645-2007-3p", seed: int = 0, kind: BusKind = "pty",
    serial: SerialSettings | None = None, faults: Faults = QUIET, tariffs: int | None = None,
    turnaround_ms: tuple[float, float] = (20.0, 20.0),
) -> SitePlan:  # fmt: skip
    """A site of equal buses (bus1, bus2, ...) with equal meters."""
    settings = serial or _SERIAL
    dlt645 = load_profile(profile).family == "dlt645"
    return SitePlan(
        seed=seed,
        buses=tuple(
            BusPlan(
                name=f"bus{n}", kind=kind, serial=settings, faults=faults,
                meters=(MeterGroup(profile=profile, count=meters_per_bus, tariffs=tariffs, turnaround_ms=turnaround_ms,
                                   address=f"{n * 1_000_000 + 1:012d}" if dlt645 else "1"),),
            )
            for n in range(1, buses + 1)
        ),
    )  # fmt: skip


def bus_entries(plan: SitePlan, ports: dict[str, str]) -> tuple[BusEntry, ...]:
    """The buses as a site file has them; ports: where each is reached."""
    return tuple(BusEntry(name=bus.name, port=ports[bus.name], serial=bus.serial) for bus in plan.buses)


def _protocol(profile: str, kind: BusKind) -> ProtocolName:
    return "modbus-tcp" if kind == "modbus-tcp" else load_profile(profile).protocols[0]


# sim.toml


def _number(low: float, high: float) -> Any:
    def read(raw: Any) -> float:
        if isinstance(raw, bool) or not isinstance(raw, int | float) or not low <= raw <= high:
            raise ValueError(f"a number from {low:g} to {high:g}")
        return float(raw)

    return read


def _pair(raw: Any) -> tuple[float, float]:
    low, high = raw if isinstance(raw, list) and len(raw) == 2 else (raw, raw)
    try:
        pair = (_number(0, 60_000)(low), _number(0, 60_000)(high))
    except ValueError:
        pair = (1.0, 0.0)
    if pair[0] > pair[1]:
        raise ValueError("milliseconds, or two of them with the shorter first")
    return pair


def _switch(raw: Any) -> bool:
    if not isinstance(raw, bool):
        raise ValueError("true or false")  # noqa: TRY004  every reader raises ValueError with what it expected
    return raw


TOP = (
    Key("seed", integer(0, 2**63), 0, "Everything drawn at random follows from it."),
    Key("served", path, None, "The file of the served log; relative to this file."),
)
BUS = (
    Key("name", name, REQUIRED, "The bus's name, unique on the site."),
    Key("kind", choice(*get_args(BusKind)), "pty", "pty, tcp (raw bytes, a serial server) or modbus-tcp."),
    Key("serial", serial, "2400-8E1", "How the line is set; on a pty the opener's baud rate takes its place."),
    Key("port", integer(0, 65535), 0, "The TCP port on 127.0.0.1; 0: a free one."),
    Key("link", path, None, "A lasting name for the pty; relative to this file."),
    Key("pieces", integer(0, 4096), 0, "Bytes that arrive at a time, as a UART hands them over; 0: whole answers."),
    Key(
        "match",
        choice(*get_args(Match)),
        "none",
        "What of its own settings a meter insists on: settings (all of them), baud, none.",
    ),
)
METERS = (
    Key("profile", lambda raw: choice(*profile_names())(raw), REQUIRED, "The meter's model, one of the profiles."),
    Key("address", text, REQUIRED, "The first address: 12 digits for DL/T 645, a unit for Modbus."),
    Key("count", integer(1, 1000), 1, "How many meters; addresses are counted up."),
    Key("protocol", choice(*get_args(ProtocolName)), None, "One that the profile allows; left out: its first."),
    Key("serial", serial, None, "Line settings of these meters; left out: those of the bus."),
    Key("tariffs", integer(1, 63), None, "Tariff registers; left out: as many as the profile has."),
    Key(
        "trace",
        choice(*get_args(TraceName)),
        "household",
        "The measured load curve that they follow: household or steelplant.",
    ),
    Key("reverse", _switch, False, "Energy flows back into the grid."),
    Key("turnaround_ms", _pair, [20, 20], "Between question and answer: milliseconds, or the shortest and longest."),
    Key("present", _switch, True, "false: they are in the archive but do not answer."),
    Key("holes", choice(*get_args(Holes)), "zero", "Reads over what they lack: zeros, refused, or no answer (mute)."),
)
FAULTS = (
    Key("ber", _number(0, 1), 0.0, "How often a bit arrives turned over."),
    Key("loss", _number(0, 1), 0.0, "How often a byte does not arrive."),
    Key("insertion", _number(0, 1), 0.0, "How often a byte that nobody sent arrives before another."),
    Key("burst", _number(0, 1), 0.0, "How often, at a byte, a disturbance begins that spoils it and the next few."),
    Key("glitch", _number(0, 1), 0.0, "How often 1 to 3 bytes of 00 or FF stand before an answer."),
    Key("truncate", _number(0, 1), 0.0, "How often an answer breaks off."),
    Key("silent", _number(0, 1), 0.0, "How often a meter does not answer."),
    Key("late", _number(0, 1), 0.0, "How often a meter answers late_ms after it should."),
    Key("late_ms", _pair, [600, 1200], "How late: milliseconds, or the shortest and longest."),
    Key("foreign", _number(0, 1), 0.0, "How often a frame of somebody else stands before an answer."),
    Key("repeat", _number(0, 1), 0.0, "How often a byte arrives twice."),
    Key("fade", _number(0, 1), 0.0, "How often, at a byte, the line turns bad for a while (Gilbert and Elliott)."),
    Key("fade_bytes", _number(1, 10_000), 20.0, "How many bytes it stays bad, on average."),
    Key("fade_ber", _number(0, 1), 0.05, "How often a bit arrives turned over meanwhile."),
    Key("tail", _number(0, 1), 0.0, "How often bytes that nobody sent stand behind an answer."),
    Key("twice", _number(0, 1), 0.0, "How often an answer is sent twice, one right behind the other."),
    Key("other", _number(0, 1), 0.0, "How often a meter answers what was not asked: another item, less or more."),
    Key("preamble", _number(0, 1), 0.0, "How often 0 to 16 FE bytes stand before a DL/T 645 answer, not its own."),
    Key("pause", _number(0, 1), 0.0, "How often an answer comes in pieces with pauses between."),
    Key("pause_ms", _number(0, 10_000), 20.0, "How long such a pause is, at most."),
    Key("babble", _number(0, 1), 0.0, "How often somebody talks nonsense within half a second after a question."),
    Key("echo", _switch, False, "Every question comes back, as adapters do that hear what they send."),
)


def load_plan(file: Path) -> SitePlan:
    """The site that a sim.toml describes. Raises ConfigError with every mistake in it."""
    mistakes: list[Mistake] = []
    raw = load_toml(file, str(file), mistakes)
    if mistakes:
        raise ConfigError(mistakes)
    top = {key: value for key, value in raw.items() if key != "bus"}
    values = read_table(top, TOP, file=str(file), where="", mistakes=mistakes) or {}
    base = file.absolute().parent
    buses = [
        _bus(table, where, str(file), base, mistakes)
        for where, table in tables(raw, "bus", file=str(file), mistakes=mistakes)
    ]
    found = [bus for bus in buses if bus is not None]
    _once((bus.name for bus in found), "bus.name", str(file), mistakes)
    if mistakes:
        raise ConfigError(mistakes)
    if values["served"] is not None:
        values["served"] = base / values["served"]
    return SitePlan(buses=tuple(found), **values)


def _bus(table: Any, where: str, file: str, base: Path, mistakes: list[Mistake]) -> BusPlan | None:
    if not isinstance(table, dict):
        mistakes.append(Mistake(file, where, "a table", show(table)))
        return None
    before = len(mistakes)
    own = {key: value for key, value in table.items() if key not in ("meters", "faults")}
    values = read_table(own, BUS, file=file, where=where, mistakes=mistakes)
    faults = read_table(table.get("faults", {}), FAULTS, file=file, where=f"{where}.faults", mistakes=mistakes)
    groups: list[MeterGroup] = []
    for at, raw in tables(table, "meters", file=file, mistakes=mistakes):
        found = read_table(raw, METERS, file=file, where=f"{where}.{at}", mistakes=mistakes)
        if found is not None and values is not None:
            group = MeterGroup(**found)
            groups.append(group)
            mistakes += _mistaken(group, values["kind"], file, f"{where}.{at}")
    if values is None or faults is None or len(mistakes) > before:
        return None
    if values["link"] is not None:
        values["link"] = base / values["link"]
    bus = BusPlan(**values, faults=Faults(**faults), meters=tuple(groups))
    _once((entry.address for _, entry in bus.entries()), f"{where}.meters.address", file, mistakes)
    return bus


def _mistaken(group: MeterGroup, kind: BusKind, file: str, where: str) -> Iterator[Mistake]:
    """What is wrong with a group of meters besides its single keys."""
    profile = load_profile(group.profile)
    protocol = group.protocol or _protocol(group.profile, kind)
    if protocol not in profile.protocols:
        yield Mistake(file, f"{where}.protocol", f"one of {', '.join(profile.protocols)}", protocol)
    if (kind == "modbus-tcp") != (protocol == "modbus-tcp"):
        expected = "modbus-tcp on its own kind of bus, the serial protocols on the others"
        yield Mistake(file, f"{where}.protocol", expected, protocol)
    digits = group.address.isascii() and group.address.isdecimal()
    last = int(group.address) + group.count - 1 if digits else 0
    if protocol.startswith("dlt645"):
        if not digits or len(group.address) != 12 or last >= 10**12 - 1:
            yield Mistake(file, f"{where}.address", "12 digits, room for all of them above", group.address)
    elif not digits or not 1 <= int(group.address) <= last <= (255 if kind == "modbus-tcp" else 247):
        yield Mistake(file, f"{where}.address", "a unit from 1 to 247, room for all of them above", group.address)


def _once(found: Iterable[str], where: str, file: str, mistakes: list[Mistake]) -> None:
    seen: set[str] = set()
    for value in found:
        if value in seen:
            mistakes.append(Mistake(file, where, "each one only once", f"{value} twice"))
        seen.add(value)
