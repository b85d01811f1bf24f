"""The table of what wires and meters do wrong, row by row, for every family of protocols.

Rows from measurements of five Modbus libraries (each of which fails several of them) and from the field: what comes
after a question in place of its answer, and whether the answer is still to be found in it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final, Literal

from config.model import ProtocolName
from protocols.dlt645.frame import Frame as Dlt645Frame
from protocols.dlt645.frame import parse
from protocols.modbus.ascii import AsciiDeframer
from protocols.modbus.frame import Frame as ModbusFrame
from protocols.modbus.frame import RtuDeframer, TcpDeframer

Said = list[tuple[float, bytes]]
"""What comes: seconds after the question, bytes."""
Kind = Literal["right", "other item", "foreign", "short", "long", "function", "busy"]

ADDRESS: Final = "000000000001"
TURNAROUND_S: Final = 0.02
LATE_S: Final = 0.42
"""Later than any time-out here, and within the late window."""
TRUE: Final = {"a": "12.34", "b": "56.78"}
"""What the two items that are read really are (of Modbus, 1234 and 5678 hundredths)."""
IDENTIFIERS: Final = {"a": "00010000", "b": "00020000"}
REGISTERS: Final = {"a": 0, "b": 100}
"""Both of two registers: nothing but the time tells an answer to the one from an answer to the other."""


@dataclass(frozen=True)
class Heard:
    """A question as the far end hears it, and frames that are, or are not, its answer."""

    protocol: ProtocolName
    question: bytes

    @property
    def item(self) -> str:
        """a or b."""
        if self.protocol == "dlt645-2007":
            di = parse(self.question.lstrip(b"\xfe")).data[3::-1].hex()
            return next(item for item, known in IDENTIFIERS.items() if known == di)
        address = int.from_bytes(self._modbus.data[:2], "big")
        return next(item for item, known in REGISTERS.items() if known == address)

    @property
    def _modbus(self) -> ModbusFrame:
        deframer: RtuDeframer | TcpDeframer | AsciiDeframer
        match self.protocol:
            case "modbus-tcp":
                deframer = TcpDeframer("requests")
            case "modbus-ascii":
                deframer = AsciiDeframer()
            case _:
                deframer = RtuDeframer("requests")
        (frame,) = deframer.feed(self.question)
        return frame

    def frame(self, kind: Kind = "right") -> bytes:
        """A whole and right frame of this kind."""
        item = self.item
        if kind == "other item":
            item = "b" if item == "a" else "a"
        digits = TRUE[item].replace(".", "")
        return self._dlt645(kind, item, digits) if self.protocol == "dlt645-2007" else self._registers(kind, digits)

    def _dlt645(self, kind: Kind, item: str, digits: str) -> bytes:
        data = bytes.fromhex(IDENTIFIERS[item])[::-1] + bytes.fromhex(digits.zfill(8))[::-1]
        if kind in ("short", "long"):
            data = data[:-1] if kind == "short" else data + b"\x00\x00"
        address = "000000000002" if kind == "foreign" else ADDRESS
        return Dlt645Frame(address=address, control=0x92 if kind == "function" else 0x91, data=data).encode(0)

    def _registers(self, kind: Kind, digits: str) -> bytes:
        data = int(digits).to_bytes(4, "big")
        if kind in ("short", "long"):
            data = data[2:] if kind == "short" else b"\0\0" + data
        asked = self._modbus
        function, body = asked.function, bytes([len(data)]) + data
        if kind == "function":
            function = 3
        elif kind == "busy":
            function, body = function | 0x80, b"\x06"
        unit = 2 if kind == "foreign" else 1
        transaction = asked.transaction
        if kind == "other item" and transaction is not None:
            transaction ^= 1
        return ModbusFrame(unit=unit, function=function, data=body, transaction=transaction, ascii=asked.ascii).encode()

    def damaged(self) -> bytes:
        """The answer with a byte of its payload turned over in part."""
        right = self.frame()
        return right[:-5] + bytes([right[-5] ^ 0x11]) + right[-4:]


@dataclass(frozen=True)
class Row:
    """said: what comes after the first question for item a. at_once: whether its answer is to be found in that; else it
    takes another question, or more."""

    name: str
    said: Callable[[Heard], Said]
    at_once: bool
    without: tuple[ProtocolName, ...] = ()
    """Protocols to which it does not apply."""


def _pieces(data: bytes, size: int, pause_s: float) -> Said:
    return [(TURNAROUND_S + n * pause_s, data[at : at + size]) for n, at in enumerate(range(0, len(data), size))]


def _noise(size: int, seed: int = 1) -> bytes:
    return Random(seed).randbytes(size)


def _at(data: bytes, after_s: float = TURNAROUND_S) -> Said:
    return [(after_s, data)]


def _burst(frame: bytes) -> bytes:
    middle = len(frame) // 2
    return frame[: middle - 2] + _noise(4) + frame[middle + 2 :]


NO_CHECKSUM: Final[tuple[ProtocolName, ...]] = ("modbus-tcp",)
"""Damage to its payload is TCP's to see; there are no echoes on it and no glitches."""

ROWS: Final = (
    Row("the answer", lambda h: _at(h.frame()), True),
    Row("a late reply", lambda h: _at(h.frame(), LATE_S), False),
    Row("two late replies", lambda h: [(LATE_S, h.frame()), (LATE_S + 0.05, h.frame("other item"))], False),
    Row("nothing", lambda h: [], False),
    Row("less than was asked for", lambda h: _at(h.frame("short")), False, ("dlt645-2007",)),
    Row("more than was asked for", lambda h: _at(h.frame("long")), False, ("dlt645-2007",)),
    Row("another function", lambda h: _at(h.frame("function")), False),
    Row("another identifier, or transaction", lambda h: _at(h.frame("other item")), False,
        ("modbus-rtu", "modbus-ascii")),
    Row("another meter's reply", lambda h: _at(h.frame("foreign")), False),
    Row("another meter's reply before the answer", lambda h: _at(h.frame("foreign") + h.frame()), True),
    Row("two replies merged into one", lambda h: _at(h.frame("function") + h.frame()), True),
    Row("the echo", lambda h: [(0.0, h.question), *_at(h.frame())], True, NO_CHECKSUM),
    Row("the echo alone", lambda h: [(0.0, h.question)], False, NO_CHECKSUM),
    Row("one 00 before the answer", lambda h: _at(b"\0" + h.frame()), True, NO_CHECKSUM),
    Row("FF FF 00 before the answer", lambda h: _at(b"\xff\xff\0" + h.frame()), True, NO_CHECKSUM),
    Row("a fragment before the answer", lambda h: _at(h.frame()[:2] + h.frame()), True, NO_CHECKSUM),
    Row("nonsense before the answer", lambda h: _at(_noise(9) + h.frame()), True, NO_CHECKSUM),
    Row("nonsense behind the answer", lambda h: _at(h.frame() + _noise(9)), True, NO_CHECKSUM),
    Row("a damaged frame before a good one", lambda h: _at(h.damaged() + h.frame()), True, NO_CHECKSUM),
    Row("a damaged frame", lambda h: _at(h.damaged()), False, NO_CHECKSUM),
    Row("pieces of 3 bytes", lambda h: _pieces(h.frame(), 3, 0.002), True),
    Row("two pieces with a pause", lambda h: _pieces(h.frame(), 5, 0.015), True),
    Row("a byte is lost", lambda h: _at(h.frame()[:5] + h.frame()[6:]), False, NO_CHECKSUM),
    Row("a byte more in the middle", lambda h: _at(h.frame()[:5] + b"\x37" + h.frame()[5:]), False, NO_CHECKSUM),
    Row("a byte comes twice", lambda h: _at(h.frame()[:6] + h.frame()[5:]), False, NO_CHECKSUM),
    Row("a burst", lambda h: _at(_burst(h.frame())), False, NO_CHECKSUM),
    Row("the tail is missing", lambda h: _at(h.frame()[:-3]), False),
    Row("the tail is missing, and another meter's reply follows", lambda h: _at(h.frame()[:-2] + h.frame("foreign")),
        False),
    Row("the answer twice", lambda h: _at(h.frame() + h.frame()), True),
    Row("the answer twice with a pause", lambda h: [(TURNAROUND_S, h.frame()), (TURNAROUND_S + 0.02, h.frame())], True),
    Row("sixteen FE before the answer", lambda h: _at(b"\xfe" * 16 + h.frame()), True, NO_CHECKSUM),
    Row("a babbling meter", lambda h: [(0.01 * n, _noise(7, n)) for n in range(30)], False, NO_CHECKSUM),
    Row("an impossible byte count", lambda h: _at(h.frame()[:4] + b"\xff\xff" + h.frame()[6:]), False,
        ("dlt645-2007", "modbus-rtu", "modbus-ascii")),
    Row("busy", lambda h: _at(h.frame("busy")), False, ("dlt645-2007",)),
)  # fmt: skip
