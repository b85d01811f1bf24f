"""What the commands of the centre share: their configuration, times and days on the command line, times told."""

from datetime import UTC, date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import click

from central.config import CentralSite, load_central
from config.mistake import ConfigError
from field.output import Output

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


def instant(moment: datetime, site: CentralSite) -> int:
    """UTC milliseconds; a time without an offset is of `report.zone`, as the days of reports are."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(site.zone))
    return int(aware.timestamp() * 1000)


def in_order(out: Output, since: datetime | None, until: datetime | None, zone: str) -> bool:
    """Whether a span has a length, where both of its ends are named; said where it has none."""
    of = ZoneInfo(zone)
    ends = [at if at.tzinfo else at.replace(tzinfo=of) for at in (since, until) if at is not None]
    right = len(ends) < 2 or ends[0] < ends[1]
    if not right:
        out.error("--since must be before --until", "--since 须早于 --until")
    return right


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
