"""Requests from the centre: verified, not too old, obeyed once, answered with a signed reply.

What is built: `read_now`, with the arguments `meter` and `items` (names of quantities, separated by semicolons): what
was read is accepted like every reading, and travels sealed in the reply besides. `send_again`, with `since` and
`until` (UTC milliseconds): what was accepted for that time is sealed once more under new numbers. `manifest`, with
`day`, `part`, `parts`, `agrees` and perhaps `more`: the centre's verdict on a day's account. Any other action is
answered `unknown`.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from buffer.errors import StoreAway
from buffer.outbox import Outbox
from drivers.bus import Bus, Job, Lane, Outcome
from drivers.meter import Meter
from drivers.plan import ReadPlan
from gateway.clock import Clock
from gateway.intake import Intake
from gateway.manifest import Manifests
from gateway.obeyed import Facts, Obeyed
from gateway.sealer import Sealer
from identity.files import IdentityError
from identity.gateway import CentreTrust, GatewayIdentity
from protocols import batch
from protocols.capture import Capture, Source, TimeState
from protocols.errors import Malformed
from protocols.messages import Reply, Request, signed, verified

log = logging.getLogger(__name__)

READ_NOW_S = 30.0
"""How long a meter that is read on request may take, its queue included."""
ITEMS_MAX = 64
"""Quantities in one request."""
DETAIL_MAX = 1000
"""Characters of a reply's detail."""
TASK = "read_now"
"""The task under which readings on request are filed; they have no slot."""
MARGIN_MS = 3_600_000
"""Before and after the time that is to be sent again: a record is found by its slot, which may lie before it."""

Say = Callable[[str, bytes], Awaitable[bool]]
"""Publishes under one of the gateway's up topics; says whether the broker has it."""


@dataclass(slots=True)
class CommandCounters:
    """What became of requests."""

    obeyed: int = 0
    refused: int = 0
    malformed: int = 0
    repeated: int = 0


@dataclass(frozen=True, slots=True)
class _Answer:
    status: str
    detail: str = ""
    captures: Sequence[Capture] = ()


class Commands:
    """Obeys one request at a time."""

    def __init__(
        self,
        *,
        requests: "asyncio.Queue[bytes]",
        say: Say,
        carries: Callable[[], int],
        meters: Mapping[str, Meter],
        buses: Mapping[str, Bus],
        plan: Callable[[Meter, Sequence[str]], ReadPlan],
        intake: Intake,
        sealer: Sealer,
        outbox: Outbox,
        manifests: Manifests,
        identity: GatewayIdentity,
        trust: CentreTrust,
        epoch: int,
        facts: Facts,
        clock: Clock,
        now_ms: Callable[[], int],
    ) -> None:
        """carries: how long a message may be, in bytes, as far as the broker has said."""
        self.counters = CommandCounters()
        self._requests = requests
        self._say = say
        self._carries = carries
        self._meters = meters
        self._buses = buses
        self._plan = plan
        self._intake = intake
        self._sealer = sealer
        self._outbox = outbox
        self._manifests = manifests
        self._identity = identity
        self._trust = trust
        self._epoch = epoch
        self._clock = clock
        self._now_ms = now_ms
        self._taken = Obeyed(facts)

    async def run(self) -> None:
        """Take requests as they come, for ever. What is not truly from the centre is counted and not answered."""
        while True:
            payload = await self._requests.get()
            try:
                await self.take(payload)
            except Malformed as error:
                self.counters.malformed += 1
                log.warning("request refused detail=%r", str(error))
            # A token that does not sign, or a store that takes no key, just now: what was read is kept all the same.
            except (IdentityError, StoreAway) as error:
                log.warning("no reply detail=%r", str(error))

    async def take(self, payload: bytes) -> None:
        """Obey one request and answer it. Raises Malformed."""
        trust = await self._outbox.beside(self._trust.now)
        request = verified(Request, payload, gateway=self._identity.gateway, verify=trust.verify)
        if request.request in self._taken:
            self.counters.repeated += 1
            return
        try:
            answer = await self._obey(request)
        except StoreAway as error:
            answer = _Answer("failed", f"the store cannot be written just now, ask again later: {error}")
        obeyed = answer.status in ("done", "part")
        self.counters.obeyed += obeyed
        self.counters.refused += not obeyed
        log.info("request action=%s status=%s detail=%r", request.action[:64], answer.status, answer.detail)
        sealed = await self._sealer.seal_reply(batch.encode(answer.captures)) if answer.captures else b""
        message = self._reply(request, answer.status, answer.detail, sealed)
        if len(message) > self._carries():
            message = self._reply(
                request, answer.status, f"too long for the broker, it comes in a batch {answer.detail}"
            )
        await self._say("reply", message)

    def _reply(self, request: Request, status: str, detail: str, sealed: bytes = b"") -> bytes:
        reply = Reply(
            gateway=self._identity.gateway,
            epoch=self._epoch,
            request=request.request,
            status=status,
            detail=detail[:DETAIL_MAX],
            sealed=sealed,
            sent_at=self._now_ms(),
        )
        return signed(reply, kid=self._identity.kid, sign=self._identity.sign)

    async def _obey(self, request: Request) -> _Answer:
        if not self._clock.trusted():
            return _Answer("refused", "the gateway's time is not trusted, so it cannot tell whether this has expired")
        why_not = await self._taken.take(request.request, expires_at=request.expires_at, now_ms=self._now_ms())
        if why_not is not None:
            return _Answer("expired") if why_not == "expired" else _Answer("refused", why_not)
        match request.action:
            case "read_now":
                return await self._read_now(request.arguments)
            case "send_again":
                return await self._send_again(request.arguments)
            case "manifest":
                return await self._manifest(request.arguments)
        return _Answer("unknown", "expected the action read_now, send_again or manifest")

    async def _send_again(self, arguments: Mapping[str, str | int]) -> _Answer:
        since, until = arguments.get("since"), arguments.get("until")
        if not isinstance(since, int) or not isinstance(until, int) or since >= until:
            return _Answer("refused", f"expected since before until, in UTC milliseconds, got {since!r} and {until!r}")
        rows = await self._outbox.send_again(since - MARGIN_MS, until + MARGIN_MS)
        return _Answer("done", f"{rows} records are sent again")

    async def _manifest(self, arguments: Mapping[str, str | int]) -> _Answer:
        numbers = [arguments.get(name) for name in ("day", "part", "parts", "agrees")]
        day, part, parts, agrees = (number if isinstance(number, int) else -1 for number in numbers)
        if min(day, part, parts, agrees) < 0:
            return _Answer("refused", f"expected day, part, parts and agrees, got {numbers!r:.200}")
        more = arguments.get("more") == 1  # a centre of an earlier version does not say
        return _Answer("done", await self._manifests.verdict(day, part, parts, agrees=bool(agrees), more=more))

    async def _read_now(self, arguments: Mapping[str, str | int]) -> _Answer:
        meter = self._meters.get(str(arguments.get("meter", "")))
        if meter is None:
            return _Answer("refused", f"no meter {arguments.get('meter')!r}")
        items = tuple(
            dict.fromkeys(item.strip() for item in str(arguments.get("items", "")).split(";") if item.strip())
        )
        if not items or len(items) > ITEMS_MAX:
            return _Answer("refused", f"expected 1 to {ITEMS_MAX} items, got {len(items)}")
        unknown = [item for item in items if item not in meter.profile.items]
        if unknown:
            return _Answer("refused", f"profile {meter.profile.name} has no {', '.join(unknown)}")
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[Outcome] = loop.create_future()

        def done(outcome: Outcome) -> None:
            if not ended.done():
                ended.set_result(outcome)

        plan = self._plan(meter, items)
        deadline = loop.time() + READ_NOW_S
        self._buses[meter.entry.bus].submit(
            Job(meter=meter, dialogue=plan.dialogue, lane=Lane.READ_NOW, deadline=deadline, done=done, name=TASK)
        )
        outcome = await ended
        if not outcome.values or outcome.read_at is None:
            return _Answer("failed", f"{outcome.fault.value if outcome.fault else 'silent'}: {outcome.detail or ''}")
        captures = [
            Capture(
                meter=meter.id, point=meter.entry.point, task=TASK, slot=None, stamp=moment.read_at,
                read_at=moment.read_at, time_state=TimeState.TRUSTED, clock_error_ms=None, source=Source.METER_LIVE,
                ct=meter.entry.ct, pt=meter.entry.pt, values=moment.values,
            )
            for moment in outcome.moments()
            if moment.values and moment.read_at is not None
        ]  # fmt: skip
        await self._intake.accept(captures, urgent=True)
        failed = sum(value.fault is not None for value in outcome.values)
        return _Answer("part" if failed else "done", f"{failed} items failed" if failed else "", captures)
