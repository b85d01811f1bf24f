"""The gateway loses its power: what it had accepted lands, once, and it polls again soon after it is back."""

import os
from pathlib import Path
from random import SystemRandom

import pytest

from field.clock import wall_ms
from field.truth import read_accepted
from tests.broker import Broker
from tests.power_cuts import campaign, cut
from tests.real_disk import mounted
from tests.stage import changed, staged, wait_for_slot_after

CUTS = 30
SEED = "MW_POWER_SEED"
"""The environment variable that repeats a campaign."""


@pytest.mark.slow
def test_thirty_power_cuts_of_the_gateway_lose_nothing(
    real_disks: None, tmp_path: Path, broker: Broker, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = int(os.environ.get(SEED) or SystemRandom().randrange(1 << 32))
    with capsys.disabled():
        print(f"\n{CUTS} power cuts drawn from seed {seed} ({SEED}={seed} repeats them)", flush=True)
    done = campaign(seed=seed, cuts=CUTS, directory=tmp_path, broker=broker)
    assert done.truth.passed, (seed, done.truth)
    assert done.cuts == CUTS and len(done.first_polls_s) >= CUTS // 2


@pytest.mark.slow
@pytest.mark.parametrize("synchronous", ["FULL", "NORMAL"])
def test_what_was_accepted_while_the_broker_was_away_outlives_a_power_cut_only_with_full_syncs(
    real_disks: None, tmp_path: Path, broker: Broker, synchronous: str
) -> None:
    program = changed("sync_normal") if synchronous == "NORMAL" else ()
    with mounted(tmp_path) as disk, staged(tmp_path, broker, disk=disk.path, program=program) as stage:
        stage.chain.start()
        wait_for_slot_after(stage.chain, wall_ms())
        stage.broker.kill()  # it would keep what is on its way to the centre
        wait_for_slot_after(stage.chain, wall_ms() + 4_000)
        accepted = len(read_accepted(stage.chain.accepted))
        cut(stage, disk)
        stage.broker.start()
        stage.started_s()
        truth = stage.verdict()
    assert truth.accepted > accepted > 0
    assert truth.duplicate == truth.different == 0
    assert (truth.missing > 0) is (synchronous == "NORMAL"), truth
    assert truth.passed is (synchronous == "FULL"), truth
