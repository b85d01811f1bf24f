"""The meter archive: one row a meter, in a CSV file as a spreadsheet writes it (UTF-8, with or without a mark)."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, get_args

from config.mistake import Mistake
from config.model import BusEntry, MeterEntry, Priority, ProtocolName, TaskEntry
from config.toml import CSV_UTF8, not_utf8, show
from config.values import address as address_of
from config.values import choice, name, ratio, serial

COLUMNS: Mapping[str, str] = {
    "meter": "The meter's id, unique in the fleet (required).",
    "point": "The measuring point that it serves; empty: the same as the meter.",
    "bus": "The name of its bus (required).",
    "address": "12 digits for DL/T 645, 1..247 for Modbus, 0..255 for Modbus TCP (required).",
    "profile": "The meter's model, one of the profiles (required).",
    "protocol": "dlt645-2007, dlt645-1997, modbus-rtu, modbus-tcp or modbus-ascii (required).",
    "serial": "Its own line settings such as 9600-8N1; empty: those of the bus.",
    "tasks": "The tasks that read it, separated by semicolons; empty: every task.",
    "priority": "normal or priority; empty: normal.",
    "ct": "Current transformer ratio; empty: 1.",
    "pt": "Voltage transformer ratio; empty: 1.",
}
"""Every column of the file, with its sentence."""

REQUIRED_COLUMNS = ("meter", "bus", "address", "profile", "protocol")
METERS_MAX = 4096
"""Rows that are read; a gateway serves some hundreds of meters, so more is another file by mistake."""

_PROTOCOLS: tuple[str, ...] = get_args(ProtocolName)


@dataclass(slots=True)
class _Row:
    """A row being read: its cells, where it stands, and where its mistakes go."""

    cells: Mapping[str, str]
    file: str
    line: int
    mistakes: list[Mistake]

    def wrong(self, column: str, expected: str, got: str) -> None:
        self.mistakes.append(Mistake(self.file, f"row {self.line}, {column}", expected, got))

    def read(self, column: str, reader: Any, default: Any = None) -> Any:
        """The cell's value; the default where it is empty, or None after a mistake."""
        cell = self.cells.get(column, "")
        if not cell:
            if column in REQUIRED_COLUMNS:
                self.wrong(column, COLUMNS[column].rstrip("."), "an empty cell")
            return default
        try:
            return reader(cell)
        except ValueError as error:
            self.wrong(column, str(error), show(cell))
            return default


def load_meters(
    path: Path,
    *,
    buses: Mapping[str, BusEntry],
    tasks: Mapping[str, TaskEntry],
    complete: bool,
    mistakes: list[Mistake],
) -> list[MeterEntry]:
    """The meters of the archive; what is wrong with it goes to `mistakes`.

    complete: whether all buses and tasks of the site file could be read; where not, a name that is not among them
    may be one of the unreadable ones, and is not called a mistake.
    """
    file = str(path)
    meters: list[MeterEntry] = []
    before = len(mistakes)
    rows = _rows(path, file, mistakes)
    for row in rows:
        meter = _meter(row, buses, tasks, complete)
        if meter is not None:
            meters.append(meter)
    if not rows and len(mistakes) == before:
        mistakes.append(Mistake(file, "file", "at least one meter", "none"))
    _check_together(rows, buses, mistakes)
    return meters


def _rows(path: Path, file: str, mistakes: list[Mistake]) -> list[_Row]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        mistakes.append(Mistake(file, "file", "a readable file", error.strerror or str(error)))
        return []
    except UnicodeDecodeError as error:
        mistakes.append(Mistake(file, "file", CSV_UTF8, not_utf8(error)))
        return []
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        return _read_rows(reader, file, mistakes)
    except csv.Error as error:
        mistakes.append(Mistake(file, f"row {reader.line_num}", "CSV as a spreadsheet writes it", str(error)))
        return []


def _read_rows(reader: Any, file: str, mistakes: list[Mistake]) -> list[_Row]:
    header = [column.strip().lower() for column in next(reader, [])]
    missing = [column for column in REQUIRED_COLUMNS if column not in header]
    unknown = [column for column in header if column not in COLUMNS]
    if missing:
        mistakes.append(Mistake(file, "row 1", f"the column {', '.join(missing)}", _shortened(header)))
    if unknown or len(set(header)) != len(header):
        expected = f"columns among {','.join(COLUMNS)}, none twice"
        mistakes.append(Mistake(file, "row 1", expected, _shortened(unknown or header)))
    if missing:
        return []
    rows: list[_Row] = []
    for cells in reader:
        if not any(cell.strip() for cell in cells) or cells[0].lstrip().startswith("#"):
            continue
        if len(rows) == METERS_MAX:
            mistakes.append(Mistake(file, f"row {reader.line_num}", f"at most {METERS_MAX} meters", "more"))
            break
        row = _Row({c: v.strip() for c, v in zip(header, cells, strict=False)}, file, reader.line_num, mistakes)
        if len(cells) > len(header):
            row.wrong("end", f"{len(header)} cells", f"{len(cells)}")
        rows.append(row)
    return rows


def _shortened(columns: Sequence[str]) -> str:
    """Names of columns for a message, as far as a line goes: the file may be anything."""
    text = ", ".join(column or "an empty name" for column in columns)
    text = "".join(letter if letter.isprintable() else "?" for letter in text[:200])
    return (text if len(text) < 200 else f"{text[:197]}...") or "nothing"


def _meter(
    row: _Row, buses: Mapping[str, BusEntry], tasks: Mapping[str, TaskEntry], complete: bool
) -> MeterEntry | None:
    before = len(row.mistakes)
    meter = row.read("meter", name)
    point = row.read("point", name, meter)
    bus = row.read("bus", name)
    if bus is not None and bus not in buses and complete:
        row.wrong("bus", f"one of {', '.join(buses)}", show(bus))
    protocol = row.read("protocol", choice(*_PROTOCOLS))
    address = row.read("address", lambda cell: _address(cell, protocol)) if protocol else row.cells.get("address")
    values = {
        "profile": row.read("profile", name),
        "serial": row.read("serial", serial),
        "tasks": tuple(dict.fromkeys(t.strip() for t in row.cells.get("tasks", "").split(";") if t.strip())),
        "priority": row.read("priority", choice(*get_args(Priority)), "normal"),
        "ct": row.read("ct", ratio, ratio(1)),
        "pt": row.read("pt", ratio, ratio(1)),
    }
    for task in values["tasks"]:
        if task not in tasks and complete:
            row.wrong("tasks", f"tasks among {', '.join(tasks)}", show(task))
    if len(row.mistakes) > before:
        return None
    known = tuple(task for task in values["tasks"] or tasks if task in tasks)
    for expected, got in _apart(known, tasks):
        if all((told.expected, told.got) != (expected, got) for told in row.mistakes):  # told once, of the first row
            row.wrong("tasks", expected, got)
    if bus not in buses or len(row.mistakes) > before:
        return None
    values["tasks"] = known
    return MeterEntry(id=meter, point=point, bus=bus, protocol=protocol, address=str(address), **values)


def _apart(names: Sequence[str], tasks: Mapping[str, TaskEntry]) -> Iterator[tuple[str, str]]:
    """Tasks of one meter that would read an item twice at one slot, at different moments: two truths for one stamp."""
    for first, second in combinations(names, 2):
        shared = set(tasks[first].items) & set(tasks[second].items)
        if shared and tasks[first].offset_s != tasks[second].offset_s:
            offsets = f"{tasks[first].offset_s} s and {tasks[second].offset_s} s"
            expected = f"one offset of the tasks {first} and {second}, which share {', '.join(sorted(shared))}"
            yield expected, offsets


def _address(cell: str, protocol: str) -> str:
    try:
        return address_of(cell, protocol)
    except ValueError:
        if protocol.startswith("dlt645"):
            raise ValueError("12 digits (a spreadsheet drops leading zeros: format the column as text)") from None
        raise


def _check_together(rows: Sequence[_Row], buses: Mapping[str, BusEntry], mistakes: list[Mistake]) -> None:
    """What only shows when rows are seen side by side: ids and addresses twice, protocols that cannot share a bus."""
    ids: dict[str, int] = {}
    places: dict[tuple[str, str, str], int] = {}
    framings: dict[str, tuple[str, int]] = {}
    for row in rows:
        meter, bus, protocol, address = (row.cells.get(c, "") for c in ("meter", "bus", "protocol", "address"))
        if meter and ids.setdefault(meter, row.line) != row.line:
            row.wrong("meter", "an id that no other row has", f"{show(meter)}, as in row {ids[meter]}")
        place = (bus, protocol.partition("-")[0], address)
        if all(place) and places.setdefault(place, row.line) != row.line:
            row.wrong("address", f"an address of its own on bus {bus}", f"{address}, as in row {places[place]}")
        if bus not in buses or protocol not in _PROTOCOLS:
            continue
        tcp = protocol == "modbus-tcp"
        if tcp and not buses[bus].port.startswith("tcp://"):
            row.wrong("protocol", f"a serial protocol on {buses[bus].port}", protocol)
        first, line = framings.setdefault(bus, (protocol, row.line))
        if tcp != (first == "modbus-tcp"):
            row.wrong("protocol", f"modbus-tcp on a bus of its own (row {line} has {first})", protocol)
