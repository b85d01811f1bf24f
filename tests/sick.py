"""Meters that behave as a gateway cannot see: always one question behind, by turns with another, and the like."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from config.model import BusEntry, MeterEntry, ProtocolName, SerialSettings
from drivers.line import Line
from drivers.profile import load_profile
from field.diagnosis.examination import Evidence, examine
from field.diagnosis.findings import Finding, findings
from field.diagnosis.questions import Subject, subject
from protocols.dlt645.frame import Frame as Dlt645Frame
from protocols.modbus.frame import Frame as ModbusFrame
from simulators import virtual
from simulators.answer import Answer
from simulators.dlt645 import Dlt645Meter
from simulators.load import Load
from simulators.meter import SimulatedMeter
from simulators.modbus import ModbusMeter
from simulators.wire import MemoryLine, Wire

START_MS = 1_800_000_000_000
S2400, S9600 = SerialSettings.parse("2400-8E1"), SerialSettings.parse("9600-8N1")
PROFILE = "eastron-sdm630"


class BehindDlt645(Dlt645Meter):
    """Answers each question as it should have answered the one before."""

    _owed: Answer | None = None

    def answer(self, frame: Dlt645Frame, now_ms: int) -> Answer | None:
        owed, right = self._owed, super().answer(frame, now_ms)
        if right is not None:
            self._owed = right
        return owed if right is not None else None


class RefusingDlt645(Dlt645Meter):
    """Refuses every function but those that it knows, and gives no reason, as a meter of 1997 refuses 11H."""

    def __init__(self, *arguments: Any, knows: Sequence[int] = (), **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._knows = knows

    def answer(self, frame: Dlt645Frame, now_ms: int) -> Answer | None:
        if frame.from_meter or frame.function in self._knows or not self.is_addressed(frame.address):
            return super().answer(frame, now_ms)
        return self._reply(frame, 0xC0, b"\x01")


class RefusingModbus(ModbusMeter):
    """Has no register that it is asked for."""

    def answer(self, frame: ModbusFrame, now_ms: int) -> Answer | None:
        return self._exception(frame, 2) if super().answer(frame, now_ms) is not None else None


class BehindModbus(ModbusMeter):
    """The same, on Modbus."""

    _owed: Answer | None = None

    def answer(self, frame: ModbusFrame, now_ms: int) -> Answer | None:
        owed, right = self._owed, super().answer(frame, now_ms)
        if right is not None:
            self._owed = right
        return owed if right is not None else None


class Turns:
    """Whose turn it is among those that share an address: told the same question, only one of them answers."""

    def __init__(self, count: int = 2) -> None:
        self._count = count
        self._heard = 0

    def mine(self, number: int) -> bool:
        """Whether the one of this number answers. Each of them asks once a question."""
        turn = self._heard // self._count % self._count
        self._heard += 1
        return turn == number


class TurnDlt645(Dlt645Meter):
    """One of several with an address, that answer by turns."""

    def __init__(self, turns: Turns, number: int, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._turns, self._number = turns, number

    def answer(self, frame: Dlt645Frame, now_ms: int) -> Answer | None:
        right = super().answer(frame, now_ms)
        return right if self._turns.mine(self._number) else None


class TurnModbus(ModbusMeter):
    """The same, on Modbus."""

    def __init__(self, turns: Turns, number: int, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._turns, self._number = turns, number

    def answer(self, frame: ModbusFrame, now_ms: int) -> Answer | None:
        right = super().answer(frame, now_ms)
        return right if self._turns.mine(self._number) else None


def dlt645(address: str = "000000000001", *, seed: int = 1, kind: Callable[..., Dlt645Meter] = Dlt645Meter,
           turnaround_ms: tuple[float, float] = (40.0, 60.0), **options: Any) -> SimulatedMeter:  # fmt: skip
    """A DL/T 645-2007 meter of this kind."""
    serial = options.pop("serial", None)
    meter = kind(address, Load(seed), identity={"meter.number": f"{seed:012d}"}, **options)
    return SimulatedMeter(id=f"d{seed}", meter=meter, turnaround_ms=turnaround_ms, serial=serial)


def modbus(unit: int = 1, *, seed: int = 1, kind: Callable[..., ModbusMeter] = ModbusMeter,
           turnaround_ms: tuple[float, float] = (20.0, 30.0), **options: Any) -> SimulatedMeter:  # fmt: skip
    """A Modbus meter of this kind."""
    serial = options.pop("serial", None)
    meter = kind(unit, load_profile(PROFILE), Load(seed), **options)
    return SimulatedMeter(id=f"m{seed}", meter=meter, turnaround_ms=turnaround_ms, serial=serial)


class Ward:
    """A bus in virtual time with meters on it, and what an examination finds."""

    def __init__(
        self, meters: Sequence[SimulatedMeter], *, protocol: ProtocolName, profile: str = "", serial: SerialSettings,
        **options: Any,
    ) -> None:  # fmt: skip
        self.serial, self.protocol = serial, protocol
        self.profile = profile or ("dlt645-2007-3p" if protocol.startswith("dlt645") else PROFILE)
        self.bus = BusEntry(name="ward", port="/memory/ward", serial=serial)
        self._meters, self._options = meters, options
        self.addresses = list(dict.fromkeys(
            m.meter.address if isinstance(m.meter, Dlt645Meter) else str(m.meter.unit) for m in meters
        ))  # fmt: skip
        self.wire: Wire | None = None
        self.took_s = 0.0

    def subjects(self, addresses: Sequence[str] = ()) -> list[Subject]:
        return [
            subject(MeterEntry(id=address, point="", bus="ward", address=address, protocol=self.protocol,
                               profile=self.profile), self.bus)
            for address in addresses or self.addresses
        ]  # fmt: skip

    def examined(
        self, addresses: Sequence[str] = (), *, questions: int = 16, beside: Callable[[Wire], None] | None = None,
        among: Sequence[Subject] = (),
    ) -> Evidence:  # fmt: skip
        """Everything that was seen. beside: done to the wire when the examination begins. among: these subjects."""

        async def main() -> Evidence:
            wire = self.wire = Wire(self._meters, serial=self.serial, now_ms=virtual.now_ms, **self._options)

            async def open_line(_: BusEntry) -> Line:
                if beside is not None:
                    beside(wire)
                return MemoryLine(wire)

            evidence = await examine(
                self.bus, among or self.subjects(addresses), questions=questions, listen_s=3.0, open_line=open_line
            )
            self.took_s = asyncio.get_running_loop().time()
            return evidence

        return virtual.run(main(), start_ms=START_MS)

    def found(self, addresses: Sequence[str] = (), **options: Any) -> list[Finding]:
        """What is worth a word, without what is all right."""
        return [one for one in findings(self.examined(addresses, **options)) if one.severity != "ok"]


def checks(found: Sequence[Finding]) -> list[tuple[str, str, str | None]]:
    return [(one.check, one.severity, one.meter) for one in found]
