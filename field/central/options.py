"""What the commands of the centre share: their configuration, times and days on the command line, times told."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from zoneinfo import ZoneInfo

import click

from central.config import CentralSite, load_central
from central.sinks.base import SinkAway, SinkUnfit
from config.mistake import ConfigError
from field.output import Exit, Output

if TYPE_CHECKING:
    from rich.table import Table

config_option = click.option(
    "-c", "--config", "file", type=click.Path(path_type=Path), default=Path("/etc/meterwire/central.toml"),
    show_default=True, help="The configuration; docs/central.md lists its keys.",
)  # fmt: skip


def load_site(out: Output, file: Path) -> CentralSite | None:
    """The configuration; None when its mistakes have been told."""
    try:
        return load_central(file)
    except ConfigError as error:
        out.mistakes(error.mistakes)
        return None


class Moment(click.ParamType[datetime]):
    """An ISO date or time, with an offset or without one: see `instant`."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            return datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(
                f"expected a date or time such as 2026-05-03 or 2026-05-03T10:15+08:00, got {value!r}", param, ctx
            )


class Span(NamedTuple):
    """UTC milliseconds: from the one on, before the other."""

    since: int
    until: int | None


def instant(moment: datetime, site: CentralSite) -> int:
    """UTC milliseconds; a time without an offset is of `report.zone`, as the days of reports are."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(site.zone))
    return int(aware.timestamp() * 1000)


def span_of(out: Output, site: CentralSite, since: datetime | None, until: datetime | None) -> Span | None:
    """From 0 and without an end where none is named; None when it was told that the span has no length."""
    if not in_order(out, since, until, site.zone):
        return None
    return Span(instant(since, site) if since else 0, instant(until, site) if until else None)


def in_order(out: Output, since: datetime | None, until: datetime | None, zone: str) -> bool:
    """Whether a span has a length, where both of its ends are named; said where it has none."""
    of = ZoneInfo(zone)
    ends = [at if at.tzinfo else at.replace(tzinfo=of) for at in (since, until) if at is not None]
    right = len(ends) < 2 or ends[0] < ends[1]
    if not right:
        out.error("--since must be before --until", "--since 须早于 --until")
    return right


def listed(
    out: Output, table: "Table", rows: Iterable[tuple[Mapping[str, object], Sequence[str]]],
    count: Callable[[int], tuple[str, str]],
) -> Exit:  # fmt: skip
    """List what a table of the database has: each row as an object for machines, and as cells for people, and how many
    there were."""
    number = 0
    try:
        for told, cells in rows:
            number += 1
            out.object(told)
            table.add_row(*cells)
    except (SinkAway, SinkUnfit) as error:
        out.wrong(str(error))
        return Exit.NOTHING
    if number:
        out.show(table)
    out.line(*count(number))
    return Exit.GOOD


class Day(click.ParamType[date]):
    """An ISO date."""

    name = "day"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> date:
        if isinstance(value, date):
            return value
        try:
            return date.fromisoformat(str(value))
        except ValueError:
            self.fail(f"expected a date such as 2026-05-03, got {value!r}", param, ctx)


def iso(ms: int | None) -> str | None:
    """UTC, to the second."""
    return (
        None
        if ms is None
        else datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    )
