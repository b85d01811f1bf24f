"""Where keys lie: files 0600 in a directory 0700, written whole or not at all, read only if nobody else could."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

DIRECTORY_MODE: Final = 0o700
FILE_MODE: Final = 0o600
FILE_BYTES_MAX: Final = 64 * 1024


class IdentityError(Exception):
    """A key or a bundle that cannot be used. Says which file, what was expected, what is there, and what to do."""


def make_directory(directory: Path) -> None:
    """Make the directory, or check it. A missing one comes out 0700; an open one is an IdentityError."""
    directory.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
    check_directory(directory)


def check_directory(directory: Path) -> None:
    """Raises IdentityError unless only its owner may look into the directory."""
    try:
        mode = stat.S_IMODE(directory.stat().st_mode)
    except OSError as error:
        hint = _of_another(error) or "make it with `meterwire keys init`"
        raise IdentityError(f"{directory}: expected the directory of the keys, got {error.strerror}; {hint}") from None
    if mode & 0o077:
        raise IdentityError(
            f"{directory}: expected mode 0700, got {mode:04o}: others can look into it; "
            f"run `chmod 700 {directory}`, and make new keys if anyone may have read them"
        )


def write(path: Path, data: bytes, *, replace: bool = False) -> None:
    """Write a file 0600 that is there whole, or not at all, also after a power cut.

    Raises IdentityError if it exists and may not be replaced.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, FILE_MODE)
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(handle, FILE_MODE)
            file.write(data)
            file.flush()
            os.fsync(handle)
        if replace:
            temporary.replace(path)
        else:
            path.hardlink_to(temporary)  # unlike a rename, this never takes the place of a key that is there
    except FileExistsError:
        raise IdentityError(f"{path}: already there; move it away first if you mean to replace it") from None
    finally:
        temporary.unlink(missing_ok=True)
    _sync_directory(path.parent)


def write_set(directory: Path, public: Mapping[str, bytes], private: Mapping[str, bytes]) -> None:
    """Write the files of a new identity, the keys last, so that no key is ever there without its public half.

    Raises IdentityError, before anything is written, if one of the keys is there.
    """
    for name in private:
        check_missing(directory, name)
    for name, data in public.items():
        write(directory / name, data, replace=True)
    for name, data in private.items():
        write(directory / name, data)


def check_missing(directory: Path, name: str) -> None:
    """Raises IdentityError if there is such a file in the directory."""
    if (directory / name).exists():
        raise IdentityError(f"{directory / name}: already there; move it away first if you mean to replace it")


def remove(path: Path) -> None:
    """Remove a file, also through a power cut. One that is not there is no error."""
    path.unlink(missing_ok=True)
    _sync_directory(path.parent)


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_private(path: Path) -> bytes:
    """The bytes of a file that only its owner may read. Raises IdentityError."""
    check_directory(path.parent)
    return _read(path, private=True)


def read_secret(path: Path) -> bytes:
    """The bytes of a file that only its owner may read, wherever it lies. Raises IdentityError."""
    return _read(path, private=True)


def read_public(path: Path) -> bytes:
    """The bytes of a file that holds no secret. Raises IdentityError."""
    return _read(path, private=False)


def _of_another(error: OSError) -> str:
    """What to do where the keys are another user's; empty where that is not what is wrong."""
    return "run this as the user to whom it belongs" if isinstance(error, PermissionError) else ""


def _read(path: Path, *, private: bool) -> bytes:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe must not hold us up
    except OSError as error:
        hint = _of_another(error) or ("make it with `meterwire keys init`" if private else "check the path")
        raise IdentityError(f"{path}: expected a key file, got {error.strerror}; {hint}") from None
    try:
        found = os.fstat(handle)  # of what was opened, so that nothing can be put in its place in between
        if not stat.S_ISREG(found.st_mode) or found.st_size > FILE_BYTES_MAX:
            raise IdentityError(f"{path}: expected a regular file of at most {FILE_BYTES_MAX} bytes")
        mode = stat.S_IMODE(found.st_mode)
        if private and mode & 0o077:
            raise IdentityError(
                f"{path}: expected mode 0600, got {mode:04o}: others can read it; "
                f"run `chmod 600 {path}`, and make a new key if anyone may have read it"
            )
        return os.read(handle, FILE_BYTES_MAX)
    finally:
        os.close(handle)
