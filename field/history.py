"""`meterwire history`: what this gateway has read, from its own store."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import click

from config.mistake import ConfigError
from config.model import Site
from field import output
from field.central.options import Moment, in_order, iso
from field.clock import local
from field.config import load_checked, refuse, site_option
from field.events import event_word, facts_told
from field.output import Exit, Output, words
from field.read import remark
from protocols.capture import Capture, Event, Gap, Value

if TYPE_CHECKING:
    from buffer.history import History

BEFORE = timedelta(days=1)
"""What is shown where no --since is named."""


@output.command("history")
@site_option
@click.argument("meter", required=False)
@click.option("--task", help="Only what was read for this task.")
@click.option("--since", type=Moment(), help="From this date or time of the site on; by default a day before --until.")
@click.option("--until", type=Moment(), help="Up to this date or time of the site; by default now.")
@click.option("--events", "events_only", is_flag=True, help="Events of the gateway and its meters instead.")
def command(
    out: Output, file: Path, meter: str | None, task: str | None, since: datetime | None, until: datetime | None,
    events_only: bool,
) -> Exit:  # fmt: skip
    """Show what this gateway has read of METER, from its own store; without METER, of which meters there is something.

    The gateway may run meanwhile, or be stopped. What the centre has stays as long as [buffer] says. While the store
    has gone on in its spare directory both its files are read, and one that cannot be read is named.

    Example: meterwire history -c site.toml bus-1-202411110001 --since 2026-11-21T08:00

    With --events what happened to the gateway itself: damage of the store, jumps of the clock, spans of missed slots;
    with METER those of the meter; the newest 1,000 at most.

    With --json one object a value (a gap has none), a meter and task, or an event. Exit codes: 0 shown; 1 there is
    nothing, or not all of it could be read; 2 a mistake in the configuration; 3 no store, or it cannot be read.
    """
    from buffer.errors import OutboxError
    from buffer.history import History

    try:
        site = load_checked(file)
    except ConfigError as error:
        return refuse(out, file, error)
    if not in_order(out, since, until, site.zone):
        return Exit.USAGE
    try:
        with History(site.store, spare=site.buffer.spare) as history:
            start, end = _span(site, since, until)
            if events_only:
                spanned = since is not None or until is not None
                shown = _events(out, site, [
                    one for one in history.events()
                    if meter in (None, one.meter) and (not spanned or start <= one.at < end)
                ])  # fmt: skip
            elif meter is None:
                shown = _meters(out, site, history)
            else:
                shown = _read(out, site, history.read(meter, start, end, task=task))
            for unread in history.unread:
                out.error(f"left out: {unread}", f"未包含：{out.told(unread)}")
    except OutboxError as error:
        out.wrong(words(error))
        return Exit.NOTHING
    if not shown and meter is not None and all(one.id != meter for one in site.meters):
        out.line(f"nothing is kept of {meter}, and the archive has no such meter; `history` alone lists what is kept",
                 f"没有 {meter} 的记录，档案中也没有该表；不带电能表的 `history` 列出已有记录的表")  # fmt: skip
    elif not shown:
        out.line("nothing is kept of that", "没有这样的记录")
    return Exit.GOOD if shown and not history.unread else Exit.PART


def _span(site: Site, since: datetime | None, until: datetime | None) -> tuple[int, int]:
    """UTC milliseconds; a time without an offset is the site's."""
    zone = ZoneInfo(site.zone)
    end = until or datetime.now(zone)
    first = since or end - BEFORE
    start, stop = (int((at if at.tzinfo else at.replace(tzinfo=zone)).timestamp() * 1000) for at in (first, end))
    return start, stop


def _meters(out: Output, site: Site, history: "History") -> int:
    table = out.table(("meter", "电能表"), ("task", "任务"), ("records", "记录"), ("gaps", "漏点"),
                      ("last slot", "最近采集时刻"), right=("records", "gaps"))  # fmt: skip
    series = history.series()
    for one in series:
        out.object({**one._asdict(), "last_slot": iso(one.last_slot)})
        table.add_row(one.meter, one.task, str(one.records), str(one.gaps), local(one.last_slot, site.zone))
    if series:
        out.show(table)
    return len(series)


def _events(out: Output, site: Site, found: Sequence[Event]) -> int:
    table = out.table(("happened", "发生时间"), ("event", "事件"), ("of meter", "涉及电能表"), ("facts", "具体情况"))
    for one in found:
        out.object({"name": one.name, "at": iso(one.at), "meter": one.meter, "detail": dict(one.detail)})
        facts = facts_told(out, one.detail, lambda at: local(at, site.zone))
        table.add_row(local(one.at, site.zone), event_word(out, one.name), one.meter or "-", facts)
    if found:
        out.show(table)
    return len(found)


def _read(out: Output, site: Site, records: Iterator[Capture | Gap]) -> int:
    table = out.table(("slot", "采集时刻"), ("task", "任务"), ("quantity", "名称"), ("value", "数值"),
                      ("unit", "单位"), ("", ""), right=("value",))  # fmt: skip
    shown = 0
    for record in records:
        shown += 1
        if isinstance(record, Gap):
            out.object(_object(record, None))
            table.add_row(local(record.slot, site.zone), record.task, "-", "-", "", out.fault(record.fault.value))
            continue
        for value in record.values:
            out.object(_object(record, value))
            name = out.say(value.quantity.name, value.quantity.zh or value.quantity.name)
            unit = "" if value.quantity.unit == "1" else value.quantity.unit
            stamp = record.stamp if record.slot is None else record.slot
            table.add_row(local(stamp, site.zone), record.task, name, value.plain or "-", unit, remark(out, value))
    if shown:
        out.show(table)
    return shown


def _object(record: Capture | Gap, value: Value | None) -> dict[str, object]:
    """What --json gives of a value, or of a gap."""
    capture = record if isinstance(record, Capture) else None
    fault = record.fault if isinstance(record, Gap) else value.fault if value else None
    return {
        "meter": record.meter,
        "task": record.task,
        "slot": iso(record.slot),
        "stamp": iso(capture.stamp) if capture else None,
        "read_at": iso(capture.read_at) if capture else None,
        "source": capture.source.value if capture else None,
        "quantity": value.quantity.name if value else None,
        "value": value.plain if value else None,
        "unit": value.quantity.unit if value else None,
        "quality": value.quality.value if value else None,
        "fault": fault.value if fault else None,
        "detail": record.detail if isinstance(record, Gap) else value.detail if value else None,
    }
