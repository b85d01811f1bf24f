"""Reading the registers of one meter as planned, and learning from what it refuses or is mute to."""

import logging
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence

from drivers.habits import DAYS_MAX, Habits, Hole, Known
from drivers.witness import Witness
from protocols.capture import Fault, Value
from protocols.dialogue import MUTE, Answer, Ask, Dialogue
from protocols.modbus.dialogue import Block, Item, read_blocks
from protocols.modbus.frame import Frame

log = logging.getLogger(__name__)

_LACKING = frozenset({Fault.ABSENT, Fault.REFUSED})


class RegisterReads:
    """Blocks of registers of one meter, and the dialogue that reads them.

    make: the blocks for what is known of the meter. What it refuses in one piece is read in parts in the same dialogue;
    where that shows why, the blocks of the next are made without it. So is that to which it is mute (see
    `drivers.witness`), when two readings in a row show the same.
    """

    __slots__ = ("_blocks", "_habits", "_known", "_make", "_meter", "_transactions", "_witness")

    def __init__(
        self, make: Callable[[Known], Sequence[Block]], habits: Habits, transactions: Iterator[int] | None,
        *, meter: str = "",
    ) -> None:  # fmt: skip
        """meter: its name, for the log."""
        self._make = make
        self._habits = habits
        self._transactions = transactions
        self._meter = meter
        self._known = habits.known
        self._blocks = make(self._known)
        self._witness = Witness()

    def dialogue(self) -> Dialogue[Frame]:
        """Reads all blocks."""
        if self._known is not self._habits.known:
            self._known = self._habits.known
            self._blocks = self._make(self._known)
        if self._known.holes or self._habits.down:
            return self._watched()
        return self._reading(self._blocks)

    def _reading(self, blocks: Sequence[Block]) -> Dialogue[Frame]:
        refused: list[tuple[Block, tuple[Block, Block]]] = []
        values = yield from read_blocks(
            blocks, transactions=self._transactions, split=refused.append, heard=self._heard
        )  # fmt: skip
        if refused or self._witness.alert:
            found = _placed(blocks, values)
            holes, longest = reasons(refused, found)
            if self._witness.alert:
                holes += [_span(block) for block in blocks if _mute(block, found)]
                if refused and not holes and longest is None:  # cut before a reason was found
                    longest = max(half.count for half in refused[0][1])
                holes, longest = self._certain(holes, longest)
            self._habits.refuses(holes=holes, longest=longest)
        return values

    def _certain(self, holes: Sequence[Hole], longest: int | None) -> tuple[list[Hole], int | None]:
        """What the meter is certainly mute to."""
        sure = self._witness.certain([*holes, *(() if longest is None else (longest,))])
        holes, longest = [hole for hole in holes if hole in sure], longest if longest in sure else None
        new = [_told(hole) for hole in holes if hole not in self._habits.holes]
        if new or longest is not None:
            new += [] if longest is None else [f"more than {longest} at once"]
            log.warning("meter=%s is silent to registers %s, and answers others: asked for otherwise for %d days",
                        self._meter, ", ".join(new), DAYS_MAX)  # fmt: skip
        return holes, longest

    def _watched(self) -> Dialogue[Frame]:
        """The same, beginning with whether the meter is back, and with an eye on items that it lacked."""
        blocks, habits = self._blocks, self._habits
        found: dict[int, Value] = {}
        items = _items(blocks)
        if habits.down and len(items) > 1 and not (yield from self._witness.heard(items, (), self._alone)):
            for block in blocks:
                block.fail(Fault.SILENT, None, found)
            return [found[place] for place in sorted(found)]
        asked = [block for block in blocks if habits.down or habits.mute.get(_span(block)) != habits.today]
        found = _placed(asked, (yield from self._reading(asked)))
        for block in blocks:
            span = _span(block)
            if block not in asked or (span in habits.holes and _mute(block, found)):
                habits.mute[span] = habits.today
                block.fail(Fault.ABSENT, MUTE, found)
            elif span in habits.holes and all(found[place].fault is None for place in block.places):
                habits.gives(span)
        return [found[place] for place in sorted(found)]

    def _heard(self, silent: Block) -> Generator[Ask[Frame], Answer[Frame], bool]:
        """Whether the meter answers anything smaller than this."""
        return self._witness.heard(_items(self._blocks), silent.items, self._alone)

    def _alone(self, item: Item) -> Dialogue[Frame]:
        return read_blocks([self._blocks[0].alone(item)], transactions=self._transactions)


def _items(blocks: Sequence[Block]) -> list[Item]:
    return [item for block in blocks for item in block.items]


def _span(block: Block) -> Hole:
    return block.function, block.address, block.address + block.count


def _told(hole: Hole) -> str:
    function, first, end = hole
    return f"{first}..{end - 1} (function {function})" if first < end else f"across {first} (function {function})"


def _placed(blocks: Sequence[Block], values: Sequence[Value]) -> dict[int, Value]:
    """The Values of these blocks by their places."""
    return dict(zip(sorted(place for block in blocks for place in block.places), values, strict=True))


def _mute(block: Block, found: Mapping[int, Value]) -> bool:
    """Whether the meter was silent to each of its items alone."""
    return all(found[place].detail == MUTE for place in block.places)


def reasons(
    refused: Sequence[tuple[Block, tuple[Block, Block]]], found: Mapping[int, Value]
) -> tuple[list[Hole], int | None]:
    """Why these blocks were refused, each of them whole and then in halves, by the Values that came in the end.

    Both halves are given: what lies between them; where nothing does, the border, and where that is so in two places,
    no border but the length. Where they overlap it can be nothing but the length. A single item that is not given while
    others are: that item. A half that was refused in its turn is its own case. A meter that gave nothing at all has
    shown nothing.
    """
    if all(value.fault is not None for value in found.values()):
        return [], None
    wholes = {id(whole) for whole, _ in refused}
    holes: list[Hole] = []
    borders: list[Hole] = []
    longest: list[int] = []
    for _, halves in refused:
        first, second = sorted(halves, key=lambda half: half.address)
        end = first.address + first.count
        if all(_given(half, wholes, found) for half in halves):
            hole = first.function, end, second.address
            if end < second.address:
                holes.append(hole)
            else:
                longest.append(max(first.count, second.count))
                borders += [hole] if end == second.address else []
        holes += [
            _span(half)
            for half in halves
            if id(half) not in wholes and (_mute(half, found) or all(found[p].fault in _LACKING for p in half.places))
        ]
    if len(longest) == len(borders) < 2:
        return [*holes, *borders], None
    return holes, max(longest)


def _given(half: Block, wholes: set[int], found: Mapping[int, Value]) -> bool:
    return id(half) not in wholes and all(found[place].fault is None for place in half.places)
