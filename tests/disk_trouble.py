"""A site whose gateway's disk is full, hangs, is gone, or read-only, for a while; and then the truth.

The disk is a real one, with store and keys on it; meters, broker and subscriber stand elsewhere and go on. `campaign`
is one run of it, for the suite and for long soaks.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Final, Literal

from buffer.ballast import NAME as BALLAST
from central.sinks import open_sink
from central.sinks.base import GapRow
from field.chain import Chain
from field.clock import wall_ms
from field.truth import Truth
from gateway.status import ask
from tests.broker import Broker
from tests.real_disk import RealDisk, mounted
from tests.stage import AGREE_S_MAX, staged, told, until, wait_for_slot_after

EVERY_S: Final = 4
AWAY_S: Final = (1.0, 10.0)
"""For how long it goes on after the gateway was refused: the shortest and the longest. One that is refused for half a
minute on a full disk gives records up, which is another promise (decision 030)."""
Trouble = Literal["full", "gone", "hanging", "moved"]
HANGS_S: Final = 3 * EVERY_S
"""So long that slots come and go; below the two minutes after which a supervisor would start the gateway anew."""
ASK_S: Final = 0.25
"""Between two questions how the gateway is."""
REFUSED_S_MAX: Final = 30.0
RELIEF_S_MAX: Final = 60.0
"""From relief to the first record that is committed."""
HOUSEKEEPING_S_MAX: Final = 75.0
"""Until the next round of housekeeping, which makes the ballast again and brings a store home."""


@dataclass(kw_only=True)
class Troubles:
    """What came of a campaign."""

    truth: Truth = field(default_factory=Truth)
    refused: list[int] = field(default_factory=list)
    """Appends that were refused in each trouble."""
    recovered_s: list[float] = field(default_factory=list)
    """From each relief to the first record that was committed."""
    answered_s: list[float] = field(default_factory=list)
    """What the gateway took to say how it is, while its disk hung."""
    waiting: int = 0
    """Records in memory that it told of at last."""
    ballast: list[bool] = field(default_factory=list)
    """Whether it stood at the beginning, while the disk was full, and at the end."""
    gaps: list[GapRow] = field(default_factory=list)
    """Of slots since the gateway's first."""


def campaign(
    *, seed: int, directory: Path, broker: Broker, troubles: Sequence[Trouble], program: Sequence[str] = ()
) -> Troubles:
    """Run a site, harm its gateway's disk in these ways, let it agree again.

    directory: new and empty. program: of the gateway, where it is not the real one. Prints the seed.
    """
    print(f"seed {seed}: a disk that is {', then '.join(troubles)}, below {directory}", flush=True)
    done = Troubles()
    with (
        mounted(directory) as disk,
        staged(directory, broker, every_s=EVERY_S, disk=disk.path, program=program) as stage,
    ):
        if "moved" in troubles:
            stage.change(buffer=replace(stage.chain.site.buffer, spare=directory / "spare"))
        stage.chain.start()
        wait_for_slot_after(stage.chain, wall_ms())
        polls_since = wall_ms()
        trial = _Trial(stage.chain, disk, Random(seed), done)
        for trouble in troubles:
            getattr(trial, trouble)()
        trial.ballast_stands()
        done.truth = stage.verdict()
        done.gaps = [gap for gap in _gaps(stage.chain) if gap.slot > polls_since]
    return done


class _Trial:
    def __init__(self, chain: Chain, disk: RealDisk, random: Random, done: Troubles) -> None:
        self._chain = chain
        self._disk = disk
        self._random = random
        self._done = done
        self._ballast = chain.site.store / BALLAST

    def full(self) -> None:
        """Somebody takes all the room, which the ballast meets; then also the ballast's, which nothing can."""
        self._done.ballast.append(self._ballast.exists())
        with self._disk.filled(again=False):
            self._count("ballast_released", within_s=AGREE_S_MAX)
            wait_for_slot_after(self._chain, wall_ms())
            self._done.ballast.append(self._ballast.exists())
        with self._disk.filled(again=True):
            self._refused()
        self._relieved()

    def hanging(self) -> None:
        """No write and no sync comes to an end, and polling goes on."""
        with self._disk.hanging():
            end = time.monotonic() + HANGS_S
            while (began := time.monotonic()) < end:
                with suppress(TimeoutError):
                    self._done.waiting = _waiting(self._chain)
                self._done.answered_s.append(time.monotonic() - began)
                time.sleep(ASK_S)
        self._relieved()

    def gone(self) -> None:
        """The medium fails, is found again and mounted read-only, and then made writable."""
        self._disk.fail()
        self._refused()
        self._disk.find_again()
        self._refused()
        self._disk.let_write()
        self._relieved()

    def moved(self) -> None:
        """The medium fails, and the gateway goes on in its second directory until it can be written again."""
        self._disk.fail()
        self._count("moved", within_s=REFUSED_S_MAX)
        wait_for_slot_after(self._chain, wall_ms())
        self._disk.find_again()
        wait_for_slot_after(self._chain, wall_ms())
        self._disk.let_write()
        self._count("came_home", within_s=HOUSEKEEPING_S_MAX)

    def ballast_stands(self) -> None:
        """Return when the ballast was made again."""
        until("the ballast made again", self._ballast.exists, within_s=HOUSEKEEPING_S_MAX)
        self._done.ballast.append(self._ballast.exists())

    def _count(self, name: str, *, within_s: float) -> None:
        """Return when this has happened to the store."""
        until(name, lambda: told(self._chain, "buffer").get(name, 0) > 0, within_s=within_s)

    def _refused(self) -> None:
        """Return some time after an append was refused."""
        before = self._refusals()
        until("an append refused", lambda: self._refusals() > before, within_s=REFUSED_S_MAX)
        time.sleep(self._random.uniform(*AWAY_S))
        self._done.refused.append(self._refusals() - before)

    def _refusals(self) -> int:
        return self._chain.gateway.log.read_text(errors="replace").count("store away records")

    def _relieved(self) -> None:
        """All is well again: return when something was committed."""
        before = self._chain.accepted.stat().st_size
        self._done.recovered_s.append(
            until("a record", lambda: self._chain.accepted.stat().st_size > before, within_s=RELIEF_S_MAX)
        )


def _waiting(chain: Chain) -> int:
    """Records that the gateway has in memory alone. Raises TimeoutError where it does not say."""
    buffer = asyncio.run(ask(chain.site.socket))["buffer"]
    assert isinstance(buffer, dict)
    return int(buffer["waiting"])


def _gaps(chain: Chain) -> list[GapRow]:
    sink = open_sink(chain.database)
    try:
        return list(sink.gaps())
    finally:
        sink.close()
