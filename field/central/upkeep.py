"""`meterwire central request`, `central letters` and `central drop`: what people do at the centre now and then."""

import os
from collections.abc import Iterator, Mapping
from datetime import date, datetime
from pathlib import Path

import click

from central.connection import BrokerAway
from central.sinks import open_sink
from central.sinks.base import SinkAway, SinkUnfit
from field import output
from field.central.options import Day, Moment, config_option, instant, iso, listed, load_site
from field.clock import wall_ms
from field.output import Exit, Output, words
from identity.centre import Centre, GatewayTrust
from identity.files import IdentityError
from protocols.topics import GATEWAY_ID

WAIT_S = 30.0
STATUS_ZH = {"done": "完成", "part": "部分完成", "failed": "失败", "expired": "已过期", "unknown": "网关不认识此请求",
             "refused": "被拒绝"}  # fmt: skip


@output.command("request")
@config_option
@click.argument("gateway")
@click.argument("action", type=click.Choice(["read_now", "send_again"]))
@click.option("--meter", help="read_now: the meter.")
@click.option("--item", "items", multiple=True, help="read_now: a quantity; may be given again.")
@click.option("--since", type=Moment(), help="send_again: from this time on; of report.zone, or with offset.")
@click.option("--until", type=Moment(), help="send_again: before this time.")
@click.option("--wait", "wait_s", type=click.FloatRange(1, 600), default=WAIT_S, show_default=True,
              help="Seconds to wait for the answer.")  # fmt: skip
def request(
    out: Output, file: Path, gateway: str, action: str, meter: str | None, items: tuple[str, ...],
    since: datetime | None, until: datetime | None, wait_s: float,
) -> Exit:  # fmt: skip
    """Ask a gateway, signed by the centre: read a meter now, or send what it has of a time once more.

    What is read lands by itself, like every reading, and is shown here too. What is sent again lands where it is
    missing, and changes nothing where it is not.

    Example: meterwire central request -c central.toml gw-0001 read_now --meter 000123456789 --item voltage.a

    With --json one line: status, detail, seconds, values. Exit codes: 0 done; 1 done in part; 2 a mistake in the
    configuration or the options; 3 refused, failed, no answer, no broker or no database.
    """
    from central.request import ask

    site = load_site(out, file)
    if site is None:
        return Exit.USAGE
    arguments: Mapping[str, str | int]
    if action == "read_now":
        if meter is None or not items or since is not None or until is not None:
            out.error("read_now needs --meter and --item", "read_now 需要 --meter 和 --item")
            return Exit.USAGE
        arguments = {"meter": meter, "items": ";".join(items)}
    else:
        span = [instant(moment, site) for moment in (since, until) if moment is not None]
        if len(span) < 2 or span[0] >= span[1] or meter is not None or items:
            out.error("send_again needs --since before --until", "send_again 需要 --since，且早于 --until")
            return Exit.USAGE
        arguments = {"since": span[0], "until": span[1]}
    try:
        centre, gateways = Centre.load(site.keys), GatewayTrust.load(site.keys)
        if GATEWAY_ID.fullmatch(gateway) is None or gateways.find(gateway) is None:
            out.error(
                f"{gateway}: its keys are not trusted here; take them in with `meterwire keys trust gateway.json`",
                f"{gateway}：此处未信任其密钥；请用 `meterwire keys trust gateway.json` 收下",
            )
            return Exit.USAGE
        sink = open_sink(site.database)
        try:
            answer = ask(
                site, sink, centre=centre, gateways=gateways, gateway=gateway, action=action, arguments=arguments,
                wait_s=wait_s, now_ms=wall_ms, random=os.urandom,
            )  # fmt: skip
        finally:
            sink.close()
    except (IdentityError, SinkUnfit) as error:
        out.wrong(words(error))
        return Exit.USAGE
    except (BrokerAway, SinkAway) as error:
        out.wrong(str(error))
        return Exit.NOTHING
    if answer is None:
        out.error(f"{gateway}: no answer within {wait_s:g} s", f"{gateway}：{wait_s:g} 秒内无应答")
        return Exit.NOTHING
    values = [
        {"quantity": value.quantity.name, "value": value.plain, "unit": value.quantity.unit,
         "quality": value.quality.value, "fault": None if value.fault is None else value.fault.value}
        for capture in answer.captures
        for value in capture.values
    ]  # fmt: skip
    status, detail = answer.reply.status, answer.reply.detail
    out.object({"gateway": gateway, "action": action, "status": status, "detail": detail,
                "seconds": round(answer.seconds, 3), "values": values})  # fmt: skip
    en, zh = (f": {detail}", f"：{out.told(detail)}") if detail else ("", "")
    out.line(f"{status}{en} ({answer.seconds:.1f} s)",
             f"{STATUS_ZH.get(status, status)}{zh}（{answer.seconds:.1f} 秒）")  # fmt: skip
    table = out.table(("quantity", "数据项"), ("value", "数值"), ("unit", "单位"), ("fault", "故障"), right=("value",))
    for value in values:
        table.add_row(str(value["quantity"]), str(value["value"] or ""), str(value["unit"]),
                      "" if value["fault"] is None else out.fault(str(value["fault"])))  # fmt: skip
    if values:
        out.show(table)
    return {"done": Exit.GOOD, "part": Exit.PART}.get(status, Exit.NOTHING)


@output.command("letters")
@config_option
@click.option("--gateway", help="Only of this gateway.")
@click.option("--reason", help="Only for this reason.")
def letters(out: Output, file: Path, gateway: str | None, reason: str | None) -> Exit:
    """List the messages that were set aside, each with its reason: forged, malformed, of an unknown key, refused.

    Example: meterwire central letters -c central.toml --reason forged

    With --json one line a message: gateway, reason, detail, topic, bytes, times, first_at, last_at.
    Exit codes: 0 listed, whether there are any or not; 2 a mistake in the configuration; 3 no database.
    """
    from central.landing import Reason
    from central.look import looking

    site = load_site(out, file)
    if site is None:
        return Exit.USAGE
    if reason is not None and reason not in (known := [one.value for one in Reason]):
        out.wrong(f"--reason: expected one of {', '.join(known)}, got {reason}")
        return Exit.USAGE
    chosen = {name: value for name, value in (("gateway", gateway), ("reason", reason)) if value is not None}
    where = f" WHERE {' AND '.join(f'{name} = ?' for name in chosen)}" if chosen else ""
    table = out.table(
        ("gateway", "网关"), ("reason", "原因"), ("detail", "说明"), ("bytes", "字节"), ("times", "次数"),
        ("first", "首次"), ("last", "最近"), right=("bytes", "times"),
    )  # fmt: skip

    def rows() -> Iterator[tuple[dict[str, object], tuple[str, ...]]]:
        with looking(site.database) as look:
            for name, why, detail, topic, size, times, first, last in look.rows(
                "SELECT gateway, reason, detail, topic, length(payload), times, first_at, last_at FROM dead_letter"
                f"{where} ORDER BY last_at, id",
                tuple(chosen.values()),
            ):
                first_at, last_at = iso(look.ms(first)) or "", iso(look.ms(last)) or ""
                yield (
                    {"gateway": name, "reason": why, "detail": detail, "topic": topic, "bytes": size, "times": times,
                     "first_at": first_at, "last_at": last_at},
                    (name, why, out.told(detail), str(size), str(times), first_at, last_at),
                )  # fmt: skip

    return listed(out, table, rows(), lambda count: (
        f"{count} {'message' if count == 1 else 'messages'} set aside", f"搁置 {count} 条报文"))  # fmt: skip


@output.command("drop")
@config_option
@click.option("--before", "day", type=Day(), required=True, help="The first UTC day that stays.")
@click.option("--yes", is_flag=True, help="Do it; without it only what would be done is said.")
def drop(out: Output, file: Path, day: date, yes: bool) -> Exit:
    """Drop the readings of all UTC days before one, for good: partitions in PostgreSQL, rows in SQLite.

    Gaps, filled slots and conflicts of those days go too. What the inbox knows stays, so that nothing of it comes back
    by itself. Workers may run meanwhile.

    Example: meterwire central drop -c central.toml --before 2025-01-01 --yes

    With --json one line: before, done, partitions, rows. Exit codes: 0 done, or said what would be; 2 a mistake in
    the configuration; 3 no database.
    """
    from central.retention import drop_before, old_readings

    site = load_site(out, file)
    if site is None:
        return Exit.USAGE
    try:
        if not yes:
            count = old_readings(site.database, day)
            out.line(f"readings of earlier days: {count}; --yes drops them",
                     f"更早的读数：{count} 个；加 --yes 将其删除")  # fmt: skip
            out.object({"before": day.isoformat(), "done": False, "readings": count})
            return Exit.GOOD
        gone = drop_before(site.database, day)
    except (SinkAway, SinkUnfit) as error:
        out.wrong(str(error))
        return Exit.NOTHING
    out.line(f"dropped: {len(gone.partitions)} partitions, {gone.rows} rows",
             f"已删除：{len(gone.partitions)} 个分区，{gone.rows} 行")  # fmt: skip
    out.object({"before": day.isoformat(), "done": True, "partitions": gone.partitions, "rows": gone.rows})
    return Exit.GOOD


COMMANDS = (request, letters, drop)
