"""The whole chain in virtual time: simulated meters, the daemon, a broker in memory, the landing with a real SQLite."""

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from functools import cache
from pathlib import Path
from random import Random
from typing import Literal

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from central.landing import Landing
from central.sinks.base import Sink
from central.sinks.sqlite import SqliteSink
from config.model import Site, TaskEntry, UplinkEntry, UplinkProfile
from field.truth import AcceptedLog, Truth, check, planned_slots
from gateway.daemon import Daemon
from gateway.memory_session import MemoryBroker
from gateway.session import SessionFactory
from identity.centre import Centre, GatewayTrust
from identity.gateway import CentreTrust, GatewayIdentity
from protocols.capture import Event, Record
from simulators.describe import SitePlan
from simulators.site import MemorySite
from simulators.virtual import now_ms

START = 1_790_000_100_000
"""2026-09-21 22:15:00 at Shanghai: a quarter hour."""
GATEWAY = "gw-test"
DRAIN_S = 6 * 3600.0
"""Virtual seconds: many times the longest pause between two offers."""


@cache
def keys() -> tuple[GatewayIdentity, Centre]:
    """A gateway and a centre that know each other; RSA keys are slow to make, so all tests share them."""
    centre = Centre.of(ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 3072))
    return GatewayIdentity.of(GATEWAY, ec.generate_private_key(ec.SECP256R1())), centre


class Hearing(Landing):
    """The centre's judgement, which also tells that there was something to judge."""

    def __init__(
        self, sink: Sink, *, centre: Centre, gateways: GatewayTrust, now_ms: Callable[[], int],
        random: Callable[[int], bytes],
    ) -> None:  # fmt: skip
        super().__init__(sink, centre=centre, gateways=gateways, now_ms=now_ms, random=random)
        self.heard = asyncio.Event()

    def receive(self, on: str, payload: bytes) -> None:
        """As it does, and set `heard`."""
        super().receive(on, payload)
        self.heard.set()


class Chain:
    """Everything around the gateway: make it in a virtual loop, and run gateways in it one after another."""

    def __init__(
        self, directory: Path, plan: SitePlan, tasks: Sequence[TaskEntry], *, profile: UplinkProfile = "prompt",
        seed: int = 1, now_ms: Callable[[], int] = now_ms,
    ) -> None:  # fmt: skip
        """now_ms: the clock of all parts; the running loop's, which is a virtual one, if none is named."""
        self.now_ms = now_ms
        self.simulated = MemorySite(plan, now_ms=now_ms)
        uplink = UplinkEntry(url="mqtt://127.0.0.1:1883", profile=profile)
        self.site: Site = self.simulated.site(uplink=uplink, tasks=tasks, gateway=GATEWAY, directory=directory)
        self.broker = MemoryBroker()
        self.accepted = AcceptedLog()
        self.events: list[Event] = []
        self.database = directory / "central.db"
        self.sink: Sink = SqliteSink(self.database)
        self.identity, self.centre = keys()
        self.trust = CentreTrust.of(self.centre.public)
        self._random = Random(seed)
        self.landing = self._open_landing()
        self.draw = self._random.randbytes
        """The gateway's randomness."""
        self.writer: Literal["thread", "inline"] = "inline"
        self.started_at = now_ms()
        self.drained_at: int | None = None
        """When the last drain began: slots after that are not planned any more."""
        self._receipting: asyncio.Task[None] | None = None
        self.connect_centre()

    def _open_landing(self) -> "Hearing":
        return Hearing(
            self.sink, centre=self.centre, gateways=GatewayTrust.of(self.identity.public), now_ms=self.now_ms,
            random=self._random.randbytes,
        )  # fmt: skip

    def back_up(self, to: Path) -> None:
        """Copy the centre's database as it is now."""
        with closing(sqlite3.connect(self.database)) as source, closing(sqlite3.connect(to)) as target:
            source.backup(target)

    def restore(self, backup: Path, *, sessions_last: bool = False) -> None:
        """The centre's database is lost, and a backup takes its place; sessions break, unless the broker lives on."""
        self.disconnect_centre()
        self.sink.close()
        for file in self.database.parent.glob(f"{self.database.name}*"):
            file.unlink()
        shutil.copyfile(backup, self.database)
        self.sink = SqliteSink(self.database)
        self.landing = self._open_landing()
        if not sessions_last:
            self.broker.away = True
            self.broker.away = False
        self.connect_centre()

    def connect_centre(self) -> None:
        """Let the centre hear what the broker has for it, and answer with receipts once a second."""
        self.broker.attach(self.landing.receive)
        self._receipting = asyncio.get_running_loop().create_task(self._give_receipts(), name="centre")

    def disconnect_centre(self) -> None:
        """The centre is away: the broker holds what it acknowledges."""
        self.broker.attach(None)
        if self._receipting is not None:
            self._receipting.cancel()
            self._receipting = None

    async def _give_receipts(self) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        while True:
            await self.landing.heard.wait()
            await asyncio.sleep(1.0 - (loop.time() - began) % 1.0)
            self.landing.heard.clear()
            for topic, payload in self.landing.receipts():
                self.broker.deliver(topic, payload)

    def _observe(self, records: Sequence[Record]) -> None:
        self.accepted(records)
        self.events += [record for record in records if isinstance(record, Event)]

    def gateway_ms(self) -> int:
        """What the gateway's own clock says."""
        return self.now_ms()

    def sessions(self) -> SessionFactory:
        """What the gateway reaches its broker by."""
        return self.broker.sessions(GATEWAY)

    def daemon(self) -> Daemon:
        """A gateway on this site, not yet running."""
        return Daemon(
            self.site,
            sessions=self.sessions(),
            identity=self.identity,
            trust=self.trust,
            now_ms=self.gateway_ms,
            open_line=self.simulated.open_line,
            random=self.draw,
            jitter=self._random,
            observer=self._observe,
            writer=self.writer,
            serve_status=False,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Daemon]:
        """A gateway that runs, and is stopped in order at the end."""
        daemon = self.daemon()
        task = asyncio.get_running_loop().create_task(daemon.run(), name="daemon")
        ready = asyncio.get_running_loop().create_task(daemon.ready.wait(), name="ready")
        await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            await task
        try:
            yield daemon
        finally:
            daemon.stop()
            await task

    async def run(self, seconds: float) -> None:
        """A gateway for so long."""
        async with self.running():
            await asyncio.sleep(seconds)

    async def drain(self, daemon: Daemon) -> None:
        """Drain a gateway, within hours of virtual time. Raises TimeoutError where it never comes to an end."""
        self.drained_at = self.now_ms()
        async with asyncio.timeout(DRAIN_S):
            await daemon.drain()

    def truth(self) -> Truth:
        """The verdict on all three logs, for every slot from the start of the chain to the last drain (or now)."""
        end = self.now_ms() if self.drained_at is None else self.drained_at
        return check(
            served=(
                (served.meter, served.at_ms, served.values) for served in self.simulated.log.entries if served.intact
            ),
            accepted=self.accepted.captures,
            landed=self.sink.readings(),
            gaps=((gap.meter, gap.task, gap.slot) for gap in self.sink.gaps()),
            planned=planned_slots(self.site, self.started_at, end),
            items={task.name: frozenset(task.items) for task in self.site.tasks},
        )

    def close(self) -> None:
        """Let the centre's database go."""
        self.disconnect_centre()
        self.sink.close()
