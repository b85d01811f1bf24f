"""What a deframer says is missing is missing: with fewer bytes, whichever they are, no frame comes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.dialogue import Deframer
from protocols.dlt645.frame import Deframer as Dlt645Deframer
from protocols.modbus.ascii import AsciiDeframer
from protocols.modbus.frame import RtuDeframer, TcpDeframer
from tests.modbus import exception, reply
from tests.script import energy

RTU = [reply(range(10)).encode(), reply([7]).encode(), exception(2).encode(), bytes.fromhex("01030006")]
DLT645 = [energy(), b"\xfe\xfe\xfe\xfe" + energy("000000000002"), bytes.fromhex("6801000000000068910a")]
ASCII = [reply(range(10), as_ascii=True).encode(), exception(2, as_ascii=True).encode(), b":010306"]
TCP = [reply(range(10), transaction=7).encode(), bytes.fromhex("0001000000ff0103")]
DEFRAMERS = {
    "modbus-rtu": (RtuDeframer, RTU),
    "modbus-ascii": (AsciiDeframer, ASCII),
    "modbus-tcp": (TcpDeframer, TCP),
    "dlt645": (Dlt645Deframer, DLT645),
}


@pytest.mark.parametrize("protocol", DEFRAMERS)
@given(data=st.data())
@settings(max_examples=300)
def test_with_less_than_what_is_missing_no_frame_comes(protocol: str, data: st.DataObject) -> None:
    make, known = DEFRAMERS[protocol]
    stream = b"".join(data.draw(st.lists(st.sampled_from(known) | st.binary(max_size=30), min_size=1, max_size=4)))
    at = data.draw(st.integers(0, len(stream)))
    deframer: Deframer[object] = make()
    deframer.feed(stream[:at])
    missing = deframer.missing
    assert missing >= 0
    following = data.draw(st.just(stream[at:]) | st.binary(min_size=missing, max_size=missing + 1))
    assert deframer.feed(following[: max(missing - 1, 0)]) == []


@pytest.mark.parametrize(("protocol", "whole"), [("modbus-rtu", RTU[0]), ("dlt645", energy())])
def test_once_a_frame_has_told_its_length_what_is_missing_is_exact(protocol: str, whole: bytes) -> None:
    make, _ = DEFRAMERS[protocol]
    for held in range(14, len(whole)):
        deframer: Deframer[object] = make()
        assert deframer.feed(whole[:held]) == []
        assert deframer.missing == len(whole) - held
        assert len(deframer.feed(whole[held:])) == 1
