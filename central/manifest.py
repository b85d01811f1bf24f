"""A gateway's account of a day, held against the tables: proof that the day is complete, or where it is not."""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

from central.keys import Keys
from central.sinks.base import Sink
from identity.centre import Centre, GatewayTrust
from protocols import envelope
from protocols.envelope import BatchKind
from protocols.errors import Malformed
from protocols.manifest import SUM_BELOW, DayPart, MeterDay, term
from protocols.messages import Manifest, Request, verified

log = logging.getLogger("central")

ANSWER_LASTS_MS = 3_600_000
"""How long a verdict may be on its way; the gateway gives its account again if none comes."""
NAMED_MAX = 64
"""Meters that are named in a note, at most as many as an account has."""


class Why(Enum):
    """How the tables differ from the account of a meter."""

    MISSING = "missing"
    """They hold less: what the gateway sends again fills it."""
    OTHER = "other"
    """They hold as much and not the same: a value was changed here, or another reading came first (`conflict`)."""
    MORE = "more"
    """They hold more: the gateway's store was put back to an earlier image, or has let records go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What came of an account. differs: meters of which the tables hold something else than the gateway, and how.

    unaccounted: meters with slots of which the gateway itself knows neither a capture nor a gap.
    """

    manifest: Manifest
    part: DayPart
    differs: Mapping[str, Why]
    unaccounted: tuple[str, ...]

    @property
    def more(self) -> bool:
        """Whether the tables hold more of every meter that differs, and of none less or other."""
        return set(self.differs.values()) == {Why.MORE}


class Manifests:
    """Judges accounts. Any call may raise SinkAway."""

    def __init__(
        self, sink: Sink, *, centre: Centre, gateways: GatewayTrust, keys: Keys, now_ms: Callable[[], int],
        random: Callable[[int], bytes],
    ) -> None:  # fmt: skip
        self._sink = sink
        self._centre = centre
        self._gateways = gateways
        self._keys = keys
        self._now_ms = now_ms
        self._random = random

    def take(self, gateway: str, payload: bytes) -> Verdict | None:
        """Judge an account and note what came of it; None while its data key has not come. Raises Malformed."""
        verify = self._gateways.verifier(gateway)
        manifest = verified(Manifest, payload, gateway=gateway, verify=verify)
        head = envelope.header(manifest.sealed)
        data_key = self._keys.get(gateway, head.kid)
        if data_key is None:
            return None
        opened = envelope.open(manifest.sealed, data_key=data_key, gateway=gateway)
        if opened.kind is not BatchKind.MANIFEST:
            raise Malformed(f"a sealed {opened.kind.name} where a manifest belongs")
        part = DayPart.decode(opened.body)
        differs = {one.meter: why for one in part.meters if (why := self._why(one, part)) is not None}
        unaccounted = tuple(
            one.meter for one in part.meters if any(t.planned != t.captured + t.gaps for t in one.tasks)
        )
        verdict = Verdict(manifest=manifest, part=part, differs=differs, unaccounted=unaccounted)
        self._note(gateway, verdict)
        return verdict

    def answer(self, gateway: str, verdict: Verdict) -> tuple[str, bytes]:
        """(topic, payload) of what the gateway is to be told: that the account agrees, or to send the day again.

        Where there is only more here, it need not do so twice: after the first time all that it has has landed.
        """
        now = self._now_ms()
        request = Request(
            gateway=gateway, request=self._random(16), action="manifest",
            arguments={"day": verdict.manifest.day, "part": verdict.part.part, "parts": verdict.part.parts,
                       "agrees": int(not verdict.differs), "more": int(verdict.more)},
            sent_at=now, expires_at=now + ANSWER_LASTS_MS,
        )  # fmt: skip
        return self._centre.says(request)

    def _why(self, told: MeterDay, part: DayPart) -> Why | None:
        """How the tables differ from what was told of a meter; None where they agree."""
        values = total = 0
        for row in self._sink.readings(meter=told.meter, since=part.since, until=part.until):
            if row.plain is not None and row.read_at < part.cut:
                values += 1
                total = (total + term(row.quantity, row.stamp, row.source, row.plain)) % SUM_BELOW
        filled = self._sink.slots_filled(told.meter, part.since, part.until)
        gaps = [gap.task for gap in self._sink.gaps(meter=told.meter, since=part.since, until=part.until, closed=False)]
        # A gap that was filled here counts as more: slots are held against slots, and all that ended against all.
        pairs = [(values, told.values)]
        for task in told.tasks:
            here = filled.get(task.task, 0)
            pairs += [(here, task.captured), (here + gaps.count(task.task), task.captured + task.gaps)]
        if any(here < there for here, there in pairs):
            return Why.MISSING
        if any(here > there for here, there in pairs):
            return Why.MORE
        return None if total == told.total else Why.OTHER

    def _note(self, gateway: str, verdict: Verdict) -> None:
        manifest, part = verdict.manifest, verdict.part
        tasks = [task for meter in part.meters for task in meter.tasks]
        told = {
            "day": manifest.day, "part": part.part, "parts": part.parts, "plan": manifest.plan.hex(),
            "meters": len(part.meters), "planned": sum(task.planned for task in tasks),
            "captured": sum(task.captured for task in tasks), "gaps": sum(task.gaps for task in tasks),
            "values": sum(meter.values for meter in part.meters), "differs": [*verdict.differs][:NAMED_MAX],
            "why": {meter: why.value for meter, why in [*verdict.differs.items()][:NAMED_MAX]},
            "unaccounted": verdict.unaccounted[:NAMED_MAX],
        }  # fmt: skip
        self._sink.note(gateway, f"manifest.{manifest.day}.{part.part}", json.dumps(told), self._now_ms())
        for why in Why:
            meters = [meter for meter, one in verdict.differs.items() if one is why][:NAMED_MAX]
            if meters:
                log.error("gateway=%s day=%d: the tables differ from its account why=%s meters %s", gateway,
                          manifest.day, why.value, ", ".join(meters))  # fmt: skip
        if verdict.unaccounted:
            log.warning("gateway=%s day=%d: slots without capture and without gap, meters %s", gateway, manifest.day,
                        ", ".join(verdict.unaccounted[:NAMED_MAX]))  # fmt: skip
