"""What was learned of the meters outlives a restart, is written seldom, and is a beginning, not a belief."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace

import pytest

from buffer.errors import StoreFull
from drivers.meter import Meter
from gateway.learned import DAY_MS, FACT, FACTS, Learned
from tests.script import meter

NOW = 20_000 * DAY_MS


class Book:
    """The facts of an outbox; full on demand."""

    def __init__(self) -> None:
        self.facts: dict[str, str] = {}
        self.written = 0
        self.full = False

    def fact(self, name: str) -> str | None:
        return self.facts.get(name)

    async def set_fact(self, name: str, value: str) -> None:
        if self.full:
            raise StoreFull("no space")
        self.written += 1
        self.facts[name] = value


def fleet(count: int = 3) -> Mapping[str, Meter]:
    made = [meter(str(n), "modbus-rtu", name=f"m{n}") for n in range(1, count + 1)]
    return {one.id: one for one in made}


def keep(book: Book, meters: Mapping[str, Meter], *, now: int = NOW) -> Learned:
    learned = Learned(book, meters, now_ms=lambda: now)
    asyncio.run(learned.keep())
    return learned


def taught() -> Mapping[str, Meter]:
    meters = fleet()
    for one in meters.values():
        for _ in range(50):
            one.answered(0.21)
        one.habits.today = NOW // DAY_MS
    meters["m2"].habits.refuses(holes=[(4, 4, 6)], blocks=["0001FF00"], longest=40)
    return meters


def test_what_was_learned_is_there_after_a_restart() -> None:
    book, before, after = Book(), taught(), fleet()
    fresh = after["m1"].turnaround_s
    keep(book, before)
    assert Learned(book, after, now_ms=lambda: NOW).recalled == 3
    assert after["m1"].turnaround_s == pytest.approx(before["m1"].turnaround_s)
    assert after["m1"].turnaround_s < fresh
    assert after["m2"].habits.holes == {(4, 4, 6): 20_000}
    assert after["m2"].habits.known.blocks == {"0001FF00"}
    assert after["m2"].habits.known.longest == 40
    assert after["m1"].habits.known.turnaround_ms == 200.0


def test_how_late_a_meter_is_outlives_a_restart_and_an_entry_of_before_that_was_kept_is_read() -> None:
    book, before, after = Book(), taught(), fleet()
    fresh_s = after["m1"].late_s
    assert before["m1"].was_late(2.0)
    assert keep(book, before).written and keep(book, before).written == 0
    Learned(book, after, now_ms=lambda: NOW)
    assert after["m1"].habits.late == before["m1"].habits.late == (2600, NOW // DAY_MS)
    assert after["m1"].late_s > fresh_s + 1.0
    assert after["m2"].habits.late is None
    book.facts = {name: text.replace(',"late":null', "") for name, text in book.facts.items()}
    assert all("late" not in text or "2600" in text for text in book.facts.values())
    assert Learned(book, fleet(), now_ms=lambda: NOW).recalled == 3


def test_a_time_out_learned_too_short_is_forgotten_with_the_first_silence() -> None:
    book, after = Book(), fleet()
    fresh = after["m1"].turnaround_s
    keep(book, taught())
    learned = Learned(book, after, now_ms=lambda: NOW)
    assert after["m1"].turnaround_s < fresh
    after["m1"].unanswered()
    assert after["m1"].turnaround_s == fresh
    again = fleet()
    asyncio.run(learned.keep())
    Learned(book, again, now_ms=lambda: NOW)
    assert again["m1"].turnaround_s == fresh


def test_it_is_written_when_something_changes_and_not_else() -> None:
    book, meters = Book(), taught()
    learned = keep(book, meters)
    assert 0 < learned.written <= min(3, FACTS)
    written = book.written
    for turnaround_s in (0.2, 0.25, 0.19):
        for one in meters.values():
            one.answered(turnaround_s)
        asyncio.run(learned.keep())
    assert book.written == written
    meters["m1"].habits.refuses(holes=[(4, 20, 24)])
    asyncio.run(learned.keep())
    assert book.written == written + 1
    asyncio.run(Learned(book, meters, now_ms=lambda: NOW).keep())
    assert book.written == written + 1


def test_another_meter_in_its_place_begins_anew() -> None:
    book = Book()
    keep(book, taught())
    other = {"m2": meter("77", "modbus-rtu", name="m2")}
    assert Learned(book, other, now_ms=lambda: NOW).recalled == 0
    assert other["m2"].habits.holes == {} and other["m2"].learned_ms is None
    keep(book, other)
    assert "m2" not in "".join(book.facts.values())


def test_what_is_too_old_is_forgotten_at_the_start() -> None:
    book, after = Book(), fleet()
    keep(book, taught())
    Learned(book, after, now_ms=lambda: NOW + 40 * DAY_MS)
    assert after["m2"].habits.holes == {} and after["m2"].habits.known.blocks == frozenset()
    assert after["m2"].habits.known.longest is None


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "null", '{"m1": 7}', '{"m1": {"as": "x"}}', '{"m1": {"as": "x", "ms": [1], "holes": [], "blocks": {}}}',
     '{"m1": {"as": "x", "ms": null, "holes": [[1]], "blocks": {}}}'],
)  # fmt: skip
def test_a_fact_that_cannot_be_read_is_no_fact(text: str) -> None:
    book, meters = Book(), fleet()
    book.facts = {FACT.format(n): text for n in range(FACTS)}
    learned = Learned(book, meters, now_ms=lambda: NOW)
    assert learned.recalled == 0
    assert all(one.learned_ms is None for one in meters.values())


def test_a_full_disk_is_tried_again() -> None:
    book, meters = Book(), taught()
    book.full = True
    learned = keep(book, meters)
    assert learned.written == 0
    book.full = False
    asyncio.run(learned.keep())
    assert learned.written > 0


def test_a_meter_on_other_settings_of_the_line_is_another_one() -> None:
    book, after = Book(), fleet()
    keep(book, taught())
    after["m1"].settings = replace(after["m1"].settings, baud=1200)
    assert Learned(book, after, now_ms=lambda: NOW).recalled == 2
