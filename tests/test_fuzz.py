"""A share of `make fuzz`; and that its rig sees what it is there to see."""

import time
from contextlib import nullcontext
from random import Random

import pytest

from protocols.errors import Malformed
from tests.fuzz import STAGES
from tests.fuzzing import INPUT_S_MAX, MEMORY_MAX, Case, Finding, campaign

SHARE = 25
"""A seed of the suite is so much smaller than one of `make fuzz`."""


@pytest.mark.slow
@pytest.mark.parametrize("name", STAGES)
def test_nothing_that_comes_in_does_harm(name: str) -> None:
    stage, inputs = STAGES[name]
    print(campaign(0, stage=stage, inputs=inputs // SHARE))


def wrong_error() -> None:
    {}["no such key"]  # type: ignore[index]


def slow() -> None:
    until = time.thread_time() + 1.2 * INPUT_S_MAX
    while time.thread_time() < until:
        pass


def greedy() -> int:
    return len(bytes(MEMORY_MAX + (1 << 20)))


def refused() -> None:
    raise Malformed("as it should be")


@pytest.mark.parametrize(("run", "why"), [(wrong_error, "KeyError"), (slow, "ms of processor"), (greedy, "MiB")])
def test_the_rig_finds_an_input_that(run: object, why: str) -> None:
    def make(random: Random) -> Case:
        return Case(random.randbytes(4), run)  # type: ignore[arg-type]

    with pytest.raises(Finding, match=rf"input 0: .*{why}.*: [0-9a-f]{{8}}$"):
        campaign(1, stage=lambda: nullcontext(make), inputs=1)


def test_an_input_that_is_refused_is_no_finding() -> None:
    assert campaign(1, stage=lambda: nullcontext(lambda _: Case(b"", refused)), inputs=3) == "3 inputs, 3 refused"
