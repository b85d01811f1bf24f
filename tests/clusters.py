"""Clusters of three brokers, for the long campaigns: NATS and RabbitMQ (Debian packages), whose nodes can be killed.

Both speak MQTT 3.1.1 only; both keep what they acknowledged on the disks of a majority of nodes.
"""

import os
import shutil
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.processes import accepts, free_port

NODES: Final = 3
READY_S_MAX: Final = 120.0
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
        """Start all nodes; returns when each accepts connections."""
        for node in range(NODES):
            self.start_node(node)
        for node in range(NODES):
            self.wait(node)

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
        os.killpg(process.pid, 9)
        process.wait()

    def wait(self, node: int) -> None:
        """Return when the node accepts connections. Raises RuntimeError with the end of its log."""
        deadline = time.monotonic() + READY_S_MAX
        while not accepts(self.ports[node]):
            if time.monotonic() > deadline or self._processes[node].poll() is not None:
                said = (self.directory / f"node-{node}.log").read_text(errors="replace")[-3000:]
                raise RuntimeError(f"node {node} was not ready within {READY_S_MAX:g} s\n{said}")
            time.sleep(0.1)  # another process's port has no event to wait on

    def close(self) -> None:
        """End all nodes, at once."""
        for node in list(self._processes):
            self.kill_node(node)

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
                f'jetstream {{ store_dir: "{directory}/node-{node}" }}\n'
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
        """See Cluster."""
        environment = {**os.environ, "ERL_EPMD_ADDRESS": "127.0.0.1"}
        epmd = ["epmd", "-port", str(self._epmd_port)]
        self._epmd = subprocess.Popen(epmd, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=environment)
        super().start()

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
        directory = self.directory / f"node-{node}"
        return [str(RABBITMQ)], {
            "HOME": str(self.directory),
            "RABBITMQ_NODENAME": self._name(node),
            "RABBITMQ_DIST_PORT": str(self._distribution[node]),
            "RABBITMQ_CONFIG_FILE": str(self.directory / f"node-{node}.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.directory / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(directory),
            "RABBITMQ_LOG_BASE": str(directory),
            "RABBITMQ_PID_FILE": str(directory / "pid"),
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }
