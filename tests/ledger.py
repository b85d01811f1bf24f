"""Campaigns that go on where they stopped: seeds counted up for each, and a ledger of what has been done with them.

The ledger is a file of JSON lines below var/, which git ignores. The campaign that has waited longest is next, in this
run or the one before. A seed that failed does not stop the others; it is told how to be repeated, and the run ends
with exit code 1. A seed that was interrupted is not noted, and comes again.
"""

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

VAR = Path(__file__).resolve().parent.parent / "var"

Campaign = Callable[[int], str]
"""Tries one seed and says in a few words what it saw. Raises, AssertionError mostly, when a promise is broken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One seed of one campaign, done."""

    name: str
    seed: int
    seconds: float
    verdict: str
    """`pass`, or `fail: ` and why."""
    seen: str = ""


class Ledger:
    """What has been done, in a file that only grows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.added: list[Entry] = []
        """By this process: others may write to the same file."""

    def entries(self) -> list[Entry]:
        """All of it. A last line that a kill cut short is no entry."""
        if not self.path.exists():
            return []
        lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
        return [Entry(**json.loads(line)) for line in lines if line.endswith("\n")]

    def add(self, entry: Entry) -> None:
        """Note it."""
        self.added.append(entry)
        line = json.dumps(asdict(entry), ensure_ascii=False)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as file:
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)  # a line that a kill cut short makes room
            file.write(line.encode() + b"\n")

    def of(self, name: str) -> list[Entry]:
        """The entries of one campaign."""
        return [entry for entry in self.entries() if entry.name == name]

    def next_seed(self, name: str, first: int) -> int:
        """The seed after the highest that was tried."""
        return max((entry.seed for entry in self.of(name)), default=first - 1) + 1

    def next_campaign(self, names: Iterable[str]) -> str:
        """The one that has waited longest: never tried before tried, and then in the order given."""
        tried = {entry.name: number for number, entry in enumerate(self.entries())}
        return min(names, key=lambda name: tried.get(name, -1))


def run(campaigns: Mapping[str, Campaign], ledger: Ledger, *, minutes: float, first: int = 1) -> int:
    """Try one campaign after the other, each with its next seed, until the time is over; how many failed.

    A campaign that began is ended. One at least is tried.
    """
    ends = time.monotonic() + minutes * 60
    failed = 0
    while True:
        name = ledger.next_campaign(campaigns)
        failed += not attempt(name, campaigns[name], ledger.next_seed(name, first), ledger)
        if time.monotonic() >= ends:
            return failed


def attempt(name: str, campaign: Campaign, seed: int, ledger: Ledger) -> bool:
    """Try one seed, say what it is and what came of it, and note it; whether it passed."""
    before = ledger.of(name)
    last = f" ({before[-1].seconds:.0f} s the last time)" if before else ""
    print(f"{name}, seed {seed}{last}: {_what(campaign)}", flush=True)
    began, seen, verdict = time.monotonic(), "", "pass"
    try:
        seen = campaign(seed)
    except Exception as error:  # a campaign may break in any way; each of them is a finding
        traceback.print_exc()
        verdict = f"fail: {type(error).__name__}: {error}"[:500]
    seconds = round(time.monotonic() - began, 3)
    ledger.add(Entry(name=name, seed=seed, seconds=seconds, verdict=verdict, seen=seen))
    told = f"passed: {seen}" if verdict == "pass" else verdict
    print(f"{name}, seed {seed}, after {seconds:.0f} s: {told}", flush=True)
    return verdict == "pass"


def _what(campaign: Campaign) -> str:
    """The first line of what its author wrote of it."""
    while isinstance(campaign, partial):
        campaign = campaign.func
    return (campaign.__doc__ or "").partition("\n")[0]


def main(
    module: str,
    campaigns: Mapping[str, Campaign],
    arguments: Sequence[str] | None = None,
    *,
    summary: Callable[[Sequence[Entry]], str] | None = None,
) -> int:
    """The command line of `python -m MODULE`: 1 if a seed failed. summary: says at the end what all entries come to."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}")
    parser.add_argument("--minutes", type=float, default=40.0, help="begin nothing new after so long (40)")
    parser.add_argument("--only", choices=list(campaigns), help="this campaign alone")
    parser.add_argument("--seed", type=int, help="this seed alone, with --only: repeats what failed")
    parser.add_argument("--ledger", type=Path, default=VAR / f"{module.rpartition('.')[2]}.jsonl")
    options = parser.parse_args(arguments)
    if options.seed is not None and options.only is None:
        parser.error("--seed needs --only")
    ledger = Ledger(options.ledger)
    chosen = {name: campaigns[name] for name in ([options.only] if options.only else campaigns)}
    stopped = False
    try:
        if options.seed is not None:
            attempt(options.only, campaigns[options.only], options.seed, ledger)
        else:
            print(f"{len(chosen)} campaigns; none is begun after {options.minutes:g} minutes, what has begun is ended")
            run(chosen, ledger, minutes=options.minutes)
    except KeyboardInterrupt:
        stopped = True
        print("interrupted: this seed is not noted, and comes again", file=sys.stderr)
    done = ledger.added
    failed = [entry for entry in done if entry.verdict != "pass"]
    for entry in failed:
        print(f"failed: repeat it with: python -m {module} --only {entry.name} --seed {entry.seed}", file=sys.stderr)
    print(f"{len(done)} seeds in this run, {len(failed)} failed; next: {ledger.next_campaign(campaigns)}")
    if summary is not None:
        print(summary(ledger.entries()))
    print(f"noted in {ledger.path}")
    return 1 if failed or stopped else 0
