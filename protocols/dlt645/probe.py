"""Finding out which edition a meter speaks, and its address if it is the only one on the line.

A meter of 1997 is silent to the codes of 2007, and some of 2007 also answer those of 1997: so 2007 is asked first.
Source: live log of a 1997 meter, firmware of 2007 meters; the standards have no such procedure.
"""

from collections.abc import Generator
from dataclasses import dataclass

from protocols.bcd import high_first, low_first
from protocols.capture import Fault, Value, faulty
from protocols.dialogue import Answer, Ask, Dialogue, Garbled, Reply
from protocols.dlt645.codes import Edition
from protocols.dlt645.frame import ANY_METER, BROADCAST, LENGTH_MAX, OVERHEAD, Frame
from protocols.dlt645.reading import answers_for
from protocols.quantity import by_name


@dataclass(frozen=True, slots=True)
class _Question:
    """edition: that of a meter that answers."""

    edition: Edition
    address: str
    function: int
    data: bytes


def _questions(address: str | None) -> list[_Question]:
    questions = [
        _Question(Edition.E2007, address or ANY_METER, 0x11, low_first("00010000")),
        _Question(Edition.E1997, address or BROADCAST, 0x01, low_first("9010")),
    ]
    if address is None:
        questions.insert(0, _Question(Edition.E2007, ANY_METER, 0x13, b""))
    return questions


def probe(address: str | None = None, *, preamble: int = 4) -> Dialogue[Frame]:
    """Two Values: `meter.edition` (`dlt645-2007` or `dlt645-1997`) and `address`.

    address: of the meter, 12 digits; None asks the only meter on the line. Any answer tells, also a refusal. When
    nothing answers, both are silent, or garbled where bytes came.
    """
    fault = Fault.SILENT
    for question in _questions(address):
        answer = yield from _ask(question, preamble)
        if isinstance(answer, Reply):
            return [
                Value(quantity=by_name("meter.edition"), text=question.edition.value),
                Value(quantity=by_name("address"), text=answer.frame.address),
            ]
        if isinstance(answer, Garbled):
            fault = Fault.GARBLED
    return [faulty(by_name("meter.edition"), fault), faulty(by_name("address"), fault)]


def _ask(question: _Question, preamble: int) -> Generator[Ask[Frame], Answer[Frame], Answer[Frame]]:
    wild = BROADCAST if question.edition is Edition.E1997 else ANY_METER

    def accepts(frame: Frame) -> bool:
        if frame.function != question.function or not answers_for(question.address, frame, any_address=wild):
            return False
        if not frame.address.isdecimal() or frame.address == BROADCAST:  # a real meter says who it is
            return False
        if question.function == 0x13:
            return not frame.abnormal and high_first(frame.data) == frame.address
        return len(frame.data) == 1 if frame.abnormal else frame.data.startswith(question.data)

    request = Frame(address=question.address, control=question.function, data=question.data)
    return (
        yield Ask(data=request.encode(preamble), reply_max=preamble + OVERHEAD + LENGTH_MAX, accepts=accepts)
    )  # fmt: skip
