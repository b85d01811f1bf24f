"""A directory for stores whose syncs need not reach a disk: power cuts are drawn, and virtual time never waits."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MEMORY = Path("/dev/shm")


@contextmanager
def scratch(megabytes: int) -> Iterator[Path]:
    """A new directory, removed at the end: in memory where there is room for so much, else on the disk.

    A container has 64 MB there unless it is told otherwise; a run that outgrows them would find its disk full.
    """
    roomy = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= 2 * megabytes * 1_000_000
    with tempfile.TemporaryDirectory(prefix="meterwire-", dir=MEMORY if roomy else None) as name:
        yield Path(name)
