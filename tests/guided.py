"""Fuzzing that follows coverage: `python -m tests.guided --runs N TARGET...`, each target in a process of its own.

libFuzzer, through atheris, keeps what reaches new code and goes on from there. Half of its changes are its own and half
those of `tests.mutation`; most are mended, so that they get past lengths and checksums. One JSON line for each target
says what was seen; a target that broke a promise has `finding` in it, and the exit code is 1. The processes share what
they have imported: one is begun, reads and instruments the code, and the others come from it by fork.
"""

import argparse
import io
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stderr
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from tests.scratch import scratch

if TYPE_CHECKING:
    from tests.fuzzing import Target

ROOT = Path(__file__).resolve().parent.parent
INSTRUMENTED = ["protocols", "config", "central.config"]
MEMORY_EVERY = 2000
FLAT_MAX = 24 << 20
"""Bytes by which a process may grow in the last three quarters of its inputs. libFuzzer keeps what is new in memory."""
RSS_MIB_MAX = 700
HANG_S = 60
SCRATCH_MB = 20
"""A corpus, and the files that a configuration is read from, written anew for each input."""


def available() -> bool:
    """Whether this machine has atheris: there are wheels for some only."""
    return find_spec("atheris") is not None


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line: 1 if there is a finding."""
    parser = argparse.ArgumentParser(prog="python -m tests.guided")
    parser.add_argument("targets", nargs="+")
    parser.add_argument("--runs", type=int, default=50_000, help="executions of each target (50000)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at once")
    parser.add_argument("--corpus", type=Path, help="go on from what is here, and keep here what is new")
    parser.add_argument("--module", default="tests.fuzz_targets", help="where TARGETS is")
    parser.add_argument("--plain", action="store_true", help="judge each line of hex that comes in, without coverage")
    options = parser.parse_args(arguments)
    if options.plain:
        return _plain(import_module(options.module).TARGETS[options.targets[0]])
    import atheris  # only the machines that have it come here

    began = time.monotonic()
    with redirect_stderr(io.StringIO()), atheris.instrument_imports(include=INSTRUMENTED):  # it names every module
        targets = import_module(options.module).TARGETS
    print(f"instrumented in {time.monotonic() - began:.1f} s", file=sys.stderr)
    logging.disable()
    with scratch(SCRATCH_MB) as directory:
        tempfile.tempdir = str(directory)
        broken = 0
        for report in _all(targets, options, directory):
            print(json.dumps(report), flush=True)
            broken += "finding" in report
    return 1 if broken else 0


def _plain(target: "Target") -> int:
    """Say of each input, in a line, what is wrong with it, or nothing. Then nothing slows it down but the machine."""
    from tests.fuzzing import bounded

    for line in sys.stdin:
        try:
            bounded(target.case(bytes.fromhex(line)), memory=True)
            wrong = ""
        except Exception as error:  # whatever it is, it is no ProtocolError
            wrong = f"{type(error).__name__}: {error}"[:400]
        print(wrong.replace("\n", " "), flush=True)
    return 0


def _all(targets: Mapping[str, "Target"], options: argparse.Namespace, directory: Path) -> Iterator[dict[str, Any]]:
    """The reports as they come in."""
    waiting, running = list(options.targets), dict[int, str]()
    while waiting or running:
        while waiting and len(running) < options.jobs:
            name = waiting.pop(0)
            child = os.fork()
            if child == 0:
                _child(name, targets[name], options, directory)
            running[child] = name
        child, status = os.wait()
        name = running.pop(child)
        yield _report(name, os.waitstatus_to_exitcode(status), directory)


def _report(name: str, code: int, directory: Path) -> dict[str, Any]:
    report = directory / f"{name}.json"
    if report.exists():
        told: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
        return told
    said = (directory / f"{name}.log").read_text(encoding="utf-8", errors="replace")
    return {"target": name, "finding": f"ended with code {code}: {said[-1500:]}"}


def _child(name: str, target: "Target", options: argparse.Namespace, directory: Path) -> None:
    """Fuzz one target; never returns."""
    log = os.open(directory / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 2)
    os.dup2(log, 1)
    try:
        _fuzz(name, target, options, directory)
    except BaseException:  # it ends here, and what it says is read by whoever waits for it
        traceback.print_exc()
    os._exit(70)


class _Trial:
    """What is done with each input, and what has been seen so far."""

    def __init__(self, name: str, target: "Target", runs: int, report: Path, module: str) -> None:
        self._name, self._target, self._runs, self._report, self._module = name, target, runs, report, module
        self._done = self._refused = self._before = 0
        self._began = time.monotonic()
        self._judge: subprocess.Popen[str] | None = None

    def __call__(self, data: bytes) -> None:
        from tests.fuzzing import TooLong, bounded

        try:
            taken = bounded(self._target.case(data), memory=self._done % MEMORY_EVERY == 1, runs=1)
        except TooLong:
            self._plainly(data)
            taken = False
        except Exception as error:
            self._tell(finding=f"{type(error).__name__}: {error}"[:400], input=data.hex())
            raise
        self._done += 1
        self._refused += not taken
        if self._done == self._runs // 4:
            self._before = _resident()
        if self._done >= self._runs:
            grown = _resident() - self._before
            wrong = {"finding": f"grown by {grown >> 20} MiB"} if grown > FLAT_MAX else {}
            self._tell(grown_kib=grown >> 10, **wrong)
            os._exit(0)

    def _plainly(self, data: bytes) -> None:
        """The input again in a process that nothing slows down: only if it is too slow there, too, is it a finding."""
        if self._judge is None:
            self._judge = subprocess.Popen(
                [sys.executable, "-m", "tests.guided", "--plain", "--module", self._module, self._name],
                cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
        assert self._judge.stdin is not None
        assert self._judge.stdout is not None
        self._judge.stdin.write(data.hex() + "\n")
        self._judge.stdin.flush()
        wrong = self._judge.stdout.readline()
        if not wrong:
            raise RuntimeError("the plain process has ended")
        if wrong := wrong.strip():
            self._tell(finding=wrong, input=data.hex())
            raise RuntimeError(wrong)

    def _tell(self, **more: object) -> None:
        seconds = round(time.monotonic() - self._began, 1)
        told = {
            "target": self._name,
            "executions": self._done,
            "refused": self._refused,
            "seconds": seconds,
            "cpu": round(time.process_time(), 1),
            **more,
        }
        self._report.write_text(json.dumps(told), encoding="utf-8")


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGESIZE")


def _fuzz(name: str, target: "Target", options: argparse.Namespace, directory: Path) -> None:
    import atheris

    seeds = list(target.seeds())
    corpus = (options.corpus or directory / "corpus") / name
    given = directory / f"{name}.seeds"
    for kept in (corpus, given):
        kept.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds):
        (given / f"{number:04}").write_bytes(seed[: target.size_max])

    def mutator(data: bytes, size_max: int, seed: int) -> bytes:
        random = Random(seed)
        if random.randrange(2):
            return target.damaged(random, data, seeds)[:size_max]
        changed: bytes = atheris.Mutate(data, size_max)
        return (target.mend(random, changed) if random.randrange(4) else changed)[:size_max]

    atheris.Setup(
        ["fuzz", f"-seed={options.seed}", f"-max_len={target.size_max}", "-len_control=0", f"-timeout={HANG_S}",
         f"-rss_limit_mb={RSS_MIB_MAX}", f"-artifact_prefix={directory}/{name}-", str(corpus), str(given)],
        _Trial(name, target, options.runs, directory / f"{name}.json", options.module),
        custom_mutator=mutator,
    )  # fmt: skip
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
