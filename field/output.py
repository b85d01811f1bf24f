"""How every command speaks: --json and --lang on each of them, exit codes, one object a line."""

import json
import os
import re
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from config.mistake import Mistake
from field.chinese import chinese, translated
from field.usage import SpokenCommand, lang_option, spoken

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

WIDTH = 160
"""Columns of a table where there is no terminal to ask: a line of a pipe is not folded."""
LEAST = 8
"""Columns of the terminal in which words can still be read; a number or a name is never broken."""
BETWEEN = 3
"""Columns of the terminal between two columns of a table."""
_WHOLE = re.compile(r"[!-~]*|[-+:.0-9 ]*")
"""What is not broken: a name or an address, which has no space, and a time, which has no letters."""

FAULTS_ZH = {
    "bus": "总线故障", "silent": "无应答", "garbled": "报文损坏", "refused": "被拒绝", "absent": "无此项",
    "implausible": "不合理", "clock": "时钟不可信", "missed": "漏采", "internal": "程序内部错误",
    "dropped": "磁盘满时舍弃",
}  # fmt: skip


class Exit(IntEnum):
    """The exit codes of every command."""

    GOOD = 0
    PART = 1
    USAGE = 2
    NOTHING = 3
    BUSY = 4


class Output:
    """Where a command's words go: tables and sentences for people, or one JSON object a line for machines."""

    def __init__(self, *, as_json: bool, lang: str) -> None:
        self.as_json = as_json
        self.lang = lang

    def say(self, en: str, zh: str) -> str:
        """The text in the language asked for."""
        return zh if self.lang == "zh" else en

    def told(self, text: str) -> str:
        """A message of a part below (they speak English), in the language asked for."""
        return chinese(text) if self.lang == "zh" else text

    def fault(self, name: str) -> str:
        """A fault's word for people."""
        return self.say(name, FAULTS_ZH.get(name, name))

    def line(self, en: str, zh: str) -> None:
        """A sentence for people; nothing with --json."""
        if not self.as_json:
            click.echo(self.say(en, zh))

    def object(self, value: Mapping[str, object]) -> None:
        """One JSON object on a line of its own; nothing without --json."""
        if self.as_json:
            click.echo(json.dumps(value, ensure_ascii=False))

    def table(self, *heads: tuple[str, str], right: Collection[str] = ()) -> "Table":
        """A table for people, its heads (English, Chinese) in the language asked for; none for facts of two columns.

        right: the English heads of columns that are set to the right. What is too wide is folded, never cut off.
        """
        from rich import box
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAD if heads else None, pad_edge=False, show_header=bool(heads), show_edge=False)
        for en, zh in heads or (("", ""), ("", "")):
            number = en in right
            table.add_column(self.say(en, zh), justify="right" if number else "left", overflow="fold", no_wrap=number)
        return table

    def show(self, *tables: "RenderableType", clear: bool = False) -> None:
        """Tables for people; nothing with --json. clear: on a screen that is wiped first.

        A table that is too wide for the terminal is told row by row, a line a cell."""
        if self.as_json:
            return
        from rich.console import Console
        from rich.table import Table

        width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else WIDTH
        console = Console(highlight=False, markup=False, emoji=False, width=width)
        if clear:
            console.clear()
        for one in tables:
            if isinstance(one, Table):
                _keep_names(one)
        fitting = [self._upright(one) if isinstance(one, Table) and _needs(one) > console.width else one
                   for one in tables]  # fmt: skip
        with console.capture() as drawn:
            console.print(*fitting, sep="\n")
        click.echo("\n".join(line.rstrip() for line in drawn.get().splitlines()))

    def _upright(self, table: "Table") -> "Table":
        """The same, row by row: head and cell of each column that has something to say."""
        rows = zip(*(column.cells for column in table.columns), strict=True)
        told = self.table()
        for number, row in enumerate(rows):
            if number:
                told.add_row("", "")
            for column, cell in zip(table.columns, row, strict=True):
                if cell:
                    told.add_row(column.header, cell)
        return told

    def error(self, en: str, zh: str) -> None:
        """What went wrong, on standard error, in both modes."""
        click.echo(self.say(en, zh), err=True)

    def wrong(self, text: str) -> None:
        """What a part below says is wrong, on standard error, in both modes."""
        self.error(text, chinese(text))

    def mistakes(self, mistakes: Iterable[Mistake]) -> None:
        """Every mistake: a sentence each on standard error, and with --json an object each."""
        for mistake in mistakes:
            click.echo(mistake_zh(mistake) if self.lang == "zh" else str(mistake), err=True)
            self.object(asdict(mistake))


def _keep_names(table: "Table") -> None:
    """A column of names, addresses or times is not broken: only what has words in it, or Chinese, is folded."""
    for column in table.columns:
        column.no_wrap = column.no_wrap or all(_WHOLE.fullmatch(str(cell)) for cell in column.cells)


def _needs(table: "Table") -> int:
    """Columns of the terminal without which a table cannot be read: numbers and names whole, words in some."""
    from rich.cells import cell_len

    if not table.show_header:
        return 0
    needs = BETWEEN * (len(table.columns) - 1)
    for column in table.columns:
        widest = max(cell_len(str(cell)) for cell in (column.header, *column.cells))
        needs += widest if column.no_wrap else min(widest, LEAST)
    return needs


def let_go() -> None:
    """Drop what standard output does not take: tried again at the end, it would fail again, with Python's words."""
    try:
        sys.stdout.flush()
    except OSError:
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  open until the end


def words(error: Exception) -> str:
    """An error of the system as `PATH: reason`, without its number."""
    if not isinstance(error, OSError) or error.strerror is None:
        return str(error) or type(error).__name__
    return f"{error.filename}: {error.strerror}" if error.filename else error.strerror


def mistake_zh(mistake: Mistake) -> str:
    """A mistake in Chinese; in English where what was expected cannot be said."""
    expected = translated(mistake.expected)
    if expected is None:
        return str(mistake)
    where = mistake.where
    if where.startswith("row "):
        row, _, column = where.removeprefix("row ").partition(", ")
        where = f"第 {row} 行" + (f"，{chinese(column)}" if column else "")
    return f"{chinese(mistake.file)}：{chinese(where)}：应为{_apart(expected)}，实为{_apart(chinese(mistake.got))}"


def _apart(text: str) -> str:
    """A space between Chinese and what is not."""
    return f" {text}" if text[:1].isascii() else text


def command(name: str, **attributes: Any) -> Callable[[Callable[..., Any]], click.Command]:
    """A click command with --json and --lang; the function gets an Output first and may return an Exit."""

    def wrap(function: Callable[..., Any]) -> click.Command:
        def run(as_json: bool, lang: str | None, **arguments: Any) -> None:
            # Of the whole line: --lang may stand before the command too.
            out = Output(as_json=as_json, lang=spoken(click.get_current_context()))
            try:
                code = function(out, **arguments)
            except BrokenPipeError:
                raise  # who reads has gone: click ends quietly
            except OSError as error:
                out.wrong(words(error))
                let_go()
                code = Exit.NOTHING
            raise SystemExit(int(code if code is not None else Exit.GOOD))

        run.__doc__ = function.__doc__
        run.__click_params__ = list(getattr(function, "__click_params__", []))  # type: ignore[attr-defined]
        as_json = click.Option(["--json", "as_json"], is_flag=True, help="One JSON object a line, for machines.")
        decorate: Callable[[Callable[..., None]], click.Command] = click.command(name, cls=SpokenCommand, **attributes)
        made = decorate(run)
        made.params += [as_json, lang_option()]
        return made

    return wrap
