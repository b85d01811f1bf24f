"""How every command speaks: --json and --lang on each of them, exit codes, one object a line."""

import json
import locale
import os
from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Any

import click


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

    def line(self, en: str, zh: str) -> None:
        """A sentence for people; nothing with --json."""
        if not self.as_json:
            click.echo(self.say(en, zh))

    def object(self, value: Mapping[str, object]) -> None:
        """One JSON object on a line of its own; nothing without --json."""
        if self.as_json:
            click.echo(json.dumps(value, ensure_ascii=False))

    def error(self, en: str, zh: str) -> None:
        """What went wrong, on standard error, in both modes."""
        click.echo(self.say(en, zh), err=True)


def default_lang() -> str:
    """zh or en, from the locale."""
    name = os.environ.get("LC_ALL") or os.environ.get("LC_MESSAGES") or os.environ.get("LANG") or ""
    return "zh" if (name or locale.getlocale()[0] or "").lower().startswith(("zh", "chinese")) else "en"


pass_output = click.make_pass_decorator(Output)


def command(name: str, **attributes: Any) -> Callable[[Callable[..., Any]], click.Command]:
    """A click command with --json and --lang; the function gets an Output first and may return an Exit."""

    def wrap(function: Callable[..., Any]) -> click.Command:
        def run(as_json: bool, lang: str | None, **arguments: Any) -> None:
            code = function(Output(as_json=as_json, lang=lang or default_lang()), **arguments)
            raise SystemExit(int(code if code is not None else Exit.GOOD))

        run.__doc__ = function.__doc__
        run.__click_params__ = list(getattr(function, "__click_params__", []))  # type: ignore[attr-defined]
        as_json = click.Option(["--json", "as_json"], is_flag=True, help="One JSON object a line, for machines.")
        lang = click.Option(["--lang"], type=click.Choice(["zh", "en"]), help="Language; default from the locale.")
        decorate: Callable[[Callable[..., None]], click.Command] = click.command(name, **attributes)
        made = decorate(run)
        made.params += [as_json, lang]
        return made

    return wrap
