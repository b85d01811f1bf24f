"""The chain over a real broker and a bad network: a gateway in this process, mosquitto, a subscriber in a thread.

The meters are simulated in memory, but in real time. The gateway reaches the broker through a fault proxy, the centre
reaches it directly: what is tried here is the gateway's way up.
"""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from central.config import BrokerEntry
from central.subscriber import Subscriber
from config.model import TaskEntry, UplinkEntry, UplinkProfile
from field.chain import SETTLE_MS
from field.clock import wall_ms
from field.truth import Truth
from gateway import pauses
from gateway.daemon import Daemon
from gateway.session import SessionFactory, mqtt_sessions
from protocols.capture import Event
from simulators.describe import SitePlan, uniform
from tests.broker import CENTRE, Broker
from tests.chain import GATEWAY, Chain
from tests.proxy import Proxy, Weather

SECOND = TaskEntry(name="second", every_s=1, items=("energy.active.import.total", "voltage.a"))
SMALL = uniform(buses=1, meters_per_bus=2)
JOIN_S_MAX = 20.0
DRAIN_S_MAX = 60.0
SESSION_BYTES = 4096
"""Both ways together, the part of a session along which it is reset: the greeting takes some 1,700, then come batches,
acknowledgements and receipts."""


class Link(Chain):
    """A chain whose gateway reaches a real broker through a proxy. Make it in a running loop, in real time."""

    def __init__(
        self, directory: Path, broker: Broker, proxy: Proxy, plan: SitePlan, tasks: Sequence[TaskEntry],
        profile: UplinkProfile,
    ) -> None:  # fmt: skip
        self._real = broker
        self._entry = UplinkEntry(url=proxy.url, profile=profile)
        self._centre_entry = BrokerEntry(url=broker.url)
        if broker.certificates is not None:
            mine, theirs = broker.certificates.client(GATEWAY), broker.certificates.client(CENTRE)
            ca, url = broker.certificates.ca, f"mqtts://127.0.0.1:{proxy.port}"
            self._entry = UplinkEntry(url=url, profile=profile, ca=ca, certificate=mine.certificate, key=mine.key)
            self._centre_entry = BrokerEntry(url=broker.url, ca=ca, certificate=theirs.certificate, key=theirs.key)
        self._subscriber: Subscriber | None = None
        self._thread: threading.Thread | None = None
        self._ran = False
        self.proxy = proxy
        super().__init__(directory, plan, tasks, profile=profile, now_ms=wall_ms)
        self.writer = "thread"

    def sessions(self) -> SessionFactory:
        """With the real broker, through the proxy."""
        return mqtt_sessions(self._entry, GATEWAY)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Daemon]:
        """As in virtual time; in real time a slot may pass before the first gateway plans, which nobody promised."""
        async with super().running() as daemon:
            if not self._ran:
                self._ran, self.started_at = True, wall_ms()
            yield daemon

    async def drain(self, daemon: Daemon) -> None:
        """As in virtual time, but for the slot that was due at that very moment: it may not be planned any more."""
        await super().drain(daemon)
        assert self.drained_at is not None
        self.drained_at -= SETTLE_MS

    def connect_centre(self) -> None:
        """Run a subscriber in a thread; returns when it has subscribed."""
        ready = threading.Event()
        self._subscriber = Subscriber(self._centre_entry, self.landing, ready=ready.set)
        self._thread = threading.Thread(target=self._subscriber.run, name="centre")
        self._thread.start()
        assert ready.wait(JOIN_S_MAX)

    def disconnect_centre(self) -> None:
        """End the subscriber: the broker keeps its session."""
        if self._subscriber is not None and self._thread is not None:
            self._subscriber.stop()
            self._thread.join(JOIN_S_MAX)
            assert not self._thread.is_alive()
            self._subscriber = self._thread = None


@asynccontextmanager
async def linked(
    directory: Path,
    broker: Broker,
    *,
    plan: SitePlan = SMALL,
    tasks: Sequence[TaskEntry] = (SECOND,),
    profile: UplinkProfile = "prompt",
    weather: Weather | None = None,
    seed: int = 1,
) -> AsyncIterator[Link]:
    """The chain on this broker, without a gateway yet; ended at the end."""
    async with Proxy(broker.port, seed=seed, weather=weather) as proxy:
        link = Link(directory, broker, proxy, plan, tasks, profile)
        try:
            yield link
        finally:
            link.close()


@contextmanager
def brisk() -> Iterator[None]:
    """Connection attempts hundredths of seconds apart: what is tried then is what comes after them."""
    before = pauses.BACK_OFF_S, pauses.BACK_OFF_S_MAX
    pauses.BACK_OFF_S, pauses.BACK_OFF_S_MAX = 0.01, 0.05
    try:
        yield
    finally:
        pauses.BACK_OFF_S, pauses.BACK_OFF_S_MAX = before


async def reset_along(directory: Path, broker: Broker, *, first: int, step: int) -> Truth:
    """Sessions that are reset after `first` bytes, `first + step`, ... one after the other, and then the truth."""
    async with linked(directory, broker) as link:
        offsets = range(first, SESSION_BYTES, step)
        link.proxy.weather.resets = deque(offsets)
        with brisk():
            async with link.running() as daemon, asyncio.timeout(len(offsets) + DRAIN_S_MAX):
                assert daemon.parts is not None
                while link.proxy.weather.resets:
                    daemon.parts.intake.add(Event(name="tick", at=wall_ms()))  # so that there is something to say
                    await asyncio.sleep(0.02)
                await link.drain(daemon)
        assert link.proxy.counters.resets == len(offsets)
        link.disconnect_centre()
        return link.truth()
