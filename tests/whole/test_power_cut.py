"""The gateway loses its power: what it had accepted lands, once, and it polls again soon after it is back."""

import os
import sys
from pathlib import Path
from random import SystemRandom

import pytest

from field.chain import wall_ms
from field.truth import read_accepted
from tests import kills
from tests.broker import Broker
from tests.kills import Stage
from tests.power import available, power_disk
from tests.power_cuts import TASK, Powered, campaign
from tests.substitution import Substituted

CUTS = 30
SEED = "MW_POWER_SEED"
"""The environment variable that repeats a campaign."""
NORMAL = [sys.executable, "-P", str(Path(__file__).parents[1] / "gateway_process.py"), "sync_normal"]


@pytest.fixture
def power(substituted: Substituted) -> None:
    """A disk whose power can be cut; where there can be none, the power cuts are those of test_crash_images.py."""
    if not available():
        substituted("a disk that loses power (root, loop devices, mkfs.ext4)", "the recording VFS of the crash images")
        pytest.xfail("no disk here can lose its power; the crash images stand in")


@pytest.mark.slow
def test_thirty_power_cuts_of_the_gateway_lose_nothing(
    power: None, mosquitto: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = int(os.environ.get(SEED) or SystemRandom().randrange(1 << 32))
    with capsys.disabled():
        print(f"\n{CUTS} power cuts drawn from seed {seed} ({SEED}={seed} repeats them)", flush=True)
    done = campaign(seed=seed, cuts=CUTS, directory=tmp_path)
    assert done.truth.passed, (seed, done.truth)
    assert done.cuts == CUTS and len(done.first_polls_s) >= CUTS // 2


@pytest.mark.slow
@pytest.mark.parametrize("synchronous", ["FULL", "NORMAL"])
def test_what_was_accepted_while_the_centre_was_away_outlives_a_power_cut_only_with_full_syncs(
    power: None, tmp_path: Path, broker: Broker, synchronous: str
) -> None:
    with power_disk(tmp_path) as disk:
        stage = Stage(tmp_path, broker, sim=kills.site(2), task=TASK)
        try:
            powered = Powered(stage, disk)
            if synchronous == "NORMAL":
                stage.chain.gateway.program = NORMAL
            stage.chain.start()
            stage.wait_for_slot_after(wall_ms())
            stage.chain.centre.end()
            stage.wait_for_slot_after(wall_ms() + 2 * TASK.every_s * 1000)
            accepted = len(read_accepted(stage.chain.accepted))
            powered.cut()
            stage.chain.centre.start()
            powered.started_s()
            stage.chain.drain(within_s=kills.DRAIN_S_MAX)
            stage.chain.stop()
            truth = stage.chain.truth()
        finally:
            stage.close()
    assert truth.accepted > accepted > 0
    assert truth.duplicate == truth.different == 0
    assert (truth.missing > 0) is (synchronous == "NORMAL"), truth
    assert truth.passed is (synchronous == "FULL"), truth
