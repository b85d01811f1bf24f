"""When the gateway's time is trusted."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from config.model import TaskEntry
from gateway.clock import CENTRE_OFF_MS_MAX, FLOOR_STEP_MS, Clock, kernel_synchronised
from simulators import virtual
from simulators.describe import uniform
from tests.chain import START, Chain

NOW = 1_790_000_000_000


@pytest.mark.parametrize(
    ("trust", "synchronised", "floor", "trusted"),
    [
        ("always", False, 0, True),
        ("always", False, NOW + 1, True),
        ("kernel", True, 0, True),
        ("kernel", True, NOW, True),
        ("kernel", False, 0, False),
        ("kernel", True, NOW + 1, False),  # the battery died, and the clock began again in the past
    ],
)
def test_time_is_trusted_when_the_kernel_vouches_and_it_is_not_below_the_floor(
    trust: str, synchronised: bool, floor: int, trusted: bool
) -> None:
    clock = Clock(trust, now_ms=lambda: NOW, floor=floor, synchronised=lambda: synchronised)  # type: ignore[arg-type]
    assert clock.trusted() is trusted
    assert bool(clock.reason) is not trusted


def test_the_kernel_answers_the_question() -> None:
    assert kernel_synchronised() in (True, False)


def test_the_floor_moves_only_with_trusted_time_and_in_steps() -> None:
    now = NOW
    sure = False
    clock = Clock("kernel", now_ms=lambda: now, floor=NOW, synchronised=lambda: sure)
    assert clock.floor_moved() is None
    now += FLOOR_STEP_MS
    assert clock.floor_moved() is None
    sure = True
    assert clock.floor_moved() == now
    assert clock.floor_moved() is None


# What `chronyc -c tracking` of chrony 4.3 printed: with a clock of its own, without any server, with nobody to ask.
FOLLOWS = (0, "7F7F0101,,8,1795326392.202930392,0.000000000,0.000000000,0.000000000,0.000,0.000,0.000,0.000000000,"
              "0.000000000,0.0,Normal")  # fmt: skip
LOST = (0, "00000000,,0,0.000000000,0.000000000,0.000000000,0.000000000,0.000,0.000,0.000,1.000000000,1.000000000,0.0,"
           "Not synchronised")  # fmt: skip
NOBODY = (1, "506 Cannot talk to daemon")


@pytest.fixture
def chronyc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int, str], None]:
    """Puts a program of this name where it is found, that prints this and exits so."""
    monkeypatch.setenv("PATH", str(tmp_path))

    def put(code: int, line: str) -> None:
        program = tmp_path / "chronyc"
        program.write_text(f"#!/bin/sh\n[ \"$*\" = '-c tracking' ] && echo '{line}' && exit {code}\n", encoding="utf-8")
        program.chmod(0o755)

    return put


@pytest.mark.parametrize(
    ("told", "reason"),
    [(FOLLOWS, ""), (LOST, "chronyd is not synchronised"), (NOBODY, "506 Cannot talk to daemon")],
)
def test_chronyd_is_asked_where_it_is_to_be_believed(
    chronyc: Callable[[int, str], None], told: tuple[int, str], reason: str
) -> None:
    chronyc(*told)
    clock = Clock("chrony", now_ms=lambda: NOW)
    assert clock.trusted() is (not reason)
    assert reason in clock.reason


def test_without_chrony_time_is_not_trusted_and_it_is_said_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    clock = Clock("chrony", now_ms=lambda: NOW)
    assert not clock.trusted()
    assert "chronyc" in clock.reason


def test_a_clock_that_was_right_is_trusted_while_its_servers_are_away_but_not_below_the_floor() -> None:
    sure = True
    now = NOW
    clock = Clock("kernel", now_ms=lambda: now, floor=NOW, synchronised=lambda: sure)
    assert clock.trusted()
    sure = False
    assert clock.trusted()
    now -= 1
    assert not clock.trusted()


def test_a_kernel_that_must_not_be_asked_vouches_for_nothing() -> None:
    def forbidden() -> bool:
        raise PermissionError(1, "adjtimex: Operation not permitted")

    clock = Clock("kernel", now_ms=lambda: NOW, synchronised=forbidden)
    assert not clock.trusted()
    assert "adjtimex" in clock.reason


def test_the_centres_time_is_taken_where_it_is_to_be_believed() -> None:
    clock = Clock("centre", now_ms=lambda: 1_000, floor=NOW)
    assert not clock.trusted()
    assert clock.floor_moved() is None
    clock.heard(NOW - 1)  # an old answer, played again
    assert not clock.trusted()
    clock.heard(NOW + FLOOR_STEP_MS)
    assert clock.trusted()
    assert clock.now_ms() == NOW + FLOOR_STEP_MS
    assert clock.floor_moved() == NOW + FLOOR_STEP_MS


def test_the_centres_time_is_taken_anew_only_when_it_is_another() -> None:
    clock = Clock("centre", now_ms=lambda: NOW)
    clock.heard(NOW + 3_600_000)
    clock.heard(NOW + 3_600_000 + CENTRE_OFF_MS_MAX)
    assert clock.off_ms == 3_600_000
    clock.heard(NOW + 3_600_000 + CENTRE_OFF_MS_MAX + 1)
    assert clock.off_ms == 3_600_000 + CENTRE_OFF_MS_MAX + 1


@pytest.mark.parametrize("trust", ["kernel", "always"])
def test_nobody_else_listens_to_it(trust: str) -> None:
    clock = Clock(trust, now_ms=lambda: NOW, synchronised=lambda: False)  # type: ignore[arg-type]
    clock.heard(NOW + 3_600_000)
    assert clock.now_ms() == NOW
    assert clock.trusted() is (trust == "always")


def test_a_gateway_whose_clock_is_years_off_polls_by_the_centres(tmp_path: Path) -> None:
    """It waits for the centre's word, and what it reads then lands under its true time."""

    class Astray(Chain):
        def gateway_ms(self) -> int:
            return self.now_ms() - START

    async def scenario() -> None:
        task = TaskEntry(name="minute", every_s=60, items=("energy.active.import.total", "voltage.a"))
        chain = Astray(tmp_path, uniform(buses=1, meters_per_bus=2), [task])
        chain.site = replace(chain.site, clock_trust="centre")
        chain.broker.away = True
        async with chain.running() as daemon:
            assert daemon.parts is not None
            await asyncio.sleep(60)
            assert daemon.parts.schedule.counters.asked == 0
            assert daemon.parts.schedule.waiting == "the centre has not told the time yet"
            chain.broker.away = False
            await asyncio.sleep(300)
            chain.broker.away = True  # it goes on by its own clock
            await asyncio.sleep(300)
            chain.broker.away = False
            assert abs(daemon.parts.clock.off_ms - START) < 100
            await chain.drain(daemon)
        truth = chain.truth()
        assert truth.different == truth.missing == truth.duplicate == 0, truth.examples
        slots = {row.slot for row in chain.sink.readings() if row.slot is not None}
        assert len(slots) >= 9
        assert all(START <= slot <= START + 700_000 and slot % 60_000 == 0 for slot in slots)
        chain.close()

    virtual.run(scenario(), start_ms=START)
