"""A bus with many simulated meters of several models on one wire, in virtual time; and what was asked on it."""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from config.model import BusEntry, MeterEntry, ProtocolName, SerialSettings
from drivers.bus import Bus, Job, Lane, Outcome
from drivers.confirm import confirmed
from drivers.line import Line
from drivers.meter import Meter
from drivers.plan import ReadPlan, plan
from drivers.profile import load_profile
from simulators import virtual
from simulators.meter import build_meter
from simulators.wire import Asked, MemoryLine, Wire
from tests.mixed import START_MS

FOREVER: Final = float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model, and what is read of each of its meters."""

    profile: str
    protocol: ProtocolName
    items: tuple[str, ...]


ENERGIES: Final = ("energy.active.import.total", *(f"energy.active.import.t{n}" for n in range(1, 5)))
MODELS: Final = (
    Model(profile="dlt645-2007-3p", protocol="dlt645-2007", items=(*ENERGIES, "voltage.a", "voltage.b", "voltage.c")),
    Model(profile="eastron-sdm630", protocol="modbus-rtu", items=("voltage.a", "energy.active.import.total")),
    Model(profile="dlt645-2007-1p", protocol="dlt645-2007", items=("energy.active.import.total", "voltage.a")),
    Model(profile="acrel-dtsd1352", protocol="modbus-rtu", items=("voltage.a", "energy.active.import.total")),
    Model(profile="dlt645-1997", protocol="dlt645-1997", items=("energy.active.import.total",)),
    Model(profile="schneider-iem3155", protocol="modbus-rtu", items=("voltage.a", "energy.active.import.total")),
    Model(profile="eastron-sdm120", protocol="modbus-rtu", items=("voltage.a", "energy.active.import.total")),
)


class ManyBus:
    """So many meters, the models in turn, addressed from 1 on: both sides of the bus."""

    def __init__(
        self, count: int, *, baud: int, parity: str = "E", models: Sequence[Model] = MODELS,
        turnaround_ms: tuple[float, float] = (20.0, 20.0),
    ) -> None:  # fmt: skip
        serial = SerialSettings.parse(f"{baud}-8{parity}1")
        self.entry = BusEntry(name="many", port="/memory/many", serial=serial)
        self.meters: list[Meter] = []
        self.plans: list[ReadPlan] = []
        simulated = []
        for n in range(count):
            model = models[n % len(models)]
            address = f"{n + 1:012d}" if model.protocol.startswith("dlt645") else str(n + 1)
            profile = load_profile(model.profile)
            entry = MeterEntry(id=f"meter-{n + 1}", point="", bus="many", address=address, profile=profile.name,
                               protocol=model.protocol)  # fmt: skip
            self.meters.append(Meter(entry, profile, self.entry))
            self.plans.append(plan(profile, entry, model.items, serial))
            simulated.append(
                build_meter(profile, meter_id=entry.id, address=address, protocol=model.protocol,
                            turnaround_ms=turnaround_ms)
            )  # fmt: skip
        self.simulated = simulated
        self.wire = Wire(simulated, serial=serial, now_ms=virtual.now_ms)
        self.asked: list[Asked] = []
        """Every question, as the wire has it."""
        self.wire.asked = self.asked
        self.bus = Bus(self.entry, open_line=self._open, now_ms=virtual.now_ms)
        self.outcomes: list[tuple[int, Outcome]] = []
        self._feeding = False

    async def _open(self, bus: BusEntry) -> Line:
        return MemoryLine(self.wire)

    def run(self, script: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """The script, beside the running bus; then the bus is stopped."""

        async def main() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.bus.run(), name="bus")
                await script()
                self._feeding = False
                self.bus.stop()

        virtual.run(main(), start_ms=START_MS)

    def read(
        self, n: int, *, lane: Lane = Lane.CURVE, within_s: float = FOREVER, read: ReadPlan | None = None,
        done: Callable[[Outcome], None] | None = None,
    ) -> None:  # fmt: skip
        """Ask for a read of the meter of this number (from 0)."""
        deadline = asyncio.get_running_loop().time() + within_s
        self.bus.submit(
            Job(meter=self.meters[n], dialogue=(read or self.plans[n]).dialogue, lane=lane, deadline=deadline,
                done=done or partial(self._done, n))
        )  # fmt: skip

    def billed(self, n: int) -> ReadPlan:
        """What is read of the meter of this number, read until two readings agree."""
        read = self.plans[n]
        return replace(read, dialogue=partial(confirmed, read.dialogue))

    def _done(self, n: int, outcome: Outcome) -> None:
        self.outcomes.append((n, outcome))

    async def rounds(self, count: int) -> None:
        """Read all meters so many times, without a pause; returns when they are read."""
        for _ in range(count):
            for n in range(len(self.meters)):
                self.read(n)
        wanted = len(self.outcomes) + count * len(self.meters)
        await until(lambda: len(self.outcomes) >= wanted)

    def feed(self, *, lane: Lane = Lane.CURVE, but: Collection[int] = ()) -> None:
        """From now on a read of each meter but these waits all the time, until the script ends."""
        self._feeding = True

        def again(n: int, outcome: Outcome) -> None:
            self._done(n, outcome)
            if self._feeding:
                self.read(n, lane=lane, done=partial(again, n))

        for n in range(len(self.meters)):
            if n not in but:
                self.read(n, lane=lane, done=partial(again, n))

    def number(self, asked: Asked) -> int:
        """Whom a question is for."""
        return number_of(asked.data)


async def until(true: Callable[[], bool], *, step_s: float = 0.01) -> None:
    """Returns when this is so."""
    while not true():  # noqa: ASYNC110  time is virtual
        await asyncio.sleep(step_s)


def number_of(data: bytes) -> int:
    """The number (from 0) of the meter that a question is for."""
    frame = data.lstrip(b"\xfe")
    if frame[0] == 0x68 and len(frame) >= 12:
        return int(frame[1:7][::-1].hex()) - 1
    return data[0] - 1
