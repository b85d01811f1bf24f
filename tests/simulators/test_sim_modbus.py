"""A simulated Modbus meter serves its profile, and refuses the rest as a meter would."""

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.profile import Profile, load_profile, profile_names
from protocols.modbus.dialogue import Item
from protocols.modbus.frame import Frame, read_request
from protocols.modbus.registers import Format, Type
from protocols.quantity import by_name
from simulators.load import Load
from simulators.modbus import ModbusMeter, shown

AT = 1_800_000_000_000
MODBUS = [name for name in profile_names() if load_profile(name).family == "modbus" and load_profile(name).items]


def ask(meter: ModbusMeter, function: int, address: int, count: int, unit: int = 7) -> Frame | None:
    data = address.to_bytes(2, "big") + count.to_bytes(2, "big")
    answer = meter.answer(Frame(unit=unit, function=function, data=data, transaction=9), AT)
    if answer is None:
        return None
    assert answer.data[:4] == b"\x00\x09\x00\x00"
    return Frame(unit=answer.data[6], function=answer.data[7], data=answer.data[8:])


def registers(profile: Profile) -> list[Item]:
    return [entry.register for entry in profile.items.values() if entry.register is not None]


@pytest.mark.parametrize("name", MODBUS)
def test_every_item_of_every_profile_is_served_as_its_format_decodes_it(name: str) -> None:
    profile = load_profile(name)
    load = Load(2, phases=3 if "voltage.b" in profile.items else 1)
    meter = ModbusMeter(7, profile, load)
    for item in registers(profile):
        request = read_request(7, item.function, item.address, item.format.words)
        answer = meter.answer(request, AT)
        assert answer is not None
        raw = answer.data[3:-2]
        decoded = item.format.decode(raw)
        assert isinstance(decoded, Decimal), item.quantity.name
        assert Decimal(answer.values[item.quantity.name]) == decoded
        text = load.plain(item.quantity.name, AT)
        assert text is not None
        step = item.format.scale if not item.format.type.floating else abs(Decimal(text)) / 2**23
        assert abs(decoded - Decimal(text)) <= step


def test_a_block_says_what_lies_wholly_in_it() -> None:
    meter = ModbusMeter(7, load_profile("eastron-sdm630"), Load(1))
    answer = meter.answer(read_request(7, 4, 0, 7), AT)  # voltages a, b, c, and half of current a
    assert answer is not None
    assert set(answer.values) == {"voltage.a", "voltage.b", "voltage.c"}
    assert len(answer.data) == 5 + 14


@pytest.mark.parametrize(
    ("function", "address", "count", "code"),
    [
        (1, 0, 2, 1), (6, 0, 2, 1), (16, 0, 2, 1),
        (3, 0, 2, 2),  # an SDM630 has its values in input registers only
        (4, 0x7000, 2, 2), (4, 0xFFFF, 2, 2),
        (4, 0, 0, 3), (4, 0, 81, 3), (4, 0, 126, 3),
    ],
)  # fmt: skip
def test_what_it_does_not_have_is_refused_with_the_right_exception(
    function: int, address: int, count: int, code: int
) -> None:
    reply = ask(ModbusMeter(7, load_profile("eastron-sdm630"), Load(1)), function, address, count)
    assert reply is not None
    assert (reply.function, reply.data) == (function | 0x80, bytes((code,)))


def test_another_unit_and_a_broadcast_are_silence() -> None:
    meter = ModbusMeter(7, load_profile("eastron-sdm630"), Load(1))
    assert ask(meter, 4, 0, 2, unit=8) is None
    assert ask(meter, 4, 0, 2, unit=0) is None


def profile_with_hole(**changes: object) -> Profile:
    """Voltage a at 10, and current a at 14: two registers between them."""
    base = load_profile("eastron-sdm120")
    items = {
        name: replace(base.items[name], register=Item(quantity=by_name(name), function=3, address=address,
                                                       format=Format(type=Type.FLOAT32)))
        for name, address in [("voltage.a", 10), ("current.a", 14)]
    }  # fmt: skip
    return replace(base, items=items, **changes)  # type: ignore[arg-type]


def test_a_hole_reads_as_zeros_or_is_refused() -> None:
    zeros = ask(ModbusMeter(7, profile_with_hole(), Load(1, phases=1)), 3, 10, 6)
    assert zeros is not None
    assert (zeros.function, zeros.data[5:9]) == (3, bytes(4))
    refused = ask(ModbusMeter(7, profile_with_hole(), Load(1, phases=1), holes="refuse"), 3, 10, 6)
    assert refused is not None
    assert (refused.function, refused.data) == (0x83, b"\x02")


def test_one_request_may_span_only_what_the_profile_says() -> None:
    meter = ModbusMeter(7, profile_with_hole(readable=((10, 11), (14, 15))), Load(1, phases=1))
    spans = {(10, 2): 3, (14, 2): 3, (10, 6): 0x83, (12, 2): 0x83}
    for (address, count), function in spans.items():
        reply = ask(meter, 3, address, count)
        assert reply is not None
        assert reply.function == function


def test_a_phase_that_the_meter_lacks_is_refused_never_zero() -> None:
    profile = load_profile("eastron-sdm630")
    item = profile.items["voltage.b"].register
    assert item is not None
    reply = ask(ModbusMeter(7, profile, Load(1, phases=1)), item.function, item.address, item.format.words)
    assert reply is not None
    assert (reply.function, reply.data) == (item.function | 0x80, b"\x02")


@settings(max_examples=200)
@given(function=st.integers(1, 127), data=st.binary(max_size=12), unit=st.integers(0, 255))
def test_any_question_is_answered_rightly_or_by_silence(function: int, data: bytes, unit: int) -> None:
    answer = ModbusMeter(7, load_profile("eastron-sdm120"), Load(1, phases=1)).answer(
        Frame(unit=unit, function=function, data=data), AT
    )
    if answer is not None:
        assert (answer.data[0], answer.data[1] & 0x7F) == (7, function)
    assert (answer is None) == (unit != 7)


@given(counts=st.integers(-(10**8), 10**8), digits=st.integers(0, 4), scale=st.sampled_from(["1", "0.001", "1000"]))
def test_what_is_shown_of_a_float_is_the_shortest_number_with_its_bits(counts: int, digits: int, scale: str) -> None:
    form = Format(type=Type.FLOAT32, scale=Decimal(scale))
    item = Item(quantity=by_name("voltage.a"), function=3, address=0, format=form)
    raw = form.encode(Decimal(counts).scaleb(-digits))
    assert Decimal(shown(item, raw)) == form.decode(raw)
