"""Parts are killed, the broker or the database goes away: what was accepted lands once, and no slot is left unsaid."""

import os
from pathlib import Path
from random import SystemRandom

import pytest

from field.clock import wall_ms
from field.truth import read_accepted
from tests.broker import Broker, Certificates
from tests.kills import campaign
from tests.postgres import Postgres
from tests.stage import changed, staged, told, until, wait_for_slot_after

KILLS = 60
SEED = "MW_KILL_SEED"
"""The environment variable that repeats a campaign."""


@pytest.mark.slow
def test_sixty_kills_of_gateway_broker_and_subscriber_lose_nothing(
    mosquitto: None, certificates: Certificates, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = int(os.environ.get(SEED) or SystemRandom().randrange(1 << 32))
    with capsys.disabled():
        print(f"\n{KILLS} kills drawn from seed {seed} ({SEED}={seed} repeats them)", flush=True)
    truth = campaign(seed=seed, kills=KILLS, directory=tmp_path, certificates=certificates)
    assert truth.passed, (seed, truth)


@pytest.mark.slow
@pytest.mark.parametrize("settle_on", ["puback", "receipt"])
def test_a_broker_that_forgets_what_it_acknowledged_costs_data_with_pubacks_and_nothing_with_receipts(
    tls_broker: Broker, tmp_path: Path, settle_on: str
) -> None:
    program = changed("settle_on_puback") if settle_on == "puback" else ()
    with staged(tmp_path, tls_broker, program=program) as stage:
        stage.chain.start()
        until("a receipt", lambda: told(stage.chain).get("receipts", 0) > 0)
        stage.chain.centre.end()
        before = told(stage.chain)["acknowledged"]
        until("three PUBACKs", lambda: told(stage.chain)["acknowledged"] >= before + 3)
        tls_broker.kill()  # its autosave is 1800 s, mosquitto's default
        # The subscriber first: what a fresh broker takes before anybody has subscribed waits 30 s for its next offer.
        stage.chain.centre.start()
        until("a subscriber that calls", lambda: " away: " in stage.chain.centre.said())
        tls_broker.start()
        until("a session", lambda: told(stage.chain)["sessions"] >= 2)
        truth = stage.verdict()
    assert truth.duplicate == truth.different == 0
    assert truth.passed is (settle_on == "receipt"), truth
    assert (truth.missing > 0) is (settle_on == "puback")


@pytest.mark.slow
def test_polling_goes_on_while_the_broker_is_away_and_everything_lands_later(tmp_path: Path, broker: Broker) -> None:
    with staged(tmp_path, broker) as stage:
        stage.chain.start()
        until("a receipt", lambda: told(stage.chain).get("receipts", 0) > 0)
        broker.stop()
        gone = wall_ms()
        wait_for_slot_after(stage.chain, gone + 8_000)
        broker.start()
        back = wall_ms()
        truth = stage.verdict()
    assert truth.passed, truth
    polled = {capture.slot for capture in read_accepted(stage.chain.accepted) if capture.slot}
    assert len([slot for slot in polled if gone < slot < back]) >= 4


@pytest.mark.slow
def test_polling_goes_on_while_the_database_is_away_and_everything_lands_later(
    tmp_path: Path, broker: Broker, postgres_cluster: Postgres
) -> None:
    with staged(tmp_path, broker, database=postgres_cluster.create()) as stage:
        stage.chain.start()
        until("a receipt", lambda: told(stage.chain).get("receipts", 0) > 0)
        postgres_cluster.stop()
        try:
            gone = wall_ms()
            wait_for_slot_after(stage.chain, gone + 3_000)
        finally:
            postgres_cluster.start()
        back = wall_ms()
        truth = stage.verdict()
    assert truth.passed, truth
    polled = {capture.slot for capture in read_accepted(stage.chain.accepted) if capture.slot}
    assert len([slot for slot in polled if gone < slot < back]) >= 1
