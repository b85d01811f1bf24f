"""What comes in from meters: streams of damaged frames into the deframers, damaged answers into the dialogues."""

from collections.abc import Callable, Generator
from functools import cache
from random import Random
from typing import Any

from config.model import MeterEntry, SerialSettings
from drivers.plan import plan
from drivers.profile import load_profile, profile_names
from protocols.capture import Value
from protocols.dialogue import Answer, Ask, Deframer, Garbled, Reply, Silence
from protocols.dlt645 import frame as dlt645
from protocols.dlt645.codes import Edition
from protocols.dlt645.message import explain, find
from protocols.modbus import frame as modbus
from tests.dlt645 import VECTORS
from tests.fuzzing import Case
from tests.modbus import exception, reply
from tests.mutation import mended_dlt645, mended_mbap, mended_rtu, mutate, pieces

FRAMES_645 = [bytes.fromhex(vector["hex"]) for vector in VECTORS]
PENDING_MAX = 267
"""The longest frame of any protocol here: what a deframer may hold back."""
EXCHANGES_MAX = 2_000
"""Questions of one dialogue: each item of the longest plan, each with all its follow-up frames, would be more."""


def _stream(random: Random, frames: list[bytes], mend: Callable[[bytes], bytes]) -> bytes:
    """Noise, frames as they should be, damaged ones, and damaged ones with their length and checksum mended."""
    parts = []
    for _ in range(random.randint(1, 6)):
        frame = random.choice(frames)
        match random.randrange(6):
            case 0:
                parts.append(random.randbytes(random.randrange(40)))
            case 1:
                parts.append(frame)
            case 2:
                parts.append(mutate(random, frame, frames))
            case _:
                parts.append(mend(mutate(random, frame, frames)))
    return b"".join(parts)[:2048]


def _deframe(deframer: Deframer[Any], cut: list[bytes]) -> list[Any]:
    """All frames, the line having fallen quiet at the end; with little held back all the time."""
    frames = []
    for piece in cut:
        frames += deframer.feed(piece)
        assert deframer.pending < PENDING_MAX, f"{deframer.pending} bytes held back"
    while held := deframer.pending:
        frames += deframer.expire()
        assert deframer.pending < held, "expire drops a byte at least"
    return frames


def dlt645_stream(random: Random) -> Case:
    """Frames are found that are there, and explained in both editions, whatever they hold."""
    stream = _stream(random, FRAMES_645, mended_dlt645)
    cut = pieces(random, stream)

    def run() -> None:
        for found in _deframe(dlt645.Deframer(), cut):
            assert found.encode(0) in stream
            for edition in (None, *Edition):
                explain(found, edition)
        find(stream)
        dlt645.parse(stream)

    return Case(stream, run)


@cache
def _frames_modbus() -> tuple[list[bytes], list[bytes]]:
    """RTU and TCP."""
    registers = ([0], [2300, 0x8000, 0xFFFF], [0x7FC0, 0], list(range(125)))
    frames = [reply(each, transaction=None) for each in registers] + [exception(2), exception(11)]
    frames += [modbus.read_request(1, 3, 0, 10), modbus.read_request(247, 4, 65_000, 125)]
    tcp = [reply(each, transaction=n) for n, each in enumerate(registers)] + [exception(6, transaction=9)]
    tcp += [modbus.read_request(1, 3, 0, 10, transaction=3)]
    return [frame.encode() for frame in frames], [frame.encode() for frame in tcp]


def modbus_rtu(random: Random) -> Case:
    """Frames are found that are there, from either side."""
    stream = _stream(random, _frames_modbus()[0], mended_rtu)
    cut = pieces(random, stream)
    side: modbus.Side = random.choice(("replies", "requests"))

    def run() -> None:
        for found in _deframe(modbus.RtuDeframer(side), cut):
            assert found.encode() in stream

    return Case(stream, run)


def modbus_tcp(random: Random) -> Case:
    """The same of Modbus TCP."""
    stream = _stream(random, _frames_modbus()[1], mended_mbap)
    cut = pieces(random, stream)
    side: modbus.Side = random.choice(("replies", "requests"))

    def run() -> None:
        for found in _deframe(modbus.TcpDeframer(side), cut):
            assert found.encode() in stream

    return Case(stream, run)


def dialogue(random: Random) -> Case:
    """A read of a few items of any model: every answer is damaged and mended, and there is a value for each item."""
    profile = load_profile(random.choice(profile_names()))
    if not profile.items:
        profile = load_profile("dlt645-2007-3p")
    protocol = random.choice(profile.protocols)
    address = "000000000001" if profile.family == "dlt645" else "1"
    meter = MeterEntry(id="m", point="p", bus="b", address=address, profile=profile.name, protocol=protocol)
    items = random.sample(sorted(profile.items), min(len(profile.items), random.randint(1, 12)))
    plan_ = plan(profile, meter, items, SerialSettings(baud=2400, parity="E"))
    draws = Random(random.getrandbits(64))
    state = draws.getstate()
    answered = _answered_645 if profile.family == "dlt645" else _answered_modbus

    def run() -> None:
        draws.setstate(state)
        values = _hold(plan_.dialogue(), lambda ask: answered(draws, ask))
        assert [value.quantity for value in values] == list(plan_.quantities)

    return Case(f"{profile.name} {protocol} {' '.join(items)}".encode(), run)


def _hold(
    talk: Generator[Ask[Any], Answer[Any], list[Value]], answered: Callable[[Ask[Any]], Answer[Any]]
) -> list[Value]:
    try:
        ask = next(talk)
        for _ in range(EXCHANGES_MAX):
            ask = talk.send(answered(ask))
    except StopIteration as end:
        values: list[Value] = end.value
        return values
    raise AssertionError(f"a dialogue of more than {EXCHANGES_MAX} questions")


def _heard(ask: Ask[Any], frames: list[Any], came: bytes) -> Answer[Any]:
    taken = [frame for frame in frames if ask.accepts(frame)]
    if taken:
        return Reply(frame=taken[0], sent_at=0, ended_at=0)
    return Garbled(came) if came else Silence()


def _answered_645(random: Random, ask: Ask[Any]) -> Answer[Any]:
    """The identifier asked for comes back with anything behind it: BCD, filler, nothing, more to follow, a refusal."""
    asked = dlt645.parse(ask.data.lstrip(b"\xfe"))
    control = asked.control | random.choice((0x80, 0x80, 0x80, 0x80, 0xA0, 0xC0))
    size = random.choice((0, 1, 2, 3, 4, 5, 6, 8, 16, 20, 40, 196))
    digits = bytes(random.choice((0x00, 0x12, 0x99, 0x80, 0xFF, 0x31, random.randrange(256))) for _ in range(size))
    data = random.choice(
        (asked.data + digits, asked.data + digits, asked.data[:4] + digits + asked.data[4:], digits[:2])
    )
    came = dlt645.Frame(address=asked.address, control=control, data=data[:255]).encode()
    if random.randrange(8) == 0:
        came = mended_dlt645(mutate(random, came))
    return _heard(ask, _deframe(dlt645.Deframer(), [came]), came)


def _answered_modbus(random: Random, ask: Ask[Any]) -> Answer[Any]:
    """The registers asked for, of any content; or an exception."""
    tcp = len(ask.data) == 12
    question = (modbus.TcpDeframer if tcp else modbus.RtuDeframer)("requests").feed(ask.data)[0]
    count = int.from_bytes(question.data[2:4], "big")
    odd = (0, 1, 0x7FFF, 0x8000, 0xFFFF, 0x7F80, 0x7FC0, 0xFF80, 0x0080, random.randrange(1 << 16))
    words = [random.choice(odd) for _ in range(count)]
    frame = reply(words, unit=question.unit, function=question.function, transaction=question.transaction)
    if random.randrange(4) == 0:
        code = random.randrange(256)
        frame = exception(code, unit=question.unit, function=question.function, transaction=question.transaction)
    came = frame.encode()
    if random.randrange(8) == 0:
        came = (mended_mbap if tcp else mended_rtu)(mutate(random, came))
    return _heard(ask, _deframe(modbus.TcpDeframer() if tcp else modbus.RtuDeframer(), [came]), came)
