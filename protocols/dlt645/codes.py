"""What the control byte, the identifier's place and the error word mean, in each edition: tables and their look-up."""

from dataclasses import dataclass
from enum import Enum

from protocols.bcd import high_first
from protocols.dlt645.frame import Frame


class Edition(Enum):
    """Which control codes and identifiers hold: DL/T 645-1997 or DL/T 645-2007."""

    E2007 = "dlt645-2007"
    E1997 = "dlt645-1997"

    @property
    def di_length(self) -> int:
        """Bytes of a data identifier."""
        return 4 if self is Edition.E2007 else 2


FUNCTIONS: dict[Edition, dict[int, tuple[str, str]]] = {
    Edition.E2007: {
        0x03: ("security", "安全认证"),
        0x08: ("broadcast time", "广播校时"),
        0x11: ("read data", "读数据"),
        0x12: ("read follow-up data", "读后续数据"),
        0x13: ("read address", "读通信地址"),
        0x14: ("write data", "写数据"),
        0x15: ("write address", "写通信地址"),
        0x16: ("freeze", "冻结命令"),
        0x17: ("change baud rate", "更改通信速率"),
        0x18: ("change password", "修改密码"),
        0x19: ("clear maximum demand", "最大需量清零"),
        0x1A: ("clear meter", "电表清零"),
        0x1B: ("clear events", "事件清零"),
        0x1C: ("trip, close, alarm", "跳合闸、报警、保电"),
        0x1D: ("multi-function terminal output", "多功能端子输出控制"),
    },
    Edition.E1997: {
        0x01: ("read data", "读数据"),
        0x02: ("read follow-up data", "读后续数据"),
        0x03: ("read again", "重读数据"),
        0x04: ("write data", "写数据"),
        0x08: ("broadcast time", "广播校时"),
        0x0A: ("write address", "写设备地址"),
        0x0C: ("change baud rate", "更改通信速率"),
        0x0F: ("change password", "修改密码"),
        0x10: ("clear maximum demand", "最大需量清零"),
    },
}
"""Function (C bits 4 to 0) to its name, English and Chinese. 1C, 1D and 03 of 2007 are supplements of the grid."""

_IDENTIFIED = {Edition.E2007: frozenset({0x11, 0x12, 0x14}), Edition.E1997: frozenset({0x01, 0x02, 0x03, 0x04})}
_FOLLOW_UP_2007 = 0x12

REASONS: dict[Edition, tuple[tuple[str, str], ...]] = {
    Edition.E2007: (
        ("other", "其他错误"),
        ("no requested data", "无请求数据"),
        ("wrong password/unauthorised", "密码错/未授权"),
        ("baud rate cannot change", "通信速率不能更改"),
        ("year zones exceeded", "年时区数超"),
        ("day slots exceeded", "日时段数超"),
        ("tariffs exceeded", "费率数超"),
        ("reserved", "保留"),
    ),
    Edition.E1997: (
        ("illegal data", "非法数据"),
        ("wrong data identifier", "数据标识错"),
        ("wrong password", "密码错"),
        ("reserved", "保留"),
        ("year zones exceeded", "年时区数超"),
        ("day slots exceeded", "日时段数超"),
        ("tariffs exceeded", "费率数超"),
        ("reserved", "保留"),
    ),
}
"""Bits of the error word, lowest first (2007: table of ERR; 1997: from its implementations)."""

SECURITY_REASONS = (
    ("other", "其他错误"),
    ("duplicate recharge", "重复充值"),
    ("ESAM check failed", "ESAM验证失败"),
    ("authentication failed", "身份认证失败"),
    ("customer number mismatch", "客户编号不匹配"),
    ("recharge count error", "充值次数错误"),
    ("too much hoarded", "购电超囤积"),
    ("reserved", "保留"),
)
"""Low byte of the two-byte SERR of function 03, as found in grid meters (no text of it was at hand)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """What a meter answered instead of data. code: its error word, hex. absent: it has no such item, and only that."""

    code: str
    reasons: tuple[tuple[str, str], ...]
    """English and Chinese of each bit that is set."""
    absent: bool

    def __str__(self) -> str:
        return f"{self.code}: {', '.join(en for en, _ in self.reasons)}"


def refusal_of(frame: Frame, edition: Edition) -> Refusal | None:
    """What an abnormal reply says; None for any other frame."""
    if not (frame.from_meter and frame.abnormal):
        return None
    code = high_first(frame.data)
    if len(frame.data) == 1:
        table = REASONS[edition]
    elif len(frame.data) == 2 and edition is Edition.E2007 and frame.function == 0x03:
        table = SECURITY_REASONS
    else:
        return Refusal(code=code, reasons=((f"code {code or 'missing'}", f"代码 {code or '缺'}"),), absent=False)
    reasons = tuple(words for bit, words in enumerate(table) if frame.data[0] >> bit & 1)
    absent = frame.data == b"\x02" and table is not SECURITY_REASONS
    return Refusal(code=code, reasons=reasons or ((f"code {code}", f"代码 {code}"),), absent=absent)


def edition_of(frame: Frame) -> Edition:
    """The edition that a frame follows, told from its function; 03 and 08 exist in both, 03 is told by its length."""
    if frame.function == 0x03:
        security = len(frame.data) >= 8 or (frame.abnormal and len(frame.data) == 2)
        return Edition.E2007 if security else Edition.E1997
    in_2007, in_1997 = (frame.function in FUNCTIONS[edition] for edition in (Edition.E2007, Edition.E1997))
    if in_2007 != in_1997:
        return Edition.E2007 if in_2007 else Edition.E1997
    return Edition.E2007


def identifier_of(frame: Frame, edition: Edition) -> str | None:
    """The data identifier, high byte first; None where the frame has none or is too short for it."""
    size = edition.di_length
    if frame.abnormal or frame.function not in _IDENTIFIED[edition] or len(frame.data) < size:
        return None
    return high_first(frame.data[:size])


def sequence_of(frame: Frame, edition: Edition) -> int | None:
    """SEQ of a follow-up request or reply (2007 only: the 1997 codes have none); it is the last byte of the data."""
    if edition is not Edition.E2007 or frame.abnormal or frame.function != _FOLLOW_UP_2007 or len(frame.data) < 5:
        return None
    return frame.data[-1]
