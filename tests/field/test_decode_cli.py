"""`meterwire decode`: every recorded frame gives what was recorded of it, and bad input gives an error, not a crash."""

import json
import re
from decimal import Decimal
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from field.main import main
from tests.dlt645 import BROKEN, VECTORS, WHOLE, label

KEYS = [
    "protocol",
    "valid",
    "error",
    "direction",
    "address",
    "control",
    "length",
    "data",
    "di",
    "values",
    "refusal",
    "seq",
]


def run(*arguments: str, stdin: str | bytes = "") -> Result:
    return CliRunner().invoke(main, ["decode", *arguments], input=stdin, catch_exceptions=False)


def objects(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture(scope="module")
def decoded() -> dict[str, dict[str, Any]]:
    """All recorded frames through one run of the command, by the label of the vector."""
    result = run("--json", stdin="\n".join(vector["hex"] for vector in VECTORS) + "\n")
    assert result.exit_code == 1  # twelve of them are broken
    lines = objects(result)
    assert len(lines) == len(VECTORS) == 158
    return {vector["id"]: line for vector, line in zip(VECTORS, lines, strict=True)}


@pytest.mark.parametrize("vector", VECTORS, ids=label)
def test_a_recorded_frame_gives_what_was_recorded(vector: dict[str, Any], decoded: dict[str, dict[str, Any]]) -> None:
    line, meaning = decoded[vector["id"]], vector["meaning"]
    assert list(line)[: len(KEYS)] == KEYS
    assert line["valid"] is vector["valid"]
    assert line["protocol"] == f"dlt645-{vector['standard']}"
    assert line["direction"] == vector["direction"]
    assert (line["address"], line["control"], line["length"]) == (
        meaning["address"], meaning["control"], meaning["length"],
    )  # fmt: skip
    assert line["data"] == meaning["data_minus33"].replace(" ", "")
    assert line["di"] == meaning.get("di")
    assert line["seq"] == meaning.get("seq")
    if vector["valid"]:
        assert line["error"] is None
        assert line["refusal"] == meaning.get("errors")


@pytest.mark.parametrize("vector", BROKEN, ids=label)
def test_a_broken_frame_gives_a_typed_error_and_no_value(
    vector: dict[str, Any], decoded: dict[str, dict[str, Any]]
) -> None:
    line = decoded[vector["id"]]
    _, _, got, _, expected = vector["invalid_reason"].split()  # checksum: frame E8 computed E7
    assert line["error"] == f"Malformed: checksum: expected {expected}, got {got}"
    assert line["values"] == []


@pytest.mark.parametrize("vector", [v for v in WHOLE if "value" in v["meaning"]], ids=label)
def test_a_recorded_value_is_decoded(vector: dict[str, Any], decoded: dict[str, dict[str, Any]]) -> None:
    meaning, values = vector["meaning"], decoded[vector["id"]]["values"]
    recorded = meaning["value"]
    if meaning["control"] in ("16", "08"):
        recorded = recorded.replace(" ", "T")
    if meaning.get("item") == "freeze command":
        assert values == []
    elif isinstance(recorded, list):
        assert [value["value"] for value in values] == recorded
    elif recorded == "invalid(FF)" or recorded.startswith("non-BCD"):
        quality = "unavailable" if recorded == "invalid(FF)" else "invalid"
        assert [(value["value"], value["quality"]) for value in values] == [(None, quality)]
    elif "weekday" in recorded:
        day, weekday, *time = re.fullmatch(r"(\S+) weekday (\d)(?: (\S+))?", recorded).groups()  # type: ignore[union-attr]
        iso = f"{day}T{time[0]}" if time[0] else day
        assert [value["value"] for value in values] == [iso, weekday]
    elif "@" in recorded:
        number, *unit, day, time = recorded.replace("@ ", "").split()
        assert [value["value"] for value in values] == [number, f"{day}T{time}"]
        assert values[0]["unit"] == (*unit, meaning.get("unit"))[0]
    else:
        assert [value["value"] for value in values] == [recorded]
        unit = {"degC": "°C", "": "1"}.get(meaning.get("unit", "-"), meaning.get("unit", ""))
        assert values[0]["unit"] == unit
    assert all(value["quality"] == "good" for value in values if value["value"] is not None)


@pytest.mark.parametrize(
    ("vector", "texts"),
    [
        ("V021", ["30000.0000"]), ("V163", ["000006605518"]), ("V164", ["220.0V"]), ("V165", ["1200"]),
        ("V166", ["5.0A"]), ("V167", ["2.0"]), ("V180", ["071801024091"]), ("V022", [None]), ("V216", ["0.00", "0.00"]),
    ],
)  # fmt: skip
def test_texts_and_long_energies_are_decoded(
    vector: str, texts: list[str | None], decoded: dict[str, dict[str, Any]]
) -> None:
    assert [value["value"] for value in decoded[vector]["values"]] == texts


def test_numbers_are_plain_and_exact(decoded: dict[str, dict[str, Any]]) -> None:
    numbers = [
        v["value"] for line in decoded.values() for v in line["values"] if v["value"] and v["unit"] not in ("", "1")
    ]
    assert len(numbers) > 40
    assert all(format(Decimal(number), "f") == number for number in numbers)


def test_exit_codes_say_how_much_was_whole() -> None:
    good, bad = "68aaaaaaaaaaaa681300df16", "68aaaaaaaaaaaa681300de16"
    assert [run(*frames).exit_code for frames in ([good], [good, bad], [bad], [bad, "zz"])] == [0, 1, 3, 3]
    assert run("--json", stdin="").exit_code == 0
    assert run("--protocol", "nonsense", good).exit_code == 2


@pytest.mark.parametrize(
    "dressed",
    [
        "68 AA AA AA AA AA AA 68 13 00 DF 16",
        "0x68,0xaa,0xaa,0xaa,0xaa,0xaa,0xaa,0x68,0x13,0x00,0xdf,0x16",
        "68:AA:AA:AA:AA:AA:AA:68:13:00:DF:16\r",
        "\ufeff68-aaaaaaaaaaaa-68-13-00-df-16",
    ],
)
def test_hex_may_be_dressed_in_any_way(dressed: str) -> None:
    assert [line["valid"] for line in objects(run("--json", stdin=dressed))] == [True]
    assert run(*dressed.split()).exit_code == 0


@pytest.mark.parametrize(
    ("line", "error", "kept"),
    [
        ("zz", "Malformed: hex: expected digits 0-9 A-F, got 'z' at character 1", {}),
        ("68a", "Malformed: hex: expected whole bytes, got 3 digits", {}),
        ("1616", "Malformed: start: expected 68, got 16", {"address": None, "skipped": "1616"}),
        ("68112233", "Malformed: length: expected at least 12 bytes, got 4", {"address": None}),
        ("6801020304050668", "Malformed: length: expected at least 12 bytes, got 8", {"address": "060504030201"}),
        (
            "fefe680100000000006891083333343333", "Malformed: length: expected 20 bytes (L=8), got 15",
            {"address": "000000000001", "control": "91", "di": "00010000", "data": "0000010000", "values": []},
        ),
        ("68aaaaaaaaaaaa691300df16", "Malformed: second start: expected 68 after the address, got 69", {"length": 0}),
        ("68aaaaaaaaaaaa681300df17", "Malformed: end: expected 16, got 17", {"control": "13"}),
    ],
)  # fmt: skip
def test_what_can_still_be_read_stands_beside_the_error(line: str, error: str, kept: dict[str, Any]) -> None:
    result = run("--json", line)
    (got,) = objects(result)
    assert (result.exit_code, got["valid"], got["error"]) == (3, False, error)
    assert {key: got[key] for key in kept} == kept


def test_the_first_whole_frame_of_a_line_is_decoded_and_the_rest_is_shown() -> None:
    first, second = "68aaaaaaaaaaaa681300df16", "6845566445566468110434333938bb16"
    (line,) = objects(run("--json", "681122" + first + second))
    assert (line["valid"], line["control"], line["skipped"], line["rest"]) == (True, "13", "681122", second.upper())


def test_the_edition_can_be_given() -> None:
    frame = "68999999999999680806335b493a454c1616"
    assert [objects(run("--json", *extra, frame))[0]["protocol"] for extra in ([], ["--protocol", "dlt645-1997"])] == [
        "dlt645-2007", "dlt645-1997",
    ]  # fmt: skip


def test_people_see_every_byte_with_its_meaning_in_both_languages() -> None:
    for lang, words in {
        "en": ["address 005223440001", "identifier 0001FF00", "energy.active.import.t3 3.89 kWh", "checksum, right"],
        "zh": ["地址 005223440001", "数据标识 0001FF00", "正向有功费率3电能 3.89 kWh", "校验码，正确"],
    }.items():
        shown = run("--lang", lang, "6801004423520068911833323433bc3633333333333333333333bc363333333333331316").stdout
        assert all(word in shown for word in words)
        assert "BC 36 33 33" in shown


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_people_see_every_byte_of_every_recorded_frame(lang: str) -> None:
    for vector in VECTORS:
        shown = run("--lang", lang, vector["hex"]).stdout
        grouped = "".join(re.findall(r"^  ((?:[0-9A-F]{2}(?: |$))+)", shown, re.MULTILINE))
        assert grouped.replace(" ", "").lower() == vector["hex"]


def ascii_hex(text: str) -> str:
    """An ASCII frame with its end, as hex."""
    return (text.encode() + b"\r\n").hex().upper()


@pytest.mark.parametrize(
    ("protocol", "line", "expected"),
    [
        ("modbus-rtu", "010300000002C40B", {"valid": True, "direction": "request", "address": "1", "control": "03"}),
        ("modbus-rtu", "01030400AB00CD4A46", {"valid": True, "direction": "response", "data": "0400AB00CD"}),
        ("modbus-rtu", "018302C0F1", {"valid": True, "direction": "response", "refusal": ["illegal data address"]}),
        ("modbus-rtu", "010300000002C40C", {"valid": False, "error": "Malformed: checksum: expected C40B, got C40C"}),
        ("modbus-rtu", "01", {"valid": False, "error": "Malformed: length: expected 4 to 256 bytes, got 1"}),
        ("modbus-tcp", "000100000006010400000002", {"valid": True, "seq": 1, "direction": "request"}),
        ("modbus-tcp", "00010000000701040400AB00CD", {"valid": True, "direction": "response", "data": "0400AB00CD"}),
        ("modbus-tcp", "000100010006010400000002", {"error": "Malformed: protocol: expected 0000, got 0001"}),
        ("modbus-tcp", "0001000000060104000002", {"error": "Malformed: length: expected 12 bytes, got 11"}),
        ("modbus-rtu", "112B0E0100B1B4", {"valid": True, "direction": "request", "control": "2B"}),
        ("modbus-ascii", ascii_hex(":1103006B00037E"), {"valid": True, "direction": "request", "address": "17"}),
        ("modbus-ascii", ascii_hex(":018302" + "7A"), {"valid": True, "refusal": ["illegal data address"]}),
        ("modbus-ascii", ascii_hex(":1103006B00037F"), {"error": "Malformed: checksum: expected 7E, got 7F"}),
        ("modbus-ascii", ascii_hex(":7E"), {"error": "Malformed: length: expected 3 to 255 bytes, got 1"}),
        ("modbus-ascii", "3A3131", {"valid": False}),
    ],
)  # fmt: skip
def test_modbus_frames_are_taken_apart(protocol: str, line: str, expected: dict[str, Any]) -> None:
    result = run("--json", "--protocol", protocol, line)
    (got,) = objects(result)
    assert {key: got[key] for key in expected} == expected
    assert list(got)[: len(KEYS)] == KEYS
    assert result.exit_code == (0 if got["valid"] else 3)
    shown = run("--lang", "zh", "--protocol", protocol, line).stdout
    assert "".join(re.findall(r"^  ((?:[0-9A-F]{2}(?: |$))+)", shown, re.MULTILINE)).replace(" ", "") == line


@pytest.mark.parametrize("line", [":1103006B00037E", " :1103006B00037E\r"])
def test_a_frame_in_characters_may_be_given_as_it_stands(line: str) -> None:
    (got,) = objects(run("--json", "--protocol", "modbus-ascii", stdin=line + "\n"))
    assert (got["protocol"], got["valid"], got["control"], got["data"]) == ("modbus-ascii", True, "03", "006B0003")


@given(st.lists(st.binary(max_size=40) | st.text(max_size=20).map(str.encode), max_size=4))
def test_no_input_crashes_it(lines: list[bytes]) -> None:
    for arguments in (["--json"], ["--lang", "zh"]):
        result = run(*arguments, stdin=b"\n".join(lines))
        assert result.exit_code in (0, 1, 3)
    asked = [line for line in b"\n".join(lines).split(b"\n") if line.strip()]
    assert len(objects(run("--json", stdin=b"\n".join(lines)))) == len(asked)


@given(
    st.lists(st.binary(max_size=60).map(bytes.hex), min_size=1, max_size=4), st.sampled_from(["rtu", "tcp", "ascii"])
)
def test_random_bytes_are_never_a_crash(lines: list[str], modbus: str) -> None:
    for arguments in (["--json"], ["--lang", "en"], ["--protocol", f"modbus-{modbus}"]):
        assert run(*arguments, stdin="\n".join(lines)).exit_code in (0, 1, 3)
