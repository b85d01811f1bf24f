"""A restored disk image with new data loses nothing, doubles nothing, and seals nothing under a used nonce."""

import asyncio
import random
import shutil
import time
from pathlib import Path

import pytest

from field.clock import wall_ms
from simulators import virtual
from simulators.describe import uniform
from tests import images
from tests.broker import Broker
from tests.chain import START, Chain
from tests.images import MINUTE, NEXT_SLOT_S
from tests.scratch import scratch
from tests.stage import curve, staged, told, until, wait_for_slot_after

RESTORES = 12


@pytest.mark.parametrize("seed", [1, 2])
def test_images_that_are_put_back_time_and_again_lose_nothing(seed: int) -> None:
    with scratch(10) as directory:
        story = images.campaign(directory, seed=seed, restores=RESTORES)
    assert story.truth.passed, dict(story.truth.examples)
    assert 0 < story.unsent < RESTORES, "images of either sort: all had landed, or some was unsent"
    assert story.seen.reused == 0
    assert len(story.seen.epochs) == RESTORES + 1
    assert len({epoch >> 32 for epoch in story.seen.epochs}) < RESTORES, "boot counts come again"
    assert story.other_bytes == 0


def test_a_gateway_that_goes_on_with_the_epoch_of_its_image_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: receipts of the life that was settle what it has not sent, and nonces are used twice."""
    images.takes_up_where_the_disk_stands(monkeypatch.setattr)
    with scratch(10) as directory:
        story = images.campaign(directory, seed=1, restores=RESTORES)
    assert story.truth.missing > 0
    assert story.seen.reused > 0
    assert story.other_bytes > 0, "the same numbers with other bytes, kept aside and reported"


def test_the_same_number_with_other_bytes_is_kept_aside_reported_and_lands_under_another(tmp_path: Path) -> None:
    """As if the 32 random bits of the epoch had come out the same after a restore: once in four thousand million."""

    async def whole() -> None:
        chain = Chain(tmp_path, uniform(buses=1, meters_per_bus=3), [MINUTE])
        store, image = chain.site.store, tmp_path / "image"
        rng = random.Random(1)
        chain.draw = lambda n: bytes(4) if n == 4 else rng.randbytes(n)
        await chain.run(30)
        shutil.copytree(store, image)
        await chain.run(100)
        shutil.rmtree(store)
        shutil.copytree(image, store)
        await asyncio.sleep(NEXT_SLOT_S)
        async with chain.running() as daemon:
            await asyncio.sleep(300)
            await chain.drain(daemon)
            assert daemon.parts is not None
            assert daemon.parts.outbox.counters.get("parked", 0) == 0
        assert chain.landing.counters["aside.other_bytes"] >= 1
        truth = chain.truth()
        assert truth.passed, truth.examples
        chain.close()

    virtual.run(whole(), start_ms=START)


@pytest.mark.slow
def test_a_gateway_whose_disk_is_put_back_goes_on_as_processes_do(tmp_path: Path, broker: Broker) -> None:
    """Its image is of a gateway that could not send; both lives after it read what the other has not."""
    with staged(tmp_path, broker) as stage:
        chain = stage.chain
        store, image = chain.site.store, tmp_path / "image"
        chain.start()
        until("a receipt", lambda: told(chain).get("receipts", 0) > 0)
        broker.stop()
        wait_for_slot_after(chain, wall_ms() + 3_000)
        chain.gateway.end()
        shutil.copytree(store, image)
        broker.start()
        chain.gateway.start()
        wait_for_slot_after(chain, wall_ms() + 3_000)
        chain.drain()
        shutil.rmtree(store)
        shutil.copytree(image, store)
        time.sleep(curve().every_s)  # the slot in hand, read before, would be read a second time
        chain.gateway.start()
        wait_for_slot_after(chain, wall_ms() + 3_000)
        truth = stage.verdict()
    assert truth.passed, (truth, truth.examples, stage.logs())
