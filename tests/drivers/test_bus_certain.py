"""What a line vouches for is what came over it, with the settings that it came with; others may be asked meanwhile."""

from typing import Any

import pytest

from config.model import SerialSettings
from drivers.bus import Lane
from drivers.confirm import confirmed
from protocols.capture import Quality
from protocols.dlt645 import v2007
from tests.desk import Desk, good, serve
from tests.script import Said, ScriptedLine, meter

QUICK: dict[str, Any] = {"turnaround_ms_max": 200, "late_max_ms": 300, "attempts": 2}
BILLED, OTHER = "000000000001", "000000000002"
EVEN, NONE = SerialSettings.parse("9600-8E1"), SerialSettings.parse("2400-8N1")


class KernelLine(ScriptedLine):
    """A line that checks parity where its settings have any."""

    def apply(self, settings: SerialSettings) -> None:
        super().apply(settings)
        self.parity = "none" if settings.parity == "N" else "enforced"


def billed(serial: SerialSettings, *, within_s: float) -> Quality:
    """Of an energy that was read once, when the meter fell silent and its job came to its deadline."""

    def answer(question: bytes, n: int) -> Said:
        falls_silent = bytes.fromhex("3333 3533") in question and question.lstrip(b"\xfe")[1] == 1
        return [] if falls_silent else good(question, n)

    line = KernelLine(answer)
    line.parity = "enforced"  # the bus's own settings
    desk = Desk(line)

    async def script() -> None:
        desk.ask(
            meter(BILLED, serial=serial, **QUICK),
            lambda: confirmed(lambda: v2007.read(BILLED, ["00010000", "00020000"]), certain=lambda: desk.bus.certain),
            name="billed", lane=Lane.BILLING, within_s=within_s,
        )  # fmt: skip
        desk.energy(meter(OTHER, serial=EVEN, **QUICK), name="other", lane=Lane.BILLING)

    serve(desk, script, for_s=30)
    values = desk.outcome("billed").values
    assert values is not None
    assert [value.plain for value in values] == ["12.34", None]
    return values[0].quality


@pytest.mark.parametrize("within_s", [0.9, 1.0, 1.1, 1.2, 1.3, 1.5, 2.0])
def test_a_line_without_parity_is_not_vouched_for_by_that_of_whoever_was_asked_last(within_s: float) -> None:
    assert billed(NONE, within_s=within_s) is Quality.DOUBTFUL


def test_a_line_with_parity_is() -> None:
    assert billed(EVEN, within_s=1.2) is Quality.GOOD
