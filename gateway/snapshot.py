"""How everything stands, for the status socket and the health message."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from drivers.bus import Bus
from drivers.line import ParityCheck
from gateway.parts import Parts

_WEAKEST_FIRST: tuple[ParityCheck, ...] = ("none", "unverified", "enforced")


class Snapshot:
    """Looks at the parts of a running gateway, and changes nothing."""

    def __init__(self, parts: Parts, *, now_ms: Callable[[], int]) -> None:
        self._parts = parts
        self._now_ms = now_ms
        self._started_at = now_ms()
        # Where the counters of each part are, by its name.
        self.counters: dict[str, Callable[[], Any]] = {
            "schedule": lambda: parts.schedule.counters,
            "intake": lambda: parts.intake.counters,
            "checks": lambda: parts.checks.counters,
            "outbox": lambda: parts.outbox.counters,
            "seal": lambda: parts.sealer.counters,
            "keys": lambda: parts.sealer.keys.counters,
            "uplink": lambda: parts.uplink.counters,
            "commands": lambda: parts.commands.counters,
            "manifests": lambda: parts.manifests.counters,
            "evidence": lambda: parts.evidence.counters if parts.evidence is not None else {},
        }
        for name, bus in parts.buses.items():
            self.counters[f"bus.{name}"] = partial(getattr, bus, "counters")
            self.counters[f"port.{name}"] = partial(getattr, bus.port, "counters")

    def __call__(self) -> dict[str, object]:
        """Everything, as an object for JSON. Times are UTC milliseconds."""
        parts, now = self._parts, self._now_ms()
        parts.today.turn(now)
        captured, gaps = parts.today.captured, parts.today.gaps
        waiting = parts.outbox.unsealed()
        return {
            "gateway": parts.site.gateway,
            "epoch": parts.outbox.epoch,
            "at": now,
            "started_at": self._started_at,
            "clock": {
                "trusted": not parts.schedule.waiting,
                "reason": parts.schedule.waiting,
                "source": parts.clock.source,
                "off_ms": parts.clock.off_ms,
            },
            "stalled": parts.progress.reason,
            "today": {
                "captured": captured,
                "gaps": gaps,
                "rate": captured / (captured + gaps) if captured + gaps else None,
            },
            "buses": [self._bus(bus) for bus in parts.buses.values()],
            "meters": self._meters(),
            "buffer": {
                "waiting": parts.intake.waiting,
                "unsealed": waiting.records,
                "oldest_at": waiting.oldest_at,
                "batches": parts.outbox.unsettled,
                "damage": parts.outbox.damage,
                "counters": parts.outbox.counters,
            },
            "uplink": {
                "connected": parts.uplink.connected,
                "unreceipted": parts.uplink.unreceipted,
                "bytes_per_s": round(parts.uplink.rate),
                "counters": asdict(parts.uplink.counters),
            },
            "schedule": asdict(parts.schedule.counters),
            "checks": asdict(parts.checks.counters),
            "commands": asdict(parts.commands.counters),
            "evidence": parts.evidence.counters if parts.evidence is not None else {},
        }

    def facts(self) -> Mapping[str, str]:
        """What the health message says besides counters. No meter data."""
        parts = self._parts
        facts = {f"bus.{name}.trouble": bus.trouble for name, bus in parts.buses.items() if bus.trouble}
        facts |= {f"bus.{name}.parity": weakest for name, bus in parts.buses.items() if (weakest := self._weakest(bus))}
        if parts.schedule.waiting:
            facts["clock"] = parts.schedule.waiting
        if parts.progress.reason:
            facts["stalled"] = parts.progress.reason
        return facts

    def _parities(self, bus: Bus) -> dict[str, ParityCheck | None]:
        """Whether parity is checked, by the settings of the meters on a bus; None where none of them was asked yet."""
        settings = dict.fromkeys(one.settings for one in self._parts.meters.values() if one.entry.bus == bus.entry.name)
        return {str(one): bus.port.parities.get(one) for one in settings}

    def _weakest(self, bus: Bus) -> ParityCheck | None:
        known = set(self._parities(bus).values())
        return next((parity for parity in _WEAKEST_FIRST if parity in known), None)

    def _bus(self, bus: Bus) -> dict[str, object]:
        return {
            "name": bus.entry.name,
            "port": bus.entry.port,
            "open": bus.port.is_open,
            "parity": self._weakest(bus),
            "parities": self._parities(bus),
            "trouble": bus.trouble,
            "queued": bus.queued,
            "silent": list(bus.silent),
            "utilisation": round(bus.utilisation, 4),
            "account_ms": {name: round(ms) for name, ms in asdict(bus.account).items() if name != "at"},
            "jobs": asdict(bus.counters),
            "wire": asdict(bus.port.counters),
        }

    def _meters(self) -> list[dict[str, object]]:
        parts = self._parts
        silent = {meter for bus in parts.buses.values() for meter in bus.silent}
        return [
            {
                "meter": meter,
                "bus": (one := parts.meters[meter]).entry.bus,
                "parity": parts.buses[one.entry.bus].port.parities.get(one.settings),
                "silent": meter in silent,
                "captured": day.captured,
                "gaps": day.gaps,
                "rate": day.rate,
                "last_at": day.last_at or None,
                "fault": day.fault.value if day.fault else None,
            }
            for meter, day in parts.today.meters.items()
        ]
