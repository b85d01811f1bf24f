"""`meterwire sim`: a simulated site in real time, for demonstrations, tests and whoever writes a driver."""

import asyncio
import errno
import json
import signal
from pathlib import Path

import click

from config.mistake import ConfigError
from config.model import UplinkEntry
from field.clock import wall_ms
from field.output import Exit, Output, words
from field.output import command as make_command
from simulators.describe import SitePlan, load_plan
from simulators.site import RealSite, write_site_files
from simulators.truth import ServedLog


@make_command("sim")
@click.option("-c", "--config", "plan_file", required=True, type=click.Path(path_type=Path), help="The sim.toml.")
@click.option("--served", type=click.Path(path_type=Path), help="Append what is served to this file, as JSON lines.")
@click.option("--site", "site_directory", type=click.Path(path_type=Path),
              help="Write a site.toml and meters.csv that poll this site into this directory.")  # fmt: skip
@click.option("--gateway", default="sim", show_default=True, help="The gateway's id in that site.toml.")
@click.option("--url", default="mqtt://127.0.0.1:1883", show_default=True, help="The broker in that site.toml.")
def command(
    output: Output, plan_file: Path, served: Path | None, site_directory: Path | None, gateway: str, url: str
) -> Exit:
    """Simulate a site: meters on ptys, serial servers and Modbus TCP.

    Prints one JSON line with its endpoints when ready, and runs until SIGTERM or SIGINT.

    Example: meterwire sim -c sim.toml --served served.jsonl --site gateway/

    Exit codes: 0 stopped as asked; 2 sim.toml has mistakes (all are listed); 3 a port or file cannot be opened;
    4 a port or link is in use.
    """
    try:
        plan = load_plan(plan_file)
    except ConfigError as error:
        output.mistakes(error.mistakes)
        return Exit.USAGE
    log = ServedLog(served or plan.served)
    try:
        asyncio.run(_run(plan, log, site_directory, gateway, url))
    except OSError as error:
        reason = words(error)
        output.error(f"cannot start: {reason}", f"无法启动：{output.told(reason)}")
        return Exit.BUSY if error.errno == errno.EADDRINUSE else Exit.NOTHING
    output.line(f"replies served: {log.replies}", f"共应答 {log.replies} 次")
    return Exit.GOOD


async def _run(plan: SitePlan, log: ServedLog, site_directory: Path | None, gateway: str, url: str) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    async with RealSite(plan, now_ms=wall_ms, log=log) as site:
        ready: dict[str, object] = {"ready": True, "buses": site.ports, "meters": plan.meter_count}
        if site_directory is not None:
            built = site.site(uplink=UplinkEntry(url=url), gateway=gateway, directory=site_directory)
            ready["site"] = str(write_site_files(built, site_directory))
        click.echo(json.dumps(ready, ensure_ascii=False))
        await stop.wait()
