"""A line in memory that answers as a script says, with the times of a real wire; and meters to ask over it."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace

from config.model import BusEntry, MeterEntry, ProtocolName, SerialSettings
from drivers.line import OpenLine, ParityCheck, PortLost
from drivers.meter import Meter
from drivers.profile import Profile, load_profile
from protocols.dlt645.frame import Frame as Dlt645Frame
from protocols.modbus.frame import Frame as ModbusFrame

Said = Iterable[tuple[float, bytes]]
"""What comes after a question: (seconds from its last byte to the first of these bytes, the bytes)."""

SERIAL = SerialSettings(baud=9600, parity="E")
BUS = BusEntry(name="b1", port="/dev/ttyS0", serial=SERIAL)
PROFILES = {
    "dlt645-2007": "dlt645-2007-3p",
    "modbus-rtu": "eastron-sdm630",
    "modbus-tcp": "eastron-sdm630",
    "modbus-ascii": "modbus-generic",
}


class ScriptedLine:
    """A Line. `answer` is given each question as it is written, with its number from 0."""

    def __init__(self, answer: Callable[[bytes, int], Said], serial: SerialSettings = SERIAL) -> None:
        self.parity: ParityCheck = "none"
        self.asked: list[tuple[float, bytes]] = []
        self.applied: list[SerialSettings] = []
        self.closed = False
        self._answer = answer
        self._character_s = serial.character_s
        self._receive: Callable[[bytes], object] | None = None
        self._lost: Callable[[Exception], None] | None = None

    async def open(self, bus: BusEntry) -> "ScriptedLine":
        """An OpenLine."""
        self.closed = False
        return self

    def attach(self, receive: Callable[[bytes], object], lost: Callable[[Exception], None]) -> None:
        self._receive, self._lost = receive, lost

    def write(self, data: bytes, unwanted_s: float = 0.0) -> None:
        loop = asyncio.get_running_loop()
        self.asked.append((loop.time(), data))
        for after_s, said in self._answer(data, len(self.asked) - 1):
            self.say(said, after_s=len(data) * self._character_s + after_s)

    def say(self, data: bytes, *, after_s: float = 0.0) -> None:
        """Bytes that begin to arrive so long from now; they come in one piece when the last is there."""
        asyncio.get_running_loop().call_later(after_s + len(data) * self._character_s, self._deliver, data)

    def _deliver(self, data: bytes) -> None:
        if self._receive is not None and not self.closed:
            self._receive(data)

    def apply(self, settings: SerialSettings) -> None:
        self.applied.append(settings)
        self._character_s = settings.character_s

    async def drained(self) -> None:
        """A test asks only when the line is quiet."""

    def tear(self) -> None:
        """The adapter is pulled out."""
        assert self._lost is not None
        self._lost(PortLost("pulled out"))

    def close(self) -> None:
        self.closed = True


def opener(line: ScriptedLine) -> OpenLine:
    """An OpenLine that gives this line."""
    return line.open


def meter(
    address: str = "000000000001",
    protocol: ProtocolName = "dlt645-2007",
    *,
    name: str | None = None,
    bus: BusEntry = BUS,
    serial: SerialSettings | None = None,
    profile: Profile | None = None,
    **changes: object,
) -> Meter:
    """A meter on the bus; changes are of its profile."""
    chosen = profile or load_profile(PROFILES[protocol])
    entry = MeterEntry(
        id=name or f"meter-{address}", point=f"point-{address}", bus=bus.name, address=address, profile=chosen.name,
        protocol=protocol, serial=serial,
    )  # fmt: skip
    return Meter(entry, replace(chosen, **changes), bus)  # type: ignore[arg-type]


def energy(address: str = "000000000001", digits: str = "00001234", di: str = "00010000") -> bytes:
    """The answer of a DL/T 645-2007 meter to a read of an energy: 12.34 kWh."""
    data = bytes.fromhex(di)[::-1] + bytes.fromhex(digits)[::-1]
    return Dlt645Frame(address=address, control=0x91, data=data).encode()


def registers(unit: int = 1, *values: int, function: int = 4) -> bytes:
    """The answer of a Modbus meter to a read of registers."""
    body = b"".join(value.to_bytes(2, "big") for value in values)
    return ModbusFrame(unit=unit, function=function, data=bytes([len(body)]) + body).encode()
