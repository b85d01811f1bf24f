"""What simulated meters served: the first of the three logs that the truth check holds against each other."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """One reply that a meter sent. at_ms: UTC, when its last byte was on the wire.

    intact: whether its frame was delivered as the meter sent it, whatever stood around it. values: by name of the
    quantity, as the register showed them; what the meter has not is left out. An answer in several frames is served by
    its last one.
    """

    meter: str
    at_ms: int
    intact: bool
    values: dict[str, str]


class ServedLog:
    """Keeps what was served: in a file, one JSON object a line, or in memory when there is no file."""

    def __init__(self, path: Path | None = None) -> None:
        self.entries: list[Served] = []
        self.replies = 0
        self._file: IO[str] | None = path.open("a", encoding="utf-8") if path is not None else None

    def add(self, served: Served) -> None:
        """Take note of a reply. A line in the file is complete at once: its reader may come after a SIGKILL."""
        self.replies += 1
        if self._file is None:
            self.entries.append(served)
        else:
            line = {"meter": served.meter, "at_ms": served.at_ms, "intact": served.intact, "values": served.values}
            self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
            self._file.flush()

    def close(self) -> None:
        """Let go of the file; may be called twice."""
        if self._file is not None:
            self._file.close()


def read_served(path: Path) -> Iterator[Served]:
    """The entries of a file, in the order in which they were served. A last line without its end is left out."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.endswith("\n"):
                yield Served(**json.loads(line))
