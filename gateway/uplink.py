"""The way to the centre: keys, hello and batches go up, receipts and requests come down.

A batch is settled by the centre's signed receipt and by nothing else. The broker's PUBACK only paces us: a broker that
is killed forgets what it acknowledged. Whatever comes down and is not right is counted, and changes nothing.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from random import Random

from buffer.errors import StoreAway
from buffer.outbox import Outbox
from buffer.words import Sealed
from config.model import UplinkProfile
from gateway.hellos import Hellos
from gateway.offers import EARLY_S, Offers
from gateway.pace import Pace, Shipment
from gateway.pauses import Pauses
from gateway.sealer import Sealer
from gateway.session import PACKET_BYTES_MAX, Session, SessionFactory, SessionLost
from identity.files import IdentityError
from identity.gateway import CentreTrust, GatewayIdentity
from protocols.envelope import BatchKind
from protocols.errors import Malformed
from protocols.messages import Receipt, State, parse_topic, topic, verified

log = logging.getLogger(__name__)

REQUESTS_MAX = 16
"""Requests that may wait to be obeyed; a further one is counted and dropped, and its sender asks again."""
KEY_AGAIN_S = 5.0
"""A key record that the centre asks for is sent at most this often: asked for sooner, it is sent when it may be."""
SIZE_MIN = 256
"""Bytes: hardly any batch is shorter, so a look into the store for what fits finds no more than these."""
AWAY_S = 10.0
"""Until a store that cannot be read, or a token that does not sign, is tried again; the session stays."""
FAREWELL_S = 3.0
"""What a clean stop spends on saying that the gateway goes offline."""


@dataclass(slots=True)
class UplinkCounters:
    """What went up and came down since the start."""

    sessions: int = 0
    lost: int = 0
    """Sessions that ended, and attempts at one that failed."""
    offered: int = 0
    offered_again: int = 0
    acknowledged: int = 0
    bytes: int = 0
    receipts: int = 0
    unsettled: int = 0
    """Of these, such as could not be kept, as the store was full or failed."""
    settled_batches: int = 0
    settled_records: int = 0
    rejected: int = 0
    too_long: int = 0
    """Batches given up because the broker carries nothing so long; their records are sealed again, fewer to a batch."""
    unsaid: int = 0
    """Other messages that were not sent because the broker carries nothing so long, and they cannot be parted."""
    put_off: int = 0
    """Times that nothing could be offered, as the store could not be read or a token did not sign."""
    keys_asked: int = 0
    requests: int = 0
    requests_dropped: int = 0
    malformed: int = 0
    """Messages from above that were damaged, forged, for another gateway, or on a topic that there is not."""


class Uplink:
    """Keeps a session with the broker, offers batches and takes receipts."""

    def __init__(
        self,
        outbox: Outbox,
        *,
        sessions: SessionFactory,
        sealer: Sealer,
        identity: GatewayIdentity,
        trust: CentreTrust,
        profile: UplinkProfile,
        now_ms: Callable[[], int],
        random: Random,
        heard_time: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.counters = UplinkCounters()
        self.requests: asyncio.Queue[bytes] = asyncio.Queue(REQUESTS_MAX)
        """Requests as they came, not verified."""
        self.settled = asyncio.Event()
        """Set at each receipt."""
        self._outbox = outbox
        self._sessions = sessions
        self._sealer = sealer
        self._identity = identity
        self._trust = trust
        self._profile: UplinkProfile = profile
        self._now_ms = now_ms
        self._heard_time = heard_time
        self._offers = Offers(random)
        self._hellos = Hellos(outbox, identity=identity, now_ms=now_ms)
        self._pauses = Pauses(random)
        self._pace = Pace()
        self._session: Session | None = None
        self._carries = PACKET_BYTES_MAX
        self._events_under_way = 0
        self._keys_sent: dict[bytes, float] = {}
        self._keys_unsent: set[bytes] = set()
        """Such as are longer than the broker carries."""
        self._keys_wanted: frozenset[bytes] = frozenset()
        """What the latest receipt asked for."""
        self._wake = sealer.sealed
        self._stopping = asyncio.Event()
        self._fruitful = False
        """Whether a receipt came in this session."""
        self._began_at = 0.0
        self._lost_because = ""

    @property
    def connected(self) -> bool:
        """Whether there is a session."""
        return self._session is not None

    @property
    def unreceipted(self) -> int:
        """Batches that were offered and have no receipt."""
        return self._offers.unreceipted

    @property
    def rate(self) -> float:
        """Bytes a second that the link was found to carry in this session; 0 before the first acknowledgement."""
        return self._pace.rate

    @property
    def carries(self) -> int:
        """The longest message that the broker carries, in bytes, as far as the latest session told."""
        return self._carries

    def stop(self) -> None:
        """Say goodbye and end."""
        self._stopping.set()

    async def run(self) -> None:
        """Until stopped. Raises OutboxError; a broker that is away only means trying again."""
        async with asyncio.TaskGroup() as group:
            sealing = group.create_task(self._sealer.run(), name="uplink:seal")
            await self._connect_until_stopped()
            sealing.cancel()

    async def say(self, name: str, payload: bytes) -> bool:
        """Publish a message that may be lost (health, a reply); says whether the broker has it."""
        session = self._session
        if session is None or self._too_long(session, name, payload):
            return False
        pace = self._pace
        try:
            while not pace.fits(len(payload)):
                pace.eased.clear()
                await pace.eased.wait()
                if self._session is not session:
                    return False
            await self._ship(session, name, payload)
        except SessionLost:
            return False
        return True

    def _too_long(self, session: Session, name: str, payload: bytes) -> bool:
        """Whether the broker would end the session instead of carrying it."""
        if len(payload) <= session.message_bytes_max:
            return False
        self.counters.unsaid += 1
        log.error("not sent name=%s bytes=%d broker_carries=%d", name, len(payload), session.message_bytes_max)
        return True

    async def _ship(self, session: Session, name: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish under one of the gateway's up topics. Raises SessionLost."""
        await self._carry(session, name, payload, self._begin(payload), retain=retain)

    def _begin(self, payload: bytes) -> tuple[Shipment, float]:
        """Count it as under way from now on; also says how long to wait for its acknowledgement."""
        within_s = self._pace.patience_s(len(payload))
        return self._pace.begin(len(payload), asyncio.get_running_loop().time()), within_s

    async def _carry(
        self, session: Session, name: str, payload: bytes, begun: tuple[Shipment, float], *, retain: bool = False
    ) -> None:
        """Publish what counts as under way already. What it takes tells how fast the link is."""
        pace = self._pace
        await session.publish(self._up(name), payload, retain=retain, within_s=begun[1])
        pace.end(begun[0], asyncio.get_running_loop().time())
        self._wake.set()

    def look_again(self) -> None:
        """Batches that were out of reach may be back."""
        self._wake.set()

    async def _connect_until_stopped(self) -> None:
        now = asyncio.get_running_loop().time
        while not self._stopping.is_set():
            self._fruitful, self._began_at = False, now()
            try:
                async with self._sessions(self._state(online=False)) as session:
                    await self._use(session)
            # The others: trust or a store that cannot be read, just now, when a message from above needs it.
            except* (SessionLost, IdentityError, StoreAway) as lost:
                self.counters.lost += 1
                if str(lost.exceptions[0]) != self._lost_because:
                    self._lost_because = str(lost.exceptions[0])
                    log.warning("session lost detail=%r", self._lost_because)
            finally:
                self._session = None
                self._sealer.offline()
                self._offers.lost()
                self._pace.eased.set()  # whoever waits for room finds that there is no session
            pause_s = self._pauses.after(now() - self._began_at, fruitful=self._fruitful)
            if not self._stopping.is_set():
                await self._pause(pause_s)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return

    async def _use(self, session: Session) -> None:
        """One session, from its first word to its loss (SessionLost) or to the stop."""
        self.counters.sessions += 1
        self._session, self._carries = session, session.message_bytes_max
        self._began_at = asyncio.get_running_loop().time()
        self._pace = Pace()
        self._events_under_way = 0
        self._keys_sent.clear()
        self._keys_unsent.clear()
        self._keys_wanted = frozenset()
        self._hellos.begin()
        if self._profile == "prompt":
            self._offers.at_once()
        self._lost_because = ""
        log.info("session begins number=%d", self.counters.sessions)
        async with asyncio.TaskGroup() as group:
            hearing = group.create_task(self._hear(session), name="uplink:hear")
            offering = group.create_task(self._offer_for_ever(session, group), name="uplink:offer")
            await self._stopping.wait()
            hearing.cancel()
            offering.cancel()
        try:
            async with asyncio.timeout(FAREWELL_S):
                await self._ship(session, "state", self._state(online=False), retain=True)
        except TimeoutError:
            log.warning("farewell not acknowledged seconds=%s", FAREWELL_S)

    # Going up.

    async def _greet(self, session: Session) -> None:
        """The key of now goes first; every other one goes before the first batch under it, or an event would wait
        behind a month of keys."""
        await self._ship(session, "state", self._state(online=True), retain=True)
        await self._send_key_of(session, (await self._sealer.data_key()).kid)
        await self._say_hello(session, first=True)

    async def _say_hello(self, session: Session, *, first: bool = False) -> None:
        now = asyncio.get_running_loop().time()
        await self._ship(session, "hello", await self._hellos.make(session.message_bytes_max, now=now, first=first))

    def _up(self, name: str) -> str:
        return topic(self._identity.gateway, "up", name)

    def _state(self, *, online: bool) -> bytes:
        return State(
            gateway=self._identity.gateway, online=online, epoch=self._outbox.epoch, at=self._now_ms()
        ).encode()

    async def _offer_for_ever(self, session: Session, group: asyncio.TaskGroup) -> None:
        greeted = False
        while True:
            self._wake.clear()
            try:
                if not greeted:
                    await self._greet(session)
                    self._sealer.online(session.message_bytes_max)
                    greeted = True
                again_at = await self._offer_due(session, group)
            except (StoreAway, IdentityError) as error:  # or a token that does not sign; another session mends neither
                self.counters.put_off += 1
                log.error("nothing offered, again in %.0f s detail=%r", AWAY_S, str(error))  # noqa: TRY400
                await asyncio.sleep(AWAY_S)
                continue
            try:
                async with asyncio.timeout_at(again_at):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _offer_due(self, session: Session, group: asyncio.TaskGroup) -> float | None:
        """Send all that may be sent now; says when more is due, in loop time, if nothing else happens."""
        await self._send_wanted_keys(session)
        now = asyncio.get_running_loop().time()
        if self._hellos.due(now):
            await self._say_hello(session)
        for sealed in await self._found(session.in_flight_max, now):
            if len(sealed.message) > session.message_bytes_max:
                await self._give_up(sealed, session.message_bytes_max)
                continue
            if not self._fits(sealed):
                break
            if sealed.kid not in self._keys_sent:
                await self._send_key_of(session, sealed.kid)
            group.create_task(self._offer(session, sealed), name=f"uplink:batch {sealed.seq}")
        timers = [self._key_due(kid) for kid in self._keys_wanted]
        timers += [at for at in (self._hellos.due_at(), self._offers.next_after(now)) if at is not None]
        return min(timers, default=None)

    async def _found(self, in_flight_max: int, now: float) -> list[Sealed]:
        """Batches to offer now as far as counts go, the most urgent first; no more than the link has room for."""
        room = min(self._offers.room(in_flight_max, now), 1 + max(0, self._pace.free) // SIZE_MIN)
        if not room:
            return []
        live_from = self._sealer.live_from(now)
        waiting, backfill = self._offers.waiting(now), self._offers.backfill(live_from, now)
        return await self._outbox.beside(
            partial(self._outbox.offers, room, waiting, live_from=live_from, backfill=backfill)
        )

    async def _give_up(self, sealed: Sealed, bytes_max: int) -> None:
        log.warning("batch given up seq=%d bytes=%d broker_carries=%d", sealed.seq, len(sealed.message), bytes_max)
        self.counters.too_long += 1
        voided = await self._outbox.void(sealed.epoch, sealed.seq, "longer than the broker carries")
        self._hellos.given_up(any_were=voided)

    def _fits(self, sealed: Sealed) -> bool:
        """Whether the link has room for it. An event takes the place behind what is under way at once."""
        if sealed.kind is BatchKind.EVENTS and not self._events_under_way:
            return True
        return self._pace.fits(len(sealed.message))

    def _offer(self, session: Session, sealed: Sealed) -> Coroutine[object, object, None]:
        """Publish a batch, which is under way from now on; to be awaited, until the PUBACK."""
        again = not self._offers.begin((sealed.epoch, sealed.seq))
        self.counters.offered += 1
        self.counters.offered_again += again
        self._events_under_way += sealed.kind is BatchKind.EVENTS
        return self._offered(session, sealed, self._begin(sealed.message))

    async def _offered(self, session: Session, sealed: Sealed, begun: tuple[Shipment, float]) -> None:
        """SessionLost ends the session."""
        event = sealed.kind is BatchKind.EVENTS
        await self._carry(session, "event" if event else "batch", sealed.message, begun)
        self._events_under_way -= event
        self.counters.acknowledged += 1
        self.counters.bytes += len(sealed.message)
        self._offers.acknowledged((sealed.epoch, sealed.seq), asyncio.get_running_loop().time())

    async def _send_key_of(self, session: Session, kid: bytes) -> None:
        for entry in await self._outbox.beside(self._outbox.key_records):
            if entry.kid == kid:
                await self._send_key(session, kid, entry.message)

    async def _send_key(self, session: Session, kid: bytes, record: bytes) -> None:
        # What is under a key that cannot be sent waits at the centre, which goes on asking for it.
        if kid in self._keys_unsent or self._too_long(session, "key", record):
            self._keys_unsent.add(kid)
        else:
            await self._ship(session, "key", record)
        self._keys_sent[kid] = asyncio.get_running_loop().time()

    async def _send_wanted_keys(self, session: Session) -> None:
        now = asyncio.get_running_loop().time()
        due = {kid for kid in self._keys_wanted if self._key_due(kid) <= now + EARLY_S}
        if due:
            renewal = await self._sealer.keys.renew(frozenset(due))
            self._keys_wanted -= due
            self.counters.keys_asked += len(due)
            for kid, record in renewal.records.items():
                await self._send_key(session, kid, record)
            self._hellos.given_up(any_were=renewal.resealed > 0)

    def _key_due(self, kid: bytes) -> float:
        """From when on, in loop time, the key record may be sent if it is asked for."""
        return self._keys_sent.get(kid, -KEY_AGAIN_S) + KEY_AGAIN_S

    # Coming down.

    async def _hear(self, session: Session) -> None:
        async for name, payload in session.messages():
            try:
                await self._take(name, payload)
            except Malformed as error:
                self.counters.malformed += 1
                log.warning("message from above refused topic=%r detail=%r", name[:120], str(error))

    async def _take(self, name: str, payload: bytes) -> None:
        """One message from above. Raises Malformed for what is not truly from the centre to us."""
        where = parse_topic(name)
        if where.gateway != self._identity.gateway or where.direction != "down":
            raise Malformed(f"a message for {where.gateway}, not for us")
        if where.name == "request":
            if self.requests.full():
                self.counters.requests_dropped += 1
            else:
                self.counters.requests += 1
                self.requests.put_nowait(payload)
            return
        receipt = await self._receipt(payload)
        self._fruitful = True
        self._keys_wanted = frozenset(receipt.need_key)
        if self._hellos.answered(asyncio.get_running_loop().time()):
            self._heard_time(receipt.sent_at)
        try:
            await self._settle(receipt)
        except StoreAway as error:
            # Receipts are cumulative, and what has none is offered again: the next one settles this too.
            self.counters.unsettled += 1
            log.error("receipt not kept detail=%r", str(error))  # noqa: TRY400
        self._hellos.receipted(receipt)

    async def settle_carried(self, payload: bytes) -> None:
        """A receipt that came by another way than a session. Raises Malformed, OutboxError."""
        await self._settle(await self._receipt(payload))

    async def _receipt(self, payload: bytes) -> Receipt:
        trust = await self._outbox.beside(self._trust.now)
        receipt = verified(Receipt, payload, gateway=self._identity.gateway, verify=trust.verify)
        self.counters.receipts += 1
        return receipt

    async def _settle(self, receipt: Receipt) -> None:
        settled = await self._outbox.settle(receipt)
        self._offers.receipted(receipt)
        self.counters.settled_batches += settled.batches
        self.counters.settled_records += settled.records
        self.counters.rejected += len(settled.voided)
        self._hellos.settled(settled)
        self.settled.set()
        self._wake.set()
