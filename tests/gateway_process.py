"""`meterwire` with one change to its gateway, for the controls of destructive tests: `gateway_process.py CHANGE ...`.

A control has to lose data where the real gateway loses nothing.
"""

import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, cast

import buffer.sqlite
from buffer.words import Sealed
from field.main import main
from gateway.commands import Commands, _Answer
from gateway.daemon import Daemon
from gateway.intake import AWAY_PAUSE_S, Intake
from gateway.pace import Shipment
from gateway.session import Session
from gateway.uplink import Uplink
from protocols.capture import Record
from protocols.messages import Receipt


def settle_on_puback(patch: Callable[[type, str, object], None] = setattr) -> None:
    """Batches are settled when the broker has taken them, as other gateways do, which do not send again either.

    With the history that ours keeps, the centre would ask for what it never saw, and get it. patch: puts another
    function in the place of a method.
    """
    offered = Uplink._offered

    async def and_settled(self: Uplink, session: Session, sealed: Sealed, begun: tuple[Shipment, float]) -> None:
        await offered(self, session, sealed, begun)
        only, now = ((sealed.seq, sealed.seq),), self._now_ms()
        gateway = self._identity.gateway
        await self._settle(Receipt(gateway=gateway, epoch=sealed.epoch, contiguous_upto=0, ranges=only, sent_at=now))

    async def refused(self: Commands, arguments: Mapping[str, str | int]) -> _Answer:
        return _Answer("refused", "no history")

    patch(Uplink, "_offered", and_settled)
    patch(Commands, "_send_again", refused)


def sync_normal() -> None:
    """The store syncs at checkpoints only, as SQLite's handbooks advise for speed."""
    defaults = buffer.sqlite.open_store.__kwdefaults__
    assert defaults is not None and defaults["synchronous"] == "FULL"
    defaults["synchronous"] = "NORMAL"


def forget_refused() -> None:
    """What the store refuses is gone, as where a reading goes from the wire straight to a file."""
    accept = Intake.accept

    async def once(self: Intake, records: Sequence[Record], *, urgent: bool = False) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(AWAY_PAUSE_S / 2):
                await accept(self, records, urgent=urgent)

    cast(Any, Intake).accept = once


def wait_for_disk() -> None:
    """The event loop itself writes, and waits until the disk has it."""
    defaults = Daemon.__init__.__kwdefaults__
    assert defaults is not None and defaults["writer"] == "thread"
    defaults["writer"] = "inline"


CHANGES = {change.__name__: change for change in (settle_on_puback, sync_normal, forget_refused, wait_for_disk)}

if __name__ == "__main__":
    CHANGES[sys.argv.pop(1)]()
    main()
