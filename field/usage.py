"""Help and usage mistakes in the language asked for: `--lang`, wherever it stands on the line, or the locale."""

import locale
import os
import tomllib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from itertools import pairwise
from typing import Any, Final

import click

from field.chinese import translated
from field.folding import cells, folded, joined

LANGUAGES: Final = ("zh", "en")
NAMES_MAX: Final = 30
"""Columns for the names of options and commands in Chinese help, as click has them; a longer one has its own line."""
_KEY: Final = "field.usage.lang"
_PIECES: Final = {"[OPTIONS]": "[选项]", "COMMAND [ARGS]...": "命令 [参数]..."}


def default_lang() -> str:
    """zh or en, from the locale."""
    name = os.environ.get("LC_ALL") or os.environ.get("LC_MESSAGES") or os.environ.get("LANG") or ""
    return "zh" if (name or locale.getlocale()[0] or "").lower().startswith(("zh", "chinese")) else "en"


def lang_in(arguments: Sequence[str]) -> str:
    """The language that a command line asks for, read before the line is: its help and mistakes depend on it."""
    found = default_lang()
    for argument, following in pairwise([*arguments, ""]):
        if argument == "--":
            break
        name, _, value = argument.partition("=")
        if name == "--lang" and (value or following) in LANGUAGES:
            found = value or following
    return found


def lang_option() -> click.Option:
    """--lang: what it says is taken from the whole line by `lang_in`."""
    return click.Option(["--lang"], type=click.Choice(LANGUAGES), help="Language; default from the locale.")


def spoken(ctx: click.Context) -> str:
    """The language of this run."""
    return str(ctx.meta.get(_KEY, "en"))


@cache
def _help() -> dict[str, dict[str, str]]:
    """Chinese help: by the whole name of a command, its text and its options'."""
    return tomllib.loads(files("field").joinpath("help_zh.toml").read_text(encoding="utf-8"))


def help_zh(path: str) -> dict[str, str]:
    """The Chinese help of a command, by its whole name (`meterwire keys init`)."""
    return _help().get(path, {})


class UsageMistake(click.UsageError):
    """A usage mistake, said in Chinese."""

    def show(self, file: Any = None) -> None:
        """What is wrong, and where help is, on standard error."""
        path = self.ctx.command_path if self.ctx is not None else "meterwire"
        if self.ctx is not None:
            click.echo(self.ctx.get_usage(), err=True)
        option = "" if default_lang() == "zh" else " --lang zh"
        click.echo(f"请用 '{path} --help{option}' 查看说明。\n", err=True)
        click.echo(f"错误：{self.message}", err=True)


class _Spoken(click.Command):
    """A command whose help is also there in Chinese."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta.setdefault(_KEY, lang_in(args))
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            raise _said(error, ctx) from None

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            raise _said(error, ctx) from None

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if spoken(ctx) != "zh":
            super().format_usage(ctx, formatter)
            return
        pieces = " ".join(_PIECES.get(piece, piece) for piece in self.collect_usage_pieces(ctx))
        formatter.write_usage(ctx.command_path, pieces, prefix="用法：")

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if spoken(ctx) != "zh":
            super().format_help_text(ctx, formatter)
            return
        for sentence in ["", *joined(help_zh(ctx.command_path)["help"].strip().splitlines())]:
            for line in folded(sentence, formatter.width - 2):
                formatter.write(f"  {line}".rstrip() + "\n")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if spoken(ctx) != "zh":
            super().format_options(ctx, formatter)
            return
        texts = {**help_zh("every command"), **help_zh(ctx.command_path)}
        rows = []
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx) if isinstance(param, click.Option) else None
            if record is not None:
                name = next(option for option in param.opts if option.startswith("--"))
                rows.append((record[0], texts[name] + _default(param)))
        _section(formatter, "选项", rows)

    def get_short_help_str(self, limit: int = 45) -> str:
        ctx = click.get_current_context(silent=True)
        if ctx is None or spoken(ctx) != "zh":
            return super().get_short_help_str(limit=1000)  # the whole first sentence: what is too wide is folded
        return help_zh(f"{ctx.command_path} {self.name}")["help"].strip().splitlines()[0]


def _section(formatter: click.HelpFormatter, heading: str, rows: Sequence[tuple[str, str]]) -> None:
    """As click's own, with the colon of Chinese, and folded by what a terminal shows, not by characters."""
    formatter.write(f"\n{heading}：\n")
    names = min(max(cells(name) for name, _ in rows), NAMES_MAX) + 2
    for name, text in rows:
        told = list(folded(text, formatter.width - 2 - names))
        if cells(name) > NAMES_MAX:
            formatter.write(f"  {name}\n")
            name = ""
        for line in told:
            formatter.write(f"  {name}{' ' * (names - cells(name))}{line}".rstrip() + "\n")
            name = ""


def _default(param: click.Parameter) -> str:
    if param.required:
        return "（必填）"
    shown = isinstance(param, click.Option) and param.show_default
    return f"（默认 {param.default}）" if shown and param.default is not None else ""


def _said(error: click.UsageError, ctx: click.Context) -> click.UsageError:
    """The mistake in the language of this run; in English where it cannot be said whole."""
    if spoken(ctx) != "zh" or isinstance(error, UsageMistake):
        return error
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        return error
    text = translated(" ".join(error.format_message().split()))
    return UsageMistake(text, error.ctx or ctx) if text else error


class SpokenCommand(_Spoken):
    """A command."""


class SpokenGroup(_Spoken, click.Group):
    """A group of commands; takes --lang too, for its own help and for the command behind it."""

    def __init__(self, *args: Any, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.params.append(lang_option())
        self.context_settings.setdefault("help_option_names", ["-h", "--help"])

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands, a line each."""
        if spoken(ctx) != "zh":
            super().format_commands(ctx, formatter)
            return
        found = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        _section(formatter, "命令", [(name, one.get_short_help_str()) for name, one in found if one is not None])

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The options, and the commands behind them."""
        super().format_options(ctx, formatter)
        if spoken(ctx) == "zh":
            self.format_commands(ctx, formatter)
