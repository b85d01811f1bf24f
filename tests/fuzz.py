"""Every codec against bytes that nobody promised anything about: `python -m tests.fuzz --minutes N`, or `make fuzz`.

Goes on where the last run stopped. A seed stands for so many inputs: valid ones damaged, most with lengths, checksums,
seals and signatures mended, so that the damage gets far. What may come of one is a result that holds together, or a
ProtocolError: any other exception, more than 50 ms of processor time or 32 MiB of memory is a finding. The decoders are
fuzzed along their coverage (`tests.guided`) where atheris is there, and blindly where it is not.
"""

import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from functools import partial

from tests import fuzz_centre, fuzz_wire, guided
from tests.fuzz_targets import TARGETS
from tests.fuzzing import Finding, Stage, blindly, campaign
from tests.ledger import VAR, Campaign, Entry, main

STAGES: Mapping[str, tuple[Stage, int]] = {
    "dialogue": (lambda: nullcontext(fuzz_wire.dialogue), 5_000),
    "landing": (fuzz_centre.landing, 4_000),
}
"""What is more than one decoder: what makes the inputs, and how many of them a seed stands for."""
RUNS = 100_000
"""Executions of a target that a seed stands for: some tens of seconds."""
GOAL = 10_000_000
_EXECUTIONS = re.compile(r"(\d+) executions")


def follow(seed: int, *, name: str) -> str:
    """Fuzz one target along its coverage, from what earlier seeds have reached. Raises Finding."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.guided", "--runs", str(RUNS), "--seed", str(seed), "--corpus",
         str(VAR / "corpus"), name],
        capture_output=True, text=True, check=False, cwd=guided.ROOT,
    )  # fmt: skip
    if done.returncode not in (0, 1) or not done.stdout:
        raise RuntimeError(f"tests.guided ended with code {done.returncode}: {done.stderr[-1000:]}")
    report = json.loads(done.stdout)
    if "finding" in report:
        raise Finding(f"{report['finding']}: {report.get('input', '')}")
    return f"{report['executions']} executions, {report['refused']} refused, grown by {report['grown_kib']} KiB"


def reached(entries: Iterable[Entry]) -> str:
    """How many executions along coverage the ledger holds."""
    count = sum(int(found[1]) for entry in entries if (found := _EXECUTIONS.match(entry.seen)))
    return f"{count:,} of {GOAL:,} executions along coverage"


CAMPAIGNS: Mapping[str, Campaign] = {
    **{name: partial(campaign, stage=stage, inputs=inputs) for name, (stage, inputs) in STAGES.items()},
    **{
        name: partial(follow, name=name)
        if guided.available()
        else partial(campaign, stage=blindly(target), inputs=RUNS)
        for name, target in TARGETS.items()
    },
}

if __name__ == "__main__":
    logging.disable()  # the landing would report each of thousands
    sys.exit(main("tests.fuzz", CAMPAIGNS, summary=reached))
