"""`meterwire central`: the subscriber that lands readings, and what it shows."""

import logging
import signal
import threading
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from central.config import worker as read_worker
from central.sinks.base import SinkAway, SinkUnfit
from field import output
from field.central import carried, events, reports, upkeep
from field.central.options import Moment, config_option, in_order, instant, iso, load_site
from field.clock import wall_ms
from field.output import Exit, Output, words
from field.usage import SpokenGroup

if TYPE_CHECKING:
    from central.sinks.base import Sink

log = logging.getLogger("central")
_RETRY_S_MAX = 10.0


class _Worker(click.ParamType[tuple[int, int]]):
    """One of several, such as 1/2."""

    name = "i/n"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        try:
            return read_worker(value)
        except ValueError as error:
            self.fail(f"expected {error}, got {value!r}", param, ctx)


@output.command("run")
@config_option
@click.option("--worker", type=_Worker(), help="Which worker this is, of how many; instead of broker.worker.")
def run(out: Output, file: Path, worker: tuple[int, int] | None) -> Exit:
    """Land what gateways send, until SIGTERM or SIGINT.

    Verifies and opens each batch, writes it to the database once, acknowledges it to the broker after the COMMIT
    and sends the gateway a signed receipt. The broker and the database may go away and come back.

    Several of them may run at once, also on several machines, on one PostgreSQL: each is told which it is.

    Example: meterwire central run -c central.toml

    With --json a line says when it is ready ({"ready": true, ...}, at each connection), and one at the end has the
    counters. Exit codes: 0 stopped as asked; 2 a mistake in the configuration, a missing key or one that others can
    read, or a database that is not fit; 3 stopped before the database was ever there.
    """
    from central.connection import tls_context
    from central.landing import Landing, spare_the_collector
    from central.subscriber import Subscriber
    from identity.centre import Centre, GatewayTrust
    from identity.files import IdentityError
    from protocols import suites

    site = load_site(out, file)
    if site is None:
        return Exit.USAGE
    if worker is not None:
        site = replace(site, broker=replace(site.broker, worker=worker))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    try:
        suites.check(site.suites)
        centre = Centre.load(site.keys, suites=site.suites, sign_token=site.sign_token, wrap_token=site.wrap_token)
        gateways = GatewayTrust.load(site.keys)
        tls_context(site.broker)  # before the database, which may be waited for
        sink = _open(site.database, stopping)
        if sink is None:
            return Exit.NOTHING
        landing = Landing(sink, centre=centre, gateways=gateways, now_ms=wall_ms)

        def ready() -> None:
            out.line(f"ready: {site.broker.url} to {site.database}", f"就绪：{site.broker.url} 到 {site.database}")
            out.object({"ready": True, "broker": site.broker.url, "database": site.database})

        subscriber = Subscriber(site.broker, landing, ready=ready)
    except (IdentityError, suites.Unavailable, SinkUnfit, OSError) as error:
        out.wrong(words(error))
        return Exit.USAGE
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: subscriber.stop())
    if stopping.is_set():
        subscriber.stop()
    spare_the_collector()
    try:
        subscriber.run()
    finally:
        sink.close()
    counters = dict(sorted(landing.counters.items()))
    counted = ", ".join(f"{name} {count}" for name, count in counters.items()) or "-"
    out.line(f"stopped: {counted}", f"已停止：{counted}")
    out.object({"stopped": True, "counters": counters})
    return Exit.GOOD


def _open(database: str, stopping: threading.Event) -> "Sink | None":
    """The sink; waits while the database is away. None when asked to stop before it came. Raises SinkUnfit."""
    from central.sinks import open_sink

    pause = 0.2
    while not stopping.is_set():
        try:
            return open_sink(database)
        except SinkAway as error:
            log.warning("database away, again in %.1f s: %s", pause, error)
            stopping.wait(pause)
            pause = min(2 * pause, _RETRY_S_MAX)
    return None


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
    if site is None:
        return Exit.USAGE
    if not in_order(out, since, until, site.zone):
        return Exit.USAGE
    first, last = instant(since, site) if since else 0, instant(until, site) if until else None
    try:
        found = [
            {
                **row._asdict(),
                "slot": iso(row.slot),
                "opened_at": iso(row.opened_at),
                "closed_at": iso(row.closed_at),
            }
            for row in find(site.database, meter=meter, since=first, until=last, closed=closed)
        ]
    except (SinkAway, SinkUnfit) as error:
        out.wrong(str(error))
        return Exit.NOTHING
    for row in found:
        out.object(row)
    if not out.as_json:
        _table(out, found)
    return Exit.GOOD


def _table(out: Output, found: list[dict[str, object]]) -> None:
    table = out.table(
        ("meter", "电能表"), ("task", "任务"), ("slot", "采集时刻"), ("fault", "故障"), ("detail", "说明"),
        ("opened", "发现于"), ("closed", "补齐于"),
    )  # fmt: skip
    for row in found:
        cells = {key: "" if cell is None else str(cell) for key, cell in row.items()}
        cells["fault"], cells["detail"] = out.fault(cells["fault"]), out.told(cells["detail"])
        table.add_row(*cells.values())
    if found:
        out.show(table)
    out.line(f"{len(found)} {'gap' if len(found) == 1 else 'gaps'}", f"{len(found)} 个漏点")


@click.group("central", cls=SpokenGroup)
def command(lang: str | None) -> None:
    """The centre's side: land readings from the broker, look at what is missing, report, export, ask gateways.

    Example: meterwire central gaps -c central.toml
    """


command.add_command(run)
command.add_command(gaps)
for each in (*events.COMMANDS, *reports.COMMANDS, *upkeep.COMMANDS, *carried.COMMANDS):
    command.add_command(each)
