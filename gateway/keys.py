"""The gateway's data keys: one for each start and local day, and what becomes of those that the centre cannot open.

A data key is in memory only, so an earlier one is known by its record alone. When the centre asks for a key again and
its record is signed or wrapped with keys that have changed since, the record is made anew; where that takes the data
key itself, and it is gone, what was sealed under it is given up and sealed again under the key of now.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from buffer.outbox import Outbox
from gateway.slots import Slots
from identity.datakey import key_record, new_data_key, renewed
from identity.gateway import CentreTrust, GatewayIdentity
from protocols.envelope import DataKey

log = logging.getLogger(__name__)

REASON = "its key was wrapped for keys that the centre no longer has"


@dataclass(slots=True)
class KeyCounters:
    """What was made, and made anew."""

    made: int = 0
    renewed: int = 0
    """Key records signed or wrapped again."""
    resealed: int = 0
    """Batches given up because their key cannot be opened any more; their records are sealed again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewal:
    """What became of keys that the centre asked for."""

    records: Mapping[bytes, bytes]
    """By key id: what to send."""
    resealed: int
    """Batches that were given up."""


class DataKeys:
    """Makes data keys. A new one is in the store, as a signed key record, before anyone has it."""

    def __init__(
        self,
        outbox: Outbox,
        *,
        identity: GatewayIdentity,
        trust: CentreTrust,
        algorithm: int,
        zone: str,
        now_ms: Callable[[], int],
        random: Callable[[int], bytes],
    ) -> None:
        self.counters = KeyCounters()
        self._outbox = outbox
        self._identity = identity
        self._trust = trust
        self._algorithm = algorithm
        self._slots = Slots(zone)
        self._now_ms = now_ms
        self._random = random
        self._key: DataKey | None = None
        self._changing = asyncio.Lock()

    async def now(self) -> DataKey:
        """The data key of now. Raises OutboxError, and IdentityError where there is nobody to wrap it for."""
        async with self._changing:
            day = self._slots.day(self._now_ms())
            if self._key is None or self._key.day != day:
                key = new_data_key(self._outbox.epoch, day, self._random, self._algorithm)
                record = key_record(self._identity, await self._believed(), key)
                await self._outbox.add_key_record(key.kid, key.epoch, record)
                self._key = key
                self.counters.made += 1
            return self._key

    async def _believed(self) -> CentreTrust:
        return await self._outbox.beside(self._trust.now)

    async def renew(self, kids: frozenset[bytes]) -> Renewal:
        """Make what the centre lacks such that it can open it, if it is not. Raises OutboxError and IdentityError."""
        records, resealed = dict[bytes, bytes](), 0
        async with self._changing:
            trust = await self._believed()
            for entry in await self._outbox.beside(self._outbox.key_records):
                if entry.kid not in kids:
                    continue
                record = renewed(self._identity, trust, entry.message, self._key)
                if record is None:
                    resealed += await self._outbox.reseal(entry.kid, REASON)
                    continue
                if record != entry.message:
                    await self._outbox.replace_key_record(entry.kid, record)
                    self.counters.renewed += 1
                records[entry.kid] = record
        if resealed:
            self.counters.resealed += resealed
            log.warning("batches given up count=%d reason=%r: sealed again under the key of now", resealed, REASON)
        return Renewal(records=records, resealed=resealed)
