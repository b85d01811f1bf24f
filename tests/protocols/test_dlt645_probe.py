"""Which edition a meter speaks is found out, not assumed."""

import pytest

from protocols.capture import Fault
from protocols.dialogue import Ask
from protocols.dlt645.codes import Edition
from protocols.dlt645.frame import ANY_METER, BROADCAST, Deframer, Frame
from protocols.dlt645.probe import probe
from simulators.dlt645 import Dlt645Meter
from simulators.load import Load
from tests.dlt645 import converse

METER = "202411110002"
AT = 1_800_000_000_000


def functions(asks: list[Ask[Frame]]) -> list[tuple[int, str]]:
    frames = [frame for ask in asks for frame in Deframer().feed(ask.data)]
    return [(frame.control, frame.address) for frame in frames]


def asked(meter: Dlt645Meter | None, address: str | None) -> tuple[list[str | None], list[tuple[int, str]]]:
    """The two texts of a probe, and what was asked."""

    def answers(question: bytes) -> bytes:
        # a live meter of 1997 took the address of all nines for its own
        (frame,) = Deframer().feed(question)
        if meter is not None and meter.edition is Edition.E1997 and frame.address == BROADCAST:
            question = Frame(address=meter.address, control=frame.control, data=frame.data).encode()
        return (meter.handle(question, AT) if meter else None) or b""

    values, asks = converse(probe(address), answers)
    assert [value.quantity.name for value in values] == ["meter.edition", "address"]
    return [value.text for value in values], functions(asks)


@pytest.mark.parametrize(
    ("edition", "address", "questions"),
    [
        (Edition.E2007, METER, [(0x11, METER)]),
        (Edition.E2007, None, [(0x13, ANY_METER)]),
        (Edition.E1997, METER, [(0x11, METER), (0x01, METER)]),
        (Edition.E1997, None, [(0x13, ANY_METER), (0x11, ANY_METER), (0x01, BROADCAST)]),
    ],
)
def test_the_edition_of_a_meter_is_found(
    edition: Edition, address: str | None, questions: list[tuple[int, str]]
) -> None:
    meter = Dlt645Meter(METER, Load(1), edition=edition)
    assert asked(meter, address) == ([edition.value, METER], questions)


def test_where_nobody_is_both_are_silent() -> None:
    texts, questions = asked(None, None)
    assert texts == [None, None]
    assert len(questions) == 3


@pytest.mark.parametrize(
    ("control", "data", "edition"),
    [
        (0xD1, b"\x02", "dlt645-2007"),
        (0xD1, b"\x04", "dlt645-2007"),
        (0x91, bytes.fromhex("0000010078563412"), "dlt645-2007"),
        (0xC1, b"\x02", "dlt645-1997"),
        (0x81, bytes.fromhex("109078563412"), "dlt645-1997"),
        (0x91, bytes.fromhex("0000020078563412"), None),
        (0x91, b"", None),
        (0xD1, b"", None),
        (0x94, b"", None),
    ],
)
def test_any_answer_tells_also_a_refusal(control: int, data: bytes, edition: str | None) -> None:
    reply = Frame(address=METER, control=control, data=data).encode()
    values, _ = converse(probe(METER), lambda _: reply)
    assert values[0].text == edition
    assert edition or {value.fault for value in values} == {Fault.GARBLED}


@pytest.mark.parametrize("says", [ANY_METER, BROADCAST, "202411110003"])
def test_an_answer_without_a_real_address_tells_nothing(says: str) -> None:
    reply = Frame(address=says, control=0x91, data=bytes.fromhex("0000010078563412")).encode()
    values, _ = converse(probe(METER), lambda _: reply)
    assert {value.fault for value in values} == {Fault.GARBLED}


def test_a_meter_that_says_another_address_than_its_own_is_not_believed() -> None:
    reply = Frame(address="202411110003", control=0x93, data=bytes.fromhex(METER)[::-1]).encode()
    values, asks = converse(probe(), lambda _: reply)
    assert len(asks) == 3
    assert {value.fault for value in values} == {Fault.GARBLED}
