"""What the flash is worn by: bytes that SQLite writes for each packed byte, over append, seal, settle and purge.

Counted by a VFS below SQLite, in virtual time, so the figures are the same on every machine. `blocks` counts what a
disk with blocks of 4 KiB writes between two syncs. One bus in batches of 2 s has no bound: what would bring it below
that of the others, and why it is left, stands in docs/decisions/010-outbox-store.md.
"""

import asyncio
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import apsw

from bench.figure import Figure
from buffer.outbox import Outbox
from buffer.rows import to_row
from buffer.words import Limits
from protocols.capture import Record
from simulators import virtual
from tests.outbox import Sealer, settle
from tests.records import reference_load
from tests.scratch import scratch

AT_MOST = 12.0
"""Bytes for each packed one, at the reference load."""
START = 1_763_683_200_000
ROUND_S = 900.0
ONE_BUS_S = 0.137
"""Between two meters on one bus, as the reference load reads them."""
BLOCK = 4096


class Counting(apsw.VFS):
    """The real VFS, with what is written counted."""

    def __init__(self, name: str) -> None:
        super().__init__(name, "")
        self.name = name
        self.bytes = self.blocks = self.syncs = 0

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> "CountingFile":
        """As SQLite's."""
        return CountingFile(self, name, flags)


class CountingFile(apsw.VFSFile):
    """A file of the counting VFS."""

    def __init__(self, vfs: Counting, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        super().__init__("", name, flags)
        self._vfs = vfs
        self._dirty: set[int] = set()

    def xWrite(self, data: bytes, offset: int) -> None:
        """As SQLite's."""
        self._vfs.bytes += len(data)
        self._dirty.update(range(offset // BLOCK, (offset + len(data) - 1) // BLOCK + 1))
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:
        """As SQLite's."""
        self._vfs.blocks += len(self._dirty)
        self._vfs.syncs += 1
        self._dirty.clear()
        super().xSync(flags)


def run(hours: int = 48, buses: Sequence[int] = (8, 1), history_days: float = 1.0) -> Iterator[Figure]:
    """The reference load on 8 buses and on one, in hourly batches and in such of 2 s.

    With a day of history, as much is purged in two days as is appended in one.
    """
    for count in buses:
        for seal_s, batches in ((3600.0, "hourly batches"), (2.0, "batches of 2 s")):
            bound = AT_MOST if count > 1 or seal_s > ROUND_S else None
            yield _figure(f"reference load on {count} bus{'es' if count > 1 else ''}, {batches}", hours,
                          apart_s=ONE_BUS_S / count, seal_s=seal_s, at_most=bound,
                          history_days=history_days)  # fmt: skip


def _figure(
    what: str, hours: int, *, apart_s: float, seal_s: float, at_most: float | None, history_days: float
) -> Figure:
    records = reference_load(snapshots=4 * hours)
    packed = sum(len(to_row(record).body) for record in records)
    vfs = Counting(f"wear-{apart_s}-{seal_s}")
    try:
        with scratch(100) as directory:
            limits = Limits(bulk_days=history_days, mark_every_s=ROUND_S)
            counters = virtual.run(_live(directory, vfs, limits, records, apart_s, seal_s), start_ms=START)
    finally:
        vfs.unregister()
    told = {name: counters[name] for name in ("appended", "commits", "sealed_batches", "settled_batches", "purged")}
    return Figure(
        bench="wear", what=what, figure=vfs.bytes / packed, unit="bytes written/byte packed", at_most=at_most,
        more={"packed_bytes": packed, "blocks": round(vfs.blocks * BLOCK / packed, 2), "syncs": vfs.syncs, **told},
    )  # fmt: skip


async def _live(
    directory: Path, vfs: Counting, limits: Limits, records: list[Record], apart_s: float, seal_s: float
) -> dict[str, int]:
    """Two days of a site: read, committed in groups, sealed, settled at once, purged."""
    outbox = Outbox.open(directory, gateway="gateway-1", random=os.urandom, now_ms=virtual.now_ms, writer="inline",
                         vfs=vfs.name, limits=limits)  # fmt: skip
    async with outbox, asyncio.TaskGroup() as group:
        others = [
            group.create_task(_send(outbox, seal_s), name="send"),
            group.create_task(_purge(outbox), name="purge"),
        ]
        loop = asyncio.get_running_loop()
        began = loop.time()
        rounds: dict[int, list[Record]] = defaultdict(list)
        for number, record in enumerate(records):
            rounds[number // 100].append(record)
        for number, together in rounds.items():
            async with asyncio.TaskGroup() as reading:
                for place, record in enumerate(together):
                    await asyncio.sleep(max(0.0, began + number * ROUND_S + place * apart_s - loop.time()))
                    reading.create_task(outbox.append([record]), name="append")
        for task in others:
            task.cancel()
        return outbox.counters


async def _send(outbox: Outbox, seal_s: float) -> None:
    sealer = Sealer(outbox)
    while True:
        await asyncio.sleep(seal_s)
        if await sealer.all():
            await settle(outbox, outbox.next_seq - 1)


async def _purge(outbox: Outbox) -> None:
    while True:
        await asyncio.sleep(60.0)
        await outbox.purge()
