"""`meterwire run`: the gateway daemon, in the foreground."""

import asyncio
import logging
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from config.mistake import ConfigError
from field import output
from field.clock import wall_ms
from field.config import load_checked, refuse, site_option
from field.output import Exit, Output, words
from field.truth import AcceptedLog

if TYPE_CHECKING:
    from gateway.daemon import Daemon

log = logging.getLogger("gateway")


@output.command("run")
@site_option
@click.option(
    "--accepted", type=click.Path(path_type=Path),
    help="Append what the store has accepted to this file, as JSON lines; for the truth check.",
)  # fmt: skip
@click.option("--drain", is_flag=True, help="Ask nothing; stop once the centre has everything that was read before.")
def command(out: Output, file: Path, accepted: Path | None, drain: bool) -> Exit:
    """Run the gateway of a site file, until SIGTERM or SIGINT.

    SIGUSR1 drains it, as --drain does from the start: nothing more is asked, and it stops once the centre has
    everything that was read.

    Polls the meters, keeps what they say, sends it sealed to the centre. Says when it is ready with one log line, and
    to the supervisor (sd_notify). Nothing is started while the configuration has a mistake or a key is not right.

    Example: meterwire run -c /etc/meterwire/site.toml

    Exit codes: 0 stopped as asked; 2 a mistake in the configuration, a key that is missing or that others can read,
    or a store of a newer version; 3 the store, or something else it cannot work without, failed, or the token of
    the keys is away; 4 another process has the store open.
    """
    from buffer.errors import OutboxError, StoreBusy, StoreForeign
    from gateway.daemon import Daemon
    from gateway.session import mqtt_sessions
    from identity.files import IdentityError
    from identity.gateway import CentreTrust, GatewayIdentity
    from identity.token import TokenAway
    from protocols import suites

    try:
        site = load_checked(file)
    except ConfigError as error:
        return refuse(out, file, error)
    try:
        suites.check([site.suite])
        identity = GatewayIdentity.load(site.keys, site.gateway, token=site.token)
        trust = CentreTrust.load(site.keys)
        sessions = mqtt_sessions(site.uplink, site.gateway)
    except TokenAway as error:  # plugged in later, say: worth another start
        out.wrong(words(error))
        return Exit.NOTHING
    except (IdentityError, suites.Unavailable, OSError) as error:
        out.wrong(words(error))
        return Exit.USAGE

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")

    async def main() -> None:
        observer = AcceptedLog(accepted) if accepted else None
        daemon = Daemon(
            site, sessions=sessions, identity=identity, trust=trust, now_ms=wall_ms, observer=observer
        )  # fmt: skip
        loop = asyncio.get_running_loop()
        drained = asyncio.Event()
        if drain:
            drained.set()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, daemon.stop)
        loop.add_signal_handler(signal.SIGUSR1, drained.set)
        async with asyncio.TaskGroup() as group:
            draining = group.create_task(_drain(daemon, drained), name="drain")
            await daemon.run()
            draining.cancel()

    try:
        asyncio.run(main())
    except (OutboxError, OSError, ExceptionGroup) as error:
        causes = list(_causes(error))
        foreseen = all(isinstance(cause, OutboxError | OSError) for cause in causes)
        reason = "; ".join(words(cause) for cause in causes)
        log.critical("ended reason=%r", reason, exc_info=None if foreseen else error)
        for cause in causes:
            out.wrong(words(cause))
        if any(isinstance(cause, StoreForeign) for cause in causes):
            return Exit.USAGE
        return Exit.BUSY if any(isinstance(cause, StoreBusy) for cause in causes) else Exit.NOTHING
    return Exit.GOOD


def _causes(error: Exception) -> Iterator[Exception]:
    """The errors in a group, and in the groups in it; or the error itself."""
    if isinstance(error, ExceptionGroup):
        for each in error.exceptions:
            yield from _causes(each)
    else:
        yield error


async def _drain(daemon: "Daemon", asked: asyncio.Event) -> None:
    """When asked to: wait until the centre has everything, then stop."""
    await asked.wait()
    await daemon.ready.wait()
    await daemon.drain()
    daemon.stop()
