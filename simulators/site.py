"""A simulated site that runs: in real time on ptys and TCP ports, or in memory on any loop, virtual ones included.

Both know the site as a gateway's site file would have it, so that what is simulated and what is polled cannot differ.
"""

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from io import StringIO
from pathlib import Path

from config.model import BusEntry, MeterEntry, Site, TaskEntry, UplinkEntry
from drivers.line import Line, PortLost
from drivers.profile import load_profile
from simulators.describe import BusPlan, SitePlan, bus_entries
from simulators.endpoints import Endpoint, ModbusTcpEndpoint, PtyEndpoint, TcpEndpoint
from simulators.truth import ServedLog
from simulators.wire import Match, MemoryLine, Wire

_COMMON = ("energy.active.import.total", "voltage.a", "current.a", "power.active.total", "power_factor.total",
           "frequency", "energy.active.export.total", "power.active.a")  # fmt: skip


class DescribedSite:
    """A site as the gateway's files name it: the plan, and where each bus is reached, by its name."""

    def __init__(self, plan: SitePlan, ports: Mapping[str, str] | None = None) -> None:
        self.plan = plan
        self._ports = dict(ports or {})

    @property
    def ports(self) -> dict[str, str]:
        """Where each bus is reached, by its name."""
        return self._ports

    def buses(self) -> tuple[BusEntry, ...]:
        """The buses as a site file has them."""
        return bus_entries(self.plan, self.ports)

    def meters(self, tasks: Sequence[TaskEntry]) -> tuple[MeterEntry, ...]:
        """The meters as an archive has them, each in every task."""
        names = tuple(task.name for task in tasks)
        return tuple(
            MeterEntry(id=e.id, point=e.point, bus=e.bus, address=e.address, profile=e.profile, protocol=e.protocol,
                       serial=e.serial, tasks=names)
            for bus in self.plan.buses for _, e in bus.entries()
        )  # fmt: skip

    def curve(self, *, every_s: int = 900, count: int = len(_COMMON)) -> TaskEntry:
        """A task of quantities that every meter of the site has."""
        profiles = [load_profile(group.profile) for bus in self.plan.buses for group in bus.meters]
        items = tuple(name for name in _COMMON if all(name in profile.items for profile in profiles))
        return TaskEntry(name="curve", every_s=every_s, items=items[:count])

    def site(
        self, *, uplink: UplinkEntry, tasks: Sequence[TaskEntry] | None = None, gateway: str = "sim",
        directory: Path = Path(), store: Path | None = None, keys: Path | None = None, socket: Path | None = None,
    ) -> Site:  # fmt: skip
        """The site that polls these meters; its own files go below `directory` unless they are named."""
        chosen = (self.curve(),) if tasks is None else tuple(tasks)
        return Site(
            gateway=gateway, clock_trust="always", uplink=uplink, buses=self.buses(), meters=self.meters(chosen),
            tasks=chosen, store=store or directory / "store", keys=keys or directory / "keys",
            socket=socket or directory / "meterwire.sock", origin=directory / "site.toml",
        )  # fmt: skip


class MemorySite(DescribedSite):
    """The site in memory: give `open_line` to whoever opens ports. No bus of it is Modbus TCP."""

    def __init__(self, plan: SitePlan, *, now_ms: Callable[[], int], log: ServedLog | None = None) -> None:
        super().__init__(plan)
        self.log = log if log is not None else ServedLog(plan.served)
        self.wires: dict[str, Wire] = {}
        for number, bus in enumerate(plan.buses):
            if bus.kind == "modbus-tcp":
                raise ValueError(f"bus {bus.name}: a bus in memory carries serial frames, not modbus-tcp")
            self.wires[bus.name] = _wire(plan, bus, number, now_ms, self.log, match="settings")

    @property
    def ports(self) -> dict[str, str]:
        """Paths that exist in memory only."""
        return {bus.name: f"/memory/{bus.name}" for bus in self.plan.buses}

    async def open_line(self, bus: BusEntry) -> Line:
        """The line of a bus, with the bus's own settings. Raises PortLost when there is no such bus."""
        wire = self.wires.get(bus.name)
        if wire is None:
            raise PortLost(f"no bus {bus.name!r} in memory; there are {', '.join(self.wires)}")
        wire.apply(bus.serial)
        return MemoryLine(wire)


class RealSite(DescribedSite):
    """The site in real time: an async context manager; its endpoints are there while it lasts."""

    def __init__(
        self, plan: SitePlan, *, now_ms: Callable[[], int], log: ServedLog | None = None
    ) -> None:  # fmt: skip
        super().__init__(plan)
        self.log = log if log is not None else ServedLog(plan.served)
        self.endpoints: dict[str, Endpoint] = {}
        self._now_ms = now_ms

    @property
    def ports(self) -> dict[str, str]:
        """Device paths and tcp://host:port, of the buses that are started."""
        return {name: endpoint.endpoint for name, endpoint in self.endpoints.items()}

    async def __aenter__(self) -> "RealSite":
        try:
            for number, bus in enumerate(self.plan.buses):
                endpoint = self._endpoint(bus, number)
                self.endpoints[bus.name] = endpoint
                await endpoint.start()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stop()

    async def _stop(self) -> None:
        for endpoint in self.endpoints.values():
            await endpoint.stop()
        self.log.close()

    def _endpoint(self, bus: BusPlan, number: int) -> Endpoint:
        if bus.kind == "modbus-tcp":
            return ModbusTcpEndpoint(
                self.plan.meters(bus), now_ms=self._now_ms, seed=self.plan.seed + number, faults=bus.faults,
                log=self.log, port=bus.port,
            )  # fmt: skip
        wire = _wire(self.plan, bus, number, self._now_ms, self.log, match=bus.match)
        return PtyEndpoint(wire, link=bus.link) if bus.kind == "pty" else TcpEndpoint(wire, port=bus.port)


def _wire(
    plan: SitePlan, bus: BusPlan, number: int, now_ms: Callable[[], int], log: ServedLog, *, match: Match
) -> Wire:  # fmt: skip
    return Wire(
        plan.meters(bus), serial=bus.serial, now_ms=now_ms, seed=plan.seed * 1000 + number, faults=bus.faults, log=log,
        match=match, pieces=bus.pieces,
    )  # fmt: skip


def write_site_files(site: Site, directory: Path) -> Path:
    """Write site.toml and meters.csv for the gateway of this site; returns the path of the former."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "meters.csv").write_text(_archive(site), encoding="utf-8")
    path = directory / "site.toml"
    path.write_text(_site_toml(site), encoding="utf-8")
    return path


def _site_toml(site: Site) -> str:
    uplink = site.uplink
    tables: list[tuple[str, dict[str, object]]] = [
        ("[gateway]", {"id": site.gateway, "zone": site.zone}),
        ("[clock]", {"trust": site.clock_trust}),
        ("[store]", {"path": site.store.absolute(), "evidence_mb": site.evidence_mb}),
        ("[buffer]", {each.name: getattr(site.buffer, each.name) for each in fields(site.buffer)}),
        ("[keys]", {"path": site.keys.absolute()}),
        ("[status]", {"socket": site.socket.absolute()}),
        ("[uplink]", {"url": uplink.url, "profile": uplink.profile, "batch_kib": uplink.batch_kib, "ca": uplink.ca,
                      "certificate": uplink.certificate, "key": uplink.key}),
        *(("[[bus]]", {"name": b.name, "port": b.port, "serial": b.serial, "pipeline": b.pipeline})
          for b in site.buses),
        *(("[[task]]", {"name": t.name, "every": f"{t.every_s}s", "items": list(t.items), "offset": f"{t.offset_s}s",
                        "slot_tolerance_s": t.slot_tolerance_s, "lane": t.lane, "keep": t.keep}) for t in site.tasks),
    ]  # fmt: skip
    lines: list[str] = []
    for head, keys in tables:
        lines += [head, *(f"{key} = {_toml(value)}" for key, value in keys.items() if value is not None), ""]
    return "\n".join(lines)


def _toml(value: object) -> str:
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list):
        return f"[{', '.join(_toml(item) for item in value)}]"
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


def _archive(site: Site) -> str:
    out = StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        ("meter", "point", "bus", "address", "profile", "protocol", "serial", "tasks", "priority", "ct", "pt")
    )
    for m in site.meters:
        writer.writerow((m.id, m.point, m.bus, m.address, m.profile, m.protocol, m.serial or "", ";".join(m.tasks),
                         m.priority, m.ct, m.pt))  # fmt: skip
    return out.getvalue()
