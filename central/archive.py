"""The utility's own list of its meters: a CSV file that says what a meter belongs to (area, class, transformer).

The centre does not keep it. What a meter belongs to changes in the marketing system, and a report takes it from there.
"""

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path

from config.mistake import ConfigError, Mistake
from config.toml import CSV_UTF8, not_utf8

METER = "meter"
"""The column that names the meter, as in the tables."""
METERS_MAX = 5_000_000


def read_groups(path: Path, column: str) -> Mapping[str, str]:
    """By meter, what stands in this column; empty where nothing does. Raises ConfigError with every mistake."""
    file = str(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ConfigError([Mistake(file, "file", "a readable file", error.strerror or str(error))]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([Mistake(file, "file", CSV_UTF8, not_utf8(error))]) from error
    reader = csv.reader(io.StringIO(text, newline=""))
    mistakes: list[Mistake] = []
    groups: dict[str, str] = {}
    try:
        header = [name.strip() for name in next(reader, [])]
        missing = [name for name in (METER, column) if header.count(name) != 1]
        if missing:
            raise ConfigError(
                [Mistake(file, "row 1", f"the column {name}", ", ".join(header) or "nothing") for name in missing]
            )
        for meter, group in _pairs(reader, header.index(METER), header.index(column)):
            if groups.setdefault(meter, group) != group:
                where = f"row {reader.line_num}"
                mistakes.append(Mistake(file, where, f"{meter} in {groups[meter] or '-'}, as before", group or "-"))
            if len(groups) > METERS_MAX:
                raise ConfigError([Mistake(file, f"row {reader.line_num}", f"at most {METERS_MAX} meters", "more")])
    except csv.Error as error:
        mistakes.append(Mistake(file, f"row {reader.line_num}", "CSV as a spreadsheet writes it", str(error)))
    if mistakes:
        raise ConfigError(mistakes)
    return groups


def _pairs(rows: Iterator[list[str]], meter: int, group: int) -> Iterator[tuple[str, str]]:
    for cells in rows:
        if len(cells) > meter and (name := cells[meter].strip()):
            yield name, cells[group].strip() if len(cells) > group else ""
