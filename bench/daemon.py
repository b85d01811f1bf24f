"""What `meterwire run` weighs with 8 buses by 64 meters, and what it costs while nothing is due."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

from bench.figure import Figure
from bench.rig import CURVE, Rig, rig

MIB_MAX = 64.0
IDLE_S = 20.0
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


def run() -> Iterator[Figure]:
    """Memory once a whole round has been read, sealed, sent and receipted; then the processor, without work."""
    with rig() as made:
        yield from measure(made)


def measure(made: Rig, idle_s: float = IDLE_S) -> Iterator[Figure]:
    """The same for any size of site; the gateway runs at the end."""
    made.start()
    captured = made.settled()
    memory = memory_mib(made.gateway.pid)
    yield Figure(
        bench="daemon", what=f"VmRSS, all read and receipted, {made.size}", figure=memory["VmRSS"], unit="MiB",
        at_most=MIB_MAX, more={"captures": captured, "uplink": made.uplink, "RssAnon": memory["RssAnon"]},
    )  # fmt: skip
    yield Figure(
        bench="daemon", what=f"VmHWM, the most it ever was, {made.size}", figure=memory["VmHWM"], unit="MiB",
        at_most=MIB_MAX,
    )  # fmt: skip
    yield Figure(
        bench="daemon", what=f"processor, nothing due, {made.size}", figure=_idle(made, idle_s), unit="% of a core",
        more={"seconds": idle_s},
    )  # fmt: skip


def memory_mib(pid: int | None) -> dict[str, float]:
    """The lines of /proc/PID/status that speak of resident memory, in MiB."""
    lines = (line.split() for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines())
    return {
        line[0][:-1]: round(int(line[1]) / 1024, 2) for line in lines if line[0].startswith(("VmRSS", "VmHWM", "Rss"))
    }


def _idle(made: Rig, seconds: float) -> float:
    """Percent of one core, user and system, over so many seconds within a slot."""
    left = CURVE.every_s - time.time() % CURVE.every_s
    if left < seconds + 1:
        time.sleep(left + 5)
        made.settled()
    before = processor_s(made.gateway.pid)
    began = time.monotonic()
    time.sleep(seconds)
    return 100 * (processor_s(made.gateway.pid) - before) / (time.monotonic() - began)


def processor_s(pid: int | None) -> float:
    """User and system time of a process so far: by the scheduler's nanoseconds where the kernel keeps them
    (schedstat of each thread), else by clock ticks of 10 ms (proc(5): fields 14 and 15 of stat)."""
    process = Path(f"/proc/{pid}")
    threads = [path.read_text(encoding="ascii").split()[0] for path in process.glob("task/*/schedstat")]
    if threads:
        return sum(map(int, threads)) / 1e9
    fields = (process / "stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS
