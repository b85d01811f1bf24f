"""What a fuzz campaign is: inputs drawn from a seed, each of them within its bounds, or a finding."""

import time
import tracemalloc
from collections.abc import Callable
from contextlib import AbstractContextManager
from random import Random
from typing import NamedTuple

from protocols.errors import ProtocolError

INPUT_S_MAX = 0.05
"""Of processor time: a busy machine is no finding."""
MEMORY_MAX = 32 << 20
MEMORY_EVERY = 50
"""Memory is measured for one input in so many, as measuring makes them slow."""


class Finding(AssertionError):
    """An input that breaks what was promised. Says which, and how."""


class Case(NamedTuple):
    """One input, and what is done with it: it may return, or raise ProtocolError."""

    data: bytes
    run: Callable[[], object]


Make = Callable[[Random], Case]
Stage = Callable[[], AbstractContextManager[Make]]
"""What makes the cases of a campaign, with what they need around them."""


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
        if spent_s > INPUT_S_MAX:
            spent_s = min(spent_s, _run(case)[0])
    if spent_s > INPUT_S_MAX:
        raise Finding(f"{spent_s * 1000:.0f} ms of processor time, at most {INPUT_S_MAX * 1000:.0f}")
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
    except ProtocolError:
        taken = False
    return time.thread_time() - began, taken
