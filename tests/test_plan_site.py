"""A site whose meters, profiles, items and loads do not fit together is told so before anything starts."""

from dataclasses import replace
from pathlib import Path

import pytest

from config.model import BusEntry, MeterEntry, SerialSettings, Site, TaskEntry, UplinkEntry
from drivers.plan import check, loads
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
    assert [(mistake.file, mistake.where) for mistake in mistakes] == [("site.toml", where)]
    assert expected in mistakes[0].expected


def test_a_mistake_that_many_meters_share_is_told_once() -> None:
    meters = [replace(GOOD, id=f"m{n}", address=f"{n:012}") for n in range(50)]
    mistakes = check(site(*meters, items=("voltage.a", "voltage.mean")))
    assert [(mistake.where, mistake.got) for mistake in mistakes] == [("task curve, items", "voltage.mean")]


def test_a_schedule_over_90_percent_of_a_bus_is_a_mistake_that_names_its_tasks() -> None:
    # One voltage of one meter takes 322 ms at 2400 baud: 168 of them fill 90 % of a minute.
    meters = [replace(GOOD, id=f"m{n}", address=f"{n:012}") for n in range(168)]
    assert check(site(*meters[:167], every_s=60)) == []
    (mistake,) = check(site(*meters, every_s=60))
    assert mistake.where == "bus b1" and "90%" in mistake.expected and mistake.got == "90% (curve 90%)"
