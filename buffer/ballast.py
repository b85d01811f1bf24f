"""Space that is given up when the disk is full, so that the disk can be left again.

In WAL mode a full disk is a trap: deleting rows writes to the WAL, and so does everything that could make room. The
ballast is a file that stands for the room that this takes. It goes when the disk is full, and is made again once there
is twice as much room.
"""

import os
from pathlib import Path
from typing import Final

NAME: Final = "outbox.ballast"


class Ballast:
    """The file, of `size` bytes; none is ever made with 0."""

    def __init__(self, directory: Path, size: int) -> None:
        self.path = directory / NAME
        self._size = size

    def release(self) -> bool:
        """Give the room back to the disk; False when there was nothing to give. A disk that fails gives nothing."""
        try:
            self.path.unlink()
        except OSError:
            return False
        return True

    def restore(self) -> bool:
        """Make it again when there is room; whether it stands now."""
        if not self._size:
            return False
        try:
            if self.path.stat().st_size >= self._size:
                return True
        except FileNotFoundError:
            pass  # that is what this is for
        except OSError:
            return False
        try:
            free = os.statvfs(self.path.parent)
            if free.f_bavail * free.f_frsize < 2 * self._size:
                return False
            descriptor = os.open(self.path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, self._size)
            finally:
                os.close(descriptor)
        except OSError:
            # Without it the store works as well, until the disk is full; the next round tries again.
            self.release()
            return False
        return True
