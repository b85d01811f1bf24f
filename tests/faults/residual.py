"""How many replies noise should damage past every check, from the noise and the frame formats alone.

The noise of a chapter is applied to many of its replies, and each is looked at with the checks of its protocol, written
out here once more. No driver has a part in it.
"""

from collections.abc import Callable, Sequence
from random import Random
from typing import Final

from protocols.checksum import lrc8
from simulators.noise import Faults, disturb
from tests.faults.gateway import only_registers, slip_past_tcp

TRIES: Final = 500
"""How often each reply is disturbed: a few times as many as there are replies in a chapter."""
CRC_PASSES: Final = 2**-16
_HEAD: Final = 14
"""Bytes of a DL/T 645-2007 reply before the payload: 68, address, 68, control, length and identifier."""
_DIGITS: Final = frozenset((high << 4 | low) + 0x33 for high in range(10) for low in range(10))
"""Two BCD digits, as they are sent."""
_COUNT_AT: Final = 9
"""Where in a Modbus ASCII question the number of registers stands, behind unit, function and address."""
_DIGITS_16: Final = frozenset(b"0123456789ABCDEF")


def residual(
    frames: Sequence[bytes], faults: Faults, *, family: str, parity: bool, rng: Random, damage: float = 0.0
) -> float:
    """The share of replies like these that should be damaged past every check. parity: wrong bytes are dropped. damage:
    how often one is damaged past TCP's checksum."""
    passes = _PASSES.get(family, only_registers)
    tcp = passes is only_registers
    if not frames or (not damage if tcp else faults.quiet):
        return 0.0
    passed = 0.0
    for frame in frames:
        for _ in range(TRIES):
            came = slip_past_tcp(frame, rng) if tcp else disturb(frame, faults, rng, parity=parity)
            if came is not frame and len(came) == len(frame):
                passed += passes(came, frame)
    return passed / (TRIES * len(frames)) * (damage if tcp else 1.0)


def misheard(
    questions: Sequence[bytes], faults: Faults, answered: Callable[[bytes], bool], *, parity: bool, rng: Random
) -> float:
    """The share of Modbus ASCII questions like these that a meter should hear as another question that it answers:
    nothing in the answer says of which registers it is."""
    if not questions or faults.quiet:
        return 0.0
    passed = 0
    for question in questions:
        for _ in range(TRIES):
            came = disturb(question, faults, rng, parity=parity)
            if len(came) == len(question) and came[_COUNT_AT:-4] == question[_COUNT_AT:-4]:
                passed += bool(_passes_lrc(came, question)) and answered(came)
    return passed / (TRIES * len(questions))


def _may_pass_crc(came: bytes, frame: bytes) -> float:
    """How likely damage like this passes: it comes about too seldom to be drawn. CRC-16 sees all bursts of 16 bits."""
    damaged = [at for at, (was, now) in enumerate(zip(frame, came, strict=True)) if was != now]
    return CRC_PASSES if damaged and damaged[0] > 2 and damaged[-1] - damaged[0] > 1 else 0.0


def _passes_sum(came: bytes, frame: bytes) -> bool:
    head = _HEAD - 2 * (frame[8] & 0x1F == 0x01)  # the identifier of 1997 has two bytes
    return (
        came[-2] == sum(came[:-2]) & 0xFF
        and came[-1] == 0x16
        and came[:head] == frame[:head]
        and came[head:-2] != frame[head:-2]
        and any(was != now and now in _DIGITS for was, now in zip(frame[head:-2], came[head:-2], strict=True))
    )


def _passes_lrc(came: bytes, frame: bytes) -> bool:
    """Colon, unit, function and byte count as they were, other digits in the registers, and an LRC that fits them. Of a
    question, that is the high byte of the address: meters here have no registers beyond."""
    if came == frame or came[:7] != frame[:7] or came[-2:] != b"\r\n" or not _DIGITS_16.issuperset(came[1:-2]):
        return False
    body = bytes.fromhex(came[1:-2].decode("ascii"))
    return came[7:-4] != frame[7:-4] and lrc8(body[:-1]) == body[-1]


_PASSES: Final[dict[str, Callable[[bytes, bytes], float]]] = {
    "dlt645": _passes_sum,
    "modbus-rtu": _may_pass_crc,
    "modbus-ascii": _passes_lrc,
}
