"""Registers are merged into the cheapest requests that there are, and never across what may not be asked."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.model import SerialSettings
from drivers.cost import Cost, cost_of, merge
from protocols.modbus.dialogue import Item
from protocols.modbus.registers import Format, Type
from protocols.quantity import Kind, Quantity

PRICES = Cost(character_ms=1.0, turnaround_ms=20.0, gap_ms=3.5)
WIDTHS = {1: Type.UINT16, 2: Type.UINT32, 4: Type.INT64}
SPANS = st.lists(
    st.tuples(st.integers(0, 90), st.sampled_from([1, 2, 4]), st.sampled_from([3, 4])), min_size=1, max_size=5
)


def items_of(spans: Sequence[tuple[int, int, int]]) -> list[Item]:
    return [
        Item(
            quantity=Quantity(number=0, name=f"{function}:{address}:{width}", unit="", kind=Kind.INSTANT),
            function=function, address=address, format=Format(type=WIDTHS[width]),
        )
        for address, width, function in spans
    ]  # fmt: skip


def price(
    items: Sequence[Item], blocks: Sequence[Sequence[int]], most: int, ranges: Sequence[tuple[int, int]]
) -> float:
    """What this partition costs; infinite when one of its blocks may not be asked."""
    total = 0.0
    for block in blocks:
        members = [items[n] for n in block]
        start, end = min(item.address for item in members), max(item.end for item in members)
        inside = not ranges or any(low <= start and end <= high + 1 for low, high in ranges)
        if len({item.function for item in members}) > 1 or end - start > most or not inside:
            return float("inf")
        total += (13 + 2 * (end - start)) * 1.0 + 23.5
    return total


def partitions(items: list[int]) -> list[list[list[int]]]:
    """Every way of putting items into blocks."""
    if not items:
        return [[]]
    first, *rest = items
    found = []
    for parts in partitions(rest):
        found.append([[first], *parts])
        found += [[*parts[:n], [first, *parts[n]], *parts[n + 1 :]] for n in range(len(parts))]
    return found


@given(SPANS, st.integers(4, 100), st.sampled_from([(), ((0, 40), (41, 93)), ((0, 93),)]))
@settings(max_examples=50)
def test_merging_is_as_cheap_as_the_cheapest_of_all_partitions(
    spans: list[tuple[int, int, int]], most: int, ranges: tuple[tuple[int, int], ...]
) -> None:
    items = items_of(spans)
    prices = [price(items, blocks, most, ranges) for blocks in partitions(list(range(len(items))))]
    if min(prices) == float("inf"):
        with pytest.raises(ValueError, match="fit no request"):
            merge(items, PRICES, max_registers=most, readable=ranges)
        return
    blocks = merge(items, PRICES, max_registers=most, readable=ranges)
    assert sorted(n for block in blocks for n in block) == list(range(len(items)))
    assert price(items, blocks, most, ranges) == pytest.approx(min(prices))


@pytest.mark.parametrize(
    ("baud", "turnaround_ms", "widest"),
    [(2400, 0, 10), (9600, 0, 10), (19200, 0, 10), (2400, 20, 10), (9600, 20, 17), (19200, 20, 27), (115200, 20, 131)],
)
def test_the_gap_that_is_read_over_follows_from_speed_and_turnaround(
    baud: int, turnaround_ms: int, widest: int
) -> None:
    # G* = (13 Tc + t3.5 + max(t3.5, Td)) / 2 Tc: up to it, reading the hole is no dearer than another request.
    cost = cost_of(
        SerialSettings(baud=baud, parity="N"), protocol="modbus-rtu", turnaround_ms=turnaround_ms, min_gap_ms=0
    )
    # Two items more than 125 registers apart can never be one request, so the widest is looked for below that.
    for hole in range(1, 123):
        pair = items_of([(0, 1, 3), (1 + hole, 1, 3)])
        together = len(merge(pair, cost, max_registers=125)) == 1
        assert together == (hole <= widest) or hole == widest  # at exact break-even either is right


def test_a_dlt645_meter_keeps_its_own_gap_and_no_silence_of_modbus() -> None:
    slow = SerialSettings(baud=1200, parity="E")  # t3.5 is 32 ms there
    old = cost_of(slow, protocol="dlt645-2007", turnaround_ms=20, min_gap_ms=30)
    assert (old.turnaround_ms, old.gap_ms) == (20, 30)
    rtu, ascii_ = (cost_of(slow, protocol=f"modbus-{one}", turnaround_ms=20, min_gap_ms=30) for one in ("rtu", "ascii"))
    assert rtu.turnaround_ms == rtu.gap_ms == pytest.approx(32.08, abs=0.01)
    assert (ascii_.turnaround_ms, ascii_.gap_ms) == (20, 30)
    # A read of two registers takes 8 and 9 bytes, in ASCII 17 and 19 characters.
    assert rtu.modbus_wire(2) == pytest.approx(17 * 11 / 1.2) and ascii_.modbus_wire(2) == pytest.approx(36 * 11 / 1.2)
