"""A task that bills are made of: read twice where the line does not vouch for its bytes, and kept as it was."""

import asyncio
from pathlib import Path
from typing import Final

import pytest

from buffer.evidence import read as read_evidence
from config.model import SerialSettings, TaskEntry
from simulators import virtual
from simulators.describe import BusPlan, MeterGroup, SitePlan
from simulators.noise import QUIET, Faults
from tests.chain import START, Chain

ENERGY: Final = "energy.active.import.total"
HOURLY: Final = TaskEntry(name="bill", every_s=3600, items=(ENERGY,), lane="billing")
QUARTERS: Final = TaskEntry(name="curve", every_s=900, items=(ENERGY,), offset_s=120)
METERS: Final = 3
HOURS: Final = 3


def live(directory: Path, serial: str, faults: Faults = QUIET) -> Chain:
    """Three hours of three meters."""
    group = MeterGroup(profile="dlt645-2007-3p", address="000000000001", count=METERS)
    bus = BusPlan(name="b", serial=SerialSettings.parse(serial), meters=(group,), faults=faults)
    chains: list[Chain] = []

    async def some_hours() -> None:
        chain = Chain(directory, SitePlan(buses=(bus,)), [HOURLY, QUARTERS])
        chains.append(chain)
        async with chain.running() as daemon:
            await asyncio.sleep(HOURS * 3600)
            await chain.drain(daemon)
        truth = chain.truth()
        assert truth.passed, truth.examples
        chain.close()

    virtual.run(some_hours(), start_ms=START)
    return chains[0]


@pytest.mark.parametrize(("serial", "readings"), [("9600-8E1", 1), ("9600-8N1", 2)])
def test_a_bill_is_read_twice_where_parity_does_not_vouch_for_it_and_a_curve_once(
    tmp_path: Path, serial: str, readings: int
) -> None:
    chain = live(tmp_path, serial)
    bills = [capture for capture in chain.accepted.captures if capture.task == "bill"]
    curves = [capture for capture in chain.accepted.captures if capture.task == "curve"]
    shared = METERS  # at the start both tasks read their slots late, in one go
    assert len(bills) == METERS * (HOURS + 1)
    assert len(chain.simulated.log.entries) == readings * len(bills) + len(curves) - shared
    notes = list(read_evidence(chain.site.store / "evidence"))
    assert [note.reason for note in notes] == ["billing"] * readings * len(bills)
    assert all(note.sent and note.seen for note in notes)


def test_on_a_line_where_noise_shows_a_bill_is_read_twice_in_spite_of_parity(tmp_path: Path) -> None:
    chain = live(tmp_path, "9600-8E1", Faults(ber=1e-3))
    reasons = [note.reason for note in read_evidence(chain.site.store / "evidence")]
    bills = [capture for capture in chain.accepted.captures if capture.task == "bill"]
    assert "garbled" in reasons
    assert reasons.count("billing") > len(bills)
