"""`meterwire probe`: how to talk to one meter, and the lines of the site's files for it."""

import asyncio
import csv
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

import click

from config.mistake import ConfigError
from config.model import BusEntry, ProtocolName, SerialSettings
from drivers.line import PortLost
from drivers.profile import load_profile
from field import output
from field import port as ports
from field.diagnosis.probing import Probed, duration_s, model_s, probe, ways
from field.diagnosis.progress import Progress
from field.output import Exit, Output

_COLUMNS = ("meter", "bus", "address", "profile", "protocol", "serial")
_KNOWN_ZH = {"number": "表号", "model": "铭牌型号", "made": "生产日期", "standard": "规约版本", "firmware": "固件版本",
             "device": "设备标识"}  # fmt: skip


def meters_csv(found: Probed) -> str:
    """Head and row of the meter archive for this meter."""
    out = StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_COLUMNS)
    name = f"m-{found.address}" if len(found.address) == 12 else f"bus1-{found.address}"
    serial = "" if found.protocol == "modbus-tcp" else str(found.serial)
    writer.writerow((name, "bus1", found.address, found.profile, found.protocol, serial))
    return out.getvalue().rstrip("\n")


def site_toml(port: str, found: Probed) -> str:
    """The bus of the site file for this port, by its whole path: that file may lie anywhere."""
    whole = port if port.startswith("tcp://") else Path(port).absolute()
    lines = ["[[bus]]", 'name = "bus1"', f'port = "{whole}"']
    if found.protocol != "modbus-tcp":
        lines.append(f'serial = "{found.serial}"')
    return "\n".join(lines)


def show(out: Output, port: str, found: Probed) -> None:
    """What was found for people, or as one object."""
    out.object({
        "kind": "meter", "protocol": found.protocol, "serial": str(found.serial), "address": found.address,
        "turnaround_ms": found.turnaround_ms, "identity": found.identity, "profile": found.profile,
        "alike": list(found.alike),
        "fits": [{"profile": one.profile, "share": round(one.share, 2), "right": one.right, "zero": one.zero,
                  "wrong": one.wrong, "refused": one.refused} for one in found.fits],
        "meters_csv": meters_csv(found), "site_toml": site_toml(port, found),
    })  # fmt: skip
    if out.as_json:
        return
    facts = out.table()
    facts.add_row(out.say("protocol", "规约"), found.protocol)
    if found.protocol != "modbus-tcp":
        facts.add_row(out.say("serial", "串口"), str(found.serial))
    if found.turnaround_ms is not None:
        facts.add_row(out.say("turnaround", "应答延时"), f"{found.turnaround_ms:.0f} ms")
    for name, text in found.identity.items():
        facts.add_row(out.say(name, _KNOWN_ZH[name]), text)
    facts.add_row(out.say("profile", "型号"), f"{found.profile} ({load_profile(found.profile).model})")
    out.show(facts)
    if found.fits:
        table = out.table(("fits", "符合的型号"), ("right", "合理"), ("zero", "为零"), ("wrong", "不合理"),
                          ("refused", "拒绝"), right=("right", "zero", "wrong", "refused"))  # fmt: skip
        for one in found.fits:
            table.add_row(one.profile, *map(str, (one.right, one.zero, one.wrong, one.refused)))
        out.line("", "")
        out.show(table)
    if found.alike:
        out.line(f"with the same registers: {', '.join(found.alike)}; the label on the meter decides",
                 f"{'、'.join(found.alike)} 与其寄存器相同，请以表面铭牌为准")  # fmt: skip
    elif found.profile == "modbus-generic":
        out.line("no model that is known here has such registers: name them one by one, holding:10:uint16",
                 "没有已知型号具有这样的寄存器：请逐个写明，如 holding:10:uint16")  # fmt: skip
    out.line(f"\nmeters.csv:\n{meters_csv(found)}\n\nsite.toml:\n{site_toml(port, found)}",
             f"\nmeters.csv：\n{meters_csv(found)}\n\nsite.toml：\n{site_toml(port, found)}")  # fmt: skip


@output.command("probe")
@ports.port_option()
@ports.meter_option()
@click.option("--protocol", "protocols", multiple=True, type=click.Choice(ports.PROTOCOLS),
              help="Try only this; may be given several times.")  # fmt: skip
@click.option("--serial", "serials", multiple=True,
              help="Try only this, such as 9600-8E1; may be given several times.")  # fmt: skip
def command(
    out: Output, port: str, address: str, protocols: Sequence[ProtocolName], serials: Sequence[str]
) -> Exit:  # fmt: skip
    """Find out how to talk to one meter: baud and parity, protocol or edition, and its model.

    The usual settings are tried, the likely first. Of a Modbus meter the registers of all known models are read, and
    the models told whose registers hold what they should. Ends with the lines for meters.csv and site.toml. Nothing is
    written to the meter.

    Example: meterwire probe --port /dev/ttyUSB0 --meter 202411110002

    Exit codes: 0 found; 1 it answers, but no model fits; 2 an option is wrong; 3 no answer, or the port is missing;
    4 the port is in use by another program.
    """
    ports.quieten()
    mistakes = []
    settings: list[SerialSettings] = []
    spoken: ProtocolName = protocols[0] if protocols else ports.guessed([address])
    loosest: ProtocolName = "modbus-tcp" if spoken == "modbus-rtu" and port.startswith("tcp://") else spoken
    if (wrong := ports.address_mistake(address, loosest)) is not None:
        mistakes.append(wrong)
    for serial in serials or (None,):
        try:
            bus = ports.bus_of(port, serial, None if serial else spoken)
        except ConfigError as error:
            mistakes += [one for one in error.mistakes if one not in mistakes]
        else:
            settings += [bus.serial] if serial else []
    if mistakes:
        out.mistakes(mistakes)
        return Exit.USAGE
    if ports.owned(port):
        return ports.refuse(out, port)
    tries = ways(port, address, protocols, settings)
    count, seconds, more = len(tries), f"{duration_s(tries):.0f}", f"{model_s(tries):.0f}"
    en, zh = (f", and about {more} s to tell the model", f"，判断型号另需约 {more} 秒") if more != "0" else ("", "")
    out.error(f"{port}: {count} {'way' if count == 1 else 'ways'} to try, about {seconds} s{en}",
              f"{port}：共 {count} 种方式，约 {seconds} 秒{zh}")  # fmt: skip
    entry = BusEntry(name="bus", port=port, serial=tries[0][1])
    try:
        with Progress(out) as progress:
            found = asyncio.run(probe(entry, address, tries, progress=progress.tell))
    except PortLost as error:
        return ports.lost(out, error)
    if found is None:
        out.error(
            f"meter {address} answered in none of them: check its power, its address and the wires A and B",
            f"电能表 {address} 均无应答：请检查其电源、地址和 A/B 线",
        )
        return Exit.NOTHING
    show(out, port, found)
    return Exit.PART if found.profile == "modbus-generic" else Exit.GOOD
