"""The gateway's disk, a real one, is full, gone or read-only: nothing accepted is lost, and polling goes on in time."""

import os
from pathlib import Path
from random import SystemRandom

import pytest

from tests.broker import Broker
from tests.disk_trouble import RELIEF_S_MAX, campaign
from tests.stage import changed

SEED = "MW_DISK_SEED"
"""The environment variable that repeats a campaign."""


@pytest.fixture
def seed(capsys: pytest.CaptureFixture[str]) -> int:
    """What the times are drawn from."""
    drawn = int(os.environ.get(SEED) or SystemRandom().randrange(1 << 32))
    with capsys.disabled():
        print(f"\na disk in trouble, drawn from seed {drawn} ({SEED}={drawn} repeats it)", flush=True)
    return drawn


@pytest.mark.slow
def test_a_full_disk_and_one_that_comes_back_read_only_lose_nothing(
    real_disks: None, tmp_path: Path, broker: Broker, seed: int
) -> None:
    done = campaign(seed=seed, directory=tmp_path, broker=broker, troubles=("full", "gone"))
    assert done.truth.passed, (seed, done)
    assert done.gaps == [], "every slot was asked in its time"
    assert len(done.refused) == 3 and min(done.refused) >= 1
    assert len(done.recovered_s) == 2 and max(done.recovered_s) < RELIEF_S_MAX
    assert done.ballast == [True, False, True]


@pytest.mark.slow
def test_a_gateway_whose_disk_is_gone_goes_on_in_its_spare_directory_and_comes_home(
    real_disks: None, tmp_path: Path, broker: Broker, seed: int
) -> None:
    done = campaign(seed=seed, directory=tmp_path, broker=broker, troubles=("moved",))
    assert done.truth.passed, (seed, done)
    assert done.gaps == []
    assert list((tmp_path / "spare").iterdir()) == []


@pytest.mark.slow
def test_a_gateway_that_does_not_keep_what_its_store_refuses_is_found_out(
    real_disks: None, tmp_path: Path, broker: Broker, seed: int
) -> None:
    """The control: it has to lose slots without a word."""
    done = campaign(
        seed=seed, directory=tmp_path, broker=broker, troubles=("gone",), program=changed("forget_refused")
    )  # fmt: skip
    assert done.truth.unexplained > 0, (seed, done)
    assert done.truth.missing == done.truth.duplicate == done.truth.different == 0
