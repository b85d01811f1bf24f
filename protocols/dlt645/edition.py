"""Which edition a meter speaks: the question that each edition is known by, and what an answer to it tells.

A meter of 1997 is silent to the codes of 2007 (a live log), or refuses them without a reason (the firmware of
hoanghon00/meter-dlt645-1997); some of 2007 also answer those of 1997 (firmware). So 2007 holds where both are
answered, and a refusal that gives no reason tells nothing: in both editions bit 0 of the error word stands for all that
is not understood. The standards have no such procedure.
"""

from protocols.bcd import low_first
from protocols.dlt645.codes import Edition, edition_of
from protocols.dlt645.frame import BROADCAST, Frame

QUESTIONS: dict[Edition, tuple[int, str]] = {
    Edition.E2007: (0x11, "00010000"),
    Edition.E1997: (0x01, "9010"),
}
"""Function and identifier: the total of imported energy, which every meter has."""
ANSWER_MAX = 8
"""Bytes of DATA in an answer to these, at most."""
_NO_REASON = frozenset({b"", b"\x00", b"\x01"})


def question(edition: Edition, address: str) -> Frame:
    """The question to this address, wildcards allowed."""
    function, di = QUESTIONS[edition]
    return Frame(address=address, control=function, data=low_first(di))


def says_who(frame: Frame) -> bool:
    """Whether it comes from a meter that names itself: its address has no wildcard and is not everybody's."""
    return frame.from_meter and frame.address.isdecimal() and frame.address != BROADCAST


def tells(frame: Frame, edition: Edition) -> bool:
    """Whether an answer shows that its meter speaks this edition: it has data, or refuses for a reason."""
    understood = not frame.abnormal or frame.data not in _NO_REASON
    return frame.from_meter and understood and edition_of(frame) is edition
