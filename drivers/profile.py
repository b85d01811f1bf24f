"""What a meter model can be asked, and how: read from one TOML file a model.

The tables below name every key; the files in `profiles/` are the examples. A file is checked whole: every mistake
names the file, the key, what was expected and what stands there.
"""

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Literal, get_args

from config.mistake import ConfigError, Mistake
from config.model import ProtocolName
from config.toml import REQUIRED, Key, read_table, show, tables
from config.values import choice, integer, names, text
from drivers.confirm import POWER_KW_MAX
from protocols.dlt645.codes import Edition
from protocols.dlt645.items import quantities as quantities_of
from protocols.modbus.dialogue import Item
from protocols.modbus.registers import Format, codes, high_words, parse_type
from protocols.quantity import Form, Kind, Quantity, by_name

Family = Literal["dlt645", "modbus"]
Maturity = Literal["recorded", "agreed", "single", "unverified"]
"""recorded: replies of a real meter are among the tests; agreed: two or more independent sources say the same;
single: one source; unverified: from memory, or a sheet that nobody has tried. A model is as sure as half of its items
are."""
Ratios = Literal["archive", "meter"]
"""Who makes values primary: the archive's CT and PT ratios, or the meter itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileItem:
    """One quantity of a model: the DL/T 645 identifier that holds it, or its registers.

    vendor: the number that the vendor's sheet prints for it. agree: how many independent sources say the same.
    """

    quantity: Quantity
    di: str | None = None
    register: Item | None = None
    vendor: str = ""
    agree: int = 0

    def __post_init__(self) -> None:
        if (self.di is None) == (self.register is None):
            raise ValueError(f"{self.quantity.name}: an identifier or registers, not both")


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What was chosen where sources contradict each other, and why.

    items: patterns of names (`*`, `energy.*`), each of at least one item. dissent: what other sources say, each with
    its source.
    """

    items: tuple[str, ...]
    chosen: str
    why: str
    dissent: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A meter model. Times in milliseconds.

    ratios: `archive` when registers hold the meter's own side, which the archive's CT and PT make primary; `meter`
    when it multiplies by ratios that are set in it, or has no transformers: then the archive says 1.
    min_gap_ms: quiet on the wire between two exchanges (Modbus keeps t3.5 besides). turnaround_ms: expected between
    question and answer before it is learned; turnaround_ms_max: what is waited for. late_max_ms: how long after a
    time-out a late answer may still come. attempts: how often a repeatable question is asked. preamble: FE bytes in
    front of a DL/T 645 request. tariffs: tariff registers that a block holds behind its total. blocks: beginnings of
    the identifiers whose block the model answers. max_registers: most registers in one request. readable: ranges
    (first, last) within which a request must stay; empty when any hole may be read over.
    power_kw_max: the most that it can measure.
    """

    name: str
    model: str
    family: Family
    protocols: tuple[ProtocolName, ...]
    maturity: Maturity
    sources: tuple[str, ...]
    min_gap_ms: int
    turnaround_ms: int
    turnaround_ms_max: int
    late_max_ms: int
    attempts: int
    preamble: int = 0
    tariffs: int = 0
    blocks: tuple[str, ...] = ()
    max_registers: int = 125
    readable: tuple[tuple[int, int], ...] = ()
    power_kw_max: int = POWER_KW_MAX
    ratios: Ratios = "archive"
    decisions: tuple[Decision, ...] = field(default=(), hash=False)
    items: Mapping[str, ProfileItem] = field(hash=False)


@cache
def profile_names() -> tuple[str, ...]:
    """The names of the models that are shipped, sorted."""
    found = files("drivers.profiles").iterdir()
    return tuple(sorted(entry.name.removesuffix(".toml") for entry in found if entry.name.endswith(".toml")))


@cache
def load_profile(name: str) -> Profile:
    """A shipped model. Raises KeyError when there is none of that name, ConfigError when its file is wrong."""
    if name not in profile_names():
        raise KeyError(f"no profile {name!r}; there are {', '.join(profile_names())}")
    return parse_profile(name, files("drivers.profiles").joinpath(f"{name}.toml").read_text("utf-8"), f"{name}.toml")


def parse_profile(name: str, toml: str, file: str) -> Profile:
    """A model from TOML text; `file` is how mistakes call it. Raises ConfigError with every mistake."""
    try:
        raw = tomllib.loads(toml)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([Mistake(file, "file", "TOML in UTF-8", str(error))]) from None
    mistakes: list[Mistake] = []
    raw_items = raw.pop("items", {})
    raw_decisions = tables(raw, "decision", file=file, mistakes=mistakes) if "decision" in raw else []
    raw.pop("decision", None)
    raw_tables: dict[str, Any] = {table: raw.pop(table, {}) for table in ("timing", "modbus", "dlt645") if table in raw}
    values = read_table(raw, TOP, file=file, where="", mistakes=mistakes) or {}
    family = values.get("protocols", ("modbus",))[0].partition("-")[0]
    for table, keys in (("timing", TIMING[family]), (family, FAMILY[family])):
        given = raw_tables.pop(table, {})
        values |= read_table(given, keys, file=file, where=table, mistakes=mistakes) or {}
    mistakes += [Mistake(file, table, f"no such table in a {family} profile", "one") for table in raw_tables]
    if not isinstance(raw_items, dict):
        mistakes.append(Mistake(file, "items", "a table of quantities", show(raw_items)))
        raw_items = {}
    items: dict[str, ProfileItem] = {}
    if not mistakes:
        read = _dlt645_items if family == "dlt645" else _modbus_items
        for item in read(raw_items, values, file, mistakes):
            items.setdefault(item.quantity.name, item)
    values["decisions"] = tuple(_decisions(raw_decisions, items, file, mistakes))
    if mistakes:
        raise ConfigError(mistakes)
    for used in ("function", "word_order", "settlement_days"):
        values.pop(used, None)
    return Profile(name=name, family=family, items=MappingProxyType(items), **values)


def _protocols(raw: Any) -> tuple[str, ...]:
    found = names(raw)
    if not set(found) <= set(get_args(ProtocolName)) or len({one.partition("-")[0] for one in found}) != 1:
        raise ValueError(f"protocols of one family among {', '.join(get_args(ProtocolName))}")
    return found


def _texts(raw: Any) -> tuple[str, ...]:
    return names(raw) if raw else ()


def _ranges(raw: Any) -> tuple[tuple[int, int], ...]:
    expected = "a list of [first, last] register addresses, rising"
    try:
        found = tuple((int(first), int(last)) for first, last in raw)
    except (TypeError, ValueError):
        raise ValueError(expected) from None
    flat = [address for pair in found for address in pair]
    if flat != sorted(flat) or any(not 0 <= address <= 0xFFFF for address in flat):
        raise ValueError(expected)
    return found


TOP = (
    Key("model", text, REQUIRED, "Maker and model, as printed on the meter."),
    Key("protocols", _protocols, REQUIRED, "The protocols that it speaks, of one family."),
    Key("maturity", choice(*get_args(Maturity)), REQUIRED, "How sure the facts in this file are."),
    Key("sources", names, REQUIRED, "Where each fact comes from: documents with edition, or code with its revision."),
    Key(
        "power_kw_max",
        integer(1, 1_000_000),
        POWER_KW_MAX,
        "The most that it can measure, in kW: energy that rises faster is doubtful.",
    ),
    Key(
        "ratios",
        choice(*get_args(Ratios)),
        "archive",
        "Who makes values primary: archive (its CT and PT) or meter (by ratios set in it, or it has none).",
    ),
)
DECISION = (
    Key("items", names, REQUIRED, "What it is about: names of items, with `*` for any part."),
    Key("chosen", text, REQUIRED, "What this profile takes."),
    Key("why", text, REQUIRED, "The reason."),
    Key("dissent", names, REQUIRED, "What other sources say, each with its source."),
)
"""The keys of a `[[decision]]`."""
_MS = integer(0, 60_000)
TIMING: Mapping[str, tuple[Key, ...]] = {
    # DL/T 645-2007 gives a meter 20 to 500 ms to answer and names no pause between frames.
    # MODBUS over Serial Line V1.02 §2.4.1 leaves the response time-out to the implementation.
    family: (
        Key("min_gap_ms", _MS, gap, "Quiet on the wire between two exchanges."),
        Key("turnaround_ms", _MS, turnaround, "Expected between question and answer, until it is learned."),
        Key("turnaround_ms_max", _MS, longest, "How long the first byte of an answer is waited for."),
        Key("late_max_ms", _MS, late, "How long after a time-out a late answer may still come."),
        Key("attempts", integer(1, 10), 3, "How often a question is asked before its slot is given up."),
    )
    for family, gap, turnaround, longest, late in (("dlt645", 30, 100, 500, 1000), ("modbus", 0, 50, 1000, 1500))
}
FAMILY: Mapping[str, tuple[Key, ...]] = {
    "dlt645": (
        Key("preamble", integer(0, 16), 4, "FE bytes in front of a request."),
        Key("tariffs", integer(0, 63), 0, "Tariff registers behind each total of an energy or demand below."),
        Key("settlement_days", integer(0, 12), 0, "Settlement days that are kept of each energy or demand below."),
        Key("blocks", _texts, [], "Beginnings of the identifiers whose block over tariffs or phases it answers."),
    ),
    "modbus": (
        Key("function", choice("holding", "input"), "holding", "Where registers stand that name no other place."),
        Key("word_order", choice("big", "little"), "big", "Which word of a wide number comes first: high or low."),
        Key("max_registers", integer(4, 125), 125, "Most registers that one request may ask for."),
        Key("readable", _ranges, [], "Ranges of registers that a request must not leave; empty: any hole is read."),
    ),
}


def _decimal(raw: Any) -> Decimal:
    try:
        number = Decimal(raw if isinstance(raw, str) else "")
    except InvalidOperation:
        number = Decimal(0)
    if not number.is_finite() or number == 0:
        raise ValueError('a number in quotes other than 0, such as "0.001"')
    return number


REGISTER = (
    Key("register", integer(0, 0xFFFF), REQUIRED, "The first register, 0-based, as it travels on the wire."),
    Key(
        "type",
        text,
        REQUIRED,
        "uint16, int16, uint32, int32, uint64, int64, float32 or float64; /swap: low word first.",
    ),
    Key("scale", _decimal, "1", "Raw times scale is the value in the quantity's unit."),
    Key("function", choice("holding", "input"), None, "Where it stands, if not where the others do."),
    Key(
        "unavailable",
        _texts,
        [],
        "Raw codes, in hex over the whole width, that mean: no such value; `7FFF----`: whatever stands behind 7FFF.",
    ),
    Key("unit", text, None, "The unit, for a quantity that is not in the catalogue."),
    Key("vendor", text, None, "The number that the vendor's sheet prints for it."),
    Key("agree", integer(0, 99), 0, "How many independent sources say the same."),
)
"""The keys of one item of a Modbus profile."""

FUNCTIONS: Mapping[str, int] = {"holding": 3, "input": 4}
"""Where registers stand, and the function that reads them there."""


def _modbus_items(
    raw: Mapping[str, Any], values: Mapping[str, Any], file: str, mistakes: list[Mistake]
) -> Iterator[ProfileItem]:
    for name, table in raw.items():
        where = f'items."{name}"'
        row = read_table(table, REGISTER, file=file, where=where, mistakes=mistakes)
        if row is None:
            continue
        try:
            quantity = _quantity(name, row["unit"])
            kind, swap = parse_type(row["type"])
            item = Item(
                quantity=quantity, function=FUNCTIONS[row["function"] or values["function"]], address=row["register"],
                format=Format(type=kind, swap=swap or (values["word_order"] == "little" and kind.words > 1),
                              scale=row["scale"], unavailable=codes(kind, row["unavailable"]),
                              unavailable_high=high_words(kind, row["unavailable"])),
            )  # fmt: skip
        except ValueError as error:
            mistakes.append(Mistake(file, where, str(error), show(table)))
            continue
        if not within(item, values["readable"]) or item.end > 0x10000:
            mistakes.append(Mistake(file, where, "registers within the readable ranges", show(table)))
        yield ProfileItem(quantity=quantity, register=item, vendor=row["vendor"] or "", agree=row["agree"])


def _decisions(
    raw: Iterable[tuple[str, Any]], items: Mapping[str, ProfileItem], file: str, mistakes: list[Mistake]
) -> Iterator[Decision]:
    for where, table in raw:
        row = read_table(table, DECISION, file=file, where=where, mistakes=mistakes)
        if row is None:
            continue
        nothing = [one for one in row["items"] if items and not any(fnmatchcase(name, one) for name in items)]
        mistakes += [Mistake(file, f"{where}.items", "names of items, or patterns of some", one) for one in nothing]
        yield Decision(**row)


def _quantity(name: str, unit: str | None) -> Quantity:
    try:
        quantity = by_name(name)
    except KeyError:
        if unit is None:
            raise ValueError("the name of a quantity in the catalogue, or a unit for one of its own") from None
        return Quantity(number=0, name=name, unit=unit, kind=Kind.INSTANT)
    if quantity.form is not Form.NUMBER or unit not in (None, quantity.unit):
        raise ValueError(f"a number in {quantity.unit or 'no unit'}, as the catalogue has {name}")
    return quantity


def within(item: Item, readable: tuple[tuple[int, int], ...]) -> bool:
    """Whether a request for this item stays within one of these ranges (first, last); any does where there are none."""
    return not readable or any(first <= item.address and item.end <= last + 1 for first, last in readable)


def _dlt645_items(
    raw: Mapping[str, Any], values: Mapping[str, Any], file: str, mistakes: list[Mistake]
) -> Iterator[ProfileItem]:
    edition = Edition(values["protocols"][0])
    for name, di in raw.items():
        where = f'items."{name}"'
        known = quantities_of(di, edition) if isinstance(di, str) else ()
        if name not in [quantity.name for quantity in known]:
            expected = f"an identifier of {edition.value} that holds it, in upper-case hex"
            mistakes.append(Mistake(file, where, expected, show(di)))
            continue
        for quantity in known:
            yield ProfileItem(quantity=quantity, di=di)
        if known[0].kind in (Kind.REGISTER, Kind.DEMAND) and name == known[0].name:
            tariffs = values["tariffs"] if name.endswith(".total") else 0
            yield from _variants(di, edition, tariffs, values["settlement_days"])


def _variants(di: str, edition: Edition, tariffs: int, days: int) -> Iterator[ProfileItem]:
    """Tariff and settlement day registers of a total: their identifiers follow from its own.

    2007: DI1 is the tariff, DI0 the day. 1997: the last digit is the tariff; the month adds 4 to the second digit.
    """
    for day in range(days + 1):
        for tariff in range(tariffs + 1):
            if edition is Edition.E2007:
                found = f"{di[:4]}{tariff:02X}{day:02X}"
            elif tariff > 14 or day > 2:
                continue
            else:
                found = f"{di[0]}{int(di[1], 16) + 4 * day:X}{di[2]}{tariff:X}"
            for quantity in quantities_of(found, edition) if tariff or day else ():
                yield ProfileItem(quantity=quantity, di=found)
