"""One simulated bus: a wire with meters on it, exact in time, with faults drawn from a seed.

A character takes its bits divided by the baud rate. A question begins when it is written (or when the one before has
left), its answer begins the meter's turnaround after its last bit, and arrives when its own last bit has. Bytes that
are on the wire at the same time spoil each other. All times are of the running loop, so the wire is as exact in virtual
time as its arithmetic, and a real-time wire keeps the same times as well as the machine can.

Three faces: `MemoryLine` here, a pty and a TCP server in `simulators.endpoints`.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Literal

from config.model import SerialSettings
from drivers.line import ParityCheck, PortLost
from protocols.dlt645.frame import Frame as Dlt645Frame
from protocols.modbus.frame import Frame as ModbusFrame
from simulators.answer import Answer
from simulators.dlt645 import Dlt645Meter
from simulators.ear import Ear, Question
from simulators.meter import SimulatedMeter
from simulators.mischief import Mischief
from simulators.noise import QUIET, Faults, disturb
from simulators.truth import Served, ServedLog

Match = Literal["settings", "baud", "none"]
"""What of a meter's line settings must be those of the line before it hears anything."""


BABBLE_S = 0.5
"""How long after a question somebody begins to babble, at most."""


@dataclass(slots=True, kw_only=True)
class Sound:
    """Bytes on the wire from `start` to `end`, on their way to the asker."""

    start: float
    end: float
    data: bytes
    """As they will arrive."""
    sent: bytes
    """As a meter that does nothing wrong would send them."""
    said: bytes = b""
    """As they were really sent, before the wire did anything to them."""
    meter: str | None = None
    """Whose answer it is; None for echoes and what is nobody's."""
    values: dict[str, str] = field(default_factory=dict)
    delivered: int = 0
    pauses: list[tuple[int, float]] = field(default_factory=list)
    """Behind how many bytes it pauses, and for how many seconds."""

    def gone(self, at: float, character_s: float) -> int:
        """How many of its bytes are over at this time."""
        spent = at - self.start
        for cut, pause_s in self.pauses:
            if spent <= cut * character_s:
                break
            spent = max(cut * character_s, spent - pause_s)
        return max(0, int(spent / character_s))


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A question on the wire: when it began, and how long nothing at all had been on the wire before it."""

    at: float
    silence_s: float
    data: bytes


class Wire:
    """The bus. `transmit` takes what the asker sends; what arrives goes to `deliver`, set by the face.

    serial: how the asker's end is set; change it with `apply`. match: which settings a meter with settings of its own
    insists on. pieces: bytes that arrive at a time, 0: an answer arrives whole, at its end. check_parity: the asker's
    end drops bytes of wrong parity (where there is parity).
    """

    def __init__(
        self, meters: Iterable[SimulatedMeter], *, serial: SerialSettings, now_ms: Callable[[], int], seed: int = 0,
        faults: Faults = QUIET, log: ServedLog | None = None, match: Match = "settings", pieces: int = 0,
        check_parity: bool = True,
    ) -> None:  # fmt: skip
        self.meters = list(meters)
        self.faults = faults
        self.log = log if log is not None else ServedLog()
        self.pieces = pieces
        self.check_parity = check_parity
        self.counts: Counter[str] = Counter()
        """Questions heard, answers sent, and each fault that struck."""
        self.wire_s = 0.0
        """Time that bytes were on the wire, both ways."""
        self.turnaround_s = 0.0
        """Time that meters took to begin their answers."""
        self.asked: list[Asked] | None = None
        """Every question, where a trial wants them (and begins with a list)."""
        self.deliver: Callable[[bytes], object] | None = None
        self.heard: Callable[[Sound], None] | None = None
        """Told of everything that was on its way to the asker when its last byte is there: for trials."""
        self._now_ms = now_ms
        self._rng = Random(f"meterwire wire {seed}")
        self._mischief = Mischief(self._rng, self.counts)
        self._match: Match = match
        self._ear = Ear()
        self._sounds: list[Sound] = []
        self._sent_until = 0.0
        self._busy_until = 0.0
        self._by_address: dict[str, list[SimulatedMeter]] = {}
        self._by_unit: dict[int, list[SimulatedMeter]] = {}
        for meter in self.meters:
            if isinstance(meter.meter, Dlt645Meter):
                self._by_address.setdefault(meter.meter.address, []).append(meter)
            else:
                self._by_unit.setdefault(meter.meter.unit, []).append(meter)
        self.apply(serial)

    def apply(self, serial: SerialSettings) -> None:
        """Set the asker's end."""
        self.serial = serial
        self._character_s = serial.character_s

    @property
    def sent_until(self) -> float:
        """Loop time at which the last byte of the asker leaves."""
        return self._sent_until

    def transmit(self, data: bytes) -> None:
        """The asker sends bytes: they leave one after the other, from now on or when those before have left."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        start = max(now, self._sent_until)
        end = self._sent_until = start + len(data) * self._character_s
        self.wire_s += end - start
        if self.asked is not None:
            self.asked.append(Asked(at=start, silence_s=start - self._busy_until, data=data))
        self._busy_until = max(self._busy_until, end)
        heard = disturb(data, self.faults, self._rng, parity=self.serial.parity != "N")
        if self._sounds and self._spoil(start, end):
            heard = self._rng.randbytes(len(data))
        if heard != data:
            self.counts["questions disturbed"] += 1
        if self.faults.echo:
            self._put(Sound(start=start, end=end, data=heard, sent=data, said=data), loop)
        at_ms = self._now_ms() + round((end - now) * 1000)
        if self.faults.babble and self._mischief.strikes("babble", self.faults.babble):
            self.say(self._rng.randbytes(self._rng.randint(1, 40)), after_s=self._rng.uniform(0.0, BABBLE_S))
        for question in self._ear.hear(heard, start):
            for meter in self._listeners(question):
                self._ask(meter, question, end, at_ms, loop)

    def say(self, data: bytes, *, after_s: float = 0.0) -> None:
        """Put somebody else's bytes on the wire, so long from now: for trials."""
        loop = asyncio.get_running_loop()
        start = loop.time() + after_s
        self._put(Sound(start=start, end=start + len(data) * self._character_s, data=data, sent=data, said=data), loop)

    def _listeners(self, question: Question) -> list[SimulatedMeter]:
        if isinstance(question, ModbusFrame):
            found = self._by_unit.get(question.unit, [])
        else:
            found = self._by_address.get(question.address) or []
            if "A" in question.address:
                found = [m for group in self._by_address.values() for m in group]
        return [meter for meter in found if meter.present and self._hears(meter)]

    def _hears(self, meter: SimulatedMeter) -> bool:
        if meter.serial is None or self._match == "none":
            return True
        return meter.serial == self.serial if self._match == "settings" else meter.serial.baud == self.serial.baud

    def _ask(
        self, meter: SimulatedMeter, question: Question, end: float, at_ms: int, loop: asyncio.AbstractEventLoop
    ) -> None:
        """A meter has heard the whole question at `end`."""
        self.counts["questions"] += 1
        answer = answer_of(meter, question, at_ms)
        if answer is None:
            return
        low, high = meter.turnaround_ms
        turnaround = low / 1000 if low == high else self._rng.uniform(low, high) / 1000
        if isinstance(question, ModbusFrame):
            turnaround = max(turnaround, t3_5(self.serial))
        faults = self.faults
        data = said = answer.data
        cuts: list[tuple[int, float]] = []
        if faults is not QUIET:
            strikes = self._mischief.strikes
            if strikes("silent", faults.silent):
                return
            if strikes("late", faults.late):
                turnaround += self._rng.uniform(*faults.late_ms) / 1000
            said = self._mischief.said(data, question, faults)
            data = disturb(said, faults, self._rng, parity=self.check_parity and self.serial.parity != "N")
            if strikes("pause", faults.pause):
                places = sorted({self._rng.randrange(len(data) + 1) for _ in range(self._rng.randint(1, 3))})
                cuts = [(at, self._rng.uniform(0.0, faults.pause_ms) / 1000) for at in places]
        self.counts["answers"] += 1
        self.turnaround_s += turnaround
        start = end + turnaround
        length = max(len(data), len(answer.data)) * self._character_s
        self.wire_s += length
        sound = Sound(start=start, end=start + length, data=data, sent=answer.data, said=said, meter=meter.id,
                      values=answer.values)  # fmt: skip
        sound.pauses = cuts
        sound.end += sum(pause_s for _, pause_s in cuts)
        self._put(sound, loop)

    def _spoil(self, start: float, end: float) -> bool:
        """Whether something else is on the wire at that time; it is spoilt from the first common bit on."""
        met = [sound for sound in self._sounds if sound.start < end and sound.end > start]
        for sound in met:
            clean = sound.gone(start, self._character_s)
            sound.data = sound.data[:clean] + self._rng.randbytes(max(0, len(sound.data) - clean))
            self.counts["collision"] += 1
        return bool(met)

    def _put(self, sound: Sound, loop: asyncio.AbstractEventLoop) -> None:
        if self._sounds and self._spoil(sound.start, sound.end):
            sound.data = self._rng.randbytes(len(sound.data))
        self._busy_until = max(self._busy_until, sound.end)
        self._sounds.append(sound)
        size = len(sound.data)
        if self.pieces or sound.pauses:
            places = {cut for cut, _ in sound.pauses}
            if self.pieces:
                places |= set(range(self.pieces, size, self.pieces))
            pauses_s = sum(pause_s for _, pause_s in sound.pauses)
            byte_s = (sound.end - sound.start - pauses_s) / max(1, size)
            for cut in sorted(places):
                waited_s = sum(pause_s for at, pause_s in sound.pauses if at < cut)
                loop.call_at(sound.start + cut * byte_s + waited_s, self._arrive, sound, cut)
        loop.call_at(sound.end, self._ended, sound)

    def _arrive(self, sound: Sound, cut: int) -> None:
        piece = sound.data[sound.delivered : cut]
        sound.delivered = cut
        if piece and self.deliver is not None:
            self.deliver(piece)

    def _ended(self, sound: Sound) -> None:
        self._sounds.remove(sound)
        listening = self.deliver is not None
        if self.heard is not None:
            self.heard(sound)
        if sound.meter is not None:
            # What stands around a frame says nothing, nor does the preamble that wakes its hearer (FE begins no Modbus
            # frame).
            intact = listening and sound.sent.lstrip(b"\xfe") in sound.data
            self.log.add(Served(meter=sound.meter, at_ms=self._now_ms(), intact=intact, values=sound.values))
        self._arrive(sound, len(sound.data))  # the asker deals with it at once, and may be asked what it made of it


def answer_of(meter: SimulatedMeter, question: Question, at_ms: int) -> Answer | None:
    """What this meter answers, if the question is in its protocol."""
    if isinstance(meter.meter, Dlt645Meter):
        return meter.meter.answer(question, at_ms) if isinstance(question, Dlt645Frame) else None
    return meter.meter.answer(question, at_ms) if isinstance(question, ModbusFrame) else None


def t3_5(serial: SerialSettings) -> float:
    """Seconds of quiet that end a Modbus RTU frame: 3.5 characters, 1.75 ms above 19200 baud (MODBUS over Serial Line
    V1.02, §2.5.1.1)."""
    return 3.5 * serial.character_s if serial.baud <= 19200 else 0.00175


class MemoryLine:
    """The asker's end of a wire in memory: a `Line` of `drivers.line`. Parity is enforced where there is parity."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._lost: Callable[[Exception], None] | None = None
        self._gone: Exception | None = None

    @property
    def parity(self) -> ParityCheck:
        """enforced, or none for 8N1; unverified when the wire does not check it."""
        if self._wire.serial.parity == "N":
            return "none"
        return "enforced" if self._wire.check_parity else "unverified"

    def attach(self, receive: Callable[[bytes], object], lost: Callable[[Exception], None]) -> None:
        """Deliver what arrives to `receive`; call `lost` once when the line is torn."""
        self._wire.deliver = receive
        self._lost = lost

    def write(self, data: bytes, unwanted_s: float = 0.0) -> None:
        """Begin to send. Raises PortLost when the line was torn or closed."""
        if self._gone is not None:
            raise PortLost(str(self._gone))
        self._wire.transmit(data)

    def apply(self, settings: SerialSettings) -> None:
        """Set the asker's end of the wire."""
        self._wire.apply(settings)

    async def drained(self) -> None:
        """Returns when the last byte written has left."""
        left = self._wire.sent_until - asyncio.get_running_loop().time()
        if left > 0:
            await asyncio.sleep(left)

    def tear(self, why: str = "the adapter was pulled out") -> None:
        """Lose the line, as its user sees it: for trials."""
        if self._gone is None:
            self._gone = PortLost(why)
            self._wire.deliver = None
            if self._lost is not None:
                self._lost(self._gone)

    def close(self) -> None:
        """Let go; may be called twice."""
        self._wire.deliver = None
        self._gone = self._gone or PortLost("closed")
