"""What the control byte and the error word of DL/T 645 say, in each edition."""

from typing import Any

import pytest

from protocols.dlt645.codes import Edition, edition_of, identifier_of, refusal_of, sequence_of
from protocols.dlt645.frame import Deframer, Frame
from tests.dlt645 import WHOLE, edition_in, label


@pytest.mark.parametrize("vector", WHOLE, ids=label)
def test_a_recorded_frame_has_its_edition_identifier_sequence_and_refusal(vector: dict[str, Any]) -> None:
    (frame,) = Deframer().feed(bytes.fromhex(vector["hex"]))
    meaning = vector["meaning"]
    assert edition_of(frame) is edition_in(vector)
    assert identifier_of(frame, edition_in(vector)) == meaning.get("di")
    assert sequence_of(frame, edition_in(vector)) == meaning.get("seq")
    refusal = refusal_of(frame, edition_in(vector))
    assert ([en for en, _ in refusal.reasons] if refusal else None) == meaning.get("errors")
    assert (refusal.code if refusal else None) == meaning.get("error_word")


@pytest.mark.parametrize(
    ("control", "data", "edition", "absent", "text"),
    [
        (0xD1, "02", Edition.E2007, True, "02: no requested data"),
        (0xD1, "06", Edition.E2007, False, "06: no requested data, wrong password/unauthorised"),
        (0xD1, "00", Edition.E2007, False, "00: code 00"),
        (0xDC, "0104", Edition.E2007, False, "0401: code 0401"),
        (0xC3, "0400", Edition.E2007, False, "0004: ESAM check failed"),
        (0xD1, "", Edition.E2007, False, ": code missing"),
        (0xC1, "02", Edition.E1997, True, "02: wrong data identifier"),
        (0xC4, "04", Edition.E1997, False, "04: wrong password"),
    ],
)
def test_a_refusal_says_why(control: int, data: str, edition: Edition, absent: bool, text: str) -> None:
    refusal = refusal_of(Frame(address="1" * 12, control=control, data=bytes.fromhex(data)), edition)
    assert refusal is not None
    assert (refusal.absent, str(refusal)) == (absent, text)
