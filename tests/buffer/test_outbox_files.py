"""Whoever reads a store reads both its files, and is told of one that cannot be read."""

import shutil
from pathlib import Path

import pytest

from buffer.carry import Carried, carried
from buffer.errors import OutboxError
from buffer.history import History
from buffer.opening import STORE_NAME
from protocols.capture import Capture, Event
from tests.buffer.test_outbox_spare import World, disk, tmp_path
from tests.crash.scenario import NOW
from tests.crash.trouble import Trouble

__all__ = ["disk", "tmp_path"]


def told(world: World) -> tuple[list[int], list[str | int | None], list[str]]:
    """What a reader is shown: slots, details of events, what is left out."""
    with History(world.first, spare=world.second) as history:
        captures = [record.slot or 0 for record in history.read("meter-1", 0, 2 * NOW)]
        events = [event.detail.get("n") for event in history.events() if event.name == "test"]
        return captures, events, history.unread


def given(world: World) -> tuple[list[int], list[str | int | None]]:
    """What was accepted, as a reader should see it."""
    captures = [record for record in world.accepted if isinstance(record, Capture) and record.meter == "meter-1"]
    events = [record for record in world.accepted if isinstance(record, Event)]
    return sorted(capture.slot or 0 for capture in captures), [event.detail.get("n") for event in events]


async def moved(directory: Path, disk: Trouble) -> World:
    """A store with records and batches in both its files."""
    world = World(directory, disk)
    for _ in range(3):
        await world.append()
    await world.seal(2)
    disk.begin("io", lasting=True)
    await world.append(patience=6)
    await world.seal(2)
    await world.append()
    return world


async def test_history_and_what_is_carried_are_of_both_files(tmp_path: Path, disk: Trouble) -> None:
    world = await moved(tmp_path, disk)
    assert world.spare.exists()
    assert told(world) == (*given(world), [])
    count = Carried()
    messages = list(carried(world.first, count, spare=world.second))
    assert count.batches == len([name for name, _ in messages if name != "key"]) == len(world.sealed) == 4
    assert count.keys == len({message for name, message in messages if name == "key"}) == 1
    assert count.unsealed > 0 and count.unread == []
    disk.relieve()
    await world.outbox.purge()
    assert not world.spare.exists()
    assert told(world) == (*given(world), [])
    await world.outbox.close()


async def test_a_file_that_cannot_be_read_is_named_and_the_other_one_read(tmp_path: Path, disk: Trouble) -> None:
    world = await moved(tmp_path, disk)
    (world.first / STORE_NAME).rename(tmp_path / "away")
    captures, _, unread = told(world)
    assert 0 < len(captures) < len(given(world)[0])
    (why,) = unread
    assert str(world.first / STORE_NAME) in why
    count = Carried()
    assert len([name for name, _ in carried(world.first, count, spare=world.second) if name != "key"]) == 2
    assert count.unread == unread
    (tmp_path / "away").rename(world.first / STORE_NAME)
    disk.relieve()
    await world.outbox.close()


async def test_a_spare_file_that_was_taken_back_and_is_still_there_is_not_shown_twice(
    tmp_path: Path, disk: Trouble
) -> None:
    world = await moved(tmp_path, disk)
    disk.relieve()
    await world.outbox.close()
    shutil.copy(world.spare, tmp_path / "kept")
    world.outbox = world.start()
    shutil.copy(tmp_path / "kept", world.spare)
    assert told(world) == (*given(world), [])
    await world.outbox.close()


def test_no_store_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutboxError, match=STORE_NAME):
        History(tmp_path)
