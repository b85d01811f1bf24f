"""`python -m bench [NAME ...]`: the benchmarks, one JSON line a figure; without names all, each in its own process.

Exits with 1 when a figure does not keep its bound, with 2 for a name that there is not.
"""

import importlib
import subprocess
import sys
from typing import cast

from bench.figure import Bench

NAMES = (
    "uplink", "body", "decode", "append", "wear", "chain", "landing", "utilisation", "modbus_cpu", "fleet", "start",
    "metered", "daemon",
)  # fmt: skip
"""Modules of this package; those that need a quiet machine least come first."""


def run(name: str) -> bool:
    """One benchmark, in this process: prints its figures, returns whether all keep their bounds."""
    bench = cast(Bench, importlib.import_module(f"bench.{name}"))
    good = True
    for figure in bench.run():
        print(figure.line(), flush=True)
        good = good and figure.ok
    return good


def main(names: list[str]) -> int:
    """The benchmarks of these names; the exit code."""
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        print(f"no benchmark {', '.join(unknown)}; there are {', '.join(NAMES)}", file=sys.stderr)
        return 2
    if len(names) == 1:
        return 0 if run(names[0]) else 1
    codes = [subprocess.run([sys.executable, "-m", "bench", name], check=False).returncode for name in names or NAMES]
    return max(codes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
