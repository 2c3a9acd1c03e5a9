"""Files that take their name only once they are whole: whoever reads one never sees half of it."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bsess.errors import FailedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO


@contextmanager
def writing(path: str, *, mode: int = 0o600) -> Iterator[BinaryIO]:
    """Open a file for writing; it replaces what is there at the end of the block. Raises FailedError."""
    new = f"{path}.{os.getpid()}.new"
    try:
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
        try:
            os.fchmod(handle, mode)
            with os.fdopen(handle, "wb") as opened:
                yield opened
            os.replace(new, path)  # noqa: PTH105  a name as the user gave it
        except BaseException:
            os.unlink(new)  # noqa: PTH108
            raise
    except OSError as error:
        raise FailedError(
            f"{path} cannot be written: {error.strerror}", code="file", hint="check its folder and its disk"
        ) from error
