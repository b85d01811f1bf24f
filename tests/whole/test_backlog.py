"""A gateway comes back after a long outage: it catches up fast, and neither live data nor the store pays for it."""

from pathlib import Path

import pytest

from tests.backlog import MIB_MAX, SLOWER_MAX, drain
from tests.broker import Broker

VALUES = 300_000


@pytest.mark.slow
def test_a_backlog_lands_whole_and_in_order_while_live_data_is_under_five_seconds_late(
    tmp_path: Path, broker: Broker, capsys: pytest.CaptureFixture[str]
) -> None:
    done = drain(tmp_path, broker, values=VALUES)
    with capsys.disabled():
        print(f"\n{done}", flush=True)
    assert done.values == VALUES and done.wrong == []
    assert done.live.passed, done.live
    assert done.in_time
    assert done.peak_mib <= MIB_MAX
    assert done.append_slower <= SLOWER_MAX
