"""Modbus frames for `meterwire decode`: one a line, taken apart. What the registers mean, only a profile knows."""

import re
from dataclasses import dataclass

from field.chinese import chinese
from field.decode.dlt645 import Row
from protocols.checksum import crc16_modbus, lrc8
from protocols.errors import Malformed
from protocols.modbus.frame import ERROR_BIT, EXCEPTIONS, IDENTIFY

MODBUS = ("modbus-rtu", "modbus-tcp", "modbus-ascii")
_ASCII = re.compile(rb":((?:[0-9A-F]{2})*)\r\n")
_FUNCTIONS = {
    0x01: ("read coils", "读线圈"), 0x02: ("read discrete inputs", "读离散输入"),
    0x03: ("read holding registers", "读保持寄存器"), 0x04: ("read input registers", "读输入寄存器"),
    0x05: ("write one coil", "写单个线圈"), 0x06: ("write one register", "写单个寄存器"),
    0x0F: ("write coils", "写多个线圈"), 0x10: ("write registers", "写多个寄存器"),
    0x2B: ("read device identification", "读设备标识"),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """A Modbus frame by position, and what is wrong with it. What is not there is empty or None."""

    raw: bytes
    protocol: str
    error: Malformed | None

    @property
    def tcp(self) -> bool:
        """Whether it stands behind an MBAP header."""
        return self.protocol == "modbus-tcp"

    @property
    def ascii(self) -> bool:
        """Whether it is written in characters."""
        return self.protocol == "modbus-ascii"

    @property
    def head(self) -> bytes:
        """What stands in front of the unit: the MBAP header, the colon of ASCII, nothing in RTU."""
        return self.raw[:6] if self.tcp else self.raw[:1] if self.ascii else b""

    @property
    def body(self) -> bytes:
        """From the unit to the checksum, in bytes."""
        if not self.ascii:
            return self.raw[len(self.head) :]
        match = _ASCII.fullmatch(self.raw)
        return bytes.fromhex(match[1].decode("ascii")) if match else b""

    @property
    def unit(self) -> int | None:
        return self.body[0] if self.body else None

    @property
    def function(self) -> int | None:
        return self.body[1] if len(self.body) > 1 else None

    @property
    def data(self) -> bytes:
        checksum = 0 if self.tcp else 1 if self.ascii else 2
        return self.body[2 : max(2, len(self.body) - checksum)]

    def sent(self, data: bytes) -> bytes:
        """These bytes as they stand in the frame."""
        return data.hex().upper().encode() if self.ascii else data

    @property
    def exception(self) -> int | None:
        """The code of an exception reply."""
        return self.data[0] if (self.function or 0) & ERROR_BIT and len(self.data) == 1 else None

    @property
    def direction(self) -> str | None:
        """Told from function and length; None where question and answer look alike."""
        function, data = self.function or 0, self.data
        if function & ERROR_BIT:
            return "response"
        if function in (1, 2, 3, 4):
            whole = function in (1, 2) or len(data) % 2 == 1  # registers are two bytes each
            answers, asks = bool(data) and data[0] == len(data) - 1 and whole, len(data) == 4
            return None if answers == asks else "response" if answers else "request"
        if function == IDENTIFY:
            return "request" if len(data) == 3 else "response"
        return ("response" if len(data) == 4 else "request") if function in (0x0F, 0x10) else None


def take_apart(data: bytes, protocol: str) -> Parts:
    """The frame that these bytes are."""
    return Parts(raw=data, protocol=protocol, error=_WRONG[protocol](data))


def _wrong_rtu(data: bytes) -> Malformed | None:
    if not 4 <= len(data) <= 256:
        return Malformed(f"length: expected 4 to 256 bytes, got {len(data)}")
    expected = crc16_modbus(data[:-2]).to_bytes(2, "little")
    if data[-2:] != expected:
        return Malformed(f"checksum: expected {expected.hex().upper()}, got {data[-2:].hex().upper()}")
    return None


def _wrong_tcp(data: bytes) -> Malformed | None:
    if len(data) < 8:
        return Malformed(f"length: expected at least 8 bytes, got {len(data)}")
    if data[2:4] != b"\0\0":
        return Malformed(f"protocol: expected 0000, got {data[2:4].hex().upper()}")
    length = int.from_bytes(data[4:6], "big")
    if len(data) != 6 + length:
        return Malformed(f"length: expected {6 + length} bytes, got {len(data)}")
    return None


def _wrong_ascii(data: bytes) -> Malformed | None:
    match = _ASCII.fullmatch(data)
    if match is None:
        return Malformed(f"characters: expected a colon, digits 0-9 A-F, CR and LF, got {data[:16]!r}")
    body = bytes.fromhex(match[1].decode("ascii"))
    if not 3 <= len(body) <= 255:
        return Malformed(f"length: expected 3 to 255 bytes, got {len(body)}")
    if body[-1] != lrc8(body[:-1]):
        return Malformed(f"checksum: expected {lrc8(body[:-1]):02X}, got {body[-1]:02X}")
    return None


_WRONG = {"modbus-rtu": _wrong_rtu, "modbus-tcp": _wrong_tcp, "modbus-ascii": _wrong_ascii}


def from_line(line: str, protocol: str) -> bytes | None:
    """The frame of an ASCII line that is given as it stands (`:0103...`), CR and LF added; None for any other."""
    bare = line.strip()
    if protocol != "modbus-ascii" or not bare.startswith(":"):
        return None
    return bare.encode("utf-8", "replace") + b"\r\n"


def as_object(parts: Parts) -> dict[str, object]:
    """The JSON object of a line, with the keys of every protocol. seq is the transaction of Modbus TCP."""
    exception = parts.exception
    return {
        "protocol": parts.protocol,
        "valid": parts.error is None,
        "error": f"{type(parts.error).__name__}: {parts.error}" if parts.error else None,
        "direction": parts.direction,
        "address": str(parts.unit) if parts.unit is not None else None,
        "control": f"{parts.function:02X}" if parts.function is not None else None,
        "length": len(parts.data),
        "data": parts.data.hex().upper(),
        "di": None,
        "values": [],
        "refusal": [EXCEPTIONS.get(exception, f"exception {exception:02X}")] if exception is not None else None,
        "seq": int.from_bytes(parts.raw[:2], "big") if parts.tcp and len(parts.raw) >= 2 else None,
        "skipped": None,
        "rest": None,
    }


def annotate(parts: Parts) -> list[Row]:
    """Every byte of the line, grouped and explained."""
    raw = parts.raw
    if parts.unit is None or parts.function is None:
        return [Row(raw, "broken frame", "残缺的帧")] if raw else []
    rows = []
    if parts.tcp:
        rows = [
            Row(raw[:2], f"transaction {int.from_bytes(raw[:2], 'big')}", f"事务标识 {int.from_bytes(raw[:2], 'big')}"),
            Row(raw[2:4], "protocol", "协议标识"),
            Row(
                raw[4:6],
                f"length: {int.from_bytes(raw[4:6], 'big')} bytes",
                f"长度：{int.from_bytes(raw[4:6], 'big')} 字节",
            ),
        ]
    elif parts.ascii:
        rows = [Row(parts.head, "begin", "起始符")]
    en, zh = _FUNCTIONS.get(parts.function & ~ERROR_BIT, ("function", "功能"))
    rows += [
        Row(parts.sent(bytes((parts.unit,))), f"unit {parts.unit}", f"从站地址 {parts.unit}"),
        Row(parts.sent(bytes((parts.function,))), f"{parts.function:02X}: {en}", f"{parts.function:02X}：{zh}"),
        *(Row(parts.sent(row.raw), row.en, row.zh) for row in _data_rows(parts)),
    ]
    if not parts.tcp:
        right = parts.error is None
        checksum = parts.body[2 + len(parts.data) :]
        rows.append(Row(parts.sent(checksum), f"checksum{', right' if right else ''}",
                        f"校验码{'，正确' if right else ''}"))  # fmt: skip
    if parts.ascii:
        rows.append(Row(raw[-2:], "end", "结束符"))
    return [row for row in rows if row.raw]


def _data_rows(parts: Parts) -> list[Row]:
    data, exception = parts.data, parts.exception
    if exception is not None:
        reason = EXCEPTIONS.get(exception)
        return [Row(data, f"refused: {reason or 'unknown'}", f"拒绝：{chinese(reason) if reason else '未知'}")]
    if parts.function in (3, 4) and parts.direction == "request":
        first, count = int.from_bytes(data[:2], "big"), int.from_bytes(data[2:], "big")
        return [
            Row(data[:2], f"from register {first} (0-based)", f"起始寄存器 {first}（从0起）"),
            Row(data[2:], f"{count} registers", f"寄存器数 {count}"),
        ]
    if parts.function in (3, 4) and parts.direction == "response":
        words = ", ".join(str(int.from_bytes(data[at : at + 2], "big")) for at in range(1, len(data), 2))
        return [
            Row(data[:1], f"{data[0]} bytes follow", f"其后 {data[0]} 字节"),
            Row(data[1:], f"registers: {words}", f"寄存器值：{words}"),
        ]
    return [Row(data, "data", "数据")]
