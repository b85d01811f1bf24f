"""A disk whose power can be cut: an ext4 file system in a file, mounted over a loop device.

The cut is the file system's own shutdown without flushing its log: nothing that was not synced before survives, and
until the disk is mounted again every operation on it fails. Needs root and loop devices; see `available`.
"""

import fcntl
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final

SHUTDOWN: Final = 0x8004587D
"""EXT4_IOC_SHUTDOWN, _IOR('X', 125, u32)."""
NO_LOG_FLUSH: Final = 2
COMMAND_S_MAX: Final = 30.0


class PowerDisk:
    """A mounted disk; `path` is where."""

    def __init__(self, directory: Path, *, megabytes: int = 48) -> None:
        """Made and mounted below the directory."""
        self.path = directory / "disk"
        self.path.mkdir()
        self._image = directory / "disk.img"
        with self._image.open("wb") as file:
            file.truncate(megabytes * 1_000_000)
        _command("mkfs.ext4", "-q", "-F", str(self._image))
        self._mount()

    def cut(self) -> None:
        """The power is gone: whoever still writes is told that it failed."""
        handle = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(handle, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(handle)

    def restore(self) -> None:
        """The power is back: what was durable is there. Everyone who had files open has ended before."""
        self.remove()
        self._mount()

    def remove(self) -> None:
        """Unmount it; what is on it is there until the directory is removed."""
        _command("umount", str(self.path))

    def _mount(self) -> None:
        _command("mount", "-o", "loop", str(self._image), str(self.path))


@contextmanager
def power_disk(directory: Path) -> Iterator[PowerDisk]:
    """A disk for as long as the block lasts."""
    disk = PowerDisk(directory)
    try:
        yield disk
    finally:
        disk.remove()


@cache
def available() -> bool:
    """Whether this machine lets us mount such a disk and cut its power."""
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        return False
    with tempfile.TemporaryDirectory(prefix="meterwire-") as name:
        try:
            with power_disk(Path(name)) as disk:
                disk.cut()
        except (OSError, subprocess.SubprocessError):
            return False
    return True


def _command(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, timeout=COMMAND_S_MAX)
