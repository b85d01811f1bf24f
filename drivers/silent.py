"""The silent meters of a bus: when each is asked whether it is back, so that the live ones hardly notice."""

from collections.abc import Iterable

from drivers.run import Standing

SHARE_MAX = 0.10
"""Part of the bus's time that goes to silent meters while live ones have work."""

PROBE_EVERY_S = 50.0
"""Each silent meter is asked this often where time allows: one that comes back is found within 60 s."""

CREDIT_STEP_S = 0.001
"""Whoever waits for credit waits this much longer, so that it is there in spite of rounding."""

IDLE_FACTOR = 8.0
"""With many silent meters a round of probes takes this times its own length even on an idle bus: idle time is free,
but not worth filling. Below the 10 that a busy bus takes, so that the bound is one and the same."""


class Silent:
    """Which silent meter is asked next, and when.

    While live meters have work, probes spend from a credit that grows by a tenth of the time, so a round over n
    meters takes 10 x n x the time of a probe. When one answers, all the others are asked at once, every other turn;
    what that costs is owed to the credit, and no second such sweep begins before it is paid back.
    """

    def __init__(self) -> None:
        self.standings: dict[str, Standing] = {}
        """By the meter's id."""
        self._probe_s: dict[str, float] = {}
        self._credit_s = 0.0
        self._credit_at = 0.0
        self._sweep: dict[str, Standing] = {}
        self._live_turn = False

    @property
    def meters(self) -> tuple[str, ...]:
        """Their ids."""
        return tuple(self.standings)

    def add(self, standing: Standing, *, now: float, probe_s: float) -> None:
        """A meter fell silent; a probe of it takes about probe_s."""
        standing.silent = standing.meter.habits.down = True
        standing.probe_at = now + PROBE_EVERY_S - probe_s
        self.standings[standing.meter.id] = standing
        self._probe_s[standing.meter.id] = probe_s

    def remove(self, standing: Standing, *, now: float) -> None:
        """It answered: ask all the others soon."""
        standing.silent = standing.meter.habits.down = False
        del self.standings[standing.meter.id]
        del self._probe_s[standing.meter.id]
        self._sweep.pop(standing.meter.id, None)
        self._grow(now)
        if not self._sweep and self._credit_s >= 0:
            self._sweep = dict(self.standings)

    def due(self, now: float, *, live_work: bool) -> Standing | None:
        """The meter to probe now, longest waiting first; None when it is the turn of others."""
        if not self.standings:
            return None
        if self._sweep:
            self._live_turn = live_work and not self._live_turn
            chosen = _oldest(self._sweep.values())
            return None if self._live_turn or chosen.quiet_until > now else chosen
        chosen = _oldest(self.standings.values())
        if chosen.probe_at > now or chosen.quiet_until > now:
            return None
        if live_work:
            self._grow(now)
            if self._credit_s < self._probe_s[chosen.meter.id]:
                return None
        return chosen

    def probed(self, standing: Standing, *, began: float, ended: float, live_work: bool) -> None:
        """A probe took this long, while live meters had work or not, and was not answered."""
        self._grow(ended)
        if live_work:
            self._credit_s -= ended - began
        self._sweep.pop(standing.meter.id, None)
        self._probe_s[standing.meter.id] = ended - began
        standing.probe_at = began + max(PROBE_EVERY_S, IDLE_FACTOR * sum(self._probe_s.values()))

    def left_alone(self, standing: Standing) -> None:
        """One of them is left alone after a defect of ours: it is the turn of others."""
        self._sweep.pop(standing.meter.id, None)
        standing.probe_at = max(standing.probe_at, standing.blocked_until)

    def next_due(self, now: float, *, live_work: bool) -> float:
        """When the next probe is due (loop time); infinity when nobody is silent. live_work: whether live meters have
        work, none of which can be asked now: probes then still wait for their credit."""
        if not self.standings:
            return float("inf")
        if self._sweep:
            return _oldest(self._sweep.values()).quiet_until
        chosen = _oldest(self.standings.values())
        due_at = max(chosen.probe_at, chosen.quiet_until)
        if live_work:
            self._grow(now)
            lacking_s = self._probe_s[chosen.meter.id] - self._credit_s
            due_at = max(due_at, now + lacking_s / SHARE_MAX + CREDIT_STEP_S)
        return due_at

    def _grow(self, now: float) -> None:
        """Credit grows by the share of the time, and is hardly hoarded: at most for two of the dearest probes."""
        self._credit_s += SHARE_MAX * max(0.0, now - self._credit_at)
        self._credit_at = max(now, self._credit_at)
        self._credit_s = min(self._credit_s, 2 * max(self._probe_s.values(), default=0.0))


def _oldest(standings: Iterable[Standing]) -> Standing:
    return min(standings, key=lambda standing: standing.probe_at)
