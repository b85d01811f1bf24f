"""A bad network between two parties, as a TCP proxy: slow, lossy, resetting, half open, damaging. Seeded, on asyncio.

What goes wrong stands in a `Weather` that may be changed while connections last. Loss is what TCP makes of it: the
piece comes, but only after one or more retransmission times, and everything behind it waits. Bytes are counted both
ways, connections with the moment of each. `Proxy` lives in a running loop; `running_proxy` gives it a thread.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import SimpleQueue
from random import Random
from types import TracebackType
from typing import Literal, Self

Direction = Literal["up", "down"]
"""up: from who connects to who listens."""

PIECE_BYTES = 1400
"""What is lost or late together: about a TCP segment."""
PIECES_MAX = 8
"""Pieces on their way in one direction; whoever sends more must wait, as before a modem."""
RETRANSMIT_S, RETRANSMIT_S_MAX = 0.2, 3.0
"""Until a lost piece is sent again: doubled each time. Linux begins with 0.2 s."""


@dataclass(slots=True, kw_only=True)
class Weather:
    """What goes wrong. Positions are bytes since the connection began, 0 for the first.

    latency_s and jitter_s: of each piece, one way. rate: bytes a second, each way. loss: the share of pieces that are
    lost at each sending. silent: directions in which bytes vanish; a connection that lost one so stays half open, dead
    for ever. flip: (direction, position) of a byte of which one bit is turned. drop: (direction, position, count) of
    bytes that are cut out. resets: for each new connection the number of bytes, both ways together, after which it is
    reset; one that finds none is left alone. refusing: new connections are closed at once.
    """

    latency_s: float = 0.0
    jitter_s: float = 0.0
    rate: float | None = None
    loss: float = 0.0
    silent: frozenset[Direction] = frozenset()
    flip: tuple[Direction, int] | None = None
    drop: tuple[Direction, int, int] | None = None
    resets: deque[int] = field(default_factory=deque)
    refusing: bool = False


@dataclass(slots=True, kw_only=True)
class Counters:
    """What went through, and what was done to it."""

    up: int = 0
    down: int = 0
    pieces_lost: int = 0
    bytes_swallowed: int = 0
    flips: int = 0
    drops: int = 0
    resets: int = 0
    refused: int = 0


class _Connection:
    """A connection through the proxy, both halves."""

    def __init__(self, proxy: "Proxy", client: asyncio.StreamWriter) -> None:
        self.proxy = proxy
        self.dead: set[Direction] = set()
        self.passed = 0
        weather = proxy.weather
        self.reset_at = weather.resets.popleft() if weather.resets else None
        self.writers = [client]

    def reset(self) -> None:
        """End it with a RST on both sides."""
        for writer in self.writers:
            raw = writer.get_extra_info("socket")
            if raw is not None and not writer.transport.is_closing():
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    async def run(self, reader: asyncio.StreamReader) -> None:
        """Until either side ends it."""
        if self.reset_at == 0:
            self._reset_now()
            return
        far_reader, far = await asyncio.open_connection("127.0.0.1", self.proxy.target, limit=PIECE_BYTES)
        self.writers.append(far)
        ways = (_Way(self, "up", reader, far), _Way(self, "down", far_reader, self.writers[0]))
        tasks = [asyncio.ensure_future(half) for way in ways for half in (way.take(), way.give())]
        try:
            await asyncio.gather(*tasks)  # the first that fails (a side has gone) ends it
        finally:
            for task in tasks:
                task.cancel()

    def cut(self, data: bytes) -> tuple[bytes, bool]:
        """What of the data passes before the reset, and whether the reset comes now."""
        if self.reset_at is None or self.passed + len(data) < self.reset_at:
            self.passed += len(data)
            return data, False
        data = data[: self.reset_at - self.passed]
        self.passed = self.reset_at
        return data, True

    def _reset_now(self) -> None:
        self.proxy.counters.resets += 1
        self.reset()


class _Way:
    """One direction of a connection: pieces are taken, and given when they are due."""

    def __init__(
        self, of: _Connection, direction: Direction, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._of = of
        self._proxy = of.proxy
        self._direction: Direction = direction
        self._reader = reader
        self._writer = writer
        self._pieces: asyncio.Queue[tuple[float, bytes, bool] | None] = asyncio.Queue(PIECES_MAX)
        self._position = 0
        self._free_at = self._due = 0.0

    async def take(self) -> None:
        while data := await self._reader.read(PIECE_BYTES):
            if self._direction in self._proxy.weather.silent:
                self._of.dead.add(self._direction)
            if self._direction in self._of.dead:
                self._proxy.counters.bytes_swallowed += len(data)
                continue
            await self._pieces.put((self._when(len(data)), *self._of.cut(self._harmed(data))))
        if not self._of.dead:
            await self._pieces.put(None)

    async def give(self) -> None:
        counters = self._proxy.counters
        while (piece := await self._pieces.get()) is not None:
            due, data, reset = piece
            await asyncio.sleep(due - asyncio.get_running_loop().time())
            if self._direction in self._of.dead:
                continue
            setattr(counters, self._direction, getattr(counters, self._direction) + len(data))
            self._writer.write(data)
            await self._writer.drain()
            if reset:
                counters.resets += 1
                self._of.reset()
                raise ConnectionResetError("as the weather has it")
        if self._writer.can_write_eof():
            self._writer.write_eof()

    def _when(self, size: int) -> float:
        """When a piece that was taken now is there: its place in the line, its time on the link, its losses."""
        weather, random = self._proxy.weather, self._proxy.random
        now = asyncio.get_running_loop().time()
        self._free_at = max(now, self._free_at) + (size / weather.rate if weather.rate else 0.0)
        again_s = RETRANSMIT_S
        while random.random() < weather.loss:
            self._proxy.counters.pieces_lost += 1
            self._free_at += again_s  # what is behind waits
            again_s = min(2 * again_s, RETRANSMIT_S_MAX)
        late_s = weather.latency_s + weather.jitter_s * random.random()
        self._due = max(self._due, self._free_at + late_s)
        return self._due

    def _harmed(self, data: bytes) -> bytes:
        weather, start = self._proxy.weather, self._position
        self._position += len(data)
        if weather.flip is not None and weather.flip[0] == self._direction:
            at = weather.flip[1] - start
            if 0 <= at < len(data):
                self._proxy.counters.flips += 1
                data = data[:at] + bytes([data[at] ^ 1 << self._proxy.random.randrange(8)]) + data[at + 1 :]
        if weather.drop is not None and weather.drop[0] == self._direction:
            first, last = weather.drop[1] - start, weather.drop[1] + weather.drop[2] - start
            if first < len(data) and last > 0:
                self._proxy.counters.drops += 1
                data = data[: max(0, first)] + data[max(0, last) :]
        return data


class Proxy:
    """Listens on a free loopback port and connects to the target's. An async context manager."""

    def __init__(self, target: int, *, seed: int = 1, weather: Weather | None = None) -> None:
        self.target = target
        self.port = 0
        self.weather = weather or Weather()
        self.random = Random(seed)
        self.counters = Counters()
        self.connections: list[float] = []
        """Loop time of each connection that was made, refused ones too."""
        self._living: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """Where to connect, as in the configuration files."""
        return f"mqtt://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        # Small windows: what is under way must not hide in the kernel's buffers.
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._server = await asyncio.start_server(self._take, sock=listener, limit=PIECE_BYTES)
        self.port = listener.getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.reset_all()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks)

    def reset_all(self) -> None:
        """Reset every connection now."""
        for connection in list(self._living):
            self.counters.resets += 1
            connection.reset()

    def most_in(self, seconds: float) -> int:
        """The most connections that were made within so many seconds."""
        times = self.connections
        return max((sum(start <= at < start + seconds for at in times) for start in times), default=0)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.append(asyncio.get_running_loop().time())
        if self.weather.refusing:
            self.counters.refused += 1
            writer.transport.abort()
            return
        connection = _Connection(self, writer)
        self._living.add(connection)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            # The target is away: who connects is hung up on. Cancelled is it only at the proxy's end.
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await connection.run(reader)
        finally:
            self._living.discard(connection)
            for half in connection.writers:
                half.transport.abort()


@contextmanager
def running_proxy(target: int, *, seed: int = 1, weather: Weather | None = None) -> Iterator[Proxy]:
    """A proxy in a thread of its own, for tests of processes. Its weather may be changed from outside."""
    proxy = Proxy(target, seed=seed, weather=weather)
    started: SimpleQueue[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = SimpleQueue()

    async def live() -> None:
        stop = asyncio.Event()
        async with proxy:
            started.put((asyncio.get_running_loop(), stop))
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(live(),), name="proxy")
    thread.start()
    loop, stop = started.get(timeout=10)
    try:
        yield proxy
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
