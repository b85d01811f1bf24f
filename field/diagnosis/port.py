"""The port of a diagnosis command: as its options say, and only where no gateway has it."""

import asyncio
import logging
import re
from collections.abc import Sequence
from pathlib import Path

from config.mistake import ConfigError, Mistake
from config.model import BusEntry, ProtocolName, SerialSettings
from drivers.line import PortBusy, PortLost
from drivers.line_tcp import endpoint
from field.output import Exit, Output

SERIAL = {True: "2400-8E1", False: "9600-8N1"}
"""For DL/T 645, the standard's default; for Modbus, what most meters leave the works with (recalled)."""


GATEWAY_SOCKET = Path("/run/meterwire/meterwire.sock")
"""Where the gateway of this machine is asked, unless its site file says otherwise."""


def guessed(addresses: Sequence[str]) -> ProtocolName:
    """The protocol of meters that are called so, where none is named."""
    return "dlt645-2007" if any(re.fullmatch(r"[\dAa]{12}", address) for address in addresses) else "modbus-rtu"


def address_mistake(address: str, protocol: ProtocolName) -> Mistake | None:
    """What is wrong with the address of a meter that speaks this."""
    if protocol.startswith("dlt645"):
        right = re.fullmatch(r"\d{12}", address) is not None
        return None if right else Mistake("options", "--meter", "12 digits", address)
    low, high = (0, 255) if protocol == "modbus-tcp" else (1, 247)
    if address.isascii() and address.isdigit() and low <= int(address) <= high:
        return None
    return Mistake("options", "--meter", f"a number from {low} to {high}", address)


def bus_of(port: str, serial: str | None, protocol: ProtocolName) -> BusEntry:
    """The bus that options name. Raises ConfigError with every mistake."""
    mistakes: list[Mistake] = []
    if protocol == "modbus-tcp" and not port.startswith("tcp://"):
        mistakes.append(Mistake("options", "--port", "tcp://host:port with modbus-tcp", port))
    elif port.startswith("tcp:"):
        try:
            endpoint(port)
        except PortLost:
            expected = "a device path such as /dev/ttyS1, or tcp://host:port"
            mistakes.append(Mistake("options", "--port", expected, port))
    settings = SerialSettings.parse(SERIAL[protocol.startswith("dlt645")])
    try:
        settings = SerialSettings.parse(serial) if serial else settings
    except ValueError:
        mistakes.append(Mistake("options", "--serial", "BAUD-8PS such as 2400-8E1 or 9600-8N1", serial or ""))
    if settings.data_bits == 7 and protocol != "modbus-ascii":
        mistakes.append(Mistake("options", "--serial", f"8 data bits, which {protocol} needs", str(settings)))
    if mistakes:
        raise ConfigError(mistakes)
    return BusEntry(name="bus", port=port, serial=settings)


def owned(port: str, socket: Path = GATEWAY_SOCKET) -> bool:
    """Whether the gateway behind this socket has the port. A serial server may take a second connection; the meters
    behind it would hear two masters."""
    return asyncio.run(_owned(port, socket))


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
