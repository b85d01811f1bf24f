"""The simulated bus where other programs can reach it: a pty, a raw TCP port (a serial server), Modbus TCP.

A pty drops parity, and neither it nor TCP is slow by itself: the wire behind it keeps the time.
"""

import asyncio
import errno
import fcntl
import os
import termios
import tty
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from random import Random

from config.model import SerialSettings
from protocols.modbus.frame import Frame, TcpDeframer
from simulators.meter import SimulatedMeter
from simulators.modbus import ModbusMeter
from simulators.noise import QUIET, Faults
from simulators.truth import Served, ServedLog
from simulators.wire import Wire

_NO_TARGET = 0x0B
"""Exception of a gateway whose meter does not answer ("MODBUS Application Protocol Specification" V1.1b3, §7)."""
_READ_MAX = 4096
_BAUDS = {getattr(termios, f"B{baud}"): baud
          for baud in (300, 600, 1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200, 230400)}  # fmt: skip


class PtyEndpoint:
    """A wire behind a pty. `path` is what a program opens; `link` a lasting name for it. One that a simulator left
    behind is replaced; one that a simulator serves is not, and neither is what is no link: an OSError.

    The wire runs at the speed that the program sets on its tty, as a UART does; parity and stop bits stay those that
    the wire was described with, because a pty does not keep them.
    """

    def __init__(self, wire: Wire, *, link: Path | None = None) -> None:
        self.wire = wire
        self.dropped_bytes = 0
        """Bytes of answers that nobody read and that the pty had no room for."""
        self._claim = _Claim(link) if link is not None else None
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self._set_speed(wire.serial.baud)
        self.path = os.ttyname(self._slave)
        self._link = link
        if link is not None:
            link.unlink(missing_ok=True)
            link.symlink_to(self.path)
        wire.deliver = self._write

    @property
    def endpoint(self) -> str:
        """The device path, as a site file names it."""
        return str(self._link.absolute()) if self._link is not None else self.path

    async def start(self) -> None:
        """Begin to listen."""
        asyncio.get_running_loop().add_reader(self._master, self._read)

    async def stop(self) -> None:
        """Stop, and take the pty away."""
        asyncio.get_running_loop().remove_reader(self._master)
        self.wire.deliver = None
        os.close(self._master)
        os.close(self._slave)
        if self._link is not None and self._claim is not None:
            self._link.unlink(missing_ok=True)
            self._claim.release()

    def _set_speed(self, baud: int) -> None:
        code = getattr(termios, f"B{baud}", None)
        if code is None:
            raise ValueError(f"a tty has no {baud} baud")
        attributes = termios.tcgetattr(self._slave)
        attributes[4] = attributes[5] = code
        termios.tcsetattr(self._slave, termios.TCSANOW, attributes)

    def _read(self) -> None:
        try:
            data = os.read(self._master, _READ_MAX)
        except BlockingIOError:
            return
        baud = _BAUDS.get(termios.tcgetattr(self._slave)[5])
        serial = self.wire.serial
        if baud is not None and baud != serial.baud:
            self.wire.apply(SerialSettings(baud=baud, parity=serial.parity, stop_bits=serial.stop_bits))
        self.wire.transmit(data)

    def _write(self, data: bytes) -> None:
        try:
            written = os.write(self._master, data)
        except BlockingIOError:
            written = 0
        self.dropped_bytes += len(data) - written


class _Claim:
    """The right to a link, for as long as its holder runs: a lock on a hidden file beside it. Where the link points
    says nothing, as the kernel gives the number of a pty again as soon as it is free. Raises OSError."""

    def __init__(self, link: Path) -> None:
        self._path = link.with_name(f".{link.name}.lock")
        self._file = os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.lexists(link) and not link.is_symlink():
                raise FileExistsError(errno.EEXIST, "there already, and no link", str(link))
        except BlockingIOError:
            os.close(self._file)
            raise OSError(errno.EADDRINUSE, "in use by another simulator", str(link)) from None
        except OSError:
            self.release()
            raise

    def release(self) -> None:
        """Let it go."""
        self._path.unlink(missing_ok=True)
        os.close(self._file)


class TcpEndpoint:
    """A wire behind a TCP port, as a serial server puts it: raw bytes. Every connection hears every answer."""

    def __init__(self, wire: Wire, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.wire = wire
        self.host, self.port = host, port
        self._connections: set[asyncio.Transport] = set()
        self._server: asyncio.Server | None = None
        wire.deliver = self._write

    @property
    def endpoint(self) -> str:
        """tcp://host:port."""
        return f"tcp://{self.host}:{self.port}"

    async def start(self) -> None:
        """Begin to listen; port 0 becomes a free one."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Connection(self._connections, lambda _, data: self.wire.transmit(data)), self.host, self.port
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and close every connection."""
        self.wire.deliver = None
        await _stop(self._server, self._connections)

    def _write(self, data: bytes) -> None:
        for transport in self._connections:
            transport.write(data)


class ModbusTcpEndpoint:
    """Meters behind one Modbus TCP port, told apart by unit. Answers may overtake each other, as TCP allows.

    A unit that is not there, or is switched off, is answered with exception 0B after 100 ms, as gateways do.
    """

    def __init__(
        self, meters: Iterable[SimulatedMeter], *, now_ms: Callable[[], int], seed: int = 0, faults: Faults = QUIET,
        log: ServedLog | None = None, host: str = "127.0.0.1", port: int = 0,
    ) -> None:  # fmt: skip
        self.meters = list(meters)
        self.host, self.port = host, port
        self.faults = faults
        self.log = log if log is not None else ServedLog()
        self.counts: Counter[str] = Counter()
        self._now_ms = now_ms
        self._rng = Random(f"meterwire modbus-tcp {seed}")
        self._connections: set[asyncio.Transport] = set()
        self._server: asyncio.Server | None = None
        self._units: dict[int, tuple[SimulatedMeter, ModbusMeter]] = {}
        for meter in self.meters:
            if not isinstance(meter.meter, ModbusMeter):
                raise ValueError(f"{meter.id}: expected a Modbus meter on Modbus TCP")  # noqa: TRY004
            self._units[meter.meter.unit] = (meter, meter.meter)

    @property
    def endpoint(self) -> str:
        """tcp://host:port."""
        return f"tcp://{self.host}:{self.port}"

    async def start(self) -> None:
        """Begin to listen; port 0 becomes a free one."""
        loop = asyncio.get_running_loop()

        def connection() -> _Connection:
            deframer = TcpDeframer("requests")

            def received(transport: asyncio.Transport, data: bytes) -> None:
                for frame in deframer.feed(data):
                    self._answer(transport, frame, loop)

            return _Connection(self._connections, received)

        self._server = await loop.create_server(connection, self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and close every connection."""
        await _stop(self._server, self._connections)

    def _answer(self, transport: asyncio.Transport, frame: Frame, loop: asyncio.AbstractEventLoop) -> None:
        self.counts["questions"] += 1
        found = self._units.get(frame.unit)
        if found is None or not found[0].present:
            refusal = Frame(unit=frame.unit, function=frame.function | 0x80, data=bytes((_NO_TARGET,)),
                            transaction=frame.transaction)  # fmt: skip
            loop.call_later(0.1, self._send, transport, refusal.encode(), None, {})
            return
        meter, modbus = found
        answer = modbus.answer(frame, self._now_ms())
        if answer is None:
            return
        delay = self._rng.uniform(*meter.turnaround_ms) / 1000
        if self.faults is not QUIET:
            if self._rng.random() < self.faults.silent:
                self.counts["silent"] += 1
                return
            if self._rng.random() < self.faults.late:
                self.counts["late"] += 1
                delay += self._rng.uniform(*self.faults.late_ms) / 1000
        loop.call_later(delay, self._send, transport, answer.data, meter.id, answer.values)

    def _send(self, transport: asyncio.Transport, data: bytes, meter: str | None, values: dict[str, str]) -> None:
        intact = transport in self._connections
        if intact:
            transport.write(data)
        if meter is not None:
            self.counts["answers"] += 1
            self.log.add(Served(meter=meter, at_ms=self._now_ms(), intact=intact, values=values))


class _Connection(asyncio.Protocol):
    """One client: kept in the set of its endpoint while it lasts, its bytes handed on."""

    def __init__(
        self, connections: set[asyncio.Transport], received: Callable[[asyncio.Transport, bytes], None]
    ) -> None:
        self._connections = connections
        self._received = received
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._connections.add(transport)

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._received(self._transport, data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._connections.discard(self._transport)


async def _stop(server: asyncio.Server | None, connections: set[asyncio.Transport]) -> None:
    for transport in list(connections):
        transport.abort()
    connections.clear()
    if server is not None:
        server.close()
        await server.wait_closed()


Endpoint = PtyEndpoint | TcpEndpoint | ModbusTcpEndpoint
