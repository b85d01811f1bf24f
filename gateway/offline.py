"""Receipts carried here by hand: `meterwire offline settle` lays them down, and they settle like any other."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from buffer.errors import StoreAway
from protocols import transfer
from protocols.errors import Malformed

T = TypeVar("T")

log = logging.getLogger(__name__)

DIRECTORY = "receipts"
"""Below the store's directory."""
ROUND_S = 10.0
"""Between two looks into the directory."""


class Beside(Protocol):
    """`Outbox.beside`: has what may wait for the disk done beside the event loop."""

    async def __call__(self, work: Callable[[], T]) -> T: ...


class CarriedReceipts:
    """Settles what lies in the directory and takes it away."""

    def __init__(
        self, store: Path, *, gateway: str, settle: Callable[[bytes], Awaitable[None]], beside: Beside
    ) -> None:
        """settle: takes a signed receipt as it is; raises Malformed where it is not truly one for us, OutboxError."""
        self.settled = 0
        """Receipts since the start."""
        self._directory = store / DIRECTORY
        self._gateway = gateway
        self._settle = settle
        self._beside = beside
        self._put_off = ""
        """Why a file was left for later, as it was said last: it is said once."""

    async def run(self) -> None:
        """For ever. Raises OutboxError."""
        while True:
            for path in await self._beside(self._found):
                await self._take(path)
            await asyncio.sleep(ROUND_S)

    def _found(self) -> list[Path]:
        try:
            return sorted(self._directory.glob(f"*{transfer.SUFFIXES['down']}"))
        except OSError as error:  # a disk that fails just now
            log.warning("carried receipts not looked for detail=%r", str(error))
            return []

    async def _take(self, path: Path) -> None:
        try:
            receipts = self._receipts(path)
            while (payload := await self._beside(partial(next, receipts, None))) is not None:
                await self._settle(payload)
                self.settled += 1
            log.info("carried receipts settled file=%s", path.name)
        except Malformed as error:
            log.warning("carried receipts refused file=%s detail=%r", path.name, str(error))
        except (StoreAway, OSError) as error:  # nobody brings them a second time: they wait for the disk
            why = f"file={path.name} detail={str(error)!r}"
            if why != self._put_off:
                self._put_off = why
                log.error("carried receipts put off %s", why)  # noqa: TRY400
            return
        await self._beside(partial(_remove, path))

    def _receipts(self, path: Path) -> Iterator[bytes]:
        with path.open("rb") as file:
            of = transfer.head(file.read)
            if (of.gateway, of.direction) != (self._gateway, "down"):
                raise Malformed(f"{of.direction} {of.gateway}, expected down {self._gateway}")
            yield from (payload for name, payload in transfer.messages(of, file.read) if name == "receipt")


def _remove(path: Path) -> None:
    try:
        path.unlink()
    except OSError as error:  # a directory that cannot be written: a receipt may come twice
        log.warning("carried receipts stay file=%s detail=%r", path.name, str(error))
