"""Reading registers: one question and one answer, and whole blocks that become Values."""

from collections.abc import Callable, Generator, Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from decimal import Decimal

from protocols.capture import Fault, Value, faulty
from protocols.dialogue import Answer, Ask, Dialogue, Garbled, Reply, Silence
from protocols.errors import Refused
from protocols.modbus.frame import ERROR_BIT, EXCEPTIONS, Frame, read_request
from protocols.modbus.registers import Format
from protocols.quantity import Quantity

ABSENT = 0x02
"""Illegal data address: the meter has no such register, or none in one piece. [APP] §7."""
_SPLIT = frozenset({"02", "03"})
"""What a meter says to a block that touches a register it lacks (02), or that is longer than it serves (03)."""
_NOBODY = frozenset({"0A", "0B"})
"""A gateway's word that the meter behind it did not answer: asking it more would only wait again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One number to read: what it is, where it stands (0-based), and how."""

    quantity: Quantity
    function: int
    address: int
    format: Format

    @property
    def end(self) -> int:
        """The register behind it."""
        return self.address + self.format.words


class Block:
    """Neighbouring items read in one request, which is encoded once. Not changed after it is made.

    A site has hundreds of meters of one model: `of_unit` makes their blocks from one, sharing all but the request.

    places: where the Value of each item stands in the result of the dialogue; by default in the order of the items.
    """

    __slots__ = ("_data", "_decoders", "address", "count", "function", "items", "places", "unit")

    def __init__(self, unit: int, items: Sequence[Item], places: Sequence[int] | None = None) -> None:
        self.unit = unit
        self.items = tuple(items)
        self.places = tuple(range(len(items)) if places is None else places)
        if len(self.places) != len(self.items) or not items:
            raise ValueError(f"{len(items)} items with {len(self.places)} places")
        self.function = items[0].function
        if any(item.function != self.function for item in items):
            raise ValueError("items of one block share a function")
        first = min(item.address for item in items)
        self.address = first
        self.count = max(item.end for item in items) - first
        self._data = read_request(unit, self.function, first, self.count).encode()
        self._decoders = [
            (place, item.quantity, item.format.decoder(), 1 + 2 * (item.address - first), 1 + 2 * (item.end - first))
            for place, item in zip(self.places, items, strict=True)
        ]

    def of_unit(self, unit: int) -> "Block":
        """The same block of another meter."""
        other = copy(self)
        other.unit = unit
        other._data = read_request(unit, self.function, self.address, self.count).encode()
        return other

    def ask(self, transaction: int | None = None) -> Ask[Frame]:
        """The question; with a transaction number it goes over TCP."""
        if transaction is None:
            return Ask(data=self._data, reply_max=5 + 2 * self.count, accepts=self._accepts)
        request = transaction.to_bytes(2, "big") + b"\0\0\0\x06" + self._data[:-2]

        def accepts(frame: Frame) -> bool:
            return frame.transaction == transaction and self._accepts(frame)

        return Ask(data=request, reply_max=9 + 2 * self.count, accepts=accepts)

    def _accepts(self, frame: Frame) -> bool:
        return answers(frame, self.unit, self.function, self.count)

    def decode(self, frame: Frame, into: dict[int, Value]) -> None:
        """Put the Values of the items at their places, from a reply that was accepted."""
        data = frame.data
        for place, quantity, decode, start, end in self._decoders:
            number = decode(data[start:end])
            if isinstance(number, Decimal):
                into[place] = Value(quantity=quantity, number=number)
            else:
                detail = f"registers {data[start:end].hex().upper()}"
                into[place] = Value(quantity=quantity, quality=number, detail=detail)

    def fail(self, fault: Fault, detail: str | None, into: dict[int, Value]) -> None:
        """Put at the same places the reason why none was read."""
        for place, item in zip(self.places, self.items, strict=True):
            into[place] = faulty(item.quantity, fault, detail)

    def halves(self) -> "tuple[Block, Block] | None":
        """Two blocks with half of the items each, or None when the items cannot be parted."""
        ordered = sorted(zip(self.items, self.places, strict=True), key=lambda pair: (pair[0].address, pair[0].end))
        starts = [item.address for item, _ in ordered]
        middle = next((n for n in range(max(1, len(ordered) // 2), len(ordered)) if starts[n] != starts[n - 1]), 0)
        middle = middle or next((n for n in range(1, len(ordered)) if starts[n] != starts[0]), 0)
        if not middle:
            return None
        parts = ordered[:middle], ordered[middle:]
        first, second = (Block(self.unit, [i for i, _ in part], [p for _, p in part]) for part in parts)
        return first, second


def answers(frame: Frame, unit: int, function: int, count: int) -> bool:
    """Whether a frame is an answer to a read of `count` registers: the same unit, the same function with exactly the
    bytes asked for, or an exception to that function."""
    if frame.unit != unit:
        return False
    data = frame.data
    if frame.function == function:
        return len(data) == 1 + 2 * count and data[0] == 2 * count
    return frame.function == function | ERROR_BIT and len(data) == 1 and data[0] != 0


def refusal(frame: Frame) -> Refused | None:
    """What an exception reply says, or None when the frame is none."""
    code = frame.exception
    if code is None:
        return None
    name = EXCEPTIONS.get(code, "unknown")
    return Refused(f"exception {code:02X} {name}", code=f"{code:02X}", absent=code == ABSENT)


def read_registers(
    unit: int, function: int, address: int, count: int, *, transaction: int | None = None
) -> Generator[Ask[Frame], Answer[Frame], bytes | Silence | Garbled]:
    """Reads registers as bytes, for what is not a Value (probing, tests). Raises Refused on an exception reply."""
    request = read_request(unit, function, address, count, transaction=transaction)

    def accepts(frame: Frame) -> bool:
        return frame.transaction == transaction and answers(frame, unit, function, count)

    overhead = 5 if transaction is None else 9
    answer = yield Ask(data=request.encode(), reply_max=overhead + 2 * count, accepts=accepts)
    if not isinstance(answer, Reply):
        return answer
    if (refused := refusal(answer.frame)) is not None:
        raise refused
    return answer.frame.data[1:]


def read_blocks(
    blocks: Sequence[Block],
    *,
    transactions: Iterator[int] | None = None,
    split: Callable[[Block, tuple[Block, Block]], None] | None = None,
) -> Dialogue[Frame]:
    """Reads blocks one after the other and returns the Values of all their items, in the order of their places.

    transactions: where transaction numbers come from, over TCP; None on a serial line.
    split: told of each block that the meter refused whole, and its halves, so that the next plan can begin with them.

    A block refused with exception 02 or 03 is halved until the items are found that the meter does not have; an item
    is never split. Silence ends the dialogue: what was not asked yet is silent too. After Garbled the next block is
    asked, because noise passes.
    """
    found: dict[int, Value] = {}
    waiting = list(reversed(blocks))
    while waiting:
        block = waiting.pop()
        answer = yield block.ask(next(transactions) if transactions is not None else None)
        if isinstance(answer, Reply):
            refused = refusal(answer.frame)
            if refused is None:
                block.decode(answer.frame, found)
            elif refused.code in _SPLIT and (halves := block.halves()) is not None:
                if split is not None:
                    split(block, halves)
                waiting += reversed(halves)
            else:
                unasked = waiting if refused.code in _NOBODY else []
                for failed in [block, *unasked]:
                    failed.fail(Fault.ABSENT if refused.absent else Fault.REFUSED, str(refused), found)
                if unasked:
                    break
        elif isinstance(answer, Garbled):
            block.fail(Fault.GARBLED, answer.seen.hex().upper() or None, found)
        else:
            for failed in [block, *waiting]:
                failed.fail(Fault.SILENT, None, found)
            break
    return [found[place] for place in sorted(found)]
