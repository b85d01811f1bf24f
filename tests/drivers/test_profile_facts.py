"""Shipped Modbus models say what their sources say: register, function, type, scale, unit, word order, and whatever
else of a model can be wrong without a reading that shows it."""

import json
from decimal import Decimal
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from drivers.profile import Profile, load_profile, profile_names
from protocols.capture import Quality

FACTS: dict[str, dict[str, Any]] = {
    model["model"]: model
    for model in json.loads((Path(__file__).parents[1] / "vectors/modbus_registers.json").read_text("utf-8"))["models"]
}
"""Register facts gathered from public code: address, type, scale, how many sources agree, and what others say."""

MODELS = {
    "abb-b21": "ABB B21",
    "abb-b23": "ABB B23/B24",
    "acrel-adl400-primary": "Acrel ADL400 (primary side float block)",
    "acrel-adw300": "Acrel ADW300",
    "acrel-dtsd1352": "Acrel DTSD1352 / ADL400 (secondary side; multiply by PT, CT)",
    "algodue-uem80": "Algodue UEM80-series",
    "carlo-gavazzi-em24": "Carlo Gavazzi EM24 (RS-485)",
    "carlo-gavazzi-em24-e1": "Carlo Gavazzi EM24 E1 (Ethernet)",
    "carlo-gavazzi-em300": "Carlo Gavazzi EM330/EM340/ET330/ET340",
    "chint-ddsu666": "Chint DDSU666",
    "chint-dtsu666": "Chint DTSU666",
    "dzg-dvh4013": "DZG DVH4013",
    "eastron-sdm120": "Eastron SDM120",
    "eastron-sdm220": "Eastron SDM220",
    "eastron-sdm230": "Eastron SDM230",
    "eastron-sdm54": "Eastron SDM54",
    "eastron-sdm630": "Eastron SDM630",
    "eastron-sdm72d": "Eastron SDM72D-M",
    "eastron-sdm72d-2": "Eastron SDM72D-M-2",
    "eltako-dsz15": "Eltako DSZ15DZMOD",
    "finder-7m24": "Finder 7M.24",
    "finder-7m38": "Finder 7M.38",
    "inepro-pro380": "Inepro PRO380",
    "janitza-b23": "Janitza B23",
    "janitza-umg604": "Janitza UMG604/UMG104",
    "janitza-umg96": "Janitza UMG96RM/UMG801/UMG806 (19000 block)",
    "lovato-dmg610": "Lovato DMG610",
    "orno-we504": "Orno WE-504",
    "orno-we514": "Orno WE-514/WE-515",
    "orno-we516": "Orno WE-516/WE-517",
    "orno-we525": "Orno WE-525/WE-526",
    "phoenix-eem": "Phoenix Contact EEM-MA370/MB370 etc (0x8006 block)",
    "schneider-iem3155": "Schneider iEM3155/iEM3255 (iEM3000)",
    "schneider-pm2xxx": "Schneider PM2xxx (PM2120)",
    "schneider-pm5xxx": "Schneider PM51xx/PM53xx/PM55xx",
    "siemens-pac1500": "Siemens PAC1500 (7KT1665)",
    "siemens-pac2200": "Siemens PAC2200",
    "siemens-pac3200": "Siemens PAC3200",
    "socomec-countis-e": "Socomec Countis E24/E34/E44, Diris A14",
    "socomec-diris-a10": "Socomec Diris A10",
    "socomec-diris-b30": "Socomec Diris B30",
    "wago-879-30xx": "WAGO 879-30xx",
}
SINGLE_PHASE = {"abb-b21", "chint-ddsu666", "eastron-sdm120", "eastron-sdm220", "eastron-sdm230", "finder-7m24",
                "orno-we504", "orno-we514", "orno-we525"}  # fmt: skip
"""Models whose only voltage and current the sources call the total."""
PHASES = {"L1": "a", "L2": "b", "L3": "c", "L1-L2": "ab", "L2-L3": "bc", "L3-L1": "ca", "total": "total",
          "N": "neutral", "sum": "sum"}  # fmt: skip
KILO = {"W": "kW", "var": "kvar", "VA": "kVA"}
DECIDED = {
    "acrel-adl400-primary": [["power.active.c"]], "acrel-dtsd1352": [["*"], ["voltage.a", "voltage.b", "voltage.c"]],
    "chint-ddsu666": [["*"]], "chint-dtsu666": [["energy.active.import.total", "energy.active.export.total"]],
    "eastron-sdm630": [["frequency"]], "inepro-pro380": [["current.mean", "voltage.mean"]],
    "lovato-dmg610": [["frequency"], ["voltage.*", "current.*"]],
    "orno-we514": [["power.active.total", "energy.active.sum.total"]],
    "orno-we516": [["power.reactive.a", "power.reactive.b", "power.reactive.c"], ["*"]], "orno-we525": [["*"]],
    "schneider-iem3155": [["*"]], "schneider-pm2xxx": [["*"], ["power_factor_quadrant.*"]],
    "schneider-pm5xxx": [["*"], ["power_factor_quadrant.*"]],
    "siemens-pac2200": [
        ["voltage.*", "current.*", "power.active.*", "power.reactive.total", "power_factor.a", "power_factor.b",
         "power_factor.c", "energy.*"], ["frequency"], ["energy.*"],
    ],
    "siemens-pac3200": [["energy.*"]], "socomec-countis-e": [["frequency"]],
    "wago-879-30xx": [["current.mean", "voltage.mean"]],
}  # fmt: skip
"""What had to be decided, by model: more than the facts show, because some sources contradict others in words."""
OTHERWISE = {"lovato-dmg610": ("voltage.*", "current.*"), "siemens-pac2200": ("frequency",)}
"""Where sources differ and a profile takes what the facts have as the other word."""
NOT_AVAILABLE: dict[str, dict[str, set[str]]] = {
    "abb-b": {"uint16": {"FFFF"}, "uint32": {"FFFFFFFF"}, "uint64": {"FFFFFFFFFFFFFFFF"}, "int16": {"7FFF"},
              "int32": {"7FFFFFFF"}},
    "acrel-adw300": {"uint16": {"FFFF"}, "int32": {"7FFFFFFF", "80000000"}},
    "siemens-pac1500": {"uint32": {"FFFFFFFF"}, "int32": {"7FFFFFFF", "80000000"}},
    "carlo-gavazzi": {"int16": {"7FFF"}, "int32": {"7FFF----"}},
    "schneider": {"int64": {"8000000000000000"}},
    "socomec": {"uint32": {"FFFFFFFF"}, "int32": {"7FFFFFFF"}},
}  # fmt: skip
"""Codes that no field of the facts holds, by how names of models begin and by type. Others have none but NaN."""
SECONDARY = {"acrel-adw300", "acrel-dtsd1352", "chint-ddsu666", "chint-dtsu666"}
"""Models whose registers hold the secondary side, which the archive's ratios make primary."""
AT_ONCE = {
    "abb-b21": 125, "abb-b23": 125, "carlo-gavazzi-em24": 11, "carlo-gavazzi-em300": 50, "eastron-sdm120": 80,
    "eastron-sdm220": 80, "eastron-sdm230": 60, "eastron-sdm54": 80, "eastron-sdm630": 80, "eastron-sdm72d": 10,
    "eastron-sdm72d-2": 80,
}  # fmt: skip
"""Most registers of one request, where a source states it."""
PRINTED = {
    "eastron": "{0:d}+30001", "schneider": "{0:d}+1", "lovato": "{0:04X}H+1", "abb": "{0:04X}", "carlo": "{0:04X}h",
    "algodue": "{0:04X}h", "phoenix": "0x{0:04X}", "siemens": "{0:d}", "socomec": "{0:d}", "janitza": "{0:d}",
    "acrel": "{0:04X}H", "chint": "{0:04X}H", "orno": "{0:04X}H", "inepro": "{0:04X}H", "wago": "{0:04X}H",
    "dzg": "{0:04X}H",
}  # fmt: skip
"""How a maker's sheets print a register, by how names of models begin, and how far its number is from the wire's. The
sheets of the others are not known."""


def name_of(name: str, fact: dict[str, Any]) -> str:
    """The catalogue's name for a fact: `active_energy_import`, L1 is energy.active.import.a."""
    what, phase = fact["quantity"], PHASES[fact["phase"]]
    if what == "frequency":
        return "frequency"
    if what in ("voltage", "current", "voltage_thd"):
        stem = "thd.voltage" if what == "voltage_thd" else what
        whole = "a" if name in SINGLE_PHASE else "mean"
        return f"{stem}.{whole if phase == 'total' else phase}"
    if what == "power_factor" and name.startswith("schneider-pm"):
        return f"power_factor_quadrant.{phase}"
    if what in ("power_factor", "phase_angle"):
        return f"{what}.{phase}"
    nature, kind, *rest = what.split("_")
    if kind == "power":
        return ".".join(["power", nature, *rest, phase])
    direction, *tariff = rest
    return ".".join(["energy", nature, "sum" if direction == "total" else direction, *(tariff or [phase])])


def said(fact: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Everything that sources say of a fact: register, function, type and scale."""
    scale = None if fact["scale"] is None else Decimal(str(fact["scale"]))
    return [
        (fact["register"], function, kind, scale)
        for function in fact.get("function_variants", [fact["function"]])
        for kind in fact.get("type_variants", [fact["type"]])
    ] + [each for other in fact.get("conflicts", []) for each in said(other)]


@pytest.mark.parametrize("name", MODELS)
def test_a_modbus_profile_says_what_its_sources_say(name: str) -> None:
    profile, model = load_profile(name), FACTS[MODELS[name]]
    facts = {name_of(name, fact): fact for fact in model["items"]}
    assert set(profile.items) == set(facts) and len(facts) == len(model["items"])
    for quantity, fact in facts.items():
        item = profile.items[quantity]
        register = item.register
        assert register is not None
        unit = fact["unit"] or "1"
        kilo = Decimal("0.001") if unit in KILO else Decimal(1)
        assert item.quantity.unit == KILO.get(unit, unit)
        assert register.format.swap is (model["word_order"] == "little" and register.format.words > 1)
        here = (register.address, register.function, register.format.type.value, register.format.scale / kilo)
        main, *others = said(fact)
        otherwise = any(fnmatch(quantity, pattern) for pattern in OTHERWISE.get(name, ()))
        assert here == (others[0] if otherwise else main), quantity
        assert item.agree == (1 if otherwise and fact.get("conflicts") else fact["agree"])
        if others:
            assert decided(profile, quantity), (
                f"{quantity}: sources differ, and no decision says why it stands as it does"
            )
        else:
            assert register.format.words == fact["words"]


def decided(profile: Profile, quantity: str) -> bool:
    return any(fnmatch(quantity, pattern) for decision in profile.decisions for pattern in decision.items)


def test_every_model_of_the_facts_is_shipped_and_every_fact_stands_in_a_profile() -> None:
    assert sorted(MODELS.values()) == sorted(FACTS)
    assert sum(len(load_profile(name).items) for name in MODELS) == sum(len(model["items"]) for model in FACTS.values())


def test_what_sources_contradict_each_other_about_is_decided_in_writing() -> None:
    found = {name: [list(one.items) for one in load_profile(name).decisions] for name in profile_names()}
    assert {name: items for name, items in found.items() if items} == DECIDED


def of(table: dict[str, Any], name: str) -> Any:
    """What stands in a table for a model, by how its name begins; None when nothing does."""
    return next((value for start, value in table.items() if name.startswith(start)), None)


@pytest.mark.parametrize("name", MODELS)
def test_every_item_of_a_model_has_the_not_available_codes_of_its_type(name: str) -> None:
    for quantity, item in load_profile(name).items.items():
        assert item.register is not None
        form = item.register.format
        codes = {f"{code:0{4 * form.words}X}" for code in form.unavailable}
        codes |= {f"{high:04X}{'----' * (form.words - 1)}" for high in form.unavailable_high}
        assert codes == (of(NOT_AVAILABLE, name) or {}).get(form.type.value, set()), quantity


@pytest.mark.parametrize("name", MODELS)
def test_the_number_of_the_sheet_is_that_of_the_register(name: str) -> None:
    for quantity, item in load_profile(name).items.items():
        assert item.register is not None
        notation, _, offset = (of(PRINTED, name) or "").partition("+")
        assert item.vendor == notation.format(item.register.address + int(offset or 0)), quantity


def test_who_makes_values_primary_and_how_much_is_read_at_once_is_as_the_sheets_have_it() -> None:
    assert {name for name in MODELS if load_profile(name).ratios == "archive"} == SECONDARY
    assert {name: load_profile(name).max_registers for name in AT_ONCE} == AT_ONCE
    assert {name: load_profile(name).readable for name in MODELS if load_profile(name).readable} == {
        "abb-b21": ((0x1000, 0x8EFF),), "abb-b23": ((0x1000, 0x8EFF),),
        "eastron-sdm72d": ((0, 35), (52, 53), (56, 57), (60, 61), (70, 75), (342, 345)),
    }  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_a_decision_names_what_it_is_about_and_who_says_otherwise(name: str) -> None:
    for decision in load_profile(name).decisions:
        assert all(": " in words for words in decision.dissent), "each dissent begins with its source"
        assert len(decision.why) > 20 and decision.chosen


@pytest.mark.parametrize("name", MODELS)
def test_a_modbus_profile_cites_all_the_sources_it_counts(name: str) -> None:
    profile = load_profile(name)
    assert len(profile.sources) == FACTS[MODELS[name]]["source_count"]
    for source in FACTS[MODELS[name]]["sources"]:
        assert any(cited.startswith(source) for cited in profile.sources)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_agreed_when_half_of_its_items_are(name: str) -> None:
    profile = load_profile(name)
    agreed = sum(item.agree >= 2 for item in profile.items.values())
    assert profile.maturity == ("agreed" if 2 * agreed >= len(profile.items) else "single")


@pytest.mark.parametrize(
    ("name", "quantity", "raw"),
    [("abb-b23", "power.active.a", "7FFFFFFF"), ("abb-b23", "energy.active.import.a", "FFFFFFFFFFFFFFFF"),
     ("abb-b21", "power_factor.total", "7FFF"), ("schneider-pm5xxx", "power_factor_quadrant.total", "7FC00000"),
     ("schneider-iem3155", "energy.active.import.total", "8000000000000000"),
     ("carlo-gavazzi-em300", "power.active.total", "00007FFF"),  # low word first
     ("carlo-gavazzi-em24", "energy.active.import.total", "12347FFF"), ("socomec-countis-e", "voltage.a", "FFFFFFFF"),
     ("siemens-pac1500", "power.active.total", "80000000"), ("eastron-sdm630", "power_factor.total", "FFFFFFFF")],
)  # fmt: skip
def test_a_not_available_code_of_a_model_is_never_a_number(name: str, quantity: str, raw: str) -> None:
    register = load_profile(name).items[quantity].register
    assert register is not None
    assert register.format.decode(bytes.fromhex(raw)) is Quality.UNAVAILABLE
