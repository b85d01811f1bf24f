"""The n-th operation of the disk fails, for each n and each way of failing; and the controls that must be found out."""

from collections.abc import Iterator
from itertools import count

import apsw
import pytest

from buffer import appending, groups
from buffer.errors import StoreAway
from buffer.store import Store
from tests.crash.ordeal import FAILURES, Ordeal, undergo
from tests.crash.trouble import Trouble
from tests.scratch import scratch

STEPS = {"full": 10, "write": 20, "readonly": 20, "sync": 2, "truncate": 1, "open": 1}
"""Every so many-th operation here, all of them in `make soak`."""


@pytest.fixture
def disk() -> Iterator[Trouble]:
    with scratch(20) as directory:
        vfs = Trouble("ordeal", directory)
        yield vfs
        vfs.unregister()


async def every(disk: Trouble, failure: str, *, lasting: bool, step: int, first: int = 0) -> list[Ordeal]:
    """A life for each operation from `first` on, until one passes without a failure."""
    root, lives = disk.directory, []
    for n in count(first, step):
        directory = root / f"{failure}-{lasting}-{n}"
        directory.mkdir()
        lives.append(await undergo(directory, disk, failure, n, lasting=lasting))
        if not lives[-1].hit:
            return lives
    raise AssertionError("the count does not end")


@pytest.mark.slow
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "until refused"])
@pytest.mark.parametrize("failure", FAILURES)
async def test_whichever_operation_fails_nothing_is_lost_or_doubled(disk: Trouble, failure: str, lasting: bool) -> None:
    lives = await every(disk, failure, lasting=lasting, step=STEPS[failure], first=int(lasting))
    print(failure, len(lives), sum(life.refused for life in lives))
    assert [life.wrong for life in lives if life.wrong] == []
    hit = sum(life.hit > 0 for life in lives)
    assert hit >= (1 if failure == "truncate" else 3)
    assert sum(life.refused for life in lives) >= hit // 2


@pytest.mark.parametrize("control", ["says yes", "forgets to look"])
async def test_the_ordeal_finds_out_a_store_that_lies(
    disk: Trouble, monkeypatch: pytest.MonkeyPatch, control: str
) -> None:
    """An append that says yes whatever the disk said; and one that takes a failed commit for undone without looking."""
    honest = appending.append

    def lying(store: Store, *given: object) -> None:
        try:
            honest(store, *given)  # type: ignore[arg-type]
        except StoreAway:
            return

    def blind(store: Store, connection: apsw.Connection) -> None:
        """Leave what stands behind the tail."""

    if control == "says yes":
        monkeypatch.setattr(groups, "append", lying)
    else:
        monkeypatch.setattr(Store, "_forget_behind_tail", blind)
    lives = await every(disk, "sync", lasting=False, step=1)
    assert [life.wrong for life in lives if life.wrong], "the control must be found out"
