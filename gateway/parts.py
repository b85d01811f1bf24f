"""What a gateway is made of, and what it is given from outside."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

from buffer.evidence import Evidence
from buffer.outbox import Outbox
from config.model import Site
from drivers.meter import Meter
from drivers.pipelined import bus_for
from drivers.plan import ReadPlan, plan
from drivers.port import OpenLine
from drivers.profile import load_profile
from gateway.checks import Checks
from gateway.clock import Clock
from gateway.commands import Commands
from gateway.filing import Filing
from gateway.health import CLOCK_FLOOR
from gateway.intake import Intake, Observer
from gateway.learned import Learned
from gateway.manifest import Manifests
from gateway.offline import CarriedReceipts
from gateway.progress import Progress
from gateway.schedule import Schedule
from gateway.sealer import Sealer
from gateway.session import SessionFactory
from gateway.slots import Slots
from gateway.today import Today
from gateway.uplink import Uplink
from identity.gateway import CentreTrust, GatewayIdentity
from protocols.suites import SUITES


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Everything that is not the same everywhere: lines, sessions, keys, time, randomness.

    observer is called with the records of each append that has returned.
    """

    sessions: SessionFactory
    identity: GatewayIdentity
    trust: CentreTrust
    now_ms: Callable[[], int]
    open_line: OpenLine
    random: Callable[[int], bytes]
    jitter: Random
    observer: Observer | None
    writer: Literal["thread", "inline"]
    """Who waits for a disk: threads, or the event loop itself (virtual time)."""


class Parts:
    """Everything that a gateway is made of, around its open outbox."""

    def __init__(self, site: Site, world: World, outbox: Outbox) -> None:
        self.site = site
        self.world = world
        self.outbox = outbox
        self.clock = Clock(
            site.clock_trust,
            now_ms=world.now_ms,
            floor=int(outbox.fact(CLOCK_FLOOR) or 0),
        )
        now_ms = self.clock.now_ms
        self.evidence = (
            Evidence(site.store / "evidence", megabytes=site.evidence_mb, writer=world.writer)
            if site.evidence_mb
            else None
        )
        self.buses = {
            entry.name: bus_for(
                entry,
                open_line=world.open_line,
                now_ms=now_ms,
                evidence=self.evidence,
                jitter=world.jitter,
                restarted=True,
            )
            for entry in site.buses
        }
        entries = {entry.name: entry for entry in site.buses}
        self.meters = {entry.id: Meter(entry, load_profile(entry.profile), entries[entry.bus]) for entry in site.meters}
        self.learned = Learned(outbox, self.meters, now_ms=now_ms)
        self.intake = Intake(outbox, world.observer)
        self.checks = Checks({meter.id: meter.profile.power_kw_max for meter in self.meters.values()})
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
            filing=Filing(
                intake=self.intake,
                now_ms=now_ms,
                zone=site.zone,
                check=self.checks.flag,
                today=self.today,
                evidence=self.evidence,
            ),
        )
        self.sealer = Sealer(
            outbox,
            identity=world.identity,
            trust=world.trust,
            profile=site.uplink.profile,
            zone=site.zone,
            algorithm=SUITES[site.suite].content,
            now_ms=now_ms,
            random=world.random,
        )
        self.uplink = Uplink(
            outbox,
            sessions=world.sessions,
            sealer=self.sealer,
            identity=world.identity,
            trust=world.trust,
            profile=site.uplink.profile,
            now_ms=now_ms,
            random=world.jitter,
            heard_time=self.clock.heard,
        )
        self.manifests = Manifests(
            site,
            outbox=outbox,
            sealer=self.sealer,
            identity=world.identity,
            clock=self.clock,
            say=self.uplink.say,
            carries=lambda: self.uplink.carries,
            now_ms=now_ms,
        )
        self.commands = Commands(
            requests=self.uplink.requests,
            say=self.uplink.say,
            carries=lambda: self.uplink.carries,
            meters=self.meters,
            buses=self.buses,
            plan=_plan,
            intake=self.intake,
            sealer=self.sealer,
            outbox=outbox,
            manifests=self.manifests,
            identity=world.identity,
            trust=world.trust,
            epoch=outbox.epoch,
            facts=outbox,
            clock=self.clock,
            now_ms=now_ms,
        )
        self.carried = CarriedReceipts(
            site.store, gateway=site.gateway, settle=self.uplink.settle_carried, beside=outbox.beside
        )
        self.progress = Progress(self.buses, self.intake)


def _plan(meter: Meter, items: Sequence[str]) -> ReadPlan:
    return plan(meter.profile, meter.entry, items, meter.settings, meter.habits)
