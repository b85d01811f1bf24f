"""A line over TCP: a serial server that passes bytes on as they are, or a Modbus TCP meter."""

import asyncio
import os
import socket
from collections.abc import Callable
from urllib.parse import urlsplit

from config.model import BusEntry, SerialSettings
from drivers.habits import LATE_MS_MAX
from drivers.line import ParityCheck, PortLost

CONNECT_S_MAX = 10.0
"""How long a connection may take to be accepted; a wide-area route to a serial server is far below it."""

UNHEARD_MS_MAX = LATE_MS_MAX
"""How long the far end's system may leave unacknowledged what was sent; then the connection is lost. A network that is
back after some minutes delivers at once all that was asked meanwhile, up to two minutes later still (the pauses of TCP
double), when nobody reckons with the answers any more. A connection that is lost delivers nothing."""


def endpoint(port: str) -> tuple[str, int]:
    """Host and port number of tcp://host:port. Raises PortLost, saying what was expected."""
    try:
        parts = urlsplit(port)
        host, number = parts.hostname, parts.port
    except ValueError as error:
        raise PortLost(f"expected tcp://host:port, got {port!r} ({error})") from error
    if parts.scheme != "tcp" or not host or not number or parts.path not in ("", "/"):
        raise PortLost(f"expected tcp://host:port, got {port!r}")
    return host, number


async def open_tcp(bus: BusEntry) -> "TcpLine":
    """Connect to the bus's tcp://host:port. Raises PortLost."""
    host, number = endpoint(bus.port)
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(CONNECT_S_MAX):
            _, line = await loop.create_connection(lambda: TcpLine(bus.port), host, number)
    except TimeoutError as error:
        raise PortLost(f"{bus.port}: not accepted within {CONNECT_S_MAX:g} s") from error
    except ValueError as error:  # a part of the name is empty, or longer than one can be
        raise PortLost(f"{bus.port}: no host can be called that ({error})") from error
    except OSError as error:
        known = error.errno is not None and error.errno > 0  # negative ones are of name resolution
        raise PortLost(f"{bus.port}: {os.strerror(error.errno or 0) if known else error.strerror or error}") from error
    return line


class TcpLine(asyncio.Protocol):
    """One connection. Parity, where there is any, is the business of the far end and cannot be seen from here."""

    parity: ParityCheck = "none"

    def __init__(self, name: str) -> None:
        self._name = name
        self._transport: asyncio.Transport | None = None
        self._receive: Callable[[bytes], object] | None = None
        self._lost: Callable[[Exception], None] | None = None
        self._early = b""
        self._ended: Exception | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio. Keep-alive finds a far end that was switched off while nothing is asked."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNHEARD_MS_MAX)

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        if self._receive is None:
            self._early = (self._early + data)[:4096]  # between the connection and `attach`: a moment
        else:
            self._receive(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio, also after close()."""
        if self._transport is None:
            return
        self._transport = None
        self._ended = PortLost(f"{self._name}: {exc or 'closed by the far end'}")
        if self._lost is not None:
            self._lost(self._ended)

    def attach(self, receive: Callable[[bytes], object], lost: Callable[[Exception], None]) -> None:
        """See Line."""
        self._receive, self._lost = receive, lost
        if self._early:
            early, self._early = self._early, b""
            receive(early)
        if self._ended is not None:
            lost(self._ended)

    def write(self, data: bytes, unwanted_s: float = 0.0) -> None:
        """See Line."""
        if self._transport is None:
            raise PortLost(f"{self._name}: closed")
        self._transport.write(data)

    def apply(self, settings: SerialSettings) -> None:
        """The serial side is set at the serial server, not from here."""

    async def drained(self) -> None:
        """Nothing to wait for: when the far end has sent the bytes on cannot be known."""

    def close(self) -> None:
        """See Line."""
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()
