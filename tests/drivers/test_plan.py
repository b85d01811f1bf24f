"""A plan asks for exactly what is wanted, as cheaply as can be, and gives one Value for each of it, in order."""

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest

from config.mistake import ConfigError
from drivers.plan import plan
from drivers.profile import Profile, load_profile
from protocols.capture import Fault
from protocols.dlt645.frame import Frame
from protocols.dlt645.items import encode_item
from tests import dlt645, modbus
from tests.plans import FAST, SDM630, SLOW, THREE_PHASE, Identifiers, Registers, meter, read_dlt645, read_modbus


def test_a_full_sdm630_takes_at_most_400_ms() -> None:
    # modbus.org formula and a turnaround of 20 ms at 9600 8N1; asked one by one, its 55 values take 2270 ms.
    profile = replace(load_profile("eastron-sdm630"), turnaround_ms=20)
    whole = plan(profile, SDM630, tuple(profile.items), FAST)
    assert whole.exchanges == 3 and whole.cost_ms <= 400
    assert sum(plan(profile, SDM630, (one,), FAST).cost_ms for one in profile.items) > 2200
    numbers = read_modbus(whole, Registers())
    for item, number in zip(profile.items.values(), numbers, strict=True):
        assert item.register is not None and number is not None
        assert Decimal(number) == item.register.address * item.register.format.scale


def test_values_come_in_the_order_asked_whatever_the_order_on_the_wire() -> None:
    items = ("energy.active.sum.total", "frequency", "voltage.c", "voltage.a")
    assert read_modbus(plan(load_profile("eastron-sdm630"), SDM630, items, FAST), Registers()) == [
        "342",
        "70",
        "4",
        "0",
    ]


def test_a_refused_block_is_read_in_parts_and_the_parts_are_remembered() -> None:
    items = ("voltage.a", "voltage.b", "voltage.c", "current.a", "frequency")
    whole = plan(load_profile("eastron-sdm630"), SDM630, items, FAST)
    first, second = Registers(frozenset({4})), Registers(frozenset({4}))
    for answering in (first, second):
        assert read_modbus(whole, answering) == ["0", "2", None, "6", "70"]
    assert first.asked[0] == (0, 8) and (0, 8) not in second.asked
    assert len(second.asked) < len(first.asked)


def test_meters_of_one_model_share_a_plan_and_are_asked_and_refuse_for_themselves() -> None:
    items = ("voltage.a", "voltage.b", "voltage.c", "current.a", "frequency")
    one, other = (plan(load_profile("eastron-sdm630"), replace(SDM630, address=unit), items, FAST) for unit in "17")
    assert one.quantities is other.quantities
    picky, willing = Registers(frozenset({4})), Registers()
    read_modbus(one, picky)
    units: list[int] = []

    def answering(question: bytes) -> bytes:
        units.append(question[0])
        frame = willing(question)
        return modbus.reply([int.from_bytes(frame[n : n + 2], "big") for n in range(3, len(frame) - 2, 2)], unit=7,
                            function=4).encode()  # fmt: skip

    assert read_modbus(other, answering) == ["0", "2", "4", "6", "70"]
    assert willing.asked[0] == picky.asked[0] and len(willing.asked) < len(picky.asked)
    assert set(units) == {7}


def test_modbus_tcp_never_repeats_a_transaction_number_soon() -> None:
    entry = meter("eastron-sdm630", "modbus-tcp")
    answering = Registers(tcp=True)
    for _ in range(5):
        one = plan(load_profile("eastron-sdm630"), entry, ("voltage.a", "energy.active.sum.total"), FAST)
        assert read_modbus(one, answering) == ["0", "342"]
    assert len(set(answering.transactions)) == len(answering.transactions)


def test_neighbouring_questions_differ_in_size_where_they_can() -> None:
    profile = load_profile("modbus-generic")
    entry = meter("modbus-generic", "modbus-rtu")
    items = ("holding:0", "holding:1000", "holding:2000:uint32", "holding:3000", "holding:4000:uint32")
    asked: list[int] = []

    def answering(question: bytes) -> bytes:
        asked.append(question[5])
        return modbus.reply([0] * question[5]).encode()

    read_modbus(plan(profile, entry, items, FAST), answering)
    assert all(one != other for one, other in pairwise(asked))


ENERGIES = ("energy.active.import.total", *(f"energy.active.import.t{n}" for n in range(1, 5)))


def asked_of(
    items: Sequence[str], profile: Profile | None = None, **meter_does: Any
) -> tuple[list[str], list[str | None]]:
    answering = Identifiers(**meter_does)
    values = read_dlt645(plan(profile or load_profile("dlt645-2007-3p"), THREE_PHASE, items, SLOW), answering)
    return answering.asked, [value.plain for value in values]


@pytest.mark.parametrize(
    ("items", "identifiers"),
    [
        (ENERGIES, ["0001FF00"]),
        (ENERGIES[:1], ["00010000"]),
        (("voltage.a", "voltage.b", "voltage.c"), ["0201FF00"]),
        (("power.active.b", "frequency", "power.active.total"), ["0203FF00", "02800002"]),
        (("frequency", "voltage.a"), ["02800002", "02010100"]),
        (tuple(f"energy.active.import.total.last_{n}" for n in range(1, 13)), ["000100FF"]),
        (("energy.active.import.t1.last_2", "energy.active.import.t2.last_2"), ["0001FF02"]),
    ],
)  # fmt: skip
def test_blocks_are_asked_where_they_are_cheaper(items: tuple[str, ...], identifiers: list[str]) -> None:
    asked, plain = asked_of(items)
    assert asked == identifiers and None not in plain


def test_a_model_without_blocks_is_asked_one_by_one() -> None:
    asked, _ = asked_of(ENERGIES[:2], replace(load_profile("dlt645-2007-3p"), blocks=()))
    assert asked == ["00010000", "00010100"]


def test_values_of_a_block_come_in_the_order_asked() -> None:
    _, plain = asked_of(("energy.active.import.t3", "voltage.b", "energy.active.import.total", "voltage.a"))
    assert plain == ["3.50", "2.5", "0.50", "1.5"]


def test_a_demand_and_its_time_are_one_question() -> None:
    def answering(question: bytes) -> bytes:
        payload = encode_item("01010000", [Decimal("1.2345"), "2026-11-21T10:15"])
        return Frame(address="000000000001", control=0x91, data=bytes.fromhex("00000101") + payload).encode()

    items = ("demand.active.import.total.time", "demand.active.import.total")
    one = plan(load_profile("dlt645-2007-3p"), THREE_PHASE, items, SLOW)
    assert one.exchanges == 1
    number, time = read_dlt645(one, answering)[::-1]
    assert number.plain == "1.2345" and time.plain is not None and time.plain.endswith("11-21T10:15")


def test_a_refused_identifier_block_is_read_one_by_one_and_not_asked_again() -> None:
    one = plan(load_profile("dlt645-2007-3p"), THREE_PHASE, ("frequency", *ENERGIES), SLOW)
    for asked in (["02800002", "0001FF00"], ["02800002"]):
        answering = Identifiers(refuses=lambda di: "FF" in di)
        values = read_dlt645(one, answering)
        assert [value.plain for value in values][1:] == ["0.50", "1.50", "2.50", "3.50", "4.50"]
        assert answering.asked == [*asked, "00010000", "00010100", "00010200", "00010300", "00010400"]


def test_what_a_meter_lacks_is_absent_and_the_rest_is_read() -> None:
    one = plan(load_profile("dlt645-2007-3p"), THREE_PHASE, ("frequency", "voltage.a"), SLOW)
    values = read_dlt645(one, Identifiers(refuses=lambda di: di == "02800002"))
    assert (values[0].fault, values[1].plain) == (Fault.ABSENT, "1.5")


def test_a_silent_meter_is_asked_once_and_for_one_thing_more() -> None:
    one = plan(load_profile("dlt645-2007-3p"), THREE_PHASE, ("frequency", "voltage.a", *ENERGIES), SLOW)
    values, asks = dlt645.converse(one.dialogue(), lambda question: b"")
    assert len(asks) == 2 and {value.fault for value in values} == {Fault.SILENT} and len(values) == 7


def test_an_item_that_the_profile_lacks_is_a_mistake_and_all_are_told() -> None:
    with pytest.raises(ConfigError) as error:
        plan(load_profile("eastron-sdm120"), SDM630, ("voltage.a", "voltage.b", "holding:x"), FAST)
    assert [mistake.got for mistake in error.value.mistakes] == ["voltage.b", "holding:x"]
    assert "eastron-sdm120" in error.value.mistakes[0].expected
