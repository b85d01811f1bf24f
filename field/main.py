"""The meterwire command: one module a command or group, loaded when it is asked for."""

import importlib
import sys
from typing import Any

import click

from field.chinese import chinese
from field.output import let_go, words
from field.usage import SpokenGroup, lang_in, spoken

COMMANDS = {
    "central": "field.central.command",
    "config": "field.config",
    "decode": "field.decode.command",
    "demo": "field.demo",
    "doctor": "field.diagnosis.doctor",
    "history": "field.history",
    "keys": "field.keys.command",
    "offline": "field.offline",
    "plan": "field.plan",
    "probe": "field.diagnosis.probe",
    "read": "field.read",
    "run": "field.run",
    "scan": "field.diagnosis.scan",
    "sim": "field.sim",
    "sniff": "field.diagnosis.sniff",
    "status": "field.status",
    "store": "field.store",
}
"""Each module holds a click command or group called `command`. Loaded lazily: the daemon must not pay for the rest."""


class _Lazy(SpokenGroup):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        found: click.Command = importlib.import_module(COMMANDS[cmd_name]).command
        return found

    def main(self, *args: Any, **extra: Any) -> Any:
        """As meterwire, whatever the file is called that was started: Chinese help is found by the whole name."""
        try:
            return super().main(*args, **{"prog_name": "meterwire", **extra})
        except OSError as error:  # help that cannot be written
            reason = words(error)
            zh = lang_in(extra.get("args") or sys.argv[1:]) == "zh"
            click.echo(chinese(reason) if zh else reason, err=True)
            let_go()
            raise SystemExit(3) from None

    def invoke(self, ctx: click.Context) -> Any:
        """The command; interrupted with Ctrl-C, wherever it is, it was done in part."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("已中断" if spoken(ctx) == "zh" else "interrupted", err=True)
            raise SystemExit(1) from None


@click.group("meterwire", cls=_Lazy)
@click.version_option(package_name="meterwire", prog_name="meterwire")
def main(lang: str | None) -> None:
    """Meterwire: from the meter's wire to the utility's table.

    Every command has help of its own: meterwire COMMAND --help

    Exit codes: 0 all good; 1 part of it failed; 2 usage or configuration mistake; 3 nothing worked; 4 busy.
    """
