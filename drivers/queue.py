"""What waits on a bus, and which of it goes next: live meters by lane, silent ones when their time has come."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import count

from drivers.job import Job, Lane
from drivers.lanes import Lanes
from drivers.run import Run, Standing, nobody
from drivers.silent import Silent

_NEVER = float("inf")


class Queue:
    """The jobs of a bus that are not in hand. All times are loop time in seconds."""

    def __init__(self) -> None:
        self._lanes = Lanes()
        self._parked = Lanes()
        """Jobs of silent meters: they wait for the meter to come back, or for their deadline."""
        self._silent = Silent()
        self._order = count()
        self._now = 0.0

    def __len__(self) -> int:
        return self._lanes.waiting + self._parked.waiting

    @property
    def live(self) -> bool:
        """Whether live meters have work."""
        return self._lanes.waiting > 0

    @property
    def silent(self) -> tuple[str, ...]:
        """Ids of the meters that do not answer."""
        return self._silent.meters

    @property
    def soonest(self) -> float:
        """No deadline is earlier than this."""
        return min(self._lanes.soonest, self._parked.soonest)

    def add(self, job: Job, standing: Standing) -> Run:
        """Queue a job of this meter."""
        run = Run(job, standing, next(self._order))
        self.put(run)
        return run

    def put(self, run: Run) -> None:
        """Queue a job whose next question is due."""
        (self._parked if run.standing.silent and not run.urgent else self._lanes).put(run)

    def blocked(self, now: float) -> bool:
        """Whether no job of a live meter can be asked soon: none waits, or of such only as were left alone after a
        defect."""
        return not self.live or all(run.standing.blocked_until > now and not run.urgent for run in self._lanes)

    def take(self, now: float) -> Run | None:
        """The job whose question goes next: an urgent one, of a silent meter when its time has come, else by lane."""
        self._now = now
        lanes, silent = self._lanes, self._silent
        if (run := lanes.take_urgent(self._ready)) is not None:
            return run
        live = lanes.waiting > 0
        if silent.standings and (standing := silent.due(now, live_work=live)) is not None:
            return self._probe(standing)
        if not live:
            return None
        if (run := lanes.take_patient(self._ready)) is not None:
            return run
        if silent.standings and (standing := silent.due(now, live_work=True)) is not None:
            return self._probe(standing)
        return None

    def next_event(self, now: float) -> float:
        """When something may be ready again, with nothing ready now."""
        soonest = min(self.soonest, self._silent.next_due(now, live_work=self.live))
        for run in self._lanes:
            standing = run.standing
            ready_at = standing.quiet_until if run.urgent else max(standing.quiet_until, standing.blocked_until)
            if ready_at > now:
                soonest = min(soonest, ready_at)
        return soonest

    def expired(self, now: float) -> Sequence[Run]:
        """Remove and return the jobs whose deadline has passed."""
        if now < self._lanes.soonest and now < self._parked.soonest:
            return ()
        return [*self._lanes.expired(now), *self._parked.expired(now)]

    def clear(self) -> list[Run]:
        """Remove and return all."""
        return [*self._lanes.remove(_any), *self._parked.remove(_any)]

    def fell_silent(self, standing: Standing, *, now: float, probe_s: float) -> None:
        """A meter does not answer: its jobs wait for it to come back, those apart that somebody waits for. A probe of
        it takes about probe_s."""
        self._silent.add(standing, now=now, probe_s=probe_s)
        for run in self._lanes.remove(lambda run: run.standing is standing and not run.urgent):
            if not run.once:
                run.drop()
            self._parked.put(run)

    def probed(self, standing: Standing, *, began: float, ended: float, live_work: bool) -> None:
        """A silent meter was asked, while live ones had work or not, and did not answer."""
        self._silent.probed(standing, began=began, ended=ended, live_work=live_work)

    def left_alone(self, standing: Standing) -> None:
        """A meter is left alone after a defect of ours, whether it is silent or not."""
        if standing.silent:
            self._silent.left_alone(standing)

    def came_back(self, standing: Standing, *, now: float) -> None:
        """It answered: its jobs are as any others again."""
        self._silent.remove(standing, now=now)
        for run in self._parked.remove(lambda run: run.standing is standing):
            self._lanes.put(run)

    def _ready(self, run: Run) -> bool:
        standing = run.standing
        return (
            standing.quiet_until <= self._now
            and (standing.blocked_until <= self._now or run.urgent)
            and (standing.held_by is None or standing.held_by is run)
        )

    def _probe(self, standing: Standing) -> Run:
        run = self._parked.take(lambda run: run.standing is standing)
        if run is None:
            assert standing.probe is not None
            bare = replace(standing.probe, done=nobody, deadline=_NEVER, lane=Lane.BACKFILL)  # nobody waits for it
            run = Run(bare, standing, next(self._order))
        return run


def _any(run: Run) -> bool:
    return True
