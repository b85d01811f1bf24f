"""How the meters of one wire find the questions in what they hear: DL/T 645, Modbus RTU and ASCII side by side."""

from protocols.checksum import crc16_modbus
from protocols.dlt645.frame import Deframer as Dlt645Deframer
from protocols.dlt645.frame import Frame as Dlt645Frame
from protocols.dlt645.frame import parse
from protocols.errors import Malformed
from protocols.modbus.ascii import AsciiDeframer
from protocols.modbus.frame import Frame as ModbusFrame
from protocols.modbus.frame import RtuDeframer

FORGET_S = 0.5
"""A pause this long ends whatever had begun (the inter-byte limit of DL/T 645-2007)."""

Question = Dlt645Frame | ModbusFrame


class Ear:
    """Takes bytes with the time at which they come; returns the whole questions among them."""

    def __init__(self) -> None:
        self._heard_at = 0.0
        self._forget()

    def _forget(self) -> None:
        self._dlt645 = Dlt645Deframer()
        self._modbus = RtuDeframer("requests")
        self._ascii = AsciiDeframer()
        self._fresh = True

    def hear(self, data: bytes, now: float) -> list[Question]:
        """The questions that are complete with these bytes. now: in seconds, of any clock that goes on."""
        found = _whole(data)
        if found is not None:  # nearly always: one write, one question
            if not self._fresh:
                self._forget()
            return [found]
        if now - self._heard_at > FORGET_S and not self._fresh:
            self._forget()
        self._heard_at = now
        self._fresh = False
        questions: list[Question] = [*self._dlt645.feed(data)]
        if questions:
            self._modbus, self._ascii = RtuDeframer("requests"), AsciiDeframer()
            return questions
        questions += self._modbus.feed(data) or self._ascii.feed(data)
        if questions:
            self._forget()
        return questions


def _whole(data: bytes) -> Question | None:
    """The one question that these bytes are, or None."""
    if data[:1] in (b"\xfe", b"\x68"):
        try:
            return parse(data.lstrip(b"\xfe"))
        except Malformed:
            return None
    if data[:1] == b":" and len(frames := AsciiDeframer().feed(data)) == 1:
        return frames[0]
    if len(data) >= 4 and data[1] and crc16_modbus(data) == 0:
        return ModbusFrame(unit=data[0], function=data[1], data=data[2:-2])
    return None
