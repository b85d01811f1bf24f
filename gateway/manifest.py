"""The daily account: after each local midnight, what was planned, what came of it, and a sum over every value.

The centre makes the same account of its own table and says whether they agree. Until it has said so the account is sent
again now and then; where they differ the day is sent again, and after it the account. An account is made only when the
centre has given its receipt for all that it counts: what is still on its way is not missing.
"""

import asyncio
import json
import logging
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from zlib import crc32

from buffer import account
from buffer.errors import StoreAway
from buffer.outbox import Outbox
from config.model import Site
from gateway.clock import Clock
from gateway.ledger import Ledger
from gateway.sealer import Sealer
from gateway.slots import Slots
from identity.gateway import GatewayIdentity
from protocols.capture import Capture, Gap
from protocols.envelope import ADDED_MAX, BatchKind
from protocols.manifest import PARTS_MAX, DayPart, Share, shares
from protocols.messages import MANIFEST_ADDED_MAX, Manifest, signed

log = logging.getLogger(__name__)

ROUND_S = 60.0
"""Between two looks whether there is something to account for."""
AFTER_MIDNIGHT_S = 300.0
"""Late slots are filed by then."""
SPREAD_S = 1800
"""Up to so much later, each gateway at its own time: a fleet that shares a midnight must not share this moment."""
ACCEPTED_S = 60.0
"""What was read so long ago has been accepted, or never will be."""
AGAIN_S, AGAIN_S_MAX = 600.0, 6 * 3600.0
"""Until an account without an answer is sent again: doubled each time."""
SENT_AGAIN_MAX = 3
"""Times that a day is sent again because the accounts differ; then people must look."""
DAYS_MAX = 31
"""Older days are given up: the centre reports that it has no account of them."""
PIECE_RECORDS, PIECE_PAUSE_S = 64, 0.01
"""A day is read in pieces, so that buses and uplink go on meanwhile."""
DAY_MS = 86_400_000
FACT = "manifest.day"
"""The fact under which the last day is kept that the centre has agreed to, or that was given up."""

Say = Callable[[str, bytes], Awaitable[bool]]


@dataclass(slots=True)
class ManifestCounters:
    """What became of accounts."""

    sent: int = 0
    """Parts."""
    too_long: int = 0
    """Times that a part was not sent, as no way to part it makes it as short as the broker wants it."""
    agreed: int = 0
    """Days."""
    differed: int = 0
    """Times that the centre found a day to differ."""
    more: int = 0
    """Times that the centre was found to have more than this store, which was put back or has let records go."""
    sent_again: int = 0
    """Records that were sealed again for it, at most."""
    given_up: int = 0


@dataclass(slots=True)
class _Open:
    """A day that the centre has not agreed to yet."""

    day: int
    looked_at: int | None = None
    """UTC ms: everything accepted by then is to be receipted before the account is made."""
    mark: tuple[int, int] | None = None
    """(epoch, seq): the first batch that need not be."""
    next_at: float = -math.inf
    shares: tuple[Share, ...] = ()
    """How it was parted when it was given last; none before it was begun to be given."""
    tries: int = 0
    again: int = 0
    """How often the day was sent again."""
    agreed: set[int] = field(default_factory=set)
    """Parts."""


class Manifests:
    """Gives account of each day, in their order."""

    def __init__(
        self,
        site: Site,
        *,
        outbox: Outbox,
        sealer: Sealer,
        identity: GatewayIdentity,
        clock: Clock,
        say: Say,
        carries: Callable[[], int],
        now_ms: Callable[[], int],
    ) -> None:
        """carries: how long a message may be, in bytes, as far as the broker has said."""
        self.counters = ManifestCounters()
        self._site = site
        self._outbox = outbox
        self._sealer = sealer
        self._identity = identity
        self._clock = clock
        self._say = say
        self._carries = carries
        self._now_ms = now_ms
        self._slots = Slots(site.zone)
        self._plan = plan_digest(site)
        self._late_ms = round(1000 * (AFTER_MIDNIGHT_S + crc32(site.gateway.encode()) % SPREAD_S))
        self._open: _Open | None = None

    async def run(self) -> None:
        """For ever. Raises OutboxError."""
        while True:
            await asyncio.sleep(ROUND_S)
            if not self._clock.trusted():
                continue
            try:
                await self._look()
            except StoreAway as error:
                log.error("account put off detail=%r", str(error))  # noqa: TRY400

    async def verdict(self, day: int, part: int, parts: int, *, agrees: bool, more: bool = False) -> str:
        """What the centre says of a part of a day; says what is done about it, for people.

        more: where it differs, the centre has more. Once the day was sent again, that makes it complete there.
        """
        now = self._open
        # What is said of an account before the last, or of one that was parted in another way, is no news.
        if now is None or now.day != day or parts != len(now.shares):
            return f"day {day} is not open"
        if more and now.again:
            self.counters.more += 1
            log.warning("account day=%d part=%d: the centre has more than this store, and all that is in it", day, part)
        if agrees or (more and now.again):
            now.agreed.add(part)
            if len(now.agreed) == parts:
                await self._close(now)
                self.counters.agreed += 1
            return "noted"
        self.counters.differed += 1
        if now.again >= SENT_AGAIN_MAX:
            log.error("account differs day=%d part=%d times=%d: given up", day, part, now.again)
            self.counters.given_up += 1
            await self._close(now)
            return "given up"
        since, until = self._bounds(day)
        rows = await self._outbox.send_again(since, until)
        self.counters.sent_again += rows
        log.warning("account differs day=%d part=%d: sending the day again records=%d", day, part, rows)
        self._open = _Open(day=day, again=now.again + 1)
        return f"{rows} records are sent again"

    async def _look(self) -> None:
        ended = self._slots.day(self._now_ms() - self._late_ms) - 1
        known = self._outbox.fact(FACT)
        if known is None:  # the first day that is accounted for is the one in which the gateway began
            await self._outbox.set_fact(FACT, str(self._slots.day(self._now_ms()) - 1))
            return
        if self._open is None:
            day = max(int(known) + 1, ended - DAYS_MAX)
            if day > ended:
                return
            self._open = _Open(day=day)
        if await self._settled(self._open) and asyncio.get_running_loop().time() >= self._open.next_at:
            await self._give(self._open)

    async def _close(self, done: _Open) -> None:
        self._open = None
        await self._outbox.set_fact(FACT, str(done.day))

    async def _settled(self, of: _Open) -> bool:
        """Whether the centre has all that was accepted before we first looked."""
        waiting = self._outbox.unsealed()
        if of.looked_at is None:
            of.looked_at = self._now_ms()
        if of.mark is None:
            if waiting.again or (waiting.oldest_at is not None and waiting.oldest_at <= of.looked_at):
                return False
            of.mark = (self._outbox.epoch, self._outbox.next_seq)
        oldest = await self._outbox.beside(lambda: self._outbox.look(account.oldest))
        return oldest is None or oldest >= of.mark

    def _bounds(self, day: int) -> tuple[int, int]:
        return self._slots.bounds(day)

    async def _give(self, of: _Open) -> None:
        """Make the account of the day and send it, in parts that are no longer than a batch, and than the broker
        carries."""
        assert of.looked_at is not None
        carries = self._carries()
        body_max = min(self._site.uplink.batch_bytes, carries) - ADDED_MAX - MANIFEST_ADDED_MAX
        parted = shares([(meter.id, meter.tasks) for meter in self._site.meters], body_max)
        if parted != of.shares:
            of.shares, of.agreed = parted, set()
        of.next_at = asyncio.get_running_loop().time() + min(AGAIN_S * 2**of.tries, AGAIN_S_MAX)
        ledger = await self._account(of.day, of.looked_at)
        since, until = self._bounds(of.day)
        tasks = {task.name: task for task in self._site.tasks}
        for number, share in enumerate(parted):
            if number in of.agreed:
                continue
            meters = [
                ledger.meter(
                    meter,
                    [
                        ledger.task(meter, name, list(self._slots.between(tasks[name].every_s, since - 1, until)))
                        for name in names
                    ],
                )
                for meter, names in share
            ]
            message = await self._sealed(
                of, DayPart(since=since, until=until, cut=self._cut(until, of.looked_at), part=number,
                            parts=len(parted), meters=tuple(meters))
            )  # fmt: skip
            if len(message) > carries or number >= PARTS_MAX:
                self.counters.too_long += 1
                log.error(
                    "account not sent day=%d part=%d bytes=%d broker_carries=%d", of.day, number, len(message), carries
                )
            elif await self._say("manifest", message):
                self.counters.sent += 1
            else:
                of.next_at = -math.inf  # there is no session: with the next one
                return
        of.tries = min(of.tries + 1, 16)

    async def _sealed(self, of: _Open, part: DayPart) -> bytes:
        sealed = await self._sealer.seal_reply(part.encode(), BatchKind.MANIFEST)
        manifest = Manifest(
            gateway=self._identity.gateway, epoch=self._outbox.epoch, day=of.day, plan=self._plan, sealed=sealed,
            sent_at=self._now_ms(),
        )  # fmt: skip
        return signed(manifest, kid=self._identity.kid, sign=self._identity.sign)

    def _cut(self, until: int, looked_at: int) -> int:
        return min(looked_at - round(1000 * ACCEPTED_S), until + DAY_MS)

    async def _account(self, day: int, looked_at: int) -> Ledger:
        """What the store has of the day."""
        since, until = self._bounds(day)
        cut = self._cut(until, looked_at)
        before = max((task.every_s for task in self._site.tasks), default=0) * 1000
        ledger = Ledger(since, until, cut)
        look, beside = self._outbox.look, self._outbox.beside
        of_day = partial(account.numbers, since=since - before, until=max(until, cut))
        numbers = await beside(partial(look, of_day))
        for at in range(0, len(numbers), PIECE_RECORDS):
            piece = partial(account.records, wanted=numbers[at : at + PIECE_RECORDS])
            for record in await beside(partial(look, piece)):
                if isinstance(record, Capture | Gap):
                    ledger.take(record)
            await asyncio.sleep(PIECE_PAUSE_S)
        return ledger


def plan_digest(site: Site) -> bytes:
    """SHA-256 of what the site plans: its tasks, and which meter has which."""
    plan = {
        "zone": site.zone,
        "tasks": [[t.name, t.every_s, t.offset_s, list(t.items)] for t in site.tasks],
        "meters": [[m.id, m.point, list(m.tasks)] for m in site.meters],
    }
    return sha256(json.dumps(plan, ensure_ascii=False, separators=(",", ":")).encode()).digest()
