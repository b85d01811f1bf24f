"""Nothing that the event loop's thread does in a running gateway waits for a disk: a disk that hangs holds up nobody
else. Every touch of the store's file (a VFS below SQLite) and of other files (audit events, stat) tells its thread."""

import asyncio
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from buffer.evidence import read as read_evidence
from config.model import TaskEntry
from field.clock import wall_ms
from gateway.offline import DIRECTORY
from identity.gateway import CentreTrust, GatewayIdentity
from identity.trust import trust
from protocols.transfer import SUFFIXES
from simulators.describe import uniform
from tests.buffer.test_hanging_disk import filled
from tests.chain import GATEWAY, Chain
from tests.whole.test_key_chain import seat

AUDITED = {"open", "os.listdir", "os.scandir", "os.mkdir", "os.remove", "os.rename", "os.truncate", "import"}
"""What Python tells of before it waits for a disk."""
SECOND = TaskEntry(name="second", every_s=1, items=("voltage.a",), lane="billing")
HOUR = TaskEntry(name="hour", every_s=3600, items=("energy.active.import.total",))
LIFE_S = 2.5


class Watch(apsw.VFS):
    """Who touches a disk while it looks: the real VFS below SQLite, and the ears of Python."""

    def __init__(self) -> None:
        super().__init__("watching", "unix", makedefault=True)
        self.looking = False
        self.here: list[str] = []
        """What the loop's thread did."""
        self.elsewhere: set[str] = set()
        """What other threads did."""

    def touched(self, what: str, name: object = "") -> None:
        """By the thread that calls it."""
        if not self.looking:
            return
        if threading.current_thread() is threading.main_thread():
            self.here.append(f"{what} {name}")
        else:
            self.elsewhere.add(what)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> "WatchedFile":
        """As SQLite's."""
        self.touched("xOpen")
        return WatchedFile(self, name, flags)


class WatchedFile(apsw.VFSFile):
    """A file of it."""

    def __init__(self, vfs: Watch, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        super().__init__("unix", name, flags)
        self._vfs = vfs

    def xRead(self, amount: int, offset: int) -> bytes:
        """As SQLite's."""
        self._vfs.touched("xRead")
        return super().xRead(amount, offset)

    def xWrite(self, data: bytes, offset: int) -> None:
        """As SQLite's."""
        self._vfs.touched("xWrite")
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:
        """As SQLite's."""
        self._vfs.touched("xSync")
        super().xSync(flags)


_ears: list[Watch] = []


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    # To open a descriptor that is there already (a socket, a pipe) is no file on a disk.
    if event in AUDITED and _ears and not (event == "open" and isinstance(arguments[0], int)):
        _ears[0].touched(event, arguments[0])


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    watch = Watch()
    stat = os.stat

    def told(path: Any, *others: Any, **named: Any) -> os.stat_result:
        watch.touched("stat", path)
        return stat(path, *others, **named)

    monkeypatch.setattr(os, "stat", told)
    if not hasattr(sys, "_meterwire_hears"):  # a hook cannot be taken away again
        sys.addaudithook(_hear)
        sys._meterwire_hears = True  # type: ignore[attr-defined]
    _ears.append(watch)
    yield watch
    watch.looking = False
    _ears.clear()
    watch.unregister()


@pytest.mark.slow
async def test_a_running_gateway_never_waits_for_a_disk_on_its_loop(tmp_path: Path, watch: Watch) -> None:
    """Two lives of it: the second one looks slots up that the first one read."""
    chain = Chain(tmp_path, uniform(buses=1, meters_per_bus=1), [SECOND, HOUR], now_ms=wall_ms)
    chain.writer = "thread"
    home = tmp_path / "keys"
    chain.identity = GatewayIdentity.create(home, GATEWAY)
    trust(home, chain.centre.public)
    chain.trust = CentreTrust.load(home)
    seat(chain, chain.centre)
    receipts = chain.site.store / DIRECTORY
    for life in range(2):
        receipts.mkdir(parents=True, exist_ok=True)
        (receipts / f"forged{SUFFIXES['down']}").write_bytes(b"no receipt")
        async with chain.running() as daemon:
            watch.looking = True
            assert daemon.parts is not None
            daemon.parts.sealer.at_once()
            await asyncio.sleep(LIFE_S)
            await daemon.parts.outbox.purge()
            watch.looking = False
            asked = daemon.parts.schedule.counters.asked
            assert daemon.parts.uplink.counters.settled_batches > 0
            assert not list(receipts.iterdir())
            if life == 1:
                hours = [(one.meter, one.slot) for one in chain.accepted.captures if one.task == "hour"]
                assert len(set(hours)) == len(hours) >= 1, "what the first life read was looked up, and not read again"
            else:
                assert asked > 2
    assert watch.here == []
    assert watch.elsewhere >= {"xRead", "xWrite", "xSync", "open", "os.scandir", "os.remove", "stat"}
    assert len(list(read_evidence(chain.site.store / "evidence"))) > 4
    chain.close()


async def test_what_waits_there_is_found_out(tmp_path: Path, watch: Watch) -> None:
    """The control: looks into the store on the loop itself."""
    async with await filled(tmp_path) as outbox:
        watch.looking = True
        assert len(outbox.offers(10)) == 1
        assert set(watch.here) >= {"xOpen ", "xRead "} and not watch.elsewhere
