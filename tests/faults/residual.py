"""How many replies noise should damage past every check: computed from the noise and the frame formats alone.

Two bits that cancel in the 8-bit sum are found by going through all pairs of a frame; bursts and fades, which spoil
several bytes, by drawing many and looking at each with the checks written out here once more.
"""

from collections.abc import Sequence
from itertools import combinations
from random import Random
from typing import Final

from protocols.checksum import crc16_modbus
from simulators.noise import Faults, disturb

TRIES: Final = 1500
"""Disturbances drawn for each frame that is looked at."""
_PAYLOAD: Final = 14
"""Where the payload of a DL/T 645-2007 reply begins: behind 68, address, 68, control, length and identifier."""
_BCD: Final = frozenset(high << 4 | low for high in range(10) for low in range(10))


def residual(frames: Sequence[bytes], faults: Faults, *, family: str, parity: bool, rng: Random) -> float:
    """The share of replies like these that should be damaged past every check. parity: wrong bytes are dropped."""
    if not frames:
        return 0.0
    return sum(_of_frame(frame, faults, family, parity, rng) for frame in frames) / len(frames)


def _of_frame(frame: bytes, faults: Faults, family: str, parity: bool, rng: Random) -> float:
    share = 0.0
    if faults.ber and family == "dlt645" and not parity:
        bits = 8 * len(frame)
        share += _pairs(frame) * faults.ber**2 * (1 - faults.ber) ** (bits - 2)
    if faults.burst:
        share += _drawn(frame, Faults(burst=1 / len(frame)), family, parity, rng) * faults.burst * len(frame)
    if faults.fade:
        often = Faults(fade=1 / len(frame), fade_bytes=faults.fade_bytes, fade_ber=faults.fade_ber)
        share += _drawn(frame, often, family, parity, rng) * faults.fade * len(frame)
    return share


def _pairs(frame: bytes) -> int:
    """Pairs of bits of payload and sum that turn over unseen: the sum holds, the digits are digits."""
    first, last = _PAYLOAD - (frame[8] & 0x1F == 0x01) * 2, len(frame) - 2
    found = 0
    single: list[tuple[int, int]] = []
    for at in range(first, last + 1):
        for bit in range(8):
            byte = frame[at]
            turned = byte ^ 1 << bit
            if at == last:  # the sum itself: it is compared with what it should be
                single.append(((byte - turned) & 0xFF, 0))
            elif (turned - 0x33) & 0xFF in _BCD:
                single.append(((turned - byte) & 0xFF, at))
    for (one, here), (other, there) in combinations(single, 2):
        found += (one + other) & 0xFF == 0 and here != there
    return found


def _drawn(frame: bytes, often: Faults, family: str, parity: bool, rng: Random) -> float:
    """The share of frames that these faults damage past every check."""
    passed = 0
    for _ in range(TRIES):
        came = disturb(frame, often, rng, parity=parity)
        if came != frame and len(came) == len(frame):
            passed += _passes(came, frame) if family == "dlt645" else came[:3] == frame[:3] and not crc16_modbus(came)
    return passed / TRIES


def _passes(came: bytes, frame: bytes) -> bool:
    first = _PAYLOAD - (frame[8] & 0x1F == 0x01) * 2
    return (
        came[:first] == frame[:first]
        and came[-1] == 0x16
        and came[-2] == sum(came[:-2]) & 0xFF
        and came[first:-2] != frame[first:-2]
        and all((byte - 0x33) & 0xFF in _BCD for byte in came[first:-2])
    )
