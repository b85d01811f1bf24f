"""A gateway that comes back from a long outage with a real backlog: what it drains, and what becomes of live data.

The backlog is written into the gateway's store beforehand, by the outbox itself, for meters that the site has no more.
Then the whole chain runs as in the field, every part a process, and the site's meters are polled all the while.
"""

import asyncio
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from bench.append import REAL_DISK
from bench.daemon import memory_mib
from buffer.outbox import Outbox
from central.sinks import open_sink
from config.model import Site
from field.chain import SETTLE_MS, Chain
from field.clock import wall_ms
from field.truth import Truth, check, planned_slots, read_accepted
from gateway.sealer import Sealer
from gateway.status import ask
from identity.gateway import CentreTrust, GatewayIdentity
from protocols.capture import Capture, Source, TimeState, Value
from protocols.quantity import by_name
from simulators.truth import read_served
from tests.broker import Broker
from tests.others import others
from tests.records import REFERENCE
from tests.stage import DRAIN_S_MAX, staged, until, wait_for_slot_after

METERS = 100
QUARTER_MS = 900_000
START_MS = 1_763_683_200_000
KINDS = [(by_name(name), -decimals) for name, decimals in REFERENCE]
APPENDED = 256
"""Captures given to the outbox at once."""
CATCH_UP_S_MAX = 3_600.0
APPENDS, ROUNDS = 300, 3
"""Single captures whose appending is timed, and how often that is done at most: the disk is everybody's, and its worst
moments hit the one store or the other."""
SLOWER_MAX = 2.0
RATE_MIN, LATE_MS_MAX, MIB_MAX = 5_000, 5_000, 96.0
"""Values of the backlog drained in a second, how late a live one may land meanwhile, and the gateway's memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """What came of it."""

    values: int
    """Of the backlog."""
    seconds: float
    """From the start of the gateway to the receipt for the last of them."""
    wrong: list[str]
    """Rows of the backlog that are missing, other than they were accepted, or in another order; a few of them."""
    live: Truth
    """The verdict on the live meters."""
    late_ms: int
    """From the reading of a live capture to its landing: the worst."""
    peak_mib: float
    """The most memory that the gateway ever had resident."""
    append_slower: float
    """The 99th percentile of an append to the store with the backlog, as a multiple of that of an empty store."""
    slower: float
    """How many times as long as on a machine of its own all of it may have taken, others having the rest of it."""

    @property
    def values_per_s(self) -> float:
        """Of the backlog."""
        return self.values / self.seconds

    @property
    def in_time(self) -> bool:
        """Whether what is timed keeps its bounds, as far as the machine was ours."""
        return self.values_per_s * self.slower >= RATE_MIN and self.late_ms < LATE_MS_MAX * self.slower

    def __str__(self) -> str:
        return (f"{self.values} values, {self.values_per_s:.0f} a second, live {self.late_ms} ms late (others made it "
                f"{self.slower:.2f} times as slow), {self.peak_mib} MiB, append p99 {self.append_slower:.2f} times an "
                f"empty store's")  # fmt: skip


def old(number: int) -> Capture:
    """The captures of the backlog, by number: every meter's quarter hours, each value like no other of its meter."""
    slot = START_MS + number // METERS * QUARTER_MS
    name = f"old-{number % METERS:03d}"
    return Capture(
        meter=name, point=f"point-of-{name}", task="curve", slot=slot, stamp=slot,
        read_at=slot + 500 + number % METERS * 137, time_state=TimeState.TRUSTED, clock_error_ms=None,
        source=Source.METER_LIVE,
        values=tuple(
            Value(quantity=kind, number=Decimal(number * 3 + place).scaleb(scale))
            for place, (kind, scale) in enumerate(KINDS)
        ),
    )  # fmt: skip


async def fill(site: Site, captures: int) -> None:
    """Let an outbox accept so many old captures, and seal what fills a batch: as the daemon does without a broker."""
    outbox = Outbox.open(site.store, gateway=site.gateway, random=os.urandom, now_ms=wall_ms)
    sealer = Sealer(
        outbox, identity=GatewayIdentity.load(site.keys, site.gateway), trust=CentreTrust.load(site.keys),
        profile="prompt", zone=site.zone, now_ms=wall_ms, random=os.urandom,
    )  # fmt: skip
    async with outbox:
        for first in range(0, captures, APPENDED):
            await outbox.append([old(n) for n in range(first, min(first + APPENDED, captures))])
            await sealer.seal_due()


def append_slower(store: Path) -> float:
    """How many times as long as in an empty store an append takes here: the 99th percentile of single captures, each
    until it is durable, the stores in turn. The store itself is left as it is."""
    ratios = []
    with tempfile.TemporaryDirectory(prefix="meterwire-", dir=REAL_DISK) as name:
        full, empty = Path(name) / "full", Path(name) / "empty"
        shutil.copytree(store, full)
        for _ in range(ROUNDS):
            with_backlog, without = asyncio.run(_appending_s([full, empty]))
            ratios.append(_p99(with_backlog) / _p99(without))
            if ratios[-1] <= SLOWER_MAX:
                break
    return min(ratios)


async def _appending_s(stores: Sequence[Path]) -> list[list[float]]:
    took: list[list[float]] = [[] for _ in stores]
    async with AsyncExitStack() as stack:
        outboxes = [
            await stack.enter_async_context(Outbox.open(store, gateway="gw", random=os.urandom, now_ms=wall_ms))
            for store in stores
        ]
        for n in range(APPENDS):
            for outbox, mine in zip(outboxes, took, strict=True):
                began = time.perf_counter()
                await outbox.append([old(10_000_000 + n)], urgent=True)
                mine.append(time.perf_counter() - began)
    return took


def _p99(took: list[float]) -> float:
    return sorted(took)[len(took) * 99 // 100]


def drain(directory: Path, broker: Broker, *, values: int) -> Drained:
    """Let a gateway with a backlog of so many values catch up. The broker runs; the directory is new and empty."""
    captures = values // len(KINDS)
    with staged(directory, broker) as stage:
        chain = stage.chain
        asyncio.run(fill(chain.site, captures))
        slower = append_slower(chain.site.store)

        def caught_up() -> bool:
            stage.all_run()
            return not _waiting(chain.site.socket) and _landed(directory) >= captures

        with others() as had:
            began = time.monotonic()
            chain.start()
            until("the backlog at the centre", caught_up, within_s=CATCH_UP_S_MAX, look_s=0.5)
            seconds = time.monotonic() - began
            peak = memory_mib(chain.gateway.pid)["VmHWM"]
            wait_for_slot_after(chain, wall_ms())
        chain.drain(within_s=DRAIN_S_MAX)
        chain.stop()
        return Drained(
            values=captures * len(KINDS), seconds=seconds, wrong=list(_wrong(directory, captures)), live=_live(chain),
            late_ms=_late(directory), peak_mib=peak, append_slower=slower,
            slower=had.slower,
        )  # fmt: skip


def _waiting(socket: Path) -> bool:
    """Whether the gateway has old batches without a receipt, or records that are in none."""
    buffer = asyncio.run(ask(socket))["buffer"]
    assert isinstance(buffer, dict)
    return bool(buffer["batches"] > 2 or buffer["unsealed"] > APPENDED)  # live ones are always under way


def _tables(directory: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{directory / 'central.db'}?mode=ro", uri=True)


def _landed(directory: Path) -> int:
    with closing(_tables(directory)) as tables:
        (count,) = tables.execute("SELECT coalesce(sum(captures), 0) FROM inbox").fetchone()
    return int(count)


def _wrong(directory: Path, captures: int) -> Iterator[str]:
    """What is not as it was accepted: each value once, and a meter's quarter hours in the order of their batches."""
    places = {kind.name: place for place, (kind, _) in enumerate(KINDS)}
    scales = [scale for _, scale in KINDS]
    seen = bytearray(captures * len(KINDS))
    told = 0
    latest = dict[str, tuple[int, int]]()
    with closing(_tables(directory)) as tables:
        rows = tables.execute(
            "SELECT r.meter, r.quantity, r.stamp, r.value, i.received_at, r.seq FROM reading r"
            " JOIN inbox i USING (gateway, epoch, seq) WHERE r.meter LIKE 'old-%' ORDER BY r.stamp, r.meter"
        )
        for meter, quantity, stamp, value, received_at, seq in rows:
            n = (stamp - START_MS) // QUARTER_MS * METERS + int(meter[4:])
            place = places[quantity]
            if told >= 10:
                return
            if Decimal(value) != Decimal(n * 3 + place).scaleb(scales[place]) or seen[n * len(KINDS) + place]:
                told += 1
                yield f"{meter} {quantity} {stamp}: {value}"
            seen[n * len(KINDS) + place] = 1
            if (received_at, seq) < latest.get(meter, (0, 0)):
                told += 1
                yield f"{meter} {stamp}: in batch {seq}, which came before that of an earlier quarter hour"
            latest[meter] = received_at, seq
        (conflicts,) = tables.execute("SELECT count(*) FROM conflict").fetchone()
    if conflicts:
        yield f"{conflicts} conflicts"
    if missing := seen.count(0):
        yield f"{missing} values are missing"


def _late(directory: Path) -> int:
    with closing(_tables(directory)) as tables:
        (late,) = tables.execute(
            "SELECT max(i.received_at - r.read_at) FROM reading r JOIN inbox i USING (gateway, epoch, seq)"
            " WHERE r.meter NOT LIKE 'old-%'"
        ).fetchone()
    return int(late)


def _live(chain: Chain) -> Truth:
    sink = open_sink(chain.database)
    try:
        return check(
            served=((one.meter, one.at_ms, one.values) for one in read_served(chain.served) if one.intact),
            accepted=read_accepted(chain.accepted),
            landed=(reading for reading in sink.readings() if not reading.meter.startswith("old-")),
            gaps=((gap.meter, gap.task, gap.slot) for gap in sink.gaps()),
            planned=planned_slots(chain.site, chain.started_at, chain.ended_at - SETTLE_MS),
            items={task.name: frozenset(task.items) for task in chain.site.tasks},
        )
    finally:
        sink.close()
