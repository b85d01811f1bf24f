"""A whole gateway whose disk is full, failing or read-only for a while: it polls on, and loses nothing."""

import asyncio
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from config.model import SerialSettings, TaskEntry
from gateway import intake
from protocols.capture import Record
from protocols.messages import Reply, Request, signed, topic, verified
from simulators import virtual
from simulators.describe import BusPlan, MeterGroup, SitePlan
from tests.chain import GATEWAY, START, Chain
from tests.crash.trouble import Trouble

TASKS = (TaskEntry(name="curve", every_s=60, items=("voltage.a", "energy.active.import.total")),)
PLAN = SitePlan(
    buses=(
        BusPlan(
            name="bus1",
            serial=SerialSettings(baud=9600, parity="E"),
            meters=(MeterGroup(profile="eastron-sdm630", address="1", count=4),),
        ),
    ),
    seed=1,
)
BEFORE_S, AWAY_S, AFTER_S = 600.0, 900.0, 900.0
RECOVERY_S = 60.0
_disks = itertools.count()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Trouble]:
    vfs = Trouble(f"away-{next(_disks)}", tmp_path / "store", default=True)
    yield vfs
    vfs.unregister()


class Watched(Chain):
    """A chain that notes when what was accepted."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, PLAN, TASKS)
        self.accepted_at: list[float] = []

    def _observe(self, records: Sequence[Record]) -> None:
        super()._observe(records)
        self.accepted_at.append(asyncio.get_running_loop().time())


def live(directory: Path, disk: Trouble, failure: str) -> tuple[Watched, float]:
    """A gateway whose store is away for a quarter of an hour; and when the disk was well again."""

    async def main() -> tuple[Watched, float]:
        chain = Watched(directory)
        try:
            async with chain.running() as daemon:
                await asyncio.sleep(BEFORE_S)
                disk.begin(failure, lasting=True)
                await asyncio.sleep(AWAY_S)
                assert disk.hit > 10
                disk.relieve()
                well_at = asyncio.get_running_loop().time()
                await asyncio.sleep(AFTER_S)
                await chain.drain(daemon)
                assert daemon.parts is not None
                assert daemon.parts.uplink.counters.sessions == 1, "another session does not mend a disk"
            truth = chain.truth()
            assert truth.passed, dict(truth.examples)
            return chain, well_at
        finally:
            chain.close()

    return virtual.run(main(), start_ms=START)


def asked(chain: Chain) -> int:
    """How many slots of a meter were asked for within their minute."""
    return len({(served.meter, served.at_ms // 60_000) for served in chain.simulated.log.entries})


ALL = round(4 * (BEFORE_S + AWAY_S + AFTER_S) / 60)


@pytest.mark.parametrize("failure", ["full", "io", "readonly"])
def test_polling_keeps_its_cadence_and_nothing_is_lost(tmp_path: Path, disk: Trouble, failure: str) -> None:
    chain, well_at = live(tmp_path, disk, failure)
    assert not chain.accepted.gaps, "what was read meanwhile waited in memory"
    assert len(chain.accepted.captures) >= ALL
    assert asked(chain) >= ALL
    assert min(at for at in chain.accepted_at if at > well_at) < well_at + RECOVERY_S
    if failure == "full":
        assert (tmp_path / "store/outbox.ballast").exists(), "it was made again"


def test_what_memory_does_not_hold_becomes_gaps_with_their_reason(
    tmp_path: Path, disk: Trouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With room for 20 records, five minutes of this site, the ten that follow are gaps, and all of them land."""
    monkeypatch.setattr(intake, "GATHERED_MAX", 20)
    chain, _ = live(tmp_path, disk, "full")
    assert 4 * 8 <= len(chain.accepted.gaps) <= 4 * 11
    assert asked(chain) < ALL, "the control: without memory the cadence is not kept"


def test_a_request_that_comes_while_the_store_is_away_is_answered_and_obeyed_when_it_comes_again(
    tmp_path: Path, disk: Trouble
) -> None:
    """The disk fails within a minute of the start: nor does the account that begins then end the gateway."""

    async def scenario() -> None:
        chain = Watched(tmp_path)
        replies: list[Reply] = []

        def hear(name: str, payload: bytes) -> None:
            if name.endswith("/reply"):
                replies.append(verified(Reply, payload, gateway=GATEWAY, verify=chain.identity.public.verify))
            chain.landing.receive(name, payload)

        def ask(number: int, action: str, **arguments: str | int) -> None:
            now = virtual.now_ms()
            request = Request(
                gateway=GATEWAY, request=number.to_bytes(16, "big"), action=action, arguments=arguments, sent_at=now,
                expires_at=now + 3_600_000,
            )  # fmt: skip
            payload = signed(request, kid=chain.centre.kid, sign=chain.centre.sign)
            chain.broker.deliver(topic(GATEWAY, "down", "request"), payload)

        def ask_all() -> None:
            ask(1, "read_now", meter=chain.site.meters[0].id, items="frequency")
            ask(2, "send_again", since=START, until=START + 60_000)
            ask(3, "manifest", day=1, part=0, parts=1, agrees=1)

        chain.broker.attach(hear)
        async with chain.running() as daemon:
            await asyncio.sleep(20)
            disk.begin("readonly", lasting=True)
            ask_all()
            await asyncio.sleep(120)
            disk.relieve()
            assert [reply.status for reply in replies] == ["failed"] * 3
            assert all("ask again" in reply.detail for reply in replies)
            await asyncio.sleep(30)
            ask_all()
            await asyncio.sleep(30)
            assert [reply.status for reply in replies[3:]] == ["done"] * 3
            assert replies[3].sealed
            await chain.drain(daemon)
        truth = chain.truth()
        assert truth.passed, dict(truth.examples)
        chain.close()

    virtual.run(scenario(), start_ms=START)
