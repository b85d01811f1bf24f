"""`meterwire demo`: the whole chain on simulated meters, with real processes, and the truth check at its end."""

import asyncio
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from config.mistake import Mistake
from config.model import TaskEntry, UplinkEntry
from config.values import broker_url
from field import output
from field.chain import Chain
from field.chinese import chinese
from field.clock import wall_ms
from field.output import FAULTS_ZH, Exit, Output, words
from gateway.status import ask
from simulators.broker import Broker

if TYPE_CHECKING:
    from field.truth import Truth

EVERY_S = 10
SITE = """\
# The demo's site: DL/T 645 and Modbus meters share a pty at two speeds, others stand behind a serial server, others on
# Modbus TCP. One meter of the second bus is in the archive and does not answer.
[[bus]]
name = "rs485-1"
kind = "pty"
serial = "9600-8E1"

[[bus.meters]]
profile = "dlt645-2007-3p"
address = "202411110001"
count = 3

[[bus.meters]]
profile = "eastron-sdm120"
address = "11"
count = 2
serial = "19200-8N1"
trace = "steelplant"

[[bus]]
name = "serial-server"
kind = "tcp"
serial = "9600-8E1"

[[bus.meters]]
profile = "dlt645-2007-1p"
address = "202411120001"
count = 3

[[bus.meters]]
profile = "eastron-sdm630"
address = "21"
serial = "9600-8N1"
trace = "steelplant"

[[bus.meters]]
profile = "dlt645-2007-1p"
address = "202411129999"
present = false

[[bus]]
name = "ethernet"
kind = "modbus-tcp"

[[bus.meters]]
profile = "acrel-dtsd1352"
address = "1"
count = 4
trace = "steelplant"
"""
CURVE = TaskEntry(
    name="curve",
    every_s=EVERY_S,
    items=("energy.active.import.total", "voltage.a", "current.a", "power.active.total", "frequency"),
)
"""What meters of every model have."""
TASKS = (
    CURVE,
    TaskEntry(
        name="tariffs",
        every_s=3 * EVERY_S,
        items=(*(f"energy.active.import.t{n}" for n in range(1, 5)), "clock.date", "clock.time"),
    ),
)


@output.command("demo")
@click.option("--seconds", default=45, show_default=True, type=click.IntRange(10, 86_400), help="How long to poll.")
@click.option("--broker", "url", help="Use this broker (mqtt://127.0.0.1:PORT) instead of one of its own.")
@click.option("--keep", type=click.Path(path_type=Path), help="Keep keys, databases and logs in this new directory.")
def command(out: Output, seconds: int, url: str | None, keep: Path | None) -> Exit:
    """Show the whole chain: simulated meters, gateway, broker, centre; then check that all tell the same story.

    Needs no root and no hardware; everything runs on this machine, in processes of its own, below one directory.
    Ends with a summary (--json: planned, served, accepted, landed, gaps, missing, duplicate, different, unexplained,
    uplink_bytes, bytes_per_value).

    Example: meterwire demo --seconds 30

    Exit codes: 0 every accepted capture landed once, every landed value is one that its meter served, every planned
    slot is landed or has a gap with its reason; 1 not so, or stopped before its end; 2 a wrong option; 3 a part did not
    start.
    """
    if keep is not None and keep.exists():
        out.error(f"{keep} is there already: name a new directory", f"{keep} 已存在：请指定新目录")
        return Exit.USAGE
    if url is not None:
        try:
            host, port = _endpoint(url)
        except ValueError as error:
            out.mistakes([Mistake("options", "--broker", str(error), url)])
            return Exit.USAGE
        try:
            socket.create_connection((host, port), timeout=5).close()
        except OSError as error:
            reason = words(error)
            out.error(f"{url}: no broker answers ({reason})", f"{url}：MQTT 服务器没有应答（{out.told(reason)}）")
            return Exit.NOTHING
    signal.signal(signal.SIGTERM, _interrupt)  # its processes end with it, whoever ends it
    try:
        with _directory(keep) as directory:
            return _run(out, directory, seconds, url)
    except RuntimeError as error:
        out.wrong(str(error))
        return Exit.NOTHING
    except KeyboardInterrupt:
        out.error("stopped before its end: nothing was checked", "中途停止：没有核对")
        return Exit.PART


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _endpoint(url: str) -> tuple[str, int]:
    """Host and port of a broker on this machine. Raises ValueError with what was expected."""
    parts = urlsplit(broker_url(url))
    if parts.scheme != "mqtt":
        raise ValueError("mqtt://127.0.0.1:PORT")
    return str(parts.hostname), int(parts.port or 0)


@contextmanager
def _directory(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        keep.mkdir(parents=True)
        yield keep.absolute()
        return
    directory = Path(tempfile.mkdtemp(prefix="meterwire-demo-"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


def _run(out: Output, directory: Path, seconds: int, url: str | None) -> Exit:
    broker = None if url else Broker(directory)
    chain = None
    try:
        if broker is not None:
            broker.start()
        name = broker.name if broker is not None else url
        at = broker.url if broker is not None else str(url)
        chain = Chain(directory, sim=SITE, tasks=TASKS, uplink=UplinkEntry(url=at))
        # Only three-phase DL/T 645 meters have four tariffs and a clock to read.
        chain.narrow(
            {m.id: ("curve", "tariffs") if m.profile == "dlt645-2007-3p" else ("curve",) for m in chain.site.meters}
        )
        meters, buses = len(chain.site.meters), len(chain.site.buses)
        out.line(
            f"{meters} simulated meters on {buses} buses, broker {name}, polled every {EVERY_S} s for {seconds} s",
            f"{buses} 条总线上 {meters} 块模拟电能表，MQTT 服务器 {name}，每 {EVERY_S} 秒采集一次，共 {seconds} 秒",
        )
        _await_room(EVERY_S * 1000)
        chain.start()
        _watch(out, chain, seconds)
        chain.drain()
        chain.stop()
        return _tell(out, chain)
    finally:
        if chain is not None:
            chain.kill()
        if broker is not None:
            broker.stop()


def _await_room(every_ms: int) -> None:
    """Begin when the slot in force has most of its time before it: a site that runs for years has no half slots."""
    passed = wall_ms() % every_ms
    if passed > every_ms // 5:
        time.sleep((every_ms - passed) / 1000)


def _watch(out: Output, chain: Chain, seconds: int) -> None:
    """Show how it goes, until the time is over. Raises RuntimeError when a part ends by itself."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, 5.0))
        for part in (chain.sim, chain.gateway, chain.centre):
            if not part.running:
                raise RuntimeError(f"{part.name} ended by itself\n{part.said()}")
        try:
            status = asyncio.run(ask(chain.site.socket))
        except OSError:
            continue  # the gateway is still starting
        _show(out, status, seconds - max(0, round(end - time.monotonic())))


def _show(out: Output, status: dict[str, object], elapsed: int) -> None:
    today, buffer, uplink = status["today"], status["buffer"], status["uplink"]
    assert isinstance(today, dict)
    assert isinstance(buffer, dict)
    assert isinstance(uplink, dict)
    captured, gaps = today["captured"], today["gaps"]
    waiting, settled = buffer["unsealed"], uplink["counters"]["settled_batches"]
    out.line(
        f"{elapsed:4d} s  captured {captured}  gaps {gaps}  unsealed {waiting}  batches settled {settled}",
        f"{elapsed:4d} 秒  已采集 {captured}  漏点 {gaps}  待封装 {waiting}  已确认批次 {settled}",
    )


def _tell(out: Output, chain: Chain) -> Exit:
    truth, inbox = chain.truth(), chain.inbox()
    per_value = round(inbox.bytes / truth.landed, 2) if truth.landed else None
    counts = sorted(chain.gap_reasons().items())
    reasons = ", ".join(f"{fault} {count}" for fault, count in counts)
    reasons_zh = "，".join(f"{FAULTS_ZH.get(fault, fault)} {count}" for fault, count in counts)
    out.object({**summary(truth), "uplink_bytes": inbox.bytes, "bytes_per_value": per_value})
    out.line(
        f"\nplanned {truth.planned} slots, served {truth.served} replies, accepted {truth.accepted} captures, "
        f"landed {truth.landed} values, {truth.gaps} gaps with a reason ({reasons})\n"
        f"missing {truth.missing}, duplicate {truth.duplicate}, different {truth.different}, "
        f"unexplained {truth.unexplained}; {inbox.bytes} bytes in {inbox.batches} batches ({per_value} a value)",
        f"\n计划采集 {truth.planned} 次，应答 {truth.served} 次，接收 {truth.accepted} 条，入库 {truth.landed} 个值，"
        f"{truth.gaps} 个有原因的漏点（{reasons_zh}）\n"
        f"丢失 {truth.missing}，重复 {truth.duplicate}，不符 {truth.different}，无说明 {truth.unexplained}；"
        f"{inbox.batches} 个批次共 {inbox.bytes} 字节（每值 {per_value}）",
    )
    for kind, examples in truth.examples.items():
        for example in examples:
            out.error(f"{kind}: {example}", f"{chinese(kind)}：{example}")
    if truth.passed:
        out.line("the three logs tell one story", "三份日志一致")
    return Exit.GOOD if truth.passed else Exit.PART


def summary(truth: "Truth") -> dict[str, object]:
    """The counts of a verdict, by the names of the demo's summary."""
    names = ("planned", "served", "accepted", "landed", "gaps", "missing", "duplicate", "different", "unexplained")
    return {name: getattr(truth, name) for name in names}
