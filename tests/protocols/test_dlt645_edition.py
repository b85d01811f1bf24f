"""Which edition a meter speaks is found out, not assumed."""

import pytest

from protocols.dlt645.codes import Edition
from protocols.dlt645.edition import ANSWER_MAX, QUESTIONS, question, says_who, tells
from protocols.dlt645.frame import ANY_METER, BROADCAST, OVERHEAD, Frame, parse
from simulators.dlt645 import Dlt645Meter
from simulators.load import Load
from tests.dlt645 import VECTORS

METER = "202411110002"
AT = 1_800_000_000_000


@pytest.mark.parametrize("edition", Edition)
@pytest.mark.parametrize("address", [METER, ANY_METER])
def test_a_meter_of_an_edition_answers_its_question_and_says_who_it_is(edition: Edition, address: str) -> None:
    meter = Dlt645Meter(METER, Load(1), edition=edition, preamble=0)
    reply = meter.handle(question(edition, address).encode(), AT)
    assert reply is not None and len(reply) <= OVERHEAD + ANSWER_MAX
    frame = parse(reply)
    assert says_who(frame)
    assert [each for each in Edition if tells(frame, each)] == [edition]


def test_the_questions_are_those_that_were_recorded() -> None:
    recorded = {vector["id"]: vector["hex"] for vector in VECTORS}
    assert question(Edition.E1997, "000003430163").encode(0).hex() == recorded["V134"]
    assert [QUESTIONS[edition] for edition in Edition] == [(0x11, "00010000"), (0x01, "9010")]


@pytest.mark.parametrize(
    ("control", "data", "told"),
    [
        (0x91, "0000010078563412", Edition.E2007),
        (0xB1, "0000010078563412", Edition.E2007),
        (0x93, "020011112420", Edition.E2007),
        (0xD1, "02", Edition.E2007),
        (0xD1, "03", Edition.E2007),
        (0xD1, "04", Edition.E2007),
        (0x81, "109078563412", Edition.E1997),
        (0xC1, "02", Edition.E1997),
        (0xC1, "04", Edition.E1997),
        # what a meter of 1997 says to 11, and one of 2007 to 01: both have this bit for what they do not know
        (0xD1, "01", None),
        (0xC1, "01", None),
        (0xD1, "00", None),
        (0xD1, "", None),
        (0x11, "00000100", None),
    ],
)
def test_an_answer_tells_the_edition_if_it_shows_that_the_question_was_understood(
    control: int, data: str, told: Edition | None
) -> None:
    frame = Frame(address=METER, control=control, data=bytes.fromhex(data))
    assert [each for each in Edition if tells(frame, each)] == ([told] if told else [])


@pytest.mark.parametrize("says", [ANY_METER, BROADCAST, "AA2411110002", "20241111000B"])
def test_an_answer_without_a_real_address_does_not_say_who_it_is(says: str) -> None:
    assert not says_who(Frame(address=says, control=0x91))
    assert says_who(Frame(address=METER, control=0x91)) and not says_who(Frame(address=METER, control=0x11))
