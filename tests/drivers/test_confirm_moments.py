"""What is confirmed while the world moves: the meter freezes anew between two readings, or a clock is set."""

import sys
from datetime import datetime
from decimal import Decimal
from itertools import product
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from drivers import confirm
from drivers.confirm import READINGS_MAX, confirmed
from protocols.capture import Fault, Quality, Value, faulty
from protocols.dialogue import Ask, Dialogue, Garbled, Reply
from protocols.quantity import by_name
from simulators.dlt645 import Dlt645Meter
from simulators.load import Load
from tests.drivers.test_confirm import ENERGY
from tests.drivers.test_mute import Site

FROZEN = tuple(
    by_name(name)
    for name in ("energy.active.import.total.last_1", "demand.active.import.total.last_1", "record.time.daily_1")
)
"""Of three frames, for whatever reason: one may be read before the meter freezes anew and the next one after."""
ASKED_MAX = len(FROZEN) * READINGS_MAX
MINUTE, YEAR = 60_000, 365 * 86_400_000


def over_a_freeze(moves: int, damaged: tuple[int, ...]) -> list[Value]:
    """What is confirmed of a meter that freezes anew just before its answer with this number, when the answers with
    those numbers come damaged."""

    def dialogue() -> Dialogue[str]:
        values: list[Value] = []
        for quantity in FROZEN:
            answer = yield Ask(data=b"?", reply_max=1, accepts=lambda frame: True, wants=(quantity,))
            if isinstance(answer, Reply):
                number, time = Decimal(answer.frame), f"2026-11-0{answer.frame}T00:00"
                values.append(Value(quantity=quantity, number=number) if quantity.form.value == "number" else
                              Value(quantity=quantity, time=time))  # fmt: skip
            else:
                values.append(faulty(quantity, Fault.GARBLED))
        return values

    talk: Dialogue[Any] = confirmed(dialogue)
    next(talk)
    try:
        for n in range(ASKED_MAX + 1):
            at = 1000 * n
            reply = Reply(frame="1" if n < moves else "2", sent_at=at, ended_at=at)
            talk.send(Garbled(seen=b"?") if n in damaged else reply)
    except StopIteration as end:
        values: list[Value] = end.value
        return values
    raise AssertionError("it ends after so many readings")


def mixed(values: list[Value]) -> bool:
    """Whether good values of before the freeze stand beside good ones of after it."""
    good = [value.plain for value in values if value.plain is not None and value.quality is Quality.GOOD]
    return len({text[9:10] if text.startswith("2026-") else text for text in good if text}) > 1


def test_what_is_frozen_is_of_one_freeze_whenever_the_meter_freezes_anew() -> None:
    for moves in range(ASKED_MAX + 1):
        values = over_a_freeze(moves, ())
        assert not mixed(values), moves
        assert all(value.quality is Quality.GOOD for value in values), moves


def test_damage_beside_a_freeze_may_cost_certainty_but_mixes_nothing() -> None:
    lost = 0
    for moves, damaged in product(range(ASKED_MAX + 1), repeat=2):
        values = over_a_freeze(moves, (damaged,))
        assert not mixed(values), (moves, damaged)
        lost += any(value.quality is not Quality.GOOD for value in values)
    assert lost <= 0.1 * (ASKED_MAX + 1) ** 2


def test_an_item_that_never_comes_casts_no_doubt_on_what_is_frozen_beside_it() -> None:
    always = tuple(range(1, ASKED_MAX, len(FROZEN)))
    values = over_a_freeze(0, always)
    assert [value.fault for value in values] == [None, Fault.GARBLED, None]
    assert all(value.quality is Quality.GOOD for value in values if value.fault is None)


def test_what_is_settled_one_by_one_is_mixed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: the same items, of which nobody says that they are frozen."""
    plain = tuple(by_name(n) for n in ("energy.active.import.total", "demand.active.import.total", "clock.date"))
    monkeypatch.setattr(sys.modules[__name__], "FROZEN", plain)
    assert any(mixed(over_a_freeze(moves, ())) for moves in range(ASKED_MAX + 1))


FIRST = datetime(2026, 3, 1, tzinfo=ZoneInfo("Asia/Shanghai"))
"""A month ends, and the simulated meter settles."""
SETTLED = tuple(
    f"{name}.last_{n}"
    for name in ("energy.active.import.total", "energy.reactive.q1.total", "energy.active.import.t1") for n in (1, 2)
)  # fmt: skip


def over_a_settlement(before_ms: int) -> list[str | None]:
    """What is billed of a meter whose reading begins so long before it settles; None where it is not sure."""
    site, billed = Site(Dlt645Meter("000000000001", Load(3)), SETTLED, billing=True), list[str | None]()

    async def script() -> None:
        outcome = await site.read()
        assert outcome.read_at is not None and outcome.started_at is not None
        billed.extend(value.plain if value.quality is Quality.GOOD else None for value in outcome.values or ())

    site.run(script, start_ms=round(FIRST.timestamp() * 1000) - 10_000 - before_ms)
    return billed


def test_a_bill_that_is_read_while_the_meter_settles_is_that_of_before_or_that_of_after() -> None:
    before, after = over_a_settlement(60_000), over_a_settlement(-60_000)
    assert None not in before + after and all(one != other for one, other in zip(before, after, strict=True))
    billed = [over_a_settlement(before_ms) for before_ms in range(0, 2000, 20)]
    assert all(one in (before, after) for one in billed)
    assert billed[0] == after and billed[-1] == before


def register(numbers: list[str], clock: list[int]) -> Value:
    """What is confirmed of a register that shows these, when our clock shows that at its answers (UTC ms)."""

    def dialogue() -> Dialogue[str]:
        answer = yield Ask(data=b"?", reply_max=1, accepts=lambda frame: True)
        assert isinstance(answer, Reply)
        return [Value(quantity=ENERGY, number=Decimal(answer.frame))]

    talk: Dialogue[Any] = confirmed(dialogue, power_kw_max=36)
    next(talk)
    try:
        for number, at in zip(numbers, clock, strict=True):
            talk.send(Reply(frame=number, sent_at=at, ended_at=at))
    except StopIteration as end:
        (value,) = end.value
        assert isinstance(value, Value)
        return value
    raise AssertionError("it ends after so many readings")


STEADY = [1_700_000_000_000 + 1000 * n for n in range(READINGS_MAX)]


def set_at(n: int, by_ms: int) -> list[int]:
    """A clock that is set by so much before the answer with this number."""
    return [at + (by_ms if k >= n else 0) for k, at in enumerate(STEADY)]


@pytest.mark.parametrize("by_ms", [MINUTE, YEAR, -MINUTE, -YEAR])
@pytest.mark.parametrize("n", range(1, READINGS_MAX))
def test_a_clock_that_is_set_between_two_readings_lets_no_step_pass_that_a_meter_cannot_make(
    n: int, by_ms: int
) -> None:  # fmt: skip
    damaged = ["1.00", "1.01", "1.02", "9.00", "9.01"]  # 8 kWh in a second; 36 kW make 0.6 kWh in a minute
    assert register(damaged, STEADY).quality is Quality.DOUBTFUL
    assert register(damaged, set_at(n, by_ms)).quality is Quality.DOUBTFUL


@pytest.mark.parametrize("by_ms", [MINUTE, YEAR, -MINUTE, -YEAR])
@pytest.mark.parametrize("n", range(1, READINGS_MAX))
def test_a_clock_that_is_set_between_two_readings_casts_no_doubt_on_those_that_agree(n: int, by_ms: int) -> None:
    for numbers in (["1.00"] * 2, ["1.00", "1.01", "1.01"]):
        clock = set_at(n, by_ms)[: len(numbers)]
        assert register(numbers, clock).quality is Quality.GOOD
    rising = ["1.00", "1.01", "1.02", "1.03", "1.04"]
    assert register(rising, set_at(n, by_ms)).quality is Quality.GOOD


def test_without_its_bound_a_clock_set_forward_lets_any_step_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confirm, "APART_MS_MAX", 10 * YEAR)
    assert register(["1.00", "1.01", "1.02", "9.00", "9.01"], set_at(3, YEAR)).quality is Quality.GOOD
