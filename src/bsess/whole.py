"""Files that take their name only once they are whole: whoever reads one never sees half of it."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bsess.errors import FailedError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

# What is there is no file of a folder, whatever it looks like: /dev/stdout may lead to one.
_SPECIAL = ("/dev/", "/proc/")


@contextmanager
def writing(path: str, *, mode: int = 0o600) -> Iterator[BinaryIO]:
    """Open a file for writing; it replaces what is there at the end of the block. Raises FailedError.

    A link is followed. What is no regular file, a device or a pipe, is written to as it is.
    """
    try:
        if _is_special(path):
            # One that nobody reads is an error rather than a wait.
            handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOCTTY | os.O_CLOEXEC | os.O_NONBLOCK)
            os.set_blocking(handle, True)
            with os.fdopen(handle, "wb") as opened:
                yield opened
            return
        target = os.path.realpath(path)
        new = _open_beside(target, mode)
        try:
            os.fchmod(new.fileno(), mode)
            with new:
                yield new
            os.replace(new.name, target)  # noqa: PTH105  a name as the user gave it
        except BaseException:
            os.unlink(new.name)  # noqa: PTH108
            raise
    except OSError as error:
        raise _unwritable(path, error) from error


def check(path: str, *, flag: str) -> None:
    """Insist, before anything is done that is to be told there, that a file can be written.

    Raises UsageError for what is no file, FailedError for one that takes nothing.
    """
    if path in ("", "-"):
        raise UsageError(f"{flag} {path!r} is no file", hint=f"{flag} FILE; standard output has what -o asks for")
    try:
        if not _is_special(path):
            with _open_beside(os.path.realpath(path), 0o600) as new:
                os.unlink(new.name)  # noqa: PTH108
        elif not os.access(path, os.W_OK) or os.path.isdir(path):  # noqa: PTH112
            raise UsageError(f"{flag} {path} is nothing to write to", hint="name a file")
    except OSError as error:
        raise _unwritable(path, error) from error


def _is_special(path: str) -> bool:
    try:
        return os.path.abspath(path).startswith(_SPECIAL) or not stat.S_ISREG(os.stat(path).st_mode)  # noqa: PTH100, PTH116
    except FileNotFoundError:
        return False


def _open_beside(path: str, mode: int) -> BinaryIO:
    new = f"{path}.{os.getpid()}.new"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    return open(new, "wb", opener=lambda name, _: os.open(name, flags, mode))


def _unwritable(path: str, error: OSError) -> FailedError:
    return FailedError(f"{path} cannot be written: {error.strerror}", code="file", hint="check its folder and its disk")
