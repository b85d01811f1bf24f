"""The site on which the daemon is weighed: 8 buses by 64 meters, each part the process that it is in the field.

Half of the buses are DL/T 645, half Modbus RTU, all on ptys at 9600 baud that keep the time of the wire. The uplink is
MQTT over TLS with client certificates where mosquitto is installed, else plain MQTT to an embedded broker.
"""

import asyncio
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from config.model import TaskEntry, UplinkEntry
from field.chain import GATEWAY, Chain, Part
from gateway.status import ask
from tests.broker import CENTRE, MOSQUITTO, make_certificates, running_broker

CURVE = TaskEntry(
    name="curve",
    every_s=900,
    items=("energy.active.import.total", "voltage.a", "voltage.b", "voltage.c", "current.a", "current.b", "current.c",
           "power.active.total"),
)  # fmt: skip
"""8 values every quarter of an hour, which both models have."""
BUSES, METERS = 8, 64
PROFILES = ("dlt645-2007-3p", "acrel-dtsd1352")
WAIT_S_MAX = 180.0


def site(buses: int, meters: int) -> str:
    """The sim.toml: buses of the two models in turn."""
    return "\n".join(
        f'[[bus]]\nname = "rs485-{n}"\nkind = "pty"\nserial = "9600-8E1"\n'
        f'[[bus.meters]]\nprofile = "{PROFILES[n % 2]}"\naddress = "{f"2024111{n:02d}001" if n % 2 == 0 else 1}"\n'
        f"count = {meters}\n"
        for n in range(buses)
    )


class Rig:
    """The running site, centre and broker; the gateway is started and stopped by the benchmark."""

    def __init__(self, chain: Chain, *, uplink: str) -> None:
        self.chain = chain
        self.uplink = uplink
        """How the gateway reaches the broker, for the record."""

    @property
    def size(self) -> str:
        """Of the site, for people."""
        buses, meters = len(self.chain.site.buses), len(self.chain.site.meters)
        return f"{buses} buses by {meters // buses} meters"

    @property
    def gateway(self) -> Part:
        """`meterwire run`."""
        return self.chain.gateway

    def start(self) -> float:
        """Start a gateway that has never run here; returns the seconds from then to its first accepted capture."""
        shutil.rmtree(self.chain.site.store, ignore_errors=True)
        self.chain.accepted.unlink(missing_ok=True)
        began = time.monotonic()
        self.gateway.start()
        while not (self.chain.accepted.exists() and b'"values"' in self.chain.accepted.read_bytes()):
            self._check(began)
            time.sleep(0.002)  # another process's file has no event to wait on
        return time.monotonic() - began

    def status(self) -> dict[str, Any]:
        """What the gateway says of itself."""
        return asyncio.run(ask(self.chain.site.socket))

    def settled(self) -> int:
        """Wait until every meter has been read at least once and the centre's receipt is there for all of it. Returns
        the captures since the start."""
        began = time.monotonic()
        while True:
            status = self.status()
            captured, gaps = status["schedule"]["captured"], status["schedule"]["gaps"]
            waits = status["buffer"]["unsealed"] or status["buffer"]["batches"]
            busy = any(bus["queued"] for bus in status["buses"])
            if gaps:
                raise RuntimeError(f"{gaps} gaps on a site without faults\n{self.gateway.said()}")
            if captured >= len(self.chain.site.meters) and not waits and not busy:
                return int(captured)
            self._check(began)
            time.sleep(0.25)

    def _check(self, began: float) -> None:
        if not self.gateway.running or time.monotonic() - began > WAIT_S_MAX:
            raise RuntimeError(f"the gateway did not get there\n{self.gateway.said()}")


@contextmanager
def _modules(compiled: Path | None) -> Iterator[None]:
    """While this lasts, processes that are started keep compiled modules in this directory; None: changes nothing."""
    names = ("PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX") if compiled else ()
    before = {name: os.environ.pop(name, None) for name in names}
    if compiled:
        os.environ["PYTHONPYCACHEPREFIX"] = str(compiled)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextmanager
def rig(buses: int = BUSES, meters: int = METERS, *, compiled: bool = True) -> Iterator[Rig]:
    """The site, its centre and its broker, running; ended and cleaned away at the end.

    compiled: whether Python is to find its modules compiled, as after an installation; takes a first start.
    """
    directory = Path(tempfile.mkdtemp(prefix="meterwire-bench-"))
    certificates = make_certificates(directory) if MOSQUITTO else None
    chain: Chain | None = None
    try:
        with (
            _modules(directory / "compiled" if compiled else None),
            running_broker(certificates=certificates) as broker,
        ):
            uplink, lines = UplinkEntry(url=broker.url), list[str]()
            if certificates is not None:
                ours, theirs = certificates.client(GATEWAY), certificates.client(CENTRE)
                uplink = UplinkEntry(url=broker.url, ca=certificates.ca, certificate=ours.certificate, key=ours.key)
                lines = [
                    f'ca = "{certificates.ca}"', f'certificate = "{theirs.certificate}"', f'key = "{theirs.key}"'
                ]  # fmt: skip
            chain = Chain(directory, sim=site(buses, meters), tasks=[CURVE], uplink=uplink, broker=lines)
            chain.centre.start()
            chain.centre.first_line()
            made = Rig(chain, uplink=f"{broker.url.partition(':')[0]}, Python {sys.version.split()[0]}")
            if compiled:
                made.start()
                made.gateway.end()
            yield made
            made.chain.stop()
    finally:
        if chain is not None:
            chain.kill()
        shutil.rmtree(directory)
