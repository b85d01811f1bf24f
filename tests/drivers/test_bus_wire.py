"""How well the wire is used, as the simulated wire itself tells it: its time, its turnarounds, its silences."""

from itertools import pairwise

import pytest

from drivers.meter import t35
from drivers.plan import plan
from tests.many import ENERGIES, ManyBus, Model, until

METERS = 32
BAUDS = [1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200]


@pytest.mark.parametrize("parity", ["E", "N"])
@pytest.mark.parametrize("baud", BAUDS)
def test_32_meters_of_mixed_models_leave_the_wire_idle_for_less_than_a_hundredth(baud: int, parity: str) -> None:
    many = ManyBus(METERS, baud=baud, parity=parity)
    times = []

    async def script() -> None:
        await many.rounds(3)
        times.append(many.bus.port.ended)

    many.run(script)
    assert all(value.fault is None for _, outcome in many.outcomes for value in outcome.values or ())
    assert all(outcome.values for _, outcome in many.outcomes)
    serial = many.entry.serial
    silence_s = t35(serial)
    # A mandatory gap stands before each exchange: t3.5 for Modbus, the profile's for DL/T 645. The first has passed
    # while the port listened.
    gaps_s = 0.0
    for before, asked in pairwise(many.asked):
        meter = many.meters[many.number(asked)]
        modbus = meter.profile.family == "modbus"
        gap_s = silence_s if modbus else meter.profile.min_gap_ms / 1000
        if not modbus and many.meters[many.number(before)].profile.family == "modbus":
            gap_s = max(gap_s, silence_s)  # t3.5 stands behind an RTU answer, too
        assert asked.silence_s >= gap_s - 1e-9
        gaps_s += gap_s
    elapsed_s = times[0] - many.asked[0].at
    used = (many.wire.wire_s + gaps_s) / (elapsed_s - many.wire.turnaround_s)
    assert 0.99 <= used <= 1.0 + 1e-9
    assert many.bus.utilisation >= 0.99
    assert many.bus.port.counters.foreign == many.bus.port.counters.stray_bytes == 0


def test_a_full_sdm630_takes_at_most_400_ms_of_the_wire() -> None:
    many = ManyBus(1, baud=9600, parity="N", models=[Model(profile="eastron-sdm630", protocol="modbus-rtu", items=(
        "voltage.a",))])  # fmt: skip
    one = many.meters[0]
    whole = plan(one.profile, one.entry, tuple(one.profile.items), one.settings)
    ended = []

    async def script() -> None:
        many.read(0, read=whole)
        await until(lambda: bool(many.outcomes))
        ended.append(many.bus.port.ended)

    many.run(script)
    ((_, outcome),) = many.outcomes
    assert outcome.values is not None and len(outcome.values) == len(one.profile.items)
    assert all(value.fault is None for value in outcome.values)
    gaps_s = t35(one.settings) * len(many.asked)
    taken_s = ended[0] - many.asked[0].at + t35(one.settings)
    assert taken_s == pytest.approx(many.wire.wire_s + many.wire.turnaround_s + gaps_s)
    assert taken_s <= 0.400


def test_64_dlt645_meters_at_2400_baud_give_8_blocks_each_in_210_s() -> None:
    kinds = ("active.import", "active.export", "reactive.combined_1", "reactive.combined_2", "reactive.q1",
             "reactive.q2", "reactive.q3", "reactive.q4")  # fmt: skip
    items = tuple(name.replace("active.import", kind) for kind in kinds for name in ENERGIES)
    model = Model(profile="dlt645-2007-3p", protocol="dlt645-2007", items=items)
    many = ManyBus(64, baud=2400, models=[model], turnaround_ms=(100.0, 100.0))
    ended = []

    async def script() -> None:
        await many.rounds(1)
        ended.append(many.bus.port.ended)

    many.run(script)
    assert len(many.asked) == 64 * len(kinds)
    for asked in many.asked:
        assert asked.data.startswith(b"\xfe" * 4)
        assert asked.silence_s >= 0.030 - 1e-9
    for _, outcome in many.outcomes:
        assert outcome.values is not None and len(outcome.values) == 40
        assert all(value.fault is None for value in outcome.values)
    # 64 x 8 exchanges of 16 + 36 + 4 bytes at 11 bits, 100 ms of turnaround and 30 ms of gap each.
    assert ended[0] - many.asked[0].at <= 210.0


def test_the_wire_itself_would_see_a_silence_that_is_too_short() -> None:
    many = ManyBus(METERS, baud=9600)
    for meter in many.meters:
        meter.gap_s = meter.silence_s = 0.001

    async def script() -> None:
        await many.rounds(1)

    many.run(script)
    assert min(asked.silence_s for asked in many.asked) < t35(many.entry.serial)
