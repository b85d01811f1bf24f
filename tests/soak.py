"""Long campaigns: `python -m tests.soak --minutes N`, or `make soak`. Goes on where the last run stopped.

What parts of the house log in this process goes to var/soak.log; a campaign that fails shows the logs of its processes.

In turn: power cuts of the store alone; disk images that are restored; sessions that are reset; disks that fail; a site
whose processes are killed; one whose gateway loses its power; one whose gateway's disk is full, gone and read-only;
serial adapters with real drivers that are pulled; fuzzed buses; clusters of brokers whose nodes die; a week of the
whole site in virtual time; and a site that catches up with a backlog.
"""

import asyncio
import logging
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count, product
from pathlib import Path
from random import Random

from simulators.noise import Faults
from tests import adapters, days, disk_trouble, images, kills, machine, nonces, power_cuts, real_disk
from tests.backlog import MIB_MAX, SLOWER_MAX, drain
from tests.broker import MOSQUITTO, running_broker
from tests.broker_matrix import over_cluster
from tests.clusters import NATS, RABBITMQ, Cluster, NatsCluster, RabbitCluster
from tests.crash.campaign import campaign as cut_power
from tests.crash.ordeal import FAILURES, Ordeal, undergo
from tests.crash.trouble import Trouble
from tests.faults.campaign import FAMILIES, Family
from tests.faults.campaign import campaign as fuzz_bus
from tests.ledger import VAR, Campaign, Entry, main
from tests.link import SESSION_BYTES, reset_along
from tests.scratch import scratch
from tests.stage import changed

WEEK_S_MAX = 240.0
"""Of processor time: what a week takes on a machine that does nothing else, as virtual time waits for nothing."""
OUTAGE_H = 48.0
NOISE = Faults(ber=2e-5, silent=0.002, truncate=0.001, glitch=0.01, foreign=0.001)
"""A line that wants looking after: about one answer in a hundred is damaged or missing."""
KILLS = 30
BACKLOG = 10_000_000
CUTS = 50
CRASH_IMAGES = 1_000
ORDEAL_STEP = 8
EXCHANGES = 100_000
RESTORES = 2_000
LIVES = 100
"""Of a whole gateway, each on an image of an earlier one."""
RESET_STEP = 64


def week(seed: int) -> str:
    """Seven days, two of them without the broker, with noise on two of the eight buses."""
    random = Random(seed)
    outage = days.Outage(after_h=random.uniform(1.0, 7 * 24.0 - OUTAGE_H - 4.0), hours=OUTAGE_H)
    noisy = random.sample(range(1, days.BUSES + 1), 2)
    began = time.process_time()
    with scratch(7 * days.MEGABYTES_A_DAY) as directory:
        story = days.live(directory, days=7, outage=outage, seed=seed, noisy=noisy, faults=NOISE)
    spent_s = time.process_time() - began
    truth = story.truth
    assert truth.passed, dict(truth.examples)
    assert truth.planned == 7 * days.SLOTS_A_DAY
    assert truth.planned == story.captures + truth.gaps, (truth.planned, story.captures, truth.gaps)
    assert story.asked == story.answered == 7 * days.SLOTS_A_DAY * 6 // 8
    assert story.backlog >= 0.98 * OUTAGE_H / 24 * days.SLOTS_A_DAY
    assert spent_s < WEEK_S_MAX, f"{spent_s:.0f} s of processor time"
    return f"{story.captures} captures, {truth.gaps} gaps, backlog {story.backlog}, {spent_s:.0f} s of processor time"


def kill(seed: int) -> str:
    """Thirty SIGKILLs of gateway, broker and subscriber."""
    with tempfile.TemporaryDirectory(prefix="meterwire-") as name:
        truth = kills.campaign(seed=seed, kills=KILLS, directory=Path(name))
    assert truth.passed, dict(truth.examples)
    return f"{truth.accepted} captures accepted, {truth.gaps} gaps"


def cut(seed: int) -> str:
    """Fifty power cuts of the whole gateway."""
    with scratch(100) as directory, running_broker() as broker:
        done = power_cuts.campaign(seed=seed, cuts=CUTS, directory=directory, broker=broker)
    assert done.truth.passed, dict(done.truth.examples)
    slowest = max(done.first_polls_s)
    return f"{done.cuts} cuts, {done.truth.accepted} captures accepted, first poll after {slowest:.1f} s at most"


def disk(seed: int) -> str:
    """The whole gateway's disk is full, gone and read-only; every other seed, it is gone and there is a spare one."""
    troubles: Sequence[disk_trouble.Trouble] = ("moved",) if seed % 2 else ("full", "gone")
    with tempfile.TemporaryDirectory(prefix="meterwire-") as name, running_broker() as broker:
        done = disk_trouble.campaign(seed=seed, directory=Path(name), broker=broker, troubles=troubles)
    assert done.truth.passed and done.gaps == [], (done, dict(done.truth.examples))
    assert done.ballast[-1] and all(took < disk_trouble.RELIEF_S_MAX for took in done.recovered_s), done
    told = ", ".join(f"recovered in {took:.1f} s" for took in done.recovered_s) or "gone on in the spare directory"
    return f"{sum(done.refused)} times refused, {told}, {done.truth.accepted} captures accepted"


def backlog(seed: int) -> str:
    """Ten million values that waited for the broker."""
    with tempfile.TemporaryDirectory(prefix="meterwire-") as name, running_broker() as broker:
        done = drain(Path(name), broker, values=BACKLOG)
    assert done.wrong == [] and done.live.passed, (done.wrong, dict(done.live.examples))
    assert done.in_time and done.peak_mib <= MIB_MAX, str(done)
    assert done.append_slower <= SLOWER_MAX, str(done)
    return str(done)


def cluster(make: Callable[[Path], Cluster], seed: int) -> str:
    """Three nodes, killed one after the other, then all they had saved; a gateway that believes them loses data."""
    with tempfile.TemporaryDirectory(prefix="meterwire-") as name:
        truth = over_cluster(Path(name), make, seed=seed)
    assert truth.passed, (truth, dict(truth.examples))
    with tempfile.TemporaryDirectory(prefix="meterwire-") as name:
        control = over_cluster(Path(name), make, seed=seed, deaths=0, program=changed("settle_on_puback"))
    assert control.missing > 0, control
    return f"{truth.accepted} captures accepted, {truth.gaps} gaps; the control lost {control.missing} captures"


def pull(seed: int) -> str:
    """Serial adapters with real drivers, pulled and plugged in again in another order."""
    kernel = machine.kernel(VAR / "kernel")

    def run(names: adapters.Names) -> adapters.Pulled:
        with tempfile.TemporaryDirectory(prefix="meterwire-") as name, running_broker() as broker:
            return adapters.campaign(seed=seed, directory=Path(name), kernel=kernel, broker=broker, names=names)

    done, control = run("lasting"), run("kernel")
    assert done.truth.passed and done.parity_as_set, (done, dict(done.truth.examples))
    assert control.truth.different > 0, control
    back_s, given = max(done.back_s), control.truth.different
    return (f"{done.settings}, parity {done.parity}, captures after {back_s:.0f} s at most, gaps {done.gaps}; "
            f"{done.truth.accepted} captures accepted; the control gave {given} values to other meters")  # fmt: skip


def crash(seed: int) -> str:
    """A thousand power cuts of the gateway's store."""
    with scratch(100) as directory:
        # Lives count up from their campaign's seed; campaigns stand a million apart, so that no life is lived twice.
        account = asyncio.run(cut_power(directory, seed=seed * 1_000_000, images=CRASH_IMAGES))
    assert account.images == CRASH_IMAGES
    assert (account.lost, account.doubled, account.corrupt) == (0, 0, 0), account.first
    return f"{account.images} images, {account.accepted} records accepted"


def restore(seed: int) -> str:
    """A gateway's disk images, restored two thousand times to seal, and a hundred times to read on and send."""
    with scratch(10) as directory:
        seen = nonces.campaign(directory, count=RESTORES, seed=seed)
    assert seen.reused == 0
    with scratch(20) as directory:
        story = images.campaign(directory, seed=seed, restores=LIVES)
    truth = story.truth
    assert truth.passed and story.seen.reused == story.other_bytes == 0, (story, dict(truth.examples))
    return (f"{RESTORES} restores, {len(seen.pairs)} messages, {len(seen.epochs)} epochs; {LIVES} lives on images, "
            f"{story.unsent} of them with something unsent, {truth.accepted} captures accepted")  # fmt: skip


def reset(seed: int) -> str:
    """Sessions with a real broker that are reset every 64 bytes; 64 seeds take every byte of one."""
    with tempfile.TemporaryDirectory(prefix="meterwire-") as name, running_broker() as broker:
        truth = asyncio.run(reset_along(Path(name), broker, first=seed % RESET_STEP, step=RESET_STEP))
    assert truth.passed, dict(truth.examples)
    return f"from byte {seed % RESET_STEP}, {truth.accepted} captures accepted"


def faults(family: Family, seed: int) -> str:
    """A hundred thousand exchanges with everything wrong that can go wrong on a wire."""
    verdict = fuzz_bus(family, seed, EXCHANGES)
    assert verdict.passed, (str(verdict), verdict.examples)
    return str(verdict)


def ordeal(seed: int) -> str:
    """Every eighth operation of the disk fails, in each way; eight seeds are all of them."""
    lives = asyncio.run(_ordeal(seed))
    assert [life.wrong for life in lives if life.wrong] == []
    return f"{len(lives)} lives, {sum(life.refused for life in lives)} times refused"


async def _ordeal(seed: int) -> list[Ordeal]:
    lives: list[Ordeal] = []
    with scratch(100) as directory:
        disk = Trouble(f"ordeal-{seed}", directory)
        for failure, lasting in product((*FAILURES, "read"), (False, True)):
            for n in count(seed % ORDEAL_STEP, ORDEAL_STEP):
                here = directory / f"{failure}-{lasting}-{n}"
                here.mkdir()
                lives.append(await undergo(here, disk, failure, n, lasting=lasting, seed=1000 + seed))
                shutil.rmtree(here)
                if not lives[-1].hit:
                    break
        disk.unregister()
    return lives


CAMPAIGNS: dict[str, Campaign] = {
    "crash": crash,
    "restore": restore,
    "reset": reset,
    "ordeal": ordeal,
    "kill": kill,
    "cut": cut,
    "disk": disk,
    "pull": pull,
    **{f"faults-{family}": partial(faults, family) for family in FAMILIES},
    "nats": partial(cluster, NatsCluster),
    "rabbitmq": partial(cluster, RabbitCluster),
    "week": week,
    "backlog": backlog,
}
"""The quick ones first: on a new machine a short run has something to say."""

GOALS: dict[str, tuple[int, int, str]] = {
    "crash": (CRASH_IMAGES, 100_000, "disk images"),
    "restore": (RESTORES, 10_000, "restores"),
    "reset": (SESSION_BYTES // RESET_STEP, SESSION_BYTES, "bytes of a session"),
    "ordeal": (1, ORDEAL_STEP, "parts of all operations"),
    "kill": (KILLS, 2_000, "kills"),
    "cut": (CUTS, 1_000, "power cuts"),
    "disk": (1, 10, "disks in trouble"),
    "pull": (3, 30, "adapters pulled"),
    **{f"faults-{family}": (EXCHANGES, 1_000_000, "exchanges") for family in FAMILIES},
    "nats": (1, 1, "clusters"),
    "rabbitmq": (1, 1, "clusters"),
    "week": (7, 7, "days"),
    "backlog": (BACKLOG, BACKLOG, "values"),
}
"""What a seed stands for, and how much of it there shall be over all runs together."""


def reached(entries: Sequence[Entry]) -> str:
    """A line for each campaign: its seeds of all runs, and what they come to."""
    lines = [f"{'campaign':24}{'passed':>8}{'failed':>8}   all runs together"]
    for name, (each, goal, what) in GOALS.items():
        mine = [entry.verdict == "pass" for entry in entries if entry.name == name]
        passed = sum(mine)
        lines.append(f"{name:24}{passed:8}{len(mine) - passed:8}   {passed * each:,} of {goal:,} {what}")
    return "\n".join(lines)


def left_out() -> dict[str, str]:
    """Campaigns that this machine cannot run, and what they lack."""
    package = "no {0} (apt-get install {0})".format
    no_disk = None if real_disk.available() else "no real disk to harm (root, loop devices, mkfs.ext4)"
    lacks = {
        "kill": None if MOSQUITTO else package("mosquitto"),
        "cut": no_disk,
        "disk": no_disk,
        "pull": machine.missing() or (None if MOSQUITTO else package("mosquitto")),
        "nats": None if NATS else package("nats-server"),
        "rabbitmq": None if RABBITMQ else package("rabbitmq-server"),
    }
    return {name: why for name, why in lacks.items() if why is not None}


if __name__ == "__main__":
    VAR.mkdir(exist_ok=True)
    logging.basicConfig(
        filename=VAR / "soak.log", filemode="w", format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    for name, why in left_out().items():
        del CAMPAIGNS[name]
        print(f"{name}: left out: {why}", file=sys.stderr)
    sys.exit(main("tests.soak", CAMPAIGNS, summary=reached))
