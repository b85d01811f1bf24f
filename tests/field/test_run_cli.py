"""`meterwire run`: what a gateway was stopped with is handed over by `run --drain`, which asks nothing more."""

import time
from pathlib import Path

import pytest

from central.sinks import open_sink
from config.model import TaskEntry, UplinkEntry
from field.chain import Chain, Part
from field.truth import read_accepted
from simulators.truth import read_served
from tests.broker import Broker
from tests.sites import bus, meters

pytestmark = [pytest.mark.slow, pytest.mark.real]

SITE = bus("roof", "tcp", meters("dlt645-2007-3p", "202411110001"))
CURVE = TaskEntry(name="curve", every_s=1, items=("voltage.a", "energy.active.import.total"))
WITHIN_S = 60.0


def test_what_a_gateway_was_stopped_with_is_handed_over_without_asking_more(broker: Broker, tmp_path: Path) -> None:
    chain = Chain(tmp_path, sim=SITE, tasks=[CURVE], uplink=UplinkEntry(url=broker.url))
    try:
        chain.start()
        chain.centre.end()
        while len(list(read_accepted(chain.accepted) if chain.accepted.exists() else ())) < 5:
            assert chain.gateway.running, chain.gateway.said()
            time.sleep(0.1)  # a file of another process has no event to wait on
        assert chain.gateway.end() == 0
        held = {(capture.meter, capture.slot) for capture in read_accepted(chain.accepted)}
        asked = len(list(read_served(chain.served)))
        chain.centre.start()
        arguments = ["run", "--drain", "-c", f"{tmp_path / 'site.toml'}"]
        drained = Part("drained", arguments, tmp_path)
        drained.start()
        deadline = time.monotonic() + WITHIN_S
        while drained.running and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not drained.running and "stopped" in drained.said(), drained.said()
        chain.stop()
        asked_after = len(list(read_served(chain.served)))
    finally:
        chain.kill()
    sink = open_sink(chain.database)
    landed = {(row.meter, row.slot) for row in sink.readings()}
    sink.close()
    assert held <= landed
    assert asked_after <= asked + 4, "at most the slot that was due at its start, of two items, is still asked for"
