"""What others had of the machine while something of ours was timed: where it is shared, a time that we are held to is
as much longer; on a machine of our own it is what it is."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_TICKS_S = os.sysconf("SC_CLK_TCK")
_BUSY = (0, 1, 2, 5, 6, 7)
"""Of /proc/stat, proc(5): user, nice, system, irq, softirq and steal; idle and waiting for a disk are nobody's."""
_PARENT, _TIMES = 1, slice(11, 15)
"""Of /proc/PID/stat behind the name: the parent, and the processor time of the process and of its ended children."""


@dataclass
class Others:
    """Known when the block has ended."""

    share: float = 0.0
    """Of all processors and all of the time."""

    @property
    def slower(self) -> float:
        """How many times as long whoever has the rest takes at most; 1.0 where there are no others."""
        return 1 / max(1 - self.share, 0.01)


@contextmanager
def others() -> Iterator[Others]:
    """Watches as long as the block lasts. Ours are this process and its children, theirs included."""
    found = Others()
    busy, ours, began = _busy_s(), ours_s(), _now_s()
    yield found
    all_of_it = (_now_s() - began) * (os.cpu_count() or 1)
    found.share = max(0.0, (_busy_s() - busy) - (ours_s() - ours)) / all_of_it


def _now_s() -> float:
    return float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])


def _busy_s() -> float:
    ticks = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:]
    return sum(int(ticks[place]) for place in _BUSY) / _TICKS_S


def ours_s() -> float:
    """Processor time of this process and all below it."""
    parents: dict[int, int] = {}
    spent: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            continue  # it has ended, and its parent counts what it spent
        parents[int(entry.name)] = int(fields[_PARENT])
        spent[int(entry.name)] = sum(map(int, fields[_TIMES]))
    ours = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in ours} - ours:
        ours |= more
    return sum(spent.get(pid, 0) for pid in ours) / _TICKS_S
