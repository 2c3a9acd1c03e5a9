"""The detached keepers of sessions, and what all of them do: leave the asker, hear signals, answer once, let go.

Each is a file run as `python -I -S FILE NAME` with one line of JSON, its order, on standard input; it answers with
one line on standard output and needs no other bsess process afterwards. While it starts, the end of its standard
input says that the asker is gone. What only holds a ttl must stay below 15 MB: no import here that the interpreter
does not have at hand.
"""

from __future__ import annotations

import json
import os
import signal
import time

TYPE_CHECKING = False  # as type checkers read it; typing itself is 1 MB
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

# A suspended machine wakes to a look at the clock within this many seconds.
LOOK_AGAIN = 5.0

_noted: set[int] = set()


def now() -> float:
    """Return seconds on a clock that counts suspended time and never jumps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def detach() -> int:
    """Leave the asker's process group and terminal; return a handle that turns readable at a signal."""
    # The asker must not become the parent that has to reap: a child of a long `bsess run` would stay a zombie.
    if os.fork():
        os._exit(0)
    os.setsid()
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ImportError, ValueError, OSError):
        pass
    receive, send = os.pipe()
    os.set_blocking(send, False)
    signal.set_wakeup_fd(send, warn_on_full_buffer=False)
    for signum in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, _note)
    # SIGTERM and SIGINT to the holder are a wish to end the session; a terminal that goes away is not.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    return receive


def is_asked_to_end() -> bool:
    """Tell whether a signal has asked for the session's end."""
    return signal.SIGTERM in _noted or signal.SIGINT in _noted


def order() -> Any:  # noqa: ANN401  as its asker wrote it
    """Read what is to be held; ends the process where nobody asks."""
    data = b""
    while not data.endswith(b"\n"):
        chunk = os.read(0, 65536)
        if not chunk:
            os._exit(1)
        data += chunk
    return json.loads(data)


def answer(said: Mapping[str, object]) -> None:
    """Tell the asker. Raises OSError where it is gone."""
    try:
        os.write(1, json.dumps(said).encode() + b"\n")
    except BrokenPipeError as error:
        raise OSError("the asking process is gone") from error


def try_answer(said: Mapping[str, object]) -> None:
    """Tell the asker, if it is still there."""
    try:
        answer(said)
    except OSError:
        pass


def let_go() -> None:
    """Let go of the asker's streams and of the folder it stood in."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for handle in (0, 1, 2):
        os.dup2(nothing, handle)
    os.close(nothing)
    os.chdir("/")


def _note(signum: int, _: object) -> None:
    _noted.add(signum)
