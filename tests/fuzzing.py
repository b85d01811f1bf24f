"""What fuzzing is: decoders and the bytes given to them, each input within its bounds, or a finding.

Two engines drive one set of targets: `tests.guided` follows coverage (atheris), `campaign` here damages blindly.
"""

import time
import tracemalloc
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any, NamedTuple

from config.mistake import ConfigError
from protocols.errors import ProtocolError
from tests.mutation import mutate

INPUT_S_MAX = 0.05
"""Of processor time: a busy machine is no finding."""
MEMORY_MAX = 32 << 20
MEMORY_EVERY = 50
"""Memory is measured for one input in so many, as measuring makes them slow."""


class Finding(AssertionError):
    """An input that breaks what was promised. Says which, and how."""


class TooLong(Finding):
    """Too much processor time. Beneath an instrument that slows everything down it proves nothing."""


def _nothing(_: object) -> None:
    """What is returned needs no look."""


class Case(NamedTuple):
    """One input, and what is done with it: it may return, or raise ProtocolError (of a configuration: ConfigError)."""

    data: bytes
    run: Callable[[], object]
    check: Callable[[Any], object] = _nothing
    """Looks at what came of it, and takes the time that it needs. Raises AssertionError."""


Make = Callable[[Random], Case]
Stage = Callable[[], AbstractContextManager[Make]]
"""What makes the cases of a campaign, with what they need around them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A decoder under fuzzing.

    run: takes any bytes at all, and may do what a Case may; check is a Case's. made: what `run` gets for an input.
    seeds: inputs that get far, to begin with. mend: the bytes with lengths and checksums put right, so that damage gets
    past them; the same for the same bytes and random.
    """

    run: Callable[[bytes], object]
    check: Callable[[Any], object] = _nothing
    made: Callable[[bytes], bytes] = lambda data: data
    seeds: Callable[[], Sequence[bytes]]
    mend: Callable[[Random, bytes], bytes] = lambda _, data: data
    size_max: int = 1024

    def case(self, data: bytes) -> Case:
        """One input."""
        return Case(data, partial(self.run, self.made(data)), self.check)

    def damaged(self, random: Random, data: bytes, others: Sequence[bytes] = ()) -> bytes:
        """The bytes with some damage, mostly mended behind it; or with what mending itself does to them."""
        changed = mutate(random, data, others)[: self.size_max] if random.randrange(4) else data
        return (self.mend(random, changed) if random.randrange(4) else changed)[: self.size_max]


def blindly(target: Target) -> Stage:
    """Inputs of a target that are its seeds, damaged."""

    def stage() -> AbstractContextManager[Make]:
        seeds = target.seeds()

        def make(random: Random) -> Case:
            return target.case(target.damaged(random, random.choice(seeds), seeds))

        return nullcontext(make)

    return stage


def campaign(seed: int, *, stage: Stage, inputs: int) -> str:
    """Try so many inputs drawn from the seed. Raises Finding at the first that breaks a promise."""
    random = Random(seed)
    refused = 0
    with stage() as make:
        for number in range(inputs):
            case = make(random)
            try:
                refused += not bounded(case, memory=number % MEMORY_EVERY == 0)
            except Exception as error:  # whatever it is, it is no ProtocolError
                what = f"{type(error).__name__}: {error}"
                raise Finding(f"input {number}: {what[:300]}: {case.data[:600].hex()}") from error
    return f"{inputs} inputs, {refused} refused"


def bounded(case: Case, *, memory: bool = False, runs: int = 3) -> bool:
    """Run a case; whether it was taken, and not refused. Raises Finding beyond its bounds, and what the case raises.

    runs: how often it is tried to be quick enough; a collection of garbage may have come in between.
    """
    spent_s, taken, found = _run(case)
    if taken:
        case.check(found)
    for _ in range(runs - 1):
        if spent_s > INPUT_S_MAX:
            spent_s = min(spent_s, _run(case)[0])
    if spent_s > INPUT_S_MAX:
        raise TooLong(f"{spent_s * 1000:.0f} ms of processor time, at most {INPUT_S_MAX * 1000:.0f}")
    if memory:
        tracemalloc.start()
        try:
            _run(case)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        if peak > MEMORY_MAX:
            raise Finding(f"{peak / (1 << 20):.1f} MiB, at most {MEMORY_MAX >> 20}")
    return taken


def _run(case: Case) -> tuple[float, bool, object]:
    began = time.thread_time()
    taken, found = True, None
    try:
        found = case.run()
    except (ProtocolError, ConfigError):
        taken = False
    return time.thread_time() - began, taken, found
