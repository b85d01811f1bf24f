"""No (key, nonce) is used twice: a million starts, restored disk images, and the control that would show it."""

import asyncio
import os
import random
import time
from pathlib import Path

import pytest

from tests.nonces import campaign, images, repeats
from tests.scratch import scratch

STARTS = 1_000_000
RESTORES = 400
"""Of 10,000; the rest are in `make soak`."""


@pytest.mark.slow
def test_a_million_starts_draw_a_million_data_keys() -> None:
    assert repeats(STARTS, os.urandom) == 0


def test_the_count_of_repeats_counts() -> None:
    """The control: a gateway whose randomness was copied with its disk draws the same again."""
    draws = [0]
    rng = random.Random()

    def copied(count: int) -> bytes:
        if draws[0] % 3 == 0:  # three draws a key: every second gateway is the one before it again
            rng.seed(draws[0] // 6)
        draws[0] += 1
        return rng.randbytes(count)

    assert repeats(100, copied) == 50


@pytest.mark.slow
def test_restored_disk_images_seal_nothing_under_a_used_nonce() -> None:
    began = time.process_time()
    with scratch(10) as directory:
        seen = campaign(directory, count=RESTORES, seed=1)
    print(f"{RESTORES / (time.process_time() - began):.0f} restores a second of processor time")
    assert seen.reused == 0
    assert len(seen.pairs) > 2 * RESTORES
    assert len(seen.epochs) > RESTORES
    assert len({epoch >> 32 for epoch in seen.epochs}) < len(seen.epochs) / 2, "images run the same boot count again"


def test_an_image_restored_with_its_randomness_is_found_out(tmp_path: Path) -> None:
    """The control: with the same random bytes after each restore, the same pairs come again."""

    seen = asyncio.run(images(tmp_path, count=4, seed=1, restored=lambda: random.Random(1).randbytes))
    assert seen.reused > 0
