"""Shipped meter models are whole, and a wrong profile is told whole."""

import json
from decimal import Decimal
from pathlib import Path
from typing import get_args

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
)
from protocols.dlt645.codes import Edition
from protocols.dlt645.items import layout
from protocols.dlt645.items import quantities as quantities_of
from protocols.modbus.registers import Format, Type
from protocols.quantity import by_name


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
    promised = {"dlt645-2007-1p", "dlt645-2007-3p", "dlt645-1997", "modbus-generic"}
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
        (HEAD.replace("sources", "source"), "sources", "where each fact comes from"),
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
        (item('register = 1, type = "uint16"') + decision(""), "decision[1].items", "what it is about"),
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


def test_word_order_function_and_codes_come_with_each_item() -> None:
    profile = parse(
        HEAD + '[modbus]\nword_order = "little"\nfunction = "input"\n[items]\n'
        '"voltage.a" = { register = 1, type = "uint16", scale = "0.1", unavailable = ["FFFF"] }\n'
        '"frequency" = { register = 2, type = "float32", function = "holding" }\n'
        '"vendor.ripple" = { register = 9, type = "int32", unit = "mV" }\n'
    )
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
