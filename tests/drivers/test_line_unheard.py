"""A line over which nothing arrives any more is lost, and a host that cannot be is a port that cannot be
opened: neither is the silence of meters, or the end of the bus."""

import asyncio
import os
import pty
import socket
import tty

import pytest

from config.model import BusEntry
from drivers import line_tcp
from drivers.habits import LATE_MS_MAX
from drivers.line import PortLost
from drivers.port import open_line

UNHEARD_MS = 300


async def lost_within(seconds: float) -> str | None:
    """Why a connection is lost whose far end takes nothing; None when it is not."""
    lost: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
    with socket.socket() as far_end:
        far_end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        far_end.bind(("127.0.0.1", 0))
        far_end.listen(1)
        line = await open_line(BusEntry(name="b1", port=f"tcp://127.0.0.1:{far_end.getsockname()[1]}"))
        line.attach(lambda data: None, lost.set_result)
        line.write(bytes(20_000_000))
        done, _ = await asyncio.wait({lost}, timeout=seconds)
        line.close()
    return str(lost.result()) if done else None


def test_a_far_end_that_takes_nothing_for_too_long_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    assert line_tcp.UNHEARD_MS_MAX == LATE_MS_MAX
    assert asyncio.run(lost_within(UNHEARD_MS / 1000 + 0.5)) is None
    monkeypatch.setattr(line_tcp, "UNHEARD_MS_MAX", UNHEARD_MS)
    reason = asyncio.run(lost_within(20.0))
    assert reason is not None and reason.endswith("timed out")


@pytest.mark.parametrize("host", ["meter..lan", ".", f"{'a' * 64}.lan", "a\0b", "[::1"])
def test_a_host_that_cannot_be_called_so_is_a_port_that_cannot_be_opened(host: str) -> None:
    with pytest.raises(PortLost, match="host"):
        asyncio.run(open_line(BusEntry(name="b1", port=f"tcp://{host}:502")))


def test_a_device_that_takes_nothing_is_lost_and_gathers_no_questions() -> None:
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    lost = list[Exception]()

    async def stuck() -> int:
        line = await open_line(BusEntry(name="b1", port=os.ttyname(theirs)))
        line.attach(lambda data: None, lost.append)
        taken = 0
        try:
            while not lost and taken < 10_000:
                line.write(bytes(100))
                taken += 1
        except PortLost:
            return taken
        finally:
            line.close()
        return taken

    try:
        taken = asyncio.run(stuck())
    finally:
        os.close(ours)
        os.close(theirs)
    assert 1 < taken < 2_000
    assert [str(error).endswith("takes nothing any more") for error in lost] == [True]
