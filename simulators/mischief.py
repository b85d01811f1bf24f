"""What a meter, or somebody beside it, does to an answer before it is on the wire: each bytes that were really sent.

What the wire itself does to bytes on their way is in `simulators.noise`.
"""

from collections import Counter
from random import Random

from protocols.dlt645.frame import Frame as Dlt645Frame
from protocols.dlt645.frame import parse
from protocols.errors import Malformed
from protocols.modbus.ascii import AsciiDeframer
from protocols.modbus.frame import ERROR_BIT, TcpDeframer
from protocols.modbus.frame import Frame as ModbusFrame
from simulators.ear import Question
from simulators.noise import Faults


class Mischief:
    """Draws what goes wrong with answers, and counts what did."""

    def __init__(self, rng: Random, counts: "Counter[str]") -> None:
        self._rng = rng
        self._counts = counts

    def strikes(self, fault: str, rate: float) -> bool:
        """Whether a fault of this rate comes about now."""
        if not rate or self._rng.random() >= rate:
            return False
        self._counts[fault] += 1
        return True

    def said(self, answer: bytes, question: Question, faults: Faults) -> bytes:
        """What is sent in place of an answer."""
        rng, data = self._rng, answer
        if self.strikes("other", faults.other):
            data = self._other(data, question)
        if faults.preamble and isinstance(question, Dlt645Frame) and self.strikes("preamble", faults.preamble):
            data = b"\xfe" * rng.randrange(17) + data.lstrip(b"\xfe")
        if self.strikes("twice", faults.twice):
            data += data
        if self.strikes("truncate", faults.truncate):
            data = data[: rng.randrange(len(data))]
        if self.strikes("glitch", faults.glitch):
            data = rng.choice((b"\x00", b"\xff")) * rng.randint(1, 3) + data
        if self.strikes("foreign", faults.foreign):
            data = self._foreign(question) + data
        if self.strikes("tail", faults.tail):
            data += rng.randbytes(rng.randint(1, 6))
        return data

    def _foreign(self, question: Question) -> bytes:
        """A whole and right frame of a meter that was not asked."""
        rng = self._rng
        if isinstance(question, Dlt645Frame):
            address = f"{rng.randrange(10**12):012d}"
            data = question.data[:4] + rng.randbytes(4)
            return Dlt645Frame(address=address, control=question.control | 0x80, data=data).encode()
        unit = question.unit % 247 + 1
        return ModbusFrame(unit=unit, function=question.function, data=b"\x02" + rng.randbytes(2),
                           transaction=question.transaction, ascii=question.ascii).encode()  # fmt: skip

    def _other(self, data: bytes, question: Question) -> bytes:
        """A whole frame that is nearly the answer."""
        if isinstance(question, ModbusFrame) and question.transaction is not None:
            (frame,) = TcpDeframer().feed(data)
            return self._other_modbus(frame)
        try:
            return self._other_dlt645(parse(data.lstrip(b"\xfe")))
        except Malformed:
            if data.startswith(b":"):
                (frame,) = AsciiDeframer().feed(data)
                return self._other_modbus(frame)
            return self._other_modbus(ModbusFrame(unit=data[0], function=data[1], data=data[2:-2]))

    def _other_dlt645(self, frame: Dlt645Frame) -> bytes:
        rng = self._rng
        address, control, data = frame.address, frame.control, frame.data
        match rng.randrange(6) if len(data) > 4 else 5:
            case 0:  # another identifier
                at = rng.randrange(2)
                data = data[:at] + bytes([data[at] ^ 1 << rng.randrange(4)]) + data[at + 1 :]
            case 1:  # the control code of another function
                control ^= rng.choice((0x01, 0x02, 0x03, 0x08, 0x10))
            case 2:  # another sequence number, where there is one; else a byte less
                data = data[:-1] + bytes([data[-1] ^ 0x01]) if control & 0x1F == 0x12 else data[:-1]
            case 3:  # less than was asked for: no item is cut this way, and no shorter block either
                data = data[: -rng.randint(1, 3)]
            case 4:  # more than was asked for
                data += rng.randbytes(rng.randint(2, 3))
            case _:
                at = rng.randrange(6)  # a high digit: nobody else on the wire is called that
                address = address[:at] + str((int(address[at], 16) + 1) % 10) + address[at + 1 :]
        return Dlt645Frame(address=address, control=control, data=data).encode(rng.randrange(5))

    def _other_modbus(self, frame: ModbusFrame) -> bytes:
        rng = self._rng
        unit, function, data, transaction = frame.unit, frame.function, frame.data, frame.transaction
        match 0 if function & ERROR_BIT else rng.randrange(5 if transaction is None else 6):
            case 0:  # of somebody who is not there, as far as wires with few meters go
                unit = (unit + 100) % 247 + 1
            case 1:  # 3 for 4 and 4 for 3
                function ^= 0x07
            case 2:  # a register less
                data = bytes([data[0] - 2]) + data[1:-2]
            case 3:  # a register more
                data = bytes([min(250, data[0] + 2)]) + data[1:] + rng.randbytes(2)
            case 4:  # a byte count that is not that of the bytes
                data = bytes([data[0] ^ 0x02]) + data[1:]
            case _:  # over TCP, the number of another question: one that may be under way as well
                assert transaction is not None
                transaction = (transaction + rng.choice((-2, -1, 1, 2))) & 0xFFFF
        return ModbusFrame(unit=unit, function=function, data=data, transaction=transaction,
                           ascii=frame.ascii).encode()  # fmt: skip
