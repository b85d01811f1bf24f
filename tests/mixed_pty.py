"""The meters of the mixed bus on a pty, as a process of its own: `python -m tests.mixed_pty`.

Prints the pty's path, serves until its standard input ends, then prints what its wire knows of its own time, as JSON.
Every byte of an answer arrives at its own moment, as from a UART.
"""

import asyncio
import json
import sys
from dataclasses import asdict, dataclass
from typing import Final

from config.model import SerialSettings
from field.clock import wall_ms
from simulators.endpoints import PtyEndpoint
from tests.mixed import mixed_wire

SERIAL: Final = SerialSettings(baud=9600, parity="E")


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """Seconds that bytes were on the wire, and that meters took to begin their answers."""

    wire_s: float
    turnaround_s: float


async def main() -> None:
    """Serve."""
    wire = mixed_wire(SERIAL, wall_ms, pieces=1)
    endpoint = PtyEndpoint(wire)
    await endpoint.start()
    print(endpoint.endpoint, flush=True)
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(sys.stdin, ended.set)
    await ended.wait()
    loop.remove_reader(sys.stdin)
    await endpoint.stop()
    print(json.dumps(asdict(Told(wire_s=wire.wire_s, turnaround_s=wire.turnaround_s))), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
