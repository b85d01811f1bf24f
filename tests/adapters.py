"""Meters behind real serial drivers, whose adapters are pulled and plugged in again in another order; then the truth.

Two FTDI adapters and a 16550A UART of a machine (`machine.py`). Both adapters lead to meters of the same addresses, as
units 1 and 2 are everywhere: after they come back the kernel has given each the other's name, and only the lasting
names, by where they are plugged in, still lead to the right meters.
"""

import asyncio
import time
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any, Final, Literal

from config.model import UplinkEntry
from drivers.line_tcp import endpoint
from field.chain import Chain
from field.clock import wall_ms
from field.truth import Truth, read_accepted
from gateway.status import ask
from simulators.site import write_site_files
from tests.broker import Broker
from tests.machine import Adapter, Driver, Plan, plug, pull
from tests.processes import free_port
from tests.sites import bus, meters
from tests.stage import DRAIN_S_MAX, curve, until

DRIVERS: Final[dict[str, Driver]] = {"east": "FTDI", "west": "FTDI", "cellar": "16550A"}
LASTING: Final = {"east": "/dev/serial/by-path/usb-1-1", "west": "/dev/serial/by-path/usb-1-2", "cellar": "/dev/ttyS1"}
BY_THE_KERNEL: Final = {"east": "/dev/numbered0", "west": "/dev/numbered1", "cellar": "/dev/ttyS1"}
"""Links to ttyUSB0 and ttyUSB1, made once: those names themselves are refused for this site."""
Names = Literal["lasting", "kernel"]
SETTINGS: Final = ("2400-8E1", "9600-8N1", "9600-8O1", "19200-8E1", "57600-8N2", "115200-8E1")
BOOT_S_MAX: Final = 300.0
"""From switching the machine on to a gateway that plans: every instruction of it is translated."""
EVERY_S: Final = 5
AWAY_S: Final = (1.0, 20.0)
TOLD_S_MAX: Final = 10.0
"""From pulling an adapter to a status that says so."""
BACK_S_MAX: Final = 60.0
"""From plugging it in to a capture of its meters: the port is tried again within 36 s."""


@dataclass(kw_only=True)
class Pulled:
    """What came of a campaign."""

    truth: Truth = field(default_factory=Truth)
    settings: dict[str, str] = field(default_factory=dict)
    parity: dict[str, str] = field(default_factory=dict)
    """By bus: what the gateway said of the driver."""
    back_s: list[float] = field(default_factory=list)
    """From plugging in to a capture."""
    gaps: dict[str, int] = field(default_factory=dict)

    @property
    def parity_as_set(self) -> bool:
        """Whether parity is enforced wherever there is any."""
        return self.parity == {
            bus: "none" if "N" in settings else "enforced" for bus, settings in self.settings.items()
        }


def campaign(*, seed: int, directory: Path, kernel: Path, broker: Broker, names: Names = "lasting") -> Pulled:
    """Run a gateway on the machine and pull its adapters: one, then both, plugged in again the other way round.

    directory: new and empty. kernel: as of `machine.kernel`. names: by which the site file calls the ports.
    """
    random = Random(seed)
    done = Pulled(settings={bus: random.choice(SETTINGS) for bus in DRIVERS})
    print(f"seed {seed}: {done.settings}, {names} names, below {directory}", flush=True)
    shared = directory / "site"
    shared.mkdir()
    chain = Chain(shared, sim=_sim(done.settings), tasks=[curve(EVERY_S)], uplink=UplinkEntry(url=broker.url))
    try:
        plan = _plan(chain, directory, kernel, LASTING if names == "lasting" else BY_THE_KERNEL)
        chain.gateway.program = plan.write()
        chain.start(within_s=BOOT_S_MAX)
        _captured(chain, DRIVERS, within_s=BACK_S_MAX)
        done.parity = {name: bus["parity"] for name, bus in _buses(chain).items()}
        for pulled in (("east",), ("east", "west")):
            for name in pulled:
                pull(plan, name)
            until(f"trouble of {pulled}", lambda: _troubled(chain) == set(pulled), within_s=TOLD_S_MAX)  # noqa: B023
            time.sleep(random.uniform(*AWAY_S))
            for name in reversed(pulled):
                plug(plan, name)
                time.sleep(1.0)  # the kernel names them in the order in which they come
            done.back_s.append(_captured(chain, pulled, within_s=BACK_S_MAX))
        chain.drain(within_s=DRAIN_S_MAX)
        chain.stop()
        done.truth, done.gaps = chain.truth(), dict(chain.gap_reasons())
    except BaseException:
        print("\n".join(f"--- {log.name}\n{log.read_text(errors='replace')[-6000:]}" for log in shared.glob("*.log")))
        raise
    finally:
        chain.kill()
    return done


def _sim(settings: dict[str, str]) -> str:
    models = {"east": ("eastron-sdm630", "1"), "west": ("eastron-sdm630", "1"),
              "cellar": ("dlt645-2007-3p", "202411110001")}  # fmt: skip
    return "".join(
        bus(name, "tcp", meters(profile, address, count=2), serial=settings[name])
        for name, (profile, address) in models.items()
    )


def _plan(chain: Chain, directory: Path, kernel: Path, ports: dict[str, str]) -> Plan:
    """Set the gateway's site to what there is in the machine, and the machine to what the site needs."""
    site = chain.site
    wires = {bus.name: endpoint(bus.port) for bus in site.buses}
    chain.site = replace(
        site, store=directory / "store", socket=directory / "status.sock",
        buses=tuple(replace(bus, port=ports[bus.name]) for bus in site.buses),
    )  # fmt: skip
    write_site_files(chain.site, chain.directory)
    adapters = tuple(Adapter(bus, driver, wires[bus]) for bus, driver in DRIVERS.items())
    _, broker = endpoint(site.uplink.url.replace("mqtt:", "tcp:"))
    return Plan(chain.directory, kernel, chain.site.socket, broker, free_port(), adapters)


def _buses(chain: Chain) -> dict[str, Any]:
    buses: Any = asyncio.run(ask(chain.site.socket))["buses"]
    return {bus["name"]: bus for bus in buses}


def _troubled(chain: Chain) -> set[str]:
    return {name for name, bus in _buses(chain).items() if bus["trouble"] is not None}


def _captured(chain: Chain, buses: Collection[str], *, within_s: float) -> float:
    """Return when each of these buses has accepted a capture of a slot from now on: seconds."""
    now = wall_ms()

    def all_did() -> bool:
        if not chain.accepted.exists():
            return False
        since = {one.meter for one in read_accepted(chain.accepted) if (one.slot or 0) > now}
        return all(any(meter.startswith(f"{bus}-") for meter in since) for bus in buses)

    return until(f"captures of {sorted(buses)}", all_did, within_s=within_s, look_s=0.2)
