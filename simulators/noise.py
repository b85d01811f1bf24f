"""What goes wrong on a wire, how often, and drawn from a seed: the same seed goes wrong in the same way."""

from dataclasses import dataclass, fields
from math import log, log1p
from random import Random


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """How often each thing goes wrong. Rates are probabilities: of a bit (ber), of a byte, or of an answer."""

    ber: float = 0.0
    """A bit arrives turned over."""
    loss: float = 0.0
    """A byte does not arrive."""
    insertion: float = 0.0
    """A byte that nobody sent arrives before this one."""
    burst: float = 0.0
    """With this byte a disturbance begins that spoils it and the next few."""
    glitch: float = 0.0
    """The turn-round of the line puts some 00 or FF before an answer."""
    truncate: float = 0.0
    """An answer breaks off."""
    silent: float = 0.0
    """A meter does not answer."""
    late: float = 0.0
    """A meter answers `late_ms` after it should."""
    late_ms: tuple[float, float] = (600.0, 1200.0)
    foreign: float = 0.0
    """A frame of somebody else stands before an answer."""
    repeat: float = 0.0
    """A byte arrives twice."""
    fade: float = 0.0
    """With this byte the line turns bad, for `fade_bytes` on average; bits turn over at `fade_ber` meanwhile (the model
    of Gilbert and Elliott)."""
    fade_bytes: float = 20.0
    fade_ber: float = 0.05
    tail: float = 0.0
    """Bytes that nobody sent stand behind an answer."""
    twice: float = 0.0
    """An answer is sent twice, one right behind the other."""
    other: float = 0.0
    """A meter answers something that was not asked: another item, function, sequence or address, less or more."""
    preamble: float = 0.0
    """A DL/T 645 answer has another number of FE bytes before it, from none to 16."""
    pause: float = 0.0
    """An answer comes in pieces, with up to `pause_ms` between them."""
    pause_ms: float = 20.0
    babble: float = 0.0
    """Somebody talks nonsense within half a second after a question."""
    echo: bool = False
    """The adapter hears what it sends: every question comes back."""

    def __post_init__(self) -> None:
        for field in fields(self):
            rate = getattr(self, field.name)
            if field.name not in _MEASURES and isinstance(rate, float | int) and not 0 <= rate <= 1:
                raise ValueError(f"{field.name}: expected a rate from 0 to 1, got {rate}")
        if self.fade_bytes < 1 or self.pause_ms < 0:
            raise ValueError(f"fade_bytes (1 or more), pause_ms: {self.fade_bytes}, {self.pause_ms}")
        if not 0 <= self.late_ms[0] <= self.late_ms[1]:
            raise ValueError(f"late_ms: expected two times, the shorter first, got {self.late_ms}")

    @property
    def quiet(self) -> bool:
        """Whether bytes arrive as they were sent."""
        return not (self.ber or self.loss or self.insertion or self.burst or self.repeat or self.fade)


_MEASURES = frozenset({"fade_bytes", "pause_ms"})
"""Fields that are no rates."""

QUIET = Faults()


def disturb(data: bytes, faults: Faults, rng: Random, *, parity: bool) -> bytes:
    """The bytes as they arrive. parity: the receiver drops a byte whose bits (parity bit included) turned an odd
    number of times; without it there is no parity bit, and every byte arrives."""
    if faults.quiet or not data:
        return data
    bits = 9 if parity else 8
    turned = [0] * len(data)
    if faults.ber:
        _turn(turned, faults.ber, bits, rng)
    if faults.burst:
        for start in [n for n in range(len(data)) if rng.random() < faults.burst]:
            for n in range(start, min(len(data), start + 1 + rng.randrange(8))):
                turned[n] ^= rng.getrandbits(bits)
    if faults.fade:
        _fade(turned, faults, bits, rng)
    if not (faults.insertion or faults.loss or faults.repeat) and not any(turned):
        return data
    arrived = bytearray()
    for byte, mask in zip(data, turned, strict=True):
        if faults.insertion and rng.random() < faults.insertion:
            arrived.append(rng.randrange(256))
        if (faults.loss and rng.random() < faults.loss) or (parity and mask.bit_count() & 1):
            continue
        arrived.append(byte ^ mask & 0xFF)
        if faults.repeat and rng.random() < faults.repeat:
            arrived.append(byte ^ mask & 0xFF)
    return bytes(arrived)


def _turn(turned: list[int], ber: float, bits: int, rng: Random) -> None:
    """Turn bits over at this rate, going from one to the next."""
    step = log1p(-ber) if ber < 1 else float("-inf")
    at = -1
    while (at := at + 1 + int(log(1.0 - rng.random()) / step)) < bits * len(turned):
        turned[at // bits] ^= 1 << at % bits


def _fade(turned: list[int], faults: Faults, bits: int, rng: Random) -> None:
    """Turn bits over while the line is bad. It may be so from the start, as likely as at any time."""
    recovers = 1 / faults.fade_bytes
    bad = rng.random() < faults.fade / (faults.fade + recovers)
    for n in range(len(turned)):
        if bad:
            mask = [0]
            _turn(mask, faults.fade_ber, bits, rng)
            turned[n] ^= mask[0]
        bad = rng.random() >= recovers if bad else rng.random() < faults.fade
