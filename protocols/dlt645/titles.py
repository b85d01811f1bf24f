"""How an identifier is called, in English and Chinese: by its quantities, or by its area where only bytes are known."""

from functools import lru_cache

from protocols.catalogue_events import BY_PHASE, EXTENSIONS, FAULTS, OF_METER, OPERATIONS, OVER_DEMANDS
from protocols.dlt645.codes import Edition
from protocols.dlt645.freezes import KINDS
from protocols.dlt645.items import layout
from protocols.quantity import STORES

_CONTENTS = {"00": ("moment", "时间"), "10": ("powers", "变量"), "FF": ("block", "数据块")}
_AREAS_2007: dict[str, tuple[str, str]] = {
    "00": ("energy", "电能量"),
    "01": ("maximum demand", "最大需量"),
    "02": ("variables", "变量"),
    "0280": ("variables of the meter", "表计变量"),
    "0090": ("prepaid balance", "剩余量"),
    "03": ("events", "事件记录"),
    **{f"03{code}": (f"event {name}", f"{zh}事件") for code, (name, zh) in (BY_PHASE | OF_METER | FAULTS).items()},
    "0310": ("voltage quality", "电压合格率统计"),
    "0311": ("event power_off", "掉电事件"),
    "0312": ("event over_demand", "需量超限事件"),
    **{f"03120{q}": (f"event over_demand.{name}", f"{zh}需量超限事件") for name, (zh, q) in OVER_DEMANDS.items()},
    "0330": ("operations on the meter", "编程及操作事件"),
    **{f"0330{code}": (f"event {name}", f"{zh}事件") for code, (name, zh) in OPERATIONS.items()},
    **{code: (f"event {name}, grid extension", f"{zh}事件（扩展）") for code, (name, zh) in EXTENSIONS.items()},
    "04": ("parameters", "参变量"),
    "0401": ("first zone and slot tables", "第一套时区时段表"),
    "0402": ("second zone and slot tables", "第二套时区时段表"),
    "0403": ("holidays", "公共假日"),
    "0404": ("what the display shows", "显示项目"),
    "0405": ("tariff prices", "费率电价"),
    "0406": ("step tables", "阶梯表"),
    "0480": ("maker's identification", "厂家信息"),
    "04001503": ("reset of the report status word", "复位主动上报状态字"),
    "04DFDFDB": ("one maker's own channel", "厂家自定义通道"),
    "04A0": ("task parameters of one maker", "厂家任务参数"),
    "05": ("freezes", "冻结数据"),
    **{f"05{kind:02X}": (f"freeze {name}", STORES[name].zh) for kind, name in KINDS.items()},
    **{
        f"05{kind:02X}{content}": (f"freeze {name}, {en}", f"{STORES[name].zh}{zh}")
        for kind, name in KINDS.items()
        for content, (en, zh) in _CONTENTS.items()
    },
    "05F0": ("monthly freeze of one maker", "月冻结（厂家扩展）"),
    "06": ("load profile", "负荷记录"),
    **{f"060{n}": (f"load profile, class {n}", f"第{n}类负荷记录") for n in range(1, 7)},
    "0600": ("load profile, all classes", "全部类负荷记录"),
    "0610": ("load curves, grid extension", "负荷曲线（扩展）"),
    "061006": ("curve of energies", "电能量曲线"),
    "061007": ("curve of reactive energies", "无功电能量曲线"),
    "061008": ("curve of demands", "需量曲线"),
    "07": ("security", "安全认证"),
    "0700": ("authentication", "身份认证"),
    "0701": ("purchase", "购电"),
    "0702": ("keys", "密钥更新"),
    "0703": ("keys", "密钥更新"),
    "0780": ("security status", "安全状态查询"),
    "0781": ("security query", "安全信息查询"),
}
_AREAS_1997: dict[str, tuple[str, str]] = {
    "9": ("energy", "电能量"),
    "9000": ("active energy, one maker's", "有功总电能（厂家扩展）"),
    "9A": ("daily freeze of energy, one maker's", "日冻结电能量（厂家扩展）"),
    "A": ("maximum demand", "最大需量"),
    "B": ("time of a maximum demand", "最大需量发生时间"),
    "B2": ("last operations", "最近操作记录"),
    "B3": ("phase loss", "断相记录"),
    "B6": ("variables", "变量"),
    "B66": ("frequency or total apparent power, by maker", "频率或总视在功率（依厂家）"),
    "B67": ("phase angles", "相角"),
    "B68": ("apparent power", "视在功率"),
    "B69": ("line voltages", "线电压"),
    "C": ("parameters", "参变量"),
    "C0": ("clock, state and identity", "时钟、状态与标识"),
    "C04": ("state words of one maker", "状态字（厂家扩展）"),
    "C1": ("settings", "设置参数"),
    "C2": ("settings of pulses and password", "脉冲与密码"),
    "C3": ("zones and slots", "时区时段"),
    "C4": ("holidays", "公共假日"),
    "C5": ("load profile settings", "负荷记录设置"),
    "E": ("one maker's extension", "厂家扩展"),
    "60": ("one maker's extension", "厂家扩展"),
}


@lru_cache(maxsize=4096)
def title(di: str, edition: Edition = Edition.E2007) -> tuple[str, str] | None:
    """English and Chinese name of an identifier (upper-case hex); None for one outside all areas of the edition."""
    found = layout(di, edition)
    if found is not None:
        first = found.items[0].quantities[0]
        if not found.block and len(found.items[0].quantities) == 1:
            return first.name, first.zh
        return f"{first.name} and on", f"{first.zh}等"
    areas = _AREAS_2007 if edition is Edition.E2007 else _AREAS_1997
    return next((areas[di[:size]] for size in range(len(di), 0, -1) if di[:size] in areas), None)
