"""`meterwire central gaps` and `central events`: what is missing, and what happened at gateways."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

import click

from field import output
from field.central.options import Moment, Span, config_option, iso, listed, load_site, span_of
from field.events import event_word, facts_told
from field.output import Exit, Output

_Row = tuple[dict[str, object], Sequence[str]]


@output.command("gaps")
@config_option
@click.option("--meter", help="Only of this meter.")
@click.option("--since", type=Moment(), help="Slots from this time on; of report.zone, or with offset.")
@click.option("--until", type=Moment(), help="Slots before this time.")
@click.option("--all", "closed", is_flag=True, help="Also gaps that a later reading has closed.")
def gaps(
    out: Output, file: Path, meter: str | None, since: datetime | None, until: datetime | None, closed: bool
) -> Exit:
    """List the slots for which there is no reading, each with its reason.

    Example: meterwire central gaps -c central.toml --since 2026-05-03 --json

    With --json one line a gap: meter, task, slot, fault, detail, opened_at, closed_at; times in UTC.
    Exit codes: 0 listed, whether there are any or not; 2 a mistake in the configuration; 3 no database.
    """
    from central.gaps import gaps as find

    site = load_site(out, file)
    span = None if site is None else span_of(out, site, since, until)
    if site is None or span is None:
        return Exit.USAGE

    def rows(span: Span) -> Iterator[_Row]:
        for row in find(site.database, meter=meter, closed=closed, **span._asdict()):
            slot, opened, closed_at = iso(row.slot) or "", iso(row.opened_at) or "", iso(row.closed_at)
            yield (
                {**row._asdict(), "slot": slot, "opened_at": opened, "closed_at": closed_at},
                (row.meter, row.task, slot, out.fault(row.fault), out.told(row.detail or ""), opened, closed_at or ""),
            )

    table = out.table(
        ("meter", "电能表"), ("task", "任务"), ("missing slot", "漏采时刻"), ("fault", "故障"), ("detail", "说明"),
        ("gap since", "发现于"), ("filled at", "补齐于"),
    )  # fmt: skip
    return listed(out, table, rows(span), lambda count: (
        f"{count} {'gap' if count == 1 else 'gaps'}", f"{count} 个漏点"))  # fmt: skip


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
    span = None if site is None else span_of(out, site, since, until)
    if site is None or span is None:
        return Exit.USAGE

    def rows(span: Span) -> Iterator[_Row]:
        for row in find(site.database, gateway=gateway, meter=meter, name=name, **span._asdict()):
            at = iso(row.at) or ""
            facts = facts_told(out, row.detail, lambda moment: iso(moment) or "")
            yield {**row._asdict(), "at": at}, (at, row.gateway, event_word(out, row.name), row.meter or "-", facts)

    table = out.table(("happened", "发生时间"), ("gateway", "网关"), ("event", "事件"), ("of meter", "涉及电能表"),
                      ("facts", "具体情况"))  # fmt: skip
    return listed(out, table, rows(span), lambda count: (
        f"{count} {'event' if count == 1 else 'events'}", f"{count} 个事件"))  # fmt: skip


COMMANDS = (gaps, events)
