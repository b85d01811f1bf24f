"""Clusters of three brokers, for the long campaigns: NATS and RabbitMQ (Debian packages), whose nodes can be killed.

Both speak MQTT 3.1.1 only; both keep what they acknowledged on the disks of a majority of nodes.
"""

import os
import shutil
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from queue import Empty
from typing import Final

from central.config import BrokerEntry
from central.connection import BrokerAway, Talk, Version
from tests.processes import accepts, free_port

NODES: Final = 3
READY_S_MAX: Final = 120.0
HEAR_S_MAX: Final = 5.0
"""For a message from one node to the others."""
RABBITMQ: Final = next(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin/rabbitmq-server"), None)
NATS: Final = shutil.which("nats-server", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")


class Cluster(ABC):
    """Three brokers below a directory; each listens for MQTT on a port of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ports = [free_port() for _ in range(NODES)]
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    def url(self, node: int) -> str:
        """Where to connect to a node, as in the configuration files."""
        return f"mqtt://127.0.0.1:{self.ports[node]}"

    def start(self) -> None:
        """Start all nodes; returns when they agree."""
        for node in range(NODES):
            self.start_node(node)
        self.agree()

    def start_node(self, node: int) -> None:
        """Start a node, or start it again with what it had saved; does not wait."""
        command, environment = self.command(node)
        with (self.directory / f"node-{node}.log").open("ab") as log:
            self._processes[node] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **environment},
                start_new_session=True,
            )  # fmt: skip

    def kill_node(self, node: int) -> None:
        """SIGKILL: the node and whatever it started."""
        process = self._processes.pop(node)
        with suppress(ProcessLookupError):  # it has ended by itself, which is told elsewhere
            os.killpg(process.pid, 9)
        process.wait()

    def forget(self) -> None:
        """Kill all nodes at once, and take away all that they had saved: the disks of a cluster are gone."""
        self.close()
        for node in range(NODES):
            shutil.rmtree(self.store(node))

    def listens(self, node: int) -> None:
        """Return when the node takes connections. Raises RuntimeError with the logs."""
        self._wait(lambda: accepts(self.ports[node]), f"node {node} did not listen")

    def agree(self) -> None:
        """Return when what is published at any node is heard at every other. Raises RuntimeError with the logs.

        A node takes connections before it has found the others, and answers nothing while they have no leader.
        """
        for node in range(NODES):
            self.listens(node)
        self._wait(self._hears_all, "the nodes did not agree")

    def _wait(self, ready: Callable[[], bool], otherwise: str) -> None:
        deadline = time.monotonic() + READY_S_MAX
        while not ready():
            ended = [node for node, process in self._processes.items() if process.poll() is not None]
            if ended or time.monotonic() > deadline:
                why = f"nodes {ended} ended" if ended else f"within {READY_S_MAX:g} s"
                raise RuntimeError(f"{otherwise}: {why}\n{self.logs()}")
            time.sleep(0.1)  # other processes have no event to wait on

    def _hears_all(self) -> bool:
        try:
            with ExitStack() as stack:
                talks = [
                    stack.enter_context(Talk(BrokerEntry(url=self.url(n)), None, Version.MQTTv311, f"agree-{n}"))
                    for n in range(NODES)
                ]
                for talk in talks:
                    talk.subscribe("agree")
                for node, talk in enumerate(talks):
                    talk.publish("agree", bytes([node]))
                heard = [{talk.messages.get(timeout=HEAR_S_MAX)[1] for _ in talks} for talk in talks]
        except (BrokerAway, Empty):
            return False
        return all(len(messages) == NODES for messages in heard)

    def logs(self) -> str:
        """The end of what each node said."""
        files = [self.directory / f"node-{node}.log" for node in range(NODES)]
        return "\n".join(f"--- {file.name}\n{file.read_text(errors='replace')[-3000:]}" for file in files)

    def close(self) -> None:
        """End all nodes, at once."""
        for node in list(self._processes):
            self.kill_node(node)

    def store(self, node: int) -> Path:
        """The directory of all that a node saves."""
        return self.directory / f"node-{node}"

    @abstractmethod
    def command(self, node: int) -> tuple[list[str], Mapping[str, str]]:
        """What starts a node, and the environment that it wants."""


class NatsCluster(Cluster):
    """NATS with JetStream: streams on three nodes."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._routes = [free_port() for _ in range(NODES)]
        self._clients = [free_port() for _ in range(NODES)]
        routes = ", ".join(f"nats://127.0.0.1:{port}" for port in self._routes)
        for node in range(NODES):
            (directory / f"node-{node}.conf").write_text(
                f"server_name: node-{node}\nlisten: 127.0.0.1:{self._clients[node]}\n"
                f'jetstream {{ store_dir: "{self.store(node)}" }}\n'
                f"cluster {{ name: meterwire, listen: 127.0.0.1:{self._routes[node]}, routes: [{routes}] }}\n"
                f"mqtt {{ listen: 127.0.0.1:{self.ports[node]} }}\n",
                encoding="utf-8",
            )

    def command(self, node: int) -> tuple[list[str], Mapping[str, str]]:
        """See Cluster."""
        assert NATS is not None
        return [NATS, "-c", str(self.directory / f"node-{node}.conf")], {}


class RabbitCluster(Cluster):
    """RabbitMQ with its MQTT plugin, whose register of clients stands on three nodes."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._epmd_port, self._amqp = free_port(), [free_port() for _ in range(NODES)]
        self._distribution = [free_port() for _ in range(NODES)]
        self._epmd: subprocess.Popen[bytes] | None = None
        (directory / "plugins").write_text("[rabbitmq_mqtt].\n", encoding="utf-8")
        cookie = directory / ".erlang.cookie"
        cookie.write_text("METERWIRE", encoding="ascii")
        cookie.chmod(0o400)
        nodes = "".join(f"cluster_formation.classic_config.nodes.{n + 1} = {self._name(n)}\n" for n in range(NODES))
        for node in range(NODES):
            (directory / f"node-{node}.conf").write_text(
                f"listeners.tcp.1 = 127.0.0.1:{self._amqp[node]}\nmqtt.listeners.tcp.1 = 127.0.0.1:{self.ports[node]}\n"
                "mqtt.allow_anonymous = true\n"
                f"cluster_formation.peer_discovery_backend = classic_config\n{nodes}",
                encoding="utf-8",
            )

    def start(self) -> None:
        """See Cluster: one after the other."""
        environment = {**os.environ, "ERL_EPMD_ADDRESS": "127.0.0.1"}
        epmd = ["epmd", "-port", str(self._epmd_port)]
        self._epmd = subprocess.Popen(epmd, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=environment)
        for node in range(
            NODES
        ):  # new nodes that start together may each find no other, and found a cluster of its own
            self.start_node(node)
            self.listens(node)
        self.agree()

    def close(self) -> None:
        """See Cluster."""
        super().close()
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd.wait()

    @staticmethod
    def _name(node: int) -> str:
        return f"meterwire{node}@localhost"

    def command(self, node: int) -> tuple[list[str], Mapping[str, str]]:
        """See Cluster."""
        return [str(RABBITMQ)], {
            "HOME": str(self.directory),
            "RABBITMQ_NODENAME": self._name(node),
            "RABBITMQ_DIST_PORT": str(self._distribution[node]),
            "RABBITMQ_CONFIG_FILE": str(self.directory / f"node-{node}.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.directory / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.store(node)),
            "RABBITMQ_LOG_BASE": str(self.store(node)),
            "RABBITMQ_PID_FILE": str(self.store(node) / "pid"),
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }
