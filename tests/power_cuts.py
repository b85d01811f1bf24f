"""A site whose gateway loses its power at moments drawn from a seed, and then the truth.

The gateway's store stands on a disk whose power can be cut; the simulated meters, the broker and the subscriber stand
elsewhere and go on. `campaign` is one run of it, for the suite and for long soaks.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from config.model import TaskEntry
from field.chain import wall_ms
from field.truth import Truth
from simulators.site import write_site_files
from tests import kills
from tests.broker import Broker
from tests.kills import Stage
from tests.power import PowerDisk, power_disk

TASK = TaskEntry(name="curve", every_s=2, items=kills.TASK.items)
"""Something is appended, sealed, sent and settled all the time."""
UP_S = (0.05, 1.5)
"""From the first poll to the next cut: the shortest and the longest."""
STARTING_S_MAX = 1.2
"""One cut in four comes while the gateway starts, up to so long after it was started."""
FIRST_POLL_S_MAX = 10.0
"""From the start of the process to the first answer of a meter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cuts:
    """What came of a campaign."""

    truth: Truth
    cuts: int
    first_polls_s: Sequence[float]
    """From each start to the first answer of a meter, where the next cut did not come before it."""


class Powered:
    """A stage whose gateway keeps its store on a disk that can lose power."""

    def __init__(self, stage: Stage, disk: PowerDisk) -> None:
        """Before anything of the stage is started."""
        self.stage = stage
        self.disk = disk
        chain = stage.chain
        chain.site = replace(chain.site, store=disk.path / "store")
        write_site_files(chain.site, chain.directory)

    def cut(self) -> None:
        """Cut the power, and give it back; the gateway is not started."""
        self.disk.cut()
        self.stage.chain.gateway.kill()
        self.disk.restore()

    def started_s(self) -> float:
        """Start the gateway: seconds until a meter has answered. Raises AssertionError when it takes too long."""
        began_ms, began, before = wall_ms(), time.monotonic(), self.stage.chain.served.stat().st_size
        self.stage.chain.gateway.start()
        while not self._served_since(began_ms, before):
            assert self.stage.chain.gateway.running, f"it ended by itself\n{self.stage.logs()}"
            assert time.monotonic() - began < FIRST_POLL_S_MAX, f"no poll yet\n{self.stage.logs()}"
            time.sleep(0.02)  # another process's file has no event to wait on
        return time.monotonic() - began

    def _served_since(self, moment: int, offset: int) -> bool:
        with self.stage.chain.served.open("rb") as file:
            file.seek(offset)
            lines = file.read().splitlines(keepends=True)
        return any(json.loads(line)["at_ms"] >= moment for line in lines if line.endswith(b"\n"))


def campaign(*, seed: int, cuts: int, directory: Path) -> Cuts:
    """Run a site, cut its gateway's power so often, let it agree again: the verdict.

    directory: new and empty. Prints the seed; when something else than the verdict goes wrong, it raises, and the logs
    have been printed.
    """
    random = Random(seed)
    (directory / "broker").mkdir()
    broker = Broker(directory / "broker")
    first_polls = []
    with power_disk(directory) as disk:
        stage = None
        try:
            broker.start()
            stage = Stage(directory, broker, sim=kills.site(2), task=TASK)
            powered = Powered(stage, disk)
            stage.chain.start()
            time.sleep(random.uniform(*UP_S))
            for _ in range(cuts):
                powered.cut()
                if random.random() < 0.25:
                    stage.chain.gateway.start()
                    time.sleep(random.uniform(0.0, STARTING_S_MAX))
                else:
                    first_polls.append(powered.started_s())
                    time.sleep(random.uniform(*UP_S))
            stage.wait_for_slot_after(wall_ms())
            stage.all_run()
            stage.chain.drain(within_s=kills.DRAIN_S_MAX)
            stage.chain.stop()
            truth = stage.chain.truth()
            if not truth.passed:
                print(f"seed {seed}: {dict(truth.examples)}\n{stage.logs()}")
            return Cuts(truth=truth, cuts=cuts, first_polls_s=first_polls)
        except BaseException:
            if stage is not None:
                print(f"seed {seed}\n{stage.logs()}")
            raise
        finally:
            broker.kill()
            if stage is not None:
                stage.close()
