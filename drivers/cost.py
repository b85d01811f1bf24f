"""What an exchange costs in milliseconds of bus time, and the cheapest way to merge registers into requests.

A Modbus read of N registers: (13 + 2 N) characters, the meter's turnaround (at least t3.5, before which it cannot
know that the request ended), and t3.5 or the profile's gap; in ASCII (28 + 4 N) characters and no t3.5. A DL/T 645
read: 12 bytes and the identifier with the FE bytes in front, both ways, the payload, turnaround and gap.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from config.model import SerialSettings
from drivers.habits import Hole
from drivers.meter import t35
from protocols.modbus.dialogue import Item

_TCP_CHARACTER_MS = 0.001
"""A byte on a network: next to nothing against a round trip, but not quite, so that holes are not read for fun."""
_RTU_OVERHEAD, _TCP_OVERHEAD, _ASCII_OVERHEAD = 13, 21, 28


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """The prices on one bus for one meter, in milliseconds."""

    character_ms: float
    turnaround_ms: float
    gap_ms: float
    modbus_overhead: int = _RTU_OVERHEAD
    modbus_register: int = 2
    """Characters that one register takes."""

    def modbus_wire(self, count: int) -> float:
        """Characters of a read of `count` registers, both ways."""
        return (self.modbus_overhead + self.modbus_register * count) * self.character_ms

    def dlt645_wire(self, payload: int, *, di_length: int, preamble: int) -> float:
        """Characters of a read of an item of so many bytes, both ways; the reply counted with as many FE as we send."""
        return (2 * (preamble + 12 + di_length) + payload) * self.character_ms

    @property
    def exchange(self) -> float:
        """What each exchange costs besides its characters."""
        return self.turnaround_ms + self.gap_ms


def cost_of(settings: SerialSettings, *, protocol: str, turnaround_ms: float, min_gap_ms: float) -> Cost:
    """The prices for a meter of this protocol, with these settings of the line."""
    if protocol == "modbus-tcp":
        return Cost(character_ms=_TCP_CHARACTER_MS, turnaround_ms=max(turnaround_ms, 1.0), gap_ms=min_gap_ms,
                    modbus_overhead=_TCP_OVERHEAD)  # fmt: skip
    character_ms = settings.character_s * 1000
    if protocol.startswith("dlt645"):
        return Cost(character_ms=character_ms, turnaround_ms=turnaround_ms, gap_ms=min_gap_ms)
    if protocol == "modbus-ascii":
        return Cost(character_ms=character_ms, turnaround_ms=turnaround_ms, gap_ms=min_gap_ms,
                    modbus_overhead=_ASCII_OVERHEAD, modbus_register=4)  # fmt: skip
    silence_ms = t35(settings) * 1000
    return Cost(
        character_ms=character_ms, turnaround_ms=max(silence_ms, turnaround_ms), gap_ms=max(silence_ms, min_gap_ms)
    )


def merge(
    items: Sequence[Item], cost: Cost, *, max_registers: int, readable: Sequence[tuple[int, int]] = (),
    holes: Collection[Hole] = (),
) -> list[list[int]]:  # fmt: skip
    """The cheapest partition of items into requests, as lists of indices: an exact optimum by dynamic programming.

    A request stays within one function, one readable range and max_registers, and never holds a part of an item. It
    does not go over any of the holes either; an item that does itself is asked for alone.
    Raises ValueError for an item that no request can hold.
    """

    def readably(start: int, end: int) -> bool:
        return not readable or any(low <= start and end <= high + 1 for low, high in readable)

    order: list[int] = []
    alone: dict[tuple[int, int, int], list[int]] = {}
    for n in sorted(range(len(items)), key=lambda n: (items[n].function, items[n].address, items[n].end)):
        span = items[n].function, items[n].address, items[n].end
        if span[2] - span[1] > max_registers or not readably(*span[1:]):
            raise ValueError(f"registers {span[1]}..{span[2] - 1} fit no request (at most {max_registers})")
        (alone.setdefault(span, []) if holes and _over(holes, *span) else order).append(n)
    best: list[float] = [0.0]
    cut: list[int] = [0]
    for upto in range(1, len(order) + 1):
        end = 0
        function = items[order[upto - 1]].function
        cheapest, where = float("inf"), -1
        for first in range(upto - 1, -1, -1):
            item = items[order[first]]
            end = max(end, item.end)
            if item.function != function or end - item.address > max_registers:
                break
            if not readably(item.address, end) or (holes and _over(holes, function, item.address, end)):
                break
            total = best[first] + cost.modbus_wire(end - item.address) + cost.exchange
            if total < cheapest:
                cheapest, where = total, first
        best.append(cheapest)
        cut.append(where)
    blocks = list(alone.values())
    upto = len(order)
    while upto:
        blocks.append(order[cut[upto] : upto])
        upto = cut[upto]
    return sorted(blocks, key=lambda block: (items[block[0]].function, items[block[0]].address))


def _over(holes: Collection[Hole], function: int, start: int, end: int) -> bool:
    """Whether a request for these registers goes over a hole, or over a border that is not to be crossed."""
    return any(of == function and start < behind and first < end for of, first, behind in holes)
