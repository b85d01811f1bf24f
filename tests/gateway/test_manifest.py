"""A day's account: gateway and centre agree on what is complete, and what is not is found and sent again."""

import asyncio
import json
import shutil
from collections.abc import Callable
from datetime import date
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from central.kpi import bounds, kpi
from central.look import looking
from config.model import TaskEntry
from gateway.daemon import Daemon
from gateway.manifest import FACT, SENT_AGAIN_MAX, ManifestCounters, plan_digest
from protocols import manifest
from protocols.errors import Malformed
from protocols.manifest import METERS_MAX, SUM_BELOW, DayPart, MeterDay, TaskDay, shares, term
from simulators import virtual
from simulators.describe import uniform
from tests.chain import START, Chain

TASKS = (
    TaskEntry(name="curve", every_s=900, items=("energy.active.import.total", "voltage.a")),
    TaskEntry(name="bill", every_s=3600, items=("energy.active.import.total",)),
)
HOURS = 3600
DAY = date(2026, 9, 21)
ZONE = ZoneInfo("Asia/Shanghai")
TEXTS = st.text(max_size=8)
WHOLE = st.integers(0, 2**63 - 1)
DAYS = st.builds(TaskDay, task=TEXTS, planned=WHOLE, captured=WHOLE, gaps=WHOLE)
METERS = st.builds(
    MeterDay,
    meter=TEXTS,
    values=WHOLE,
    total=st.integers(0, SUM_BELOW - 1),
    tasks=st.lists(DAYS, max_size=3).map(tuple),
)


@given(st.builds(DayPart, since=WHOLE, until=WHOLE, cut=WHOLE, part=st.integers(0, 9), parts=st.integers(1, 10),
                 meters=st.lists(METERS, max_size=3).map(tuple)))  # fmt: skip
def test_an_account_comes_back_as_it_was(part: DayPart) -> None:
    assert DayPart.decode(part.encode()) == part


@given(st.binary(max_size=60))
def test_no_bytes_are_anything_but_an_account_or_malformed(data: bytes) -> None:
    try:
        assert DayPart.decode(data).encode() == data
    except Malformed:
        return


MOST = 2**32 - 1
SITES = st.dictionaries(
    st.text(min_size=1, max_size=32), st.lists(st.text(min_size=1, max_size=20), max_size=5, unique=True), max_size=90
)


@given(site=SITES, bytes_max=st.integers(60, 2000))
def test_an_account_is_parted_into_bodies_that_fit_whatever_the_figures_are(
    site: dict[str, list[str]], bytes_max: int
) -> None:
    parts = shares([(meter, tuple(tasks)) for meter, tasks in site.items()], bytes_max)
    told = [(meter, task) for part in parts for meter, tasks in part for task in tasks or (None,)]
    assert told == [(meter, task) for meter, tasks in site.items() for task in tasks or (None,)]
    for part in parts:
        days = [
            MeterDay(
                meter=meter, values=MOST, total=SUM_BELOW - 1,
                tasks=tuple(TaskDay(task=task, planned=MOST, captured=MOST, gaps=MOST) for task in tasks),
            )
            for meter, tasks in part
        ]  # fmt: skip
        body = DayPart(since=2**62, until=2**62, cut=2**62, part=1023, parts=1024, meters=tuple(days)).encode()
        assert len(body) <= bytes_max or (len(days) == 1 and len(days[0].tasks) <= 1)
        assert DayPart.decode(body).meters == tuple(days)


def test_a_part_is_no_shorter_than_it_must_be() -> None:
    fleet = [(f"meter-{n:04d}", ("curve", "bill")) for n in range(512)]
    assert len(shares(fleet, 8192 - 256)) == 512 // METERS_MAX
    assert len(shares(fleet, 444)) == 512 // 5 + 1


@pytest.mark.parametrize(("one", "other"), [("230.0", "230"), ("230.00", "230.0"), ("-0.0", "0"), ("1.50", "1.5")])
def test_equal_numbers_count_as_equal(one: str, other: str) -> None:
    assert term("voltage.a", 1, "meter_live", one) == term("voltage.a", 1, "meter_live", other)


@pytest.mark.parametrize(("one", "other"), [("230", "23"), ("1", "10"), ("1.05", "1.5"), ("1", "-1")])
def test_different_numbers_do_not(one: str, other: str) -> None:
    assert term("voltage.a", 1, "meter_live", one) != term("voltage.a", 1, "meter_live", other)


def lived(
    directory: Path, hours: float, harm: Callable[[Chain], None] = lambda _: None, *, harm_at_h: float = 1.9,
    meters_per_bus: int = METERS_MAX // 2 + 2,
) -> tuple[Chain, ManifestCounters]:  # fmt: skip
    """A chain that began at 22:15, and was harmed some time before midnight's account."""

    async def scenario() -> tuple[Chain, ManifestCounters]:
        chain = Chain(directory, uniform(buses=2, meters_per_bus=meters_per_bus), TASKS)
        async with chain.running() as daemon:
            await asyncio.sleep(harm_at_h * HOURS)
            harm(chain)
            await asyncio.sleep((hours - harm_at_h) * HOURS)
            counters = _manifests(daemon)
            await chain.drain(daemon)
            assert daemon.parts is not None
        assert chain.truth().passed
        chain.close()
        return chain, counters

    return virtual.run(scenario(), start_ms=START)


def _manifests(daemon: Daemon) -> ManifestCounters:
    assert daemon.parts is not None
    return daemon.parts.manifests.counters


def test_a_day_ends_with_an_account_that_agrees(tmp_path: Path) -> None:
    chain, counters = lived(tmp_path, 3.5)
    assert counters == ManifestCounters(sent=2, agreed=1)
    assert chain.landing.counters["manifests.agree"] == 2  # more meters than one part holds
    assert chain.landing.counters["manifests.differ"] == 0


def test_a_reading_that_was_deleted_at_the_centre_is_found_and_sent_again(tmp_path: Path) -> None:
    def delete(chain: Chain) -> None:
        sink = chain.sink
        with sink._transaction() as cursor:  # type: ignore[attr-defined]
            cursor.execute("SELECT meter, stamp, quantity FROM reading ORDER BY stamp LIMIT 1")
            cursor.execute("DELETE FROM reading WHERE (meter, stamp, quantity) = (?, ?, ?)", cursor.fetchone())

    chain, counters = lived(tmp_path, 4.5, delete)
    assert chain.landing.counters["manifests.differ"] == 1
    assert counters.differed == 1
    assert counters.sent_again > 0
    assert counters.agreed == 1


def test_a_value_that_was_changed_at_the_centre_is_found(tmp_path: Path) -> None:
    def change(chain: Chain) -> None:
        with chain.sink._transaction() as cursor:  # type: ignore[attr-defined]
            cursor.execute("SELECT meter, stamp, quantity FROM reading ORDER BY stamp LIMIT 1")
            cursor.execute("UPDATE reading SET value = '1' WHERE (meter, stamp, quantity) = (?, ?, ?)",
                           cursor.fetchone())  # fmt: skip

    async def scenario() -> None:
        chain = Chain(tmp_path, uniform(buses=1, meters_per_bus=2), TASKS)
        async with chain.running() as daemon:
            await asyncio.sleep(1.9 * HOURS)
            change(chain)
            await asyncio.sleep(8 * HOURS)
            counters = _manifests(daemon)
            assert counters.differed == SENT_AGAIN_MAX + 1
            assert counters.given_up == 1
            assert daemon.parts is not None
            assert daemon.parts.outbox.fact(FACT) is not None
        assert not chain.truth().passed
        chain.close()

    virtual.run(scenario(), start_ms=START)


def test_readings_deleted_in_two_parts_are_sent_again_in_one_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second part's verdict is on the account before the day was sent again: it is no news."""

    midnight = bounds(DAY, ZONE)[1]

    def delete(chain: Chain) -> None:
        with chain.sink._transaction() as cursor:  # type: ignore[attr-defined]
            for meter in (chain.site.meters[0].id, chain.site.meters[-1].id):
                cursor.execute("DELETE FROM reading WHERE meter = ? AND stamp < ?", (meter, midnight))

    monkeypatch.setattr(manifest, "METERS_MAX", 1)
    chain, counters = lived(tmp_path, 4.5, delete, meters_per_bus=1)
    assert chain.landing.counters["manifests.differ"] == 2
    assert (counters.differed, counters.agreed) == (1, 1)
    day = [capture for capture in chain.accepted.captures if capture.stamp < midnight]
    assert len(day) <= counters.sent_again < 2 * len(day)


def test_what_the_centre_has_and_a_restored_gateway_has_not_is_told_as_more(tmp_path: Path) -> None:
    """Its disk was put back to an image of an hour before: the day is sent again once, and closed with its reason."""

    async def scenario() -> None:
        chain = Chain(tmp_path, uniform(buses=1, meters_per_bus=2), TASKS)
        store, image = chain.site.store, tmp_path / "image"
        async with chain.running():
            await asyncio.sleep(1800)
        shutil.copytree(store, image)
        async with chain.running() as daemon:
            await asyncio.sleep(2100)
            await chain.drain(daemon)
        chain.drained_at = None
        shutil.rmtree(store)
        shutil.copytree(image, store)
        async with chain.running() as daemon:
            await asyncio.sleep(6 * HOURS)
            counters = _manifests(daemon)
            await chain.drain(daemon)
        assert counters.agreed == 1 and counters.given_up == 0
        assert (counters.differed, counters.more) == (1, 1), "sent again once"
        with looking(str(chain.database)) as look:
            ((note,),) = look.rows("SELECT text FROM gateway_note WHERE name LIKE 'manifest.%'", ())
            (line,) = kpi(look, days=[DAY], zone=ZONE)
        assert json.loads(note)["why"] == {meter.id: "more" for meter in chain.site.meters}
        assert (line.account, line.left) == ("more", 0), "complete, and it says why the sums differ"
        truth = chain.truth()
        assert truth.passed, truth.examples
        chain.close()

    virtual.run(scenario(), start_ms=START)


def test_an_account_waits_for_what_is_still_on_its_way(tmp_path: Path) -> None:
    async def scenario() -> None:
        chain = Chain(tmp_path, uniform(buses=1, meters_per_bus=2), TASKS)
        async with chain.running() as daemon:
            await asyncio.sleep(HOURS)
            chain.disconnect_centre()
            await asyncio.sleep(6 * HOURS)
            assert _manifests(daemon).sent == 0
            chain.connect_centre()
            await asyncio.sleep(HOURS)
            assert _manifests(daemon) == ManifestCounters(sent=1, agreed=1)
        chain.close()

    virtual.run(scenario(), start_ms=START)


def test_another_plan_has_another_digest(tmp_path: Path) -> None:
    async def digest(tasks: tuple[TaskEntry, ...]) -> bytes:
        chain = Chain(tmp_path, uniform(buses=1, meters_per_bus=1), tasks)
        found = plan_digest(chain.site)
        chain.close()
        return found

    assert virtual.run(digest(TASKS), start_ms=START) == virtual.run(digest(TASKS), start_ms=START)
    assert virtual.run(digest(TASKS), start_ms=START) != virtual.run(digest(TASKS[:1]), start_ms=START)
