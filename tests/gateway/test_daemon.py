"""The gateway as a whole, in virtual time: what meters served is what landed, whatever happens in between."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from buffer.errors import StoreFull
from config.model import BusEntry, TaskEntry
from drivers.line import Line, PortLost
from drivers.meter import Meter
from drivers.profile import load_profile
from gateway.catchup import SLOTS_MAX as CATCH_UP_SLOTS_MAX
from gateway.daemon import Daemon
from gateway.intake import Intake
from gateway.snapshot import Snapshot
from gateway.status import StatusSocket, ask
from protocols.capture import Fault, Gap, Record
from simulators import virtual
from simulators.describe import BusPlan, MeterGroup, SitePlan, uniform
from simulators.virtual import now_ms
from simulators.wire import MemoryLine
from tests.chain import START, Chain

ITEMS = ("energy.active.import.total", "voltage.a", "current.a", "power.active.total")
MINUTE = TaskEntry(name="minute", every_s=60, items=ITEMS)
MINUTE_MS = 60_000


def test_all_that_was_accepted_lands_once_across_a_broker_outage(tmp_path: Path) -> None:
    async def half_an_hour() -> None:
        chain = Chain(tmp_path, uniform(buses=1, meters_per_bus=4), [MINUTE])
        async with chain.running() as daemon:
            await asyncio.sleep(10 * 60)
            chain.broker.away = True
            landed_before = len(list(chain.sink.readings()))
            await asyncio.sleep(10 * 60)
            assert len(list(chain.sink.readings())) == landed_before
            chain.broker.away = False
            await asyncio.sleep(10 * 60 - 30)
            await chain.drain(daemon)
        truth = chain.truth()
        assert truth.passed, truth.examples
        assert truth.planned == truth.accepted == 4 * 30
        assert truth.gaps == 0
        assert truth.landed == 4 * 30 * len(ITEMS)
        chain.close()

    virtual.run(half_an_hour(), start_ms=START)


@pytest.mark.parametrize("commit_s", [0.0, 1.0, 30.0])
def test_a_slot_that_passes_while_the_missed_ones_are_committed_is_told_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, commit_s: float
) -> None:
    accept = Intake.accept

    async def slowly(self: Intake, records: Sequence[Record], *, urgent: bool = False) -> None:
        await asyncio.sleep(commit_s if urgent and isinstance(records[0], Gap) else 0.0)
        await accept(self, records, urgent=urgent)

    async def scenario() -> None:
        chain = Chain(tmp_path, uniform(buses=1, meters_per_bus=2), [MINUTE])
        await chain.run(150)
        await asyncio.sleep(209.5)  # it starts again half a second before a slot
        monkeypatch.setattr(Intake, "accept", slowly)
        async with chain.running() as daemon:
            await asyncio.sleep(200)
            await chain.drain(daemon)
        truth = chain.truth()
        assert truth.passed, truth.examples
        chain.close()

    virtual.run(scenario(), start_ms=START)


def test_slots_that_the_gateway_was_down_for_become_gaps_and_the_current_one_is_read_late(tmp_path: Path) -> None:
    async def scenario() -> None:
        chain = Chain(tmp_path, uniform(buses=2, meters_per_bus=2), [MINUTE])
        await chain.run(150)  # slots 0, 1 and 2
        await asyncio.sleep(200)  # 3, 4 and 5 come and go; it starts again at 350 s, ten seconds before slot 6
        async with chain.running() as daemon:
            await asyncio.sleep(30)
            await chain.drain(daemon)
        truth = chain.truth()
        assert truth.passed, truth.examples
        gaps = {(gap.slot - START) // MINUTE_MS: gap.fault for gap in chain.sink.gaps()}
        assert gaps == {3: "missed", 4: "missed"}
        late = [row for row in chain.sink.readings() if row.slot == START + 5 * MINUTE_MS]
        assert len(late) == 4 * len(ITEMS)
        chain.close()

    virtual.run(scenario(), start_ms=START)


def test_a_gateway_killed_before_its_first_answer_still_owes_its_first_slots(tmp_path: Path) -> None:
    async def scenario() -> None:
        chain = Chain(tmp_path, uniform(buses=1, meters_per_bus=2), [MINUTE])
        await asyncio.sleep(30)
        task = asyncio.get_running_loop().create_task(chain.daemon().run())
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.wait({task})
        assert chain.accepted.captures == []
        await asyncio.sleep(100)  # slots 1 and 2 come; it starts again in slot 2
        async with chain.running() as daemon:
            await asyncio.sleep(10)
            await chain.drain(daemon)
        truth = chain.truth()
        assert truth.passed, truth.examples
        assert {(gap.slot - START) // MINUTE_MS: gap.fault for gap in chain.sink.gaps()} == {0: "missed", 1: "missed"}
        assert truth.accepted == 2
        chain.close()

    virtual.run(scenario(), start_ms=START)


def test_a_gateway_is_not_drained_while_some_of_it_waits_in_the_file_that_the_store_left(tmp_path: Path) -> None:
    async def scenario() -> None:
        chain = Chain(tmp_path, uniform(buses=1, meters_per_bus=2), [MINUTE])
        async with chain.running() as daemon:
            chain.disconnect_centre()
            await asyncio.sleep(150)
            assert daemon.parts is not None
            store = daemon.parts.outbox._store
            assert store.spare is not None and store.spare.move(store)
            chain.connect_centre()
            await asyncio.sleep(1)
            assert daemon.parts.outbox.left
            await chain.drain(daemon)
            assert not daemon.parts.outbox.left
        truth = chain.truth()
        assert truth.passed, truth.examples
        assert truth.accepted == 6
        chain.close()

    virtual.run(scenario(), start_ms=START)


def test_a_restart_within_a_slot_reads_nothing_twice(tmp_path: Path) -> None:
    async def scenario() -> None:
        chain = Chain(tmp_path, uniform(buses=1, meters_per_bus=3), [MINUTE])
        for _ in range(3):
            await chain.run(10)
        assert len(chain.accepted.captures) == 3
        assert len(chain.simulated.log.entries) == 3 * 4
        chain.close()

    virtual.run(scenario(), start_ms=START)


@pytest.mark.parametrize("seed", range(5))
def test_a_gateway_that_is_cut_off_at_any_moment_loses_nothing_that_it_accepted(tmp_path: Path, seed: int) -> None:
    async def scenario() -> None:
        chain = Chain(tmp_path, uniform(buses=1, meters_per_bus=8), [MINUTE], seed=seed)
        for life in range(6):
            daemon = chain.daemon()
            task = asyncio.get_running_loop().create_task(daemon.run())
            await asyncio.sleep(37.3 + 11.7 * life + seed)
            task.cancel()  # no farewell, nothing flushed on purpose
            await asyncio.wait({task})
            await asyncio.sleep(0.1 + 20 * (life % 3))
        async with chain.running() as daemon:
            await asyncio.sleep(100)
            await chain.drain(daemon)
        truth = chain.truth()
        assert truth.passed, truth.examples
        chain.close()

    virtual.run(scenario(), start_ms=START)


def test_a_silent_meter_costs_its_own_slots_and_no_others(tmp_path: Path) -> None:
    group = MeterGroup(profile="dlt645-2007-3p", address="000000000001", count=3)
    dead = MeterGroup(profile="dlt645-2007-3p", address="000000000009", present=False)
    plan = SitePlan(buses=(BusPlan(name="b", meters=(group, dead)),))

    async def scenario() -> None:
        chain = Chain(tmp_path, plan, [MINUTE])
        async with chain.running() as daemon:
            await asyncio.sleep(5 * 60 + 30)
            assert daemon.parts is not None
            said = Snapshot(daemon.parts, now_ms=now_ms)()["meters"]
            assert isinstance(said, list)
            meters = {meter["meter"]: meter for meter in said}
            assert meters["b-000000000009"]["silent"] is True
            assert meters["b-000000000009"]["rate"] == 0.0
            assert meters["b-000000000001"]["rate"] == 1.0
            await chain.drain(daemon)
        truth = chain.truth()
        assert truth.passed, truth.examples
        assert truth.accepted == 3 * 6
        assert truth.gaps == 6
        assert {(gap.meter, gap.fault) for gap in chain.sink.gaps()} == {("b-000000000009", "silent")}
        chain.close()

    virtual.run(scenario(), start_ms=START)


def test_tasks_that_share_a_slot_read_what_they_have_in_common_once(tmp_path: Path) -> None:
    hour = TaskEntry(name="hour", every_s=3600, items=("energy.active.import.total", "frequency"), lane="billing")

    async def scenario() -> None:
        chain = Chain(tmp_path, uniform(buses=1, meters_per_bus=2), [MINUTE, hour])
        async with chain.running() as daemon:
            await asyncio.sleep(46 * 60)  # 22:15 to 23:01, so that 23:00 is shared
            await chain.drain(daemon)
        truth = chain.truth()
        assert truth.passed, truth.examples
        eleven = START + 45 * MINUTE_MS
        at_eleven = [row for row in chain.sink.readings() if row.slot == eleven]
        assert len(at_eleven) == 2 * (len(ITEMS) + 1)
        served = [
            entry
            for entry in chain.simulated.log.entries
            if "energy.active.import.total" in entry.values and eleven <= entry.at_ms < eleven + MINUTE_MS
        ]
        assert len(served) == 2
        chain.close()

    virtual.run(scenario(), start_ms=START)


def test_a_task_of_a_longer_period_outlives_the_slot_that_it_shared(tmp_path: Path) -> None:
    hour = TaskEntry(name="hour", every_s=3600, items=("frequency",), lane="billing")
    lines: list[MemoryLine] = []
    pulled = False

    async def scenario() -> None:
        nonlocal pulled
        chain = Chain(tmp_path, uniform(buses=1, meters_per_bus=2), [MINUTE, hour])

        async def open_line(bus: BusEntry) -> Line:
            if pulled:
                raise PortLost("the adapter is not there")
            line = await chain.simulated.open_line(bus)
            assert isinstance(line, MemoryLine)
            lines.append(line)
            return line

        daemon = chain.daemon()
        daemon.world = replace(daemon.world, open_line=open_line)
        task = asyncio.get_running_loop().create_task(daemon.run())
        await asyncio.sleep(44.5 * 60)  # 22:59:30
        pulled = True
        lines[-1].tear()
        await asyncio.sleep(150)
        pulled = False  # 23:02:00
        await asyncio.sleep(3 * 60)
        await chain.drain(daemon)
        daemon.stop()
        await task
        truth = chain.truth()
        assert truth.passed, truth.examples
        assert {((gap.slot - START) // MINUTE_MS, gap.task, gap.fault) for gap in chain.sink.gaps()} == {
            (45, "minute", "bus"),
            (46, "minute", "bus"),
        }
        late = [row for row in chain.sink.readings() if row.task == "hour" and row.slot == START + 45 * MINUTE_MS]
        assert len(late) == 2
        assert all(row.stamp == row.read_at > START + 47 * MINUTE_MS for row in late)
        chain.close()

    virtual.run(scenario(), start_ms=START)


def test_after_a_long_absence_the_newest_slots_become_gaps_and_the_rest_one_event(tmp_path: Path) -> None:
    async def scenario() -> None:
        chain = Chain(tmp_path, uniform(buses=1, meters_per_bus=1), [MINUTE])
        await chain.run(20)
        await asyncio.sleep(4 * 86_400)
        async with chain.running() as daemon:
            await asyncio.sleep(20)
            await chain.drain(daemon)
        gaps = sorted(gap.slot for gap in chain.sink.gaps())
        assert len(gaps) == CATCH_UP_SLOTS_MAX
        assert gaps[-1] == chain.accepted.captures[-1].slot - MINUTE_MS  # type: ignore[operator]
        assert chain.truth().unexplained == 4 * 1440 - 1 - CATCH_UP_SLOTS_MAX
        assert [event.name for event in chain.events] == ["slots_missed"]
        detail = chain.events[0].detail
        assert (detail["first"], detail["slots"]) == (START + MINUTE_MS, 4 * 1440 - 1 - CATCH_UP_SLOTS_MAX)
        chain.close()

    virtual.run(scenario(), start_ms=START)


def test_without_trusted_time_nothing_is_read_and_the_slots_become_clock_gaps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synchronised = False
    monkeypatch.setattr("gateway.clock.kernel_synchronised", lambda: synchronised)

    async def scenario() -> None:
        nonlocal synchronised
        chain = Chain(tmp_path, uniform(buses=1, meters_per_bus=2), [MINUTE])
        chain.site = replace(chain.site, clock_trust="kernel")
        async with chain.running() as daemon:
            await asyncio.sleep(150)
            assert daemon.parts is not None
            assert not chain.simulated.log.entries
            assert Snapshot(daemon.parts, now_ms=now_ms)()["clock"] == {
                "trusted": False,
                "reason": "the kernel's clock is not synchronised",
                "source": "kernel",
                "off_ms": 0,
            }
            synchronised = True
            await asyncio.sleep(60)
            await chain.drain(daemon)
        truth = chain.truth()
        assert truth.passed, truth.examples
        gaps = sorted(((gap.slot - START) // MINUTE_MS, gap.fault) for gap in chain.sink.gaps())
        assert gaps == [(0, "clock"), (0, "clock"), (1, "clock"), (1, "clock")]
        chain.close()

    virtual.run(scenario(), start_ms=START)


def test_a_clock_that_is_set_leaves_gaps_and_no_slot_twice(tmp_path: Path) -> None:
    shift = 0

    async def scenario() -> None:
        nonlocal shift
        chain = Chain(tmp_path, uniform(buses=1, meters_per_bus=2), [MINUTE])
        daemon = chain.daemon()
        daemon.world = replace(daemon.world, now_ms=lambda: now_ms() + shift)
        task = asyncio.get_running_loop().create_task(daemon.run())
        await asyncio.sleep(95)
        shift = 5 * MINUTE_MS  # from slot 1 it goes to slot 6, which passes before anybody looks
        await asyncio.sleep(70)
        shift = 2 * MINUTE_MS  # and from slot 7 it goes back to slot 4
        await asyncio.sleep(5 * 60)
        await chain.drain(daemon)
        daemon.stop()
        await task
        captures = sorted((capture.meter, capture.slot) for capture in chain.accepted.captures)
        assert len(captures) == len(set(captures))
        slots = sorted({(capture.slot - START) // MINUTE_MS for capture in chain.accepted.captures if capture.slot})
        gaps = {(gap.slot - START) // MINUTE_MS for gap in chain.accepted.gaps}
        assert slots == [0, 1, 5, 6, 7, 8, 9]
        assert gaps == {2, 3, 4, 5, 6}  # the last two were read after all: that closes them
        chain.close()

    virtual.run(scenario(), start_ms=START)


def test_a_full_disk_is_waited_for_and_no_slot_is_forgotten(tmp_path: Path) -> None:
    async def scenario() -> None:
        chain = Chain(tmp_path, uniform(buses=1, meters_per_bus=2), [MINUTE])
        async with chain.running() as daemon:
            assert daemon.parts is not None
            outbox = daemon.parts.outbox
            append = outbox.append

            async def full(*_: object, **__: object) -> None:
                raise StoreFull("no space left")

            await asyncio.sleep(30)
            outbox.append = full  # type: ignore[method-assign]
            await asyncio.sleep(120)
            outbox.append = append  # type: ignore[method-assign]
            await asyncio.sleep(60)
            await chain.drain(daemon)
            assert daemon.parts.intake.counters.store_full > 0
        truth = chain.truth()
        assert truth.passed, truth.examples
        assert truth.gaps == 0
        chain.close()

    virtual.run(scenario(), start_ms=START)


def test_a_defect_of_the_scheduler_or_the_store_ends_the_process(tmp_path: Path) -> None:
    async def scenario() -> None:
        chain = Chain(tmp_path, uniform(buses=1, meters_per_bus=1), [MINUTE])
        daemon = chain.daemon()
        task = asyncio.get_running_loop().create_task(daemon.run())
        await daemon.ready.wait()
        assert daemon.parts is not None

        def broken() -> None:
            raise RuntimeError("a defect")

        daemon.parts.schedule.tick = broken  # type: ignore[method-assign]
        await asyncio.sleep(90)
        assert task.done()
        with pytest.raises(ExceptionGroup) as caught:
            await task
        assert caught.group_contains(RuntimeError, match="a defect")
        chain.close()

    virtual.run(scenario(), start_ms=START)


def test_the_status_socket_says_how_everything_stands(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "run" / "s.sock"
        socket = StatusSocket(path, lambda: {"gateway": "gw-1", "fault": Fault.SILENT.value})
        await socket.open()
        assert path.stat().st_mode & 0o777 == 0o660
        answers = await asyncio.gather(*(ask(path) for _ in range(4)))
        assert answers == [{"gateway": "gw-1", "fault": "silent"}] * 4
        await socket.close()
        with pytest.raises(OSError, match="No such file"):
            await ask(path)
        async with await asyncio.start_unix_server(lambda _, writer: writer.close(), path):
            with pytest.raises(OSError, match="closed without an answer"):  # as one does that is ending
                await ask(path)

    asyncio.run(scenario())


def test_what_was_learned_of_meters_is_known_after_a_restart(tmp_path: Path) -> None:
    async def scenario() -> None:
        chain = Chain(tmp_path, uniform(buses=1, meters_per_bus=3), [MINUTE])
        expected = {meter.id: meter.profile.turnaround_ms_max / 1000 for meter in _meters(chain.daemon())}
        async with chain.running() as daemon:
            await asyncio.sleep(150)
            await chain.drain(daemon)
        async with chain.running() as daemon:
            parts = daemon.parts
            assert parts is not None
            assert parts.learned.recalled == 3
            assert all(meter.turnaround_s < expected[meter.id] for meter in parts.meters.values())
            await asyncio.sleep(3600)
            assert parts.learned.written == 0, "nothing has changed"
        assert chain.truth().passed
        chain.close()

    virtual.run(scenario(), start_ms=START)


def _meters(daemon: Daemon) -> list[Meter]:
    buses = {bus.name: bus for bus in daemon.site.buses}
    return [Meter(entry, load_profile(entry.profile), buses[entry.bus]) for entry in daemon.site.meters]
