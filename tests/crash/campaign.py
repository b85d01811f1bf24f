"""A campaign: some lives on recorded disks, and a power cut at each point of each, with several outcomes."""

import random
import shutil
from dataclasses import dataclass
from pathlib import Path

from buffer.sqlite import Synchronous
from tests.crash.recording import Disk, Recording
from tests.crash.scenario import Finding, judge, live


@dataclass
class Account:
    """What a campaign found: images, and how many of them had lost, doubled or damaged what was accepted."""

    seed: int
    images: int = 0
    accepted: int = 0
    lost: int = 0
    doubled: int = 0
    corrupt: int = 0
    first: str = ""
    """The first bad image: its life's seed, the point of the cut, and what was wrong."""


async def campaign(scratch: Path, *, seed: int, images: int, steps: int = 60, synchronous: Synchronous = "FULL",
                   images_per_life: int = 125) -> Account:  # fmt: skip
    """Draw `images` images, spread over lives of `steps` steps. Everything follows from the seed."""
    account = Account(seed)
    life_seed = seed
    while account.images < images:
        life_seed += 1
        rng = random.Random(life_seed)
        recording = Recording(f"recording-{synchronous}-{life_seed}")
        home = scratch / f"life-{life_seed}"
        home.mkdir()
        life = await live(home, recording, rng, steps=steps, synchronous=synchronous)
        account.accepted += len(life.accepted)
        count = min(images_per_life, images - account.images)
        points = sorted(rng.randint(life.begins, len(recording.log)) for _ in range(count))
        disk, at = Disk(), 0
        for point in points:
            for op in recording.log[at:point]:
                disk.apply(op)
            at = point
            cut = scratch / "cut"
            cut.mkdir()
            disk.image(rng, cut)
            finding = await judge(cut, point, life, rng, forbid=_note)
            shutil.rmtree(cut)
            _add(account, finding, f"life {life_seed}, cut after operation {point} of {len(recording.log)}")
        recording.unregister()
        shutil.rmtree(home)
    return account


def _note(finding: Finding, what: str) -> None:
    finding.corrupt.append(what)


def _add(account: Account, finding: Finding, where: str) -> None:
    account.images += 1
    account.lost += bool(finding.lost)
    account.doubled += bool(finding.doubled)
    account.corrupt += bool(finding.corrupt)
    if finding and not account.first:
        account.first = f"{where}: {finding}"
