"""DL/T 645 and Modbus RTU meters share a bus, each at line settings of its own, on a tty and behind a serial server.

The whole chain runs as processes, in real time; the three logs must tell one story.
"""

import time
from pathlib import Path

import pytest

from central.sinks import open_sink
from config.model import TaskEntry, UplinkEntry
from field.chain import Chain
from simulators.truth import read_served
from tests.broker import Broker
from tests.sites import bus, meters

pytestmark = pytest.mark.slow

RUN_S = 15
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


def test_two_protocols_and_several_speeds_share_a_bus_and_the_truth_passes(broker: Broker, tmp_path: Path) -> None:
    chain = Chain(tmp_path, sim=SITE, tasks=[CURVE], uplink=UplinkEntry(url=broker.url))
    try:
        chain.start()
        time.sleep(RUN_S)  # how long it is polled: the matter of the test, not a wait for something
        chain.drain()
        chain.stop()
        truth = chain.truth()
    finally:
        chain.kill()
    assert truth.passed, dict(truth.examples)

    meters = {meter.id for meter in chain.site.meters}
    assert len(meters) == 9
    assert {entry.meter for entry in read_served(chain.served)} == meters
    sink = open_sink(chain.database)
    slots: dict[str, set[int | None]] = {}
    for row in sink.readings():
        # The slot in force at the start is cut short where the next one begins soon, and a slow machine may be late for
        # others; but no meter may fail to understand.
        assert (row.quality, row.fault) in {("good", None), ("unavailable", "missed")}
        if row.fault is None:
            slots.setdefault(row.meter, set()).add(row.slot)
    faults = {gap.fault for gap in sink.gaps()}
    sink.close()
    assert slots.keys() == meters
    assert min(map(len, slots.values())) >= 2
    assert faults <= {"missed"}
