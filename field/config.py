"""`meterwire config`: is the site file right, and what does it say."""

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from config.load import survey_site
from config.mistake import ConfigError
from config.model import SerialSettings, Site
from drivers import fit
from field import output
from field.output import Exit, Output
from field.usage import SpokenGroup

if TYPE_CHECKING:
    from rich.table import Table

DEFAULT = Path("/etc/meterwire/site.toml")
"""Where the site file of an installed gateway is."""


def site_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """-c FILE: the site file."""
    return click.option(
        "-c", "--config", "file", type=click.Path(path_type=Path), default=DEFAULT, show_default=True,
        help="The site file; docs/config.md lists its keys.",
    )(function)  # fmt: skip


def load_checked(file: Path) -> Site:
    """The site, checked whole: its files, the profiles and the load on each bus. Raises ConfigError with it all."""
    site, mistakes = survey_site(file)
    if site is not None:
        mistakes += [mistake for mistake in fit.check(site) if mistake not in mistakes]
    if mistakes or site is None:
        raise ConfigError(mistakes)
    return site


def refuse(out: Output, file: Path, error: ConfigError) -> Exit:
    """Say every mistake, and that nothing was started for it."""
    out.mistakes(error.mistakes)
    count = len(error.mistakes)
    out.error(
        f"{file}: {count} {'mistake' if count == 1 else 'mistakes'}; nothing was started",
        f"{file}：{count} 处错误；什么也没有启动",
    )
    return Exit.USAGE


@click.group("config", cls=SpokenGroup)
def command(lang: str | None) -> None:
    """The site file and the meter archive.

    Example: meterwire config check -c site.toml
    """


@output.command("check")
@site_option
def check(out: Output, file: Path) -> Exit:
    """Check the site file, the meter archive, the profiles and the load on each bus.

    Lists every mistake at once: file, key or row, what was expected, what came. Starts nothing.

    Example: meterwire config check -c site.toml

    With --json one object a mistake: {"file": ..., "where": ..., "expected": ..., "got": ...}; one object with the
    counts when all is good. Exit codes: 0 all good; 2 there are mistakes.
    """
    try:
        site = load_checked(file)
    except ConfigError as error:
        out.mistakes(error.mistakes)
        count = len(error.mistakes)
        out.line(f"{count} {'mistake' if count == 1 else 'mistakes'}", f"{count} 处错误")
        return Exit.USAGE
    buses, meters, tasks = len(site.buses), len(site.meters), len(site.tasks)
    out.line(
        f"{file}: good: buses {buses}, meters {meters}, tasks {tasks}",
        f"{file}：正确：总线 {buses}，电能表 {meters}，任务 {tasks}",
    )
    out.object({"file": str(file), "good": True, "buses": buses, "meters": meters, "tasks": tasks})
    return Exit.GOOD


@output.command("show")
@site_option
def show(out: Output, file: Path) -> Exit:
    """Show the site as it was understood: defaults filled in, paths whole, and the load of the schedule on each bus.

    Example: meterwire config show -c site.toml

    With --json one object. Exit codes: 0 all good; 2 there are mistakes (they are listed).
    """
    try:
        site = load_checked(file)
    except ConfigError as error:
        out.mistakes(error.mistakes)
        return Exit.USAGE
    loads = fit.loads(site)
    if out.as_json:
        shown = {each.name: _plain(getattr(site, each.name)) for each in fields(site)}
        out.object(shown | {"loads": {bus: round(load, 4) for bus, load in loads.items()}})
        return Exit.GOOD
    _show(out, site, loads)
    return Exit.GOOD


def _show(out: Output, site: Site, loads: Mapping[str, float]) -> None:
    facts = out.table()
    for name, value in {
        out.say("gateway", "网关"): site.gateway,
        out.say("zone", "时区"): site.zone,
        out.say("clock trust", "时钟信任"): site.clock_trust,
        out.say("store", "存储"): out.say(
            f"{site.store} (history {site.buffer.curve_days} days, evidence {site.evidence_mb} MiB)",
            f"{site.store}（历史 {site.buffer.curve_days} 天，原始报文 {site.evidence_mb} MiB）",
        ),
        out.say("keys", "密钥"): site.keys,
        out.say("status socket", "状态接口"): site.socket,
        out.say("uplink", "上行"): f"{site.uplink.url} ({site.uplink.profile})",
    }.items():
        facts.add_row(name, str(value))
    buses = bus_table(out, site, loads)
    tasks = out.table(("task", "任务"), ("every", "周期"), ("offset", "偏移"), ("lane", "优先级"), ("items", "数据项"),
                      right=("every", "offset"))  # fmt: skip
    for task in site.tasks:
        tasks.add_row(task.name, f"{task.every_s} s", f"{task.offset_s} s", task.lane, ", ".join(task.items))
    meters = out.table(("meter", "电能表"), ("point", "计量点"), ("bus", "总线"), ("address", "地址"),
                       ("profile", "型号"), ("tasks", "任务"))  # fmt: skip
    for meter in site.meters:
        meters.add_row(meter.id, meter.point, meter.bus, meter.address, meter.profile, ", ".join(meter.tasks))
    out.show(facts, "", buses, "", tasks, "", meters)


def bus_table(out: Output, site: Site, loads: Mapping[str, float]) -> "Table":
    """The buses, each with every setting of the line that its meters are asked with: none where there is no line."""
    table = out.table(("bus", "总线"), ("port", "端口"), ("serial", "串口"), ("meters", "电能表"), ("load", "负载"),
                      right=("meters", "load"))  # fmt: skip
    for bus in site.buses:
        meters = [meter for meter in site.meters if meter.bus == bus.name]
        spoken = [str(fit.settings_of(meter, bus)) for meter in meters if meter.protocol != "modbus-tcp"]
        serials = ", ".join(dict.fromkeys(spoken if meters else [str(bus.serial)])) or "-"
        table.add_row(bus.name, bus.port, serials, str(len(meters)), f"{loads.get(bus.name, 0.0):.1%}")
    return table


def _plain(item: object) -> object:
    """What JSON can hold: entries as objects; line settings, paths and ratios as text."""
    if isinstance(item, SerialSettings | Path | Decimal):
        return str(item)
    if is_dataclass(item):
        return {each.name: _plain(getattr(item, each.name)) for each in fields(item)}
    return [_plain(each) for each in item] if isinstance(item, tuple) else item


command.add_command(check)
command.add_command(show)
