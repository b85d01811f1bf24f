"""A port and its meters as options name them, without a site file; and only where no gateway has the port."""

import asyncio
import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import click

from config.mistake import ConfigError, Mistake, near
from config.model import BusEntry, MeterEntry, ProtocolName, SerialSettings
from config.values import address as address_of
from config.values import port as port_of
from drivers.line import PortBusy, PortLost
from drivers.profile import load_profile, profile_names
from field.output import Exit, Output

PROTOCOLS: tuple[ProtocolName, ...] = get_args(ProtocolName)
SERIAL = {True: "2400-8E1", False: "9600-8N1"}
"""For DL/T 645, the standard's default; for Modbus, what most meters leave the works with (recalled)."""
_PROFILES = {"dlt645-2007": "dlt645-2007-3p", "dlt645-1997": "dlt645-1997"}
_ABBREVIATED = re.compile(r"A*\d*")

GATEWAY_SOCKET = Path("/run/meterwire/meterwire.sock")
"""Where the gateway of this machine is asked, unless its site file says otherwise."""

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def port_option(*, required: bool = True) -> Decorator:
    """--port: where the meters are."""
    return click.option("--port", required=required, help="A device path such as /dev/ttyUSB0, or tcp://host:port.")


def serial_option() -> Decorator:
    """--serial: the settings of the line."""
    return click.option("--serial", help="Such as 2400-8E1. Default: 2400-8E1 for DL/T 645, 9600-8N1 for Modbus.")


def meter_option() -> Decorator:
    """--meter: the address of one meter."""
    return click.option(
        "--meter", "address", required=True, help="12 digits for DL/T 645, 1..247 for Modbus (0..255 over TCP)."
    )


class _Profile(click.Choice[str]):
    """The name of a profile. There are many: of a wrong name those are told that are like it, or all."""

    def get_invalid_choice_message(self, value: object, ctx: click.Context | None) -> str:
        like = near(str(value), self.choices)
        return f"{str(value)!r} is no profile{like}" if like else super().get_invalid_choice_message(value, ctx)


def profile_option(says: str) -> Decorator:
    """--profile: the model of the meters."""
    return click.option("--profile", type=_Profile(profile_names()), metavar="NAME", help=says)


def usual_profile(protocol: ProtocolName) -> str:
    """Which profile tells the names of items and the timing where none is named; Modbus registers need no names."""
    return _PROFILES.get(protocol, "modbus-generic")


def guessed(addresses: Sequence[str], profile: str | None = None) -> ProtocolName:
    """The protocol of this model, or of meters that are called so, where none is named."""
    if profile is not None:
        return load_profile(profile).protocols[0]
    return "dlt645-2007" if any(re.fullmatch(r"[\dAa]{12}", address) for address in addresses) else "modbus-rtu"


def address_mistake(address: str, protocol: ProtocolName, *, abbreviated: bool = False) -> Mistake | None:
    """What is wrong with the address of a meter that speaks this. abbreviated: A may stand for any digit."""
    if abbreviated and protocol.startswith("dlt645"):
        right = len(address) == 12 and _ABBREVIATED.fullmatch(address.upper())
        expected = "12 digits, those on the left perhaps A for any"
        return None if right else Mistake("options", "--meter", expected, address)
    try:
        address_of(address, protocol)
    except ValueError as error:
        either = "12 digits for DL/T 645, or " if len(address) > 3 and not protocol.startswith("dlt645") else ""
        return Mistake("options", "--meter", f"{either}{error}", address)
    return None


def bus_of(port: str, serial: str | None, protocol: ProtocolName | None) -> BusEntry:
    """The bus that options name; without a protocol it is only listened to. Raises ConfigError with every mistake."""
    mistakes: list[Mistake] = []
    if protocol == "modbus-tcp" and not port.startswith("tcp://"):
        mistakes.append(Mistake("options", "--port", "tcp://host:port with modbus-tcp", port))
    elif not port or not Path(port).exists():
        try:
            port_of(port)
        except ValueError as error:
            mistakes.append(Mistake("options", "--port", str(error), port))
    settings = SerialSettings.parse(SERIAL[protocol is None or protocol.startswith("dlt645")])
    try:
        settings = SerialSettings.parse(serial) if serial else settings
    except ValueError:
        mistakes.append(Mistake("options", "--serial", "BAUD-8PS such as 2400-8E1 or 9600-8N1", serial or ""))
    if settings.data_bits == 7 and protocol not in (None, "modbus-ascii"):
        mistakes.append(Mistake("options", "--serial", f"8 data bits, which {protocol} needs", str(settings)))
    if mistakes:
        raise ConfigError(mistakes)
    return BusEntry(name="bus", port=port, serial=settings)


def meter_of(
    bus: BusEntry,
    protocol: ProtocolName,
    address: str,
    profile: str | None = None,
    serial: SerialSettings | None = None,
) -> MeterEntry:
    """A meter of which no more is known than options say."""
    plain = address.upper() if protocol.startswith("dlt645") else str(int(address))
    return MeterEntry(
        id=address, point="", bus=bus.name, address=plain, protocol=protocol, serial=serial,
        profile=profile or usual_profile(protocol),
    )  # fmt: skip


def chosen(
    port: str,
    serial: str | None,
    protocol: ProtocolName,
    addresses: Sequence[str],
    profile: str | None,
    *,
    abbreviated: bool = False,
) -> tuple[BusEntry, list[MeterEntry]]:
    """The bus and the meters that options name. Raises ConfigError with every mistake."""
    found = [address_mistake(address, protocol, abbreviated=abbreviated) for address in addresses]
    mistakes = [mistake for mistake in found if mistake is not None]
    if profile is not None and protocol not in load_profile(profile).protocols:
        mistakes.append(Mistake("options", "--profile", f"one that speaks {protocol}", profile))
    try:
        bus = bus_of(port, serial, protocol)
    except ConfigError as error:
        raise ConfigError([*mistakes, *error.mistakes]) from None
    if mistakes:
        raise ConfigError(mistakes)
    return bus, [meter_of(bus, protocol, address, profile) for address in dict.fromkeys(addresses)]


def place(out: Output, bus: BusEntry, serial: SerialSettings | None = None) -> str:
    """A port and the settings of its line, for people; those of a line behind TCP are not ours to set."""
    if bus.port.startswith("tcp://"):
        return bus.port
    settings = serial or bus.serial
    return out.say(f"{bus.port} at {settings}", f"{bus.port}（{settings}）")


def owned(port: str, socket: Path | None = None) -> bool:
    """Whether the gateway behind this socket, by default the installed one's, has the port. A serial server may take a
    second connection; the meters behind it would hear two masters."""
    return asyncio.run(_owned(port, socket or GATEWAY_SOCKET))


async def _owned(port: str, socket: Path) -> bool:
    from gateway.status import ask

    try:
        status = await ask(socket)
    except (OSError, TimeoutError, ValueError):
        return False
    buses = status.get("buses")
    return isinstance(buses, list) and any(isinstance(bus, dict) and bus.get("port") == port for bus in buses)


def refuse(out: Output, port: str) -> Exit:
    """The gateway has the port: say so."""
    out.error(
        f"{port}: the gateway on this machine polls it; stop it first (systemctl stop meterwire)",
        f"{port}：本机网关正在使用，请先停止网关（systemctl stop meterwire）",
    )
    return Exit.BUSY


def lost(out: Output, error: PortLost) -> Exit:
    """The port cannot be opened, or went away: say so."""
    out.error(f"cannot open the port: {error}", f"端口打不开：{out.told(str(error))}")
    return Exit.BUSY if isinstance(error, PortBusy) else Exit.NOTHING


def quieten() -> None:
    """What parts below log, the command says in its own words."""
    logging.getLogger().addHandler(logging.NullHandler())
