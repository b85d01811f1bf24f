"""`meterwire plan`: what the schedule takes of each bus, and whether that fits."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from config.load import survey_site
from config.mistake import ConfigError
from config.model import Site
from drivers import fit
from drivers.fit import LOAD_MAX, LOAD_TIGHT, BusLoad
from field import output
from field.config import bus_table, site_option
from field.output import Exit, Output
from field.usage import SpokenGroup


@click.group("plan", cls=SpokenGroup)
def command(lang: str | None) -> None:
    """The schedule's load on each bus.

    Example: meterwire plan show -c site.toml
    """


def look(file: Path) -> tuple[Site, list[BusLoad]]:
    """The site, and the load of each bus. Raises ConfigError with every mistake in the files and profiles but loads."""
    site, mistakes = survey_site(file)
    loads, found = ([], []) if site is None else fit.survey(site)
    mistakes += [mistake for mistake in found if mistake not in mistakes]
    if site is None or mistakes:
        raise ConfigError(mistakes)
    return site, loads


@output.command("show")
@site_option
def show(out: Output, file: Path) -> Exit:
    """Show what the schedule takes of each bus: questions, milliseconds on the wire and of the bus at each slot.

    The time of the bus is computed from speed, lengths, expected turnarounds and mandatory gaps. What is left of it is
    for retries, meters that do not answer, and reads on demand.

    Example: meterwire plan show -c site.toml

    With --json one object a bus, with its tasks. Exit codes: 0 all fits; 2 a bus is loaded over 90 %, or there are
    mistakes (they are listed).
    """
    try:
        site, loads = look(file)
    except ConfigError as error:
        out.mistakes(error.mistakes)
        return Exit.USAGE
    for load in loads:
        out.object(plain(load))
    _tables(out, site, loads)
    return _verdict(out, file, loads)


@output.command("check")
@site_option
def check(out: Output, file: Path) -> Exit:
    """Check that the schedule fits: refuses one that takes over 90 % of a bus, and warns over 70 %.

    It warns, too, where tasks that come due together take longer than the shortest of them has, and where meters.csv
    has ratios other than 1 for a meter that multiplies by its own.

    Example: meterwire plan check -c site.toml

    With --json one object a mistake: {"file": ..., "where": ..., "expected": ..., "got": ...}; when all fits, one with
    the load of each bus and the warnings. Exit codes: 0 all fits, warnings included; 2 it does not, or there are
    mistakes.
    """
    try:
        _, loads = look(file)
    except ConfigError as error:
        out.mistakes(error.mistakes)
        return Exit.USAGE
    code = _verdict(out, file, loads)
    if code is Exit.GOOD:
        shares = ", ".join(f"{load.bus.name} {load.share:.1%}" for load in loads)
        out.line(f"{file}: the schedule fits: {shares}", f"{file}：采集计划可行：{shares}")
        out.object(
            {"file": str(file), "good": True, "loads": {load.bus.name: round(load.share, 4) for load in loads},
             "warnings": [english for load in loads for english, _ in _warnings(load)]}
        )  # fmt: skip
    return code


def _verdict(out: Output, file: Path, loads: Sequence[BusLoad]) -> Exit:
    """Say what does not fit, or hardly does."""
    overloads = list(fit.overloads(loads, str(file)))
    out.mistakes(overloads)
    for load in loads:
        for english, zh in _warnings(load):
            out.error(english, zh)
    return Exit.USAGE if overloads else Exit.GOOD


def _warnings(load: BusLoad) -> Iterator[tuple[str, str]]:
    """English and Chinese."""
    name = load.bus.name
    if load.tight:
        yield (
            f"bus {name}: {load.share:.1%} of its time is planned, over {LOAD_TIGHT:.0%}: little is left for retries",
            f"总线 {name}：已计划 {load.share:.1%} 的时间，超过 {LOAD_TIGHT:.0%}：留给重试的时间很少",
        )
    if crowded := load.crowded:
        names = ", ".join(one.task.name for one in crowded)
        took_s, shortest_s = sum(one.bus_ms for one in crowded) / 1000, min(one.task.every_s for one in crowded)
        yield (
            f"bus {name}: {names} come due together and then take {took_s:.0f} s, over {LOAD_MAX:.0%} of the "
            f"{shortest_s} s until the next slot: slots will be missed there; give one of them an offset",
            f"总线 {name}：{names} 同时到期，共需 {took_s:.0f} 秒，超过下次采集前 {shortest_s} 秒的 {LOAD_MAX:.0%}："
            "届时会漏采；请为其中之一设置 offset",
        )
    if load.twice:
        ids = ", ".join(load.twice[:5]) + (", ..." if load.twice[5:] else "")
        yield (
            f"bus {name}: {ids}: the model multiplies by ratios that are set in the meter, and meters.csv has others "
            "than 1: values come out multiplied twice, unless those in the meter were left at 1",
            f"总线 {name}：{ids}：该型号已按表内设置的变比相乘，而 meters.csv 中的变比不为 1："
            "除非表内变比保持为 1，否则数值会被乘两次",
        )


def plain(load: BusLoad) -> dict[str, object]:
    """As JSON has it."""
    return {
        "bus": load.bus.name, "port": load.bus.port, "serial": str(load.bus.serial), "meters": load.meters,
        "load": round(load.share, 4), "fits": load.fits,
        "tasks": [
            {"task": one.task.name, "every_s": one.task.every_s, "offset_s": one.task.offset_s, "meters": one.meters,
             "exchanges": one.exchanges, "wire_ms": round(one.wire_ms, 1), "bus_ms": round(one.bus_ms, 1),
             "load": round(one.share, 4)}
            for one in load.tasks
        ],
    }  # fmt: skip


def _tables(out: Output, site: Site, loads: Sequence[BusLoad]) -> None:
    buses = bus_table(out, site, {load.bus.name: load.share for load in loads})
    tasks = out.table(("bus", "总线"), ("task", "任务"), ("every", "周期"), ("meters", "电能表"),
                      ("exchanges", "问答次数"), ("wire ms", "线路毫秒"), ("bus ms", "总线毫秒"), ("load", "负载"),
                      right=("every", "meters", "exchanges", "wire ms", "bus ms", "load"))  # fmt: skip
    for load in loads:
        for one in load.tasks:
            tasks.add_row(
                load.bus.name, one.task.name, f"{one.task.every_s} s", str(one.meters), str(one.exchanges),
                f"{one.wire_ms:.0f}", f"{one.bus_ms:.0f}", f"{one.share:.1%}",
            )  # fmt: skip
    out.show(buses, "", tasks)


command.add_command(check)
command.add_command(show)
