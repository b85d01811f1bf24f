"""Our frames and registers against pymodbus, which was written by others: what one encodes the other decodes."""

from decimal import Decimal
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymodbus.client.mixin import ModbusClientMixin
from pymodbus.framer import FramerRTU, FramerSocket
from pymodbus.pdu import DecodePDU, ExceptionResponse
from pymodbus.pdu.register_message import (
    ReadHoldingRegistersRequest,
    ReadHoldingRegistersResponse,
    ReadInputRegistersRequest,
    ReadInputRegistersResponse,
)

from protocols.modbus.frame import Frame, RtuDeframer, TcpDeframer, read_request
from protocols.modbus.registers import Format, Type, shortest_float32
from tests.modbus import deframe, exception, reply

REQUEST = {3: ReadHoldingRegistersRequest, 4: ReadInputRegistersRequest}
RESPONSE = {3: ReadHoldingRegistersResponse, 4: ReadInputRegistersResponse}
FUNCTION = st.sampled_from([3, 4])
UNIT = st.integers(1, 247)
TRANSACTION = st.one_of(st.none(), st.integers(1, 0xFFFF))
REGISTERS = st.lists(st.integers(0, 0xFFFF), min_size=1, max_size=125)


def framer(transaction: int | None, *, server: bool) -> Any:
    return (FramerRTU if transaction is None else FramerSocket)(DecodePDU(server))


def ours(stream: bytes, transaction: int | None, side: Literal["requests", "replies"]) -> list[Frame]:
    return deframe(RtuDeframer(side) if transaction is None else TcpDeframer(side), [stream])


@given(UNIT, FUNCTION, st.integers(0, 0xFF00), st.integers(1, 125), TRANSACTION)
@settings(max_examples=80, deadline=None)
def test_questions_agree(unit: int, function: int, address: int, count: int, transaction: int | None) -> None:
    question = read_request(unit, function, address, count, transaction=transaction)
    theirs = REQUEST[function](address=address, count=count, dev_id=unit, transaction_id=transaction or 0)
    assert framer(transaction, server=True).buildFrame(theirs) == question.encode()
    used, read = framer(transaction, server=True).handleFrame(question.encode(), 0, 0)
    assert used == len(question.encode())
    assert (read.dev_id, read.function_code, read.address, read.count) == (unit, function, address, count)
    assert ours(framer(transaction, server=True).buildFrame(theirs), transaction, "requests") == [question]


@given(UNIT, FUNCTION, REGISTERS, TRANSACTION)
@settings(max_examples=80, deadline=None)
def test_answers_agree(unit: int, function: int, registers: list[int], transaction: int | None) -> None:
    answer = reply(registers, unit=unit, function=function, transaction=transaction)
    theirs = RESPONSE[function](registers=registers, dev_id=unit, transaction_id=transaction or 0)
    assert framer(transaction, server=False).buildFrame(theirs) == answer.encode()
    _, read = framer(transaction, server=False).handleFrame(answer.encode(), unit, transaction or 0)
    assert read.registers == registers
    assert ours(framer(transaction, server=False).buildFrame(theirs), transaction, "replies") == [answer]


@given(UNIT, FUNCTION, st.integers(1, 11), TRANSACTION)
@settings(max_examples=40, deadline=None)
def test_refusals_agree(unit: int, function: int, code: int, transaction: int | None) -> None:
    refusal = exception(code, unit=unit, function=function, transaction=transaction)
    theirs = ExceptionResponse(function, code, device_id=unit, transaction=transaction or 0)
    assert framer(transaction, server=False).buildFrame(theirs) == refusal.encode()
    assert [frame.exception for frame in ours(refusal.encode(), transaction, "replies")] == [code]


TYPES = {kind: getattr(ModbusClientMixin.DATATYPE, kind.name) for kind in Type}


@pytest.mark.parametrize("kind", TYPES)
@given(st.binary(min_size=8, max_size=8), st.booleans())
@settings(max_examples=40, deadline=None)
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
