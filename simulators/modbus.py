"""A Modbus meter made of a profile: its registers show the load, and everything else is refused as a meter would.

Pure: a request in, a reply or silence out. Sources: "MODBUS Application Protocol Specification" V1.1b3, §6.3, §6.4, §7.
"""

from decimal import Decimal
from functools import lru_cache
from struct import Struct

from drivers.profile import Profile
from protocols.modbus.dialogue import Item
from protocols.modbus.frame import ERROR_BIT, Frame
from protocols.modbus.registers import Type, swapped
from simulators.answer import Answer, Holes
from simulators.load import Load, decimals

_ILLEGAL_FUNCTION, _ILLEGAL_ADDRESS, _ILLEGAL_VALUE, _FAILURE = 1, 2, 3, 4
_REGISTERS_MAX = 125
_FLOATS = {Type.FLOAT32: (Struct(">f"), range(6, 10)), Type.FLOAT64: (Struct(">d"), range(15, 18))}


class ModbusMeter:
    """One meter. Registers of items that this meter lacks (a phase, say) and for which the model has no code are
    refused, unless it is mute.
    """

    def __init__(self, unit: int, profile: Profile, load: Load, *, holes: Holes = "zero") -> None:
        if profile.family != "modbus":
            raise ValueError(f"profile {profile.name} is of the family {profile.family}, expected modbus")
        self.unit, self.profile, self.load, self.holes = unit, profile, load, holes
        self._items: dict[int, list[Item]] = {}
        self._lacks: set[tuple[int, int]] = set()
        for entry in profile.items.values():
            item = entry.register
            if item is None:
                continue
            if load.read(item.quantity.name, 0) is None and not item.format.unavailable:
                self._lacks |= {(item.function, address) for address in range(item.address, item.end)}
            else:
                self._items.setdefault(item.function, []).append(item)
        for items in self._items.values():
            items.sort(key=lambda item: item.address)
        self._ends = {function: max(item.end for item in items) for function, items in self._items.items()}
        self._among = lru_cache(maxsize=64)(self._find_among)

    def handle(self, frame: Frame, now_ms: int) -> bytes | None:
        """The reply to one frame, or None for silence."""
        answer = self.answer(frame, now_ms)
        return answer.data if answer else None

    def answer(self, frame: Frame, now_ms: int) -> Answer | None:
        """The reply to one frame and what it says, or None for silence (another unit, a broadcast)."""
        if frame.unit != self.unit or frame.function & ERROR_BIT:
            return None
        if frame.function not in (3, 4):
            return self._exception(frame, _ILLEGAL_FUNCTION)
        if len(frame.data) != 4:
            return self._exception(frame, _ILLEGAL_VALUE)
        address, count = int.from_bytes(frame.data[:2], "big"), int.from_bytes(frame.data[2:], "big")
        mute = self.holes == "mute"
        if not 1 <= count <= min(_REGISTERS_MAX, self.profile.max_registers):
            return None if mute else self._exception(frame, _ILLEGAL_VALUE)
        items = self._among(frame.function, address, address + count)
        if items is None:
            return None if mute else self._exception(frame, _ILLEGAL_ADDRESS)
        try:
            registers, values = self._registers(items, address, address + count, now_ms)
        except ValueError:  # a register that cannot hold its number: the meter is too small for its load
            return self._exception(frame, _FAILURE)
        data = bytes((2 * count,)) + registers
        return Answer(self._reply(frame, frame.function, data), values)

    def _reply(self, frame: Frame, function: int, data: bytes) -> bytes:
        return Frame(unit=self.unit, function=function, data=data, transaction=frame.transaction,
                     ascii=frame.ascii).encode()  # fmt: skip

    def _exception(self, frame: Frame, code: int) -> Answer:
        return Answer(self._reply(frame, frame.function | ERROR_BIT, bytes((code,))), {})

    def _find_among(self, function: int, first: int, end: int) -> list[Item] | None:
        """The items of which a register is among these; None when a request may not span them."""
        if not self._readable(function, first, end):
            return None
        return [item for item in self._items[function] if item.address < end and item.end > first]

    def _readable(self, function: int, first: int, end: int) -> bool:
        """Whether one request may span these registers: as the profile says, and never outside the map."""
        items = self._items.get(function)
        if not items or first < items[0].address or end > self._ends[function]:
            return False
        if any((function, address) in self._lacks for address in range(first, end)):
            return False
        if self.holes != "zero":
            known = {address for item in items for address in range(item.address, item.end)}
            return known.issuperset(range(first, end))
        ranges = self.profile.readable
        return not ranges or any(low <= first and end - 1 <= high for low, high in ranges)

    def _registers(self, items: list[Item], first: int, end: int, now_ms: int) -> tuple[bytes, dict[str, str]]:
        """The bytes of the registers, and what the items that are wholly among them say."""
        registers = bytearray(2 * (end - first))
        values: dict[str, str] = {}
        for item in items:
            name = item.quantity.name
            counts = self.load.read(name, now_ms)
            number = Decimal(counts).scaleb(-decimals(name)) if isinstance(counts, int) else None
            if number is not None and number < 0 and not (item.format.type.signed or item.format.type.floating):
                number = -number  # meters that give no sign show how much it is
            raw = item.format.encode(number)
            for at in range(max(first, item.address), min(end, item.end)):
                word = 2 * (at - item.address)
                registers[2 * (at - first) : 2 * (at - first) + 2] = raw[word : word + 2]
            if number is not None and first <= item.address and item.end <= end:
                values[name] = shown(item, raw)
        return bytes(registers), values


def shown(item: Item, raw: bytes) -> str:
    """The number that stands in these registers, plainly; of a float the shortest decimal that gives its bits back."""
    form = item.format
    if form.swap:
        raw = swapped(raw)
    if form.type not in _FLOATS:
        number = Decimal(int.from_bytes(raw, "big", signed=form.type.signed))
    else:
        packing, lengths = _FLOATS[form.type]
        value = packing.unpack(raw)[0]
        texts = (f"{value:.{digits}g}" for digits in lengths)
        number = Decimal(next(text for text in texts if packing.pack(float(text)) == raw))
    return format(number * form.scale, "f")
