"""A share of `make fuzz`; and that its rig sees what it is there to see."""

import json
import os
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from random import Random
from typing import Any

import pytest

from protocols.errors import Malformed
from tests import guided
from tests.fuzz import STAGES
from tests.fuzz_targets import TARGETS
from tests.fuzzing import INPUT_S_MAX, MEMORY_MAX, Case, Finding, blindly, bounded, campaign
from tests.substitution import Substituted

RUNS = 50_000
"""Executions of each decoder."""
RUNS_CONFIG = 2_000
"""The same of a configuration, of which one takes as long as many frames."""
SHARE = 25
"""A seed of the suite is so much smaller than one of `make fuzz`."""
CONFIGS = [name for name in TARGETS if name.startswith("config-")]


@pytest.mark.slow
@pytest.mark.parametrize("name", STAGES)
def test_nothing_that_comes_in_does_harm(name: str) -> None:
    stage, inputs = STAGES[name]
    print(campaign(0, stage=stage, inputs=inputs // SHARE))


@pytest.fixture(scope="module")
def reports(substituted: Substituted) -> dict[str, dict[str, Any]]:
    """What was seen of each target, all of them fuzzed side by side."""
    if not guided.available():
        substituted("atheris", "mutation that follows no coverage")
        return {name: _blind(name) for name in TARGETS}
    found: dict[str, dict[str, Any]] = {}
    for runs, names in ((RUNS, [name for name in TARGETS if name not in CONFIGS]), (RUNS_CONFIG, CONFIGS)):
        done = subprocess.run(
            [sys.executable, "-m", "tests.guided", "--runs", str(runs), *names],
            capture_output=True, text=True, check=False, cwd=guided.ROOT,
        )  # fmt: skip
        assert done.returncode in (0, 1), done.stderr
        found |= {report["target"]: report for report in map(json.loads, done.stdout.splitlines())}
    return found


def _blind(name: str) -> dict[str, Any]:
    runs = RUNS_CONFIG if name in CONFIGS else RUNS
    print(campaign(0, stage=blindly(TARGETS[name]), inputs=runs))
    return {"executions": runs}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", TARGETS)
def test_no_bytes_do_harm_to_a_decoder(name: str, reports: dict[str, dict[str, Any]]) -> None:
    assert "finding" not in reports[name], reports[name]
    assert reports[name]["executions"] == (RUNS_CONFIG if name in CONFIGS else RUNS)


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_a_decoder_takes_what_its_fuzzing_begins_with(name: str) -> None:
    """Else its inputs would never get far. Frames that were recorded damaged are among the seeds, too."""
    target = TARGETS[name]
    assert any(bounded(target.case(seed)) for seed in target.seeds())


@pytest.mark.skipif(not guided.available(), reason="atheris has no wheel for this machine")
def test_the_guided_rig_reports_what_a_decoder_does(tmp_path: Path) -> None:
    (tmp_path / "planted.py").write_text(PLANTED, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "tests.guided", "--module", "planted", *HARM],
        capture_output=True, text=True, check=False, cwd=guided.ROOT, env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    reports = {report["target"]: report for report in map(json.loads, done.stdout.splitlines())}
    assert reports.keys() == HARM.keys()
    for target, why in HARM.items():
        assert why in reports[target]["finding"], reports
        assert bytes.fromhex(reports[target]["input"])[8] & 0x0F == 7
    assert done.returncode == 1


HARM = {"raises": "KeyError: 'behind a checksum'", "dawdles": "ms of processor time, at most 50"}
PLANTED = """
from protocols.dlt645.frame import parse
from tests.fuzz_targets import TARGETS
from tests.fuzzing import Target
from tests.mutation import mended_stream_645


def raises(data):
    if parse(data).control & 0x0F == 7:
        raise KeyError("behind a checksum")


def dawdles(data):
    if parse(data).control & 0x0F == 7:
        sum(range(20_000_000))


TARGETS = {
    harm.__name__: Target(run=harm, seeds=TARGETS["dlt645-frames"].seeds, mend=mended_stream_645)
    for harm in (raises, dawdles)
}
"""


def wrong_error() -> None:
    {}["no such key"]  # type: ignore[index]


def slow() -> None:
    until = time.thread_time() + 1.2 * INPUT_S_MAX
    while time.thread_time() < until:
        pass


def greedy() -> int:
    return len(bytes(MEMORY_MAX + (1 << 20)))


def refused() -> None:
    raise Malformed("as it should be")


@pytest.mark.parametrize(("run", "why"), [(wrong_error, "KeyError"), (slow, "ms of processor"), (greedy, "MiB")])
def test_the_rig_finds_an_input_that(run: object, why: str) -> None:
    def make(random: Random) -> Case:
        return Case(random.randbytes(4), run)  # type: ignore[arg-type]

    with pytest.raises(Finding, match=rf"input 0: .*{why}.*: [0-9a-f]{{8}}$"):
        campaign(1, stage=lambda: nullcontext(make), inputs=1)


def test_an_input_that_is_refused_is_no_finding() -> None:
    assert campaign(1, stage=lambda: nullcontext(lambda _: Case(b"", refused)), inputs=3) == "3 inputs, 3 refused"
