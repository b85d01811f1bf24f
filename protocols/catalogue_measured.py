"""Rows of the catalogue: energy, demand, variables (DL/T 645-2007 Annex A, areas 00 to 02; what Modbus meters add).

Sources beside it: IEC 62056-6-1 (OBIS, recalled), DL/T 698.45 object identifiers (recalled except where an issue says
otherwise), IEC 61968-9 Annex C (reading types, recalled).
"""

from collections.abc import Iterator

from protocols.quantity_type import HARMONIC_MAX, Kind, Quantity, Side


def _energy() -> Iterator[Quantity]:
    """00 energy registers: the order of DI2 is the order of the rows (DL/T 645-2007 table A.1).

    What a combined register sums is a setting of the meter (0400 06), so it has no code elsewhere.
    """
    natures = [
        ("active.combined", "kWh", "组合有功", "", "00"),
        ("active.import", "kWh", "正向有功", "1", "10"),
        ("active.export", "kWh", "反向有功", "2", "20"),
        ("reactive.combined_1", "kvarh", "组合无功1", "", "30"),
        ("reactive.combined_2", "kvarh", "组合无功2", "", "40"),
        ("reactive.q1", "kvarh", "第一象限无功", "5", "50"),
        ("reactive.q2", "kvarh", "第二象限无功", "6", "60"),
        ("reactive.q3", "kvarh", "第三象限无功", "7", "70"),
        ("reactive.q4", "kvarh", "第四象限无功", "8", "80"),
        ("apparent.import", "kVAh", "正向视在", "9", "90"),
        ("apparent.export", "kVAh", "反向视在", "10", "A0"),
    ]
    flows = {1: "1", 2: "19", 5: "15", 6: "16", 7: "17", 8: "18"}
    multiplier_unit = {"kWh": "3.72", "kvarh": "3.73", "kVAh": "3.71"}
    for index, (nature, unit, zh, obis, oi) in enumerate(natures):
        cim = flows.get(index)
        yield Quantity(
            number=1 + index, name=f"energy.{nature}.total", unit=unit, kind=Kind.REGISTER, side=Side.BOTH,
            obis=f"1-0:{obis}.8.0" if obis else None, di=f"00{index:02X}0000", oad=f"00{oi}0201", zh=f"{zh}总电能",
            cim=f"0.0.0.1.{cim}.1.12.0.0.0.0.0.0.0.0.{multiplier_unit[unit]}.0" if cim else None,
        )  # fmt: skip
    for p, (phase, base, offset) in enumerate([("a", 0x15, 20), ("b", 0x29, 40), ("c", 0x3D, 60)]):
        for index, (nature, unit, zh, obis, oi) in enumerate(natures[1:]):
            cim = flows.get(index + 1)
            yield Quantity(
                number=20 + 10 * p + index, name=f"energy.{nature}.{phase}", unit=unit, kind=Kind.REGISTER, phase=phase,
                side=Side.BOTH, obis=f"1-0:{offset + int(obis)}.8.0" if obis else None, di=f"00{base + index:02X}0000",
                oad=f"00{oi[0]}{p + 1}0201", zh=f"{phase.upper()}相{zh}电能",
                cim=f"0.0.0.1.{cim}.1.12.0.0.0.0.0.0.0.{128 >> p}.{multiplier_unit[unit]}.0" if cim else None,
            )  # fmt: skip
    yield Quantity(number=50, name="energy.reactive.import.total", unit="kvarh", kind=Kind.REGISTER, side=Side.BOTH,
                   obis="1-0:3.8.0", zh="正向无功总电能")  # fmt: skip
    yield Quantity(number=51, name="energy.reactive.export.total", unit="kvarh", kind=Kind.REGISTER, side=Side.BOTH,
                   obis="1-0:4.8.0", zh="反向无功总电能")  # fmt: skip
    for p, phase in enumerate("abc"):
        for d, (direction, zh) in enumerate([("import", "正向无功"), ("export", "反向无功")]):
            yield Quantity(number=52 + 2 * p + d, name=f"energy.reactive.{direction}.{phase}", unit="kvarh",
                           kind=Kind.REGISTER, phase=phase, side=Side.BOTH, obis=f"1-0:{23 + 20 * p + d}.8.0",
                           zh=f"{phase.upper()}相{zh}电能")  # fmt: skip
    # Sums that Modbus meters offer (import plus export). They have no DL/T 645 identifier.
    for n, (nature, unit, zh) in enumerate(
        [("active", "kWh", "有功绝对值"), ("reactive", "kvarh", "无功绝对值"), ("apparent", "kVAh", "视在")]
    ):
        yield Quantity(number=60 + 4 * n, name=f"energy.{nature}.sum.total", unit=unit, kind=Kind.REGISTER,
                       side=Side.BOTH, zh=f"{zh}总电能")  # fmt: skip
        for p, phase in enumerate("abc"):
            yield Quantity(number=61 + 4 * n + p, name=f"energy.{nature}.sum.{phase}", unit=unit, kind=Kind.REGISTER,
                           phase=phase, side=Side.BOTH, zh=f"{phase.upper()}相{zh}电能")  # fmt: skip
    yield Quantity(number=72, name="balance.energy", unit="kWh", kind=Kind.INSTANT, di="00900100", zh="剩余电量")
    yield Quantity(number=73, name="overdraft.energy", unit="kWh", kind=Kind.INSTANT, di="00900101", zh="透支电量")
    yield Quantity(number=74, name="balance.amount", unit="CNY", kind=Kind.INSTANT, di="00900200", zh="剩余金额")
    yield Quantity(number=75, name="overdraft.amount", unit="CNY", kind=Kind.INSTANT, di="00900201", zh="透支金额")
    # How much was used in a period: starts again from nothing, so no register (grid extension).
    for n, (period, zh) in enumerate([("settlement", "结算周期"), ("month", "月度"), ("year", "年度")]):
        yield Quantity(number=76 + n, name=f"consumption.{period}", unit="kWh", kind=Kind.INSTANT, side=Side.BOTH,
                       di=f"00{0x0B + n:02X}0000", zh=f"{zh}用电量")  # fmt: skip


def _split_energy() -> Iterator[Quantity]:
    """00 energy registers 80 to C2: associated, fundamental and harmonic parts, losses; total and by phase."""
    rows = [
        ("active_associated", "关联"),
        ("active_fundamental.import", "正向有功基波"),
        ("active_fundamental.export", "反向有功基波"),
        ("active_harmonic.import", "正向有功谐波"),
        ("active_harmonic.export", "反向有功谐波"),
        ("copper_loss", "铜损有功"),
        ("iron_loss", "铁损有功"),
    ]
    for p, (phase, base) in enumerate([("total", 0x80), ("a", 0x94), ("b", 0xA8), ("c", 0xBC)]):
        for index, (nature, zh) in enumerate(rows):
            yield Quantity(number=400 + 7 * p + index, name=f"energy.{nature}.{phase}", unit="kWh", kind=Kind.REGISTER,
                           phase=phase if p else None, side=Side.BOTH, di=f"00{base + index:02X}0000",
                           zh=f"{phase.upper()}相{zh}电能" if p else f"{zh}总电能")  # fmt: skip


def _harmonics() -> Iterator[Quantity]:
    """020A and 020B: how much of each order, 1 to 21, is in voltage and current (DL/T 645-2007 table A.3)."""
    for n, (nature, zh) in enumerate([("voltage", "电压"), ("current", "电流")]):
        for p, phase in enumerate("abc"):
            for order in range(1, HARMONIC_MAX + 1):
                yield Quantity(number=600 + 100 * n + 30 * p + order, name=f"harmonic.{nature}.{phase}.h{order}",
                               unit="%", kind=Kind.INSTANT, phase=phase, di=f"02{10 + n:02X}{p + 1:02X}{order:02X}",
                               zh=f"{phase.upper()}相{zh}{order}次谐波含量")  # fmt: skip


def _demand() -> Iterator[Quantity]:
    """01 maximum demands, with the time of each (DL/T 645-2007 table A.2)."""
    natures = [
        ("active.import", "kW", "正向有功", "1", "10"),
        ("active.export", "kW", "反向有功", "2", "20"),
        ("reactive.combined_1", "kvar", "组合无功1", "", "30"),
        ("reactive.combined_2", "kvar", "组合无功2", "", "40"),
        ("reactive.q1", "kvar", "第一象限无功", "5", "50"),
        ("reactive.q2", "kvar", "第二象限无功", "6", "60"),
        ("reactive.q3", "kvar", "第三象限无功", "7", "70"),
        ("reactive.q4", "kvar", "第四象限无功", "8", "80"),
        ("apparent.import", "kVA", "正向视在", "9", "90"),
        ("apparent.export", "kVA", "反向视在", "10", "A0"),
    ]
    for index, (nature, unit, zh, obis, oi) in enumerate(natures):
        yield Quantity(number=100 + index, name=f"demand.{nature}.total", unit=unit, kind=Kind.DEMAND, side=Side.BOTH,
                       obis=f"1-0:{obis}.6.0" if obis else None, di=f"01{index + 1:02X}0000", oad=f"10{oi}0201",
                       zh=f"{zh}总最大需量")  # fmt: skip
    # DL/T 645-1997 has these two; 2007 has combined reactive 1 and 2 instead.
    for n, (direction, zh) in enumerate([("import", "正向无功"), ("export", "反向无功")]):
        yield Quantity(number=140 + n, name=f"demand.reactive.{direction}.total", unit="kvar", kind=Kind.DEMAND,
                       side=Side.BOTH, obis=f"1-0:{3 + n}.6.0", zh=f"{zh}总最大需量")  # fmt: skip
    for p, (phase, base) in enumerate([("a", 0x15), ("b", 0x29), ("c", 0x3D)]):
        for index, (nature, unit, zh, _, oi) in enumerate(natures):
            yield Quantity(number=110 + 10 * p + index, name=f"demand.{nature}.{phase}", unit=unit, kind=Kind.DEMAND,
                           phase=phase, side=Side.BOTH, di=f"01{base + index:02X}0000", oad=f"10{oi[0]}{p + 1}0201",
                           zh=f"{phase.upper()}相{zh}最大需量")  # fmt: skip


def _phased(
    number: int, stem: str, unit: str, side: Side, di1: str | None, zh: str, *, total: bool, obis: tuple[int, int],
    oad: str, cim: str | None = None,
) -> Iterator[Quantity]:  # fmt: skip
    """A quantity per phase, and its total where it has one: numbers run total, a, b, c."""
    if total:
        yield Quantity(number=number, name=f"{stem}.total", unit=unit, kind=Kind.INSTANT, side=side,
                       obis=f"1-0:{obis[0]}.7.0", di=f"{di1}0000" if di1 else None, oad=f"{oad}0201", zh=f"总{zh}",
                       cim=cim.format(0) if cim else None)  # fmt: skip
    for p, phase in enumerate("abc"):
        yield Quantity(number=number + 1 + p, name=f"{stem}.{phase}", unit=unit, kind=Kind.INSTANT, phase=phase,
                       side=side, obis=f"1-0:{obis[1] + 20 * p}.7.0", di=f"{di1}{p + 1:02X}00" if di1 else None,
                       oad=f"{oad}02{p + 1 + total:02X}", zh=f"{phase.upper()}相{zh}",
                       cim=cim.format(128 >> p) if cim else None)  # fmt: skip


def _instant() -> Iterator[Quantity]:
    """02 variables (DL/T 645-2007 table A.3)."""
    yield from _phased(200, "voltage", "V", Side.VOLTAGE, "0201", "电压", total=False, obis=(12, 32), oad="2000",
                       cim="0.0.0.12.0.1.158.0.0.0.0.0.0.0.{}.0.29.0")  # fmt: skip
    yield from _phased(204, "current", "A", Side.CURRENT, "0202", "电流", total=False, obis=(11, 31), oad="2001",
                       cim="0.0.0.12.1.1.4.0.0.0.0.0.0.0.{}.0.5.0")  # fmt: skip
    yield from _phased(208, "power.active", "kW", Side.BOTH, "0203", "有功功率", total=True, obis=(16, 36), oad="2004",
                       cim="0.0.0.12.1.1.37.0.0.0.0.0.0.0.{}.3.38.0")  # fmt: skip
    yield from _phased(212, "power.reactive", "kvar", Side.BOTH, "0204", "无功功率", total=True, obis=(3, 23),
                       oad="2005", cim="0.0.0.12.1.1.37.0.0.0.0.0.0.0.{}.3.63.0")  # fmt: skip
    yield from _phased(216, "power.apparent", "kVA", Side.BOTH, "0205", "视在功率", total=True, obis=(9, 29),
                       oad="2006", cim="0.0.0.12.1.1.37.0.0.0.0.0.0.0.{}.3.61.0")  # fmt: skip
    yield from _phased(220, "power_factor", "1", Side.NONE, "0206", "功率因数", total=True, obis=(13, 33), oad="200A",
                       cim="0.0.0.12.0.1.38.0.0.0.0.0.0.0.{}.0.65.0")  # fmt: skip
    # OBIS of angles: 81.7.xy, between x (U of L1 0, of L2 1, of L3 2) and y (I of L1 4, of L2 5, of L3 6).
    for p, (phase, angle) in enumerate(zip("abc", ("4", "15", "26"), strict=True)):
        yield Quantity(number=225 + p, name=f"phase_angle.{phase}", unit="deg", kind=Kind.INSTANT, phase=phase,
                       obis=f"1-0:81.7.{angle}", di=f"0207{p + 1:02X}00", oad=f"200202{p + 1:02X}",
                       zh=f"{phase.upper()}相相角")  # fmt: skip
    for number, what, first, di1, oi, zh in (
        (229, "voltage", 32, "0208", "200B", "电压"), (233, "current", 31, "0209", "200C", "电流")
    ):  # fmt: skip
        for p, phase in enumerate("abc"):
            yield Quantity(number=number + p, name=f"thd.{what}.{phase}", unit="%", kind=Kind.INSTANT, phase=phase,
                           obis=f"1-0:{first + 20 * p}.7.124", di=f"{di1}{p + 1:02X}00", oad=f"{oi}02{p + 1:02X}",
                           zh=f"{phase.upper()}相{zh}谐波含量")  # fmt: skip
    for n, pair in enumerate(("ab", "bc", "ca")):
        yield Quantity(number=236 + n, name=f"voltage.{pair}", unit="V", kind=Kind.INSTANT, phase=pair,
                       side=Side.VOLTAGE, di=f"020C{n + 1:02X}00", zh=f"{pair.upper()}线电压")  # fmt: skip
    one = [
        (240, "current.neutral", "A", Side.CURRENT, "02800001", "1-0:91.7.0", "20010204", "零线电流"),
        (241, "frequency", "Hz", Side.NONE, "02800002", "1-0:14.7.0", "200F0200", "电网频率"),
        (242, "power.active.mean_1min", "kW", Side.BOTH, "02800003", None, "20070200", "一分钟有功平均功率"),
        (243, "demand.active.present", "kW", Side.BOTH, "02800004", "1-0:1.4.0", "20170200", "当前有功需量"),
        (244, "demand.reactive.present", "kvar", Side.BOTH, "02800005", None, "20180200", "当前无功需量"),
        (245, "demand.apparent.present", "kVA", Side.BOTH, "02800006", None, "20190200", "当前视在需量"),
        (246, "temperature", "°C", Side.NONE, "02800007", "0-0:96.9.0", "20100200", "表内温度"),
        (247, "battery.clock.voltage", "V", Side.NONE, "02800008", None, "20110200", "时钟电池电压"),
        (248, "battery.reading.voltage", "V", Side.NONE, "02800009", None, "20120200", "停电抄表电池电压"),
        (249, "battery.run_time", "min", Side.NONE, "0280000A", None, "20130200", "内部电池工作时间"),
        (250, "price.step", "CNY/kWh", Side.NONE, "0280000B", None, "201B0200", "当前阶梯电价"),
        (251, "price.current", "CNY/kWh", Side.NONE, "02800020", None, "201A0200", "当前电价"),
        (252, "price.tariff", "CNY/kWh", Side.NONE, "02800021", None, None, "当前费率电价"),
        (253, "current.live", "A", Side.CURRENT, "0280000E", None, None, "火线电流"),
        (254, "power.active.live", "kW", Side.BOTH, "0280000F", None, None, "火线有功功率"),
        (255, "power_factor.live", "1", Side.NONE, "02800010", None, None, "火线功率因数"),
        (256, "authentication.remaining", "min", Side.NONE, "02800022", None, None, "身份认证时效剩余时间"),
        (257, "authentication.infrared.remaining", "min", Side.NONE, "02800023", None, None, "红外认证时效剩余时间"),
    ]
    for number, name, unit, side, di, obis, oad, zh in one:
        yield Quantity(number=number, name=name, unit=unit, kind=Kind.INSTANT, side=side, di=di, obis=obis, oad=oad,
                       zh=zh)  # fmt: skip
    # Means that Modbus meters offer; DL/T 645 has none of them.
    for number, name, unit, side, zh in [
        (260, "voltage.mean", "V", Side.VOLTAGE, "平均相电压"),
        (261, "voltage.line.mean", "V", Side.VOLTAGE, "平均线电压"),
        (262, "current.mean", "A", Side.CURRENT, "平均电流"),
        (263, "current.sum", "A", Side.CURRENT, "电流之和"),
        (264, "phase_angle.total", "deg", Side.NONE, "总相角"),
        (265, "thd.voltage.mean", "%", Side.NONE, "平均电压谐波含量"),
        (266, "thd.current.mean", "%", Side.NONE, "平均电流谐波含量"),
        (267, "unbalance.voltage", "%", Side.NONE, "电压不平衡度"),
        (268, "unbalance.current", "%", Side.NONE, "电流不平衡度"),
    ]:
        yield Quantity(number=number, name=name, unit=unit, kind=Kind.INSTANT, side=side, zh=zh)


def _modbus() -> Iterator[Quantity]:
    """What some Modbus meters have in a form of their own, which is not to be taken for the plain quantity."""
    # Power by direction, each never below zero (DZG DVH4013); power.active.total has a sign instead.
    for n, (direction, zh) in enumerate([("import", "正向有功功率"), ("export", "反向有功功率")]):
        yield Quantity(number=900 + n, name=f"power.active.{direction}.total", unit="kW", kind=Kind.INSTANT,
                       side=Side.BOTH, zh=f"总{zh}")  # fmt: skip
    # Schneider's four-quadrant form: -2 to 2, the power factor turned over where the quadrant is II or IV.
    for n, (phase, zh) in enumerate([("total", "总"), ("a", "A相"), ("b", "B相"), ("c", "C相")]):
        yield Quantity(number=902 + n, name=f"power_factor_quadrant.{phase}", unit="1", kind=Kind.INSTANT,
                       phase=phase if n else None, zh=f"{zh}四象限功率因数")  # fmt: skip


MEASURED: tuple[Quantity, ...] = (*_energy(), *_split_energy(), *_demand(), *_instant(), *_harmonics(), *_modbus())
