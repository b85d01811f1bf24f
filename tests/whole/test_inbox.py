"""Why a batch has its row in the inbox, in one transaction with its values: a centre that dies, and its controls.

A value is unique by (meter, quantity, stamp, source), so a batch that lands twice doubles no reading, gap or event.
What the row alone tells is that the batch came. Receipts are made of these rows: without them nothing is ever settled,
a batch lands again whenever it comes (old days that were dropped with it), and other bytes under a number that has
landed are taken for something new. A row that is committed before its values loses them, as the batch that comes again
is taken for a repeat.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from central.landing import Landing
from central.sinks.base import Inbox
from central.sinks.sqlite import SqliteSink
from field.truth import Truth, read_accepted
from protocols.messages import topic
from tests import centre_process
from tests.broker import Broker
from tests.central.test_landing import capture
from tests.fleet import NOW, Gateway, centre, trust
from tests.stage import DRAIN_S_MAX, Stage, staged, until

DEATHS = 2
NEVER_S = 20.0
"""A drain that has not ended by then never will: it takes a receipt, 3 s, where nothing is wrong."""


@dataclass(frozen=True)
class Told:
    """What came of it. settled: the gateway had a receipt for all, and ended. counters: of the centre's last life."""

    settled: bool
    truth: Truth
    accepted: int
    inbox: Inbox
    counters: dict[str, int]


def die_and_drain(stage: Stage, death: str, *changes: str, within_s: float = DRAIN_S_MAX) -> Told:
    """A centre with these changes that dies twice; what it died of comes again, and then it lives."""
    chain, settled = stage.chain, True
    chain.centre.program = centre_process.program(death, *changes)
    chain.start()
    for life in range(DEATHS):
        until(f"death {life + 1}", lambda: not chain.centre.running)
        chain.centre.kill()
        if life == DEATHS - 1:
            chain.centre.program = centre_process.program(*changes)
        chain.centre.start()
    try:
        chain.drain(within_s=within_s)
    except RuntimeError:  # it did not end within that time, and was killed
        settled = False
    chain.stop()
    counters = json.loads(chain.centre.out.read_text().splitlines()[-1])["counters"]
    return Told(settled, chain.truth(), len(read_accepted(chain.accepted)), chain.inbox(), counters)


@pytest.mark.slow
@pytest.mark.parametrize("death", ["dies_before_puback", "dies_before_values"])
def test_a_subscriber_that_is_killed_in_the_midst_of_a_batch_lands_it_once(
    tmp_path: Path, broker: Broker, death: str
) -> None:
    with staged(tmp_path, broker) as stage:
        told = die_and_drain(stage, death)
    assert told.settled and told.truth.passed, (told, told.truth.examples)
    assert told.inbox.captures == told.accepted, "each capture came in one batch"
    assert told.counters.get("readings.repeated", 0) == 0
    assert (told.counters.get("batches.repeated", 0) > 0) == (death == "dies_before_puback")


@pytest.mark.slow
def test_without_inbox_rows_nothing_is_settled_and_what_comes_again_lands_again(tmp_path: Path, broker: Broker) -> None:
    """The control. No value is in the table twice all the same: of the readings there is a second guard."""
    with staged(tmp_path, broker) as stage:
        told = die_and_drain(stage, "dies_before_puback", "no_inbox_row", within_s=NEVER_S)
    assert not told.settled
    assert told.inbox.captures == 0
    assert told.counters["readings.repeated"] > 0 and told.counters.get("batches.repeated", 0) == 0
    assert told.truth.duplicate == told.truth.different == 0, told.truth.examples


@pytest.mark.slow
def test_an_inbox_row_that_is_committed_before_its_values_loses_them(tmp_path: Path, broker: Broker) -> None:
    """The control: against this loss there is no second guard."""
    with staged(tmp_path, broker) as stage:
        told = die_and_drain(stage, "dies_before_values", "row_first")
    assert told.settled, "it has receipts for what is lost"
    assert told.truth.missing > 0 and told.truth.duplicate == told.truth.different == 0


@pytest.mark.parametrize("row", [True, False], ids=["inbox row", "no inbox row"])
def test_other_bytes_under_a_number_that_has_landed_are_noticed_by_the_inbox_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: bool
) -> None:
    if not row:
        centre_process.no_inbox_row(monkeypatch.setattr)
    gateway, sink = Gateway(), SqliteSink(tmp_path / "central.db")
    landing = Landing(sink, centre=centre(), gateways=trust(gateway.id), now_ms=lambda: NOW)
    for message in (gateway.key(), gateway.batch(1, [capture(1)]), gateway.batch(1, [capture(2)])):
        landing.receive(*message)
    (receipt,) = [
        gateway.receipt(said) for on, said in landing.receipts() if on == topic(gateway.id, "down", "receipt")
    ]
    assert landing.counters["aside.other_bytes"] == int(row)
    assert receipt.rejected == (((1, "other_bytes"),) if row else ())
    assert receipt.contiguous_upto == int(row)
    assert landing.counters["batches.landed"] == (1 if row else 2)
    sink.close()
