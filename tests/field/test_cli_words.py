"""What is said in Chinese is said whole: every message of the parts below, every help text, every usage mistake."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from rich.cells import cell_len

from central import config as central_config
from config import load
from config.meters import COLUMNS, REQUIRED_COLUMNS
from config.mistake import Mistake
from config.toml import REQUIRED
from field.chinese import chinese, translated
from field.main import main
from field.output import FAULTS_ZH, mistake_zh
from field.usage import help_zh
from protocols.capture import Fault
from protocols.modbus.frame import EXCEPTIONS
from tests.house import commands

ROOT = Path(__file__).parents[2]
HAN = re.compile(r"[一-鿿]")

SAYING = {
    "Mistake", "ConfigError", "Malformed", "IdentityError", "PortLost", "PortBusy", "SinkAway", "SinkUnfit",
    "StoreBusy", "StoreForeign", "StoreFull", "StoreDamaged", "StoreFailed", "FileNotFoundError", "PermissionError",
    "OSError", "wrong", "fail",
}  # fmt: skip
"""Calls whose texts reach people; ValueError besides, where the configuration is read."""
READERS = ["config/values.py", "config/meters.py", "central/config.py", "drivers/notation.py", "simulators/describe.py"]
SPEAKERS = [
    "config/load.py", "config/toml.py", "drivers/plan.py", "drivers/fit.py", "drivers/line_serial.py",
    "drivers/line_tcp.py",
    "identity/files.py", "identity/gateway.py", "identity/public.py", "identity/private.py",
    "identity/rotation.py", "identity/token.py", "identity/wrapping.py", "identity/trust.py", "identity/client.py",
    "central/look.py", "central/archive.py", "protocols/dlt645/frame.py", "field/decode/command.py",
    "field/decode/modbus.py",
    "field/read.py", "field/port.py", "field/diagnosis/doctor.py", "field/diagnosis/scan.py",
    "buffer/outbox.py", "buffer/sqlite.py", "buffer/opening.py", "buffer/spare.py", "field/offline.py",
    "central/sinks/sqlite.py", "central/sinks/postgres.py", "central/sinks/postgres_look.py",
    "central/sinks/partitions.py",
]  # fmt: skip


def templates(node: ast.expr) -> Iterator[str]:
    """The texts that an expression may be, `{}` where something is filled in; nothing where it is no text."""
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.JoinedStr(values=parts):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in parts)
        case ast.IfExp(body=body, orelse=orelse):
            yield from templates(body)
            yield from templates(orelse)


def said(file: str, calls: set[str]) -> Iterator[tuple[int, str]]:
    """Each text in the calls of a file, and in the variables called `expected` or `detail`: (line, template)."""
    for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
        match node:
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=args) if name in calls:
                found = args[-2:] if name in ("Mistake", "wrong") else args[:1]
            case ast.Assign(targets=[ast.Name(id="expected" | "detail")], value=value):
                found = [value]
            case _:
                continue
        yield from ((node.lineno, text) for argument in found for text in templates(argument))


def filled(template: str) -> str:
    """As it may come out. A reason that is filled in behind a path is one that can be said."""
    text = re.sub(r": \{\}$", ": closed", template) if re.match(r"^(\{\}|SQLite): \{\}$", template) else template
    text = text.replace(": {}; check the disk", ": closed; check the disk")
    text = re.sub(r"got \{\};", "got none;" if "got those" in text else "got No such file or directory;", text)
    text = text.replace("those of a {}", "those of a gateway").replace("keys of a {}", "keys of a centre")
    text = text.replace("other keys of {} {}", "other keys of gateway {}").replace("that of {} ", "that of gateway ")
    text = text.replace("wrap: expected {} keys", "wrap: expected no keys").replace("; {}", "; check the path")
    return text.replace("{}", "x1")


WORDS_OF_THEIR_OWN = re.compile(r"^(|one of |[^ ]*\{\}(, \{\})*|\{\} \(\{\}\))$")
"""Templates without a word: a value, or a list of names."""


def messages() -> list[tuple[str, str]]:
    found = [(f"{file}:{line}", text) for file in SPEAKERS for line, text in said(file, SAYING)]
    found += [(f"{file}:{line}", text) for file in READERS for line, text in said(file, {*SAYING, "ValueError"})]
    return [(at, text) for at, text in found if " " in text and not WORDS_OF_THEIR_OWN.match(text)]


def test_every_message_of_the_parts_below_has_its_chinese() -> None:
    found = messages()
    assert len(found) > 80, "the search finds nothing any more"
    lacking = [f"{at}: {text}" for at, text in found if translated(filled(text)) is None]
    assert not lacking, "\n".join(lacking)


def test_no_template_takes_what_another_one_says_better() -> None:
    said = tomllib.loads((ROOT / "field/messages_zh.toml").read_text(encoding="utf-8"))
    assert len(said) > 200
    place = re.compile(r"\{([A-Za-z]+)\d?\}")
    wrong = []
    for english, zh in said.items():
        came = place.sub(lambda at: "x1" if at[1].isupper() else "closed", english)
        wanted = place.sub(lambda at: "x1" if at[1].isupper() else chinese("closed"), zh)
        if translated(came) != wanted:
            wrong.append(f"{came}: {translated(came)}")
    assert not wrong, "\n".join(wrong)


def test_what_stands_in_tables_has_its_chinese() -> None:
    keys = [
        key for tables in (load.TABLES, load.ARRAYS, central_config.TABLES) for keys in tables.values() for key in keys
    ]
    said_of_keys = [key.asked for key in keys if key.default is REQUIRED]
    columns = [COLUMNS[column].rstrip(".") for column in REQUIRED_COLUMNS]
    lacking = [text for text in (*said_of_keys, *columns, *EXCEPTIONS.values()) if translated(text) is None]
    assert not lacking
    assert {fault.value for fault in Fault} == FAULTS_ZH.keys()


@pytest.mark.parametrize(
    ("english", "zh"),
    [
        ("/dev/ttyS9: no such device", "/dev/ttyS9：设备不存在"),
        ("02: no requested data", "02：无请求数据"),
        ("06: no requested data, wrong password/unauthorised", "06：无请求数据、密码错/未授权"),
        ("exception 02 illegal data address", "异常码 02：非法数据地址"),
        ("Cannot declare ('bus',) twice (at line 3, column 5)", "第 3 行第 5 列：('bus',) 重复声明"),
        ("k/a.key: expected a key file, got Permission denied; check the path",
         "k/a.key：应为密钥文件，实为：权限不足；请检查路径"),
    ],
)  # fmt: skip
def test_messages_are_said_with_what_is_filled_in(english: str, zh: str) -> None:
    assert chinese(english) == zh


@pytest.mark.parametrize("text", ["a reason that nobody foresaw", "/dev/ttyS9: a reason that nobody foresaw"])
def test_what_cannot_be_said_whole_stays_english_whole(text: str) -> None:
    assert chinese(text) == text
    mistake = Mistake("site.toml", "bus[1].port", text, "nothing")
    assert mistake_zh(mistake) == str(mistake)


PROSE = re.compile(r"[A-Za-z]{3,} [a-z]{2,} [a-z]{2,}")
"""Three English words in a row."""


def prose(text: str) -> list[str]:
    """English sentences in a text; the names of our commands are none."""
    return PROSE.findall(re.sub(r"meterwire( [a-z]+)*", "", text))


def helped(name: str, lang: str) -> str:
    result = CliRunner().invoke(main, [*name.split()[1:], "--lang", lang, "--help"])
    assert result.exit_code == 0, result.output
    return result.output


def every_name() -> list[str]:
    """The whole name of every command and group."""
    names = [name for name, _ in commands(main)]
    return sorted({" ".join(name.split()[:n]) for name in names for n in range(1, 4)} | set(names))


@pytest.mark.parametrize("name", every_name())
def test_help_is_there_in_both_languages(name: str) -> None:
    english, zh = helped(name, "en"), helped(name, "zh")
    assert not HAN.search(english)
    assert HAN.search(zh)
    assert not prose(zh)
    assert "\n选项：\n" in zh and not re.search(r"[一-鿿]:", zh), "the colon of Chinese is a wide one"


def test_the_first_line_of_chinese_help_is_a_whole_sentence_that_fits_a_terminal() -> None:
    firsts = {name: help_zh(name)["help"].strip().splitlines()[0] for name in every_name()}
    assert {name: line for name, line in firsts.items() if not line.endswith("。") or cell_len(line) > 76} == {}


@pytest.mark.parametrize(("line", "said"), [
    ("config chek", "没有命令 'chek'，是否指 'check'？"),
    ("read --protoco x", "没有选项 '--protoco'，是否指下列之一：'--port', '--protocol'？"),
    ("read --port x voltage.a", "缺少选项 '--protocol'，可选：dlt645-2007, "),
])  # fmt: skip
def test_a_slip_is_told_with_what_may_be_meant(line: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "C")
    result = CliRunner().invoke(main, [*line.split(), "--lang", "zh"])
    assert said in result.stderr
    assert f"请用 'meterwire {line.split()[0]} --help --lang zh' 查看说明。" in result.stderr


def test_chinese_help_names_every_option_and_no_other() -> None:
    shared = {"--json", "--lang", "--help", "--version"}
    assert help_zh("every command").keys() == shared
    for name, command in commands(main):
        options = {o for p in command.params for o in p.opts if o.startswith("--") and isinstance(p, click.Option)}
        assert help_zh(name).keys() - {"help"} == options - shared, name
        codes = [re.findall(r"(?<!\d)[0-4] ", text) for text in (command.help or "", help_zh(name)["help"])]
        assert set(codes[0][-4:]) == set(codes[1][-4:]), f"{name}: other exit codes in Chinese"


USAGE = [
    "",
    "config",
    "config colour",
    "read",
    "read --port",
    "read --port x --protocol dlt645-2008 --meter 1 voltage.a",
    "read --port x --protocol dlt645-2007 --meter 1 --timeout soon voltage.a",
    "decode --protcol x",
    "decode --json=yes",
    "demo --seconds 1",
    "demo --seconds soon",
    "demo now",
    "sim",
    "keys init",
    "keys init queen",
    "keys trust no-such-file.json",
    "keys trust",
    "central gaps --since yesterday",
]


@pytest.mark.parametrize("line", [line for line in USAGE if line])
def test_a_usage_mistake_is_said_in_the_language_asked_for(line: str) -> None:
    for lang in ("en", "zh"):
        result = CliRunner().invoke(main, [*line.split(), "--lang", lang])
        assert result.exit_code == 2
        assert result.stdout == ""
        assert bool(HAN.search(result.stderr)) == (lang == "zh"), result.stderr
        assert lang == "en" or not prose(result.stderr)
        assert "Traceback" not in result.stderr


@pytest.mark.parametrize("line", ["--lang zh status -c no.toml", "config --lang zh check -c no.toml"])
def test_the_language_may_be_asked_for_before_the_command(line: str) -> None:
    result = CliRunner().invoke(main, line.split())
    assert result.exit_code == 2
    assert HAN.search(result.stderr) and not prose(result.stderr.replace("no.toml", "")), result.stderr


def test_the_locale_gives_the_language(monkeypatch: pytest.MonkeyPatch) -> None:
    for locale, lang in {"zh_CN.UTF-8": "zh", "en_US.UTF-8": "en", "C": "en"}.items():
        monkeypatch.setenv("LC_ALL", locale)
        assert bool(HAN.search(CliRunner().invoke(main, ["--help"]).output)) == (lang == "zh")
        assert not HAN.search(CliRunner().invoke(main, ["--lang", "en", "--help"]).output)
        assert CliRunner().invoke(main, []).exit_code == 2
