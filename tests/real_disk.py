"""A disk to be harmed: an ext4 file system in a file, mounted over a loop device. Needs root; see `available`.

The harm is real, and the kernel's own: the file system is shut down, without flushing its log (the power is cut) or
after it (the medium is gone), found again, read-only at first, filled to its last byte, and frozen: who writes waits.
"""

import errno
import fcntl
import os
import shutil
import struct
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from tests.substitution import Substituted

SHUTDOWN: Final = 0x8004587D
"""EXT4_IOC_SHUTDOWN, _IOR('X', 125, u32)."""
FLUSH_ALL, NO_LOG_FLUSH = 0, 2
FREEZE, THAW = 0xC0045877, 0xC0045878
"""FIFREEZE and FITHAW, _IOWR('X', 119 and 120, int)."""
COMMAND_S_MAX: Final = 30.0
AGAIN_S: Final = 0.02
"""Between two looks of the one who fills the disk."""


class RealDisk:
    """A mounted disk; `path` is where."""

    def __init__(self, directory: Path, *, megabytes: int = 48) -> None:
        """Made and mounted below the directory."""
        self.path = directory / "disk"
        self.path.mkdir()
        self._image = directory / "disk.img"
        with self._image.open("wb") as file:
            file.truncate(megabytes * 1_000_000)
        _command("mkfs.ext4", "-q", "-F", str(self._image))
        _command("mount", "-o", "loop", str(self._image), str(self.path))

    def cut(self) -> None:
        """The power is gone, and what was not synced with it: whoever still writes is told that it failed."""
        self._shut_down(NO_LOG_FLUSH)

    def restore(self) -> None:
        """The power is back: what was durable is there. Everyone who had files open has ended before."""
        _command("umount", str(self.path))
        _command("mount", "-o", "loop", str(self._image), str(self.path))

    def fail(self) -> None:
        """The medium is gone, whole as it is: every read, write and sync fails, for those who have files open too."""
        self._shut_down(FLUSH_ALL)

    def find_again(self) -> None:
        """The medium that failed is mounted again, read-only, as a system does with one that it does not trust.

        Files that are still open are those of its former life, and fail as before.
        """
        _command("umount", "--lazy", str(self.path))
        device = _command("losetup", "--find", "--show", str(self._image))
        try:
            _command("mount", "-o", "ro", device, str(self.path))
        finally:
            _command("losetup", "--detach", device)  # when it is not mounted any more

    def let_write(self) -> None:
        """What was mounted read-only can be written again."""
        _command("mount", "-o", "remount,rw", str(self.path))

    @contextmanager
    def filled(self, *, again: bool) -> Iterator[None]:
        """While the block lasts, somebody else has all the room that there was, to the last byte.

        again: also what becomes free meanwhile.
        """
        over, path = threading.Event(), self.path / "somebody-else"
        with path.open("ab", buffering=0) as file:
            _fill(file.fileno())
            thread = threading.Thread(target=_fill_again, args=(file.fileno(), over), name="filling")
            if again:
                thread.start()
            try:
                yield
            finally:
                over.set()
                if again:
                    thread.join()
        path.unlink()

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """While the block lasts, whoever writes or syncs waits; what is in memory can be read."""
        self._control(FREEZE, 0)
        try:
            yield
        finally:
            self._control(THAW, 0)

    def remove(self) -> None:
        """Unmount it; what is on it is there until the directory is removed."""
        _command("umount", str(self.path))

    def _shut_down(self, how: int) -> None:
        self._control(SHUTDOWN, how)

    def _control(self, what: int, argument: int) -> None:
        handle = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(handle, what, struct.pack("I", argument))
        finally:
            os.close(handle)


def _fill(descriptor: int) -> None:
    size = 1 << 20
    while size:
        try:
            os.write(descriptor, bytes(size))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            size //= 2
    os.fsync(descriptor)


def _fill_again(descriptor: int, over: threading.Event) -> None:
    while not over.wait(AGAIN_S):
        _fill(descriptor)


@contextmanager
def mounted(directory: Path, *, megabytes: int = 48) -> Iterator[RealDisk]:
    """A disk for as long as the block lasts."""
    disk = RealDisk(directory, megabytes=megabytes)
    try:
        yield disk
    finally:
        disk.remove()


@cache
def available() -> bool:
    """Whether this machine lets us mount such a disk and shut it down."""
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        return False
    with tempfile.TemporaryDirectory(prefix="meterwire-") as name:
        try:
            with mounted(Path(name)) as disk:
                disk.cut()
        except (OSError, subprocess.SubprocessError):
            return False
    return True


@pytest.fixture
def real_disks(substituted: Substituted) -> None:
    """Disks can be harmed here; where they cannot, the harm is done below SQLite, in the tests of the store."""
    if not available():
        substituted("a real disk (root, loop devices, mkfs.ext4)", "the recording and the failing VFS")
        pytest.xfail("no disk here can be harmed; the tests of the store with a VFS stand in")


def _command(*words: str) -> str:
    done = subprocess.run(words, check=True, capture_output=True, timeout=COMMAND_S_MAX, text=True)
    return done.stdout.strip()
