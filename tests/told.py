"""What the independent meters are told to serve, and how it must land: the tables of `tests.peers`.

No two meters serve the same value of a quantity, so that none can be taken for another's.
"""

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple


class Item(NamedTuple):
    """A quantity, where it stands (data identifier or 0-based register), and what the server is told there."""

    quantity: str
    at: int
    told: str
    plain: str = ""
    """How it lands, where that differs: the number times the register's scale."""
    kind: str = "FLOAT32"
    """Of a register: the name of pymodbus's data type."""

    @property
    def lands(self) -> str:
        """The plain text that must stand in the central table."""
        return self.plain or self.told


class Told(NamedTuple):
    """One meter: how it is addressed, which profile reads it, and what it serves."""

    address: str
    profile: str
    items: tuple[Item, ...]
    table: Literal["holding", "input", ""] = ""
    """Of a Modbus meter: which of its register tables they stand in."""

    @property
    def expected(self) -> dict[str, str]:
        """What must land, by quantity."""
        return {item.quantity: item.lands for item in self.items}


CELLAR: Final = Told(
    address="202411110002",
    profile="dlt645-2007-3p",
    items=(
        Item("energy.active.import.total", 0x00010000, "1234.56"),
        Item("energy.active.import.t1", 0x00010100, "234.50"),
        Item("energy.active.import.t2", 0x00010200, "1000.06"),
        Item("energy.active.import.t3", 0x00010300, "0.00"),
        Item("energy.active.import.t4", 0x00010400, "0.01"),
        Item("energy.active.export.total", 0x00020000, "7.08"),
        Item("energy.reactive.combined_1.total", 0x00030000, "-12.34"),
        Item("demand.active.import.total", 0x01010000, "12.3456"),
        Item("demand.active.import.total.time", 0x01010000, "2026-05-03T10:15"),
        Item("voltage.a", 0x02010100, "231.7"),
        Item("voltage.b", 0x02010200, "230.0"),
        Item("voltage.c", 0x02010300, "0.9"),
        Item("current.a", 0x02020100, "4.999"),
        Item("power.active.total", 0x02030000, "1.1583"),
        Item("power.active.a", 0x02030100, "-0.0042"),
        Item("power_factor.total", 0x02060000, "0.987"),
        Item("frequency", 0x02800002, "50.03"),
        Item("address", 0x04000401, "202411110002"),
    ),
)
ROOF: Final = Told(
    address="000000990017",
    profile="dlt645-2007-3p",
    items=(
        Item("energy.active.import.total", 0x00010000, "799999.99"),
        Item("energy.active.import.t1", 0x00010100, "299999.99"),
        Item("energy.active.import.t2", 0x00010200, "100000.00"),
        Item("energy.active.import.t3", 0x00010300, "399999.90"),
        Item("energy.active.import.t4", 0x00010400, "0.10"),
        Item("energy.active.export.total", 0x00020000, "65535.01"),
        Item("energy.reactive.combined_1.total", 0x00030000, "80.05"),
        Item("demand.active.import.total", 0x01010000, "0.0001"),
        Item("demand.active.import.total.time", 0x01010000, "2026-02-28T23:59"),
        Item("voltage.a", 0x02010100, "219.4"),
        Item("voltage.b", 0x02010200, "57.7"),
        Item("voltage.c", 0x02010300, "100.1"),
        Item("current.a", 0x02020100, "-0.001"),
        Item("power.active.total", 0x02030000, "-79.9999"),
        Item("power.active.a", 0x02030100, "0.0007"),
        Item("power_factor.total", 0x02060000, "-0.999"),
        Item("frequency", 0x02800002, "49.98"),
        Item("address", 0x04000401, "000000990017"),
    ),
)


def _sdm630(address: str, values: tuple[str, ...]) -> Told:
    """Input registers. Powers stand in W; power.active.total is told so and lands in kW."""
    names = (
        ("voltage.a", 0x0000), ("voltage.b", 0x0002), ("voltage.c", 0x0004), ("current.a", 0x0006),
        ("frequency", 0x0046), ("energy.active.import.total", 0x0048), ("energy.active.export.total", 0x004A),
    )  # fmt: skip
    *plain, watts, kilowatts = values
    items = tuple(Item(name, at, told) for (name, at), told in zip(names, plain, strict=True))
    return Told(address, "eastron-sdm630", (*items, Item("power.active.total", 0x0034, watts, kilowatts)), "input")


def _dtsd1352(address: str, values: tuple[tuple[str, str], ...]) -> Told:
    """Holding registers: integers, which land times their scale."""
    names = (
        ("energy.active.import.total", 0x000A, "UINT32"), ("energy.active.export.total", 0x0014, "UINT32"),
        ("voltage.a", 0x0061, "UINT16"), ("voltage.b", 0x0062, "UINT16"), ("voltage.c", 0x0063, "UINT16"),
        ("current.a", 0x0064, "UINT16"), ("frequency", 0x0077, "UINT16"), ("power.active.total", 0x016A, "INT32"),
        ("power_factor.total", 0x017F, "INT16"),
    )  # fmt: skip
    items = (Item(name, at, told, plain, kind) for (name, at, kind), (told, plain) in zip(names, values, strict=True))
    return Told(address, "acrel-dtsd1352", tuple(items), "holding")


RTU: Final = (
    _sdm630("1", ("230.1", "229.9", "231.25", "4.125", "50.02", "12345.67", "0.5", "1158.3", "1.1583")),
    _dtsd1352("17", (
        ("4294967294", "42949672.94"), ("1", "0.01"), ("2301", "230.1"), ("0", "0.0"), ("65534", "6553.4"),
        ("499", "4.99"), ("5001", "50.01"), ("-2147483647", "-2147483.647"), ("-998", "-0.998"),
    )),
)  # fmt: skip
TCP: Final = (
    _sdm630("1", ("399.7", "57.73503", "0.1", "-6.02", "49.9875", "8388607.5", "16777216", "-0.25", "-0.00025")),
    _dtsd1352("17", (
        ("65536", "655.36"), ("65535", "655.35"), ("1000", "100.0"), ("577", "57.7"), ("999", "99.9"),
        ("10", "0.10"), ("4999", "49.99"), ("65536", "65.536"), ("1000", "1.000"),
    )),
)  # fmt: skip

LIBMODBUS_RTU: Final = (
    _dtsd1352("33", (
        ("2147483648", "21474836.48"), ("99999", "999.99"), ("2199", "219.9"), ("65535", "6553.5"), ("1", "0.1"),
        ("6554", "65.54"), ("5049", "50.49"), ("-1", "-0.001"), ("-1000", "-1.000"),
    )),
)  # fmt: skip
LIBMODBUS_TCP: Final = (
    _sdm630("5", ("218.3", "0.3", "219.0625", "-0.001953125", "49.5", "98765.43", "67108864", "-2.5", "-0.0025")),
)

PEERS: Final[Mapping[str, tuple[Told, ...]]] = {
    "dlt645-tcp": (CELLAR,),
    "dlt645-pty": (ROOF,),
    "modbus-rtu": RTU,
    "modbus-tcp": TCP,
    "libmodbus-rtu": LIBMODBUS_RTU,
    "libmodbus-tcp": LIBMODBUS_TCP,
}
"""The servers, by the names that `tests.peers` starts them under: one bus each, pymodbus with two units."""
