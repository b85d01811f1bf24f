"""`meterwire central`: the subscriber that lands readings, and what it shows."""

import logging
import signal
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from central.config import worker as read_worker
from central.sinks.base import SinkAway, SinkUnfit
from field import output
from field.central import carried, listing, reports, upkeep
from field.central.options import config_option, load_site
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


@click.group("central", cls=SpokenGroup)
def command(lang: str | None) -> None:
    """The centre's side: land readings from the broker, look at what is missing, report, export, ask gateways.

    Example: meterwire central gaps -c central.toml
    """


command.add_command(run)
for each in (*listing.COMMANDS, *reports.COMMANDS, *upkeep.COMMANDS, *carried.COMMANDS):
    command.add_command(each)
