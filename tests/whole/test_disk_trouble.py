"""The gateway's disk, a real one, is full, hangs, is gone or read-only: nothing is lost, and polling goes on."""

import os
from pathlib import Path
from random import SystemRandom

import pytest

from tests.broker import Broker
from tests.disk_trouble import EVERY_S, HANGS_S, RELIEF_S_MAX, campaign
from tests.stage import changed

ANSWER_S_MAX = 4.0
"""Seconds: a gateway that waits for its disk does not answer within the 5 of whoever asks."""
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
def test_a_disk_that_hangs_holds_up_neither_the_polling_nor_who_asks_how_it_is(
    real_disks: None, tmp_path: Path, broker: Broker, seed: int
) -> None:
    done = campaign(seed=seed, directory=tmp_path, broker=broker, troubles=("hanging",))
    assert done.truth.passed, (seed, done)
    assert done.gaps == [], "every slot was asked in its time"
    assert max(done.answered_s) < ANSWER_S_MAX and len(done.answered_s) > 10
    assert done.waiting >= 2 * HANGS_S / EVERY_S - 2, "what was read meanwhile, in memory"
    assert max(done.recovered_s) < RELIEF_S_MAX


@pytest.mark.slow
def test_a_gateway_that_waits_for_its_disk_itself_is_found_out(
    real_disks: None, tmp_path: Path, broker: Broker, seed: int
) -> None:
    """The control."""
    done = campaign(
        seed=seed, directory=tmp_path, broker=broker, troubles=("hanging",), program=changed("wait_for_disk")
    )
    assert max(done.answered_s) > ANSWER_S_MAX, (seed, done)
    assert done.truth.passed, "late, and whole"


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
