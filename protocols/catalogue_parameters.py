"""Rows of the catalogue: clock, identity, status and settings (DL/T 645-2007 area 04; 1997 C0 to C5).

A setting whose format is not known from the standard or two firmwares is a text: its bytes as hex, high byte first.
Rows that stand for a table of settings are read as `.entry_1` and so on (holidays, zones, slots, displays).
"""

from collections.abc import Iterator

from protocols.quantity_type import Form, Kind, Quantity, number_of


def _parameters() -> Iterator[Quantity]:
    """What a gateway reads of each meter."""
    rows = [
        (300, "clock.date", Kind.CLOCK, Form.TIME, "", "04000101", "日期及星期"),
        (301, "clock.time", Kind.CLOCK, Form.TIME, "", "04000102", "时间"),
        (302, "clock", Kind.CLOCK, Form.TIME, "", "0400010C", "日期星期时间"),
        (303, "clock.weekday", Kind.CLOCK, Form.NUMBER, "1", None, "星期"),
        (304, "demand.period", Kind.STATUS, Form.NUMBER, "min", "04000103", "最大需量周期"),
        (305, "demand.slide", Kind.STATUS, Form.NUMBER, "min", "04000104", "滑差时间"),
        (310, "address", Kind.IDENTITY, Form.TEXT, "", "04000401", "通信地址"),
        (311, "meter.number", Kind.IDENTITY, Form.TEXT, "", "04000402", "表号"),
        (312, "meter.asset", Kind.IDENTITY, Form.TEXT, "", "04000403", "资产管理编码"),
        (313, "rated.voltage", Kind.IDENTITY, Form.TEXT, "", "04000404", "额定电压"),
        (314, "rated.current", Kind.IDENTITY, Form.TEXT, "", "04000405", "额定电流/基本电流"),
        (315, "rated.current.max", Kind.IDENTITY, Form.TEXT, "", "04000406", "最大电流"),
        (316, "accuracy.active", Kind.IDENTITY, Form.TEXT, "", "04000407", "有功准确度等级"),
        (317, "accuracy.reactive", Kind.IDENTITY, Form.TEXT, "", "04000408", "无功准确度等级"),
        (318, "constant.active", Kind.IDENTITY, Form.NUMBER, "1", "04000409", "电表有功常数"),
        (319, "constant.reactive", Kind.IDENTITY, Form.NUMBER, "1", "0400040A", "电表无功常数"),
        (320, "meter.model", Kind.IDENTITY, Form.TEXT, "", "0400040B", "电表型号"),
        (321, "meter.made", Kind.IDENTITY, Form.TEXT, "", "0400040C", "生产日期"),
        (322, "meter.protocol", Kind.IDENTITY, Form.TEXT, "", "0400040D", "协议版本号"),
        (323, "meter.serial", Kind.IDENTITY, Form.TEXT, "", None, "序列号"),
        (324, "ratio.ct", Kind.STATUS, Form.NUMBER, "1", "04000306", "电流互感器变比"),
        (325, "ratio.pt", Kind.STATUS, Form.NUMBER, "1", "04000307", "电压互感器变比"),
    ]
    for number, name, kind, form, unit, di, zh in rows:
        yield Quantity(number=number, name=name, unit=unit, kind=kind, form=form, di=di, zh=zh)
    for n in range(1, 8):
        yield Quantity(number=330 + n, name=f"status.word_{n}", unit="", kind=Kind.STATUS, form=Form.TEXT,
                       di=f"0400050{n}", zh=f"电表运行状态字{n}")  # fmt: skip


_LINE = ("电导", "电纳", "电阻", "电抗")
_NUMBERS = (
    (1500, "pulse.width", "ms", "04000105", "校表脉冲宽度"),
    (1501, "limit.zones", "1", "04000201", "年时区数"),
    (1502, "limit.slot_tables", "1", "04000202", "日时段表数"),
    (1503, "limit.slots", "1", "04000203", "日时段数"),
    (1504, "limit.tariffs", "1", "04000204", "费率数"),
    (1505, "limit.holidays", "1", "04000205", "公共假日数"),
    (1506, "limit.harmonics", "1", "04000206", "谐波分析次数"),
    (1507, "limit.power.import", "kW", "04000E01", "正向有功功率上限值"),
    (1508, "limit.power.export", "kW", "04000E02", "反向有功功率上限值"),
    (1509, "limit.voltage.high", "V", "04000E03", "电压上限值"),
    (1510, "limit.voltage.low", "V", "04000E04", "电压下限值"),
    (1511, "limit.amount.alarm_1", "CNY", "04001001", "报警金额1限值"),
    (1512, "limit.amount.alarm_2", "CNY", "04001002", "报警金额2限值"),
    (1513, "limit.amount.overdraft", "CNY", "04001003", "透支金额限值"),
    (1514, "limit.amount.hoard", "CNY", "04001004", "囤积金额限值"),
    (1515, "limit.amount.close", "CNY", "04001005", "合闸允许金额限值"),
    *((1520 + n, f"load.interval.class_{n}", "min", f"04000A{n + 1:02X}", f"第{n}类负荷记录间隔时间")
      for n in range(1, 7)),
    (1527, "load.interval", "min", None, "负荷记录间隔时间"),
    *((1531 + n, f"line.constant_{n + 1}", "1", f"04000D{n + 1:02X}", f"{'ABC'[n // 4]}相{_LINE[n % 4]}系数")
      for n in range(12)),
    (1660, "price.tariff.first", "CNY/kWh", None, "当前套费率电价"),
    (1661, "price.tariff.second", "CNY/kWh", None, "备用套费率电价"),
    (1662, "step.first", "kWh", None, "当前套阶梯值"),
    (1663, "price.step.first", "CNY/kWh", None, "当前套阶梯电价"),
    (1664, "step.second", "kWh", None, "备用套阶梯值"),
    (1665, "price.step.second", "CNY/kWh", None, "备用套阶梯电价"),
)  # fmt: skip
_TIMES = (
    (1550, "zones.switch", "04000106", "两套时区表切换时间"),
    (1551, "slots.switch", "04000107", "两套日时段表切换时间"),
    *((1552 + n, f"switch.grid_{n + 1}", f"040001{8 + n:02X}", f"切换时间{n + 1}（扩展）") for n in range(4)),
    (1557, "load.start", "04000A01", "负荷记录起始时间"),
)  # fmt: skip
_PORTS = ("调制型红外光口", "接触式红外光口", "通信口1", "通信口2", "通信口3")
"""0400 07: the order of the ports."""
_DISPLAYS = ("自动循环显示屏数", "每屏显示时间", "显示电能小数位数", "显示功率（最大需量）小数位数", "按键循环显示屏数")
_TEXTS = (
    *((1560 + n, f"display.setting_{n}", f"0400030{n}", zh) for n, zh in enumerate(_DISPLAYS, start=1)),
    (1566, "customer.number", "0400040E", "客户编号"),
    (1567, "meter.position", "0400040F", "电能表位置信息"),
    (1568, "status.keys", "04000508", "密钥状态字"),
    (1569, "combination.active", "04000601", "有功组合方式特征字"),
    (1570, "combination.reactive_1", "04000602", "无功组合方式1特征字"),
    (1571, "combination.reactive_2", "04000603", "无功组合方式2特征字"),
    *((1571 + n, f"baud.port_{n}", f"0400070{n}", f"{zh}速率特征字") for n, zh in enumerate(_PORTS, start=1)),
    (1577, "weekend.word", "04000801", "周休日特征字"),
    (1578, "weekend.slots", "04000802", "周休日采用的日时段表号"),
    (1579, "load.mode", "04000901", "负荷记录模式字"),
    (1580, "freeze.mode", "04000902", "冻结数据模式字"),
    *((1580 + n, f"settlement.day_{n}", f"04000B0{n}", f"每月第{n}结算日") for n in range(1, 4)),
    *((1585 + n, f"password.level_{n}", f"04000C{n + 1:02X}", f"{n}级密码") for n in range(10)),
    (1600, "feature.word", "04001101", "电表运行特征字"),
    (1601, "report.mode", "04001104", "主动上报模式字"),
    (1602, "freeze.hourly.start", "04001201", "整点冻结起始时间"),
    (1603, "freeze.hourly.interval", "04001202", "整点冻结时间间隔"),
    (1604, "freeze.daily.time", "04001203", "日冻结时间"),
    (1605, "freeze.timed.time", "04001204", "定时冻结时间"),
    (1606, "trip.delay", "04001401", "跳闸延时时间"),
    (1607, "report.status", "04001501", "主动上报状态字"),
    (1608, "meter.software", "04800001", "厂家软件版本号"),
    (1609, "meter.hardware", "04800002", "厂家硬件版本号"),
    (1610, "maker.number", "04800003", "厂家编号"),
    (1611, "filing.number", "04800004", "软件备案号"),
    (1612, "freeze.instant.mode", "04000903", "瞬时冻结数据模式字"),
    (1613, "freeze.agreed.mode", "04000904", "约定冻结数据模式字"),
    (1614, "freeze.hourly.mode", "04000905", "整点冻结数据模式字"),
    (1615, "freeze.daily.mode", "04000906", "日冻结数据模式字"),
    (1616, "display.power_up", "04000308", "上电全显时间"),
    (1620, "zones.first", None, "第一套时区表"),
    (1621, "zones.second", None, "第二套时区表"),
    (1622, "slots.first", None, "第一套日时段表"),
    (1623, "slots.second", None, "第二套日时段表"),
    (1624, "holiday", None, "公共假日"),
    (1625, "display.automatic", None, "自动循环显示内容"),
    (1626, "display.key", None, "按键循环显示内容"),
    *((1630 + n, f"slots.table_{n}", None, f"第{n}日时段表时段") for n in range(1, 9)),
    (1640, "status.grid", None, "电网状态字"),
    (1641, "status.meter", None, "电表运行状态字"),
    (1642, "status.c022", None, "周休日状态字"),
    (1643, "device.number", None, "设备码"),
    (1644, "read.day", None, "自动抄表日期"),
    # 1645 is withdrawn: no meter says which edition it speaks.
    (1647, "display.cycle", None, "循显时间"),
    (1648, "display.pause", None, "停显时间"),
    (1649, "display.energy.decimals", None, "显示电能小数位数（1997）"),
    (1650, "display.power.decimals", None, "显示功率小数位数（1997）"),
    (1651, "load.day", None, "负荷代表日"),
    (1652, "start.active", None, "有功电能起始读数"),
    (1653, "start.reactive", None, "无功电能起始读数"),
)  # fmt: skip


def _settings() -> Iterator[Quantity]:
    """What a meter is set to. Entries of tables have an identifier each, found by protocols.dlt645."""
    for row, name, unit, di, zh in _NUMBERS:
        yield Quantity(number=number_of(row), name=name, unit=unit, kind=Kind.STATUS, di=di, zh=zh)
    for row, name, di, zh in _TIMES:
        yield Quantity(number=number_of(row), name=name, unit="", kind=Kind.STATUS, form=Form.TIME, di=di, zh=zh)
    for row, name, di, zh in _TEXTS:
        kind = Kind.IDENTITY if name.endswith(("number", "software", "hardware")) else Kind.STATUS
        yield Quantity(number=number_of(row), name=name, unit="", kind=kind, form=Form.TEXT, di=di, zh=zh)
    yield Quantity(number=number_of(1646), name="record.time", unit="", kind=Kind.CLOCK, form=Form.TIME, zh="记录时间")


PARAMETERS: tuple[Quantity, ...] = (*_parameters(), *_settings())
