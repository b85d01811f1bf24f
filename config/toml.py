"""Reading a TOML table against a table of keys: every mistake is collected, none stops the reading."""

import json
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from config.mistake import Mistake

_BARE = re.compile(r"[A-Za-z0-9_-]+")
REQUIRED: Final = "required"
"""Stands where a default would, for a key that must be there."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a table: how its value is read, its default as it would stand in the file, and what it is for.

    read takes the raw TOML value and returns what the model holds; it raises ValueError with what was expected.
    default is REQUIRED, or a raw TOML value that `read` takes; None for a key that may be left out and has none.
    field is the name in the model, where it is another.
    """

    name: str
    read: Callable[[Any], Any]
    default: object
    says: str
    field: str = ""

    @property
    def asked(self) -> str:
        """What it is for, behind the word `expected`."""
        return f"{self.says[0].lower()}{self.says[1:].removesuffix('.')}"


def load_toml(path: Path, file: str, mistakes: list[Mistake]) -> dict[str, Any]:
    """The whole file as a dictionary; an empty one, and a mistake, where it cannot be read."""
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        mistakes.append(Mistake(file, "file", "a readable file", error.strerror or str(error)))
    except UnicodeDecodeError as error:
        mistakes.append(Mistake(file, "file", "TOML in UTF-8", not_utf8(error)))
    except tomllib.TOMLDecodeError as error:
        mistakes.append(Mistake(file, "file", "TOML in UTF-8", str(error)))
    return {}


CSV_UTF8: Final = "CSV in UTF-8 (a spreadsheet: save as CSV UTF-8)"
"""What a CSV file has to be."""


def not_utf8(error: UnicodeDecodeError) -> str:
    """What came instead of text, and in which line, so that an editor can go there."""
    byte, line = error.object[error.start], error.object.count(b"\n", 0, error.start) + 1
    return f"byte {byte:02X}, which is not UTF-8, in line {line}"


def spelled(key: str) -> str:
    """A key as it stands in the file: in quotes where it needs them, as an empty one does."""
    return key if _BARE.fullmatch(key) else json.dumps(key, ensure_ascii=False)


def read_table(
    raw: object, keys: Iterable[Key], *, file: str, where: str, mistakes: list[Mistake]
) -> dict[str, Any] | None:
    """The values of a table by the field names of its model, defaults filled in; None where it holds a mistake.

    where is the path of the table as the engineer would write it: `uplink`, `bus[2]`, or empty for the top.
    """
    if not isinstance(raw, dict):
        mistakes.append(Mistake(file, where, "a table", show(raw)))
        return None
    known = {key.name: key for key in keys}
    before = len(mistakes)
    prefix = f"{where}." if where else ""
    expected = f"one of the keys {', '.join(known)}"
    mistakes += [Mistake(file, prefix + spelled(name), expected, "an unknown key") for name in raw if name not in known]
    values: dict[str, Any] = {}
    for name, key in known.items():
        given = raw.get(name, key.default)
        if name not in raw and key.default is REQUIRED:
            mistakes.append(Mistake(file, prefix + name, key.asked, "nothing"))
        elif given is None:
            values[key.field or name] = None
        else:
            try:
                values[key.field or name] = key.read(given)
            except ValueError as error:
                mistakes.append(Mistake(file, prefix + name, str(error), show(given)))
    return None if len(mistakes) > before else values


def tables(raw: Mapping[str, Any], name: str, *, file: str, mistakes: list[Mistake]) -> list[tuple[str, object]]:
    """The tables of an array such as [[bus]], each with its path (`bus[1]`, counted from one)."""
    found = raw.get(name, [])
    if not isinstance(found, list) or not found:
        got = "nothing" if name not in raw else show(found)
        mistakes.append(Mistake(file, name, f"at least one [[{name}]] table", got))
        return []
    return [(f"{name}[{n}]", table) for n, table in enumerate(found, 1)]


def show(value: object) -> str:
    """A raw value for a message: as it stands, but no longer than a line."""
    text = repr(value) if not isinstance(value, bool) else str(value).lower()
    return text if len(text) <= 60 else text[:57] + "..."
