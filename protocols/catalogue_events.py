"""Rows of the catalogue: what a meter counts and records of events (DL/T 645-2007 area 03, and the grid's extensions).

A class of events has up to six rows: `count`, `minutes` (how long in all), and of a record `start`, `end`, `operator`
and `detail` (its rest as hex, high byte first, where its length is not that of the standard). Those of a record are
read as `.record_1`, the last one, and on. What else a record holds: `catalogue_records`.
"""

from collections.abc import Iterator

from protocols.quantity_type import Form, Kind, Quantity, number_of

BY_PHASE: dict[str, tuple[str, str]] = {
    "01": ("voltage_loss", "失压"),
    "02": ("undervoltage", "欠压"),
    "03": ("overvoltage", "过压"),
    "04": ("phase_loss", "断相"),
    "0B": ("current_loss", "失流"),
    "0C": ("overcurrent", "过流"),
    "0D": ("current_cut", "断流"),
    "0E": ("reverse_flow", "潮流反向"),
    "0F": ("overload", "过载"),
}
"""DI2 of area 03: classes that are counted for each phase."""
OF_METER: dict[str, tuple[str, str]] = {
    "05": ("total_voltage_loss", "全失压"),
    "06": ("auxiliary_power_loss", "辅助电源失电"),
    "07": ("voltage_sequence", "电压逆相序"),
    "08": ("current_sequence", "电流逆相序"),
    "09": ("voltage_imbalance", "电压不平衡"),
    "0A": ("current_imbalance", "电流不平衡"),
}
OPERATIONS: dict[str, tuple[str, str]] = {
    "00": ("programming", "编程"),
    "01": ("meter_clear", "电表清零"),
    "02": ("demand_clear", "需量清零"),
    "03": ("event_clear", "事件清零"),
    "04": ("clock_set", "校时"),
    "05": ("slots_set", "时段表编程"),
    "06": ("zones_set", "时区表编程"),
    "07": ("weekend_set", "周休日编程"),
    "08": ("holidays_set", "节假日编程"),
    "09": ("active_combination_set", "有功组合方式编程"),
    "0A": ("reactive_combination_1_set", "无功组合方式1编程"),
    "0B": ("reactive_combination_2_set", "无功组合方式2编程"),
    "0C": ("settlement_day_set", "结算日编程"),
    "0D": ("cover_opened", "开表盖"),
    "0E": ("terminal_cover_opened", "开端钮盒"),
}
"""DI1 of 0330."""
CLOCK_SET = "04"
COVERS = frozenset({"0D", "0E"})
"""Nobody signs for these: their records have no operator."""
EXTENSIONS: dict[str, tuple[str, str]] = {
    "10": BY_PHASE["01"],
    "11": BY_PHASE["02"],
    "12": BY_PHASE["03"],
    "13": BY_PHASE["04"],
    "14": OF_METER["07"],
    "15": OF_METER["08"],
    "16": OF_METER["09"],
    "17": OF_METER["0A"],
    "18": BY_PHASE["0B"],
    "19": BY_PHASE["0C"],
    "1A": BY_PHASE["0D"],
    "1B": BY_PHASE["0E"],
    "1C": BY_PHASE["0F"],
    "1D": ("trip", "跳闸"),
    "1E": ("close", "合闸"),
    "1F": ("power_factor_low", "总功率因数超下限"),
    "20": ("severe_current_imbalance", "电流严重不平衡"),
    "21": ("power_direction", "潮流反向（功率方向）"),
    "22": ("clock_battery_low", "时钟电池欠压"),
    "23": ("reading_battery_low", "停电抄表电池欠压"),
}
"""DI3 of the grid's event classes."""
FAULTS: dict[str, tuple[str, str]] = {
    "35": ("magnetic_field", "恒定磁场干扰"),
    "36": ("switch_fault", "负荷开关误动作"),
    "37": ("supply_fault", "电源异常"),
}
"""DI2 of area 03: what the grid's meters of 2013 and later watch in themselves."""
OVER_DEMANDS: dict[str, tuple[str, str]] = {
    "active.import": ("正向有功", "1"),
    "active.export": ("反向有功", "2"),
    "reactive.q1": ("第一象限无功", "3"),
    "reactive.q2": ("第二象限无功", "4"),
    "reactive.q3": ("第三象限无功", "5"),
    "reactive.q4": ("第四象限无功", "6"),
}
"""0312: whose demand was over its limit; order of the block, and DI1 of the records."""
QUALITY_FIELDS: tuple[tuple[str, str, str], ...] = (
    ("monitored", "min", "电压监测时间"),
    ("pass", "%", "电压合格率"),
    ("over", "%", "电压超限率"),
    ("high", "min", "电压超上限时间"),
    ("low", "min", "电压超下限时间"),
    ("max", "V", "最高电压"),
    ("max.moment", "", "最高电压出现时间"),
    ("min", "V", "最低电压"),
    ("min.moment", "", "最低电压出现时间"),
)
"""0310: the fields of a month's voltage quality, in the order of the wire."""
PHASES = {"all": "", "a": "A相", "b": "B相", "c": "C相"}

_FIELDS = {"count": ("1", "次数"), "minutes": ("min", "累计时间"), "start": ("", "发生时刻"), "end": ("", "结束时刻"),
           "detail": ("", "记录内容"), "operator": ("", "操作者代码")}  # fmt: skip
_TEXTS = frozenset({"detail", "operator"})


def _row(row: int, stem: str, zh: str, field: str, phase: str | None = None) -> Quantity:
    unit, what = _FIELDS[field]
    form = Form.TEXT if field in _TEXTS else Form.NUMBER if unit else Form.TIME
    return Quantity(number=number_of(row), name=f"event.{stem}.{field}", unit=unit, kind=Kind.EVENT, form=form,
                    phase=phase, zh=f"{zh}{what}")  # fmt: skip


def _rows() -> Iterator[Quantity]:
    for n, (stem, zh) in enumerate(BY_PHASE.values()):
        yield _row(1024 + 20 * n, stem, f"{zh}总", "count")
        yield _row(1025 + 20 * n, stem, f"{zh}总", "minutes")
        for p, phase in enumerate("abc", start=1):
            for f, field in enumerate(("count", "minutes", "start", "end", "detail")):
                yield _row(1024 + 20 * n + 5 * p + f, f"{stem}.{phase}", f"{phase.upper()}相{zh}", field, phase)
    for f, field in enumerate(("start", "end"), start=2):  # DL/T 645-1997 has these of phase loss
        yield _row(1084 + f, "phase_loss", "断相总", field)
    for n, (stem, zh) in enumerate(OF_METER.values()):
        for f, field in enumerate(("count", "minutes", "start", "end", "detail")):
            yield _row(1210 + 5 * n + f, stem, zh, field)
    for p, (phase, phase_zh) in enumerate(PHASES.items()):
        for f, (field, unit, zh) in enumerate(QUALITY_FIELDS):
            yield Quantity(number=number_of(1240 + 9 * p + f), name=f"voltage_quality.{field}.{phase}", unit=unit,
                           kind=Kind.EVENT, form=Form.NUMBER if unit else Form.TIME,
                           phase=None if phase == "all" else phase, zh=phase_zh + zh)  # fmt: skip
    for f, field in enumerate(("count", "start", "end")):
        yield _row(1280 + f, "power_off", "掉电", field)
    for n, (nature, (zh, _)) in enumerate(OVER_DEMANDS.items()):
        for f, field in enumerate(("count", "detail")):
            yield _row(1290 + 2 * n + f, f"over_demand.{nature}", f"{zh}需量超限", field)
    for n, (code, (stem, zh)) in enumerate(OPERATIONS.items()):
        for f, field in enumerate(("count", "start", "detail", "end" if code in COVERS else "operator")):
            yield _row(1310 + 5 * n + f, stem, zh, field)
    # Of a clock that was set: `start` is what it showed before, `end` what after. Its `detail` is withdrawn.
    yield _row(1334, "clock_set", "校时", "end")
    for n, code in enumerate(("1D", "1E", "1F", "20", "21", "22", "23")):
        yield _row(1390 + n, *EXTENSIONS[code], "count")
    for n, code in enumerate(("1D", "1E", "1F")):
        for f, field in enumerate(("start", "operator" if n < 2 else "end", "detail")):
            yield _row(1400 + 4 * n + f, *EXTENSIONS[code], field)
    for n, (stem, zh) in enumerate(FAULTS.values()):
        for f, field in enumerate(("count", "start", "end", "detail")):
            yield _row(1440 + 4 * n + f, stem, zh, field)
    for n, (nature, (zh, _)) in enumerate(OVER_DEMANDS.items()):
        for f, field in enumerate(("start", "end")):
            yield _row(1420 + 2 * n + f, f"over_demand.{nature}", f"{zh}需量超限", field)


EVENTS: tuple[Quantity, ...] = tuple(_rows())
