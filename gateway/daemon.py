"""The gateway: built from a site, and run until it is told to stop.

Everything that is not the same everywhere comes in: lines, sessions, time, randomness, the way of writing. So the very
class that runs in a substation runs a simulated month in seconds.
"""

import asyncio
import logging
import os
from collections.abc import Callable
from random import Random
from typing import Literal

from buffer.errors import StoreAway
from buffer.outbox import Outbox
from buffer.words import Limits, RecordClass
from config.model import Site
from drivers.port import OpenLine, open_line
from gateway.health import HealthWatch
from gateway.intake import Observer
from gateway.notify import notify
from gateway.parts import Parts, World
from gateway.session import SessionFactory
from gateway.snapshot import Snapshot
from gateway.status import StatusSocket
from identity.gateway import CentreTrust, GatewayIdentity
from protocols import envelope
from protocols.capture import Event

log = logging.getLogger(__name__)

STOP_S = 10.0
"""What a clean stop allows a bus to finish the exchange in hand, and the uplink to say goodbye."""


class Daemon:
    """One gateway. `run` once; `stop` and `drain` from the same loop.

    observer is called with the records of each append that has returned. serve_status: whether the local status socket
    is opened (there are no sockets in virtual time).
    """

    def __init__(
        self,
        site: Site,
        *,
        sessions: SessionFactory,
        identity: GatewayIdentity,
        trust: CentreTrust,
        now_ms: Callable[[], int],
        open_line: OpenLine = open_line,
        random: Callable[[int], bytes] = os.urandom,
        jitter: Random | None = None,
        observer: Observer | None = None,
        writer: Literal["thread", "inline"] = "thread",
        serve_status: bool = True,
    ) -> None:
        self.site = site
        self.world = World(
            sessions=sessions, identity=identity, trust=trust, now_ms=now_ms, open_line=open_line, random=random,
            jitter=jitter or Random(), observer=observer, writer=writer,
        )  # fmt: skip
        self.parts: Parts | None = None
        """What it is made of, while it runs."""
        self.ready = asyncio.Event()
        """Set once everything runs."""
        self._serve_status = serve_status
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """End in order: finish the exchange in hand, commit what was read, go offline with a word."""
        self._stopping.set()

    async def run(self) -> None:
        """Until stopped. Raises OutboxError, an ExceptionGroup with one, or OSError: the supervisor starts anew."""
        site = self.site
        outbox = Outbox.open(
            site.store,
            gateway=site.gateway,
            random=self.world.random,
            now_ms=self.world.now_ms,
            writer=self.world.writer,
            limits=limits_of(site),
            spare=site.buffer.spare,
            classes={task.name: RecordClass[task.kept_as.upper()] for task in site.tasks},
        )
        async with outbox:
            parts = Parts(site, self.world, outbox)
            snapshot = Snapshot(parts, now_ms=parts.clock.now_ms)
            socket = StatusSocket(site.socket, snapshot)
            if self._serve_status:
                try:
                    await socket.open()
                except OSError as error:  # who would ask gets no answer; no reading is given up for that
                    log.error("status not served socket=%s detail=%r", site.socket, str(error))  # noqa: TRY400
            try:
                await self._run(parts, snapshot)
            finally:
                self.parts = None
                await socket.close()
                if parts.evidence is not None:
                    await parts.evidence.close()

    async def _run(self, parts: Parts, snapshot: Snapshot) -> None:
        for damage in parts.outbox.damage:
            log.error("store damaged detail=%r", damage)
        health = HealthWatch(
            self.site, outbox=parts.outbox, clock=parts.clock, parts=snapshot.counters, facts=snapshot.facts,
            uplink=parts.uplink, progressing=parts.progress, now_ms=parts.clock.now_ms,
        )  # fmt: skip
        async with asyncio.TaskGroup() as group:
            buses = [group.create_task(bus.run(), name=f"bus:{name}") for name, bus in parts.buses.items()]
            uplink = group.create_task(parts.uplink.run(), name="uplink")
            others = [
                group.create_task(parts.intake.run(), name="intake"),
                group.create_task(parts.schedule.run(), name="schedule"),
                group.create_task(parts.commands.run(), name="commands"),
                group.create_task(health.run(), name="health"),
                group.create_task(parts.learned.run(), name="learned"),
                group.create_task(parts.manifests.run(), name="manifests"),
                group.create_task(parts.carried.run(), name="carried"),
                group.create_task(_check(parts), name="check"),
            ]
            self.parts = parts
            self.ready.set()
            site = self.site
            notify("READY=1", f"STATUS={len(site.meters)} meters on {len(site.buses)} buses")
            log.info(
                "ready gateway=%s epoch=%d buses=%d meters=%d tasks=%d",
                *(site.gateway, parts.outbox.epoch, len(site.buses), len(site.meters), len(site.tasks)),
            )
            await self._stopping.wait()
            await self._leave(parts, buses, uplink)
            for task in others:
                task.cancel()
        log.info("stopped gateway=%s", self.site.gateway)

    async def _leave(self, parts: Parts, buses: "list[asyncio.Task[None]]", uplink: "asyncio.Task[None]") -> None:
        notify("STOPPING=1")
        parts.schedule.leave()
        for bus in parts.buses.values():
            bus.stop()
        await _within(STOP_S, buses)
        await parts.intake.flush()
        await parts.learned.keep()
        parts.uplink.stop()
        await _within(STOP_S, [uplink])

    async def drain(self) -> None:
        """Ask nothing more, and return when everything read is with the centre. For tests and the demo.

        What silent meters still owe becomes gaps. The gateway goes on running, idle; `stop` it then. While the broker
        or the centre is away this waits; so it does while some of it is in a file that the store had to leave.
        """
        parts = self.parts
        assert parts is not None, "a daemon is drained while it runs"
        parts.schedule.pause()
        while not all(bus.idle() for bus in parts.buses.values()):  # noqa: ASYNC110 - a bus tells nobody
            await asyncio.sleep(0.1)
        for bus in parts.buses.values():
            bus.abandon()
        await parts.intake.flush()
        parts.sealer.at_once()
        outbox = parts.outbox
        while outbox.unsealed().records or outbox.unsettled or outbox.left or not parts.intake.idle:
            parts.uplink.settled.clear()
            try:
                async with asyncio.timeout(1.0):
                    await parts.uplink.settled.wait()
            except TimeoutError:
                continue


def limits_of(site: Site) -> Limits:
    """The outbox's bounds as the site file gives them."""
    kept = site.buffer
    return Limits(
        monthly_days=kept.monthly_days, daily_days=kept.daily_days, curve_days=kept.curve_days,
        curve_days_min=kept.curve_days_min, bulk_days=kept.bulk_days, events_min=kept.events,
        bytes_max=kept.max_mb << 20, ballast_bytes=kept.ballast_mb << 20,
        seal_bytes=site.uplink.batch_bytes - envelope.ADDED_MAX,
    )  # fmt: skip


async def _check(parts: Parts) -> None:
    """Read through the store once, beside the work. What is wrong with it is put right by the next start."""
    try:
        findings = await parts.outbox.check()
    except StoreAway as error:
        log.error("store not checked detail=%r", str(error))  # noqa: TRY400
        return
    for found in findings:
        log.error("store damaged detail=%r: restart to have it set aside", found)
        parts.intake.add(Event(name="store_damaged", at=parts.world.now_ms(), detail={"why": found[:200]}))


async def _within(seconds: float, tasks: "list[asyncio.Task[None]]") -> None:
    """Wait for tasks to end by themselves; cancel those that do not."""
    _, late = await asyncio.wait(tasks, timeout=seconds)
    for task in late:
        log.warning("task cancelled name=%s after_s=%s", task.get_name(), seconds)
        task.cancel()
