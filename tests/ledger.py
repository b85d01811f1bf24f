"""Campaigns that go on where they stopped: seeds counted up for each, and a ledger of what has been done with them.

The ledger is a file of JSON lines below var/, which git ignores. A seed that failed does not stop the others; it is
told how to be repeated, and the run ends with exit code 1.
"""

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
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

    def entries(self) -> list[Entry]:
        """All of it. A last line that a kill cut short is no entry."""
        if not self.path.exists():
            return []
        lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
        return [Entry(**json.loads(line)) for line in lines if line.endswith("\n")]

    def add(self, entry: Entry) -> None:
        """Note it and print it, as the same line."""
        line = json.dumps(asdict(entry), ensure_ascii=False)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as file:
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)  # a line that a kill cut short makes room
            file.write(line.encode() + b"\n")
        print(line, flush=True)

    def next_seed(self, name: str, first: int) -> int:
        """The seed after the highest that was tried."""
        return max((entry.seed for entry in self.entries() if entry.name == name), default=first - 1) + 1


def run(campaigns: Mapping[str, Campaign], ledger: Ledger, *, minutes: float, first: int = 1) -> int:
    """Try the campaigns in turn, each with its next seed, until the time is over; how many failed.

    A campaign that began is ended. Each is tried at least once.
    """
    ends = time.monotonic() + minutes * 60
    failed = rounds = 0
    while rounds == 0 or time.monotonic() < ends:
        for name, campaign in campaigns.items():
            if rounds and time.monotonic() >= ends:
                break
            failed += not attempt(name, campaign, ledger.next_seed(name, first), ledger)
        rounds += 1
    return failed


def attempt(name: str, campaign: Campaign, seed: int, ledger: Ledger) -> bool:
    """Try one seed and note what came of it; whether it passed."""
    began, seen, verdict = time.monotonic(), "", "pass"
    try:
        seen = campaign(seed)
    except Exception as error:  # a campaign may break in any way; each of them is a finding
        traceback.print_exc()
        verdict = f"fail: {type(error).__name__}: {error}"[:500]
    seconds = round(time.monotonic() - began, 3)
    ledger.add(Entry(name=name, seed=seed, seconds=seconds, verdict=verdict, seen=seen))
    return verdict == "pass"


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
    before = len(ledger.entries())
    if options.seed is not None:
        failed = int(not attempt(options.only, campaigns[options.only], options.seed, ledger))
    else:
        failed = run(chosen, ledger, minutes=options.minutes)
    entries = ledger.entries()
    done = entries[before:]
    for entry in done:
        if entry.verdict != "pass":
            print(
                f"failed: repeat it with: python -m {module} --only {entry.name} --seed {entry.seed}", file=sys.stderr
            )
    print(f"{module}: {len(done)} seeds, {failed} failed; {ledger.path}", file=sys.stderr)
    if summary is not None:
        print(f"{module}: {summary(entries)}", file=sys.stderr)
    return 1 if failed else 0
