"""Items of the command line: registers, identifiers and names, read in the order given."""

import pytest

from config.mistake import ConfigError
from config.model import ProtocolName
from drivers.notation import parse_registers
from drivers.plan import plan_items
from protocols.modbus.registers import Format, Type
from tests.plans import Identifiers, Registers, meter, read_dlt645, read_modbus


def test_registers_are_written_as_the_faces_say() -> None:
    (one,) = parse_registers("input:10")
    assert (one.function, one.address, one.format, one.quantity.name) == (
        4,
        10,
        Format(type=Type.UINT16),
        "input:10:uint16",
    )
    three = parse_registers("holding:7:float32/swap:3")
    assert [(item.address, item.quantity.name) for item in three] == [
        (7, "holding:7:float32/swap"), (9, "holding:9:float32/swap"), (11, "holding:11:float32/swap"),
    ]  # fmt: skip
    assert all(item.format.swap and item.function == 3 for item in three)


@pytest.mark.parametrize(
    "text", ["holding", "holding:", "coil:1", "holding:1:uint8", "holding:-1", "holding:65536", "holding:65535:uint32",
             "holding:1:uint16:0", "holding:1:uint16:126", "holding:1:uint16:1:1", "holding: 1"],
)  # fmt: skip
def test_registers_written_otherwise_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_registers(text)


def test_registers_are_read_in_the_order_given() -> None:
    entry = meter("", "modbus-rtu")
    items = ("input:8:float32", "input:0:float32:2")
    whole = plan_items(entry, items)
    assert whole.items == items and [len(part.quantities) for part in whole.parts] == [1, 2]
    assert read_modbus(whole, Registers()) == ["8", "0", "2"]


def test_identifiers_and_names_are_read_in_the_order_given() -> None:
    whole = plan_items(meter("", "dlt645-2007"), ("02800002", "energy.active.import.total", "0201ff00"))
    values = read_dlt645(whole, answering := Identifiers())
    assert answering.asked == ["02800002", "00010000", "0201FF00"]
    assert [value.quantity.name for value in values] == [
        "frequency", "energy.active.import.total", "voltage.a", "voltage.b", "voltage.c",
    ]  # fmt: skip


def test_an_identifier_costs_what_the_name_of_its_quantity_costs() -> None:
    named, bare = (plan_items(meter("", "dlt645-2007"), (item,)) for item in ("voltage.a", "02010100"))
    # 2400 8E1, four FE both ways, two bytes of a voltage, 100 ms of turnaround and 30 ms of gap.
    assert named.cost_ms == bare.cost_ms == pytest.approx((2 * (4 + 12 + 4) + 2) * 11 / 2.4 + 130)
    assert named.wire_ms == bare.wire_ms == pytest.approx(bare.cost_ms - 130)


def test_a_name_that_no_profile_has_is_read_by_its_identifier_of_the_catalogue() -> None:
    whole = plan_items(meter("", "dlt645-2007"), ("ratio.ct",))
    read_dlt645(whole, answering := Identifiers(refuses=lambda di: True))
    assert answering.asked == ["04000306"] and [quantity.name for quantity in whole.quantities] == ["ratio.ct"]
    with pytest.raises(ConfigError, match="4 hex digits"):
        plan_items(meter("", "dlt645-1997"), ("ratio.ct",))


def test_the_old_edition_has_its_own_identifiers() -> None:
    whole = plan_items(meter("", "dlt645-1997"), ("9010", "voltage.a"))
    assert [quantity.name for quantity in whole.quantities] == ["energy.active.import.total", "voltage.a"]
    with pytest.raises(ConfigError, match="4 hex digits"):
        plan_items(meter("", "dlt645-1997"), ("00010000",))


@pytest.mark.parametrize(
    ("protocol", "item", "expected"),
    [("modbus-rtu", "voltage.a", "holding:10:uint16"), ("dlt645-2007", "9010", "8 hex digits"),
     ("dlt645-2007", "voltage.mean", "8 hex digits"), ("dlt645-2007", "holding:1", "8 hex digits")],
)  # fmt: skip
def test_an_item_that_cannot_be_read_says_what_could(protocol: ProtocolName, item: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        plan_items(meter("", protocol), (item,))
