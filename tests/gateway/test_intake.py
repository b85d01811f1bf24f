"""How soon a record is accepted that came from a bus."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from buffer.outbox import Outbox
from gateway.intake import Intake
from protocols.capture import Record
from simulators import virtual
from tests.records import reference_load

START_MS = 1_790_000_000_000


def test_the_first_record_after_a_start_is_accepted_at_once_and_those_after_it_together(tmp_path: Path) -> None:
    records = reference_load(meters=3, snapshots=1)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        accepted: list[tuple[float, Sequence[Record]]] = []
        outbox = Outbox.open(tmp_path, gateway="gw", random=bytes, now_ms=virtual.now_ms, writer="inline")
        async with outbox:
            intake = Intake(outbox, lambda taken: accepted.append((loop.time(), taken)))
            task = loop.create_task(intake.run())
            for record in records:
                await asyncio.sleep(0.1)
                intake.add(record)
            await asyncio.sleep(2)
            task.cancel()
        (first_at, first), (_, second), (_, third) = accepted
        assert first_at == pytest.approx(0.1)
        assert [*first, *second, *third] == records
        assert all(at >= 1.2 for at, _ in accepted[1:])

    virtual.run(main(), start_ms=START_MS)
