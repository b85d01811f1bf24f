"""A real MQTT broker for tests: mosquitto on a free loopback port, plain or with TLS, client certificates and an ACL.

Where mosquitto cannot be had (no root), rumqttd from the `iotcore` wheel stands in for the plain one, and is counted.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from identity.tls import Authority, Issued, issue, make_ca
from tests.processes import accepts, free_port, wait_until
from tests.substitution import Substituted, required_as_root

MOSQUITTO = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
CENTRE = "central"
"""The name in the centre's client certificate."""

ACL = f"""\
pattern write mw/v1/+/%u/up/#
pattern read mw/v1/+/%u/down/#

user {CENTRE}
topic read mw/v1/+/+/up/#
topic write mw/v1/+/+/down/#
topic readwrite mw/v1/canary/#
"""


@dataclass
class Certificates:
    """An authority for one test run, and the certificates that it issued."""

    directory: Path
    authority: Authority
    _issued: dict[str, Issued] = field(default_factory=dict)

    @property
    def ca(self) -> Path:
        """The authority's certificate."""
        return self.authority.certificate

    def client(self, name: str) -> Issued:
        """The certificate and key of a client: a gateway by its id, or the centre."""
        if name not in self._issued:
            self._issued[name] = issue(self.authority, name, self.directory / "clients")
        return self._issued[name]

    def server(self) -> Issued:
        """The broker's own."""
        if "" not in self._issued:
            self._issued[""] = issue(self.authority, "localhost", self.directory / "server", server=True)
        return self._issued[""]


def make_certificates(directory: Path) -> Certificates:
    """A new authority with its files below the directory."""
    return Certificates(directory, make_ca(directory / "ca"))


class Broker:
    """A broker that can be stopped, killed (SIGKILL) and started again on the same port with what it had saved."""

    def __init__(
        self,
        directory: Path,
        *,
        certificates: Certificates | None = None,
        autosave_s: int = 1800,
        mosquitto: bool = MOSQUITTO is not None,
    ) -> None:
        """autosave_s: mosquitto's own default is 1800, so a killed broker forgets what it had acknowledged.

        Without mosquitto it is rumqttd, which speaks MQTT 3.1.1 only on a plain listener and saves nothing.
        """
        self.directory = directory
        self.port = free_port()
        self.certificates = certificates
        self.log = directory / "broker.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._command = self._mosquitto(autosave_s) if mosquitto else self._rumqttd()

    @property
    def url(self) -> str:
        """Where to connect, as in the configuration files."""
        return f"{'mqtts' if self.certificates else 'mqtt'}://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """Of the running process."""
        return self._process.pid if self._process is not None else None

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended by itself."""
        return self._process is not None and self._process.poll() is None

    def _mosquitto(self, autosave_s: int) -> list[str]:
        lines = [
            f"listener {self.port} 127.0.0.1",
            "persistence true",
            f"persistence_location {self.directory}/",
            f"autosave_interval {autosave_s}",
            "max_queued_messages 100000",
            "set_tcp_nodelay true",
            "log_dest stderr",
            "user root",  # the temporary directory is the test's own; when not root this line has no effect
        ]
        if self.certificates is None:
            lines.append("allow_anonymous true")
        else:
            server = self.certificates.server()
            (self.directory / "acl").write_text(ACL, encoding="utf-8")
            lines += [
                "allow_anonymous false", f"cafile {self.certificates.ca}", f"certfile {server.certificate}",
                f"keyfile {server.key}", "require_certificate true", "use_identity_as_username true",
                f"acl_file {self.directory / 'acl'}",
            ]  # fmt: skip
        configuration = self.directory / "mosquitto.conf"
        configuration.write_text("\n".join(lines) + "\n", encoding="utf-8")
        assert MOSQUITTO is not None
        return [MOSQUITTO, "-c", str(configuration)]

    def _rumqttd(self) -> list[str]:
        options = json.dumps({"listen": "127.0.0.1", "port": self.port})
        code = f"import json; from iotcore import Broker; Broker(**json.loads({options!r})).run_forever()"
        return [sys.executable, "-c", code]

    def start(self) -> "Broker":
        """Start it, or start it again, and return when it accepts connections."""
        assert self._process is None
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until(lambda: accepts(self.port), self._process, self.log)
        return self

    def kill(self) -> None:
        """SIGKILL: what it had not saved is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """SIGTERM: it saves its sessions and ends."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None


@pytest.fixture(scope="session")
def certificates() -> Iterator[Certificates]:
    """An authority for this run, which issues client certificates by name."""
    directory = Path(tempfile.mkdtemp(prefix="mw-ca-"))
    yield make_certificates(directory)
    shutil.rmtree(directory)


@pytest.fixture
def broker(substituted: Substituted) -> Iterator[Broker]:
    """A running broker without TLS, on loopback."""
    if MOSQUITTO is None:
        required_as_root("mosquitto")
        substituted("mosquitto", "iotcore (rumqttd)")
    with running_broker() as running:
        yield running


@pytest.fixture
def mosquitto() -> None:
    """The test needs mosquitto itself: it is skipped where there is none and none can be installed."""
    if MOSQUITTO is None:
        required_as_root("mosquitto")
        pytest.skip("needs mosquitto: TLS with client certificates and an ACL")


@pytest.fixture
def tls_broker(mosquitto: None, certificates: Certificates) -> Iterator[Broker]:
    """A running broker with TLS, where a client's certificate says who it is and what it may do."""
    with running_broker(certificates=certificates) as running:
        yield running


@contextmanager
def running_broker(
    *, certificates: Certificates | None = None, autosave_s: int = 1800, mosquitto: bool = MOSQUITTO is not None
) -> Iterator[Broker]:
    """A broker in a directory of its own, killed and cleaned away at the end."""
    directory = Path(tempfile.mkdtemp(prefix="mw-broker-"))
    running = Broker(directory, certificates=certificates, autosave_s=autosave_s, mosquitto=mosquitto)
    try:
        yield running.start()
    finally:
        running.kill()
        shutil.rmtree(directory)
