"""`meterwire scan`: who is on a bus."""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import ceil

import click

from config.mistake import ConfigError, Mistake
from config.model import BusEntry, ProtocolName, SerialSettings
from drivers.line import OpenLine, PortLost
from drivers.port import open_line
from field import output
from field import port as ports
from field.diagnosis.asking import Asker
from field.diagnosis.progress import Progress
from field.diagnosis.scanning import Scan, Seen, duration_s, identity_of, scan_dlt645, scan_modbus, step_s
from field.output import Exit, Output

UNITS = (1, 247)
DOUBTFUL_SHOWN = 8
"""Doubtful addresses that are told to people by a sentence each; --json has all."""
_RANGE = re.compile(r"([0-9]{1,3})(?:-([0-9]{1,3}))?")
_USUAL: tuple[ProtocolName, ...] = ("dlt645-2007", "dlt645-1997", "modbus-rtu")
Way = tuple[ProtocolName, SerialSettings]
"""How is asked: a protocol, and the settings of the line."""


def units_of(text: str) -> tuple[int, ...]:
    """The units that `1-247` or `1,5,10-20` means. Raises ValueError."""
    found: list[int] = []
    for part in text.split(","):
        match = _RANGE.fullmatch(part)
        if match is None:
            raise ValueError(text)
        first, last = int(match[1]), int(match[2] or match[1])
        if not 0 <= first <= last <= 255:
            raise ValueError(text)
        found += range(first, last + 1)
    return tuple(dict.fromkeys(found))


def ways(port: str, protocols: Sequence[ProtocolName], serials: Sequence[str]) -> list[Way]:
    """Every protocol with each setting that was named, or with its usual one. Raises ConfigError."""
    found: list[Way] = []
    for protocol in protocols or (("modbus-tcp",) if _is_modbus_tcp(port) else _USUAL):
        for serial in serials or (None,):
            if serial is not None and "-7" in serial and protocol != "modbus-ascii" and "modbus-ascii" in protocols:
                continue  # 7 data bits are for ASCII, which is asked too
            found.append((protocol, ports.bus_of(port, serial, protocol).serial))
    return list(dict.fromkeys(found))


def _is_modbus_tcp(port: str) -> bool:
    return port.startswith("tcp://") and port.endswith(":502")


@dataclass(slots=True)
class Roll:
    """Who was found, filled while a scan goes on: one that is interrupted still tells. doubtful: addresses behind which
    there is more than was found."""

    doubtful: list[tuple[ProtocolName, SerialSettings, str]] = field(default_factory=list)
    _seen: dict[tuple[str, ...], Seen] = field(default_factory=dict)

    @property
    def meters(self) -> list[Seen]:
        """In the order in which they were found."""
        return list(self._seen.values())

    def enter(self, one: Scan, address: str, identity: str = "") -> None:
        """A meter that answered. Some answer as meters of both editions: see protocols.dlt645.edition."""
        dlt645 = one.protocol.startswith("dlt645")
        key = ("dlt645", address) if dlt645 else (one.protocol, str(one.settings), address)
        meter = Seen(protocol=one.protocol, serial=one.settings, address=address, identity=identity,
                     turnaround_ms=one.seen.get(address), sure=address in one.sure)  # fmt: skip
        known = self._seen.get(key)
        if known is None or _rank(meter) > _rank(known):
            self._seen[key] = meter


def _rank(meter: Seen) -> tuple[bool, bool]:
    """What a meter shows of its edition counts, and 2007 where it answers both."""
    return meter.sure, meter.protocol == "dlt645-2007"


async def scan(
    bus: BusEntry,
    chosen: Sequence[Way],
    units: Sequence[int],
    roll: Roll,
    *,
    turnaround_s: float | None = None,
    open_line: OpenLine = open_line,
    progress: Progress,
) -> None:
    """Enter every meter in the roll. Raises PortLost. Cancelled, it enters whoever has answered by then."""
    asker = await Asker.open(replace(bus, serial=chosen[0][1]), open_line)
    try:
        for protocol, settings in chosen:
            one = Scan(asker, bus, protocol, settings, turnaround_s=turnaround_s)
            dlt645 = protocol.startswith("dlt645")

            def tell(address: str, way: str = f"{protocol} {settings}", one: Scan = one) -> None:
                progress.tell(f"{way}  {address}  ({len(roll.meters) + len(one.seen)})")

            try:
                found = await (scan_dlt645(one, tell) if dlt645 else scan_modbus(one, units, tell))
                roll.doubtful += [(protocol, settings, address) for address in found.doubtful]
                for address in found.addresses:
                    roll.enter(one, address, "" if dlt645 else await identity_of(one, address))
            except asyncio.CancelledError:
                for address in one.seen:
                    roll.enter(one, address)
                raise
    finally:
        asker.close()


def foretell(
    out: Output, bus: BusEntry, chosen: Sequence[Way], units: Sequence[int], turnaround_s: float | None
) -> None:
    """Say how long it will take."""
    durations = (duration_s(bus, *way, units, turnaround_s) for way in chosen)
    usual, most = (ceil(sum(each)) for each in zip(*durations, strict=True))
    en, zh = f"takes about {usual} s, at most {most} s", f"约需 {usual} 秒，最多 {most} 秒"
    if any(way[0].startswith("dlt645") for way in chosen):
        steps = (step_s(bus, *way, turnaround_s) for way in chosen if way[0].startswith("dlt645"))
        usual, most = (ceil(max(each)) for each in zip(*steps, strict=True))
        en += f"; and {usual} s, at most {most} s, for each byte by which DL/T 645 meters are told apart"
        zh += f"；每用一个字节区分 DL/T 645 表另需约 {usual} 秒，最多 {most} 秒"
    out.error(f"{bus.port}: {en}", f"{bus.port}：{zh}")


def show(out: Output, roll: Roll) -> None:
    """A table of the meters, and a sentence for what is doubtful; or an object for each."""
    seen, doubtful = roll.meters, roll.doubtful
    for one in seen:
        out.object({"kind": "meter", "protocol": one.protocol, "serial": str(one.serial), "address": one.address,
                    "turnaround_ms": one.turnaround_ms, "identity": one.identity or None})  # fmt: skip
    for protocol, settings, address in doubtful:
        out.object({"kind": "doubtful", "protocol": protocol, "serial": str(settings), "address": address})
    if seen and not out.as_json:
        delays = ("turnaround ms", "应答延时 ms")
        table = out.table(("protocol", "规约"), ("serial", "串口"), ("address", "地址"), delays, ("identity", "标识"),
                          right=("address", delays[0]))  # fmt: skip
        for one in seen:
            delay = "-" if one.turnaround_ms is None else f"{one.turnaround_ms:.0f}"
            serial = "-" if one.protocol == "modbus-tcp" else str(one.serial)
            table.add_row(one.protocol, serial, one.address, delay, one.identity)
        out.show(table)
    for way in dict.fromkeys((protocol, settings) for protocol, settings, _ in doubtful):
        _tell_doubtful(out, way, [address for *of, address in doubtful if tuple(of) == way])


def _tell_doubtful(out: Output, way: Way, addresses: Sequence[str]) -> None:
    """Of one way: a sentence for each address, or one for all where there are so many that it is the bus."""
    en, zh = f"{way[0]} at {way[1]}: ", f"{way[0]}（{way[1]}）："
    if len(addresses) > DOUBTFUL_SHOWN:
        first = ", ".join(addresses[:DOUBTFUL_SHOWN])
        out.error(
            f"{en}for {len(addresses)} addresses ({first}, ...) bytes came that make no answer: noise, or somebody "
            f"else asks on this bus; stop whoever polls it, or let doctor examine the bus",
            f"{zh}{len(addresses)} 个地址（{first} 等）收到的字节不成应答：有干扰，或总线上另有主站；请停止其他主站，"
            f"或用 doctor 诊断总线",
        )
        return
    for address in addresses:
        if "A" in address:
            out.error(
                f"{en}several meters answer to {address}, and not all were told apart: some know no abbreviated "
                f"addresses, or there is noise; read the addresses off the meters",
                f"{zh}{address} 有多块表应答，未能全部分清：有的不支持缩位地址，或有干扰；请抄录表面地址",
            )
        else:
            out.error(
                f"{en}two meters answer to {address}, or what answers is damaged each time; doctor --meter {address} "
                f"tells",
                f"{zh}{address} 有两块表应答，或应答总是损坏；请用 doctor --meter {address} 诊断",
            )


@output.command("scan")
@ports.port_option()
@click.option("--protocol", "protocols", multiple=True, type=click.Choice(ports.PROTOCOLS),
              help="May be given several times. Default: DL/T 645 of both editions, and Modbus RTU.")  # fmt: skip
@click.option("--serial", "serials", multiple=True,
              help="May be given several times. Default: 2400-8E1 for DL/T 645, 9600-8N1 for Modbus.")  # fmt: skip
@click.option("--range", "units", default=f"{UNITS[0]}-{UNITS[1]}", show_default=True, metavar="UNITS",
              help="Units of Modbus, such as 1-32 or 1,5,10-20.")  # fmt: skip
@click.option("--timeout", "timeout_s", type=click.FloatRange(0.01, 60),
              help="Seconds until an answer begins, at most. Default: 0.5 for DL/T 645, 0.3 for Modbus.")  # fmt: skip
def command(
    out: Output,
    port: str,
    protocols: Sequence[ProtocolName],
    serials: Sequence[str],
    units: str,
    timeout_s: float | None,
) -> Exit:
    """Find every meter on a bus.

    DL/T 645: any meter is asked for its address; where several answer, they are told apart by abbreviated addresses, a
    byte at a time (a hundred questions each). Modbus: each unit is asked for a register; that it refuses is an answer.
    Nothing is written to any meter.

    Example: meterwire scan --port /dev/ttyUSB0 --protocol dlt645-2007 --serial 2400-8E1 --serial 9600-8E1

    Exit codes: 0 meters were found; 1 there is more than was found; 2 an option is wrong; 3 nobody answered, or the
    port is missing; 4 the port is in use by another program.
    """
    ports.quieten()
    try:
        chosen = ways(port, protocols, serials)
        wanted = units_of(units)
    except ConfigError as error:
        out.mistakes(error.mistakes)
        return Exit.USAGE
    except ValueError:
        out.mistakes([Mistake("options", "--range", "units from 0 to 255, such as 1-32 or 1,5,10-20", units)])
        return Exit.USAGE
    if ports.owned(port):
        return ports.refuse(out, port)
    bus = BusEntry(name="bus", port=port, serial=chosen[0][1])
    foretell(out, bus, chosen, wanted, timeout_s)
    roll = Roll()
    try:
        with Progress(out) as progress:
            asyncio.run(scan(bus, chosen, wanted, roll, turnaround_s=timeout_s, progress=progress))
    except PortLost as error:
        return ports.lost(out, error)
    except KeyboardInterrupt:
        show(out, roll)
        raise
    show(out, roll)
    if not roll.meters and not roll.doubtful:
        out.error(
            "nobody answered: check the wires A and B, the power, and --serial (probe tries others)",
            "无应答：请检查 A/B 线、电源和 --serial（probe 可试其他设置）",
        )
    return Exit.PART if roll.doubtful else Exit.GOOD if roll.meters else Exit.NOTHING
