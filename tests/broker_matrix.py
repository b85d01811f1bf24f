"""The whole chain over brokers of several makes, each killed in mid-run: what was accepted lands, and lands once."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

from config.model import UplinkEntry
from field.chain import Chain
from field.clock import wall_ms
from field.truth import Truth
from tests.broker import Broker
from tests.clusters import NODES, Cluster
from tests.stage import DRAIN_S_MAX, curve, site, staged, told, until, wait_for_slot_after

UP_S, DOWN_S = (4.0, 8.0), (1.0, 4.0)
"""How long a broker, or all nodes of a cluster, run between two kills; how long what was killed stays dead."""


def over_broker(directory: Path, broker: Broker, *, seed: int, deaths: int = 2) -> Truth:
    """Over one broker, which runs, and is killed so often. directory: new and empty."""
    random = Random(seed)
    with staged(directory, broker, meters=1) as stage:
        stage.chain.start()
        for _ in range(deaths):
            time.sleep(random.uniform(*UP_S))
            broker.kill()
            time.sleep(random.uniform(*DOWN_S))
            broker.start()
        return stage.verdict()


def over_cluster(
    directory: Path,
    make: Callable[[Path], Cluster],
    *,
    seed: int,
    deaths: int = NODES,
    program: Sequence[str] = (),
) -> Truth:
    """Over a cluster whose nodes are killed one after the other, each started again before the next dies; then, while
    the centre is away, the cluster loses all that it has acknowledged. The gateway calls one node, the centre another.

    deaths: how many nodes are killed alone. program: of the gateway, where it is not the real one.
    """
    random = Random(seed)
    (directory / "cluster").mkdir()
    cluster = make(directory / "cluster")
    chain = None
    try:
        cluster.start()
        chain = Chain(directory, sim=site(1), tasks=[curve()], uplink=UplinkEntry(url=cluster.url(0)))
        central = directory / "central.toml"
        central.write_text(central.read_text(encoding="utf-8").replace(cluster.url(0), cluster.url(1)), "utf-8")
        chain.gateway.program = list(program) or chain.gateway.program
        chain.start()
        for node in random.sample(range(NODES), deaths):
            time.sleep(random.uniform(*UP_S))
            cluster.kill_node(node)
            down_s = random.uniform(*DOWN_S)
            print(f"node {node} killed, down {down_s:.1f} s", flush=True)
            time.sleep(down_s)
            cluster.start_node(node)
            cluster.agree()
        _forget(chain, cluster)
        return _verdict(chain)
    except BaseException:
        for file in sorted(directory.glob("*.log")):
            print(f"--- {file.name}\n{file.read_text(errors='replace')[-4000:]}")
        print(cluster.logs())
        raise
    finally:
        if chain is not None:
            chain.kill()
        cluster.close()


def _forget(chain: Chain, cluster: Cluster) -> None:
    """The cluster takes batches that nobody fetches, and forgets them."""
    until("a batch that has landed", lambda: told(chain).get("receipts", 0) > 0, within_s=DRAIN_S_MAX)
    chain.centre.end()
    before = told(chain)["acknowledged"]
    until("three PUBACKs", lambda: told(chain).get("acknowledged", 0) >= before + 3, within_s=DRAIN_S_MAX)
    cluster.forget()
    print("all nodes killed, and what they had saved is gone", flush=True)
    cluster.start()
    chain.centre.start()


def _verdict(chain: Chain) -> Truth:
    wait_for_slot_after(chain, wall_ms())
    chain.drain(within_s=DRAIN_S_MAX)
    chain.stop()
    return chain.truth()
