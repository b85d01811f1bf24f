"""A line that hears itself, where what comes back may be damaged: an echo alone confirms nothing."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from config.model import ProtocolName
from drivers.bus import Lane
from protocols.dialogue import Dialogue, Silence
from protocols.modbus import commands
from protocols.modbus.frame import Frame
from tests.desk import TURNAROUND_S, Desk, serve
from tests.script import Said, ScriptedLine, meter

QUICK: dict[str, Any] = {"turnaround_ms_max": 200, "late_max_ms": 300, "attempts": 2}
Damage = Callable[[bytes], bytes]


def whole(question: bytes) -> bytes:
    return question


def flipped(question: bytes) -> bytes:
    return question[:3] + bytes((question[3] ^ 1,)) + question[4:]


def none(question: bytes) -> bytes:
    return b""


def told(damages: Sequence[Damage], *, as_ascii: bool = False, obeys: bool = False) -> object:
    """What a write is told behind so many reads, whose echoes were damaged so. obeys: whether the meter answers it;
    with no echo where the last read had none."""
    answers: list[object] = []
    question = next(commands.write_register(1, 5, 7, as_ascii=as_ascii)).data

    def answer(asked: bytes, n: int) -> Said:
        right = asked if asked == question else Frame(unit=1, function=1, data=b"\x01\x55", ascii=as_ascii).encode()
        damage = damages[min(n, len(damages) - 1)]
        echo = damage(asked) if asked != question or damage is none else asked
        return [(0.0, echo), (TURNAROUND_S, right if asked != question or obeys else b"")]

    def read() -> Dialogue[Any]:
        yield from commands.read_bits(1, 1, 0, 8, as_ascii=as_ascii)
        return []

    def setting() -> Dialogue[Any]:
        answers.append((yield from commands.write_register(1, 5, 7, as_ascii=as_ascii)))
        return []

    protocol: ProtocolName = "modbus-ascii" if as_ascii else "modbus-rtu"
    desk, one = Desk(ScriptedLine(answer)), meter("1", protocol, **QUICK)

    async def script() -> None:
        for n in range(len(damages)):
            desk.ask(one, read, name=str(n), lane=Lane.CONTROL)
            await asyncio.sleep(2)
        desk.ask(one, setting, name="write", lane=Lane.CONTROL)

    serve(desk, script, for_s=10)
    assert [data for _, data in desk.line.asked].count(question) == 1
    return answers[0]


@pytest.mark.parametrize("as_ascii", [False, True])
@pytest.mark.parametrize(
    "damages",
    [
        [flipped],
        [lambda question: question[1:]],  # an adapter that turns around too late
        [lambda question: question[:-1]],
        [flipped, flipped, flipped],
        [whole, flipped],
        [flipped, whole, flipped, flipped],
    ],
)
def test_an_echo_confirms_no_write_where_those_before_it_were_damaged(damages: list[Damage], as_ascii: bool) -> None:
    assert isinstance(told(damages, as_ascii=as_ascii), Silence)
    assert isinstance(told(damages, as_ascii=as_ascii, obeys=True), commands.Written)


@pytest.mark.parametrize("as_ascii", [False, True])
@pytest.mark.parametrize("reads", [1, 3])
def test_a_write_is_confirmed_by_its_copy_where_answers_stood_alone(reads: int, as_ascii: bool) -> None:
    assert isinstance(told([none] * reads, as_ascii=as_ascii, obeys=True), commands.Written)
    assert isinstance(told([none] * reads, as_ascii=as_ascii), Silence)
