"""`meterwire central kpi` and `central export`: what a utility reports, and readings for other systems."""

import sys
from contextlib import ExitStack, closing, suppress
from dataclasses import fields
from datetime import UTC, date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import click

from central.sinks.base import SinkAway, SinkUnfit
from config.mistake import ConfigError, near
from field import output
from field.central.options import Day, Moment, config_option, in_order, instant, load_site
from field.output import Exit, Output
from protocols.quantity import BASES

ACCOUNTS_ZH = {"agrees": "一致", "differs": "不一致", "more": "主站较多", "none": "无"}


@output.command("kpi")
@config_option
@click.option("--day", type=Day(), help="The local day, or the first of several; by default yesterday.")
@click.option("--to", "last", type=Day(), help="The last day; by default the same.")
@click.option("--by", default="gateway", show_default=True,
              help="A line for each gateway, for each meter, or for each value of a column of --archive.")  # fmt: skip
@click.option("--archive", type=click.Path(path_type=Path),
              help="CSV of the utility's meters: a column meter, and columns for --by.")  # fmt: skip
def kpi(out: Output, file: Path, day: date | None, last: date | None, by: str, archive: Path | None) -> Exit:
    """How well the readings of a day were collected: success, one shot, completeness, delay.

    Planned are the slots that were filled or ended as gaps; success is those filled; one shot is those filled at the
    first attempt. Completeness is the share of readings that have a value. Delay runs from the meter's reply to the
    COMMIT here. The account is whether the gateway's own sums of the day agree with the tables.

    Example: meterwire central kpi -c central.toml --day 2026-05-03 --by meter

    With --archive meters are put together as the utility does, by area, class or transformer: --archive meters.csv
    --by area. Absent are the meters of the archive of which there is neither a reading nor a gap.

    With --json one line a gateway, meter or group. Exit codes: 0 told; 2 a mistake in the configuration or the days;
    3 no database, or nothing of those days in it.
    """
    from central.archive import read_groups
    from central.kpi import days_between, yesterday
    from central.kpi import kpi as find
    from central.look import looking

    site = load_site(out, file)
    if site is None:
        return Exit.USAGE
    zone = ZoneInfo(site.zone)
    first = day if day is not None else yesterday(zone, datetime.now(UTC))
    try:
        days = days_between(first, last if last is not None else first)
    except ValueError as error:
        out.wrong(f"--to: expected {error}, --day the first of them")
        return Exit.USAGE
    if (by in ("gateway", "meter")) is not (archive is None):
        out.error("--archive and --by with one of its columns need each other",
                  "--archive 须与 --by（其中一列的列名）一起使用")  # fmt: skip
        return Exit.USAGE
    groups = None
    if archive is not None:
        try:
            groups = read_groups(archive, by)
        except ConfigError as error:
            out.mistakes(error.mistakes)
            return Exit.USAGE
    right = ("meters", "absent", "planned", "success %", "one shot %", "late", "left", "complete %", "conflicts",
             "p50 s", "p95 s", "p99 s")  # fmt: skip
    whose = ((by, by) if groups is not None else ("gateway", "网关"),
             ("meter", "电能表") if by == "meter" else ("meters", "电能表数"))  # fmt: skip
    table = out.table(
        ("day", "日期"), *whose, *((("absent", "未上报"),) if groups is not None else ()), ("planned", "应采"),
        ("success %", "成功率 %"), ("one shot %", "一次成功率 %"), ("late", "补采"), ("left", "缺失"),
        ("complete %", "完整率 %"), ("conflicts", "冲突"), ("p50 s", "延迟 p50 s"), ("p95 s", "p95 s"),
        ("p99 s", "p99 s"), ("account", "对账"), right=right,
    )  # fmt: skip
    count = 0
    try:
        with looking(site.database) as look:
            for line in find(look, days=days, zone=zone, by_meter=by == "meter", groups=groups):
                count += 1
                delays = {f"p{percent}_s": line.delay_s(percent) for percent in (50, 95, 99)}
                whole = {one.name: getattr(line, one.name) for one in fields(line) if one.name != "delays_ms"}
                whole["day"] = line.day.isoformat()
                out.object(whole | {"planned": line.planned, "success": line.success, "one_shot": line.one_shot,
                                    "completeness": line.completeness, **delays})  # fmt: skip
                of: tuple[str, ...] = (line.group or line.gateway or "-", line.meter or str(line.meters))
                if line.group is not None:
                    of = (*of, str(line.absent))
                cells = (line.day, *of, line.planned, _figure(line.success, 2), _figure(line.one_shot, 2), line.late,
                         line.left, _figure(line.completeness, 2), line.conflicts,
                         *(_figure(delay, 3) for delay in delays.values()))  # fmt: skip
                account = out.say(line.account, ACCOUNTS_ZH[line.account])
                table.add_row(*map(str, cells), account)
    except (SinkAway, SinkUnfit) as error:
        out.wrong(str(error))
        return Exit.NOTHING
    if count:
        out.show(table)
    else:
        out.line("nothing of those days", "这些日期没有数据")
    return Exit.GOOD if count else Exit.NOTHING


def _figure(value: float | None, decimals: int) -> str:
    return "-" if value is None else f"{value:.{decimals}f}"


@output.command("export")
@config_option
@click.option("--format", "form", type=click.Choice(["csv", "parquet", "cim"]), default="csv", show_default=True,
              help="What to write; cim is MeterReadings of IEC 61968-9 in JSON.")  # fmt: skip
@click.option("-o", "--output", "target", type=click.Path(path_type=Path), help="Where to; by default standard output.")
@click.option(
    "--since", type=Moment(), required=True, help="Readings from this time on; of report.zone, or with offset."
)
@click.option("--until", type=Moment(), required=True, help="Readings before this time.")
@click.option(
    "--landed-since", type=Moment(), help="Only what has landed from this time on: late readings, for example."
)
@click.option("--meter", help="Only of this meter.")
@click.option("--quantity", "quantities", multiple=True, help="Only this quantity; may be given again.")
def export(
    out: Output, file: Path, form: str, target: Path | None, since: datetime, until: datetime,
    landed_since: datetime | None, meter: str | None, quantities: tuple[str, ...],
) -> Exit:  # fmt: skip
    """Write readings for other systems: CSV, Parquet, or CIM MeterReadings as JSON.

    Values are exact and on the meter's own side, with the transformers' factor beside them; times are UTC. An output
    file appears when it is whole.

    Example: meterwire central export -c central.toml --format cim --since 2026-05-03 --until 2026-05-04 -o day.json

    With --json one line says how many were written, and needs --output. Exit codes: 0 written; 2 a mistake in the
    configuration or the options, or a package that is missing; 3 no database, or the file cannot be written.
    """
    from central.export import Missing, Wanted, lacking, readings, write_cim, write_csv, write_parquet
    from central.look import looking

    site = load_site(out, file)
    if site is None:
        return Exit.USAGE
    if not in_order(out, since, until, site.zone):
        return Exit.USAGE
    if target is None and (out.as_json or form == "parquet"):
        out.error("--output is needed here", "此处需要 --output")
        return Exit.USAGE
    wanted = Wanted(
        since=instant(since, site), until=instant(until, site), meter=meter, quantities=quantities,
        landed_since=None if landed_since is None else instant(landed_since, site),
    )  # fmt: skip
    part = None if target is None else target.with_name(f"{target.name}.part")
    try:
        with looking(site.database) as look, ExitStack() as stack:
            if unknown := lacking(look, wanted):
                for one in unknown:
                    out.wrong(_unknown(one))
                return Exit.USAGE
            rows = stack.enter_context(closing(readings(look, wanted, by_meter=form == "cim")))
            if form == "parquet":
                assert part is not None
                count = write_parquet(rows, part)
            else:
                text = sys.stdout
                if part is not None:
                    text = stack.enter_context(part.open("w", encoding="utf-8", newline=""))
                count = write_csv(rows, text) if form == "csv" else write_cim(rows, text, now=datetime.now(UTC))
    except Missing as error:
        out.wrong(str(error))
        return Exit.USAGE
    except (SinkAway, SinkUnfit) as error:
        out.wrong(str(error))
        return Exit.NOTHING
    except OSError as error:
        if part is None or isinstance(error, BrokenPipeError):
            raise
        with suppress(OSError):
            part.unlink(missing_ok=True)
        out.wrong(f"{target}: {error.strerror}")
        return Exit.NOTHING
    if target is not None:
        assert part is not None
        part.replace(target)
        out.line(f"{count} readings: {target}", f"{count} 个读数：{target}")
        out.object({"readings": count, "format": form, "output": str(target)})
    return Exit.GOOD


def _unknown(name: str) -> str:
    """A quantity that the catalogue does not have and of which there is no reading, and what may be meant."""
    like = near(name, [quantity.name for quantity in BASES])
    return f"--quantity: expected the name of a quantity of which there are readings{like}, got {name}"


COMMANDS = (kpi, export)
