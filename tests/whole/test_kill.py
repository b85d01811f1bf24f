"""Parts are killed, the broker or the database goes away: what was accepted lands once, and no slot is left unsaid."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import SystemRandom

import pytest

from config.model import TaskEntry
from field.chain import wall_ms
from field.truth import Truth, read_accepted
from tests import kills
from tests.broker import Broker, Certificates
from tests.kills import Stage, campaign, told
from tests.postgres import Postgres

KILLS = 60
SEED = "MW_KILL_SEED"
"""The environment variable that repeats a campaign."""
FAST = TaskEntry(name="curve", every_s=2, items=kills.TASK.items)
"""Every seal of the prompt profile has something to carry."""
STEP_S_MAX = 30.0


@pytest.mark.slow
def test_sixty_kills_of_gateway_broker_and_subscriber_lose_nothing(
    mosquitto: None, certificates: Certificates, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = int(os.environ.get(SEED) or SystemRandom().randrange(1 << 32))
    with capsys.disabled():
        print(f"\n{KILLS} kills drawn from seed {seed} ({SEED}={seed} repeats them)", flush=True)
    truth = campaign(seed=seed, kills=KILLS, directory=tmp_path, certificates=certificates)
    assert truth.passed, (seed, truth)


def until(stage: Stage, what: str, true: Callable[[], bool]) -> None:
    """Return when it is true. Raises AssertionError with the logs when it takes too long."""
    try:
        kills.until(what, true, within_s=STEP_S_MAX)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{stage.logs()}") from None


@contextmanager
def staged(directory: Path, broker: Broker, *, database: str | None = None) -> Iterator[Stage]:
    """A site on that broker, with short slots; all of it is ended with the block."""
    stage = Stage(directory, broker, sim=kills.site(2), task=FAST, database=database)
    try:
        yield stage
    finally:
        stage.close()


def verdict(stage: Stage) -> Truth:
    """Drain, stop and judge."""
    stage.all_run()
    stage.chain.drain(within_s=kills.DRAIN_S_MAX)
    stage.chain.stop()
    return stage.chain.truth()


@pytest.mark.slow
@pytest.mark.parametrize("settle_on", ["puback", "receipt"])
def test_a_broker_that_forgets_what_it_acknowledged_costs_data_with_pubacks_and_nothing_with_receipts(
    tls_broker: Broker, tmp_path: Path, settle_on: str
) -> None:
    with staged(tmp_path, tls_broker) as stage:
        if settle_on == "puback":
            stage.chain.gateway.program = kills.SETTLES_ON_PUBACK
        stage.chain.start()
        until(stage, "a receipt", lambda: told(stage.chain).get("receipts", 0) > 0)
        stage.chain.centre.end()
        before = told(stage.chain)["acknowledged"]
        until(stage, "three PUBACKs", lambda: told(stage.chain)["acknowledged"] >= before + 3)
        tls_broker.kill()  # its autosave is 1800 s, mosquitto's default
        # The subscriber first: what a fresh broker takes before anybody has subscribed waits 30 s for its next offer.
        stage.chain.centre.start()
        until(stage, "a subscriber that calls", lambda: " away: " in stage.chain.centre.said())
        tls_broker.start()
        until(stage, "a session", lambda: told(stage.chain)["sessions"] >= 2)
        truth = verdict(stage)
    assert truth.duplicate == truth.different == 0
    assert truth.passed is (settle_on == "receipt"), (truth, stage.logs())
    assert (truth.missing > 0) is (settle_on == "puback")


@pytest.mark.slow
def test_polling_goes_on_while_the_broker_is_away_and_everything_lands_later(tmp_path: Path, broker: Broker) -> None:
    with staged(tmp_path, broker) as stage:
        stage.chain.start()
        until(stage, "a receipt", lambda: told(stage.chain).get("receipts", 0) > 0)
        broker.stop()
        gone = wall_ms()
        stage.wait_for_slot_after(gone + 8_000)
        broker.start()
        back = wall_ms()
        truth = verdict(stage)
    assert truth.passed, (truth, stage.logs())
    polled = {capture.slot for capture in read_accepted(stage.chain.accepted) if capture.slot}
    assert len([slot for slot in polled if gone < slot < back]) >= 4


@pytest.mark.slow
def test_polling_goes_on_while_the_database_is_away_and_everything_lands_later(
    tmp_path: Path, broker: Broker, postgres_cluster: Postgres
) -> None:
    with staged(tmp_path, broker, database=postgres_cluster.create()) as stage:
        stage.chain.start()
        until(stage, "a receipt", lambda: told(stage.chain).get("receipts", 0) > 0)
        postgres_cluster.stop()
        try:
            gone = wall_ms()
            stage.wait_for_slot_after(gone + 3_000)
        finally:
            postgres_cluster.start()
        back = wall_ms()
        truth = verdict(stage)
    assert truth.passed, (truth, stage.logs())
    polled = {capture.slot for capture in read_accepted(stage.chain.accepted) if capture.slot}
    assert len([slot for slot in polled if gone < slot < back]) >= 1
