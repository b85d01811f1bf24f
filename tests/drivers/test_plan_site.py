"""A site whose meters, profiles, items and loads do not fit together is told so before anything starts."""

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from config.model import BusEntry, MeterEntry, SerialSettings, Site, TaskEntry, UplinkEntry
from drivers.fit import check, loads, survey
from field.chinese import translated
from tests.plans import SDM630, SLOW, THREE_PHASE, meter


def site(*meters: MeterEntry, every_s: int = 900, items: tuple[str, ...] = ("voltage.a",)) -> Site:
    return Site(
        gateway="g1", uplink=UplinkEntry(url="mqtt://localhost:1883"), meters=meters, origin=Path("site.toml"),
        buses=(BusEntry(name="b1", port="/dev/ttyS1", serial=SLOW),),
        tasks=(TaskEntry(name="curve", every_s=every_s, items=items),),
    )  # fmt: skip


GOOD = replace(THREE_PHASE, tasks=("curve",))


def test_a_right_site_has_no_mistakes_and_a_load() -> None:
    right = site(GOOD, replace(GOOD, id="m2", address="000000000002"), every_s=60)
    assert check(right) == []
    # 2400 8E1, four FE and four bytes of identifier both ways, two bytes of voltage, 100 ms turnaround, 30 ms gap.
    one_ms = (2 * (4 + 12 + 4) + 2) * 11 / 2.4 + 130
    assert loads(right) == {"b1": pytest.approx(2 * one_ms / 60_000)}


@pytest.mark.parametrize(
    ("entry", "where", "expected"),
    [(replace(GOOD, profile="dlt645-2008"), "meter m1, profile", "dlt645-2007-3p"),
     (replace(GOOD, protocol="modbus-rtu", address="1"), "meter m1, protocol", "dlt645-2007"),
     (replace(GOOD, address="12345"), "meter m1, address", "12 digits"),
     (replace(SDM630, tasks=("curve",), address="248"), "meter m1, address", "1 to 247"),
     (replace(SDM630, tasks=("curve",), protocol="modbus-ascii"), "meter m1, protocol", "modbus-rtu"),
     (replace(SDM630, tasks=("curve",), serial=SerialSettings.parse("9600-7E1")), "meter m1, serial", "8 data bits"),
     (replace(meter("dlt645-1997", "dlt645-1997"), tasks=("curve",)), "task curve, items", "dlt645-1997")],
)  # fmt: skip
def test_what_does_not_fit_the_profile_is_a_mistake(entry: MeterEntry, where: str, expected: str) -> None:
    mistakes = check(site(entry, items=("voltage.a", "clock") if "1997" in entry.profile else ("voltage.a",)))
    assert [(mistake.file, mistake.where) for mistake in mistakes] == [
        ("site.toml" if where.startswith("task") else "meters.csv", where)
    ]
    assert expected in mistakes[0].expected


@pytest.mark.parametrize("item", ["input:40:float32", "holding:35:uint16:2", "input:65535"])
def test_registers_that_a_model_must_not_be_asked_for_are_a_mistake(item: str) -> None:
    entry = replace(meter("eastron-sdm72d", "modbus-rtu"), tasks=("curve",))
    (mistake,) = check(site(entry, items=("voltage.a", item)))
    assert (mistake.where, mistake.got) == ("task curve, items", item)
    assert (
        mistake.expected == "registers within 0..35 52..53 56..57 60..61 70..75 342..345, which eastron-sdm72d serves"
    )
    assert translated(mistake.expected) is not None
    assert check(site(entry, items=("voltage.a", "input:34:uint16:2", "input:344:float32"))) == []


@pytest.mark.parametrize(
    ("profile", "ct", "pt", "doubled"),
    [("siemens-pac3200", 40, 1, True), ("siemens-pac3200", 1, 10, True), ("siemens-pac3200", 1, 1, False),
     ("chint-dtsu666", 40, 10, False)],
)  # fmt: skip
def test_ratios_of_the_archive_for_a_meter_that_multiplies_itself_get_a_word(
    profile: str, ct: int, pt: int, doubled: bool
) -> None:
    entry = meter(profile, "modbus-rtu", tasks=("curve",), ct=Decimal(ct), pt=Decimal(pt))
    (load,), mistakes = survey(site(entry))
    assert not mistakes and load.twice == (("m1",) if doubled else ())


def test_a_meter_that_cannot_be_asked_hides_no_other() -> None:
    wrong = replace(GOOD, profile="dlt645-2008"), replace(GOOD, id="m2", address="12345")
    loads, mistakes = survey(site(*wrong, replace(GOOD, id="m3", address="000000000003")))
    assert [mistake.where for mistake in mistakes] == ["meter m1, profile", "meter m2, address"]
    assert [(load.meters, load.tasks[0].meters) for load in loads] == [(3, 1)]


def test_a_mistake_that_many_meters_share_is_told_once() -> None:
    meters = [replace(GOOD, id=f"m{n}", address=f"{n:012}") for n in range(50)]
    mistakes = check(site(*meters, items=("voltage.a", "voltage.mean")))
    assert [(mistake.where, mistake.got) for mistake in mistakes] == [("task curve, items", "voltage.mean")]


def test_a_schedule_over_90_percent_of_a_bus_is_a_mistake_that_names_its_tasks() -> None:
    # One voltage of one meter takes 322 ms at 2400 baud: 168 of them fill 90 % of a minute.
    meters = [replace(GOOD, id=f"m{n}", address=f"{n:012}") for n in range(168)]
    assert check(site(*meters[:167], every_s=60)) == []
    (mistake,) = check(site(*meters, every_s=60))
    assert mistake.where == "bus b1" and "90%" in mistake.expected and mistake.got == "90.3% (curve 90.3%)"


def test_a_load_is_told_by_bus_and_task() -> None:
    curve = TaskEntry(name="curve", every_s=900, items=("voltage.a",))
    day = TaskEntry(name="day", every_s=86_400, items=("energy.active.import.total", "clock.date"), lane="billing")
    entries = [replace(GOOD, id=f"m{n}", address=f"{n:012}", tasks=("curve", "day")) for n in range(3)]
    (load,), mistakes = survey(replace(site(*entries), tasks=(curve, day)))
    assert not mistakes
    assert [(one.task.name, one.meters, one.exchanges) for one in load.tasks] == [("curve", 3, 3), ("day", 3, 6)]
    one_ms = (2 * (4 + 12 + 4) + 2) * 11 / 2.4
    assert load.tasks[0].wire_ms == pytest.approx(3 * one_ms)
    assert load.tasks[0].bus_ms == pytest.approx(3 * (one_ms + 130))
    assert load.share == pytest.approx(load.tasks[0].share + load.tasks[1].share)
    assert load.fits and not load.tight and not load.crowded


@pytest.mark.parametrize(("bus", "own", "readings"), [
    ("2400-8E1", "", 1), ("2400-8N1", "", 2), ("2400-8E1", "9600-8N1", 2), ("9600-8N1", "2400-8E1", 1)])  # fmt: skip
def test_what_is_billed_counts_twice_where_the_meters_own_line_has_no_parity(bus: str, own: str, readings: int) -> None:
    day = TaskEntry(name="day", every_s=86_400, items=("energy.active.import.total",), lane="billing")
    one = replace(GOOD, tasks=("day",), serial=SerialSettings.parse(own) if own else None)
    all_of_it = site(one)
    buses = (replace(all_of_it.buses[0], serial=SerialSettings.parse(bus)),)
    (load,), mistakes = survey(replace(all_of_it, tasks=(day,), buses=buses))
    assert not mistakes
    assert load.tasks[0].exchanges == readings


@pytest.mark.parametrize(("count", "tight", "fits"), [(130, False, True), (131, True, True), (168, False, False)])
def test_over_70_percent_is_tight_and_over_90_does_not_fit(count: int, tight: bool, fits: bool) -> None:
    (load,), _ = survey(site(*[replace(GOOD, id=f"m{n}", address=f"{n:012}") for n in range(count)], every_s=60))
    assert (load.tight, load.fits) == (tight, fits)


def test_tasks_that_come_due_together_may_not_take_longer_than_the_shortest_has() -> None:
    names = tuple(f"energy.active.import.total.last_{n}" for n in range(1, 6))
    minute = TaskEntry(name="minute", every_s=60, items=("voltage.a",))
    day = TaskEntry(name="day", every_s=86_400, items=names)
    entries = [replace(GOOD, id=f"m{n}", address=f"{n:012}", tasks=("minute", "day")) for n in range(100)]
    (load,), _ = survey(replace(site(*entries), tasks=(minute, day)))
    assert load.fits
    assert [one.task.name for one in load.crowded] == ["minute", "day"]
    (load,), _ = survey(replace(site(*entries), tasks=(minute, replace(day, offset_s=3600))))
    assert load.crowded == ()


def test_questions_that_are_on_their_way_at_once_share_the_turnarounds() -> None:
    one = meter("schneider-iem3155", "modbus-tcp", tasks=("curve",))
    entries = [replace(one, id=f"m{n}", address=str(n)) for n in range(1, 41)]
    apart = site(*entries, every_s=60)
    together = replace(apart, buses=tuple(replace(bus, pipeline=8) for bus in apart.buses))
    assert loads(together)["b1"] == pytest.approx(loads(apart)["b1"] / 8, rel=0.01)


@pytest.mark.parametrize(("serial", "readings"), [("2400-8E1", 1), ("2400-8N1", 2)])
def test_what_is_billed_counts_twice_where_no_parity_can_vouch_for_it(serial: str, readings: int) -> None:
    curve = site(GOOD)
    bus = replace(curve.buses[0], serial=SerialSettings.parse(serial))
    curve = replace(curve, buses=(bus,))
    billed = replace(curve, tasks=(replace(curve.tasks[0], lane="billing"),))
    assert loads(billed)["b1"] == pytest.approx(readings * loads(curve)["b1"])
