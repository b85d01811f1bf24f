"""What is timed on a shared machine is held to what was left of it; on one of its own to the bound as it stands."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.others import Others, others, ours_s

SPUN_S = 0.6
SPIN = [sys.executable, "-S", "-c", f"import time\nwhile time.process_time() < {SPUN_S}: pass"]


@pytest.mark.slow
def test_what_a_child_takes_is_ours() -> None:
    before = ours_s()
    subprocess.run(SPIN, check=True)
    assert ours_s() - before >= SPUN_S - 0.02


@pytest.mark.slow
def test_what_a_stranger_takes_is_not() -> None:
    """One whose parent has ended before it began."""
    before = ours_s()
    with others() as had:
        began = time.monotonic()
        start = f"import subprocess; print(subprocess.Popen({SPIN!r}, stdout=subprocess.DEVNULL).pid)"
        told = subprocess.run([sys.executable, "-S", "-c", start], check=True, capture_output=True, text=True)
        while Path(f"/proc/{told.stdout.strip()}/cwd").exists():  # what has ended and is not buried has none
            time.sleep(0.01)
        lasted_s = time.monotonic() - began
    assert ours_s() - before < SPUN_S - 0.1
    assert had.share * lasted_s * (os.cpu_count() or 1) > SPUN_S - 0.1
    assert had.slower > 1.0


def test_alone_we_are_held_to_what_was_promised() -> None:
    assert Others(share=0.0).slower == 1.0
    assert Others(share=0.75).slower == pytest.approx(4.0)
