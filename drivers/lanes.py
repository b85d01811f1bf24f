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


class Lanes:
    """Waiting jobs. A higher lane goes first; within a lane, jobs that have begun, then the earliest deadline.

    The urgent lanes go before all others, always: their jobs are few, as somebody waits for each. Events come next, as
    long as that starves nobody. Behind them, a reading that has begun is brought to its end before any other lane is
    looked at: values that belong together are read in a row, and not a few seconds apart for each job that comes
    between them.
    """

    def __init__(self) -> None:
        self._lanes: tuple[list[Run], ...] = tuple([] for _ in Lane)
        self._midway: list[Run] = []
        """Jobs of all lanes but the urgent ones, in the midst of a reading."""
        self._all = (*self._lanes, self._midway)
        self._passed = [0] * (len(Lane) + 1)
        """Of each lane, and of the readings that have begun, how often in a row it was passed over."""
        self.soonest = _NEVER
        """No deadline is earlier than this (loop time)."""
        self.waiting = 0
        """Jobs in all lanes."""

    def __iter__(self) -> Iterator[Run]:
        for queue in self._all:
            yield from queue

    def put(self, run: Run) -> None:
        """Queue a job, or a job whose next question is due."""
        insort(self._midway if run.midway and not run.interrupts else self._lanes[run.job.lane], run, key=_key)
        if run.job.deadline < self.soonest:
            self.soonest = run.job.deadline
        self.waiting += 1

    def take(self, ready: Callable[[Run], bool]) -> Run | None:
        """Remove and return the job to ask next, of those that are ready; None when none is."""
        return self.take_urgent(ready) or self.take_patient(ready)

    def take_patient(self, ready: Callable[[Run], bool]) -> Run | None:
        """The same when no urgent one is ready."""
        if self._lanes[Lane.EVENT] and not self._starves(ready) and (run := self._turn(Lane.EVENT, ready)) is not None:
            return run
        if self._midway and (run := self._first(self._midway, ready)) is not None:
            self._passed[-1] = 0
            return run
        for lane, passed in enumerate(self._passed[:-1]):
            if passed >= PASSED_OVER_MAX and (run := self._turn(lane, ready)) is not None:
                return run
        for lane, queue in enumerate(self._lanes):
            if queue and (run := self._turn(lane, ready)) is not None:
                return run
        return None

    def take_urgent(self, ready: Callable[[Run], bool]) -> Run | None:
        """The same among the urgent lanes alone."""
        for lane in URGENT:
            if self._lanes[lane] and (run := self._turn(lane, ready)) is not None:
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

    def _turn(self, lane: int, ready: Callable[[Run], bool]) -> Run | None:
        run = self._first(self._lanes[lane], ready)
        if run is not None:
            self._passed[lane] = 0
            for lower in range(lane + 1, len(self._all)):
                if self._all[lower]:
                    self._passed[lower] += 1
        return run

    def _starves(self, ready: Callable[[Run], bool]) -> bool:
        """Whether one behind the events was passed over long enough, and has a job that is ready."""
        passed, behind = self._passed, range(Lane.EVENT + 1, len(self._all))
        return max(passed) >= PASSED_OVER_MAX and any(
            passed[n] >= PASSED_OVER_MAX and any(map(ready, self._all[n])) for n in behind
        )

    def _first(self, queue: list[Run], ready: Callable[[Run], bool]) -> Run | None:
        for index, run in enumerate(queue):
            if ready(run):
                del queue[index]
                self._gone(1)
                return run
        return None

    def _gone(self, jobs: int) -> None:
        self.waiting -= jobs
        if not self.waiting:
            self.soonest = _NEVER
