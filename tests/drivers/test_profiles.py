"""Shipped meter models say what their sources say, and a wrong profile is told whole."""

import json
from decimal import Decimal
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, get_args

import pytest

from config.mistake import ConfigError
from config.toml import REQUIRED
from drivers.profile import (
    DECISION,
    FAMILY,
    REGISTER,
    TIMING,
    TOP,
    Maturity,
    Profile,
    load_profile,
    parse_profile,
    profile_names,
    read_profile,
)
from protocols.capture import Quality
from protocols.dlt645.codes import Edition
from protocols.dlt645.items import layout
from protocols.dlt645.items import quantities as quantities_of
from protocols.modbus.registers import Format, Type
from protocols.quantity import by_name

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
CONTRADICTED = [
    ("eastron-sdm630", "frequency"), ("socomec-countis-e", "frequency"), ("siemens-pac2200", "frequency"),
    ("chint-dtsu666", "energy.active.import.total"), ("lovato-dmg610", "frequency"),
    ("orno-we514", "power.active.total"), ("orno-we514", "energy.active.sum.total"),
    ("orno-we516", "power.reactive.b"), ("orno-we516", "voltage.a"), ("schneider-iem3155", "current.a"),
    ("schneider-pm5xxx", "current.a"), ("chint-ddsu666", "voltage.a"), ("acrel-dtsd1352", "voltage.a"),
    ("acrel-adl400-primary", "power.active.c"), ("schneider-pm5xxx", "power_factor_quadrant.total"),
    ("schneider-pm2xxx", "power_factor_quadrant.a"), ("inepro-pro380", "current.mean"),
]  # fmt: skip
"""Where products that are shipped contradict each other in words, so that no field of the facts shows it."""


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
        if here == main and not others:
            assert (item.agree, register.format.words) == (fact["agree"], fact["words"])
            continue
        assert here in (main, *others), f"{quantity}: {here} is said by nobody"
        assert decided(profile, quantity), f"{quantity}: sources differ, and no decision says why it stands as it does"
        assert item.agree == (fact["agree"] if not fact.get("conflicts") or here == main else 1)


def decided(profile: Profile, quantity: str) -> bool:
    return any(fnmatch(quantity, pattern) for decision in profile.decisions for pattern in decision.items)


def test_every_model_of_the_facts_is_shipped_and_every_fact_stands_in_a_profile() -> None:
    assert sorted(MODELS.values()) == sorted(FACTS)
    assert sum(len(load_profile(name).items) for name in MODELS) == sum(len(model["items"]) for model in FACTS.values())


@pytest.mark.parametrize(("name", "quantity"), CONTRADICTED)
def test_what_sources_contradict_each_other_about_is_decided_in_writing(name: str, quantity: str) -> None:
    assert decided(load_profile(name), quantity)


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


def test_a_meter_that_multiplies_by_its_own_ratios_says_so() -> None:
    assert load_profile("acrel-dtsd1352").ratios == load_profile("dlt645-2007-3p").ratios == "archive"
    assert load_profile("acrel-adl400-primary").ratios == load_profile("siemens-pac3200").ratios == "meter"


@pytest.mark.parametrize("name", profile_names())
def test_every_shipped_profile_is_whole(name: str) -> None:
    profile = load_profile(name)
    assert profile.name == name and profile.sources
    for key, item in profile.items.items():
        assert item.quantity == by_name(key)
    assert profile.turnaround_ms <= profile.turnaround_ms_max <= profile.late_max_ms


@pytest.mark.parametrize("name", [name for name in profile_names() if name.startswith("dlt645")])
def test_every_identifier_of_a_profile_can_be_decoded_and_holds_its_quantity(name: str) -> None:
    profile = load_profile(name)
    edition = Edition(profile.protocols[0])
    assert profile.min_gap_ms == 30
    for quantity, item in profile.items.items():
        assert item.di is not None
        found = layout(item.di, edition)
        assert found is not None and not found.block
        assert quantity in [one.name for one in quantities_of(item.di, edition)]


def test_tariffs_and_settlement_days_need_no_line_of_their_own() -> None:
    items = load_profile("dlt645-2007-3p").items
    assert items["energy.active.import.t2.last_3"].di == "00010203"
    assert items["demand.active.import.t4.last_12.time"].di == "0101040C"
    assert items["energy.active.import.a"].di == "00150000"
    assert "energy.active.import.a.t1" not in items and "energy.active.import.t5" not in items
    old = load_profile("dlt645-1997").items
    assert old["energy.active.import.t1.last_1"].di == "9411"
    assert old["energy.active.export.total.last_2"].di == "9820"


def test_the_models_that_were_promised_are_shipped() -> None:
    promised = {"dlt645-2007-1p", "dlt645-2007-3p", "dlt645-1997", "modbus-generic", *MODELS}
    assert promised <= set(profile_names())


def test_an_unknown_model_is_told_with_the_known_ones() -> None:
    with pytest.raises(KeyError, match="eastron-sdm630"):
        load_profile("eastron-sdm6300")


HEAD = 'model = "m"\nprotocols = ["modbus-rtu"]\nmaturity = "single"\nsources = ["s"]\n'
DLT645 = HEAD.replace("modbus-rtu", "dlt645-2007")


VOLTAGE = 'items."voltage.a"'


def item(body: str, name: str = "voltage.a", settings: str = "") -> str:
    """A profile with one item."""
    return f'{HEAD}[modbus]\n{settings}\n[items]\n"{name}" = {{ {body} }}\n'


def decision(items: str) -> str:
    """A decision about these items."""
    return f'[[decision]]\n{items}\nchosen = "c"\nwhy = "w"\ndissent = ["d"]\n'


def parse(text: str) -> Profile:
    return parse_profile("test", text, "test.toml")


@pytest.mark.parametrize(
    ("text", "where", "expected"),
    [
        ("model =", "file", "TOML"),
        (HEAD.replace("sources", "source"), "sources", "Where each fact comes from"),
        (HEAD.replace("sources", "source"), "source", "one of the keys model"),
        (HEAD.replace("single", "certain"), "maturity", "recorded"),
        (HEAD.replace('"modbus-rtu"', '"modbus-rtu", "dlt645-2007"'), "protocols", "one family"),
        (HEAD.replace('"modbus-rtu"', '"modbus"'), "protocols", "one family"),
        (HEAD + "[dlt645]\ntariffs = 4\n", "dlt645", "no such table in a modbus profile"),
        (HEAD + "[timing]\nmin_gap_ms = -1\n", "timing.min_gap_ms", "from 0"),
        (HEAD + "[timing]\nattempts = 0\n", "timing.attempts", "from 1"),
        (HEAD + "[modbus]\nmax_registers = 126\n", "modbus.max_registers", "125"),
        (HEAD + "[modbus]\nreadable = [[5, 1]]\n", "modbus.readable", "rising"),
        (HEAD + "[modbus]\nreadable = [5]\n", "modbus.readable", "rising"),
        (HEAD + 'items = 3\n', "items", "a table of quantities"),
        (HEAD + '[items]\n"voltage.a" = 3\n', VOLTAGE, "a table"),
        (item('type = "uint16"'), f"{VOLTAGE}.register", "0-based"),
        (item('register = 1, type = "uint8"'), VOLTAGE, "uint16"),
        (item('register = 1, type = "uint16", scale = 0.1'), f"{VOLTAGE}.scale", '"0.001"'),
        (item('register = 1, type = "uint16", scale = "0"'), f"{VOLTAGE}.scale", '"0.001"'),
        (item('register = 1, type = "uint16", unavailable = ["FF"]'), VOLTAGE, "4 hex"),
        (item('register = 1, type = "uint16", unit = "kV"'), VOLTAGE, "number in V"),
        (item('register = 1, type = "uint16"', "voltage.x"), 'items."voltage.x"', "catalogue"),
        (item('register = 1, type = "uint16"', "clock"), 'items."clock"', "a number"),
        (item('register = 9, type = "uint32"', settings="readable = [[0, 9]]"), VOLTAGE, "readable"),
        (item('register = 65535, type = "uint32"'), VOLTAGE, "readable"),
        (DLT645 + '[items]\n"voltage.a" = "02010200"\n', VOLTAGE, "identifier of dlt645-2007"),
        (DLT645 + '[items]\n"voltage.a" = 2\n', VOLTAGE, "identifier of dlt645-2007"),
        (DLT645 + '[items]\n"voltage.a" = "B611"\n', VOLTAGE, "identifier of dlt645-2007"),
        (item('register = 1, type = "uint32", unavailable = ["7F----"]'), VOLTAGE, "4 hex digits and 4 dashes"),
        (item('register = 1, type = "uint16"') + decision('items = ["current.*"]'), "decision[1].items", "patterns"),
        (item('register = 1, type = "uint16"') + decision(""), "decision[1].items", "What it is about"),
        (HEAD.replace("model", 'ratios = "primary"\nmodel'), "ratios", "archive"),
        (DLT645 + "[modbus]\n", "modbus", "no such table in a dlt645 profile"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_profile_names_file_and_key(text: str, where: str, expected: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse(text)
    told = [(mistake.where, mistake.expected) for mistake in error.value.mistakes]
    assert any(place == where and expected in words for place, words in told), told
    assert all(mistake.file == "test.toml" for mistake in error.value.mistakes)


def test_all_mistakes_of_a_profile_are_told_at_once() -> None:
    text = (
        HEAD + '[items]\n"voltage.x" = { register = 1, type = "uint16" }\n"voltage.a" = { register = 1, type = "x" }\n'
    )
    with pytest.raises(ConfigError) as error:
        parse(text)
    assert [mistake.where for mistake in error.value.mistakes] == ['items."voltage.x"', 'items."voltage.a"']


def test_word_order_function_and_codes_come_with_each_item(tmp_path: Path) -> None:
    file = tmp_path / "odd-meter.toml"
    file.write_text(
        HEAD + '[modbus]\nword_order = "little"\nfunction = "input"\n[items]\n'
        '"voltage.a" = { register = 1, type = "uint16", scale = "0.1", unavailable = ["FFFF"] }\n'
        '"frequency" = { register = 2, type = "float32", function = "holding" }\n'
        '"vendor.ripple" = { register = 9, type = "int32", unit = "mV" }\n',
        "utf-8",
    )
    profile = read_profile(file)
    assert profile.name == "odd-meter"
    voltage, frequency, ripple = (item.register for item in profile.items.values())
    assert voltage is not None and frequency is not None and ripple is not None
    assert voltage.format == Format(type=Type.UINT16, scale=Decimal("0.1"), unavailable=frozenset({0xFFFF}))
    assert (voltage.function, frequency.function) == (4, 3)
    assert frequency.format.swap and ripple.format.swap and not voltage.format.swap
    assert (ripple.quantity.number, ripple.quantity.unit) == (0, "mV")


def test_every_key_of_a_profile_is_documented_with_its_default() -> None:
    lines = (Path(__file__).parents[2] / "docs" / "profiles.md").read_text("utf-8").splitlines()
    tables = {"": TOP, "dlt645.": FAMILY["dlt645"], "modbus.": FAMILY["modbus"], " ": REGISTER, "decision.": DECISION}
    for prefix, keys in tables.items():
        for key in keys:
            default = "required" if key.default is REQUIRED else f"`{json.dumps(key.default)}`"
            default = "none" if key.default is None else default
            assert f"| `{prefix.strip()}{key.name}` | {default} | {key.says} |" in lines
    for old, new in zip(TIMING["dlt645"], TIMING["modbus"], strict=True):
        both = f"`{old.default}`" if old.default == new.default else (
            f"`{old.default}` for DL/T 645, `{new.default}` for Modbus"
        )  # fmt: skip
        assert f"| `timing.{old.name}` | {both} | {old.says} |" in lines
    assert all(any(f"`{word}` (" in line for line in lines) for word in get_args(Maturity))
