"""The queue of a bus: jobs by lane, and which of them is asked next."""

from bisect import insort
from collections.abc import Callable, Iterator

from drivers.job import URGENT, Lane
from drivers.run import Run

PASSED_OVER_MAX = 16
"""How often in a row a lane with work is passed over for jobs of higher ones; then a job of it has its turn, unless
somebody waits for an urgent answer. So no lane starves, and the highest keeps at least 10 turns of 16 when all are
full."""

_NEVER = float("inf")


def _key(run: Run) -> tuple[bool, float, int]:
    return run.key


class _Waiting(list[Run]):
    """The jobs of one lane, or those of all lanes in the midst of a reading."""

    __slots__ = ("below", "passed")

    def __init__(self, below: "tuple[_Waiting, ...]") -> None:
        """below: what is passed over when a job of this one is taken."""
        super().__init__()
        self.below = below
        self.passed = 0
        """How often in a row it was passed over."""


class Lanes:
    """Waiting jobs. A higher lane goes first; within a lane, jobs that were asked, then the earliest deadline.

    The urgent lanes go before all others, always: their jobs are few, as somebody waits for each. Events come next, as
    long as that starves nobody. Behind them, a reading that has begun is brought to its end before any other lane is
    looked at: values that belong together are read in a row, and not a few seconds apart for each job that comes
    between them.
    """

    def __init__(self) -> None:
        self._midway = _Waiting(())
        """Jobs of all lanes but the urgent ones, in the midst of a reading."""
        self._all: tuple[_Waiting, ...] = (self._midway,)
        """The lanes from the highest down, and behind them the readings that have begun."""
        for _ in Lane:
            self._all = (_Waiting(self._all), *self._all)
        self._lanes = self._all[:-1]
        self._urgent = [self._lanes[lane] for lane in URGENT]
        self._events = self._lanes[Lane.EVENT]
        self._latest = self._midway
        """Where the latest job was put."""
        self.soonest = _NEVER
        """No deadline is earlier than this (loop time)."""
        self.waiting = 0
        """Jobs in all lanes."""

    def __iter__(self) -> Iterator[Run]:
        for queue in self._all:
            yield from queue

    def put(self, run: Run) -> None:
        """Queue a job, or a job whose next question is due."""
        job = run.job
        if run.asked:
            run.key = (False, *run.key[1:])
            queue = self._midway if run.midway and not run.interrupts else self._lanes[job.lane]
        else:
            queue = self._lanes[job.lane]
        if queue and run.key < queue[-1].key:
            insort(queue, run, key=_key)
        else:  # nearly always
            queue.append(run)
        self._latest = queue
        self.waiting += 1
        if job.deadline < self.soonest:
            self.soonest = job.deadline

    def take(self, ready: Callable[[Run], bool]) -> Run | None:
        """Remove and return the job to ask next, of those that are ready; None when none is."""
        return self.take_urgent(ready) or self.take_patient(ready)

    def take_urgent(self, ready: Callable[[Run], bool]) -> Run | None:
        """The same among the urgent lanes alone."""
        for queue in self._urgent:
            if queue and (run := self._turn(queue, ready)) is not None:
                return run
        return None

    def take_patient(self, ready: Callable[[Run], bool]) -> Run | None:
        """The same when no urgent one is ready."""
        if len(self._latest) == self.waiting:  # all that wait are in one lane: none is passed over
            return self._first(self._latest, ready)
        if self._events and not self._starves(ready) and (run := self._turn(self._events, ready)) is not None:
            return run
        if self._midway and (run := self._first(self._midway, ready)) is not None:
            return run
        starving = [queue for queue in self._lanes if queue.passed >= PASSED_OVER_MAX]
        for queue in (*starving, *self._lanes):
            if queue and (run := self._turn(queue, ready)) is not None:
                return run
        return None

    def remove(self, unwanted: Callable[[Run], bool]) -> list[Run]:
        """Remove and return all jobs for which this holds."""
        removed: list[Run] = []
        for queue in self._all:
            found = [run for run in queue if unwanted(run)]
            if found:
                removed += found
                gone = set(found)
                queue[:] = [run for run in queue if run not in gone]
        self._gone(len(removed))
        return removed

    def expired(self, now: float) -> list[Run]:
        """Remove and return the jobs whose deadline has passed."""
        if now < self.soonest:
            return []
        gone = self.remove(lambda run: run.job.deadline <= now)
        self.soonest = min((run.job.deadline for run in self), default=_NEVER)
        return gone

    def _turn(self, queue: _Waiting, ready: Callable[[Run], bool]) -> Run | None:
        run = self._first(queue, ready)
        if run is not None:
            for lower in queue.below:
                if lower:
                    lower.passed += 1
        return run

    def _starves(self, ready: Callable[[Run], bool]) -> bool:
        """Whether one behind the events was passed over long enough, and has a job that is ready."""
        return any(queue.passed >= PASSED_OVER_MAX and any(map(ready, queue)) for queue in self._events.below)

    def _first(self, queue: _Waiting, ready: Callable[[Run], bool]) -> Run | None:
        for index, run in enumerate(queue):
            if ready(run):
                del queue[index]
                queue.passed = 0
                self._gone(1)
                return run
        return None

    def _gone(self, jobs: int) -> None:
        self.waiting -= jobs
        if not self.waiting:
            self.soonest = _NEVER
