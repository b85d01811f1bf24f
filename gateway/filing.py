"""How a slot ends: as a capture, checked and with its evidence, or as a gap with its reason; counted, and given on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from zoneinfo import ZoneInfo

from drivers.bus import Evidence, Outcome
from gateway.intake import Intake
from gateway.series import Series
from gateway.today import Today
from protocols.capture import Capture, Fault, Gap, Quality


@dataclass(slots=True)
class ScheduleCounters:
    """What became of slots since the start."""

    asked: int = 0
    captured: int = 0
    gaps: int = 0
    missed: int = 0
    """Of the gaps: slots that were never asked, or not answered before the next."""
    clock_jumps: int = 0
    postponed: int = 0
    """Times that slots came due while the store could take no more."""
    late: int = 0
    """Answers that came after their slot had been given up; kept all the same."""


class Filing:
    """Makes the record of a slot that was asked, and adds it to the intake."""

    def __init__(
        self,
        *,
        intake: Intake,
        now_ms: Callable[[], int],
        zone: str,
        check: Callable[[Capture], Capture],
        today: Today,
        evidence: Evidence | None = None,
    ) -> None:
        self.counters = ScheduleCounters()
        self._intake = intake
        self._now_ms = now_ms
        self._zone = ZoneInfo(zone)
        self._check = check
        self._today = today
        self._evidence = evidence

    def outcome(self, series: Series, slot: int, outcome: Outcome) -> None:
        """What the bus said of a slot: a capture, or the gap that it is the reason for."""
        record = series.meter.capture(series.task, slot, outcome, now_ms=self._now_ms(), zone=self._zone)
        if isinstance(record, Capture):
            self.counters.captured += 1
            record = self._check(record)
            self._keep_evidence(series, record, outcome)
        else:
            self.counters.gaps += 1
            self.counters.missed += record.fault is Fault.MISSED
        self._today.take(record, self._now_ms())
        for part in self._parts(series, slot, outcome, record):
            self._intake.add(part)

    def unanswered(self, series: Series, slot: int) -> None:
        """Give a slot up whose job is still with the bus, as the next has come."""
        self.counters.gaps += 1
        self.counters.missed += 1
        gap = self.gap(series, slot, Fault.MISSED, "not answered before the next slot")
        self._today.take(gap, self._now_ms())
        self._intake.add(gap)

    def gap(self, series: Series, slot: int, fault: Fault, detail: str) -> Gap:
        """A gap of now, neither counted nor given on."""
        return Gap(
            meter=series.meter.id, task=series.task.name, slot=slot, fault=fault, detail=detail,
            opened_at=self._now_ms(),
        )  # fmt: skip

    def _parts(self, series: Series, slot: int, outcome: Outcome, record: Capture | Gap) -> Sequence[Capture | Gap]:
        """The record of a slot; a capture of values that were read over more than a moment is several, each with its
        own `read_at`. They are added together, so that a store has all of them or none."""
        if isinstance(record, Gap):
            return [record]
        moments = replace(outcome, values=record.values).moments()
        if len(moments) == 1 and moments[0].read_at == record.read_at:
            return [record]
        return [
            series.meter.capture(series.task, slot, moment, now_ms=self._now_ms(), zone=self._zone)
            for moment in moments
        ]

    def _keep_evidence(self, series: Series, capture: Capture, outcome: Outcome) -> None:
        """Keep what was on the wire of readings that bills are made of, and of such as cannot quite be true."""
        doubtful = any(value.quality in (Quality.DOUBTFUL, Quality.INVALID) for value in capture.values)
        if self._evidence is None or not (doubtful or series.billed):
            return
        reason = "doubtful" if doubtful else "billing"
        for sent, seen in outcome.frames:
            self._evidence.note(bus=series.meter.entry.bus, meter=capture.meter, at=capture.read_at, reason=reason,
                                sent=sent, seen=seen)  # fmt: skip
