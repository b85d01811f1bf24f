"""What a driver without checks would be like: the control that shows that the judge sees wrong values."""

from collections.abc import Callable, Generator, Mapping
from dataclasses import replace
from struct import error as StructError
from typing import Any, Final

from config.model import ProtocolName
from drivers.flights import Flights
from protocols.dialogue import Answer, Ask, Deframer, Dialogue, Reply
from protocols.dlt645.frame import OVERHEAD, START, unchecked
from protocols.dlt645.frame import Frame as Dlt645Frame
from protocols.modbus.frame import Frame as ModbusFrame


class _Careless:
    """What they share: they hold bytes, know of none that is missing, and drop all at a pause."""

    missing = 0

    def __init__(self) -> None:
        self._buffer = b""

    @property
    def pending(self) -> int:
        return len(self._buffer)

    def expire(self) -> list[Any]:
        self._buffer = b""
        return []


class CarelessDlt645(_Careless):
    """Takes what begins like a frame for one: no sum, no end byte."""

    def feed(self, data: bytes) -> list[Dlt645Frame]:
        self._buffer += data
        at = self._buffer.find(START)
        if at < 0 or len(self._buffer) < at + 10 or len(self._buffer) < at + OVERHEAD + self._buffer[at + 9]:
            return []
        frame, self._buffer = unchecked(self._buffer[at:]), b""
        return [frame]


class CarelessModbus(_Careless):
    """Takes the first bytes for a frame of the length that they say: no CRC."""

    def feed(self, data: bytes) -> list[ModbusFrame]:
        self._buffer += data
        buffer = self._buffer
        if len(buffer) < 5 or not buffer[1] or (buffer[1] < 0x80 and len(buffer) < 5 + buffer[2]):
            return []
        end = 3 + (buffer[2] if buffer[1] < 0x80 else 0)
        self._buffer = b""
        return [ModbusFrame(unit=buffer[0], function=buffer[1], data=buffer[2 : min(end, 250)])]


class CarelessAscii(_Careless):
    """Takes whatever digits stand behind a colon for a frame: no LRC."""

    def feed(self, data: bytes) -> list[ModbusFrame]:
        self._buffer += data
        begin, end = self._buffer.find(b":"), self._buffer.find(b"\r\n")
        if begin < 0 or end < begin:
            return []
        digits, self._buffer = self._buffer[begin + 1 : end], b""
        try:
            body = bytes.fromhex(digits.decode("ascii"))
        except ValueError:
            return []
        if len(body) < 3 or not body[1] or len(body) > 250:
            return []
        return [ModbusFrame(unit=body[0], function=body[1], data=body[2:-1], ascii=True)]


class CarelessTcp(_Careless):
    """Takes the first bytes for a frame of the length in its header: whatever its number."""

    def feed(self, data: bytes) -> list[ModbusFrame]:
        self._buffer += data
        buffer = self._buffer
        end = 6 + buffer[5] if len(buffer) > 8 else 0
        if not end or len(buffer) < end or end < 9 or not buffer[7]:
            return []
        self._buffer = b""
        return [ModbusFrame(unit=buffer[6], function=buffer[7], data=buffer[8 : min(end, 250)], transaction=0)]


class CarelessFlights(Flights):
    """Takes whatever comes for the answer to the question that has waited longest."""

    def receive(self, data: bytes) -> None:
        for frame in self._deframer.feed(data):
            if self.flying:
                flight = self.flying.pop(next(iter(self.flying)))
                now_ms = self._now_ms()
                flight.answer = Reply(frame=frame, sent_at=flight.sent_at, ended_at=now_ms)
                self.landed.append(flight)
                self._wake()


CARELESS: Final[Mapping[ProtocolName, Callable[[], Deframer[Any]]]] = {
    "dlt645-2007": CarelessDlt645,
    "dlt645-1997": CarelessDlt645,
    "modbus-rtu": CarelessModbus,
    "modbus-ascii": CarelessAscii,
    "modbus-tcp": CarelessTcp,
}


def trusting(dialogue: Dialogue[Any]) -> Generator[Ask[Any], Answer[Any], Any]:
    """The same dialogue, with questions that take anything for their answer."""
    try:
        ask = next(dialogue)
        while True:
            answer = yield replace(ask, accepts=lambda frame: True)
            try:
                ask = dialogue.send(answer)
            except (IndexError, ValueError, StructError):  # not even that long
                return []
    except StopIteration as end:
        return end.value
    finally:
        dialogue.close()
