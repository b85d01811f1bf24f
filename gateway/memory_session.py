"""A broker in memory, for virtual time: the same Session, no sockets, and outages at will."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from gateway.session import IN_FLIGHT_MAX, PACKET_BYTES_MAX, PATIENCE_S, SessionFactory, SessionLost
from protocols.topics import parse_topic, topic

DELAY_S = 0.02
"""From a publish to its PUBACK, and from the centre to the gateway: a wired link."""
FRAMING_BYTES = 7
"""What MQTT puts around topic and payload of a publish."""

Receive = Callable[[str, bytes], None]
"""The centre: takes a topic and a payload."""


class _Lost:
    """Put among the messages of a session when it ends."""


class _MemorySession:
    def __init__(self, broker: "MemoryBroker", gateway: str, will: bytes) -> None:
        self.in_flight_max = IN_FLIGHT_MAX
        self.message_bytes_max = broker.message_bytes_max if broker.says_so else PACKET_BYTES_MAX
        self.gateway = gateway
        self.will = will
        self.incoming: asyncio.Queue[tuple[float, str, bytes] | _Lost] = asyncio.Queue()
        """Messages in their order, each with the loop time at which it is there."""
        self.live = True
        self._broker = broker
        self._free_at = 0.0
        """When the link has carried all that was given to it: it carries one message after the other."""

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False, within_s: float = PATIENCE_S) -> None:
        now, rate = asyncio.get_running_loop().time(), self._broker.rate
        size = len(topic) + len(payload) + FRAMING_BYTES
        self._free_at = max(now, self._free_at) + (size / rate if rate else 0.0)
        takes_s = self._free_at - now + self._broker.delay_s
        await asyncio.sleep(min(takes_s, within_s))
        if takes_s > within_s:
            raise SessionLost(f"publish: not acknowledged within {within_s:.0f} s")
        if len(payload) > self._broker.message_bytes_max:
            self.end()
        if not self.live:
            raise SessionLost("the broker went away")
        self._broker.take(topic, payload, retain=retain)

    async def messages(self) -> AsyncIterator[tuple[str, bytes]]:
        while True:
            message = await self.incoming.get()
            if isinstance(message, _Lost):
                raise SessionLost("the broker went away")
            due, name, payload = message
            await asyncio.sleep(due - asyncio.get_running_loop().time())
            yield name, payload

    def end(self) -> None:
        if self.live:
            self.live = False
            self.incoming.put_nowait(_Lost())


class MemoryBroker:
    """Brings what gateways publish to the centre, and what the centre says to the gateway that it is for.

    Without a centre, messages are held for it, as a broker holds them for a persistent session.
    """

    def __init__(self, *, delay_s: float = DELAY_S, rate: float | None = None) -> None:
        """rate: bytes a second that each gateway's link carries upwards; None: any number."""
        self.delay_s = delay_s
        self.rate = rate
        self.message_bytes_max = PACKET_BYTES_MAX
        """Whoever publishes what is longer is hung up on."""
        self.says_so = True
        """Whether sessions are told, as in MQTT 5."""
        self.retained: dict[str, bytes] = {}
        self.held: deque[tuple[str, bytes]] = deque()
        """PUBACKed, and not yet with the centre."""
        self.published_bytes = 0
        self.published = 0
        self._centre: Receive | None = None
        self._sessions: dict[str, _MemorySession] = {}
        self._away = False

    @property
    def away(self) -> bool:
        """Whether the broker is down. Setting it ends every session; what it held for the centre stays."""
        return self._away

    @away.setter
    def away(self, away: bool) -> None:
        self._away = away
        if away:
            for session in list(self._sessions.values()):
                session.end()
            self._sessions.clear()

    def attach(self, centre: Receive | None) -> None:
        """Connect the centre, or disconnect it with None. It is given at once what was held for it."""
        self._centre = centre
        while centre is not None and self.held:
            centre(*self.held.popleft())

    def lose_held(self) -> int:
        """Lose what was PUBACKed and not delivered, as a broker does that is killed; returns how much that was."""
        lost = len(self.held)
        self.held.clear()
        return lost

    def take(self, name: str, payload: bytes, *, retain: bool) -> None:
        """A message from a gateway, PUBACKed when this returns."""
        self.published += 1
        self.published_bytes += len(payload)
        if retain:
            self.retained[name] = payload
        if self._centre is None:
            self.held.append((name, payload))
        else:
            self._centre(name, payload)

    def deliver(self, name: str, payload: bytes) -> None:
        """A message from the centre. It is for the gateway whose topic it is; while that one is away it is lost."""
        if self._away:
            return
        session = self._sessions.get(parse_topic(name).gateway)
        if session is not None:
            session.incoming.put_nowait((asyncio.get_running_loop().time() + self.delay_s, name, payload))

    def drop(self, gateway: str) -> None:
        """End a gateway's session as a network failure does: the broker gives out its will."""
        session = self._sessions.pop(gateway, None)
        if session is not None:
            session.end()
            self.take(topic(gateway, "up", "state"), session.will, retain=True)

    def sessions(self, gateway: str) -> SessionFactory:
        """Sessions of this gateway with this broker."""

        @asynccontextmanager
        async def connect(will: bytes) -> AsyncIterator[_MemorySession]:
            await asyncio.sleep(self.delay_s)
            if self._away:
                raise SessionLost("the broker is away")
            session = _MemorySession(self, gateway, will)
            self.drop(gateway)
            self._sessions[gateway] = session
            try:
                yield session
            finally:
                session.live = False
                if self._sessions.get(gateway) is session:
                    del self._sessions[gateway]

        return connect
