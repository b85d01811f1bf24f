"""What comes in from meters: streams of damaged frames into the deframers, damaged answers to whole reads."""

import itertools
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from random import Random
from typing import Any, get_args
from zlib import crc32

from config.model import MeterEntry, SerialSettings
from drivers.plan import plan
from drivers.profile import load_profile, profile_names
from protocols.capture import Value
from protocols.dialogue import Answer, Ask, Deframer, Garbled, Reply, Silence
from protocols.dlt645 import frame as dlt645
from protocols.dlt645.codes import Edition
from protocols.dlt645.message import explain, find
from protocols.modbus import frame as modbus
from protocols.modbus import requests
from protocols.modbus.ascii import AsciiDeframer
from protocols.modbus.stream import TcpReplies
from tests.dlt645 import VECTORS
from tests.fuzz_items import IDENTIFICATIONS, storable
from tests.fuzzing import Case, Target
from tests.modbus import exception, listener, reply
from tests.mutation import (
    in_parts,
    mended_ascii,
    mended_dlt645,
    mended_mbap,
    mended_rtu,
    mended_stream_645,
    mutate,
)

STREAM_MAX = 280
"""Bytes of a stream: one long frame, or some short ones."""
FRAMES_645 = [bytes.fromhex(vector["hex"]) for vector in VECTORS]
SIDES: tuple[modbus.Side, ...] = get_args(modbus.Side)
PENDING_MAX = 513
"""The longest frame of any protocol here, one of Modbus ASCII: what a deframer may hold back."""
EXCHANGES_MAX = 2_000
"""Questions of one dialogue: each item of the longest plan, each with all its follow-up frames, would be more."""


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


def _cut(stream: bytes) -> list[bytes]:
    """The stream in some pieces that its own bytes decide, so that an input is the same input every time."""
    number = crc32(stream)
    if number % 16 == 0:
        return [stream[at : at + 1] for at in range(len(stream))]
    at = number % (len(stream) + 1)
    return [stream] if number % 3 == 0 else [stream[:at], stream[at : at + 9], stream[at + 9 :]]


def _streams(frames: Sequence[bytes]) -> list[bytes]:
    """Each frame alone, and some after each other."""
    random = Random(1)
    return [*frames, *(b"".join(random.choices(frames, k=random.randint(2, 5)))[:STREAM_MAX] for _ in range(40))]


def dlt645_stream(stream: bytes) -> None:
    """Frames are found that are there, and explained in both editions, whatever they hold."""
    for found in _deframe(dlt645.Deframer(), _cut(stream)):
        assert found.encode(0) in stream
        for edition in (None, *Edition):
            storable(explain(found, edition).values)
    find(stream)
    dlt645.parse(stream)


def _modbus(make: Callable[[modbus.Side], Deframer[modbus.Frame]]) -> Callable[[bytes], None]:
    def run(stream: bytes) -> None:
        side = SIDES[len(stream) % len(SIDES)]
        for found in _deframe(make(side), _cut(stream)):
            assert found.encode() in stream

    return run


@cache
def _frames_modbus(*, transactions: bool, as_ascii: bool = False) -> list[bytes]:
    """Answers, refusals and questions of every function."""
    number = itertools.count(1)

    def with_(frame: modbus.Frame) -> bytes:
        return replace(frame, transaction=next(number) if transactions else None, ascii=as_ascii).encode()

    registers = ([0], [2300, 0x8000, 0xFFFF], [0x7FC0, 0], list(range(125)))
    frames = [reply(each) for each in registers] + [exception(code) for code in (2, 6, 11)]
    frames += [modbus.read_request(1, 3, 0, 10), modbus.read_request(247, 4, 65_000, 125)]
    frames += [requests.read_bits_request(1, 1, 0, 9), requests.identify_request(1)]
    frames += [requests.write_coil_request(1, 5, True), requests.write_coils_request(1, 5, [True] * 9)]
    frames += [requests.write_register_request(1, 5, 9), requests.write_registers_request(1, 5, b"\1\2\3\4")]
    frames += [modbus.Frame(unit=1, function=0x2B, data=each) for each in IDENTIFICATIONS]
    frames += [modbus.Frame(unit=1, function=1, data=b"\2\xff\1")]
    return [with_(frame) for frame in frames]


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
    question = listener(ask.data, "requests").feed(ask.data)[0]
    count = int.from_bytes(question.data[2:4], "big")
    odd = (0, 1, 0x7FFF, 0x8000, 0xFFFF, 0x7F80, 0x7FC0, 0xFF80, 0x0080, random.randrange(1 << 16))
    words = [random.choice(odd) for _ in range(count)]
    frame = reply(words) if random.randrange(4) else exception(random.randrange(256))
    function = question.function | frame.function & modbus.ERROR_BIT
    came = replace(question, function=function, data=frame.data).encode()
    if random.randrange(8) == 0:
        mend = mended_ascii if question.ascii else mended_rtu if question.transaction is None else mended_mbap
        came = mend(random, mutate(random, came))
    return _heard(ask, _deframe(listener(ask.data, "replies"), [came]), came)


TARGETS: Mapping[str, Target] = {
    "dlt645-frames": Target(
        run=dlt645_stream, seeds=lambda: _streams(FRAMES_645), mend=mended_stream_645, size_max=STREAM_MAX,
    ),
    "modbus-rtu": Target(
        run=_modbus(modbus.RtuDeframer), seeds=lambda: _streams(_frames_modbus(transactions=False)),
        mend=partial(in_parts, mended_rtu), size_max=STREAM_MAX,
    ),
    "modbus-tcp": Target(
        run=_modbus(lambda side: TcpReplies() if side == "replies" else modbus.TcpDeframer(side)),
        seeds=lambda: _streams(_frames_modbus(transactions=True)),
        mend=partial(in_parts, mended_mbap), size_max=STREAM_MAX,
    ),
    "modbus-pipelined": Target(
        run=_modbus(lambda _: TcpReplies(lambda begin: begin[-1] % 2 == 0, lambda number: number % 2 == 0)),
        seeds=lambda: _streams(_frames_modbus(transactions=True)),
        mend=partial(in_parts, mended_mbap), size_max=STREAM_MAX,
    ),
    "modbus-ascii": Target(
        run=_modbus(lambda _: AsciiDeframer()),
        seeds=lambda: _streams(_frames_modbus(transactions=False, as_ascii=True)),
        mend=partial(in_parts, mended_ascii, split=b":"), size_max=2 * STREAM_MAX,
    ),
}  # fmt: skip
"""The streams that deframers listen to."""
