"""A broker for demonstrations, as a process of its own: mosquitto when it is there, else rumqttd from a wheel.

Loopback only, without TLS: batches are sealed before they reach it. See docs/decisions/002-embedded-broker.md.
"""

import contextlib
import shutil
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

MOSQUITTO = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
START_S_MAX = 20.0

_RUMQTTD = """
id = 0

[router]
id = 0
max_connections = 64
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 10
{listeners}
"""
_LISTENER = """
[{version}.1]
name = "{version}"
listen = "127.0.0.1:{port}"
next_connection_delay_ms = 1

[{version}.1.connections]
connection_timeout_ms = 60000
max_payload_size = 1048576
max_inflight_count = 100
dynamic_filters = true
"""


def free_port() -> int:
    """A loopback TCP port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Broker:
    """A plain broker on a loopback port. Its files and its log stand in `directory`."""

    def __init__(self, directory: Path, *, port: int | None = None) -> None:
        self.port = port or free_port()
        self.name = "mosquitto" if MOSQUITTO else "iotcore (rumqttd)"
        self.log = directory / "broker.log"
        self._command = self._mosquitto(directory) if MOSQUITTO else self._rumqttd(directory)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where to connect, as in the configuration files."""
        return f"mqtt://127.0.0.1:{self.port}"

    def _mosquitto(self, directory: Path) -> list[str]:
        lines = [f"listener {self.port} 127.0.0.1", "allow_anonymous true", "max_queued_messages 100000"]
        configuration = directory / "mosquitto.conf"
        configuration.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return [str(MOSQUITTO), "-c", str(configuration)]

    def _rumqttd(self, directory: Path) -> list[str]:
        # The listener speaks MQTT 3.1.1: rumqttd has one listener a version, and both sides of ours fall back to it.
        configuration = directory / "rumqttd.toml"
        listeners = _LISTENER.format(version="v4", port=self.port)
        configuration.write_text(_RUMQTTD.format(listeners=listeners), encoding="utf-8")
        code = f"from iotcore import Broker; Broker(config_path={str(configuration)!r}).run_forever()"
        return [sys.executable, "-c", code]

    def start(self) -> None:
        """Start it; returns when it accepts connections. Raises RuntimeError with its log when it does not."""
        if not MOSQUITTO and find_spec("iotcore") is None:
            raise RuntimeError("there is no broker: install mosquitto, or the packages of requirements/sim.txt")
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + START_S_MAX
        while not self._accepts():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"{self.name} did not start: {self.log.read_text(errors='replace')[-1000:]}")
            time.sleep(0.02)  # it has no event to wait on before it listens

    def _accepts(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False

    def stop(self) -> None:
        """End it, if it runs."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            process.wait()
