"""The program: what must be done before anything heavy is imported."""

from __future__ import annotations

import gc
import os
import signal
import sys

from bsess import __version__
from bsess.errors import Stopped


def main() -> None:
    """Run `bsess` on this process's arguments and end the process."""
    # Collecting while it imports costs more than all that it could free; a command that works collects again.
    gc.disable()
    if sys.argv[1:] == ["--version"] and "_BSESS_COMPLETE" not in os.environ:
        code = _print_version()
    else:
        _guard_standard_streams()
        _catch_signals()
        from bsess.boundary import run

        code = run(sys.argv[1:])
    _leave(code)


def _print_version() -> int:
    try:
        sys.stdout.write(f"bsess {__version__}\n")
        sys.stdout.flush()
    except (OSError, AttributeError):
        return 1
    return 0


def _guard_standard_streams() -> None:
    # With 0, 1 or 2 closed the ledger would be opened there, and a stray message written into it.
    for handle in (0, 1, 2):
        try:
            os.fstat(handle)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _catch_signals() -> None:
    def stop(signum: int, _: object) -> None:
        # The second one leaves at once; the ledger knows what is under way.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda again, _: os._exit(128 + again))
        raise Stopped(signum)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, stop)


def _leave(code: int) -> None:
    # Everything is flushed and the ledger closed; taking the interpreter apart would only cost time.
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            pass
    os._exit(code)


if __name__ == "__main__":
    main()
