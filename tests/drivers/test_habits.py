"""What a meter refuses in one piece is learned, asked for otherwise from then on, and forgotten when it is wrong."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.cost import merge
from drivers.habits import DAYS_MAX, KEPT_MAX, Habits, Hole, Known
from drivers.plan import plan
from drivers.profile import load_profile
from drivers.registers import RegisterReads
from protocols.modbus.dialogue import Block, Item
from tests import modbus
from tests.drivers.test_plan_merge import PRICES, SPANS, items_of, partitions, price
from tests.plans import FAST, SDM630, SLOW, THREE_PHASE, Identifiers, Registers, read_dlt645, read_modbus

PROFILE = load_profile("eastron-sdm630")
ITEMS = ("voltage.a", "voltage.b", "current.a", "current.b", "power.active.a")
"""Registers 0, 2, 6, 8 and 12: two holes, at 4 and at 10."""
ENERGIES = ("energy.active.import.total", *(f"energy.active.import.t{n}" for n in range(1, 5)))


def spoilt(items: Sequence[Item], blocks: Sequence[Sequence[int]], holes: Sequence[Hole]) -> bool:
    """Whether a block of more than one place goes over a hole."""
    for block in blocks:
        members = [items[n] for n in block]
        start, end = min(item.address for item in members), max(item.end for item in members)
        alone = all((item.address, item.end) == (start, end) for item in members)
        over = any(f == members[0].function and start < behind and first < end for f, first, behind in holes)
        if over and not alone:
            return True
    return False


HOLES = st.lists(
    st.tuples(st.sampled_from([3, 4]), st.integers(0, 92), st.integers(0, 4)).map(lambda h: (h[0], h[1], h[1] + h[2])),
    max_size=4,
)
RANGES = st.sampled_from([(), (), ((0, 40), (41, 93)), ((2, 93),)])


@given(SPANS, HOLES, st.sampled_from([4, 7, 20, 100]), RANGES, st.sampled_from([0, 1000, 0x10000 - 94]))
@settings(max_examples=100)
def test_merging_around_holes_is_as_cheap_as_the_cheapest_partition_around_them(
    spans: list[tuple[int, int, int]], holes: list[Hole], most: int, ranges: tuple[tuple[int, int], ...], base: int
) -> None:
    items = items_of([(base + address, width, function) for address, width, function in spans])
    holes = [(function, base + first, base + behind) for function, first, behind in holes]
    ranges = tuple((base + low, base + high) for low, high in ranges)
    best = min(
        price(items, blocks, most, ranges)
        for blocks in partitions(list(range(len(items))))
        if not spoilt(items, blocks, holes)
    )
    if best == float("inf"):
        with pytest.raises(ValueError, match="fit no request"):
            merge(items, PRICES, max_registers=most, readable=ranges, holes=holes)
        return
    blocks = merge(items, PRICES, max_registers=most, readable=ranges, holes=holes)
    assert sorted(n for block in blocks for n in block) == list(range(len(items)))
    assert not spoilt(items, blocks, holes)
    assert price(items, blocks, most, ranges) == pytest.approx(best)


@given(
    st.lists(st.tuples(st.integers(0, 30), st.sampled_from([1, 2, 4]), st.just(3)), min_size=1, max_size=9),
    st.frozensets(st.integers(0, 33), max_size=6),
    st.sampled_from([125, 20, 10, 6, 4]),
    st.frozensets(st.integers(1, 30), max_size=2),
    st.sampled_from([2, 3]),
)
@settings(max_examples=80)
def test_whatever_a_meter_refuses_it_is_soon_asked_for_nothing_in_vain_but_what_it_lacks(
    spans: list[tuple[int, int, int]], missing: frozenset[int], most: int, borders: frozenset[int], code: int
) -> None:
    items = items_of(spans)
    refused: list[tuple[int, int]] = []

    def refuses(start: int, end: int) -> bool:
        return end - start > most or bool(missing & set(range(start, end))) or any(start < at < end for at in borders)

    def answering(question: bytes) -> bytes:
        address, count = int.from_bytes(question[2:4], "big"), int.from_bytes(question[4:6], "big")
        if refuses(address, address + count):
            refused.append((address, count))
            return modbus.exception(code if count > most else 2).encode()
        return modbus.reply(list(range(address, address + count))).encode()

    def make(known: Known) -> list[Block]:
        blocks = merge(items, PRICES, max_registers=max(4, known.longest or 64), holes=known.holes)
        return [Block(1, [items[n] for n in block], block) for block in blocks]

    lacking = {(item.address, item.end) for item in items if refuses(item.address, item.end)}
    reads = RegisterReads(make, Habits(), None)
    for _ in range(6):
        refused.clear()
        values = modbus.converse(reads.dialogue(), answering)
        for item, value in zip(items, values, strict=True):
            held = b"".join(at.to_bytes(2, "big") for at in range(item.address, item.end))
            there = (item.address, item.end) not in lacking
            assert value.plain == (str(int.from_bytes(held, "big")) if there else None)
    assert len(lacking) == len({(item.address, item.end) for item in items}) or len(refused) == len(lacking)


def test_a_hole_that_a_meter_refuses_is_learned_and_the_next_plan_is_the_optimum_around_it() -> None:
    habits = Habits()
    one = plan(PROFILE, SDM630, ITEMS, FAST, habits)
    first, second = Registers(frozenset({4, 5})), Registers(frozenset({4, 5}))
    for answering in (first, second):
        assert read_modbus(one, answering) == ["0", "2", "6", "8", "0.012"]
    assert first.asked[0] == (0, 14)
    assert sorted(second.asked) == [(0, 4), (6, 8)]
    assert list(habits.holes) == [(4, 4, 6)]


def test_what_one_plan_of_a_meter_learns_the_others_know() -> None:
    habits = Habits()
    read_modbus(plan(PROFILE, SDM630, ITEMS, FAST, habits), Registers(frozenset({4, 5})))
    answering = Registers(frozenset({4, 5}))
    read_modbus(plan(PROFILE, SDM630, ("voltage.b", "current.a"), FAST, habits), answering)
    assert sorted(answering.asked) == [(2, 2), (6, 2)]


def test_a_meter_that_gives_fewer_registers_at_a_time_is_not_asked_for_more() -> None:
    class Short(Registers):
        def __call__(self, question: bytes) -> bytes:
            count = int.from_bytes(question[4:6], "big")
            self.missing = frozenset(range(1000)) if count > 4 else frozenset()
            return super().__call__(question)

    habits = Habits()
    items = ("voltage.a", "voltage.b", "voltage.c", "current.a", "current.b", "current.c")
    one = plan(PROFILE, SDM630, items, FAST, habits)
    first, second = Short(), Short()
    for answering in (first, second):
        assert read_modbus(one, answering) == ["0", "2", "4", "6", "8", "10"]
    assert second.asked == [(0, 4), (4, 4), (8, 4)]
    assert habits.known.longest == 4 and not habits.holes


def test_a_border_that_no_request_may_cross_is_learned() -> None:
    class Parted(Registers):
        def __call__(self, question: bytes) -> bytes:
            address, count = int.from_bytes(question[2:4], "big"), int.from_bytes(question[4:6], "big")
            self.missing = frozenset(range(1000)) if address < 6 < address + count else frozenset()
            return super().__call__(question)

    habits = Habits()
    one = plan(PROFILE, SDM630, ("voltage.a", "voltage.b", "voltage.c", "current.a", "current.b"), FAST, habits)
    asked = []
    for _ in range(4):
        answering = Parted()
        assert read_modbus(one, answering) == ["0", "2", "4", "6", "8"]
        asked = sorted(answering.asked)
    assert asked == [(0, 6), (6, 4)]


def test_an_item_that_is_absent_is_asked_alone_and_forgotten_when_it_is_there() -> None:
    habits = Habits()
    one = plan(PROFILE, SDM630, ITEMS, FAST, habits)
    for _ in range(3):
        lacking = Registers(frozenset({6, 7}))
        assert read_modbus(one, lacking) == ["0", "2", None, "8", "0.012"]
    assert (6, 2) in lacking.asked and not any(at < 6 < at + count for at, count in lacking.asked)
    for _ in range(2):
        whole = Registers()
        assert read_modbus(one, whole) == ["0", "2", "6", "8", "0.012"]
    assert habits.holes == {} and whole.asked == [(0, 14)]


def test_a_meter_that_refuses_everything_has_shown_nothing() -> None:
    habits = Habits()
    everything = Registers(frozenset(range(100)))
    assert set(read_modbus(plan(PROFILE, SDM630, ITEMS, FAST, habits), everything)) == {None}
    assert habits.holes == {}


def test_a_refused_block_of_identifiers_is_learned_when_its_parts_are_given() -> None:
    habits = Habits()
    one = plan(load_profile("dlt645-2007-3p"), THREE_PHASE, ENERGIES, SLOW, habits)
    nothing = Identifiers(refuses=lambda di: True)
    read_dlt645(one, nothing)
    assert habits.blocks == {}
    for asked in (["0001FF00"], []):
        parts = Identifiers(refuses=lambda di: "FF" in di)
        read_dlt645(one, parts)
        assert parts.asked == [*asked, "00010000", "00010100", "00010200", "00010300", "00010400"]
    assert list(habits.blocks) == ["0001FF00"]


def test_what_was_refused_is_asked_again_after_a_month() -> None:
    habits = Habits()
    habits.today = 20_000
    one = plan(PROFILE, SDM630, ITEMS, FAST, habits)
    read_modbus(one, Registers(frozenset({4, 5})))
    habits.today += DAYS_MAX
    habits.forget()
    assert habits.holes
    habits.today += 1
    habits.forget()
    answering = Registers()
    read_modbus(one, answering)
    assert answering.asked == [(0, 14)]


def test_what_is_kept_is_bounded() -> None:
    habits = Habits()
    for n in range(100):
        habits.refuses(holes=[(3, n, n)], blocks=[f"{n:08X}"])
    assert len(habits.holes) == len(habits.blocks) == KEPT_MAX
    assert (3, 99, 99) in habits.holes


def test_a_quick_meter_is_asked_more_often_and_a_slow_one_for_more_at_once() -> None:
    habits = Habits()
    items = ("voltage.a", "power.active.c")  # registers 0 and 16: a hole of 14
    one = plan(PROFILE, SDM630, items, FAST, habits)
    asked = []
    for turnaround_ms in (5.0, 150.0):
        habits.answers_in(turnaround_ms)
        answering = Registers()
        read_modbus(one, answering)
        asked.append(len(answering.asked))
    assert asked == [2, 1]


def test_a_turnaround_between_two_steps_does_not_make_plans_anew() -> None:
    habits = Habits()
    habits.answers_in(41.0)
    known = habits.known
    for turnaround_ms in (44.0, 41.0, 45.0, 40.0, 36.0):
        habits.answers_in(turnaround_ms)
    assert habits.known is known


@pytest.mark.parametrize(("before_ms", "after_ms"), [(50.0, 100.0), (100.0, 50.0), (20.0, 35.0), (500.0, 1000.0)])
def test_a_meter_that_becomes_twice_as_slow_or_as_quick_is_planned_for_anew(before_ms: float, after_ms: float) -> None:
    habits = Habits()
    habits.answers_in(before_ms)
    assert habits.known.turnaround_ms == before_ms
    habits.answers_in(after_ms)
    assert habits.known.turnaround_ms == after_ms


def test_what_was_known_already_makes_no_plan_anew() -> None:
    habits = Habits()
    habits.answers_in(50.0)
    habits.refuses(holes=[(3, 4, 6)], blocks=["0001FF00"], longest=40)
    known = habits.known
    habits.today += 1
    habits.refuses(holes=[(3, 4, 6)], blocks=["0001FF00"], longest=40)
    habits.gives((3, 8, 9))
    habits.forget()
    assert habits.known is known


def test_what_a_clock_that_was_ahead_has_dated_is_forgotten_when_it_is_right_again() -> None:
    habits = Habits()
    habits.today = 20_001
    habits.refuses(holes=[(3, 4, 6)], blocks=["0001FF00"], longest=40)
    habits.was_late(800, profile_ms=600)
    habits.forget()
    assert habits.known.longest == 40
    habits.today = 20_000
    habits.forget()
    assert habits.known == Known() and habits.late == (1100, 20_000)  # too narrow a window would cost a wrong value
    assert (habits.holes, habits.blocks, habits.longest) == ({}, {}, None)


def test_that_a_meter_is_as_late_as_it_is_known_to_be_is_no_news() -> None:
    habits = Habits()
    assert [habits.was_late(late_ms, profile_ms=600) for late_ms in (800, 800, 700, 801)] == [True, False, False, True]
