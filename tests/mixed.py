"""The bus on which utilisation is measured: 8 DL/T 645 and 8 Modbus meters on one pair, asked in turn."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

from config.model import BusEntry, SerialSettings
from drivers.bus import Bus, Job, Lane, Outcome
from drivers.line import Line
from drivers.meter import Meter, t35
from drivers.plan import plan
from drivers.port import OPEN_LISTEN_S, OpenLine
from simulators import virtual
from simulators.dlt645 import Dlt645Meter
from simulators.load import Load
from simulators.meter import SimulatedMeter
from simulators.modbus import ModbusMeter
from simulators.noise import QUIET, Faults
from simulators.wire import MemoryLine, Wire
from tests.script import meter

START_MS: Final = 1_700_000_000_000
EACH: Final = 8
"""Meters of each family."""
BLOCKS: Final = {
    "dlt645": ["energy.active.import.total", *(f"energy.active.import.t{n}" for n in range(1, 5))],
    "modbus": ["input:0:uint16:32"],
}
"""What is read of each family: a block of five values; 32 registers."""


def mixed_wire(
    serial: SerialSettings, now_ms: Callable[[], int], *, faults: Faults = QUIET, seed: int = 1, pieces: int = 0
) -> Wire:  # fmt: skip
    """The simulated meters on their wire."""
    simulated = []
    for n in range(1, EACH + 1):
        simulated.append(SimulatedMeter(id=f"meter-{n:012d}", meter=Dlt645Meter(f"{n:012d}", Load(n))))
        modbus = ModbusMeter(n, meter(str(n), "modbus-rtu").profile, Load(100 + n))
        simulated.append(SimulatedMeter(id=f"meter-{n}", meter=modbus))
    return Wire(simulated, serial=serial, now_ms=now_ms, seed=seed, faults=faults, pieces=pieces)


class MixedBus:
    """The gateway's side of it."""

    def __init__(self, entry: BusEntry, *, open_line: OpenLine, now_ms: Callable[[], int]) -> None:
        self.entry = entry
        self.meters: list[Meter] = []
        for n in range(1, EACH + 1):
            self.meters += meter(f"{n:012d}", bus=entry), meter(str(n), "modbus-rtu", bus=entry)
        self.bus = Bus(entry, open_line=open_line, now_ms=now_ms)
        self.outcomes: list[tuple[Meter, Outcome]] = []

    async def read(self, rounds: int, items: Mapping[str, Sequence[str]] = BLOCKS) -> None:
        """Read all meters so many times, without a pause."""
        left = rounds * len(self.meters)

        def take(one: Meter, outcome: Outcome) -> None:
            nonlocal left
            left -= 1
            self.outcomes.append((one, outcome))
            if not left:
                self.bus.stop()

        for _ in range(rounds):
            for one in self.meters:
                read = plan(one.profile, one.entry, items[one.profile.family], self.entry.serial)
                self.bus.submit(
                    Job(meter=one, dialogue=read.dialogue, lane=Lane.CURVE, deadline=float("inf"),
                        done=partial(take, one))
                )  # fmt: skip
        await self.bus.run()

    @property
    def elapsed_s(self) -> float:
        """From the moment at which the port was open to the end of the last answer."""
        return self.bus.account.elapsed / 1000

    def utilisation(self, *, wire_s: float, turnaround_s: float) -> float:
        """(wire + mandatory gaps) / (elapsed - meters' turnaround), wire and turnaround as the wire itself tells them.

        A mandatory gap stands before each exchange: the profile's `min_gap_ms`, or t3.5 for Modbus. That of the first
        has passed while the port listened, before anything counts.
        """
        assert all(value.fault is None for _, outcome in self.outcomes for value in outcome.values or ())
        assert all(outcome.values for _, outcome in self.outcomes)
        gaps_s = sum(
            one.profile.min_gap_ms / 1000 if one.profile.family == "dlt645" else t35(self.entry.serial)
            for one, _ in self.outcomes[1:]
        )
        return (wire_s + gaps_s) / (self.elapsed_s - turnaround_s)


class VirtualMixedBus(MixedBus):
    """Both sides, in virtual time."""

    def __init__(self, *, baud: int, faults: Faults = QUIET, seed: int = 1, pieces: int = 0) -> None:
        serial = SerialSettings(baud=baud, parity="E")
        self.wire = mixed_wire(serial, virtual.now_ms, faults=faults, seed=seed, pieces=pieces)
        entry = BusEntry(name="mixed", port="/memory/mixed", serial=serial)
        super().__init__(entry, open_line=self._open, now_ms=virtual.now_ms)

    async def _open(self, bus: BusEntry) -> Line:
        return MemoryLine(self.wire)

    def run(self, rounds: int, items: Mapping[str, Sequence[str]] = BLOCKS) -> None:
        """Read all meters so many times; returns when they are read."""
        virtual.run(self.read(rounds, items), start_ms=START_MS)

    @property
    def elapsed_s(self) -> float:
        """By the virtual clock alone: all time but the listening of a port that was just opened."""
        return self.bus.account.at - OPEN_LISTEN_S

    @property
    def truth(self) -> float:
        """Utilisation as the wire tells it."""
        return self.utilisation(wire_s=self.wire.wire_s, turnaround_s=self.wire.turnaround_s)
