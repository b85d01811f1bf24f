"""What was learned of a meter is kept over a restart while its profile changes: another model, or another map of the
same name in a new version. It may cost a question; it never costs a value."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.habits import DAYS_MAX, Habits, Hole
from drivers.meter import Meter
from drivers.plan import plan
from drivers.profile import Profile, ProfileItem, load_profile
from gateway.learned import DAY_MS, Learned
from protocols.modbus.registers import Format, Type
from simulators.load import Load
from simulators.modbus import ModbusMeter
from tests import modbus
from tests.drivers.test_learned import Book
from tests.plans import FAST
from tests.script import meter

SDM630 = load_profile("eastron-sdm630")
NAMES = ("voltage.a", "voltage.b", "voltage.c", "current.a", "power.active.a", "energy.active.import.total")
DAY = 20_000


def changed(*, moved: int, wide: bool, most: int) -> Profile:
    """The profile of the next version: every register elsewhere, as float64 or float32, fewer in one piece."""
    items: dict[str, ProfileItem] = {}
    for name, item in SDM630.items.items():
        assert item.register is not None
        form = Format(type=Type.FLOAT64 if wide else Type.FLOAT32)
        register = replace(item.register, address=2 * item.register.address + moved, format=form)
        items[name] = replace(item, register=register)
    return replace(SDM630, items=items, max_registers=most)


def read(profile: Profile, habits: Habits) -> tuple[list[str | None], int]:
    """The values of one reading of a meter that has these items only, and how many questions were refused."""
    has = replace(profile, items={name: profile.items[name] for name in NAMES})
    there, refused = ModbusMeter(1, has, Load(3), holes="refuse"), 0

    def answering(question: bytes) -> bytes | None:
        nonlocal refused
        (frame,) = modbus.deframe(modbus.listener(question, "requests"), [question])
        said = there.handle(frame, 0)
        refused += said is not None and bool(said[1] & 0x80)
        return said

    entry = replace(meter("1", "modbus-rtu").entry, profile=profile.name)
    values = modbus.converse(plan(profile, entry, NAMES, FAST, habits).dialogue(), answering)
    return [value.plain for value in values], refused


HOLES = st.lists(st.tuples(st.just(4), st.integers(0, 400), st.integers(0, 8)).map(lambda h: (h[0], h[1], h[1] + h[2])),
                 max_size=32)  # fmt: skip


@given(HOLES, st.integers(1, 100) | st.none(), st.integers(0, 9), st.booleans(), st.sampled_from([4, 10, 60]))
@settings(max_examples=60, deadline=None)
def test_whatever_was_learned_of_another_map_every_item_of_the_new_one_is_read(
    holes: list[Hole], longest: int | None, moved: int, wide: bool, most: int
) -> None:
    profile = changed(moved=moved, wide=wide, most=most)
    habits = Habits()
    habits.refuses(holes=holes, longest=longest)
    told, _ = read(profile, habits)
    assert told == read(profile, Habits())[0] and None not in told


def restarted(before: Meter, after: Meter) -> Meter:
    """The second meter, as a gateway begins with it that was stopped while it had the first."""
    book = Book()
    asyncio.run(Learned(book, {before.id: before}, now_ms=lambda: DAY * DAY_MS).keep())
    meters: Mapping[str, Meter] = {after.id: after}
    Learned(book, meters, now_ms=lambda: DAY * DAY_MS)
    return after


def taught() -> Meter:
    """A meter that refuses what its profile's plans go over first."""
    one = meter("1", "modbus-rtu", name="m1")
    one.habits.today = DAY
    read(SDM630, one.habits)
    assert one.habits.holes
    return one


def test_another_version_of_a_profile_is_read_whole_and_what_is_no_hole_any_more_is_tried_again_after_a_month() -> None:
    profile = changed(moved=1, wide=False, most=60)
    after = restarted(taught(), meter("1", "modbus-rtu", name="m1", profile=profile))
    assert after.habits.holes, "by its name it is the same"
    told, _ = read(profile, after.habits)
    assert told == read(profile, Habits())[0] and None not in told
    for _ in range(DAYS_MAX + 1):
        after.habits.today += 1
        after.habits.forget()
    assert not after.habits.holes


@pytest.mark.parametrize("name", ["acrel-dtsd1352", "modbus-generic"])
def test_another_profile_begins_with_nothing_learned(name: str) -> None:
    after = restarted(taught(), meter("1", "modbus-rtu", name="m1", profile=load_profile(name)))
    assert not after.habits.holes and after.habits.known == Habits().known


def test_the_same_profile_begins_with_what_was_learned() -> None:
    before = taught()
    after = restarted(before, meter("1", "modbus-rtu", name="m1"))
    assert after.habits.holes == before.habits.holes
    assert read(SDM630, after.habits) == (read(SDM630, Habits())[0], 0)
    assert read(SDM630, Habits())[1] > 0
