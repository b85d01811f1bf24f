"""A meter on its bus: how it is talked to, how fast it answers, and what a job's outcome says about its point."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from math import ceil
from typing import Any
from zoneinfo import ZoneInfo

from config.model import BusEntry, MeterEntry, ProtocolName, SerialSettings, TaskEntry
from drivers.habits import Habits
from drivers.outcome import Outcome
from drivers.profile import Profile
from protocols.capture import Capture, Fault, Gap, Source, TimeState, Value
from protocols.dialogue import Ask, Deframer
from protocols.dlt645 import frame as dlt645
from protocols.modbus.ascii import AsciiDeframer
from protocols.modbus.frame import RtuDeframer
from protocols.modbus.stream import TcpReplies

INTER_BYTE_S_645 = 0.5
"""Longest pause inside a frame: DL/T 645-2007 §5 (transmission rules), Tb at most 500 ms."""

INTER_BYTE_S_MODBUS = 0.05
"""Longest pause inside an RTU frame. The specification's t1.5 and t3.5 cannot be seen behind USB adapters (latency
timer 16 ms) and serial servers (packing up to some 40 ms); this is above both. Where t3.5 is longer, it holds."""

INTER_BYTE_S_ASCII = 1.0
"""Longest pause between two characters of an ASCII frame: Modbus over serial line V1.02 §2.5.2.1."""

T35_CHARACTERS, T35_S_MIN, T35_FIXED_ABOVE = 3.5, 0.00175, 19200
"""The silence around an RTU frame: Modbus over serial line V1.02 §2.5.1.1; fixed at 1.75 ms above 19200 baud."""

MARGIN_S, MARGIN_S_TCP = 0.05, 0.25
"""What a time-out allows besides wire time and turnaround: drivers and schedulers here; a route and a far end's
packing of bytes with TCP."""

MARGIN_CHARACTERS = 8
"""Wake-up bytes and turn-round glitches that a reply may carry besides its longest right form."""

TURNAROUND_S_MIN = 0.1
"""No time-out allows less for the meter, however fast it has been: meters pause now and then for their own work."""

SLOWEST_FACTOR, SLOWEST_FADE = 2.0, 0.98
"""The allowance is twice the slowest answer; each faster one lets that memory fade by 2 %."""

USUAL_OVER = 16
"""Answers over which the usual turnaround is taken."""

_TELLING = (
    Fault.INTERNAL, Fault.BUS, Fault.CLOCK, Fault.GARBLED, Fault.SILENT, Fault.IMPLAUSIBLE, Fault.REFUSED,
    Fault.ABSENT, Fault.MISSED, Fault.DROPPED,
)  # fmt: skip
"""Of several reasons why a slot has nothing, the first of these is the reason of the slot."""


_DEFRAMERS: Mapping[ProtocolName, Callable[[], Deframer[Any]]] = {
    "dlt645-2007": dlt645.Deframer,
    "dlt645-1997": dlt645.Deframer,
    "modbus-rtu": RtuDeframer,
    "modbus-tcp": TcpReplies,
    "modbus-ascii": AsciiDeframer,
}


class Meter:
    """One meter. Its bus learns its speed here; everything else is fixed."""

    def __init__(self, entry: MeterEntry, profile: Profile, bus: BusEntry) -> None:
        self.entry = entry
        self.profile = profile
        self.id = entry.id
        self.settings: SerialSettings = entry.serial or bus.serial
        rtu, tcp = entry.protocol == "modbus-rtu", entry.protocol == "modbus-tcp"
        self._deframer = _DEFRAMERS[entry.protocol]
        self.character_s = 0.0 if tcp else self.settings.character_s
        """Seconds a character takes on the wire; 0 where there is no serial line to speak of."""
        self.gap_s = profile.min_gap_ms / 1000
        """Quiet before a question to this meter."""
        self.silence_s = 0.0
        """Quiet behind its answer, before whatever comes next on the wire."""
        self.inter_byte_s = INTER_BYTE_S_645
        """A pause this long ends a frame that has begun."""
        if rtu:
            t35_s = self.silence_s = t35(self.settings)
            self.gap_s = max(self.gap_s, t35_s)
            self.inter_byte_s = max(INTER_BYTE_S_MODBUS, t35_s)
        elif entry.protocol == "modbus-ascii":
            self.inter_byte_s = INTER_BYTE_S_ASCII
        self.nameless = rtu or entry.protocol == "modbus-ascii"
        """Whether nothing in its answers says which question they answer."""
        self.double_s: float = self.inter_byte_s if self.nameless else INTER_BYTE_S_MODBUS
        """How long after an answer the same may come once more: as long as a pause inside one, where all answers look
        alike. Where they are named only refusals do, and such a pause is too dear for them."""
        self.attempts = profile.attempts
        self.numbered = tcp
        """Whether its answers carry the number of their question."""
        self._margin_s = (MARGIN_S_TCP if bus.port.startswith("tcp://") else MARGIN_S) + (
            MARGIN_CHARACTERS * self.character_s
        )
        self._turnaround_s_max = profile.turnaround_ms_max / 1000
        self._late_s = profile.late_max_ms / 1000
        self._slowest_s: float | None = None
        self.turnaround_s = self._turnaround_s_max
        """What is allowed between question and answer: the profile's maximum until something is learned."""
        self._usual_s: float | None = None
        self.habits = Habits()
        """What it refuses, and how soon it answers: its plans follow."""

    def deframer(self) -> Deframer[Any]:
        """A fresh one: nothing of one exchange is left for the next."""
        return self._deframer()

    def timeout_s(self, ask: Ask[Any]) -> float:
        """From the first byte of the question: both on the wire, the meter's turnaround as learned, and a margin."""
        return self._wire_s(ask) + self.turnaround_s + self._margin_s

    def longest_s(self, ask: Ask[Any]) -> float:
        """The same before anything is learned: from here on an answer is late."""
        return self._wire_s(ask) + self._turnaround_s_max + self._margin_s

    def _wire_s(self, ask: Ask[Any]) -> float:
        return (len(ask.data) + ask.reply_max) * self.character_s

    @property
    def late_s(self) -> float:
        """How long after a time-out, or another uncertain end, the answer may still come: `late_max_ms`, or longer
        where it was seen to come later, and what a time-out that was learned to be shorter than the profile's has left
        of that one."""
        late = self.habits.late
        late_s = self._late_s if late is None else max(self._late_s, late[0] / 1000)
        return late_s + self._turnaround_s_max - self.turnaround_s

    @property
    def apart_s(self) -> float:
        """How long after an answer one to the question before it may come. Where no answer says what it answers, one
        that came twice may have been taken for the next one's, whose own is then taken for that of the one after."""
        return self.turnaround_s + self._margin_s if self.nameless else 0.0

    def was_late(self, late_s: float) -> bool:
        """An answer came so long after the longest time-out (see `longest_s`): learn from it. Whether that is news."""
        return self.habits.was_late(late_s * 1000, profile_ms=self._late_s * 1000)

    def answered(self, turnaround_s: float) -> None:
        """Learn from an answer."""
        if self._slowest_s is None:
            self.habits.answers_again()
        faded = 0.0 if self._slowest_s is None else self._slowest_s * SLOWEST_FADE
        self._slowest(max(faded, turnaround_s))
        usual_s = self._usual_s
        self._usual_s = turnaround_s if usual_s is None else usual_s + (turnaround_s - usual_s) / USUAL_OVER

    @property
    def learned_ms(self) -> tuple[int, int] | None:
        """Its slowest answer of late and its usual one, in milliseconds; None before it has answered."""
        if self._slowest_s is None or self._usual_s is None:
            return None
        return ceil(self._slowest_s * 1000), ceil(self._usual_s * 1000)

    def recall(self, slowest_ms: int, usual_ms: int) -> None:
        """Begin with what was learned before a restart. If that is too little now, the first time-out forgets it."""
        self._slowest(slowest_ms / 1000)
        self._usual_s = usual_ms / 1000
        self.habits.answers_in(usual_ms)

    def unanswered(self) -> None:
        """The next question waits as long as the profile says: what was learned may have been too little."""
        self._slowest_s, self.turnaround_s = None, self._turnaround_s_max

    def _slowest(self, seconds: float) -> None:
        self._slowest_s = seconds
        self.turnaround_s = min(self._turnaround_s_max, max(TURNAROUND_S_MIN, SLOWEST_FACTOR * seconds))

    def capture(
        self,
        task: TaskEntry,
        slot: int,
        outcome: Outcome,
        *,
        now_ms: int,
        zone: ZoneInfo,
        time_state: TimeState = TimeState.TRUSTED,
    ) -> Capture | Gap:
        """What the outcome of a job says for a slot: a Capture, or a Gap when every item failed.

        Stamped with the slot when read within the task's `slot_tolerance_s` of it, else with its own time.
        """
        values = outcome.values
        if not values or outcome.read_at is None or all(value.fault is not None for value in values):
            fault, detail = _reason(outcome)
            return Gap(meter=self.id, task=task.name, slot=slot, fault=fault, detail=detail, opened_at=now_ms)
        read_at = outcome.read_at
        near = abs(read_at - slot) <= task.slot_tolerance_s * 1000
        return Capture(
            meter=self.id,
            point=self.entry.point,
            task=task.name,
            slot=slot,
            stamp=slot if near else read_at,
            read_at=read_at,
            time_state=time_state,
            clock_error_ms=clock_error_ms(values, read_at=read_at, zone=zone),
            source=Source.METER_LIVE,
            ct=self.entry.ct,
            pt=self.entry.pt,
            values=values,
        )


def t35(settings: SerialSettings) -> float:
    """Seconds of silence that part two RTU frames."""
    return T35_S_MIN if settings.baud > T35_FIXED_ABOVE else T35_CHARACTERS * settings.character_s


def clock_error_ms(values: Sequence[Value], *, read_at: int, zone: ZoneInfo) -> int | None:
    """The meter's clock minus ours, where its date and time are among the values; to about a second.

    A meter keeps the civil time of its site. Where a zone repeats an hour, the reading nearest to ours is taken.
    """
    told = {value.quantity.name: value.time for value in values if value.time is not None}
    date, time = told.get("clock.date"), told.get("clock.time")
    text = told.get("clock") or (f"{date}T{time}" if date and time else None)
    if text is None:
        return None
    try:
        local = datetime.fromisoformat(text)
    except ValueError:
        return None  # parts of it are unknown: it says nothing about the clock
    if local.tzinfo is not None:
        return None
    errors = (round(local.replace(tzinfo=zone, fold=fold).timestamp() * 1000) - read_at for fold in (0, 1))
    return min(errors, key=abs)


def _reason(outcome: Outcome) -> tuple[Fault, str | None]:
    if outcome.fault is not None:
        return outcome.fault, outcome.detail
    values = outcome.values or ()
    for fault in _TELLING:
        for value in values:
            if value.fault is fault:
                return fault, value.detail
    return Fault.INTERNAL, "a dialogue that gave neither a value nor a reason"
