"""The tables of DL/T 645-2007 against those of an independent implementation, field by field.

Source: the tables in the package dlt645 3.2.0 (Apache-2.0), used as a test peer: an identifier, its fields in the order
of the wire, and the format of each in the words of the standard (`XXXXXX.XX`, `YYMMDDhhmmss`).
"""

import re
from collections.abc import Iterator
from decimal import Decimal
from itertools import cycle

import pytest
from dlt645.config.event_record_types import EVENT_RECORD_TYPES
from dlt645.config.parameter_types import PARAMETER_TYPES
from dlt645.config.variable_types import VARIABLE_TYPES

from protocols.dlt645.items import decode_item
from protocols.quantity import Form

MOMENTS = {
    "YYMMDDhhmmss": ("261121150830", "2026-11-21T15:08:30"),
    "YYMMDDhhmm": ("2611211508", "2026-11-21T15:08"),
    "MMDDhhmm": ("11211508", "--11-21T15:08"),
    "hhmmss": ("150830", "15:08:30"),
    "YYMMDDWW": ("26112106", "2026-11-21"),
}
"""What is sent, high digit first, and what it is read as."""
SHORTER = re.compile(r"033005(?!00)..|0404....")
"""Where the package has less than other sources: slots (28 of 224 entries), displays (no screen)."""
SECRETS = re.compile(r"04000C..")


def tables() -> dict[str, list[str]]:
    """Identifier to the formats of its fields; `ASCII` and a number of characters for a text."""
    found: dict[str, list[str]] = {}
    for row in (*VARIABLE_TYPES, *PARAMETER_TYPES, *EVENT_RECORD_TYPES):
        form = f"ASCII{len(row['DataFormat']) // 2}" if "ASCII" in row["Name"] else row["DataFormat"]
        if not SHORTER.fullmatch(row["Di"]) and not SECRETS.fullmatch(row["Di"]):
            found.setdefault(row["Di"], []).extend(form.split(","))
    return found


def fields(formats: list[str]) -> Iterator[tuple[str, str]]:
    """What is sent, high digit first, and what it is read as: other digits in each field, none of them a sign."""
    digits = cycle("12345670123456")
    for form in formats:
        if form in MOMENTS:
            yield MOMENTS[form]
        elif form.startswith("ASCII"):
            yield "41" * int(form[5:]), "A" * int(form[5:])
        else:
            text = "".join(next(digits) for place in form if place.isalnum())
            yield text, f"{Decimal(text).scaleb(-len(form.partition('.')[2])):f}"


def test_the_package_has_what_it_had() -> None:
    assert len(tables()) == 1142
    assert sum(map(len, tables().values())) == 15_098


@pytest.mark.parametrize("area", sorted({di[:4] for di in tables()}))
def test_every_field_of_the_package_has_its_place_and_its_decimals(area: str) -> None:
    for di, formats in tables().items():
        if di.startswith(area):
            told = list(fields(formats))
            _holds(di, b"".join(bytes.fromhex(text)[::-1] for text, _ in told), told)


def _holds(di: str, payload: bytes, told: list[tuple[str, str]]) -> None:
    """Every value is where the package has it: a number, a moment, or a text of one field or several."""
    waiting = told[::-1]
    for value in decode_item(di, payload):
        assert value.quality.value == "good", (di, value)
        if value.quantity.name == "clock.weekday":
            assert value.plain == "6"
        elif value.quantity.form is Form.TEXT:
            assert value.text is not None
            sent, read = waiting.pop()
            while len(sent) < len(value.text.replace(" ", "")) and read != value.text:
                sent += waiting.pop()[0]
            assert value.text in (read, sent) or value.text.replace(" ", "") == sent, (di, value)
        else:
            expected = waiting.pop()[1]
            assert value.plain is not None
            assert value.plain == expected or Decimal(value.plain) == Decimal(expected), (di, value)
    assert not waiting, di
