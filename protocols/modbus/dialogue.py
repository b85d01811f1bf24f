"""Reading registers: one question and one answer, and whole blocks that become Values."""

from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from decimal import Decimal
from struct import Struct

from protocols.capture import Fault, Quality, Value, faulty, measured
from protocols.dialogue import MUTE, Answer, Ask, Dialogue, Garbled, Reply, Silence, make_ask
from protocols.errors import Refused
from protocols.modbus.frame import ERROR_BIT, EXCEPTIONS, Frame, read_request
from protocols.modbus.registers import Format
from protocols.quantity import Quantity

ABSENT = 0x02
"""Illegal data address: the meter has no such register, or none in one piece. [APP] §7."""
_SPLIT = frozenset({"02", "03"})
"""What a meter says to a block that touches a register it lacks (02), or that is longer than it serves (03)."""
_NOBODY = frozenset({0x0A, 0x0B})
"""A gateway's word that the meter behind it cannot be reached or did not answer: the silence of that meter, and no
fault of the connection to the gateway."""
_BUSY = frozenset({"05", "06"})
"""The meter works at something and asks for patience."""
_FAILURE = "04"
"""The meter tried and failed; perhaps only this once."""

BUSY_PAUSES_S = (0.1, 0.3, 1.0)
"""How long a busy meter is left alone before each further question; one that is still busy then has refused. The
specification only says "later" ([APP] §7)."""

HALVED_MAX = 12
"""Silent blocks that are halved in one reading: the whole way to two single items among 125 registers. Each costs a
time-out and a late window; what is not found out is at the next reading."""


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


_Decoder = tuple[Quantity, Callable[[bytes], Decimal | Quality], int, int]
"""Of an item: how its bytes are decoded, and where in the data of a reply they stand."""


class Block:
    """Neighbouring items read in one request, which is encoded once. Not changed after it is made.

    A site has hundreds of meters of one model: `of_unit` makes their blocks from one, sharing all but the request.

    places: where the Value of each item stands in the result of the dialogue; by default in the order of the items.
    as_ascii: it is asked in characters, on a serial line. in_order: the places are those of the items.
    """

    __slots__ = ("_ascii", "_ask", "_at", "_data", "_decoders", "_divisible", "_plain", "_quantities", "_unpack",
                 "_values", "_wants", "_words", "address", "count", "function", "in_order", "items", "places",
                 "unit")  # fmt: skip

    def __init__(
        self, unit: int, items: Sequence[Item], places: Sequence[int] | None = None, *, as_ascii: bool = False
    ) -> None:
        self._ascii = as_ascii
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
        self._decoders = [
            (item.quantity, item.format.decoder(), 1 + 2 * (item.address - first), 1 + 2 * (item.end - first))
            for item in items
        ]
        self._unpack = Struct(f">x{self.count}H").unpack
        self._at = [
            tuple(n for n, item in enumerate(items) if item.address <= register < item.end)
            for register in range(first, first + self.count)
        ]
        """For each register, which items it is part of."""
        self._plain = [
            (at[0], items[at[0]].quantity) if len(at) == 1 and items[at[0]].format.plain else None for at in self._at
        ]
        """Of each register that is the number of one item just as it stands: which item, and its quantity."""
        plain = [found for found in self._plain if found is not None]
        each = [n for n, _ in plain] == list(range(self.count))
        self._quantities = [quantity for _, quantity in plain] if each else None
        """Of all registers, where each is the number of one item, in their order."""
        self._wants = tuple(item.quantity for item in items)
        self._divisible = len({item.address for item in items}) > 1
        self.in_order = self.places == tuple(range(len(items)))
        self._aim(unit)

    def of_unit(self, unit: int) -> "Block":
        """The same block of another meter."""
        other = copy(self)
        other._aim(unit)
        return other

    def alone(self, item: Item) -> "Block":
        """The block of one of its items."""
        return Block(self.unit, [item], as_ascii=self._ascii)

    def _aim(self, unit: int) -> None:
        self.unit = unit
        self._data = read_request(unit, self.function, self.address, self.count, transaction=0).encode()[2:]
        request = read_request(unit, self.function, self.address, self.count, as_ascii=self._ascii).encode()
        reply_max = 11 + 4 * self.count if self._ascii else 5 + 2 * self.count
        self._ask: Ask[Frame] = Ask(data=request, reply_max=reply_max, accepts=self._accepts, speaks_for=speaks_for,
                                    divisible=self._divisible, wants=self._wants)  # fmt: skip
        self._words: tuple[int, ...] = ()
        self._values: list[Value] = []

    def ask(self, transaction: int | None = None, *, pause_s: float = 0.0) -> Ask[Frame]:
        """The question; with a transaction number it goes over TCP. pause_s: see Ask."""
        if transaction is None:
            return replace(self._ask, pause_s=pause_s) if pause_s else self._ask

        unit, function, count = self.unit, self.function, self.count

        def accepts(frame: Frame) -> bool:
            return frame.transaction == transaction and answers(frame, unit, function, count)

        data = transaction.to_bytes(2, "big") + self._data
        return make_ask(data, 9 + 2 * count, accepts, pause_s, speaks_for, self._divisible, self._wants)

    def _accepts(self, frame: Frame) -> bool:
        return answers(frame, self.unit, self.function, self.count)

    def decode(self, frame: Frame) -> list[Value]:
        """The Values of the items, from a reply that was accepted: in the order of `items`, and not to be changed.

        Registers that hold the same as last time give the same Value again: most change seldom, and a Value never
        does.
        """
        data, before, values = frame.data, self._words, self._values
        words = self._unpack(data)
        if not values:
            values.extend(_value(decoder, data) for decoder in self._decoders)
        elif words != before and self._quantities is not None:
            values = self._values = [
                value if now == then else measured(quantity, Decimal(now))
                for now, then, value, quantity in zip(words, before, values, self._quantities, strict=True)
            ]
        elif words != before:
            changed: set[int] = set()
            for now, then, plain, at in zip(words, before, self._plain, self._at, strict=True):
                if now == then:
                    continue
                if plain is not None:
                    values[plain[0]] = measured(plain[1], Decimal(now))
                else:
                    changed.update(at)
            for n in changed:
                values[n] = _value(self._decoders[n], data)
        self._words = words
        return values

    def fail(self, fault: Fault, detail: str | None, into: dict[int, Value]) -> None:
        """Put at the same places the reason why none was read."""
        for place, item in zip(self.places, self.items, strict=True):
            into[place] = faulty(item.quantity, fault, detail)

    def halves(self) -> "tuple[Block, Block] | None":
        """Two blocks with half of the items each, or None when all items are in the same registers."""
        ordered = sorted(zip(self.items, self.places, strict=True), key=lambda pair: (pair[0].address, pair[0].end))
        spans = [(item.address, item.end) for item, _ in ordered]
        middle = next((n for n in range(max(1, len(ordered) // 2), len(ordered)) if spans[n] != spans[n - 1]), 0)
        middle = middle or next((n for n in range(1, len(ordered)) if spans[n] != spans[0]), 0)
        if not middle:
            return None
        parts = ordered[:middle], ordered[middle:]
        first, second = (
            Block(self.unit, [i for i, _ in part], [p for _, p in part], as_ascii=self._ascii) for part in parts
        )
        return first, second


def _value(decoder: _Decoder, data: bytes) -> Value:
    """The Value of an item, from the data of a reply."""
    quantity, decode, start, end = decoder
    raw = data[start:end]
    number = decode(raw)
    if isinstance(number, Decimal):
        return measured(quantity, number)
    return Value(quantity=quantity, quality=number, detail=f"registers {raw.hex().upper()}")


def answers(frame: Frame, unit: int, function: int, count: int) -> bool:
    """Whether a frame is an answer to a read of `count` registers: the same unit, the same function with exactly the
    bytes asked for, or an exception to that function."""
    if frame.unit != unit:
        return False
    data = frame.data
    if frame.function == function:
        return len(data) == 1 + 2 * count and data[0] == 2 * count
    return frame.function == function | ERROR_BIT and len(data) == 1 and data[0] != 0


def speaks_for(frame: Frame) -> bool:
    """Whether a gateway says with it that the meter cannot be reached, or has not answered."""
    return frame.function & ERROR_BIT != 0 and frame.exception in _NOBODY


def refusal(frame: Frame) -> Refused | None:
    """What an exception reply says, or None when the frame is none."""
    if not frame.function & ERROR_BIT or (code := frame.exception) is None:
        return None
    name = EXCEPTIONS.get(code, "unknown")
    return Refused(f"exception {code:02X} {name}", code=f"{code:02X}", absent=code == ABSENT)


def read_registers(
    unit: int, function: int, address: int, count: int, *, transaction: int | None = None, as_ascii: bool = False
) -> Generator[Ask[Frame], Answer[Frame], bytes | Silence | Garbled]:
    """Reads registers as bytes, for what is not a Value (probing, tests). Raises Refused on an exception reply."""
    request = read_request(unit, function, address, count, transaction=transaction, as_ascii=as_ascii)

    def accepts(frame: Frame) -> bool:
        return frame.transaction == transaction and answers(frame, unit, function, count)

    reply_max = 9 + 2 * count if transaction is not None else 11 + 4 * count if as_ascii else 5 + 2 * count
    answer = yield Ask(data=request.encode(), reply_max=reply_max, accepts=accepts, speaks_for=speaks_for)
    if not isinstance(answer, Reply):
        return answer
    if (refused := refusal(answer.frame)) is not None:
        raise refused
    return answer.frame.data[1:]


def read_blocks(
    blocks: Sequence[Block],
    *,
    transactions: Iterator[int] | None = None,
    split: Callable[[tuple[Block, tuple[Block, Block]]], None] | None = None,
    heard: Callable[[Block], Generator[Ask[Frame], Answer[Frame], bool]] | None = None,
) -> Dialogue[Frame]:
    """Reads blocks one after the other and returns the Values of all their items, in the order of their places.

    transactions: where transaction numbers come from, over TCP; None on a serial line.
    split: told of each block that the meter refused whole, and its halves, so that the next plan can begin with them.
    heard: told of a block that was met with silence; finds out whether the meter answers anything else.

    What is refused for good (exceptions 01, 02, 03) is not asked again: a block is halved until the items are found
    that the meter does not have (02) or does not give so many of at once (03); an item is never split. After a failure
    (04) it is asked once more, a busy meter (05, 06) three times, with pauses. Silence ends the dialogue: what was not
    asked yet is silent too; a gateway that cannot reach the meter (0A, 0B) says just that. Where the meter is heard,
    the silence was of that block, which is as good as refused: it is halved, and its parts are asked once each. After
    Garbled the next block is asked, because noise passes; one that is too long for the noise is halved, this time.
    """
    found: dict[int, Value] = {}
    waiting = list(reversed(blocks))
    parts: Collection[Block] = ()
    """Of silent blocks. That they are silent as well is likely, and the next reading makes sure of it."""
    halved = 0
    while waiting:
        block = waiting.pop()
        ask = block.ask(next(transactions) if transactions is not None else None)
        answer = yield replace(ask, repeatable=False) if block in parts else ask
        if isinstance(answer, Reply) and answer.frame.function & ERROR_BIT:
            answer = yield from _insist(block, transactions, answer)
        if isinstance(answer, Reply):
            refused = refusal(answer.frame)
            if refused is None:
                values = block.decode(answer.frame)
                if block.in_order and not found and not waiting:  # nearly always: all in one request
                    return values.copy()
                found.update(zip(block.places, values, strict=True))
            elif refused.code in _SPLIT and (halves := block.halves()) is not None:
                if split is not None:
                    split((block, halves))
                waiting += reversed(halves)
            else:
                block.fail(Fault.ABSENT if refused.absent else Fault.REFUSED, str(refused), found)
        elif isinstance(answer, Garbled) and answer.too_long:
            halves = block.halves()
            assert halves is not None, "only what can be parted is divisible"
            waiting += reversed(halves)
        elif isinstance(answer, Garbled):
            block.fail(Fault.GARBLED, answer.seen.hex().upper() or None, found)
        elif heard is None or not (yield from heard(block)):
            for failed in [block, *waiting]:
                failed.fail(Fault.SILENT, None, found)
            break
        elif (halves := block.halves()) is None:
            block.fail(Fault.SILENT, MUTE, found)
        elif halved == HALVED_MAX:
            block.fail(Fault.SILENT, None, found)
        else:
            halved += 1
            if split is not None:
                split((block, halves))
            parts = {*parts, *halves}
            waiting += reversed(halves)
    return [found[place] for place in sorted(found)]


def _insist(
    block: Block, transactions: Iterator[int] | None, answer: Reply[Frame]
) -> Generator[Ask[Frame], Answer[Frame], Answer[Frame]]:
    """What a block that was refused says in the end, asked again where that is worth it."""
    pauses, failures = iter(BUSY_PAUSES_S), 0
    while True:
        refused = refusal(answer.frame)
        if refused is None:
            return answer
        if speaks_for(answer.frame):
            return Silence()
        pause_s: float | None = None
        if refused.code in _BUSY:
            pause_s = next(pauses, None)
        elif refused.code == _FAILURE and not failures:
            pause_s, failures = 0.0, 1
        if pause_s is None:
            return answer
        again = yield block.ask(next(transactions) if transactions is not None else None, pause_s=pause_s)
        if not isinstance(again, Reply):
            return again
        answer = again
