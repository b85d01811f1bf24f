"""How the gateway is: counters and facts for the centre, a snapshot for the status socket, and a sign of life."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import fields
from itertools import islice
from typing import Any

from buffer.errors import StoreAway
from buffer.outbox import Outbox
from config.model import Site
from gateway.clock import Clock
from gateway.notify import notify, watchdog_s
from gateway.uplink import Uplink
from protocols.messages import Health

log = logging.getLogger(__name__)

ROUND_S = 10.0
"""Between two rounds: watchdog, floor of the clock."""
PURGE_EVERY_S = 60.0
"""Between two steps of letting settled history go."""
PUBLISH_EVERY_S = {"prompt": 300.0, "metered": 6 * 3600.0}
"""Between two health messages, by the uplink's profile: some kB each, so half a megabyte a month on a metered link."""
LEFT_OUT = "left_out"
"""The fact of a health message that says how many counters and facts are not in it."""
CLOCK_FLOOR = "clock.floor"
"""The fact under which the floor of the clock is kept."""

Parts = Mapping[str, Callable[[], Any]]
"""Name of a part to its counters: a dataclass, or a mapping of names to whole numbers."""


class HealthWatch:
    """Keeps house in rounds: what must happen now and then, whatever else goes on.

    progressing: whether the gateway does its work; only while it does is the watchdog fed. An uplink that is away is
    no reason to be restarted.
    """

    def __init__(
        self,
        site: Site,
        *,
        outbox: Outbox,
        clock: Clock,
        parts: Parts,
        facts: Callable[[], Mapping[str, str]],
        uplink: Uplink,
        progressing: Callable[[], bool],
        now_ms: Callable[[], int],
    ) -> None:
        self.stalled = 0
        """Rounds in which the watchdog was not fed."""
        self.put_off = 0
        """Rounds in which the store was away, so that nothing was purged."""
        self._site = site
        self._outbox = outbox
        self._clock = clock
        self._parts = parts
        self._facts = facts
        self._uplink = uplink
        self._progressing = progressing
        self._now_ms = now_ms

    def counters(self) -> dict[str, int]:
        """The counters that are not zero, by dotted names such as `uplink.receipts`."""
        return {f"{part}.{name}": value for part, get in self._parts.items() for name, value in _flat(get()) if value}

    async def run(self) -> None:
        """For ever. Raises OutboxError."""
        loop = asyncio.get_running_loop()
        purge_at = publish_at = loop.time()
        round_s = min(ROUND_S, (watchdog_s() or ROUND_S * 2) / 2)
        while True:
            if self._progressing():
                notify("WATCHDOG=1")
            else:
                self.stalled += 1
                log.error("no progress rounds=%d", self.stalled)
            now = loop.time()
            if now >= purge_at:
                purge_at = now + PURGE_EVERY_S
                try:
                    await self._keep_house()
                except StoreAway as error:
                    self.put_off += 1
                    log.error("housekeeping put off detail=%r", str(error))  # noqa: TRY400
            if (
                now >= publish_at
                and self._uplink.connected
                and await self._uplink.say("health", self.message(self._uplink.carries))
            ):
                publish_at = now + PUBLISH_EVERY_S[self._site.uplink.profile]
            await asyncio.sleep(round_s)

    async def _keep_house(self) -> None:
        came_home = self._outbox.counters["came_home"]
        await self._outbox.purge()
        if self._outbox.counters["came_home"] > came_home:
            self._uplink.look_again()
        floor = self._clock.floor_moved()
        if floor is not None:
            await self._outbox.set_fact(CLOCK_FLOOR, str(floor))

    def message(self, bytes_max: int) -> bytes:
        """The health message of now: of what it could tell the first that a broker of short messages carries, and how
        much it leaves out."""
        counters, facts = self.counters(), self._facts()
        keep = all_of_it = len(counters) + len(facts)
        while True:
            told = {} if keep == all_of_it else {LEFT_OUT: str(all_of_it - keep)}
            message = Health(
                gateway=self._site.gateway,
                epoch=self._outbox.epoch,
                at=self._now_ms(),
                counters=dict(islice(counters.items(), max(0, keep - len(facts)))),
                facts=told | dict(islice(facts.items(), keep)),
            ).encode()
            if len(message) <= bytes_max or not keep:
                return message
            keep = min(keep - 1, keep * bytes_max // len(message))


def _flat(counters: Any) -> list[tuple[str, int]]:
    if isinstance(counters, Mapping):
        items = list(counters.items())
    else:
        items = [(field.name, getattr(counters, field.name)) for field in fields(counters)]
    return [(name, value) for name, value in items if type(value) is int]
