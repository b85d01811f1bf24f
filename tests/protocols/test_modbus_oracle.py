"""Our frames and registers against pymodbus, which was written by others: what one encodes the other decodes."""

from decimal import Decimal
from typing import Any, Literal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pymodbus.client.mixin import ModbusClientMixin
from pymodbus.framer import FramerAscii, FramerRTU, FramerSocket
from pymodbus.pdu import DecodePDU, ExceptionResponse
from pymodbus.pdu import bit_message as bit
from pymodbus.pdu import mei_message as mei
from pymodbus.pdu import register_message as register
from pymodbus.pdu.register_message import (
    ReadHoldingRegistersRequest,
    ReadHoldingRegistersResponse,
    ReadInputRegistersRequest,
    ReadInputRegistersResponse,
)

from protocols.dialogue import Reply
from protocols.modbus import commands, requests
from protocols.modbus.ascii import AsciiDeframer
from protocols.modbus.frame import Frame, RtuDeframer, TcpDeframer, read_request
from protocols.modbus.registers import Format, Type, shortest_float32
from protocols.modbus.requests import WRITE_BITS_MAX
from tests.modbus import deframe, exception, reply

REQUEST = {3: ReadHoldingRegistersRequest, 4: ReadInputRegistersRequest}
RESPONSE = {3: ReadHoldingRegistersResponse, 4: ReadInputRegistersResponse}
FUNCTION = st.sampled_from([3, 4])
UNIT = st.integers(1, 247)
TRANSACTION = st.one_of(st.none(), st.just("ascii"), st.integers(1, 0xFFFF))
"""None for RTU, a transaction for TCP."""
Over = int | Literal["ascii"] | None
REGISTERS = st.lists(st.integers(0, 0xFFFF), min_size=1, max_size=125)


def framer(over: Over, *, server: bool) -> Any:
    return (FramerRTU if over is None else FramerAscii if over == "ascii" else FramerSocket)(DecodePDU(server))


def framing(over: Over) -> dict[str, Any]:
    """How our own frames are told what carries them."""
    return {"transaction": over if isinstance(over, int) else None, "as_ascii": over == "ascii"}


def number(over: Over) -> int:
    """The transaction as pymodbus has it."""
    return over if isinstance(over, int) else 0


def ours(stream: bytes, over: Over, side: Literal["requests", "replies"]) -> list[Frame]:
    if over == "ascii":
        return deframe(AsciiDeframer(), [stream])
    return deframe(RtuDeframer(side) if over is None else TcpDeframer(side), [stream])


@given(UNIT, FUNCTION, st.integers(0, 0xFF00), st.integers(1, 125), TRANSACTION)
@settings(max_examples=80)
def test_questions_agree(unit: int, function: int, address: int, count: int, over: Over) -> None:
    question = read_request(unit, function, address, count, **framing(over))
    theirs = REQUEST[function](address=address, count=count, dev_id=unit, transaction_id=number(over))
    assert framer(over, server=True).buildFrame(theirs) == question.encode()
    used, read = framer(over, server=True).handleFrame(question.encode(), 0, 0)
    assert used == len(question.encode())
    assert (read.dev_id, read.function_code, read.address, read.count) == (unit, function, address, count)
    assert ours(framer(over, server=True).buildFrame(theirs), over, "requests") == [question]


@given(UNIT, FUNCTION, REGISTERS, TRANSACTION)
@settings(max_examples=80)
def test_answers_agree(unit: int, function: int, registers: list[int], over: Over) -> None:
    answer = reply(registers, unit=unit, function=function, **framing(over))
    theirs = RESPONSE[function](registers=registers, dev_id=unit, transaction_id=number(over))
    assert framer(over, server=False).buildFrame(theirs) == answer.encode()
    _, read = framer(over, server=False).handleFrame(answer.encode(), unit, number(over))
    assert read.registers == registers
    assert ours(framer(over, server=False).buildFrame(theirs), over, "replies") == [answer]


@given(UNIT, FUNCTION, st.integers(1, 255), TRANSACTION)
@settings(max_examples=40)
def test_refusals_agree(unit: int, function: int, code: int, over: Over) -> None:
    refusal = exception(code, unit=unit, function=function, **framing(over))
    theirs = ExceptionResponse(function, code, device_id=unit, transaction=number(over))
    assert framer(over, server=False).buildFrame(theirs) == refusal.encode()
    assert [frame.exception for frame in ours(refusal.encode(), over, "replies")] == [code]


TYPES = {kind: getattr(ModbusClientMixin.DATATYPE, kind.name) for kind in Type}


@pytest.mark.parametrize("kind", TYPES)
@given(st.binary(min_size=8, max_size=8), st.booleans())
@example(bytes.fromhex("7FC0000000000000"), False)
@example(bytes.fromhex("7F80000000000000"), False)
@example(bytes.fromhex("FFF0000000000000"), False)
@settings(max_examples=40)
def test_numbers_agree(kind: Type, raw: bytes, swap: bool) -> None:
    raw = raw[: 2 * kind.words]
    registers = [int.from_bytes(raw[n : n + 2], "big") for n in range(0, len(raw), 2)]
    theirs = ModbusClientMixin.convert_from_registers(
        registers, TYPES[kind], word_order="little" if swap else "big"
    )  # fmt: skip
    number = Format(type=kind, swap=swap).decode(raw)
    if isinstance(number, Decimal):
        assert (
            float(number) == pytest.approx(theirs, rel=1e-7) if kind is Type.FLOAT32 else number == Decimal(str(theirs))
        )
        back = ModbusClientMixin.convert_to_registers(
            float(number) if kind.floating else int(number), TYPES[kind], word_order="little" if swap else "big"
        )
        assert back == registers
    else:
        assert (kind.floating and theirs in (float("inf"), float("-inf"))) or theirs != theirs


def test_a_float_that_pymodbus_writes_reads_as_it_was_meant() -> None:
    for text in ("230.1", "49.98", "12345.67", "-0.5", "1e-05"):
        registers = ModbusClientMixin.convert_to_registers(float(text), ModbusClientMixin.DATATYPE.FLOAT32)
        raw = b"".join(register.to_bytes(2, "big") for register in registers)
        assert shortest_float32(raw) == Decimal(text)


BITS = st.lists(st.booleans(), min_size=1, max_size=WRITE_BITS_MAX)
WORD = st.integers(0, 0xFFFF)
LOW = st.integers(0, 0xF000)


def both_ways(question: Frame, theirs: Any, confirmation: bytes, their_answer: Any, over: Over) -> Any:
    """A question and its answer, each encoded by either side and read by the other; what pymodbus read as question."""
    assert framer(over, server=True).buildFrame(theirs) == question.encode()
    used, read = framer(over, server=True).handleFrame(question.encode(), 0, 0)
    assert used == len(question.encode()) and (read.function_code, read.dev_id) == (question.function, question.unit)
    assert ours(question.encode(), over, "requests") == [question]
    answer = Frame(unit=question.unit, function=question.function, data=confirmation, transaction=question.transaction,
                   ascii=question.ascii)  # fmt: skip
    assert framer(over, server=False).buildFrame(their_answer) == answer.encode()
    assert ours(answer.encode(), over, "replies") == [answer]
    return read


def result_of(dialogue: Any, frame: Frame) -> Any:
    """What a dialogue of one question makes of this frame, which has to be its answer."""
    ask = next(dialogue)
    assert ask.accepts(frame) and len(frame.encode()) <= ask.reply_max
    with pytest.raises(StopIteration) as ended:
        dialogue.send(Reply(frame=frame, sent_at=3, ended_at=9))
    return ended.value.value


@given(UNIT, st.sampled_from([1, 2]), LOW, BITS, TRANSACTION)
@settings(max_examples=60)
def test_reads_of_bits_agree(unit: int, function: int, address: int, bits: list[bool], over: Over) -> None:
    their = {1: (bit.ReadCoilsRequest, bit.ReadCoilsResponse),
             2: (bit.ReadDiscreteInputsRequest, bit.ReadDiscreteInputsResponse)}[function]  # fmt: skip
    common = {"dev_id": unit, "transaction_id": number(over)}
    question = requests.read_bits_request(unit, function, address, len(bits), **framing(over))
    packed = requests.pack_bits(bits)
    data = bytes((len(packed),)) + packed
    padded = bits + [False] * (-len(bits) % 8)
    read = both_ways(question, their[0](address=address, count=len(bits), **common), data,
                     their[1](bits=padded, **common), over)  # fmt: skip
    assert (read.address, read.count) == (address, len(bits))
    answer = Frame(unit=unit, function=function, data=data, transaction=question.transaction, ascii=question.ascii)
    assert result_of(commands.read_bits(unit, function, address, len(bits), **framing(over)), answer) == tuple(bits)


@given(UNIT, LOW, WORD, st.booleans(), TRANSACTION)
@settings(max_examples=40)
def test_single_writes_agree(unit: int, address: int, word: int, on: bool, over: Over) -> None:
    common = {"address": address, "dev_id": unit, "transaction_id": number(over)}
    coil = requests.write_coil_request(unit, address, on, **framing(over))
    read = both_ways(coil, bit.WriteSingleCoilRequest(bits=[on], **common), coil.data,
                     bit.WriteSingleCoilResponse(bits=[on], **common), over)  # fmt: skip
    assert (read.address, read.bits) == (address, [on])
    one = requests.write_register_request(unit, address, word, **framing(over))
    read = both_ways(one, register.WriteSingleRegisterRequest(registers=[word], **common), one.data,
                     register.WriteSingleRegisterResponse(registers=[word], **common), over)  # fmt: skip
    assert (read.address, read.registers) == (address, [word])
    written = commands.Written(sent_at=3, ended_at=9)
    assert result_of(commands.write_coil(unit, address, on, **framing(over)), coil) == written
    assert result_of(commands.write_register(unit, address, word, **framing(over)), one) == written


@given(UNIT, LOW, BITS, st.lists(WORD, min_size=1, max_size=123), TRANSACTION)
@settings(max_examples=40)
def test_writes_of_many_agree(unit: int, address: int, bits: list[bool], words: list[int], over: Over) -> None:
    common = {"address": address, "dev_id": unit, "transaction_id": number(over)}
    coils = requests.write_coils_request(unit, address, bits, **framing(over))
    read = both_ways(coils, bit.WriteMultipleCoilsRequest(bits=bits, **common), coils.data[:4],
                     bit.WriteMultipleCoilsResponse(count=len(bits), **common), over)  # fmt: skip
    assert (read.address, read.bits[: len(bits)]) == (address, bits)
    content = b"".join(word.to_bytes(2, "big") for word in words)
    many = requests.write_registers_request(unit, address, content, **framing(over))
    read = both_ways(many, register.WriteMultipleRegistersRequest(registers=words, **common), many.data[:4],
                     register.WriteMultipleRegistersResponse(count=len(words), **common), over)  # fmt: skip
    assert (read.address, read.registers) == (address, words)
    for dialogue, question in [
        (commands.write_coils(unit, address, bits, **framing(over)), coils),
        (commands.write_registers(unit, address, content, **framing(over)), many),
    ]:
        confirmed = Frame(unit=unit, function=question.function, data=question.data[:4],
                          transaction=question.transaction, ascii=question.ascii)  # fmt: skip
        assert result_of(dialogue, confirmed) == commands.Written(sent_at=3, ended_at=9)


@given(UNIT, st.dictionaries(st.integers(0, 6), st.binary(min_size=1, max_size=20), min_size=1), TRANSACTION)
@settings(max_examples=40)
def test_identifications_agree(unit: int, objects: dict[int, bytes], over: Over) -> None:
    objects = dict(sorted(objects.items()))
    common = {"dev_id": unit, "transaction_id": number(over)}
    question = requests.identify_request(unit, code=2, **framing(over))
    listed = b"".join(bytes((key, len(text))) + text for key, text in objects.items())
    data = bytes((0x0E, 2, 0x83, 0, 0, len(objects))) + listed
    theirs = mei.ReadDeviceInformationResponse(read_code=2, information=objects, **common)
    both_ways(question, mei.ReadDeviceInformationRequest(read_code=2, object_id=0, **common), data, theirs, over)
    answer = Frame(unit=unit, function=0x2B, data=data, transaction=question.transaction, ascii=question.ascii)
    transactions = iter([over]) if isinstance(over, int) else None
    dialogue = commands.identify(unit, code=2, transactions=transactions, as_ascii=over == "ascii")
    assert result_of(dialogue, answer) == objects
