"""`meterwire store`: what the gateway's own store holds, whether the gateway runs or not."""

from dataclasses import asdict
from pathlib import Path

import click

from config.mistake import ConfigError
from field import output
from field.clock import local
from field.config import load_checked, refuse, site_option
from field.output import Exit, Output, words

HEADS = {
    "meter": "电能表", "task": "任务", "last_slot": "最近采集时刻", "records": "记录", "gaps": "漏点",
    "boot": "启动次数", "epoch": "纪元", "seq": "序号", "kind": "类别", "attempts": "尝试次数", "bytes": "字节",
    "first": "首行", "last": "末行", "reason": "原因", "next_seq": "下一序号", "clean": "正常停机", "events": "事件",
    "unsealed": "未封装", "batches": "待回执批次", "batched_records": "待回执记录", "requeued_ranges": "待重封区段",
    "voided": "作废批次", "unreadable": "无法解码", "set_aside": "隔离的损坏文件",
}  # fmt: skip
TEXTS = frozenset({"meter", "task", "kind", "reason", "last_slot"})
MOMENTS = frozenset({"last_slot"})
"""UTC milliseconds."""


@output.command("store")
@site_option
@click.option(
    "--show", "view", type=click.Choice(["meters", "batches", "requeued", "gone"]),
    help="Instead: its meters, the batches that wait for a receipt, what is sealed again, the numbers given up.",
)  # fmt: skip
def command(out: Output, file: Path, view: str | None) -> Exit:
    """Show what the store holds, and whether the centre has all of it: before a disk is let go, or a version changed.

    Only reads, and needs no gateway that answers: it may run, or be stopped, or fail to start.

    Example: meterwire store -c site.toml

    With --json one object: boot, epoch, next_seq, clean, records, events, unsealed, batches, batched_records,
    requeued_ranges, voided, unreadable, bytes, set_aside; with --show one object a row. Exit codes: 0 the centre has
    all of it; 1 something waits, or stands in the spare file, which is not looked into; 2 a mistake in the
    configuration; 3 no store, or it cannot be read.
    """
    from buffer import inspect
    from buffer.errors import OutboxError
    from buffer.spare import NAME

    try:
        site = load_checked(file)
    except ConfigError as error:
        return refuse(out, file, error)
    try:
        found = inspect.summary(site.store)
        rows = [asdict(found)] if view is None else inspect.rows(site.store, view)
    except OutboxError as error:
        out.wrong(words(error))
        return Exit.NOTHING
    for row in rows:
        out.object(row)
    if view is None:
        table = out.table()
        for name, value in rows[0].items():
            table.add_row(out.say(name, HEADS[name]), _told(out, value))
        out.show(table)
    elif rows:
        names = list(rows[0])
        table = out.table(*((name, HEADS[name]) for name in names), right=[name for name in names if name not in TEXTS])
        for row in rows:
            table.add_row(*(_told(out, row[name], site.zone if name in MOMENTS else None) for name in names))
        out.show(table)
    else:
        out.line("there are none", "没有")
    other = (site.buffer.spare or site.store) / NAME
    if other.exists():
        out.error(f"left out: {other}: the store has gone on there", f"未包含：{other}：存储已转到该文件")
    waits = found.unsealed or found.batches or found.requeued_ranges or other.exists()
    if view is None:
        out.line(*_verdict(waits=bool(waits)))
    return Exit.PART if waits else Exit.GOOD


def _verdict(*, waits: bool) -> tuple[str, str]:
    if waits:
        return "the centre does not have all of it yet", "主站尚未收齐"
    return "the centre has all of it", "主站已收齐"


def _told(out: Output, value: object, zone: str | None = None) -> str:
    """A fact for people. zone: it is a moment, and shown in this zone."""
    if zone is not None and isinstance(value, int):
        return local(value, zone)
    if isinstance(value, bool):
        return out.say("yes", "是") if value else out.say("no", "否")
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "-"
    return "-" if value is None else str(value)
