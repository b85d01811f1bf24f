"""What a port makes of a wire that does not behave, for both families of protocols."""

import asyncio
from collections.abc import Callable, Generator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.model import SerialSettings
from drivers.port import OPEN_LISTEN_S, Port, PortLost
from protocols.dialogue import Answer, Ask, Dialogue, Garbled, Reply, Silence
from protocols.dlt645 import v2007
from protocols.modbus.dialogue import read_registers
from simulators import virtual
from tests.script import BUS, SERIAL, Said, ScriptedLine, energy, meter, opener, registers

START_MS = 1_700_000_000_000
TURNAROUND_S = 0.02


@dataclass(frozen=True)
class Family:
    """One question, its right answer, and the same from somebody or something else."""

    protocol: Any
    ask: Callable[[], Ask[Any]]
    right: bytes
    foreign: bytes
    other_item: bytes
    short: bytes
    refusing: bytes
    """Claims more bytes than will come, so that what follows looks like part of it."""


def first(dialogue: Generator[Ask[Any], Any, Any]) -> Ask[Any]:
    return next(dialogue)


def dlt645_ask() -> Ask[Any]:
    dialogue: Dialogue[Any] = v2007.read("000000000001", ["00010000"])
    return first(dialogue)


def modbus_ask() -> Ask[Any]:
    return first(read_registers(1, 4, 0, 2))


FAMILIES = {
    "dlt645": Family(
        protocol="dlt645-2007",
        ask=dlt645_ask,
        right=energy(),
        foreign=energy("000000000002"),
        other_item=energy(di="00020000"),
        short=energy()[:-3],
        refusing=bytes.fromhex("68010000000000689140"),
    ),
    "modbus": Family(
        protocol="modbus-rtu",
        ask=modbus_ask,
        right=registers(1, 17255, 0),
        foreign=registers(2, 17255, 0),
        other_item=registers(1, 17255, 0, function=3),
        short=registers(1, 17255),
        refusing=bytes.fromhex("0104F0"),
    ),
}


def damaged(frame: bytes) -> bytes:
    return frame[:-4] + bytes([frame[-4] ^ 0x10]) + frame[-3:]


def asked(family: Family, said: list[tuple[float, bytes]]) -> tuple[Answer[Any], Port]:
    """Ask once in virtual time; what the line says after the question is given."""
    line = ScriptedLine(lambda data, n: said)

    async def main() -> tuple[Answer[Any], Port]:
        port = Port(BUS, open_line=opener(line), now_ms=virtual.now_ms)
        await port.open()
        return await exchange(port, family), port

    return virtual.run(main(), start_ms=START_MS)


async def exchange(port: Port, family: Family, ask: Ask[Any] | None = None) -> Answer[Any]:
    asked = ask or family.ask()
    one = meter("000000000001" if family.protocol == "dlt645-2007" else "1", family.protocol)
    return await port.exchange(
        asked, one.deframer(), settings=SERIAL, timeout_s=one.timeout_s(asked), gap_s=one.gap_s,
        character_s=one.character_s, inter_byte_s=one.inter_byte_s,
    )  # fmt: skip


FOUND: dict[str, Callable[[Family], list[tuple[float, bytes]]]] = {
    "the answer alone": lambda f: [(TURNAROUND_S, f.right)],
    "a 00 before it": lambda f: [(TURNAROUND_S, b"\x00" + f.right)],
    "FF FF 00 before it": lambda f: [(TURNAROUND_S, b"\xff\xff\x00" + f.right)],
    "a fragment of an answer before it": lambda f: [(TURNAROUND_S, f.right[:2] + f.right)],
    "the echo before it": lambda f: [(0.0, f.ask().data), (TURNAROUND_S, f.right)],
    "the echo and noise before it": lambda f: [(0.0, f.ask().data + b"\x00"), (TURNAROUND_S, f.right)],
    "noise, the echo, and the answer": lambda f: [(0.0, b"\x00" + f.ask().data), (TURNAROUND_S, f.right)],
    "a damaged answer before it": lambda f: [(TURNAROUND_S, damaged(f.right) + f.right)],
    "the answer of somebody else before it": lambda f: [(TURNAROUND_S, f.foreign + f.right)],
    "the answer to another question before it": lambda f: [(TURNAROUND_S, f.other_item + f.right)],
    "a frame that never ends before it": lambda f: [(TURNAROUND_S, f.refusing + f.right)],
    "in pieces of 3 bytes": lambda f: [
        (TURNAROUND_S + at * SERIAL.character_s, f.right[at : at + 3]) for at in range(0, len(f.right), 3)
    ],
}
NOT_FOUND: dict[str, tuple[Callable[[Family], list[tuple[float, bytes]]], type]] = {
    "nothing": (lambda f: [], Silence),
    "only the echo": (lambda f: [(0.0, f.ask().data)], Silence),
    "half of the echo": (lambda f: [(0.0, f.ask().data[:5])], Garbled),
    "a damaged answer": (lambda f: [(TURNAROUND_S, damaged(f.right))], Garbled),
    "a short answer": (lambda f: [(TURNAROUND_S, f.short)], Garbled),
    "the answer of somebody else": (lambda f: [(TURNAROUND_S, f.foreign)], Garbled),
    "the answer to another question": (lambda f: [(TURNAROUND_S, f.other_item)], Garbled),
    "the answer, too late": (lambda f: [(5.0, f.right)], Silence),
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("case", FOUND)
def test_the_answer_is_found_whatever_stands_around_it(family: str, case: str) -> None:
    one = FAMILIES[family]
    answer, port = asked(one, FOUND[case](one))
    assert isinstance(answer, Reply)
    assert answer.frame.encode(*([4] if family == "dlt645" else [])) == one.right
    assert port.counters.replies == 1
    assert START_MS < answer.sent_at <= answer.ended_at


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("case", NOT_FOUND)
def test_what_does_not_answer_the_question_is_never_its_answer(family: str, case: str) -> None:
    one = FAMILIES[family]
    said, kind = NOT_FOUND[case]
    answer, port = asked(one, said(one))
    assert type(answer) is kind
    assert port.counters.replies == 0


def test_echo_and_foreign_frames_are_counted() -> None:
    for family in FAMILIES.values():
        _, port = asked(
            family, [(0.0, family.ask().data), (TURNAROUND_S, family.foreign + family.right + family.right)]
        )
        assert port.counters.echoes == 1
        assert port.counters.foreign == 2  # the other meter's, and the copy that nobody asked for


@settings(max_examples=60)
@given(data=st.data(), noise=st.binary(max_size=6), echo=st.booleans(), family=st.sampled_from(sorted(FAMILIES)))
def test_however_the_bytes_are_cut_the_answer_is_found(
    data: st.DataObject, noise: bytes, echo: bool, family: str
) -> None:
    one = FAMILIES[family]
    stream = (one.ask().data if echo else b"") + noise + one.right
    cuts = sorted({0, len(stream), *data.draw(st.lists(st.integers(0, len(stream)), max_size=8))})
    timed: list[tuple[float, bytes]] = []
    at = 0.0
    for start, end in pairwise(cuts):
        timed.append((at, stream[start:end]))
        at += (end - start) * SERIAL.character_s
    answer, _ = asked(one, timed)
    assert isinstance(answer, Reply)


def test_bytes_outside_an_exchange_answer_nothing_and_are_counted() -> None:
    family = FAMILIES["modbus"]
    line = ScriptedLine(lambda data, n: [])

    async def main() -> None:
        port = Port(BUS, open_line=opener(line), now_ms=virtual.now_ms)
        await port.open()
        line.say(family.right)
        await asyncio.sleep(1)
        assert isinstance(await exchange(port, family), Silence)
        assert port.counters.stray_bytes == len(family.right)

    virtual.run(main(), start_ms=START_MS)


def test_the_answer_to_a_cancelled_question_does_not_answer_the_next() -> None:
    family = FAMILIES["modbus"]

    def answer(data: bytes, n: int) -> Said:
        return [(0.2, registers(1, 1, 1))] if n == 0 else [(0.3, registers(1, 2, 2))]

    line = ScriptedLine(answer)

    async def main() -> None:
        port = Port(BUS, open_line=opener(line), now_ms=virtual.now_ms)
        await port.open()
        task = asyncio.ensure_future(exchange(port, family))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(1.0)  # the bus waits out the late window before it asks this meter again
        reply = await exchange(port, family)
        assert isinstance(reply, Reply)
        assert reply.frame.data == b"\x04\x00\x02\x00\x02"
        assert port.counters.stray_bytes == len(registers(1, 1, 1))

    virtual.run(main(), start_ms=START_MS)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_gap_before_a_question_is_kept_to_the_microsecond(family: str) -> None:
    one = FAMILIES[family]
    line = ScriptedLine(lambda data, n: [(TURNAROUND_S, one.right)])

    async def main() -> None:
        port = Port(BUS, open_line=opener(line), now_ms=virtual.now_ms)
        await port.open()
        await exchange(port, one)
        await exchange(port, one)
        gap_s = meter("000000000001" if family == "dlt645" else "1", one.protocol).gap_s
        ended = line.asked[0][0] + (len(one.ask().data) + len(one.right)) * SERIAL.character_s + TURNAROUND_S
        assert line.asked[1][0] - ended == pytest.approx(gap_s, abs=1e-6)

    virtual.run(main(), start_ms=START_MS)


def test_settings_change_only_when_the_next_meter_has_others() -> None:
    family = FAMILIES["dlt645"]
    slow = SerialSettings(baud=1200, parity="E")
    line = ScriptedLine(lambda data, n: [(TURNAROUND_S, family.right)])

    async def main() -> None:
        port = Port(BUS, open_line=opener(line), now_ms=virtual.now_ms)
        await port.open()
        one = meter()
        for chosen in (SERIAL, SERIAL, slow, slow, SERIAL):
            ask = family.ask()
            await port.exchange(
                ask, one.deframer(), settings=chosen, timeout_s=5, gap_s=0, character_s=chosen.character_s,
                inter_byte_s=0.5,
            )  # fmt: skip
        assert line.applied == [slow, SERIAL]

    virtual.run(main(), start_ms=START_MS)


def test_a_line_torn_in_an_exchange_raises_and_can_be_opened_again() -> None:
    family = FAMILIES["dlt645"]
    line = ScriptedLine(lambda data, n: [(TURNAROUND_S, family.right)] if n else [])

    async def main() -> None:
        port = Port(BUS, open_line=opener(line), now_ms=virtual.now_ms)
        await port.open()
        asyncio.get_running_loop().call_later(0.1, line.tear)
        with pytest.raises(PortLost, match="pulled out"):
            await exchange(port, family)
        assert not port.is_open
        with pytest.raises(PortLost):
            await exchange(port, family)
        await port.open()
        assert isinstance(await exchange(port, family), Reply)
        assert port.counters.lost == 1
        assert port.counters.opened == 2

    virtual.run(main(), start_ms=START_MS)


def test_what_was_still_on_its_way_when_the_port_opened_meets_no_question() -> None:
    family = FAMILIES["modbus"]
    line = ScriptedLine(lambda data, n: [(TURNAROUND_S, registers(1, 2, 2))])

    async def main() -> None:
        port = Port(BUS, open_line=opener(line), now_ms=virtual.now_ms)
        line.say(registers(1, 1, 1), after_s=OPEN_LISTEN_S / 2)
        await port.open()
        reply = await exchange(port, family)
        assert isinstance(reply, Reply)
        assert reply.frame.data == b"\x04\x00\x02\x00\x02"

    virtual.run(main(), start_ms=START_MS)


def test_a_defect_in_accepting_a_frame_reaches_whoever_asked() -> None:
    def accepts(frame: object) -> bool:
        raise KeyError("a defect")

    family = FAMILIES["dlt645"]
    line = ScriptedLine(lambda data, n: [(TURNAROUND_S, family.right)])

    async def main() -> None:
        port = Port(BUS, open_line=opener(line), now_ms=virtual.now_ms)
        await port.open()
        with pytest.raises(KeyError, match="a defect"):
            await exchange(port, family, Ask(data=family.ask().data, reply_max=30, accepts=accepts))
        assert port.seen == family.right
        assert isinstance(await exchange(port, family), Reply)

    virtual.run(main(), start_ms=START_MS)


def test_a_line_that_never_falls_quiet_is_asked_in_the_end() -> None:
    family = FAMILIES["dlt645"]
    line = ScriptedLine(lambda data, n: [])

    async def main() -> None:
        port = Port(BUS, open_line=opener(line), now_ms=virtual.now_ms)
        await port.open()
        for n in range(1000):
            line.say(b"\x00", after_s=n * 0.01)
        await asyncio.sleep(0.1)
        assert isinstance(await exchange(port, family), Garbled)
        assert port.counters.noisy_starts == 1

    virtual.run(main(), start_ms=START_MS)
