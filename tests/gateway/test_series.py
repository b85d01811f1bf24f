"""A task of a meter goes in the lane that the site file says, and one of a priority meter no later than priority."""

from dataclasses import replace
from typing import Literal

import pytest

from config.model import TaskEntry
from drivers.bus import Lane
from drivers.meter import Meter
from drivers.plan import plan
from gateway.series import Series
from tests.script import BUS, meter


@pytest.mark.parametrize(
    ("lane", "ordinary", "priority", "kept_as"),
    [
        ("event", Lane.EVENT, Lane.EVENT, "curve"),
        ("billing", Lane.BILLING, Lane.PRIORITY, "daily"),
        ("curve", Lane.CURVE, Lane.PRIORITY, "curve"),
        ("backfill", Lane.BACKFILL, Lane.PRIORITY, "curve"),
    ],
)
def test_a_task_goes_in_its_lane(
    lane: Literal["event", "billing", "curve", "backfill"], ordinary: Lane, priority: Lane, kept_as: str
) -> None:
    one = meter()
    first = Meter(replace(one.entry, priority="priority"), one.profile, BUS)
    task = TaskEntry(name="task", every_s=900, items=("voltage.a",), lane=lane)
    read = plan(one.profile, one.entry, task.items, one.settings)
    assert Series(one, task, read).lane is ordinary
    assert Series(first, task, read).lane is priority
    assert Series(one, task, read).billed is (lane == "billing")
    assert task.kept_as == kept_as
