"""Reading the registers of one meter as planned, and learning from what it refuses."""

from collections.abc import Callable, Iterator, Sequence

from drivers.habits import Habits, Hole, Known
from protocols.capture import Fault, Value
from protocols.dialogue import Dialogue
from protocols.modbus.dialogue import Block, read_blocks
from protocols.modbus.frame import Frame

_LACKING = frozenset({Fault.ABSENT, Fault.REFUSED})


class RegisterReads:
    """Blocks of registers of one meter, and the dialogue that reads them.

    make: the blocks for what is known of the meter. What it refuses in one piece is read in parts in the same dialogue;
    where that shows why, the blocks of the next are made without it.
    """

    __slots__ = ("_blocks", "_habits", "_known", "_make", "_transactions")

    def __init__(
        self, make: Callable[[Known], Sequence[Block]], habits: Habits, transactions: Iterator[int] | None
    ) -> None:  # fmt: skip
        self._make = make
        self._habits = habits
        self._transactions = transactions
        self._known = habits.known
        self._blocks = make(self._known)

    def dialogue(self) -> Dialogue[Frame]:
        """Reads all blocks."""
        if self._known is not self._habits.known:
            self._known = self._habits.known
            self._blocks = self._make(self._known)
        if self._known.holes:
            return self._watched()
        return self._reading()

    def _reading(self) -> Dialogue[Frame]:
        refused: list[tuple[Block, tuple[Block, Block]]] = []

        def split(whole: Block, halves: tuple[Block, Block]) -> None:
            refused.append((whole, halves))

        values = yield from read_blocks(self._blocks, transactions=self._transactions, split=split)
        if refused:
            holes, longest = reasons(refused, values)
            self._habits.refuses(holes=holes, longest=longest)
        return values

    def _watched(self) -> Dialogue[Frame]:
        """The same, with an eye on items that were absent."""
        blocks = self._blocks
        values = yield from self._reading()
        for block in blocks:
            span = block.function, block.address, block.address + block.count
            if span in self._habits.holes and all(values[place].fault is None for place in block.places):
                self._habits.gives(span)
        return values


def reasons(
    refused: Sequence[tuple[Block, tuple[Block, Block]]], values: Sequence[Value]
) -> tuple[list[Hole], int | None]:
    """Why these blocks were refused, each of them whole and then in halves, by the Values that came in the end.

    Both halves are given: what lies between them; where nothing does, the border, and where that is so in two places,
    no border but the length. Where they overlap it can be nothing but the length. A single item that is not given while
    others are: that item. A half that was refused in its turn is its own case. A meter that gave nothing at all has
    shown nothing.
    """
    if all(value.fault is not None for value in values):
        return [], None
    wholes = {id(whole) for whole, _ in refused}
    holes: list[Hole] = []
    borders: list[Hole] = []
    longest: list[int] = []
    for _, halves in refused:
        first, second = sorted(halves, key=lambda half: half.address)
        end = first.address + first.count
        if all(_given(half, wholes, values) for half in halves):
            hole = first.function, end, second.address
            if end < second.address:
                holes.append(hole)
            else:
                longest.append(max(first.count, second.count))
                borders += [hole] if end == second.address else []
        holes += [
            (half.function, half.address, half.address + half.count)
            for half in halves
            if id(half) not in wholes and all(values[place].fault in _LACKING for place in half.places)
        ]
    if len(longest) == len(borders) < 2:
        return [*holes, *borders], None
    return holes, max(longest)


def _given(half: Block, wholes: set[int], values: Sequence[Value]) -> bool:
    return id(half) not in wholes and all(values[place].fault is None for place in half.places)
