"""`meterwire central events`: what happened at gateways."""

from datetime import datetime
from pathlib import Path

import click

from central.sinks.base import SinkAway, SinkUnfit
from field import output
from field.central.options import Moment, config_option, in_order, instant, iso, load_site
from field.events import event_word, facts_told
from field.output import Exit, Output


@output.command("events")
@config_option
@click.option("--gateway", help="Only of this gateway.")
@click.option("--meter", help="Only of this meter.")
@click.option("--name", help="Only events of this name.")
@click.option("--since", type=Moment(), help="From this time on; of report.zone, or with offset.")
@click.option("--until", type=Moment(), help="Before this time.")
def events(
    out: Output, file: Path, gateway: str | None, meter: str | None, name: str | None, since: datetime | None,
    until: datetime | None,
) -> Exit:  # fmt: skip
    """List what happened at gateways: a damaged store, readings dropped, a clock that jumped, spans of missed slots.

    Example: meterwire central events -c central.toml --since 2026-05-03

    With --json one line an event: at, gateway, meter, name, detail; times in UTC. Exit codes: 0 listed, whether there
    are any or not; 2 a mistake in the configuration; 3 no database.
    """
    from central.events import events as find

    site = load_site(out, file)
    if site is None:
        return Exit.USAGE
    if not in_order(out, since, until, site.zone):
        return Exit.USAGE
    first, last = instant(since, site) if since else 0, instant(until, site) if until else None
    table = out.table(("time", "时间"), ("gateway", "网关"), ("meter", "电能表"), ("event", "事件"), ("detail", "说明"))
    count = 0
    try:
        for row in find(site.database, gateway=gateway, meter=meter, name=name, since=first, until=last):
            count += 1
            out.object({**row._asdict(), "at": iso(row.at)})
            facts = facts_told(out, row.detail, lambda at: iso(at) or "")
            table.add_row(iso(row.at), row.gateway, row.meter or "-", event_word(out, row.name), facts)
    except (SinkAway, SinkUnfit) as error:
        out.wrong(str(error))
        return Exit.NOTHING
    if count:
        out.show(table)
    out.line(f"{count} {'event' if count == 1 else 'events'}", f"{count} 个事件")
    return Exit.GOOD


COMMANDS = (events,)
