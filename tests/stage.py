"""A broker and the chain around it, in one directory: set up, harmed by whoever has it, and judged at the end.

Everything is a process of its own, as in the field: `meterwire sim`, `run`, `central run`, and a broker.
"""

import asyncio
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from config.model import TaskEntry, UplinkEntry
from field.chain import Chain, Part
from field.clock import wall_ms
from field.demo import CURVE
from field.truth import Truth, read_accepted
from gateway.status import ask
from simulators.site import write_site_files
from tests.broker import CENTRE, Broker
from tests.sites import bus, meters

AGREE_S_MAX: Final = 30.0
"""After the last harm: until a capture of a new slot is accepted, so that the gateway polls again."""
DRAIN_S_MAX: Final = 110.0
"""A session may take 60 s to come; a batch that a broker took and forgot is offered again 36 s later at the latest."""
FIRST_POLL_S_MAX: Final = 10.0
"""From the start of a gateway's process to the first answer of a meter."""


def site(count: int) -> str:
    """A sim.toml with so many meters of each sort: three-phase ones on a pty and behind a serial server, Modbus ones on
    TCP, and two on the pty. The lines are fast, so that what is tried here is the chain and not the wire."""
    fast, three_phase = "115200-8E1", "dlt645-2007-3p"
    on_pty = meters(three_phase, "202411110001", count=count), meters("eastron-sdm630", "11", count=2)
    return (
        bus("pty", "pty", *on_pty, serial=fast)
        + bus("server", "tcp", meters(three_phase, "202411120001", count=count), serial=fast)
        + bus("ethernet", "modbus-tcp", meters("acrel-dtsd1352", "1", count=count))
    )


def curve(every_s: int = 2) -> TaskEntry:
    """The demo's, every two seconds, so that something is appended, sealed, sent and settled all the time."""
    return replace(CURVE, every_s=every_s)


def changed(change: str) -> list[str]:
    """The program of a gateway with one of the changes of `gateway_process.py`: a control, which has to fail."""
    return [sys.executable, "-P", str(Path(__file__).parent / "gateway_process.py"), change]


def told(chain: Chain, part: str = "uplink") -> dict[str, int]:
    """The counters of a part of the gateway; none while it does not answer."""
    try:
        of = asyncio.run(ask(chain.site.socket))[part]
    except OSError:
        return {}
    assert isinstance(of, dict)
    counters: dict[str, int] = of["counters"]
    return counters


def until(what: str, true: Callable[[], bool], *, within_s: float = AGREE_S_MAX, look_s: float = 0.05) -> float:
    """Return when it is true: seconds that it took. Raises AssertionError when it takes too long."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < within_s, f"not within {within_s:g} s: {what}"
        time.sleep(look_s)  # other processes' states have no event to wait on
    return time.monotonic() - began


def wait_for_slot_after(chain: Chain, moment: int) -> float:
    """Return when a capture of a slot after this moment (UTC ms) is accepted, so when the gateway polls: seconds."""
    return until(f"a capture of a slot after {moment}", lambda: _latest_slot(chain) > moment)


def _latest_slot(chain: Chain) -> int:
    if not chain.accepted.exists():
        return 0
    return max((capture.slot or 0 for capture in read_accepted(chain.accepted)), default=0)


class Stage:
    """The broker, which runs, and the chain around it."""

    def __init__(
        self, directory: Path, broker: Broker, *, meters: int = 2, every_s: int = 2, database: str | None = None,
        disk: Path | None = None, program: Sequence[str] = (),
    ) -> None:  # fmt: skip
        """With certificates where the broker asks for them.

        meters: of each sort. disk: where the gateway keeps store and keys, if not in the directory with the rest.
        program: of the gateway, where it is not the real one.
        """
        self.broker = broker
        uplink, lines = UplinkEntry(url=broker.url), list[str]()
        if broker.certificates is not None:
            ca = broker.certificates.ca
            ours, theirs = broker.certificates.client("gw-demo"), broker.certificates.client(CENTRE)
            uplink = UplinkEntry(url=broker.url, ca=ca, certificate=ours.certificate, key=ours.key)
            lines = [f'ca = "{ca}"', f'certificate = "{theirs.certificate}"', f'key = "{theirs.key}"']
        self.chain = Chain(
            directory, sim=site(meters), tasks=[curve(every_s)], uplink=uplink, broker=lines, database=database
        )
        if disk is not None:
            shutil.move(self.chain.site.keys, disk / "keys")
            subprocess.run(["sync", "--file-system", str(disk)], check=True)  # as they were where they were made
            self.change(store=disk / "store", keys=disk / "keys")
        if program:
            self.chain.gateway.program = list(program)

    def change(self, **fields: object) -> None:
        """Change the gateway's site file. Before its start."""
        self.chain.site = replace(self.chain.site, **fields)  # type: ignore[arg-type]
        write_site_files(self.chain.site, self.chain.directory)

    @property
    def parts(self) -> dict[str, Part | Broker]:
        """What may be killed."""
        return {"gateway": self.chain.gateway, "broker": self.broker, "subscriber": self.chain.centre}

    def all_run(self) -> None:
        """Nothing has ended by itself."""
        for name, part in {"sim": self.chain.sim, **self.parts}.items():
            assert part.running, f"{name} ended by itself"

    def started_s(self) -> float:
        """Start the gateway again: seconds until a meter has answered. Raises AssertionError when it takes too long."""
        began_ms, before = wall_ms(), self.chain.served.stat().st_size
        self.chain.gateway.start()

        def answered() -> bool:
            assert self.chain.gateway.running, "the gateway ended by itself"
            with self.chain.served.open("rb") as file:
                file.seek(before)
                lines = file.read().splitlines(keepends=True)
            return any(json.loads(line)["at_ms"] >= began_ms for line in lines if line.endswith(b"\n"))

        return until("a poll", answered, within_s=FIRST_POLL_S_MAX)

    def verdict(self) -> Truth:
        """See that all goes on, let everything land, stop it, and judge."""
        wait_for_slot_after(self.chain, wall_ms())
        self.all_run()
        self.chain.drain(within_s=DRAIN_S_MAX)
        self.chain.stop()
        truth = self.chain.truth()
        if not truth.passed:
            print(f"{dict(truth.examples)}\n{self.logs()}")
        return truth

    def logs(self) -> str:
        """What every part said, for the reader of a failure."""
        files = [*sorted(self.chain.directory.glob("*.log")), self.broker.log]
        return "\n".join(f"--- {file.name}\n{file.read_text(errors='replace')[-6000:]}" for file in files)


@contextmanager
def staged(
    directory: Path, broker: Broker, *, meters: int = 2, every_s: int = 2, database: str | None = None,
    disk: Path | None = None, program: Sequence[str] = (),
) -> Iterator[Stage]:  # fmt: skip
    """A stage, of which all but the broker is ended with the block. What broke the block is told with the logs."""
    stage = Stage(directory, broker, meters=meters, every_s=every_s, database=database, disk=disk, program=program)
    try:
        yield stage
    except BaseException:
        print(stage.logs())
        raise
    finally:
        stage.chain.kill()
