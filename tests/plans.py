"""What the tests of plans share: meters that answer by rule, and ways to run a plan against them."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from config.model import MeterEntry, ProtocolName, SerialSettings
from drivers.plan import ReadPlan
from protocols.bcd import high_first
from protocols.capture import Value
from protocols.dlt645.frame import Deframer, Frame
from protocols.dlt645.items import encode_item, layout
from protocols.modbus.registers import Format, Type
from tests import dlt645, modbus

SLOW, FAST = SerialSettings(baud=2400, parity="E"), SerialSettings(baud=9600, parity="N")


def meter(profile: str, protocol: ProtocolName, address: str = "", **changes: Any) -> MeterEntry:
    default = "000000000001" if protocol.startswith("dlt645") else "1"
    return MeterEntry(
        id="m1", point="p1", bus="b1", profile=profile, protocol=protocol, address=address or default, **changes
    )


SDM630 = meter("eastron-sdm630", "modbus-rtu")
THREE_PHASE = meter("dlt645-2007-3p", "dlt645-2007")


class Registers:
    """An SDM630 that holds in each float32 the number of its register."""

    def __init__(self, missing: frozenset[int] = frozenset(), *, tcp: bool = False) -> None:
        self.missing = missing
        self.asked: list[tuple[int, int]] = []
        self.transactions: list[int] = []
        self.tcp = tcp

    def __call__(self, question: bytes) -> bytes:
        transaction = None
        if self.tcp:
            transaction = int.from_bytes(question[:2], "big")
            self.transactions.append(transaction)
            question = question[6:]
        address, count = int.from_bytes(question[2:4], "big"), int.from_bytes(question[4:6], "big")
        self.asked.append((address, count))
        if self.missing & set(range(address, address + count)):
            return modbus.exception(2, function=4, transaction=transaction).encode()
        raw = b"".join(Format(type=Type.FLOAT32).encode(Decimal(n)) for n in range(address, address + count, 2))
        registers = [int.from_bytes(raw[n : n + 2], "big") for n in range(0, 2 * count, 2)]
        return modbus.reply(registers, function=4, transaction=transaction).encode()


class Identifiers:
    """A DL/T 645-2007 meter with four tariffs: every number of an identifier is its DI1, and 0.5."""

    def __init__(self, *, refuses: Callable[[str], bool] = lambda di: False) -> None:
        self.refuses = refuses
        self.asked: list[str] = []

    def __call__(self, question: bytes) -> bytes:
        (frame,) = Deframer().feed(question)
        di = high_first(frame.data[:4])
        self.asked.append(di)
        if self.refuses(di):
            return Frame(address=frame.address, control=0xD1, data=b"\x02").encode()
        found = layout(di)
        assert found is not None
        items = found.items[:5] if found.open_ended else found.items
        plain = [Decimal(int(one.di[4:6], 16)) + Decimal("0.5") for one in items for _ in one.quantities[:1]]
        return Frame(address=frame.address, control=0x91, data=frame.data[:4] + encode_item(di, plain)).encode()


def read_modbus(plan_: ReadPlan, answering: Callable[[bytes], bytes]) -> list[str | None]:
    values = modbus.converse(plan_.dialogue(), answering)
    assert [value.quantity for value in values] == list(plan_.quantities)
    return [value.plain for value in values]


def read_dlt645(plan_: ReadPlan, answering: Callable[[bytes], bytes]) -> list[Value]:
    values, _ = dlt645.converse(plan_.dialogue(), answering)
    return values
