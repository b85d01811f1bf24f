"""`meterwire read`: a live read of one meter, without a site file."""

import asyncio
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import get_args

import click

from config.mistake import ConfigError, Mistake
from config.model import BusEntry, MeterEntry, ProtocolName, SerialSettings
from drivers.line import PortBusy, PortLost
from drivers.line_tcp import endpoint
from drivers.meter import Meter
from drivers.plan import ReadPlan, plan_items
from drivers.profile import Profile, load_profile, profile_names
from field import output
from field.live import ItemRead, failed, read_live
from field.output import Exit, Output
from protocols.capture import Fault, Quality, Value

PROTOCOLS: tuple[ProtocolName, ...] = get_args(ProtocolName)
_PROFILE: Mapping[str, str] = {"dlt645-2007": "dlt645-2007-3p", "dlt645-1997": "dlt645-1997"}
"""Which profile tells the names of items and the timing where none is named; Modbus registers need no names."""
_SERIAL = {True: "2400-8E1", False: "9600-8N1"}
"""For DL/T 645, the standard's default; for Modbus, what most meters leave the works with (recalled)."""
_QUALITY_ZH = {"good": "有效", "doubtful": "可疑", "unavailable": "无值", "invalid": "无效"}


def meter_of(
    port: str, protocol: ProtocolName, serial: str | None, address: str, profile_name: str | None
) -> tuple[BusEntry, MeterEntry, Profile]:
    """What the options say. Raises ConfigError with every mistake."""
    mistakes: list[Mistake] = []

    def wrong(option: str, expected: str, got: str) -> None:
        mistakes.append(Mistake("options", option, expected, got))

    dlt645 = protocol.startswith("dlt645")
    if (dlt645 and re.fullmatch(r"A*\d*", address.upper()) is None) or (dlt645 and len(address) != 12):
        wrong("--meter", "12 digits, those on the left perhaps A for any", address)
    low, high = (0, 255) if protocol == "modbus-tcp" else (1, 247)
    if not dlt645 and not (address.isascii() and address.isdigit() and low <= int(address) <= high):
        wrong("--meter", f"a number from {low} to {high}", address)
    if protocol == "modbus-tcp" and not port.startswith("tcp://"):
        wrong("--port", "tcp://host:port with modbus-tcp", port)
    elif port.startswith("tcp:"):
        try:
            endpoint(port)
        except PortLost:
            wrong("--port", "a device path such as /dev/ttyS1, or tcp://host:port", port)
    profile = load_profile(profile_name or _PROFILE.get(protocol, "modbus-generic"))
    if protocol not in profile.protocols:
        wrong("--profile", f"one that speaks {protocol}", profile.name)
    settings = SerialSettings.parse(_SERIAL[dlt645])
    try:
        settings = SerialSettings.parse(serial) if serial else settings
    except ValueError:
        wrong("--serial", "BAUD-8PS such as 2400-8E1 or 9600-8N1", serial or "")
    if settings.data_bits == 7 and protocol != "modbus-ascii":
        wrong("--serial", f"8 data bits, which {protocol} needs", str(settings))
    if mistakes:
        raise ConfigError(mistakes)
    bus = BusEntry(name="read", port=port, serial=settings)
    entry = MeterEntry(
        id=address, point="", bus=bus.name, address=address.upper(), profile=profile.name, protocol=protocol
    )
    return bus, entry, profile


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
            table.add_row(read.item, name, value.plain or "-", unit, _remark(out, value))
    out.show(table)


def _remark(out: Output, value: Value) -> str:
    if value.fault is None and value.quality is Quality.GOOD:
        return ""
    quality = value.quality.value
    word = out.fault(value.fault.value) if value.fault else out.say(quality, _QUALITY_ZH[quality])
    return f"{word}{out.say(': ', '：')}{out.told(value.detail)}" if value.detail else word


def advise(out: Output, reads: Sequence[ItemRead], entry: MeterEntry, bus: BusEntry) -> None:
    """What to look at next where nothing came, or only damage."""
    faults = {value.fault for read in reads for value in read.values}
    serial = f"{entry.serial or bus.serial}"
    if Fault.SILENT in faults:
        out.error(
            f"meter {entry.address} did not answer on {bus.port} at {serial}: check its power, wires A and B, the "
            f"address and --serial; a slow meter needs a longer --timeout",
            f"电能表 {entry.address} 在 {bus.port}（{serial}）上无应答：请检查电源、A/B 线、地址和 --serial；"
            f"应答慢的表可加大 --timeout",
        )
    if Fault.GARBLED in faults:
        out.error(
            f"what came on {bus.port} at {serial} is no answer of meter {entry.address}: check --serial and "
            f"--protocol, the wiring, and whether another master or meter speaks at the same time",
            f"{bus.port}（{serial}）上收到的不是电能表 {entry.address} 的应答：请检查 --serial、--protocol 和接线，"
            f"以及是否有其他主站或电能表同时通信",
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
        out.error(f"cannot open the port: {error}", f"端口打不开：{out.told(str(error))}")
        if out.as_json:
            show(out, failed(plan, Fault.BUS, str(error)))
        return Exit.BUSY if isinstance(error, PortBusy) else Exit.NOTHING
    show(out, reads)
    advise(out, reads, meter.entry, bus)
    return verdict(reads)


@output.command("read")
@click.option("--port", required=True, help="A device path such as /dev/ttyUSB0, or tcp://host:port.")
@click.option("--protocol", required=True, type=click.Choice(PROTOCOLS))
@click.option("--serial", help="Such as 2400-8E1. Default: 2400-8E1 for DL/T 645, 9600-8N1 for Modbus.")
@click.option("--meter", "address", required=True, help="12 digits for DL/T 645, 1..247 for Modbus (0..255 over TCP).")
@click.option("--profile", type=click.Choice(profile_names()), metavar="NAME",
              help="The model (docs/profiles.md): its names of items and its timing.")  # fmt: skip
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
    logging.getLogger().addHandler(logging.NullHandler())  # what the bus logs, this command says in its own words
    try:
        bus, entry, model = meter_of(port, protocol, serial, address, profile)
        plan = plan_items(entry, items, bus.serial)
    except ConfigError as error:
        out.mistakes(error.mistakes)
        return Exit.USAGE
    if timeout_s is not None:
        milliseconds = max(1, round(timeout_s * 1000))
        model = replace(model, turnaround_ms_max=milliseconds, late_max_ms=max(model.late_max_ms, milliseconds))
    if attempts is not None:
        model = replace(model, attempts=attempts)
    return read_or_tell(out, bus, Meter(entry, model, bus), plan)
