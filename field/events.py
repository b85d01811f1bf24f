"""Events in words, wherever they are listed: at the gateway or at the centre."""

from collections.abc import Callable, Mapping

from field.output import Output

EVENTS_ZH = {
    "clock_jumped": "时钟跳变", "readings_dropped": "读数被舍弃", "slots_missed": "采集时刻漏采",
    "store_damaged": "存储损坏", "store_moved": "存储已转移",
}  # fmt: skip
_NAMES_ZH = {
    "class": "类别", "events": "事件", "fault": "故障", "file": "文件", "first": "首个", "from": "原文件",
    "gaps": "漏点", "last": "末个", "ms": "毫秒", "records": "记录", "slots": "采集时刻数", "task": "任务",
    "unreadable": "无法读取", "why": "原因", "without_slot": "无采集时刻",
}  # fmt: skip
_TIMES = ("first", "last")
"""Facts that are moments, in UTC milliseconds."""


def event_word(out: Output, name: str) -> str:
    """What happened, for people."""
    return out.say(name, EVENTS_ZH.get(name, name))


def facts_told(out: Output, detail: Mapping[str, str | int], moment: Callable[[int], str]) -> str:
    """The facts of an event on one line, for people. moment: how a time is shown."""
    told = []
    for name, fact in detail.items():
        text = moment(fact) if name in _TIMES and isinstance(fact, int) else out.told(str(fact))
        text = out.fault(text) if name == "fault" else text
        told.append(f"{out.say(name, _NAMES_ZH.get(name, name))} {text}")
    return out.say(", ", "，").join(told)
