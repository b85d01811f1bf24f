"""DL/T 645 and Modbus RTU meters share a bus, each at line settings of its own, on a tty and behind a serial server.

The whole chain runs as processes, in real time; the three logs must tell one story.
"""

from collections import Counter
from pathlib import Path

import pytest

from central.sinks import open_sink
from config.model import TaskEntry, UplinkEntry
from field.chain import Chain
from field.truth import read_accepted
from simulators.truth import read_served
from tests.broker import Broker
from tests.sites import bus, meters
from tests.stage import until
from tests.standstill import watched

pytestmark = pytest.mark.slow

SLOTS = 2
"""So many slots each meter has to answer whole."""
RUN_S_MAX = 90.0
DISTURBED_S = 0.3
"""Where the machine stood still for so long, an answer may have been late, or in pieces too far apart."""
EVERY_S = 5
SITE = bus(  # a meter on the tty hears nothing that is not at its own speed: each question needs the line set anew
    "tty", "pty",
    meters("dlt645-2007-3p", "202411110001", count=2, serial="2400-8E1"),
    meters("eastron-sdm630", "11", count=2, serial="19200-8N1", trace="steelplant"),
    meters("acrel-dtsd1352", "21", serial="9600-8E1"),
    serial="2400-8E1", match="baud",
) + bus(  # a serial server keeps its line at one speed, whatever the archive says of its meters
    "server", "tcp",
    meters("dlt645-2007-3p", "202411120001", count=2, serial="2400-8E1"),
    meters("eastron-sdm630", "11", count=2, serial="9600-8N1"),
    serial="9600-8E1",
)  # fmt: skip
CURVE = TaskEntry(
    name="curve",
    every_s=EVERY_S,
    items=("energy.active.import.total", "voltage.a", "voltage.b", "voltage.c", "power.active.total", "frequency"),
)


def whole_slots(chain: Chain) -> set[str]:
    """The meters of which SLOTS slots, or more, were read whole."""
    if not chain.accepted.exists():
        return set()
    slots = {
        (capture.meter, capture.slot)
        for capture in read_accepted(chain.accepted)
        if None not in capture.values.values()
    }
    found = Counter(meter for meter, _ in slots)
    return {meter for meter, count in found.items() if count >= SLOTS}


def test_two_protocols_and_several_speeds_share_a_bus_and_the_truth_passes(broker: Broker, tmp_path: Path) -> None:
    chain = Chain(tmp_path, sim=SITE, tasks=[CURVE], uplink=UplinkEntry(url=broker.url))
    known = {meter.id for meter in chain.site.meters}
    try:
        with watched() as machine:
            chain.start()
            until(f"{SLOTS} slots of each meter", lambda: whole_slots(chain) >= known, within_s=RUN_S_MAX, look_s=0.5)
            chain.drain()
            chain.stop()
        truth = chain.truth()
    finally:
        chain.kill()
    assert truth.passed, dict(truth.examples)

    assert len(known) == 9
    assert {entry.meter for entry in read_served(chain.served)} == known
    sink = open_sink(chain.database)
    rows = list(sink.readings())
    faults = {row.fault for row in rows} | {gap.fault for gap in sink.gaps()}
    sink.close()
    assert {row.quality for row in rows if row.fault is None} == {"good"}
    # The slot in force at the start is cut short where the next one begins soon, and a slow machine may be late for
    # others; but no meter may fail to understand: such a one would not answer a single slot.
    assert faults <= {None, "missed"} or (machine.longest_s > DISTURBED_S and faults <= {None, "missed", "silent"})
