"""`meterwire status`: what a running gateway says of itself."""

import asyncio
import time
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import click

from config.load import survey_site
from field import output
from field.config import site_option
from field.output import Exit, Output, words

WATCH_S = 2.0
"""Between two looks with --watch."""
_PARITY_ZH = {"enforced": "内核校验", "unverified": "无法确认", "none": "无校验"}
METERS_SHOWN = 32
"""Meters listed for people, those in trouble first; --json lists all."""


@output.command("status")
@site_option
@click.option("--watch", is_flag=True, help=f"Look again every {WATCH_S:g} s, until interrupted.")
def command(out: Output, file: Path, watch: bool) -> Exit:
    """Show how the gateway on this machine is: buses, meters, buffer, uplink, today's success rate.

    Example: meterwire status -c site.toml --watch

    With --json one object (one a look with --watch). Exit codes: 0 all good; 1 something is in trouble; 2 a mistake in
    the configuration; 3 no gateway answers.
    """
    site, mistakes = survey_site(file)
    if site is None or any(mistake.where.startswith("status") for mistake in mistakes):
        out.mistakes(mistakes)
        return Exit.USAGE
    while True:
        status = _ask(out, site.socket)
        if status is None:
            return Exit.NOTHING
        out.object(status)
        if not out.as_json:
            _show(out, status, ZoneInfo(site.zone), clear=watch)
        if not watch:
            return Exit.PART if trouble(out, status) else Exit.GOOD
        try:
            time.sleep(WATCH_S)
        except KeyboardInterrupt:
            return Exit.GOOD


def _ask(out: Output, socket: Path) -> dict[str, Any] | None:
    from gateway.status import ask

    try:
        return asyncio.run(ask(socket))
    except (OSError, TimeoutError, ValueError) as error:
        reason = words(error)
        out.error(
            f"{socket}: no gateway answers ({reason}); is `meterwire run` running, with this site file?",
            f"{socket}：网关没有应答（{out.told(reason)}）；`meterwire run` 是否正以此站点文件运行？",
        )
        return None


def trouble(out: Output, status: dict[str, Any]) -> list[str]:
    """What is not as it should be, a short text each: empty when all is good."""
    found = []
    if not status["clock"]["trusted"]:
        reason = status["clock"]["reason"]
        found.append(out.say(f"clock: {reason}", f"时钟：{out.told(reason)}"))
    if status["stalled"]:
        found.append(out.say(f"stalled: {status['stalled']}", f"停滞：{out.told(status['stalled'])}"))
    for bus in status["buses"]:
        if bus["trouble"]:
            found.append(
                out.say(f"bus {bus['name']}: {bus['trouble']}", f"总线 {bus['name']}：{out.told(bus['trouble'])}")
            )
        if bus["silent"]:
            silent = ", ".join(bus["silent"])
            found.append(out.say(f"bus {bus['name']}: silent: {silent}", f"总线 {bus['name']}：无应答：{silent}"))
    if not status["uplink"]["connected"]:
        found.append(out.say("uplink: not connected", "上行：未连接"))
    found += [out.say(f"store: {damage}", f"存储：{out.told(damage)}") for damage in status["buffer"]["damage"]]
    return found


def _show(out: Output, status: dict[str, Any], zone: ZoneInfo, *, clear: bool) -> None:
    def clock(at: int | None) -> str:
        return datetime.fromtimestamp(at / 1000, zone).strftime("%m-%d %H:%M:%S") if at else "-"

    today, buffer, uplink = status["today"], status["buffer"], status["uplink"]
    facts = out.table()
    facts.add_row(out.say("gateway", "网关"), f"{status['gateway']}  {clock(status['at'])}")
    slots = today["captured"] + today["gaps"]
    facts.add_row(out.say("today", "今日采集成功率"), f"{_percent(today['rate'])}  ({today['captured']}/{slots})")
    facts.add_row(
        out.say("buffer", "缓存"),
        out.say(
            f"{buffer['unsealed']} records to seal, {buffer['batches']} batches unsettled",
            f"待封装 {buffer['unsealed']} 条，未确认 {buffer['batches']} 批",
        ),
    )
    facts.add_row(
        out.say("uplink", "上行"),
        out.say(*(("connected", "已连接") if uplink["connected"] else ("not connected", "未连接"))),
    )
    buses = out.table(("bus", "总线"), ("port", "端口"), ("parity", "校验"), ("busy", "占用"),
                      ("queued", "排队"), ("silent", "无应答"), ("trouble", "故障"),
                      right=("busy", "queued", "silent"))  # fmt: skip
    for bus in status["buses"]:
        buses.add_row(
            bus["name"], bus["port"], _parity(out, bus.get("parities", {})), _percent(_busy(bus["account_ms"])),
            str(bus["queued"]), str(len(bus["silent"])),
            out.told(bus["trouble"] or ""),
        )  # fmt: skip
    meters = out.table(("meter", "电能表"), ("bus", "总线"), ("today", "今日"), ("last", "最近"), ("fault", "故障"),
                       right=("today",))  # fmt: skip
    for meter in _worst(status["meters"]):
        fault = out.fault(meter["fault"] or "")
        meters.add_row(meter["meter"], meter["bus"], _percent(meter["rate"]), clock(meter["last_at"]), fault)
    out.show(facts, "", buses, "", meters, clear=clear)
    left = len(status["meters"]) - METERS_SHOWN
    if left > 0:
        out.line(f"and {left} more, no worse", f"另有 {left} 块，状况不更差")
    for text in trouble(out, status):
        out.line(f"! {text}", f"！{text}")


def _parity(out: Output, parities: Mapping[str, str | None]) -> str:
    """Whether parity is checked: a word where that is so for all meters of a bus, else with the settings of each."""
    told = {serial: out.say(parity, _PARITY_ZH[parity]) if parity else "-" for serial, parity in parities.items()}
    if len(set(told.values())) < 2:
        return next(iter(told.values()), "-")
    return ", ".join(f"{serial} {word}" for serial, word in told.items())


def _worst(meters: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    order = sorted(meters, key=lambda meter: (meter["fault"] is None, meter["rate"] is None, meter["rate"] or 0.0))
    return order[:METERS_SHOWN]


def _busy(account_ms: Mapping[str, int]) -> float | None:
    """The share of its time that a bus has had work since the start; what the plan calls its load."""
    elapsed = sum(account_ms.values())
    return 1 - account_ms["idle"] / elapsed if elapsed else None


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"
