"""How registers are written in items: `holding:ADDRESS[:TYPE[:COUNT]]` and `input:...`."""

import re
from collections.abc import Sequence

from drivers.profile import FUNCTIONS
from protocols.modbus.dialogue import Item
from protocols.modbus.registers import Format, parse_type
from protocols.quantity import Kind, Quantity

COUNT_MAX = 125
_REGISTERS = re.compile(r"(holding|input):(\d{1,5})(?::([a-z0-9/]+)(?::(\d{1,3}))?)?")


def is_register(text: str) -> bool:
    """Whether an item means registers rather than a name or an identifier."""
    return text.partition(":")[0] in FUNCTIONS and ":" in text


def parse_registers(text: str) -> Sequence[Item]:
    """The numbers that an item means, each a quantity of its own named `holding:10:uint16`, without a unit.

    ADDRESS is 0-based; TYPE is uint16 by default, `/swap` for the low word first; COUNT numbers stand one behind the
    other. Raises ValueError saying what is expected.
    """
    match = _REGISTERS.fullmatch(text)
    if match is None:
        raise ValueError("holding:ADDRESS[:TYPE[:COUNT]] or input:ADDRESS[:TYPE[:COUNT]]")
    where, address, type_text, count_text = match[1], int(match[2]), match[3] or "uint16", match[4] or "1"
    kind, swap = parse_type(type_text)
    count = int(count_text)
    if not 1 <= count <= COUNT_MAX or address + count * kind.words > 0x10000:
        raise ValueError(f"1 to {COUNT_MAX} numbers within the registers 0 to 65535")
    form = Format(type=kind, swap=swap)
    return [
        Item(quantity=_unnamed(f"{where}:{start}:{type_text}"), function=FUNCTIONS[where], address=start, format=form)
        for start in range(address, address + count * kind.words, kind.words)
    ]


def _unnamed(name: str) -> Quantity:
    return Quantity(number=0, name=name, unit="", kind=Kind.INSTANT)
