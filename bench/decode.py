"""DL/T 645 decodes a second, on one core: bytes as they come from the wire, to a frame, to values."""

import time
from collections.abc import Iterator

from bench.figure import Figure, rate
from protocols.dlt645.codes import Edition
from protocols.dlt645.frame import Deframer, Frame
from protocols.dlt645.items import quantities
from protocols.dlt645.reading import ReadItem, values_of

ADDRESS = "202411110001"
REPLIES = {
    "one energy, 1 value": ("00010000", "56341200", 1),
    "three voltages, 3 values": ("0201FF00", "012311230223", 3),
    "energy over four tariffs, 5 values": ("0001FF00", "5634120011000000220000003300000044000000", 5),
}
"""Identifier, payload in wire order, and how many values that is, by what it is."""


def run(frames: int = 20_000) -> Iterator[Figure]:
    """For each reply: so many decodes, best of three."""
    for what, (di, payload, count) in REPLIES.items():
        data = bytes.fromhex(di)[::-1] + bytes.fromhex(payload)
        wire = b"\xfe" * 4 + Frame(address=ADDRESS, control=0x91, data=data).encode()
        item = ReadItem(di=di, wants=quantities(di)[:count])
        assert _decode(wire, item, 1) == count
        best = min(_timed(wire, item, frames) for _ in range(3))
        yield rate("decode", what, frames, best, "decodes/s", values_per_s=round(frames * count / best))


def _timed(wire: bytes, item: ReadItem, frames: int) -> float:
    began = time.perf_counter()
    _decode(wire, item, frames)
    return time.perf_counter() - began


def _decode(wire: bytes, item: ReadItem, frames: int) -> int:
    """Decode the same reply so often, each time with a deframer of its own as the bus does; values in the last."""
    count = 0
    for _ in range(frames):
        (frame,) = Deframer().feed(wire)
        values = values_of(item, Edition.E2007, frame.data[4:])
        count = len([value for value in values if value.number is not None])
    return count
