"""A gateway's account of a day, held against the tables: proof that the day is complete, or where it is not."""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What came of an account. differs: meters of which the tables hold something else than the gateway.

    unaccounted: meters with slots of which the gateway itself knows neither a capture nor a gap.
    """

    manifest: Manifest
    part: DayPart
    differs: tuple[str, ...]
    unaccounted: tuple[str, ...]


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
        differs = tuple(one.meter for one in part.meters if not self._agrees(one, part))
        unaccounted = tuple(
            one.meter for one in part.meters if any(t.planned != t.captured + t.gaps for t in one.tasks)
        )
        verdict = Verdict(manifest=manifest, part=part, differs=differs, unaccounted=unaccounted)
        self._note(gateway, verdict)
        return verdict

    def answer(self, gateway: str, verdict: Verdict) -> tuple[str, bytes]:
        """(topic, payload) of what the gateway is to be told: that the account agrees, or to send the day again."""
        now = self._now_ms()
        request = Request(
            gateway=gateway, request=self._random(16), action="manifest",
            arguments={"day": verdict.manifest.day, "part": verdict.part.part, "parts": verdict.part.parts,
                       "agrees": int(not verdict.differs)},
            sent_at=now, expires_at=now + ANSWER_LASTS_MS,
        )  # fmt: skip
        return self._centre.says(request)

    def _agrees(self, told: MeterDay, part: DayPart) -> bool:
        values = total = 0
        for row in self._sink.readings(meter=told.meter, since=part.since, until=part.until):
            if row.plain is not None and row.read_at < part.cut:
                values += 1
                total = (total + term(row.quantity, row.stamp, row.source, row.plain)) % SUM_BELOW
        if (values, total) != (told.values, told.total):
            return False
        filled = self._sink.slots_filled(told.meter, part.since, part.until)
        gaps = [gap.task for gap in self._sink.gaps(meter=told.meter, since=part.since, until=part.until, closed=False)]
        return all((filled.get(t.task, 0), gaps.count(t.task)) == (t.captured, t.gaps) for t in told.tasks)

    def _note(self, gateway: str, verdict: Verdict) -> None:
        manifest, part = verdict.manifest, verdict.part
        tasks = [task for meter in part.meters for task in meter.tasks]
        told = {
            "day": manifest.day, "part": part.part, "parts": part.parts, "plan": manifest.plan.hex(),
            "meters": len(part.meters), "planned": sum(task.planned for task in tasks),
            "captured": sum(task.captured for task in tasks), "gaps": sum(task.gaps for task in tasks),
            "values": sum(meter.values for meter in part.meters), "differs": verdict.differs[:NAMED_MAX],
            "unaccounted": verdict.unaccounted[:NAMED_MAX],
        }  # fmt: skip
        self._sink.note(gateway, f"manifest.{manifest.day}.{part.part}", json.dumps(told), self._now_ms())
        if verdict.differs:
            log.error("gateway=%s day=%d: the tables differ from its account, meters %s", gateway, manifest.day,
                      ", ".join(verdict.differs[:NAMED_MAX]))  # fmt: skip
        if verdict.unaccounted:
            log.warning("gateway=%s day=%d: slots without capture and without gap, meters %s", gateway, manifest.day,
                        ", ".join(verdict.unaccounted[:NAMED_MAX]))  # fmt: skip
