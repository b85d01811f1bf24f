"""The whole chain over brokers of several makes, each killed in mid-run: what was accepted lands, and lands once."""

import time
from collections.abc import Callable
from pathlib import Path
from random import Random

from config.model import TaskEntry, UplinkEntry
from field.chain import Chain, wall_ms
from field.truth import Truth
from tests import kills
from tests.broker import Broker
from tests.clusters import NODES, Cluster
from tests.kills import Stage

TASK = TaskEntry(name="curve", every_s=2, items=kills.TASK.items)
UP_S, DOWN_S = (4.0, 8.0), (1.0, 4.0)
"""How long a broker, or all nodes of a cluster, run between two kills; how long what was killed stays dead."""


def over_broker(directory: Path, broker: Broker, *, seed: int, deaths: int = 2) -> Truth:
    """Over one broker, which runs, and is killed so often. directory: new and empty."""
    random = Random(seed)
    stage = Stage(directory, broker, sim=kills.site(1), task=TASK)
    try:
        stage.chain.start()
        for _ in range(deaths):
            time.sleep(random.uniform(*UP_S))
            broker.kill()
            time.sleep(random.uniform(*DOWN_S))
            broker.start()
        return _verdict(stage.chain, lambda: stage.wait_for_slot_after(wall_ms()))
    except BaseException:
        print(stage.logs())
        raise
    finally:
        stage.close()


def over_cluster(directory: Path, make: Callable[[Path], Cluster], *, seed: int) -> Truth:
    """Over a cluster whose nodes are killed one after the other; the gateway calls one node and the centre another."""
    random = Random(seed)
    (directory / "cluster").mkdir()
    cluster = make(directory / "cluster")
    chain = None
    try:
        cluster.start()
        time.sleep(5.0)  # until its nodes have agreed on a leader they take connections and answer nothing
        chain = Chain(directory, sim=kills.site(1), tasks=[TASK], uplink=UplinkEntry(url=cluster.url(0)))
        central = directory / "central.toml"
        central.write_text(central.read_text(encoding="utf-8").replace(cluster.url(0), cluster.url(1)), "utf-8")
        chain.start()
        for node in random.sample(range(NODES), NODES):
            time.sleep(random.uniform(*UP_S))
            cluster.kill_node(node)
            time.sleep(random.uniform(*DOWN_S))
            cluster.start_node(node)
            cluster.wait(node)
        return _verdict(chain, lambda: time.sleep(2 * TASK.every_s))
    except BaseException:
        for file in sorted(directory.glob("*.log")):
            print(f"--- {file.name}\n{file.read_text(errors='replace')[-4000:]}")
        raise
    finally:
        if chain is not None:
            chain.kill()
        cluster.close()


def _verdict(chain: Chain, polled: Callable[[], None]) -> Truth:
    polled()
    chain.drain(within_s=kills.DRAIN_S_MAX)
    chain.stop()
    return chain.truth()
