"""Seals what the outbox has accepted, when it is due, under a data key of the epoch and day."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from buffer.errors import StoreAway
from buffer.outbox import Outbox
from config.model import UplinkProfile
from gateway.keys import DataKeys
from gateway.offers import EARLY_S
from identity.files import IdentityError
from identity.gateway import CentreTrust, GatewayIdentity
from protocols import envelope
from protocols.envelope import REPLY_SEQ, BatchKind, DataKey
from protocols.suites import A256GCM

log = logging.getLogger(__name__)

AGE_S_MAX = {"prompt": 2.0, "metered": 3600.0}
"""How old a reading may grow before it is sealed, by the uplink's profile."""
AGE_S_OFFLINE = 3600.0
"""The same while there is no session: sealing early would only make small batches of a long outage."""
STORE_AWAY_S = 10.0
"""How long to wait before a store that is full, or fails, is tried again."""
KEY_AWAY_S = 30.0
"""Until a data key that could not be signed or wrapped is tried again."""
LIVE_S = 60.0
"""A batch sealed at most this long ago is live, and goes before older ones; on a link that cannot carry what is read it
then joins the backlog, so that what is new stays first."""
RECORDS_DUE = 1000
"""With this many waiting a batch is full (8000 values at 8 a capture), and sealed whatever its age."""


@dataclass(slots=True)
class SealerCounters:
    """What was sealed."""

    batches: int = 0
    records: int = 0
    bytes: int = 0
    put_off: int = 0
    """Times that the store was full, or failed, so that nothing could be sealed."""


class Sealer:
    """The one that makes data keys and batches. A new key at each start and each local day of the site."""

    def __init__(
        self,
        outbox: Outbox,
        *,
        identity: GatewayIdentity,
        trust: CentreTrust,
        profile: UplinkProfile,
        zone: str,
        algorithm: int = A256GCM,
        now_ms: Callable[[], int],
        random: Callable[[int], bytes],
    ) -> None:
        self.counters = SealerCounters()
        self.sealed = asyncio.Event()
        """There are new batches to offer."""
        self._outbox = outbox
        self._identity = identity
        self.keys = DataKeys(
            outbox, identity=identity, trust=trust, algorithm=algorithm, zone=zone, now_ms=now_ms, random=random
        )
        self._profile: UplinkProfile = profile
        self._lately: deque[tuple[float, int]] = deque()
        """(loop time, seq) of the batches that are live."""
        self._reply_seq = REPLY_SEQ
        self._online = False
        self._body_bytes_max: int | None = None
        """What the link is known to carry."""
        self._at_once = False

    def online(self, message_bytes_max: int) -> None:
        """A session begins: what waits is sealed, into batches no longer than what it carries."""
        self._online = True
        self._body_bytes_max = message_bytes_max - envelope.ADDED_MAX
        self._outbox.more.set()

    def offline(self) -> None:
        """There is no session. What the next one carries is taken to be what the last one did."""
        self._online = False

    def at_once(self) -> None:
        """From now on nothing waits for its age: the gateway is being drained."""
        self._at_once = True
        self._outbox.more.set()

    def live_from(self, now: float) -> tuple[int, int]:
        """(epoch, seq) of the first live batch; beyond all numbers when none is, so that one that is being sealed just
        now counts as live only when it is known to be."""
        while self._lately and self._lately[0][0] < now - LIVE_S:
            self._lately.popleft()
        return (self._outbox.epoch, self._lately[0][1]) if self._lately else (self._outbox.epoch + 1, 0)

    async def run(self) -> None:
        """Seal what becomes due, for ever. Raises OutboxError."""
        more = self._outbox.more
        while True:
            more.clear()
            try:
                due_in = await self.seal_due()
            except IdentityError as error:  # a token that does not answer, or no centre trusted: what was read waits
                log.warning("no data key, again in %.0f s detail=%r", KEY_AWAY_S, str(error))
                await asyncio.sleep(KEY_AWAY_S)
                continue
            except StoreAway as error:  # what is sealed and could not be stored is kept, and stored by the next call
                self.counters.put_off += 1
                log.error("nothing sealed, again in %.0f s detail=%r", STORE_AWAY_S, str(error))  # noqa: TRY400
                await asyncio.sleep(STORE_AWAY_S)
                continue
            try:
                async with asyncio.timeout(due_in):
                    await more.wait()
            except TimeoutError:
                continue

    async def seal_due(self) -> float | None:
        """Seal what is due now; returns in how many seconds the next may be, None when nothing waits."""
        while True:
            waiting = self._outbox.unsealed()
            if not waiting.records:
                return None
            new, due_in = waiting.records - waiting.again, self._age_s_max() - waiting.age_s
            due = new and (due_in <= EARLY_S or waiting.events or new >= RECORDS_DUE)
            if not (due or waiting.again):
                return due_in
            key = await self.data_key()

            def encrypt(seq: int, kind: BatchKind, body: bytes, key: DataKey = key) -> tuple[bytes, bytes]:
                return key.kid, envelope.seal(key, gateway=self._identity.gateway, seq=seq, kind=kind, body=body)

            # What is new does not wait for what is sealed again, which may be days.
            sealed = await self._outbox.seal(encrypt, again=not due, body_bytes_max=self._body_bytes_max)
            if sealed is None:
                return None
            if self._online and due and waiting.age_s < LIVE_S:  # what a former start left belongs to the backlog
                self._lately.append((asyncio.get_running_loop().time(), sealed.seq))
            self.counters.batches += 1
            self.counters.records += sealed.records
            self.counters.bytes += len(sealed.message)
            self.sealed.set()

    def _age_s_max(self) -> float:
        if self._at_once:
            return 0.0
        return AGE_S_MAX[self._profile] if self._online else AGE_S_OFFLINE

    async def data_key(self) -> DataKey:
        """The data key of now. A new one is in the store, as a signed key record, before this returns."""
        return await self.keys.now()

    async def seal_reply(self, body: bytes, kind: BatchKind = BatchKind.REPLY) -> bytes:
        """A reply's or a manifest's body sealed under the key of now, with a number that nothing else has."""
        key = await self.data_key()
        seq, self._reply_seq = self._reply_seq, self._reply_seq + 1
        return envelope.seal(key, gateway=self._identity.gateway, seq=seq, kind=kind, body=body)
