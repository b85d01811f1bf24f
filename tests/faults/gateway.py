"""Meters behind a Modbus TCP gateway where everything goes wrong, in virtual time.

TCP delivers the bytes of a connection in order, in pieces of any size. What goes wrong is what a gateway sends, and
when; and now and then there is damage that TCP's own checksum does not see.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from random import Random
from typing import Final

from config.model import SerialSettings
from drivers.line import ParityCheck, PortLost
from protocols.modbus.frame import Frame, TcpDeframer
from simulators.meter import SimulatedMeter
from simulators.mischief import Mischief
from simulators.modbus import ModbusMeter
from simulators.noise import Faults
from simulators.wire import BABBLE_S, Sound

_NOBODY, _BUSY = 0x0B, 0x06
"""Exceptions of a gateway: its meter did not answer, it is busy."""
NOBODY_S: Final = 0.1
"""How long it waits for a meter that is not there."""
REGISTERS_AT: Final = 9
"""Where the registers begin in a reply: behind header, unit, function and byte count."""


def slip_past_tcp(data: bytes, rng: Random) -> bytes:
    """Damage that leaves TCP's checksum, a one's-complement sum of 16-bit words, as it was: two words changed places,
    or a bit that was added in one word is missing from another. The same bytes when the draw changes nothing."""
    words = [data[n : n + 2] for n in range(0, len(data) - 1, 2)]
    one, other = rng.sample(range(len(words)), 2)
    if rng.random() < 0.5:
        words[one], words[other] = words[other], words[one]
    else:
        bit = 1 << rng.randrange(16)
        high, low = int.from_bytes(words[one], "big"), int.from_bytes(words[other], "big")
        if bool(high & bit) != bool(low & bit):
            words[one], words[other] = (high ^ bit).to_bytes(2, "big"), (low ^ bit).to_bytes(2, "big")
    return b"".join(words) + data[2 * len(words) :]


def only_registers(came: bytes, frame: bytes) -> bool:
    """Whether nothing but registers is damaged in a reply that holds some: no check of Modbus TCP sees that."""
    return came != frame and len(came) == len(frame) and came[:REGISTERS_AT] == frame[:REGISTERS_AT]


class Gateway:
    """The far end of a Modbus TCP connection. one_by_one: it asks its meters in turn, as one with a serial line behind
    it does; else answers overtake each other. keeps: answers of a connection that is gone go to the next. damage: how
    often an answer is damaged past TCP's checksum."""

    def __init__(
        self, meters: Iterable[SimulatedMeter], *, now_ms: Callable[[], int], seed: int, faults: Faults, damage: float,
        one_by_one: bool, keeps: bool, pieces: int = 0,
    ) -> None:  # fmt: skip
        self.faults = faults
        self.counts: Counter[str] = Counter()
        self.heard: Callable[[Sound], None] | None = None
        """Told of everything when it is sent."""
        self.connection: GatewayLine | None = None
        self._damage = damage
        self._one_by_one, self._keeps = one_by_one, keeps
        self._pieces = pieces
        self._rng = Random(f"meterwire gateway {seed}")
        self._mischief = Mischief(self._rng, self.counts)
        self._now_ms = now_ms
        self._free_at = 0.0
        self._units: dict[int, tuple[SimulatedMeter, ModbusMeter]] = {}
        for meter in meters:
            assert isinstance(meter.meter, ModbusMeter)
            self._units[meter.meter.unit] = (meter, meter.meter)

    def connect(self) -> "GatewayLine":
        """A new connection; the one before is closed."""
        self.connection = GatewayLine(self, self._rng, self._pieces)
        return self.connection

    def asked(self, frame: Frame, line: "GatewayLine") -> None:
        """A question has come."""
        strikes, faults, rng = self._mischief.strikes, self.faults, self._rng
        loop = asyncio.get_running_loop()
        self.counts["questions"] += 1
        if strikes("babble", faults.babble):
            loop.call_later(rng.uniform(0.0, BABBLE_S), self._say, rng.randbytes(rng.randint(1, 40)), line)
        begins = max(loop.time(), self._free_at) if self._one_by_one else loop.time()
        meter, modbus = self._units[frame.unit]
        turnaround_s = rng.uniform(*meter.turnaround_ms) / 1000 if meter.present else NOBODY_S
        if strikes("late", faults.late):
            turnaround_s += rng.uniform(*faults.late_ms) / 1000
        ends = begins + turnaround_s
        if self._one_by_one:
            self._free_at = ends
        if strikes("silent", faults.silent):
            return
        loop.call_at(ends, self._answer, frame, modbus if meter.present else None, line)

    def _answer(self, frame: Frame, modbus: ModbusMeter | None, line: "GatewayLine") -> None:
        faults, rng = self.faults, self._rng
        refusal = None if modbus is not None else _NOBODY
        if modbus is not None and self._mischief.strikes("busy", faults.other / 4):
            refusal = _BUSY
        if refusal is not None:
            data = Frame(unit=frame.unit, function=frame.function | 0x80, data=bytes((refusal,)),
                         transaction=frame.transaction).encode()  # fmt: skip
        else:
            assert modbus is not None
            answer = modbus.answer(frame, self._now_ms())
            if answer is None:
                return
            data = answer.data
        self.counts["answers"] += 1
        said = self._mischief.said(data, frame, faults)
        came = said
        if len(said) > 4 and rng.random() < self._damage:
            came = slip_past_tcp(said, rng)
            self.counts["damaged"] += came != said
        self._say(came, line, said=said)

    def _say(self, data: bytes, line: "GatewayLine", *, said: bytes | None = None) -> None:
        if self.heard is not None:
            now = asyncio.get_running_loop().time()
            sent = data if said is None else said
            self.heard(Sound(start=now, end=now, data=data, sent=sent, said=sent))
        to = self.connection if self._keeps else line
        if to is not None:
            to.say(data)


class GatewayLine:
    """Our end of the connection: a `Line`. Bytes come in order, in pieces when the network or the gateway pauses."""

    parity: ParityCheck = "none"

    def __init__(self, gateway: Gateway, rng: Random, pieces: int) -> None:
        self._gateway = gateway
        self._rng = rng
        self._pieces = pieces
        self._deframer = TcpDeframer("requests")
        self._receive: Callable[[bytes], object] | None = None
        self._lost: Callable[[Exception], None] | None = None
        self._gone: Exception | None = None
        self._on_its_way = b""
        self._held = False

    def attach(self, receive: Callable[[bytes], object], lost: Callable[[Exception], None]) -> None:
        """See Line."""
        self._receive, self._lost = receive, lost

    def write(self, data: bytes, unwanted_s: float = 0.0) -> None:
        """See Line."""
        if self._gone is not None:
            raise PortLost(str(self._gone))
        for frame in self._deframer.feed(data):
            self._gateway.asked(frame, self)

    def say(self, data: bytes) -> None:
        """The far end sends bytes."""
        self._on_its_way += data
        if self._held:
            return
        faults = self._gateway.faults
        if faults.pause and self._rng.random() < faults.pause:
            self._gateway.counts["pause"] += 1
            self._held = True
            self._deliver(self._rng.randrange(len(self._on_its_way) + 1))
            asyncio.get_running_loop().call_later(self._rng.uniform(0.0, faults.pause_ms) / 1000, self._go_on)
        else:
            self._deliver(len(self._on_its_way))

    def _go_on(self) -> None:
        self._held = False
        self._deliver(len(self._on_its_way))

    def _deliver(self, count: int) -> None:
        data, self._on_its_way = self._on_its_way[:count], self._on_its_way[count:]
        size = self._pieces or len(data)
        for at in range(0, len(data), max(1, size)):
            if self._receive is not None:
                self._receive(data[at : at + size])

    def apply(self, settings: SerialSettings) -> None:
        """See Line."""

    async def drained(self) -> None:
        """See Line."""

    def tear(self, why: str = "closed by the far end") -> None:
        """Lose the connection."""
        if self._gone is None:
            self._gone = PortLost(why)
            self._receive = None
            if self._lost is not None:
                self._lost(self._gone)

    def close(self) -> None:
        """See Line."""
        self._receive = None
        self._gone = self._gone or PortLost("closed")
