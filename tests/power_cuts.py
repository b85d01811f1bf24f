"""A site whose gateway loses its power at moments drawn from a seed, and then the truth.

The gateway's store stands on a disk whose power can be cut; the simulated meters, the broker and the subscriber stand
elsewhere and go on. `campaign` is one run of it, for the suite and for long soaks.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from field.truth import Truth
from tests.broker import Broker
from tests.real_disk import RealDisk, mounted
from tests.stage import Stage, staged

UP_S = (0.05, 1.5)
"""From the first poll to the next cut: the shortest and the longest."""
STARTING_S_MAX = 1.2
"""One cut in four comes while the gateway starts, up to so long after it was started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cuts:
    """What came of a campaign."""

    truth: Truth
    cuts: int
    first_polls_s: Sequence[float]
    """From each start to the first answer of a meter, where the next cut did not come before it."""


def cut(stage: Stage, disk: RealDisk) -> None:
    """Cut the power of the gateway, and give it back; the gateway is not started."""
    disk.cut()
    stage.chain.gateway.kill()
    disk.restore()


def campaign(*, seed: int, cuts: int, directory: Path, broker: Broker) -> Cuts:
    """Run a site, cut its gateway's power so often, let it agree again: the verdict.

    directory: new and empty. Prints the seed.
    """
    random = Random(seed)
    print(f"seed {seed}: {cuts} power cuts, below {directory}", flush=True)
    first_polls = []
    with mounted(directory) as disk, staged(directory, broker, disk=disk.path) as stage:
        stage.chain.start()
        time.sleep(random.uniform(*UP_S))
        for _ in range(cuts):
            cut(stage, disk)
            if random.random() < 0.25:
                stage.chain.gateway.start()
                time.sleep(random.uniform(0.0, STARTING_S_MAX))
            else:
                first_polls.append(stage.started_s())
                time.sleep(random.uniform(*UP_S))
        return Cuts(truth=stage.verdict(), cuts=cuts, first_polls_s=first_polls)
