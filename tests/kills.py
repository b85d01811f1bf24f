"""A site whose gateway, broker and subscriber are killed (SIGKILL) at moments drawn from a seed, and then the truth.

`campaign` is one run of it, for the suite and for long soaks, over mosquitto with TLS, client certificates and an ACL.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from field.truth import Truth
from tests.broker import Certificates, make_certificates, running_broker
from tests.stage import Stage, staged

PAUSE_S = (0.1, 2.0)
"""Between one kill and the next: the shortest and the longest."""
DOWN_S_MAX = 2.0
"""How long what was killed stays dead; one in three is started again at once."""


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


def campaign(
    *, seed: int, kills: int, directory: Path, certificates: Certificates | None = None, parts: Sequence[str] = ()
) -> Truth:
    """Run a site, kill its parts, let it agree again: the verdict, with every slot planned in that time.

    directory: new and empty. parts: the victims, by default all three. Prints the seed and each kill.
    """
    random = Random(seed)
    # Mosquitto forgets what it has not saved: with its own default all of it; with 1 s it comes back with old news.
    autosave_s = random.choice((1800, 1))
    print(f"seed {seed}: {kills} kills, autosave {autosave_s} s, below {directory}", flush=True)
    certificates = certificates or make_certificates(directory / "ca")
    with (
        running_broker(certificates=certificates, autosave_s=autosave_s) as broker,
        staged(directory, broker, meters=4, every_s=5) as stage,
    ):
        stage.chain.start()
        _kill_all(stage, draw_kills(random, kills, parts or tuple(stage.parts)))
        return stage.verdict()


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
