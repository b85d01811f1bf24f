"""Chinese help fits the terminal, whatever its width, and says all of it."""

import pytest
from click.testing import CliRunner

from field.folding import cells, folded, joined
from field.main import main
from field.usage import help_zh
from tests.house import commands

COMMANDS = [path for path, _ in commands(main)]


@pytest.mark.parametrize("width", [20, 38, 60, 78])
def test_text_is_folded_by_what_a_terminal_shows_and_nothing_is_lost(width: int) -> None:
    told = [text for path in COMMANDS for text in help_zh(path).values()]
    assert len(told) > 100
    for sentence in (sentence for text in told for sentence in joined(text.splitlines())):
        lines = list(folded(sentence, width))
        assert "".join("".join(lines).split()) == "".join(sentence.split())
        for line in lines:
            assert cells(line) <= width or " " not in line, "only what is one word"
            assert not line.startswith(("，", "。", "；", "：", "、", "）")) and not line.endswith("（")


def test_lines_of_a_file_are_put_together_as_they_are_spoken() -> None:
    lines = [
        "先问任意表的地址，",
        "再逐字节区分；类型为",
        "uint16。",
        "示例：read --meter 1",
        "  --json",
        "",
        "退出码：",
        "0 好。",
    ]
    assert list(joined(lines)) == [
        "先问任意表的地址，再逐字节区分；类型为 uint16。", "示例：read --meter 1 --json", "", "退出码：", "0 好。",
    ]  # fmt: skip


@pytest.mark.parametrize("path", COMMANDS)
def test_help_of_every_command_fits_a_terminal_of_80_columns(path: str) -> None:
    for lang in ("zh", "en"):
        shown = CliRunner().invoke(main, [*path.split()[1:], "--help", "--lang", lang], env={"COLUMNS": "80"})
        assert shown.exit_code == 0 and shown.output
        assert [line for line in shown.output.splitlines() if cells(line) > 80] == []
