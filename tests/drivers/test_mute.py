"""A meter that is silent where it ought to refuse is told from one that is dead: read, learned, and asked otherwise."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from config.model import BusEntry, ProtocolName, SerialSettings, TaskEntry
from drivers.bus import Bus, Job, Lane, Outcome
from drivers.confirm import confirmed
from drivers.habits import DAYS_MAX
from drivers.line import Line
from drivers.meter import Meter
from drivers.plan import plan
from drivers.profile import Profile, load_profile
from drivers.silent import PROBE_EVERY_S
from drivers.witness import Witness
from gateway.learned import DAY_MS, Learned
from protocols.capture import Fault, Quality
from protocols.dialogue import MUTE, Answer, Reply, Silence
from simulators import virtual
from simulators.answer import Holes
from simulators.describe import BusPlan, MeterGroup, SitePlan
from simulators.dlt645 import Dlt645Meter
from simulators.load import Load
from simulators.meter import SimulatedMeter
from simulators.modbus import ModbusMeter
from simulators.noise import QUIET, Faults
from simulators.wire import MemoryLine, Wire
from tests import modbus
from tests.chain import START, Chain
from tests.desk import START_MS
from tests.drivers.test_learned import Book
from tests.many import until
from tests.script import meter

SERIAL = SerialSettings(baud=9600, parity="N")
BUS = BusEntry(name="b1", port="/dev/ttyS0", serial=SERIAL)
SDM630 = load_profile("eastron-sdm630")
VOLTAGES = tuple(f"voltage.{phase}" for phase in "abc")
GAPPED = ("voltage.a", "voltage.b", "current.a", "current.b", "power.active.a")
"""Registers 0, 2, 6, 8 and 12: two holes, at 4 and at 10, that one request goes over."""
WHOLE = (*VOLTAGES, *(f"{kind}.{phase}" for kind in ("current", "power.active", "power.apparent") for phase in "abc"))
"""Registers 0 to 23 in one piece."""
ENERGIES = ("energy.active.import.total", *(f"energy.active.import.t{n}" for n in range(1, 5)))


def sdm630(*, lacks: Sequence[str] = (), longest: int = 80, holes: Holes = "mute") -> ModbusMeter:
    """One that has all items but these, and gives so many registers at a time."""
    items = {name: item for name, item in SDM630.items.items() if name not in lacks}
    return ModbusMeter(1, replace(SDM630, items=items, max_registers=longest), Load(3), holes=holes)


class Site:
    """One simulated meter on a wire, read again and again by a bus that plans with what it has learned."""

    def __init__(
        self, simulated: ModbusMeter | Dlt645Meter, items: Sequence[str], *, faults: Faults = QUIET, seed: int = 1,
        profile: Profile | None = None, billing: bool = False, protocol: ProtocolName | None = None,
        now_ms: Callable[[], int] = virtual.now_ms,
    ) -> None:  # fmt: skip
        """now_ms: the clock of the bus; that of the meter is right."""
        modbus = isinstance(simulated, ModbusMeter)
        self.there = SimulatedMeter(id="m", meter=simulated)
        self.wire = Wire([self.there], serial=SERIAL, now_ms=virtual.now_ms, seed=seed, faults=faults)
        self.wire.asked = []
        self.bus = Bus(BUS, open_line=self._open, now_ms=now_ms)
        self.items, self.billing = tuple(items), billing
        self.meter: Meter
        self.begin(meter("1" if modbus else "000000000001", protocol or ("modbus-rtu" if modbus else "dlt645-2007"),
                         bus=BUS, profile=profile))  # fmt: skip

    def begin(self, one: Meter) -> None:
        """Plan anew, as after a start."""
        self.meter = one
        self.plan = plan(one.profile, one.entry, self.items, SERIAL, one.habits)

    async def _open(self, bus: BusEntry) -> Line:
        return MemoryLine(self.wire)

    async def read(self, *, within_s: float = 600.0) -> Outcome:
        """One reading."""
        loop = asyncio.get_running_loop()
        came: asyncio.Future[Outcome] = loop.create_future()
        dialogue = self.plan.dialogue
        if self.billing:
            dialogue = lambda: confirmed(self.plan.dialogue)  # noqa: E731
        self.bus.submit(Job(meter=self.meter, dialogue=dialogue, lane=Lane.CURVE, deadline=loop.time() + within_s,
                            done=came.set_result))  # fmt: skip
        return await came

    async def vain(self, *, within_s: float = 600.0) -> tuple[list[str | None], int]:
        """What one reading gives, a value or a fault for each item, and how many of its questions were in vain."""
        before = self.wire.counts["questions"] - self.wire.counts["answers"]
        outcome = await self.read(within_s=within_s)
        told = ["value" if value.plain else value.fault and value.fault.value for value in outcome.values or ()]
        return told, self.wire.counts["questions"] - self.wire.counts["answers"] - before

    def run(self, script: Callable[[], Coroutine[Any, Any, None]], *, start_ms: int = START_MS) -> None:
        async def main() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.bus.run(), name="bus:b1")
                await asyncio.sleep(10.0)
                await script()
                self.bus.stop()

        virtual.run(main(), start_ms=start_ms)


def given(items: Sequence[str]) -> list[str | None]:
    return ["value"] * len(items)


MUTE_METERS = {
    "holes": lambda: Site(sdm630(lacks=("voltage.c", "current.c")), GAPPED),
    "length": lambda: Site(sdm630(longest=10), WHOLE),
    "blocks": lambda: Site(Dlt645Meter("000000000001", Load(3), holes="mute"), ENERGIES),
}


@pytest.mark.parametrize("which", MUTE_METERS)
def test_every_value_of_a_mute_meter_is_read_and_soon_nothing_is_asked_in_vain(
    which: str, caplog: pytest.LogCaptureFixture
) -> None:
    site = MUTE_METERS[which]()

    async def script() -> None:
        caplog.set_level(logging.WARNING)
        in_vain = []
        for _ in range(8):
            told, vain = await site.vain()
            assert told == given(site.items)
            in_vain.append(vain)
        assert in_vain[0] > 0 and in_vain[-3:] == [0, 0, 0]
        assert site.bus.counters.fell_silent == 0

    site.run(script)
    said = [record.getMessage() for record in caplog.records if "and answers others" in record.getMessage()]
    assert said and len(set(said)) == len(said) and all("meter=meter-" in line for line in said)


@pytest.mark.parametrize("which", MUTE_METERS)
def test_without_a_smaller_question_a_mute_meter_is_taken_for_dead(
    which: str, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    def deaf(*_: object) -> Any:
        return False
        yield

    monkeypatch.setattr(Witness, "heard", deaf)
    site = MUTE_METERS[which]()

    async def script() -> None:
        assert (await site.vain())[0] == ["silent"] * len(site.items)
        assert site.bus.silent == (site.meter.id,)
        await asyncio.sleep(10 * PROBE_EVERY_S)
        assert site.bus.silent == (site.meter.id,)

    site.run(script)


def test_an_item_that_a_mute_meter_lacks_is_absent_to_it_asked_once_a_day_and_read_when_it_is_there() -> None:
    lacking, whole = sdm630(lacks=("voltage.b",)), sdm630()
    site = Site(lacking, VOLTAGES)
    habits = site.meter.habits
    habits.today = 20_000

    async def script() -> None:
        for _ in range(2):
            told, vain = await site.vain()
            assert told == ["value", "silent", "value"] and vain > 0
        for _ in range(2):
            told, _ = await site.vain()
        assert told == ["value", "absent", "value"]
        for _ in range(20):
            assert await site.vain() == (["value", "absent", "value"], 0)
        habits.today += 1
        habits.forget()
        told, vain = await site.vain()
        assert told == ["value", "absent", "value"] and 0 < vain <= 2 * site.meter.attempts
        assert await site.vain() == (told, 0)
        site.there.meter = whole
        assert await site.vain() == (told, 0)
        habits.today += 1
        habits.forget()
        for _ in range(2):
            assert await site.vain() == (given(VOLTAGES), 0)
        assert not habits.holes and not habits.mute

    site.run(script)
    assert site.bus.counters.fell_silent == 0


def test_an_identifier_to_which_alone_a_meter_is_mute_does_not_hide_those_behind_it() -> None:
    lacking = Dlt645Meter("000000000001", Load(3, phases=1), holes="mute")
    items = ("frequency", "voltage.b", "power_factor.total", "energy.active.import.total")
    site = Site(lacking, items)
    site.meter.habits.today = 20_000

    async def script() -> None:
        for _ in range(2):
            assert (await site.vain())[0] == ["value", "silent", "value", "value"]
        await site.vain()
        assert await site.vain() == (["value", "absent", "value", "value"], 0)
        site.there.meter = Dlt645Meter("000000000001", Load(3), holes="mute")
        site.meter.habits.today += 1
        assert await site.vain() == (given(items), 0)

    site.run(script)


@pytest.mark.parametrize("first", [1, 2, 4])
def test_a_meter_that_is_mute_to_the_first_items_is_found_by_one_behind_them(first: int) -> None:
    """It is taken for dead at first: the smaller question was one of those it is mute to. Each probe asks another."""
    site = Site(sdm630(lacks=WHOLE[:first]), WHOLE)

    async def script() -> None:
        assert (await site.vain())[0] == ["silent"] * len(WHOLE)
        assert site.bus.silent
        await asyncio.sleep((first + 1) * PROBE_EVERY_S)
        assert not site.bus.silent
        for _ in range(12):
            told, vain = await site.vain()
        assert (told, vain) == (["absent"] * first + given(WHOLE[first:]), 0)

    site.run(script)
    assert site.bus.counters.fell_silent == 1


def test_a_dead_meter_costs_one_small_question_more_and_is_probed_by_small_ones() -> None:
    site = Site(sdm630(), WHOLE)
    site.there.present = False

    async def script() -> None:
        asked = site.wire.asked
        assert asked is not None
        assert (await site.vain())[0] == ["silent"] * len(WHOLE)
        counts = [int.from_bytes(one.data[4:6], "big") for one in asked]
        assert counts == [24] * site.meter.attempts + [2]
        asked.clear()
        await asyncio.sleep(6 * PROBE_EVERY_S + 30.0)
        assert [int.from_bytes(one.data[4:6], "big") for one in asked] == [2] * 6
        site.there.present = True
        await asyncio.sleep(60.0)
        assert not site.bus.silent and await site.vain() == (given(WHOLE), 0)
        assert not site.meter.habits.holes

    site.run(script)


def test_an_outage_in_the_midst_of_a_reading_teaches_nothing() -> None:
    """The meter is away while a block is asked, and back for the smaller question: the worst moment. Once is chance."""
    site = Site(sdm630(), WHOLE)

    async def script() -> None:
        asked = site.wire.asked
        assert asked is not None
        for _ in range(5):
            site.there.present = False
            asked.clear()
            reading = asyncio.ensure_future(site.vain())
            await until(lambda: len(asked) == site.meter.attempts)
            await asyncio.sleep(1.2)
            site.there.present = True
            told, vain = await reading
            assert told == given(WHOLE) and vain == 0 and not site.bus.silent
            assert await site.vain() == (told, 0)
            assert not site.meter.habits.holes and site.meter.habits.longest is None

    site.run(script)


def noisy(*, readings: int) -> Site:
    site = Site(sdm630(), WHOLE, faults=Faults(ber=1e-3, loss=2e-3), seed=5)

    async def script() -> None:
        for _ in range(readings):
            await site.read()

    site.run(script)
    return site


def test_noise_teaches_nothing_but_would_if_one_reading_were_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    site = noisy(readings=1000)
    assert site.wire.counts["questions disturbed"] > 100
    assert not site.meter.habits.holes and site.meter.habits.longest is None
    monkeypatch.setattr(Witness, "certain", lambda self, mute: list(mute))
    site = noisy(readings=1000)
    assert site.meter.habits.holes or site.meter.habits.longest is not None


def test_what_a_meter_is_mute_to_outlives_a_restart_and_is_tried_again_after_a_month() -> None:
    book, today = Book(), 20_000
    site = Site(sdm630(lacks=("voltage.c",)), (*GAPPED, "voltage.c"))
    learned = Learned(book, {site.meter.id: site.meter}, now_ms=lambda: today * DAY_MS)

    async def script() -> None:
        nonlocal learned, today
        for _ in range(6):
            told, vain = await site.vain()
        assert (told, vain) == ([*given(GAPPED), "absent"], 0)
        await learned.keep()
        site.begin(meter("1", "modbus-rtu", bus=BUS))
        learned = Learned(book, {site.meter.id: site.meter}, now_ms=lambda: today * DAY_MS)
        assert learned.recalled == 1
        _, vain = await site.vain()
        assert 0 < vain <= 2 * site.meter.attempts  # the item that it lacks, once a day
        assert await site.vain() == (told, 0)
        today += DAYS_MAX + 1
        await learned.keep()
        assert not site.meter.habits.holes
        site.there.meter = sdm630()
        assert await site.vain() == ([*given(GAPPED), "value"], 0)

    site.run(script)


def test_a_bill_is_confirmed_although_the_meter_is_mute_to_one_of_its_items() -> None:
    lacking = Dlt645Meter("000000000001", Load(3), holes="mute")
    lacking.load = Load(3, tariffs=2)
    site = Site(lacking, ENERGIES, billing=True)

    async def script() -> None:
        for _ in range(3):
            outcome = await site.read()
            values = outcome.values or ()
            assert [value.quality for value in values if value.fault is None] == [Quality.GOOD] * 3
            assert {value.fault for value in values[3:]} <= {Fault.SILENT, Fault.ABSENT}
            assert {value.detail for value in values[3:]} == {MUTE}

    site.run(script)


def test_readings_that_are_cut_short_learn_all_the_same() -> None:
    """A search takes longer than there is time until the next slot. What was found of it counts."""
    site = Site(sdm630(longest=10, lacks=("current.a",)), WHOLE)

    async def script() -> None:
        for _ in range(20):
            told, vain = await site.vain(within_s=15.0)
        assert (told, vain) == ([*given(VOLTAGES), "absent", *given(WHOLE[4:])], 0)

    site.run(script)


def test_a_site_of_mute_meters_and_a_dead_one_loses_no_slot_of_the_others(tmp_path: Path) -> None:
    tasks = [TaskEntry(name="curve", every_s=300, items=(*ENERGIES, *VOLTAGES, "frequency"))]
    three = MeterGroup(profile="dlt645-2007-3p", address="000000000001", count=3)
    groups = (replace(three, holes="mute"), replace(three, address="000000000011"),
              replace(three, address="000000000021", present=False))  # fmt: skip
    plan_ = SitePlan(buses=(BusPlan(name="b", serial=SerialSettings.parse("2400-8E1"), meters=groups),))

    async def hours() -> None:
        chain = Chain(tmp_path, plan_, tasks)
        async with chain.running() as daemon:
            await asyncio.sleep(3600)
            await chain.drain(daemon)
        truth = chain.truth()
        assert truth.passed, truth.examples
        gaps = {gap.meter for gap in chain.accepted.gaps}
        assert gaps == {f"b-{n:012d}" for n in (21, 22, 23)}
        read: dict[int | None, set[str]] = {}
        for capture in chain.accepted.captures:
            if capture.meter == "b-000000000001":
                read.setdefault(capture.slot, set()).update(name for name, text in capture.values.items() if text)
        assert len(read) >= 12 and all(names == set(tasks[0].items) for names in read.values())
        chain.close()

    virtual.run(hours(), start_ms=START)


@pytest.mark.parametrize("gateway", [False, True])
def test_over_tcp_a_mute_meter_is_told_from_a_dead_one_also_when_a_gateway_speaks_for_it(gateway: bool) -> None:
    """A gateway says 0B for its meter's silence, which the bus takes for just that."""
    there, vain = sdm630(lacks=("voltage.c", "current.c")), 0
    entry = meter("1", "modbus-tcp").entry
    reads = plan(SDM630, entry, GAPPED, SERIAL)

    def reading() -> list[str | None]:
        nonlocal vain
        vain, dialogue = 0, reads.dialogue()
        ask = next(dialogue)
        while True:
            (question,) = modbus.deframe(modbus.listener(ask.data, "requests"), [ask.data])
            said = there.handle(question, 0)
            if said is None and gateway:
                said = modbus.exception(0x0B, function=question.function, transaction=question.transaction).encode()
            answer: Answer[Any] = Silence()
            frame = modbus.accepted(ask, said) if said is not None else None
            if frame is not None and ask.speaks_for is not None and not ask.speaks_for(frame):
                answer = Reply(frame=frame, sent_at=0, ended_at=0)
            vain += isinstance(answer, Silence)
            try:
                ask = dialogue.send(answer)
            except StopIteration as end:
                return ["value" if value.plain else None for value in end.value]

    for _ in range(6):
        assert reading() == given(GAPPED)
    assert vain == 0
