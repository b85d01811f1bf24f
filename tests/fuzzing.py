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
from typing import NamedTuple

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


class Case(NamedTuple):
    """One input, and what is done with it: it may return, or raise ProtocolError (of a configuration: ConfigError)."""

    data: bytes
    run: Callable[[], object]
    limit_s: float = INPUT_S_MAX
    """Of processor time."""


Make = Callable[[Random], Case]
Stage = Callable[[], AbstractContextManager[Make]]
"""What makes the cases of a campaign, with what they need around them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A decoder under fuzzing.

    run: takes any bytes at all, and may do what a Case may. seeds: inputs that get far, to begin with. mend: the bytes
    with lengths and checksums put right, so that damage gets past them; the same for the same bytes and random.
    """

    run: Callable[[bytes], object]
    seeds: Callable[[], Sequence[bytes]]
    mend: Callable[[Random, bytes], bytes] = lambda _, data: data
    size_max: int = 1024
    limit_s: float = INPUT_S_MAX

    def case(self, data: bytes) -> Case:
        """One input."""
        return Case(data, partial(self.run, data), self.limit_s)

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


def bounded(case: Case, *, memory: bool = False) -> bool:
    """Run a case; whether it was taken, and not refused. Raises Finding beyond its bounds, and what the case raises."""
    spent_s, taken = _run(case)
    for _ in range(2):  # a collection of garbage may have come in between
        if spent_s > case.limit_s:
            spent_s = min(spent_s, _run(case)[0])
    if spent_s > case.limit_s:
        raise TooLong(f"{spent_s * 1000:.0f} ms of processor time, at most {case.limit_s * 1000:.0f}")
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


def _run(case: Case) -> tuple[float, bool]:
    began = time.thread_time()
    taken = True
    try:
        case.run()
    except (ProtocolError, ConfigError):
        taken = False
    return time.thread_time() - began, taken
