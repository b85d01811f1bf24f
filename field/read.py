"""`meterwire read`: a live read of one meter, without a site file."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import click

from config.mistake import ConfigError
from config.model import BusEntry, MeterEntry, ProtocolName
from drivers.line import PortLost
from drivers.meter import Meter
from drivers.plan import ReadPlan, plan_items
from drivers.profile import load_profile
from field import output
from field import port as ports
from field.live import ItemRead, failed, read_live
from field.output import Exit, Output
from protocols.capture import Fault, Quality, Value

_SETTINGS = {
    "line": ("--serial", " --serial"),
    "server": ("the line settings of the serial server, which --serial does not set",
               "串口服务器自身的串口设置（--serial 不能改变它）"),
    "network": ("the line behind a gateway", "网关后的线路"),
}  # fmt: skip
"""Where the settings of the line are found: ours, a serial server's, or none of ours at all."""
_QUALITY_ZH = {"good": "有效", "doubtful": "可疑", "unavailable": "无值", "invalid": "无效"}


def as_object(read: ItemRead, value: Value) -> dict[str, object]:
    """The JSON object of a value."""
    return {
        "item": read.item,
        "quantity": value.quantity.name,
        "value": value.plain,
        "unit": value.quantity.unit,
        "quality": value.quality.value,
        "fault": value.fault.value if value.fault else None,
        "detail": value.detail,
        "raw": read.raw,
    }


def show(out: Output, reads: Sequence[ItemRead]) -> None:
    """A table for people, or an object for each value."""
    for read in reads:
        for value in read.values:
            out.object(as_object(read, value))
    if out.as_json:
        return
    table = out.table(
        ("item", "数据项"), ("quantity", "名称"), ("value", "数值"), ("unit", "单位"), ("", ""), right=("value",)
    )
    for read in reads:
        for value in read.values:
            name = out.say(value.quantity.name, value.quantity.zh or value.quantity.name)
            unit = "" if value.quantity.unit == "1" else value.quantity.unit
            table.add_row(read.item, name, value.plain or "-", unit, remark(out, value))
    out.show(table)


def remark(out: Output, value: Value) -> str:
    """What is not as it should be with a value, for people; nothing for a good one."""
    if value.fault is None and value.quality is Quality.GOOD:
        return ""
    quality = value.quality.value
    word = out.fault(value.fault.value) if value.fault else out.say(quality, _QUALITY_ZH[quality])
    return f"{word}{out.say(': ', '：')}{out.told(value.detail)}" if value.detail else word


def advise(out: Output, reads: Sequence[ItemRead], entry: MeterEntry, bus: BusEntry) -> None:
    """What to look at next where nothing came, or only damage."""
    faults = {value.fault for read in reads for value in read.values}
    address, place = entry.address, ports.place(out, bus, entry.serial)
    way = "network" if entry.protocol == "modbus-tcp" else "server" if bus.port.startswith("tcp://") else "line"
    at, at_zh = _SETTINGS[way]
    if Fault.SILENT in faults:
        wires, wires_zh = ("", "") if way == "network" else (" wires A and B,", "A/B 线、")
        out.error(
            f"meter {address} did not answer on {place}: check its power,{wires} the address and {at}; a slow meter "
            f"needs a longer --timeout",
            f"电能表 {address} 无应答：{place}；请检查其电源、{wires_zh}地址和{at_zh}；应答慢的表可加大 --timeout",
        )
    if Fault.GARBLED in faults:
        out.error(
            f"what came on {place} is no answer of meter {address}: check --protocol, {at}, the wiring, and whether "
            f"another master or meter speaks at the same time",
            f"收到的不是电能表 {address} 的应答：{place}；请检查接线、--protocol 和{at_zh}，以及是否有其他主站或"
            f"电能表同时通信",
        )


def verdict(reads: Sequence[ItemRead]) -> Exit:
    """Good when every value was given, or the meter says that it has none; nothing when none was."""
    values = [value for read in reads for value in read.values]
    bad = sum(value.fault is not None or value.quality is Quality.INVALID for value in values)
    return Exit.GOOD if values and not bad else Exit.NOTHING if bad == len(values) else Exit.PART


def read_or_tell(out: Output, bus: BusEntry, meter: Meter, plan: ReadPlan) -> Exit:
    """Read and show; a port that cannot be opened is told in words, and as the fault of every value."""
    try:
        reads = asyncio.run(read_live(bus, meter, plan))
    except PortLost as error:
        if out.as_json:
            show(out, failed(plan, Fault.BUS, str(error)))
        return ports.lost(out, error)
    show(out, reads)
    advise(out, reads, meter.entry, bus)
    return verdict(reads)


@output.command("read")
@ports.port_option()
@click.option("--protocol", required=True, type=click.Choice(ports.PROTOCOLS))
@ports.serial_option()
@ports.meter_option()
@ports.profile_option("The model (docs/profiles.md): its names of items and its timing.")
@click.option("--timeout", "timeout_s", type=click.FloatRange(0.01, 60),
              help="Seconds that the meter may take to begin its answer. Default: as its profile says.")  # fmt: skip
@click.option("--attempts", type=click.IntRange(1, 20), help="How often a question is asked. Default: profile.")
@click.argument("items", nargs=-1, required=True, metavar="ITEM ...")
def command(
    out: Output,
    port: str,
    protocol: ProtocolName,
    serial: str | None,
    address: str,
    profile: str | None,
    timeout_s: float | None,
    attempts: int | None,
    items: Sequence[str],
) -> Exit:
    """Read items of one meter now, in the order given, on one open port.

    ITEM is the name of a quantity (voltage.a; Modbus needs --profile for names), a DL/T 645 identifier (00010000,
    9010), or Modbus registers: holding:ADDRESS[:TYPE[:COUNT]] or input:..., 0-based; TYPE is uint16 (default), int16,
    uint32, int32, uint64, int64, float32 or float64, with /swap behind it for the low word first.

    Example: meterwire read --port /dev/ttyUSB0 --protocol dlt645-2007 --meter 000000000001 00010000 voltage.a

    Exit codes: 0 every item was read; 1 some were not; 2 an option or item is wrong; 3 nothing was read, or the port
    is missing; 4 the port is in use by another program.
    """
    ports.quieten()
    try:
        bus, (entry,) = ports.chosen(port, serial, protocol, [address], profile, abbreviated=True)
        plan = plan_items(entry, items, bus.serial)
    except ConfigError as error:
        out.mistakes(error.mistakes)
        return Exit.USAGE
    if ports.owned(port):
        return ports.refuse(out, port)
    model = load_profile(entry.profile)
    if timeout_s is not None:
        milliseconds = max(1, round(timeout_s * 1000))
        model = replace(model, turnaround_ms_max=milliseconds, late_max_ms=max(model.late_max_ms, milliseconds))
    if attempts is not None:
        model = replace(model, attempts=attempts)
    return read_or_tell(out, bus, Meter(entry, model, bus), plan)
