"""The whole chain in one directory, each part a process of its own: for the demo, and for tests that kill parts.

The site is simulated by `meterwire sim`, polled by `meterwire run` and landed by `meterwire central run`: the very
commands that run in the field, with keys, configuration and logs as files.
"""

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from central.sinks import open_sink
from central.sinks.base import Inbox
from config.model import Site, TaskEntry, UplinkEntry
from field.clock import wall_ms
from field.truth import Truth, check, planned_slots, read_accepted
from gateway.status import ask
from identity.centre import Centre
from identity.gateway import GatewayIdentity
from identity.trust import trust
from simulators.describe import load_plan
from simulators.site import DescribedSite, write_site_files
from simulators.truth import read_served

GATEWAY = "gw-demo"
READY_S_MAX = 30.0
SETTLE_MS = 1_000
"""A slot this close to the end of a run may not have been planned any more: it is not asked for."""


class Part:
    """One `meterwire` process: started, killed, started again. What it says goes to a file."""

    def __init__(self, name: str, arguments: Sequence[str], directory: Path) -> None:
        self.name = name
        self.out = directory / f"{name}.out"
        self.log = directory / f"{name}.log"
        self.program = [sys.executable, "-c", "from field.main import main; main()"]
        """What runs the arguments: `meterwire`, or a test's own variant of it."""
        self._arguments = list(arguments)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Of the running process."""
        return self._process.pid if self._process is not None else None

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended by itself."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it, or start it again; does not wait until it is ready."""
        assert self._process is None, f"{self.name} runs already"
        with self.out.open("ab") as out, self.log.open("ab") as log:
            command = [*self.program, *self._arguments]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=log)

    def kill(self) -> None:
        """SIGKILL: no goodbye."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def end(self, number: signal.Signals = signal.SIGTERM, *, within_s: float = 30.0) -> int:
        """Ask it to end, wait, and return its exit code. Raises RuntimeError with its log when it does not."""
        assert self._process is not None, f"{self.name} does not run"
        self._process.send_signal(number)
        try:
            code = self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise RuntimeError(f"{self.name} did not end within {within_s:g} s\n{self.said()}") from None
        self._process = None
        return code

    def said(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-3000:] if self.log.exists() else ""

    def first_line(self) -> str:
        """The first line that it prints. Raises RuntimeError with its log when none comes."""
        deadline = time.monotonic() + READY_S_MAX
        while time.monotonic() < deadline and self.running:
            text = self.out.read_text(encoding="utf-8") if self.out.exists() else ""
            if "\n" in text:
                return text.split("\n", 1)[0]
            time.sleep(0.02)  # another process's file has no event to wait on
        raise RuntimeError(f"{self.name} said nothing\n{self.said()}")


class Installation:
    """A gateway and its centre, below one directory. The site that is polled, and the broker, are the caller's."""

    def __init__(
        self, directory: Path, site: Site, *, broker: Sequence[str] = (), database: str | None = None
    ) -> None:  # fmt: skip
        """Makes keys and files; starts nothing.

        broker: lines of central.toml's [broker] table besides the url. database: SQLite in the directory, if None.
        """
        self.directory = directory
        self.site = site
        self.database = database or f"sqlite:///{directory / 'central.db'}"
        self._make_keys(site)
        self._write_central(site.uplink.url, broker)
        write_site_files(site, directory)
        self.accepted = directory / "accepted.jsonl"
        configuration = ["-c", f"{directory / 'site.toml'}"]
        self.gateway = Part("gateway", ["run", *configuration, "--accepted", f"{self.accepted}"], directory)
        self.centre = Part("central", ["central", "run", "-c", f"{directory / 'central.toml'}", "--json"], directory)
        self.started_at = 0
        self.ended_at = 0

    @property
    def parts(self) -> tuple[Part, ...]:
        """Its processes, in the order in which they are ended."""
        return self.gateway, self.centre

    def _make_keys(self, site: Site) -> None:
        theirs = self.directory / "centre-keys"
        identity, centre = GatewayIdentity.create(site.keys, site.gateway), Centre.create(theirs)
        trust(site.keys, centre.public)
        trust(theirs, identity.public)

    def _write_central(self, url: str, broker: Sequence[str]) -> None:
        lines = [
            f'[keys]\npath = "{self.directory / "centre-keys"}"',
            f'[database]\nurl = "{self.database}"',
            f'[broker]\nurl = "{url}"',
            *broker,
            "",
        ]
        (self.directory / "central.toml").write_text("\n".join(lines), encoding="utf-8")

    def start(self, *, within_s: float = READY_S_MAX) -> None:
        """Start the centre, and once it has subscribed the gateway; returns when that plans: from then on slots are
        asked for. What a gateway sends to nobody waits half a minute for its next offer."""
        self.centre.start()
        self.centre.first_line()
        self.gateway.start()
        deadline = time.monotonic() + within_s
        while not self.started_at:
            if not self.gateway.running or time.monotonic() > deadline:
                raise RuntimeError(f"the gateway was not ready within {within_s:g} s\n{self.gateway.said()}")
            try:
                self.started_at = int(str(asyncio.run(ask(self.site.socket))["started_at"]))
            except OSError:
                time.sleep(0.05)  # there is no socket to wait on yet

    def drain(self, *, within_s: float = 60.0) -> None:
        """Stop planning, and return when the centre has everything that was accepted and the gateway has ended."""
        self.ended_at = wall_ms()
        code = self.gateway.end(signal.SIGUSR1, within_s=within_s)
        if code != 0:
            raise RuntimeError(f"the gateway ended with {code}\n{self.gateway.said()}")

    def stop(self) -> None:
        """End what still runs."""
        for part in self.parts:
            if part.running:
                part.end()
            else:
                part.kill()

    def kill(self) -> None:
        """End what still runs, at once."""
        for part in self.parts:
            part.kill()

    def verdict(self, served: Iterable[tuple[str, int, dict[str, str]]]) -> Truth:
        """The verdict on the three logs, for every slot from the start to the drain.

        served: what the meters did serve: meter, UTC ms, values by quantity.
        """
        sink = open_sink(self.database)
        try:
            return check(
                served=served,
                accepted=read_accepted(self.accepted),
                landed=sink.readings(),
                gaps=((gap.meter, gap.task, gap.slot) for gap in sink.gaps()),
                planned=planned_slots(self.site, self.started_at, self.ended_at - SETTLE_MS),
                items={task.name: frozenset(task.items) for task in self.site.tasks},
            )
        finally:
            sink.close()

    def gap_reasons(self) -> Counter[str]:
        """How many gaps there are for each fault."""
        sink = open_sink(self.database)
        try:
            return Counter(gap.fault for gap in sink.gaps())
        finally:
            sink.close()

    def inbox(self) -> Inbox:
        """What the centre has received, in numbers."""
        sink = open_sink(self.database)
        try:
            return sink.inbox()
        finally:
            sink.close()


class Chain(Installation):
    """The whole chain: an installation, and the simulated site that it polls."""

    def __init__(
        self,
        directory: Path,
        *,
        sim: str,
        tasks: Sequence[TaskEntry],
        uplink: UplinkEntry,
        broker: Sequence[str] = (),
        database: str | None = None,
        gateway: str = GATEWAY,
    ) -> None:
        """Makes keys and files, and starts the simulated site.

        sim: the text of sim.toml; the others as in `Installation`.
        """
        plan = directory / "sim.toml"
        plan.write_text(sim, encoding="utf-8")
        self.served = directory / "served.jsonl"
        self.sim = Part("sim", ["sim", "-c", f"{plan}", "--served", f"{self.served}"], directory)
        self.sim.start()
        try:
            ready = json.loads(self.sim.first_line())
            described = DescribedSite(load_plan(plan), ready["buses"])
            site = described.site(uplink=uplink, tasks=tasks, gateway=gateway, directory=directory)
            super().__init__(directory, site, broker=broker, database=database)
        except BaseException:
            self.sim.kill()
            raise

    @property
    def parts(self) -> tuple[Part, ...]:
        """Its processes, in the order in which they are ended."""
        return *super().parts, self.sim

    def narrow(self, tasks: dict[str, Sequence[str]]) -> None:
        """Give meters tasks of their own: by meter id, the names of its tasks. Before `start`."""
        meters = tuple(replace(meter, tasks=tuple(tasks[meter.id])) for meter in self.site.meters)
        self.site = replace(self.site, meters=meters)
        write_site_files(self.site, self.directory)

    def truth(self) -> Truth:
        """The verdict on the three logs, the simulator's own among them."""
        return self.verdict((one.meter, one.at_ms, one.values) for one in read_served(self.served) if one.intact)
