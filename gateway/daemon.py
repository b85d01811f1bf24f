"""The gateway: built from a site, and run until it is told to stop.

Everything that is not the same everywhere comes in: lines, sessions, time, randomness, the way of writing. So the very
class that runs in a substation runs a simulated month in seconds.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from random import Random
from typing import Literal

from buffer.evidence import Evidence
from buffer.outbox import Outbox
from buffer.words import Limits
from config.model import Site
from drivers.bus import Bus
from drivers.meter import Meter
from drivers.plan import ReadPlan, plan
from drivers.port import OpenLine, open_line
from drivers.profile import load_profile
from gateway.checks import Checks
from gateway.clock import Clock, kernel_synchronised
from gateway.commands import Commands
from gateway.health import CLOCK_FLOOR, HealthWatch
from gateway.intake import Intake, Observer
from gateway.notify import notify
from gateway.progress import Progress
from gateway.schedule import Schedule
from gateway.sealer import Sealer
from gateway.session import SessionFactory
from gateway.slots import Slots
from gateway.snapshot import Snapshot
from gateway.status import StatusSocket
from gateway.today import Today
from gateway.uplink import Uplink
from identity.gateway import CentreTrust, GatewayIdentity
from protocols.capture import Event

log = logging.getLogger(__name__)

STOP_S = 10.0
"""What a clean stop allows a bus to finish the exchange in hand, and the uplink to say goodbye."""


class Parts:
    """Everything that a gateway is made of, around its open outbox."""

    def __init__(self, daemon: "Daemon", outbox: Outbox) -> None:
        site, now_ms = daemon.site, daemon.now_ms
        self.site = site
        self.outbox = outbox
        self.clock = Clock(
            site.clock_trust,
            now_ms=now_ms,
            floor=int(outbox.fact(CLOCK_FLOOR) or 0),
            synchronised=kernel_synchronised,
        )
        self.evidence = Evidence(site.store / "evidence", megabytes=site.evidence_mb) if site.evidence_mb else None
        self.buses = {
            entry.name: Bus(
                entry, open_line=daemon.open_line, now_ms=now_ms, evidence=self.evidence, jitter=daemon.jitter
            )
            for entry in site.buses
        }
        entries = {entry.name: entry for entry in site.buses}
        self.meters = {entry.id: Meter(entry, load_profile(entry.profile), entries[entry.bus]) for entry in site.meters}
        self.intake = Intake(outbox, daemon.observer)
        self.checks = Checks()
        self.today = Today(Slots(site.zone), list(self.meters))
        self.schedule = Schedule(
            site,
            meters=self.meters,
            buses=self.buses,
            plan=_plan,
            book=outbox,
            intake=self.intake,
            clock=self.clock,
            now_ms=now_ms,
            check=self.checks.flag,
            today=self.today,
        )
        self.sealer = Sealer(
            outbox,
            identity=daemon.identity,
            trust=daemon.trust,
            profile=site.uplink.profile,
            zone=site.zone,
            now_ms=now_ms,
            random=daemon.random,
        )
        self.uplink = Uplink(
            outbox,
            sessions=daemon.sessions,
            sealer=self.sealer,
            identity=daemon.identity,
            trust=daemon.trust,
            profile=site.uplink.profile,
            now_ms=now_ms,
            random=daemon.jitter,
            settle_on=daemon.settle_on,
        )
        self.commands = Commands(
            requests=self.uplink.requests,
            say=self.uplink.say,
            meters=self.meters,
            buses=self.buses,
            plan=_plan,
            intake=self.intake,
            sealer=self.sealer,
            identity=daemon.identity,
            trust=daemon.trust,
            epoch=outbox.epoch,
            clock=self.clock,
            now_ms=now_ms,
        )
        self.progress = Progress(self.buses, self.intake)
        self.snapshot = Snapshot(self, now_ms=now_ms)
        self.health = HealthWatch(
            site,
            outbox=outbox,
            clock=self.clock,
            parts=self.snapshot.counters,
            facts=self.snapshot.facts,
            say=self.uplink.say,
            progressing=self.progress,
            now_ms=now_ms,
        )


def _plan(meter: Meter, items: Sequence[str]) -> ReadPlan:
    return plan(meter.profile, meter.entry, items, meter.settings)


class Daemon:
    """One gateway. `run` once; `stop` and `drain` from the same loop.

    observer is called with the records of each append that has returned. settle_on: see Uplink. serve_status: whether
    the local status socket is opened (there are no sockets in virtual time).
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
        settle_on: Literal["receipt", "puback"] = "receipt",
        serve_status: bool = True,
    ) -> None:
        self.site = site
        self.sessions = sessions
        self.identity = identity
        self.trust = trust
        self.now_ms = now_ms
        self.open_line = open_line
        self.random = random
        self.jitter = jitter or Random()
        self.observer = observer
        self.writer: Literal["thread", "inline"] = writer
        self.settle_on: Literal["receipt", "puback"] = settle_on
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
            random=self.random,
            now_ms=self.now_ms,
            writer=self.writer,
            limits=Limits(history_days=site.history_days),
        )
        async with outbox:
            parts = Parts(self, outbox)
            socket = StatusSocket(site.socket, parts.snapshot)
            if self._serve_status:
                await socket.open()
            try:
                await self._run(parts)
            finally:
                self.parts = None
                await socket.close()
                if parts.evidence is not None:
                    parts.evidence.close()

    async def _run(self, parts: Parts) -> None:
        for damage in parts.outbox.damage:
            log.error("store damaged detail=%r", damage)
            parts.intake.add(Event(name="store_damaged", at=self.now_ms(), detail={"what": damage[:500]}))
        async with asyncio.TaskGroup() as group:
            buses = [group.create_task(bus.run(), name=f"bus:{name}") for name, bus in parts.buses.items()]
            uplink = group.create_task(parts.uplink.run(), name="uplink")
            others = [
                group.create_task(parts.intake.run(), name="intake"),
                group.create_task(parts.schedule.run(), name="schedule"),
                group.create_task(parts.commands.run(), name="commands"),
                group.create_task(parts.health.run(), name="health"),
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
        parts.uplink.stop()
        await _within(STOP_S, [uplink])

    async def drain(self) -> None:
        """Ask nothing more, and return when everything read is with the centre. For tests and the demo.

        What silent meters still owe becomes gaps. The gateway goes on running, idle; `stop` it then. While the broker
        or the centre is away this waits.
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
        while parts.outbox.unsealed().records or parts.outbox.unsettled or not parts.intake.idle:
            parts.uplink.settled.clear()
            try:
                async with asyncio.timeout(1.0):
                    await parts.uplink.settled.wait()
            except TimeoutError:
                continue


async def _within(seconds: float, tasks: "list[asyncio.Task[None]]") -> None:
    """Wait for tasks to end by themselves; cancel those that do not."""
    _, late = await asyncio.wait(tasks, timeout=seconds)
    for task in late:
        log.warning("task cancelled name=%s after_s=%s", task.get_name(), seconds)
        task.cancel()
