"""What a driver without checks would be like: the control that shows that the judge sees wrong values."""

from collections.abc import Generator
from dataclasses import replace
from typing import Any

from protocols.dialogue import Answer, Ask, Dialogue
from protocols.dlt645.frame import OVERHEAD, START, unchecked
from protocols.dlt645.frame import Frame as Dlt645Frame
from protocols.modbus.frame import Frame as ModbusFrame


class CarelessDlt645:
    """Takes what begins like a frame for one: no sum, no end byte."""

    def __init__(self) -> None:
        self._buffer = b""

    @property
    def pending(self) -> int:
        return len(self._buffer)

    def feed(self, data: bytes) -> list[Dlt645Frame]:
        self._buffer += data
        at = self._buffer.find(START)
        if at < 0 or len(self._buffer) < at + 10 or len(self._buffer) < at + OVERHEAD + self._buffer[at + 9]:
            return []
        frame, self._buffer = unchecked(self._buffer[at:]), b""
        return [frame]

    def expire(self) -> list[Dlt645Frame]:
        self._buffer = b""
        return []


class CarelessModbus:
    """Takes the first bytes for a frame of the length that they say: no CRC."""

    def __init__(self) -> None:
        self._buffer = b""

    @property
    def pending(self) -> int:
        return len(self._buffer)

    def feed(self, data: bytes) -> list[ModbusFrame]:
        self._buffer += data
        buffer = self._buffer
        if len(buffer) < 5 or not buffer[1] or (buffer[1] < 0x80 and len(buffer) < 5 + buffer[2]):
            return []
        end = 3 + (buffer[2] if buffer[1] < 0x80 else 0)
        self._buffer = b""
        return [ModbusFrame(unit=buffer[0], function=buffer[1], data=buffer[2 : min(end, 250)])]

    def expire(self) -> list[ModbusFrame]:
        self._buffer = b""
        return []


def trusting(dialogue: Dialogue[Any]) -> Generator[Ask[Any], Answer[Any], Any]:
    """The same dialogue, with questions that take anything for their answer."""
    try:
        ask = next(dialogue)
        while True:
            answer = yield replace(ask, accepts=lambda frame: True)
            try:
                ask = dialogue.send(answer)
            except (IndexError, ValueError):  # not even that long
                return []
    except StopIteration as end:
        return end.value
    finally:
        dialogue.close()
