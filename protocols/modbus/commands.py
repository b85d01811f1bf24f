"""What else is said to a Modbus device: reading bits, writing, and asking who made it.

Nothing here is sent by any command or driver yet: writes wait for a decision on who may switch and set what.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from protocols.dialogue import Answer, Ask, Garbled, Reply, Silence
from protocols.errors import Malformed
from protocols.modbus.dialogue import refusal, speaks_for
from protocols.modbus.frame import ERROR_BIT, IDENTIFY_MEI, Frame
from protocols.modbus.requests import (
    identify_request,
    read_bits_request,
    unpack_bits,
    write_coil_request,
    write_coils_request,
    write_register_request,
    write_registers_request,
)

OBJECTS = MappingProxyType({
    0x00: "vendor", 0x01: "product code", 0x02: "revision", 0x03: "vendor url", 0x04: "product name",
    0x05: "model name", 0x06: "application name",
})  # fmt: skip
"""What the objects of an identification are. [APP] §6.21."""

QUESTIONS_MAX = 32
"""Questions of one identification: 256 objects, of which a reply holds eight of 28 characters."""

_Unanswered = Silence | Garbled


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A write that the device has confirmed."""

    sent_at: int
    ended_at: int


def length_on_wire(frame: Frame, data: int) -> int:
    """Bytes or characters of an answer to this question with so many bytes of data behind the function."""
    if frame.transaction is not None:
        return 8 + data
    return 2 * (3 + data) + 3 if frame.ascii else 4 + data


def _ask(question: Frame, data_max: int, right: Callable[[bytes], bool], *, repeatable: bool) -> Ask[Frame]:
    """data_max: bytes of the longest right answer; right: whether these are the data of one."""

    def accepts(frame: Frame) -> bool:
        if (frame.unit, frame.transaction, frame.ascii) != (question.unit, question.transaction, question.ascii):
            return False
        if frame.function == question.function | ERROR_BIT:
            return len(frame.data) == 1 and frame.data[0] != 0
        return frame.function == question.function and right(frame.data)

    return Ask(data=question.encode(), reply_max=length_on_wire(question, data_max), accepts=accepts,
               repeatable=repeatable, speaks_for=speaks_for, mirrored=not repeatable and accepts(question))  # fmt: skip


def _asked(ask: Ask[Frame]) -> Generator[Ask[Frame], Answer[Frame], Reply[Frame] | _Unanswered]:
    """One question. Raises Refused on an exception reply."""
    answer = yield ask
    if isinstance(answer, Reply):
        if speaks_for(answer.frame):
            return Silence()
        if (refused := refusal(answer.frame)) is not None:
            raise refused
    return answer


def read_bits(
    unit: int, function: int, address: int, count: int, *, transaction: int | None = None, as_ascii: bool = False
) -> Generator[Ask[Frame], Answer[Frame], tuple[bool, ...] | _Unanswered]:
    """Reads coils (function 1) or discrete inputs (2). Raises Refused on an exception reply."""
    question = read_bits_request(unit, function, address, count, transaction=transaction, as_ascii=as_ascii)
    size = (count + 7) // 8
    right = lambda data: len(data) == 1 + size and data[0] == size  # noqa: E731
    answer = yield from _asked(_ask(question, 1 + size, right, repeatable=True))
    return unpack_bits(answer.frame.data[1:], count) if isinstance(answer, Reply) else answer


def _write(question: Frame) -> Generator[Ask[Frame], Answer[Frame], Written | _Unanswered]:
    """A device confirms a write with address and content (or count) of the question. A write is never repeated by the
    bus: whether one that was not confirmed was carried out is for the asker to find out. That of a single coil or
    register is confirmed by a copy of the question: Silence on a serial line where nothing was read before, as it might
    be an echo. Raises Refused."""
    confirmation = question.data[:4]
    ask = _ask(question, 4, lambda data: data == confirmation, repeatable=False)
    answer = yield from _asked(ask)
    return Written(sent_at=answer.sent_at, ended_at=answer.ended_at) if isinstance(answer, Reply) else answer


def write_coil(
    unit: int, address: int, on: bool, *, transaction: int | None = None, as_ascii: bool = False
) -> Generator[Ask[Frame], Answer[Frame], Written | _Unanswered]:
    """Switches one coil. Raises Refused."""
    return _write(write_coil_request(unit, address, on, transaction=transaction, as_ascii=as_ascii))


def write_register(
    unit: int, address: int, word: int, *, transaction: int | None = None, as_ascii: bool = False
) -> Generator[Ask[Frame], Answer[Frame], Written | _Unanswered]:
    """Sets one register. Raises Refused."""
    return _write(write_register_request(unit, address, word, transaction=transaction, as_ascii=as_ascii))


def write_coils(
    unit: int, address: int, bits: Sequence[bool], *, transaction: int | None = None, as_ascii: bool = False
) -> Generator[Ask[Frame], Answer[Frame], Written | _Unanswered]:
    """Switches neighbouring coils. Raises Refused."""
    return _write(write_coils_request(unit, address, bits, transaction=transaction, as_ascii=as_ascii))


def write_registers(
    unit: int, address: int, content: bytes, *, transaction: int | None = None, as_ascii: bool = False
) -> Generator[Ask[Frame], Answer[Frame], Written | _Unanswered]:
    """Sets neighbouring registers, two bytes each. Raises Refused."""
    return _write(write_registers_request(unit, address, content, transaction=transaction, as_ascii=as_ascii))


def identify(
    unit: int, *, code: int = 1, transactions: Iterator[int] | None = None, as_ascii: bool = False
) -> Generator[Ask[Frame], Answer[Frame], dict[int, bytes] | _Unanswered]:
    """Asks who made the device: the objects of a category (see `identify_request`), by number, as the device has them.
    Raises Refused, and Malformed where its answers lead nowhere."""
    found: dict[int, bytes] = {}
    object_id = 0
    for _ in range(QUESTIONS_MAX):
        transaction = next(transactions) if transactions is not None else None
        question = identify_request(unit, code=code, object_id=object_id, transaction=transaction, as_ascii=as_ascii)
        answer = yield from _asked(_ask(question, 252, lambda data: _objects(data, code) is not None, repeatable=True))
        if not isinstance(answer, Reply):
            return answer
        data = answer.frame.data
        found |= _objects(data, code) or {}
        if data[3] != 0xFF:
            return found
        if data[4] <= object_id:
            raise Malformed(f"identification: expected an object after {object_id}, got {data[4]} as the next")
        object_id = data[4]
    raise Malformed(f"identification: expected an end within {QUESTIONS_MAX} answers")


def _objects(data: bytes, code: int) -> dict[int, bytes] | None:
    """The objects in the data of an answer, or None when they do not fill it."""
    if len(data) < 6 or data[0] != IDENTIFY_MEI or data[1] != code:
        return None
    found: dict[int, bytes] = {}
    at = 6
    for _ in range(data[5]):
        if at + 2 > len(data):
            return None
        found[data[at]] = data[at + 2 : at + 2 + data[at + 1]]
        at += 2 + data[at + 1]
    return found if at == len(data) else None
