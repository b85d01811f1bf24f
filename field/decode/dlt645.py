"""A DL/T 645 frame, each group of bytes with what it means, in English and Chinese."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from protocols.bcd import high_first
from protocols.capture import Quality, Value
from protocols.dlt645.codes import FUNCTIONS, Edition
from protocols.dlt645.compound import widths
from protocols.dlt645.frame import ANY_METER, BROADCAST, PREAMBLE, Frame
from protocols.dlt645.items import layout
from protocols.dlt645.message import Found, Message
from protocols.dlt645.titles import title


@dataclass(frozen=True, slots=True)
class Row:
    """Some bytes, as they came, and what they mean."""

    raw: bytes
    en: str
    zh: str


_PASSWORD = ((1, "password level", "密码权限"), (3, "password", "密码"))
_OPERATOR = (4, "operator code", "操作者代码")
_REQUESTS: dict[tuple[Edition, int], Sequence[tuple[int, str, str]]] = {
    (Edition.E2007, 0x03): ((4, "identifier", "数据标识"), _OPERATOR),
    (Edition.E2007, 0x08): ((6, "time ss mm hh DD MM YY", "时间 秒分时日月年"),),
    (Edition.E2007, 0x11): ((4, "identifier", "数据标识"), (1, "blocks, at most", "负荷记录块数"),
                            (5, "from mm hh DD MM YY", "起始时间 分时日月年")),
    (Edition.E2007, 0x14): ((4, "identifier", "数据标识"), *_PASSWORD, _OPERATOR),
    (Edition.E2007, 0x15): ((6, "new address", "新通信地址"),),
    (Edition.E2007, 0x16): ((4, "when, mm hh DD MM (99: each)", "冻结时间 分时日月（99为每）"),),
    (Edition.E2007, 0x17): ((1, "rate word", "通信速率特征字"),),
    (Edition.E2007, 0x18): ((4, "identifier", "数据标识"), (4, "old password", "原密码"),
                            (4, "new password", "新密码")),
    (Edition.E2007, 0x19): (*_PASSWORD, _OPERATOR),
    (Edition.E2007, 0x1A): (*_PASSWORD, _OPERATOR),
    (Edition.E2007, 0x1B): (*_PASSWORD, _OPERATOR, (4, "which events (FF: all)", "事项标识（FF为全部）")),
    (Edition.E2007, 0x1C): (
        *_PASSWORD, _OPERATOR, (1, "command N1", "控制命令类型N1"), (1, "reserved N2", "保留N2"),
        (6, "valid until ss mm hh DD MM YY", "命令有效截止时间 秒分时日月年"),
    ),
    (Edition.E1997, 0x04): ((2, "identifier", "数据标识"), (4, "password", "密码")),
    (Edition.E1997, 0x0A): ((6, "new address", "新设备地址"),),
    (Edition.E1997, 0x0F): ((4, "old password", "原密码"), (4, "new password", "新密码")),
    (Edition.E1997, 0x10): ((4, "password", "密码"),),
}  # fmt: skip
"""What the data of a request hold, field by field; any more bytes are its data."""


def annotate(found: Found, message: Message | None) -> list[Row]:
    """Every byte of the line, grouped and explained. message: None where too little of the frame is there."""
    lead = found.before
    preamble = len(lead) - len(lead.rstrip(bytes([PREAMBLE])))
    rows = []
    if len(lead) > preamble:
        rows.append(Row(lead[: len(lead) - preamble], "no part of a frame", "非帧内容"))
    if preamble:
        rows.append(Row(lead[len(lead) - preamble :], "preamble", "前导字节"))
    rows += _frame(found, message) if message else [Row(found.raw, "broken frame", "残缺的帧")] if found.raw else []
    if found.after:
        rows.append(Row(found.after, "behind the frame, not decoded", "帧后内容，未解析"))
    return rows


def _frame(found: Found, message: Message) -> Iterator[Row]:
    raw, frame, edition = found.raw, message.frame, message.edition
    whom = {ANY_METER: ("any meter", "任意电表"), BROADCAST: ("broadcast", "广播")}.get(frame.address, ("", ""))
    yield Row(raw[:1], "start", "帧起始符")
    yield Row(raw[1:7], f"address {frame.address} {whom[0]}".strip(), f"地址 {frame.address} {whom[1]}".strip())
    yield Row(raw[7:8], "start", "帧起始符")
    yield Row(raw[8:9], *_control(frame, edition))
    yield Row(raw[9:10], f"length: {raw[9]} bytes", f"数据域长度：{raw[9]} 字节")
    data = raw[10 : 10 + raw[9]]
    at = 0
    for size, en, zh in _data(message, certain=found.error is None):
        yield Row(data[at : at + size], en, zh)
        at += size
    if data[at:]:
        text = high_first(frame.data[at:])
        yield Row(data[at:], f"data, high byte first: {text}", f"数据（高字节在前）：{text}")
    rest = raw[10 + raw[9] :]
    wrong = found.error is not None
    yield Row(
        rest[:1], f"checksum{': see the error' if wrong else ', right'}", f"校验码{'：见错误' if wrong else '，正确'}"
    )
    yield Row(rest[1:2], "end", "结束符")


def _control(frame: Frame, edition: Edition) -> tuple[str, str]:
    unknown = (f"function {frame.function:02X}", f"功能 {frame.function:02X}")
    en, zh = FUNCTIONS[edition].get(frame.function, unknown)
    if not frame.from_meter:
        return f"control: request, {en}", f"控制码：主站请求，{zh}"
    en = f"control: response, {en}, {'refused' if frame.abnormal else 'normal'}"
    zh = f"控制码：从站应答，{zh}，{'异常' if frame.abnormal else '正常'}"
    return (f"{en}, more follows", f"{zh}，有后续数据") if frame.more else (en, zh)


def _data(message: Message, *, certain: bool) -> Iterator[tuple[int, str, str]]:
    """The sizes of the groups of bytes in the data, with their meaning."""
    frame, edition, di = message.frame, message.edition, message.di
    if message.refusal:
        reasons = message.refusal.reasons
        yield (
            len(frame.data),
            f"refused: {', '.join(r[0] for r in reasons)}",
            f"拒绝：{'、'.join(r[1] for r in reasons)}",
        )
        return
    at = 0
    if di is not None:
        at = edition.di_length
        named = title(di, edition)
        en, zh = (f": {named[0]}", f"：{named[1]}") if named else ("", "")
        yield at, f"identifier {di}{en}", f"数据标识 {di}{zh}"
    if not frame.from_meter:
        fields = _REQUESTS.get((edition, frame.function), ())
        for size, en, zh in fields[1:] if di is not None else fields:
            text = high_first(frame.data[at : at + size])
            if text:
                yield size, f"{en}: {text}", f"{zh}：{text}"
            at += size
    elif certain and message.values:
        yield from _items(message, len(frame.data) - at)
    if message.seq is not None:
        yield from _sequence(message, at)


def _sequence(message: Message, at: int) -> Iterator[tuple[int, str, str]]:
    payload = message.frame.data[at:-1]
    if payload:
        text = high_first(payload)
        yield len(payload), f"more data, high byte first: {text}", f"后续数据（高字节在前）：{text}"
    yield 1, f"sequence {message.seq}", f"帧序号 {message.seq}"


def _items(message: Message, room: int) -> Iterator[tuple[int, str, str]]:
    """One group for each item of a reply, or each field of a record. A reply whose length is wrong is one group."""
    values = list(message.values)
    found = layout(message.di, message.edition) if message.di else None
    if found is None or not found.block:
        sizes = widths(found.items[0].shape, room) if found and not found.mismatch(bytes(room)) else (room,)
        if len(sizes) == len(values):
            for size, value in zip(sizes, values, strict=True):
                yield size, _text(value, "en"), _text(value, "zh")
            return
        yield room, "; ".join(_text(v, "en") for v in values), "；".join(_text(v, "zh") for v in values)
        return
    if room % found.width:
        yield room, _text(values[0], "en"), _text(values[0], "zh")
        return
    for item in found.items:
        mine, values = values[: len(item.quantities)], values[len(item.quantities) :]
        if not mine:
            return
        yield item.shape.length, "; ".join(_text(v, "en") for v in mine), "；".join(_text(v, "zh") for v in mine)


_QUALITY_ZH = {Quality.DOUBTFUL: "存疑", Quality.UNAVAILABLE: "无数据", Quality.INVALID: "无效"}


def _text(value: Value, lang: str) -> str:
    zh = lang == "zh"
    name = (value.quantity.zh or value.quantity.name) if zh else value.quantity.name
    unit = "" if value.quantity.unit in ("", "1") else f" {value.quantity.unit}"
    text = f"{name} {value.plain}{unit}" if value.plain is not None else name
    if value.quality is Quality.GOOD:
        return text
    marks = [_QUALITY_ZH[value.quality] if zh else value.quality.value, *([value.detail] if value.detail else [])]
    return f"{text} ({', '.join(marks)})"
