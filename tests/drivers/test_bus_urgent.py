"""A read on request on a saturated bus: the next frame, whatever else waits or is in the middle of something."""

import asyncio
from random import Random

import pytest

from drivers.bus import QUEUE_MAX, URGENT_MAX, Lane, Outcome
from drivers.confirm import confirmed
from drivers.meter import Meter
from drivers.plan import ReadPlan, plan
from drivers.port import BABBLE_MAX_S
from protocols.capture import Fault
from protocols.dialogue import Dialogue
from protocols.dlt645 import v2007
from protocols.dlt645.frame import Frame
from protocols.modbus.dialogue import Block, Item, read_blocks
from protocols.modbus.frame import Frame as ModbusFrame
from protocols.modbus.registers import Format, Type
from protocols.quantity import by_name
from simulators.dlt645 import Dlt645Meter
from simulators.wire import Asked
from tests.desk import TURNAROUND_S, Desk, good, serve
from tests.drivers.test_bus_refusals import QUICK, refused
from tests.many import ENERGIES, ManyBus, Model, until
from tests.script import Said, ScriptedLine, meter, registers

THREE_PHASE = Model(profile="dlt645-2007-3p", protocol="dlt645-2007", items=(*ENERGIES, "voltage.a", "voltage.b"))
GAP_S = 0.03
"""The longest of the mandatory gaps at 9600 baud: that of DL/T 645."""
ITEMS = {"dlt645": ("frequency",), "modbus": ("voltage.a",)}


def on_request(many: ManyBus, n: int) -> ReadPlan:
    """Something that nothing else reads."""
    meter = many.meters[n]
    items = ITEMS[meter.profile.family] if "frequency" in meter.profile.items else ("energy.active.import.total",)
    return plan(meter.profile, meter.entry, items, meter.settings)


def next_after(many: ManyBus, at: float) -> Asked:
    """The first question that began after this moment."""
    return next(asked for asked in many.asked if asked.at > at)


@pytest.mark.parametrize("lane", [Lane.CURVE, Lane.PRIORITY])
@pytest.mark.parametrize("seed", range(4))
def test_a_read_on_request_is_the_next_frame_after_the_exchange_in_progress(lane: Lane, seed: int) -> None:
    many = ManyBus(32, baud=9600)
    many.simulated[3].present = many.simulated[5].present = False
    rng = Random(seed)
    dead = {3, 5}

    async def script() -> None:
        loop = asyncio.get_running_loop()
        many.feed(lane=lane)
        await until(lambda: len(many.bus.silent) == 2)
        for _ in range(60):
            await asyncio.sleep(rng.uniform(0.05, 1.5))  # anywhere: in a question, a turnaround, an answer, a gap
            n = rng.choice([n for n in range(32) if n not in dead])
            ended: list[Outcome] = []
            # It may itself have been asked just now: while an answer that looks alike may come twice, it is left alone.
            own = n in [many.number(asked) for asked in many.asked[-3:]]
            at = loop.time()
            many.read(n, lane=Lane.READ_NOW, read=on_request(many, n), done=ended.append)
            await until(lambda ended=ended: bool(ended), step_s=0.002)  # type: ignore[misc]
            (outcome,) = ended
            assert outcome.values and outcome.values[0].fault is None
            asked = next_after(many, at)
            if not own:
                assert many.number(asked) == n
                before = many.asked[many.asked.index(asked) - 1]
                timed_out = many.number(before) in dead
                assert timed_out or asked.silence_s <= GAP_S + 1e-6

    many.run(script)


def test_a_read_of_many_exchanges_is_interrupted_between_two_frames() -> None:
    many = ManyBus(2, baud=2400, models=[THREE_PHASE])
    one = many.meters[0]
    long = plan(one.profile, one.entry, tuple(one.profile.items)[:40], one.settings)
    assert long.exchanges > 5

    async def script() -> None:
        many.read(0, read=long)
        await until(lambda: len(many.asked) == 3)
        at = many.asked[-1].at
        many.read(1, lane=Lane.READ_NOW)
        await until(lambda: len(many.outcomes) == 2)
        assert [n for n, _ in many.outcomes] == [1, 0]
        assert many.number(next_after(many, at)) == 1

    many.run(script)
    assert all(value.fault is None for _, outcome in many.outcomes for value in outcome.values or ())


def test_a_follow_up_chain_is_interrupted_for_other_meters_only() -> None:
    many = ManyBus(2, baud=9600, models=[THREE_PHASE])
    served = many.simulated[0].meter
    assert isinstance(served, Dlt645Meter)
    served.extra["04010000"] = bytes(range(200)) * 3  # longer than three frames
    chain = many.meters[0].entry.address
    order: list[str] = []

    async def script() -> None:
        many.read(0, read=_of(lambda: v2007.read(chain, ["04010000"])), done=lambda _: order.append("chain"))
        await until(lambda: len(many.asked) == 2)
        at = many.asked[-1].at
        assert many.asked[-1].data.lstrip(b"\xfe")[8] == 0x12
        many.read(0, lane=Lane.READ_NOW, done=lambda _: order.append("same meter"))
        many.read(1, lane=Lane.READ_NOW, done=lambda _: order.append("other meter"))
        await until(lambda: len(order) == 3)
        assert many.number(next_after(many, at)) == 1

    many.run(script)
    assert order == ["other meter", "chain", "same meter"]


def _of(dialogue: object) -> ReadPlan:
    return ReadPlan(items=(), quantities=(), wire_ms=0, cost_ms=0, exchanges=1, dialogue=dialogue)  # type: ignore[arg-type]


def test_a_meter_that_is_taken_for_silent_is_asked_at_once_and_answers_or_not() -> None:
    many = ManyBus(32, baud=9600)
    many.simulated[3].present = False
    ended: list[Outcome] = []

    async def script() -> None:
        loop = asyncio.get_running_loop()
        many.feed()
        await until(lambda: len(many.bus.silent) == 1)
        await asyncio.sleep(10.0)
        for back in (False, True):
            many.simulated[3].present = back
            at = loop.time()
            many.read(3, lane=Lane.READ_NOW, done=ended.append)
            await until(lambda back=back: len(ended) == 1 + back)  # type: ignore[misc]
            assert many.number(next_after(many, at)) == 3
            assert loop.time() - at < 6.0
            await asyncio.sleep(5.0)  # its late window

    many.run(script)
    silent, answered = ended
    assert silent.values is not None and {value.fault.value for value in silent.values if value.fault} == {"silent"}
    assert answered.values is not None and all(value.fault is None for value in answered.values)
    assert many.bus.counters.came_back == 1


def test_a_queue_that_is_full_has_room_for_what_somebody_waits_for() -> None:
    desk = Desk(ScriptedLine(good))

    async def script() -> None:
        one, two = meter("000000000001"), meter("000000000002")
        for n in range(QUEUE_MAX + 1):
            desk.energy(one, name=f"curve {n}", within_s=60)
        assert [outcome.fault for _, outcome in desk.ended] == [Fault.MISSED]
        for n in range(URGENT_MAX + 1):
            desk.energy(two, name=f"now {n}", lane=Lane.READ_NOW)
        assert desk.outcome(f"now {URGENT_MAX}").fault is Fault.MISSED
        await asyncio.sleep(0.5)

    serve(desk, script)
    assert desk.plain("now 0") == ["12.34"]
    asked = [data.lstrip(b"\xfe")[1] for _, data in desk.line.asked]
    assert asked[:URGENT_MAX] == [2] * URGENT_MAX and asked[URGENT_MAX] == 1


def test_on_a_line_that_babbles_it_goes_when_the_question_that_it_overtook_would_have_gone() -> None:
    line = ScriptedLine(lambda question, n: [(TURNAROUND_S, registers(question[0], 0, 1))])
    desk = Desk(line)
    one, two = meter("1", "modbus-rtu", **QUICK), meter("2", "modbus-rtu", **QUICK)

    async def script() -> None:
        loop = asyncio.get_running_loop()

        def babble() -> None:
            line.say(b"\x55")
            loop.call_later(0.002, babble)

        babble()
        await asyncio.sleep(0.5)
        began = loop.time()
        desk.registers(one, 0, name="one")
        await asyncio.sleep(0.5)
        desk.registers(two, 0, name="now", lane=Lane.READ_NOW)
        await asyncio.sleep(10)
        (at, first), (later, second), *_ = line.asked
        assert (first[0], second[0]) == (2, 1)
        assert at - began == pytest.approx(BABBLE_MAX_S, abs=0.01)
        assert later - at == pytest.approx(BABBLE_MAX_S, abs=0.1)

    serve(desk, script, for_s=0)
    assert desk.plain("now") == ["1"] and desk.bus.port.counters.noisy_starts >= 2


def odd(one: Meter) -> Dialogue[Frame]:
    yield next(v2007.read(one.entry.address, ["00010000"]))
    raise ZeroDivisionError("a defect of ours")


def test_a_meter_that_is_left_alone_after_a_defect_is_asked_on_request_and_told_at_once() -> None:
    desk, one = Desk(ScriptedLine(good)), meter("000000000001")

    async def script() -> None:
        desk.ask(one, lambda: odd(one), name="odd")
        await asyncio.sleep(1)
        desk.energy(one, name="curve", within_s=30)
        desk.energy(one, name="now", lane=Lane.READ_NOW)
        desk.ask(one, lambda: odd(one), name="odd now", lane=Lane.READ_NOW)
        await asyncio.sleep(1)
        assert desk.plain("now") == ["12.34"]
        assert desk.outcome("odd now").detail == "ZeroDivisionError: a defect of ours"

    serve(desk, script)
    assert desk.outcome("curve").fault is Fault.INTERNAL


def bill() -> Dialogue[ModbusFrame]:
    item = Item(quantity=by_name("energy.active.import.total"), function=4, address=0, format=Format(type=Type.UINT32))
    return confirmed(lambda: read_blocks([Block(1, [item])]))


@pytest.mark.parametrize("state", ["quarantine", "busy", "probe", "confirmation", "learning"])
def test_whatever_another_meter_is_at_the_next_frame_is_the_one_on_request(state: str) -> None:
    """Meter 1 is in this state; 2 is read all the time; 3 on request."""
    dead = [state == "probe"]

    def answer(question: bytes, n: int) -> Said:
        unit = question[0]
        if unit == 1 and (dead[0] or (state == "quarantine" and n % 3 == 0)):
            return []
        if unit == 1 and state == "busy":
            return [(TURNAROUND_S, refused(1, 6))]
        if unit == 1 and state == "learning" and n % 2:
            return [(0.7, registers(1, 0, 1))]
        return [(TURNAROUND_S, registers(unit, 0, unit))]

    desk = Desk(ScriptedLine(answer))
    one, two, three = (meter(str(unit), "modbus-rtu", **QUICK) for unit in (1, 2, 3))

    async def script() -> None:
        rng = Random(1)
        for n in range(40):
            for _ in range(6):
                if state == "confirmation":
                    desk.ask(one, bill, name=f"one {n}", lane=Lane.BILLING, within_s=3.0)
                else:
                    desk.registers(one, n, name=f"one {n}", within_s=3.0)
                desk.registers(two, n, name=f"two {n}", within_s=3.0)
            await asyncio.sleep(rng.uniform(0.3, 1.5))
            asked = len(desk.line.asked)
            desk.registers(three, n, name=f"now {n}", lane=Lane.READ_NOW)
            await until(lambda n=n: f"now {n}" in desk.at)  # type: ignore[misc]
            assert desk.line.asked[asked][1][0] == 3, n
            assert desk.plain(f"now {n}") == ["3"]

    serve(desk, script, for_s=0)
