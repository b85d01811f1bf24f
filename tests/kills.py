"""A site whose gateway, broker and subscriber are killed (SIGKILL) at moments drawn from a seed, and then the truth.

`campaign` is one run of it, for the suite and for long soaks. Everything is a process of its own, as in the field:
`meterwire sim`, `run`, `central run`, and mosquitto with TLS, client certificates and an ACL.
"""

import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from config.model import TaskEntry, UplinkEntry
from field.chain import Chain, Part, wall_ms
from field.truth import Truth, read_accepted
from gateway.status import ask
from tests.broker import CENTRE, Broker, Certificates, make_certificates

EVERY_S = 5
TASK = TaskEntry(
    name="curve", every_s=EVERY_S,
    items=("energy.active.import.total", "voltage.a", "current.a", "power.active.total", "frequency"),
)  # fmt: skip
_SITE = """\
# Three-phase meters on a pty, single-phase ones behind a serial server, Modbus ones on TCP. The lines are fast, so that
# what is tried here is the chain and not the wire.
[[bus]]
name = "pty"
kind = "pty"
serial = "115200-8E1"

[[bus.meters]]
profile = "dlt645-2007-3p"
address = "202411110001"
count = {count}

[[bus.meters]]
profile = "eastron-sdm630"
address = "11"
count = 2

[[bus]]
name = "server"
kind = "tcp"
serial = "115200-8E1"

[[bus.meters]]
profile = "dlt645-2007-3p"
address = "202411120001"
count = {count}

[[bus]]
name = "ethernet"
kind = "modbus-tcp"

[[bus.meters]]
profile = "acrel-dtsd1352"
address = "1"
count = {count}
"""


def site(count: int) -> str:
    """A sim.toml with so many meters of each sort."""
    return _SITE.format(count=count)


SETTLES_ON_PUBACK = [sys.executable, "-P", str(Path(__file__).parent / "gateway_process.py"), "settle_on_puback"]
"""The program of a gateway that believes the broker: the control, which has to lose data."""
PAUSE_S = (0.1, 2.0)
"""Between one kill and the next: the shortest and the longest."""
DOWN_S_MAX = 2.0
"""How long what was killed stays dead; one in three is started again at once."""
AGREE_S_MAX = 30.0
"""After the last kill: until a capture of a new slot is accepted, so that the gateway polls again."""
DRAIN_S_MAX = 110.0
"""A session may take 60 s to come; a batch that a broker took and forgot is offered again 36 s later at the latest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """A part dies at so many seconds after the start, and is started again down_s later."""

    at_s: float
    part: str
    down_s: float


def draw_kills(random: Random, kills: int, parts: Sequence[str]) -> list[Kill]:
    """Moments and victims, each part as often as the others. Nobody is killed while down; several may be down."""
    deck = [part for part in parts for _ in range(-(-kills // len(parts)))]
    random.shuffle(deck)
    up_at = dict.fromkeys(parts, 0.0)
    at, drawn = 0.0, list[Kill]()
    while len(drawn) < kills:
        at += random.uniform(*PAUSE_S)
        living = [part for part in deck if up_at[part] <= at]
        if not living:
            continue
        part = living[0]
        deck.remove(part)
        down_s = random.choice((0.0, random.uniform(0.0, DOWN_S_MAX), random.uniform(0.0, DOWN_S_MAX)))
        up_at[part] = at + down_s
        drawn.append(Kill(at_s=at, part=part, down_s=down_s))
    return drawn


def wait_for_slot_after(chain: Chain, moment: int, *, within_s: float = AGREE_S_MAX) -> None:
    """Return when a capture of a slot after this moment (UTC ms) is accepted: the gateway polls."""
    deadline = time.monotonic() + within_s
    while _latest_slot(chain) <= moment:
        assert time.monotonic() < deadline, f"no capture of a slot after {moment} within {within_s:g} s"
        time.sleep(0.1)  # a file tells nobody that it has grown


def _latest_slot(chain: Chain) -> int:
    if not chain.accepted.exists():
        return 0
    return max((capture.slot or 0 for capture in read_accepted(chain.accepted)), default=0)


def told(chain: Chain) -> dict[str, int]:
    """The counters of the gateway's uplink; none while it does not answer."""
    try:
        uplink = asyncio.run(ask(chain.site.socket))["uplink"]
    except OSError:
        return {}
    assert isinstance(uplink, dict)
    counters: dict[str, int] = uplink["counters"]
    return counters


def until(what: str, true: Callable[[], bool], *, within_s: float) -> None:
    """Return when it is true. Raises AssertionError when it takes too long."""
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, f"not within {within_s:g} s: {what}"
        time.sleep(0.05)  # other processes' states have no event to wait on


class Stage:
    """The broker and the chain around it, in one directory."""

    def __init__(
        self, directory: Path, broker: Broker, *, sim: str, task: TaskEntry, database: str | None = None
    ) -> None:
        """With certificates where the broker asks for them. The broker runs; it is killed with the rest."""
        self.broker = broker
        uplink, lines = UplinkEntry(url=broker.url), list[str]()
        if broker.certificates is not None:
            ca = broker.certificates.ca
            ours, theirs = broker.certificates.client("gw-demo"), broker.certificates.client(CENTRE)
            uplink = UplinkEntry(url=broker.url, ca=ca, certificate=ours.certificate, key=ours.key)
            lines = [f'ca = "{ca}"', f'certificate = "{theirs.certificate}"', f'key = "{theirs.key}"']
        self.chain = Chain(directory, sim=sim, tasks=[task], uplink=uplink, broker=lines, database=database)

    @property
    def parts(self) -> dict[str, Part | Broker]:
        """What may be killed."""
        return {"gateway": self.chain.gateway, "broker": self.broker, "subscriber": self.chain.centre}

    def all_run(self) -> None:
        """Nothing has ended by itself."""
        for name, part in {"sim": self.chain.sim, **self.parts}.items():
            assert part.running, f"{name} ended by itself"

    def wait_for_slot_after(self, moment: int, *, within_s: float = AGREE_S_MAX) -> None:
        """See `wait_for_slot_after`."""
        wait_for_slot_after(self.chain, moment, within_s=within_s)

    def logs(self) -> str:
        """What every part said, for the reader of a failure."""
        files = [*sorted(self.chain.directory.glob("*.log")), self.broker.log]
        return "\n".join(f"--- {file.name}\n{file.read_text(errors='replace')[-6000:]}" for file in files)

    def close(self) -> None:
        """End everything, at once."""
        self.chain.kill()
        self.broker.kill()


def campaign(
    *, seed: int, kills: int, directory: Path, certificates: Certificates | None = None, parts: Sequence[str] = ()
) -> Truth:
    """Run a site, kill its parts, let it agree again: the verdict, with every slot planned in that time.

    directory: new and empty. parts: the victims, by default all three. Prints the seed and each kill; when something
    else than the verdict goes wrong, it raises, and the logs have been printed.
    """
    random = Random(seed)
    # Mosquitto forgets what it has not saved: with its own default all of it; with 1 s it comes back with old news.
    autosave_s = random.choice((1800, 1))
    print(f"seed {seed}: {kills} kills, autosave {autosave_s} s, below {directory}", flush=True)
    (directory / "broker").mkdir()
    broker = Broker(
        directory / "broker", certificates=certificates or make_certificates(directory / "ca"), autosave_s=autosave_s
    )
    stage = None
    try:
        broker.start()
        stage = Stage(directory, broker, sim=site(4), task=TASK)
        stage.chain.start()
        _kill_all(stage, draw_kills(random, kills, parts or tuple(stage.parts)))
        stage.wait_for_slot_after(wall_ms())
        stage.all_run()
        stage.chain.drain(within_s=DRAIN_S_MAX)
        stage.chain.stop()
        truth = stage.chain.truth()
        if not truth.passed:
            print(f"seed {seed}: {dict(truth.examples)}\n{stage.logs()}")
        return truth
    except BaseException:
        if stage is not None:
            print(f"seed {seed}\n{stage.logs()}")
        raise
    finally:
        broker.kill()
        if stage is not None:
            stage.close()


def _kill_all(stage: Stage, drawn: Sequence[Kill]) -> None:
    """Do what was drawn, at its time. What is to start at the end of its death, starts before the next dies."""
    acts = sorted(
        [(kill.at_s, 1, kill) for kill in drawn] + [(kill.at_s + kill.down_s, 2, kill) for kill in drawn],
        key=lambda act: act[:2],
    )
    began = time.monotonic()
    for at_s, number, kill in acts:
        time.sleep(max(0.0, began + at_s - time.monotonic()))
        part = stage.parts[kill.part]
        if number == 1:
            assert part.running, f"{kill.part} ended by itself"
            part.kill()
            print(f"{time.monotonic() - began:7.3f} s  {kill.part} killed, down {kill.down_s:.3f} s", flush=True)
        else:
            part.start()
