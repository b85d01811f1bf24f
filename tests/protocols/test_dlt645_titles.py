"""Every identifier that the standard or a grid knows has a name, in English and Chinese, if not always a value."""

from typing import Any

import pytest

from protocols.dlt645.codes import Edition
from protocols.dlt645.reading import opaque
from protocols.dlt645.titles import title
from tests.dlt645 import WHOLE, edition_in, label
from tests.protocols.test_dlt645_items import BLOCKS, SINGLES

NAMED_2007 = [
    "0000FF00", "000C0000", "00150000", "00C20000", "0001FF0C", "00900100", "0101FFFF", "0102000C", "020A0301",
    "020CFF00", "02800023", "03050000", "030F0301", "0310030C", "03120601", "03300E0A", "10000001", "1D010203",
    "23000001", "04000101", "04000C0A", "04001204", "04050102", "04060001", "04800004", "0500FF01", "05080001",
    "0506FF3E", "05F00101", "06000002", "060000FF", "06100601", "061008FF", "070000FF", "078102FF", "04001503",
]  # fmt: skip
NAMED_1997 = ["9000", "90FF", "9A1F", "A99F", "B214", "B34F", "B660", "B670", "B683", "B691", "C022", "C040", "C11A",
              "C12F", "C212", "C41E", "C511", "E501", "6001"]  # fmt: skip
IN_NO_STANDARD = {"V046", "V107"}
"""0100 to a meter of 1997, EEEEEE02 to one of 2007."""


def test_every_identifier_has_a_name_in_both_languages() -> None:
    named = [*((di, Edition.E2007) for di in NAMED_2007), *((di, Edition.E1997) for di in NAMED_1997)]
    for di, edition in [*SINGLES, *BLOCKS, *named]:
        found = title(di, edition)
        assert found is not None, di
        assert all(found), di
        assert not found[1].isascii(), di


@pytest.mark.parametrize("vector", [v for v in WHOLE if "di" in v["meaning"]], ids=label)
def test_every_recorded_identifier_has_a_name(vector: dict[str, Any]) -> None:
    assert (title(vector["meaning"]["di"], edition_in(vector)) is None) == (vector["id"] in IN_NO_STANDARD)


@pytest.mark.parametrize(
    ("di", "en", "zh"),
    [
        ("05060001", "record.time.daily_1", "上1次日冻结记录时间"),
        ("0001FF00", "energy.active.import.total and on", "正向有功总电能等"),
        ("0506FF01", "freeze daily, block", "日冻结数据块"),
        ("03300401", "event.clock_set.operator.record_1 and on", "上1次校时操作者代码等"),
        ("1D010001", "event trip, grid extension", "跳闸事件（扩展）"),
        ("B660", "frequency or total apparent power, by maker", "频率或总视在功率（依厂家）"),
    ],
)
def test_known_identifiers_are_called_so(di: str, en: str, zh: str) -> None:
    assert title(di, Edition.E2007 if len(di) == 8 else Edition.E1997) == (en, zh)


def test_what_has_no_form_is_read_as_text_under_its_name() -> None:
    assert (opaque("0506FF01").name, opaque("0506FF01").zh) == ("dlt645.0506FF01", "日冻结数据块 0506FF01")
    assert (opaque("EEEEEE02").zh, opaque("B660").zh) == ("", "频率或总视在功率（依厂家） B660")
