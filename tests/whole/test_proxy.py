"""The TCP fault proxy does what it is told, and nothing when it is told nothing."""

import asyncio
import socket
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.processes import free_port
from tests.proxy import Proxy, Weather, running_proxy

SAID = bytes(range(256)) * 64


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(4096):
        writer.write(data)
        await writer.drain()
    writer.close()


@asynccontextmanager
async def before_echo(weather: Weather | None = None, seed: int = 1) -> AsyncIterator[Proxy]:
    """A proxy before a server that says back what it hears."""
    server = await asyncio.start_server(_echo, "127.0.0.1", 0)
    async with server, Proxy(server.sockets[0].getsockname()[1], seed=seed, weather=weather) as proxy:
        yield proxy


async def echoed(proxy: Proxy, data: bytes = SAID, *, within_s: float = 10.0) -> bytes:
    """What comes back of the data, until the connection ends or nothing more comes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    heard = b""
    try:
        async with asyncio.timeout(within_s):
            writer.write(data)
            writer.write_eof()
            while more := await reader.read(65536):
                heard += more
    except (ConnectionError, TimeoutError):
        return heard
    finally:
        writer.transport.abort()
    return heard


async def test_in_fair_weather_every_byte_passes_and_is_counted() -> None:
    async with before_echo() as proxy:
        assert await echoed(proxy) == SAID
        assert (proxy.counters.up, proxy.counters.down) == (len(SAID), len(SAID))
        assert len(proxy.connections) == 1


async def test_latency_and_bandwidth_take_their_time() -> None:
    loop = asyncio.get_running_loop()
    async with before_echo(Weather(latency_s=0.1)) as proxy:
        began = loop.time()
        assert await echoed(proxy, b"x") == b"x"
        assert 0.2 <= loop.time() - began < 0.5
    async with before_echo(Weather(rate=40_000)) as proxy:
        began = loop.time()
        assert await echoed(proxy) == SAID
        assert len(SAID) / 40_000 <= loop.time() - began < 2 * len(SAID) / 40_000 + 0.5


async def test_a_slow_link_holds_the_sender_back() -> None:
    async with before_echo(Weather(rate=2_000)) as proxy:
        _, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        writer.write(bytes(200_000))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await writer.drain()
        writer.transport.abort()


async def test_lost_pieces_come_late_and_all_of_them_come() -> None:
    loop = asyncio.get_running_loop()
    async with before_echo(Weather(loss=0.3), seed=3) as proxy:
        began = loop.time()
        assert await echoed(proxy) == SAID
        assert proxy.counters.pieces_lost >= 3
        assert loop.time() - began >= 0.2


@pytest.mark.parametrize("after", [0, 1, 700, 1400, 5000])
async def test_a_connection_is_reset_after_exactly_so_many_bytes_and_the_next_one_is_not(after: int) -> None:
    async with before_echo(Weather(resets=deque([after]))) as proxy:
        heard = await echoed(proxy)
        assert len(heard) < len(SAID)
        assert proxy.counters.up + proxy.counters.down <= after
        assert proxy.counters.resets == 1
        assert await echoed(proxy) == SAID


async def test_a_half_open_connection_stays_dead_and_a_new_one_lives() -> None:
    async with before_echo() as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"a")
        assert await reader.readexactly(1) == b"a"
        proxy.weather.silent = frozenset({"down"})
        writer.write(b"b")
        await asyncio.sleep(0.05)
        proxy.weather.silent = frozenset()
        writer.write(b"c")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await reader.read(1)
        assert proxy.counters.bytes_swallowed == 2
        assert await echoed(proxy) == SAID
        writer.transport.abort()


async def test_one_bit_is_flipped_where_it_was_said() -> None:
    async with before_echo(Weather(flip=("up", 3000))) as proxy:
        heard = await echoed(proxy)
    assert len(heard) == len(SAID)
    assert [at for at, (a, b) in enumerate(zip(heard, SAID, strict=True)) if a != b] == [3000]
    assert (heard[3000] ^ SAID[3000]).bit_count() == 1


async def test_bytes_are_cut_out_where_it_was_said() -> None:
    async with before_echo(Weather(drop=("down", 1395, 10))) as proxy:
        assert await echoed(proxy) == SAID[:1395] + SAID[1405:]


async def test_new_connections_are_refused_while_it_is_said_and_all_are_reset_at_once() -> None:
    async with before_echo(Weather(refusing=True)) as proxy:
        assert await echoed(proxy) == b""
        proxy.weather.refusing = False
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"a")
        assert await reader.readexactly(1) == b"a"
        proxy.reset_all()
        with pytest.raises(ConnectionError):
            await reader.readexactly(1)
        writer.transport.abort()
        assert proxy.most_in(60) == 2


async def test_a_target_that_is_away_hangs_up() -> None:
    async with Proxy(free_port()) as proxy:
        assert await echoed(proxy) == b""


def test_the_same_seed_loses_the_same_pieces() -> None:
    async def lost(seed: int) -> int:
        async with before_echo(Weather(loss=0.05), seed=seed) as proxy:
            reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            for n in range(40):
                writer.write(bytes([n]))
                await reader.readexactly(1)
            writer.transport.abort()
            return proxy.counters.pieces_lost

    assert asyncio.run(lost(7)) == asyncio.run(lost(7)) > 0


def test_a_proxy_in_a_thread_serves_processes() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, running_proxy(server.getsockname()[1]) as proxy:
        client = socket.create_connection(("127.0.0.1", proxy.port), timeout=5)
        far, _ = server.accept()
        with client, far:
            client.sendall(b"hello")
            assert far.recv(5) == b"hello"
