"""What is read at one moment: a reading is brought to its end once it has begun, and a record says when it was read."""

import asyncio
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from config.model import SerialSettings, TaskEntry
from drivers.bus import Lane
from drivers.outcome import MOMENT_S, Outcome
from drivers.plan import plan
from field.truth import Truth
from protocols.capture import Fault, Value, faulty
from protocols.messages import Request, signed, topic
from protocols.quantity import by_name
from simulators import virtual
from simulators.describe import BusPlan, MeterGroup, SitePlan
from simulators.noise import QUIET, Faults
from tests.chain import GATEWAY, START, Chain
from tests.many import ENERGIES, ManyBus, Model, until

METERS: Final = 34
VOLTAGES: Final = ("voltage.a", "voltage.b", "voltage.c")
CURVE: Final = (*VOLTAGES, "current.a", "current.b", "current.c", "power.active.total")
BILL: Final = (*ENERGIES, "energy.active.export.total", "demand.active.import.total")
THREE: Final = Model(profile="dlt645-2007-3p", protocol="dlt645-2007", items=CURVE)


def test_a_reading_that_has_begun_is_brought_to_its_end_before_others_begin() -> None:
    many = ManyBus(METERS, baud=2400, parity="N", models=[THREE])
    spans: dict[Lane, list[float]] = {Lane.BILLING: [], Lane.CURVE: []}

    def done(lane: Lane, outcome: Outcome) -> None:
        assert outcome.read_at is not None
        assert outcome.started_at is not None
        spans[lane].append((outcome.read_at - outcome.started_at) / 1000)

    async def script() -> None:
        """Bills and curves are due at once, more than the bus can do in half a minute."""
        for n in range(METERS):
            for lane in spans:
                many.read(n, lane=lane, read=many.billed(n) if lane is Lane.BILLING else None, done=partial(done, lane))
        await until(lambda: all(len(ended) == METERS for ended in spans.values()))

    many.run(script)
    alone_s = many.plans[0].cost_ms / 1000
    assert many.plans[0].exchanges == 3
    assert max(spans[Lane.CURVE]) < alone_s + 0.1, "of three exchanges, with none of others between them"
    assert max(spans[Lane.BILLING]) < 4 * alone_s, "between its readings at most one reading of another"


def test_only_what_somebody_waits_for_and_what_happened_come_into_a_reading_that_has_begun() -> None:
    many = ManyBus(4, baud=2400, models=[THREE])
    third = many.meters[3]
    request = plan(third.profile, third.entry, VOLTAGES, third.settings)

    async def script() -> None:
        many.read(0, lane=Lane.BACKFILL)
        await until(lambda: len(many.asked) == 1)
        many.read(1, lane=Lane.PRIORITY)
        many.read(2, lane=Lane.EVENT)
        await until(lambda: len(many.asked) == 2)
        many.read(3, lane=Lane.READ_NOW, read=request)
        await until(lambda: len(many.outcomes) == 4)

    many.run(script)
    assert [many.number(asked) for asked in many.asked] == [0, 2, 3, 2, 2, 0, 0, 1, 1, 1]


def test_events_keep_no_reading_from_its_end() -> None:
    many = ManyBus(3, baud=2400, models=[THREE])
    left = [200]

    def again(outcome: Outcome) -> None:
        left[0] -= 1
        if left[0]:
            many.read(1, lane=Lane.EVENT, read=request, done=again)

    second = many.meters[1]
    request = plan(second.profile, second.entry, VOLTAGES, second.settings)

    async def script() -> None:
        many.read(0, lane=Lane.CURVE)
        await until(lambda: len(many.asked) == 1)
        again(Outcome(fault=Fault.MISSED))
        again(Outcome(fault=Fault.MISSED))  # one waits all the time
        many.read(2, lane=Lane.BACKFILL)
        await until(lambda: len(many.outcomes) == 2)

    many.run(script)
    asked = [many.number(asked) for asked in many.asked]
    assert asked[:20] == [0, *[1] * 16, 0, 0, 2]
    assert [n for n in asked[20:] if n != 1] == [2, 2] and len(asked) <= 20 + 2 * 18


def dated(*answers: tuple[str, int]) -> Outcome:
    """An outcome with a value for each of these quantities, answered so many milliseconds from the first."""
    given = tuple(((by_name(name),), 1_000_000 + at) for name, at in answers)
    values = tuple(Value(quantity=quantity, number=Decimal(n)) for n, ((quantity,), _) in enumerate(given))
    return Outcome(values=values, started_at=999_900, read_at=max(at for _, at in given), answers=given)


def told(outcome: Outcome) -> list[tuple[int, list[str]]]:
    return [
        ((part.read_at or 0) - 1_000_000, [value.quantity.name for value in part.values or ()])
        for part in outcome.moments()
    ]


def test_what_was_read_within_a_moment_stays_one_record() -> None:
    outcome = dated(("voltage.a", 0), ("voltage.b", 700), ("voltage.c", round(1000 * MOMENT_S)))
    assert outcome.moments() == (outcome,)


def test_what_was_read_over_more_than_a_moment_is_told_apart() -> None:
    outcome = dated(("voltage.a", 0), ("voltage.b", 900), ("voltage.c", 1800), ("current.a", 4000))
    assert told(outcome) == [(0, ["voltage.a"]), (1800, ["voltage.b", "voltage.c"]), (4000, ["current.a"])]


def test_the_last_answer_counts_and_what_was_not_given_comes_last() -> None:
    outcome = dated(("voltage.a", 0), ("voltage.b", 100), ("voltage.a", 5000))
    assert outcome.values is not None
    outcome = Outcome(
        values=(outcome.values[2], faulty(by_name("current.a"), Fault.SILENT), outcome.values[1]),
        read_at=outcome.read_at, answers=outcome.answers,
    )  # fmt: skip
    assert told(outcome) == [(100, ["voltage.b"]), (5000, ["voltage.a", "current.a"])]


def test_the_share_of_a_task_is_of_the_moment_at_which_its_own_values_were_read() -> None:
    outcome = dated(("voltage.a", 0), ("voltage.b", 300), ("current.a", 9000))
    assert outcome.values is not None
    share = Outcome(values=outcome.values[:2], read_at=outcome.read_at, answers=outcome.answers)
    assert told(share) == [(300, ["voltage.a", "voltage.b"])]


def first_slots(directory: Path, faults: Faults) -> Truth:
    """What a gateway makes of its first slots: bills and curves of a bus on which all of them are due at once."""
    group = MeterGroup(profile="dlt645-2007-3p", address="000000000001", count=METERS)
    bus = BusPlan(name="b", serial=SerialSettings.parse("2400-8N1"), meters=(group,), faults=faults)
    tasks = [
        TaskEntry(name="bill", every_s=3600, items=BILL, lane="billing"),
        TaskEntry(name="curve", every_s=900, items=CURVE),
    ]
    truths: list[Truth] = []

    async def some_minutes() -> None:
        chain = Chain(directory, SitePlan(buses=(bus,)), tasks)
        async with chain.running() as daemon:
            await asyncio.sleep(120)
            await chain.drain(daemon)
        truths.append(chain.truth())
        chain.close()

    virtual.run(some_minutes(), start_ms=START)
    return truths[0]


@pytest.mark.parametrize("faults", [QUIET, Faults(late=0.05)], ids=["quiet", "late"])
def test_each_value_is_of_the_moment_that_its_record_says(tmp_path: Path, faults: Faults) -> None:
    truth = first_slots(tmp_path, faults)
    assert truth.landed >= METERS * (len(BILL) + len(CURVE))
    assert truth.passed, truth.examples


def test_one_record_for_a_reading_that_late_answers_stretch_would_say_wrong_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Outcome, "moments", lambda outcome: (outcome,))
    truth = first_slots(tmp_path, Faults(late=0.05))
    assert truth.different > 0
    assert set(truth.examples) == {"not served"}


def test_a_reading_on_request_says_of_each_value_when_it_was_read(tmp_path: Path) -> None:
    group = MeterGroup(profile="dlt645-2007-3p", address="000000000001", count=1)
    bus = BusPlan(name="b", serial=SerialSettings.parse("1200-8N1"), meters=(group,))
    items = (*CURVE, *BILL)

    async def a_request() -> None:
        chain = Chain(tmp_path, SitePlan(buses=(bus,)), [TaskEntry(name="day", every_s=86_400, items=("voltage.a",))])
        async with chain.running() as daemon:
            await asyncio.sleep(10)
            now = virtual.now_ms()
            request = Request(
                gateway=GATEWAY, request=bytes(16), action="read_now", sent_at=now, expires_at=now + 60_000,
                arguments={"meter": chain.site.meters[0].id, "items": ";".join(items)},
            )  # fmt: skip
            chain.broker.deliver(
                topic(GATEWAY, "down", "request"), signed(request, kid=chain.centre.kid, sign=chain.centre.sign)
            )
            await asyncio.sleep(30)
            await chain.drain(daemon)
        assert chain.truth().passed, chain.truth().examples
        rows = [row for row in chain.sink.readings() if row.task == "read_now"]
        assert {row.quantity for row in rows} == set(items)
        assert len({row.read_at for row in rows}) == 2, "read in 2.6 s"
        assert all(row.stamp == row.read_at for row in rows)
        chain.close()

    virtual.run(a_request(), start_ms=START)
