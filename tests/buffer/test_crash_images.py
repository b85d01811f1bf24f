"""What a power cut can leave of the outbox's files, drawn by a recording VFS; with the controls that must fail."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.campaign import campaign

SEED = 20_260_101


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A directory in memory where there is one: the power cuts are drawn, so real syncs would only cost time."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        yield Path(name)


@pytest.mark.slow
async def test_no_power_cut_loses_or_doubles_what_was_accepted(scratch: Path) -> None:
    account = await campaign(scratch, seed=SEED, images=2_000)
    print(account)
    assert account.images == 2_000
    assert account.accepted > 300
    assert (account.lost, account.doubled, account.corrupt) == (0, 0, 0), account.first


@pytest.mark.slow
async def test_the_rig_sees_what_synchronous_normal_loses(scratch: Path) -> None:
    account = await campaign(scratch, seed=SEED, images=100, synchronous="NORMAL")
    print(account)
    assert account.lost > 10, "the control must fail"


@pytest.mark.slow
async def test_the_rig_sees_what_synchronous_off_loses(scratch: Path) -> None:
    account = await campaign(scratch, seed=SEED, images=100, synchronous="OFF")
    print(account)
    assert account.lost > 10, "the control must fail"
