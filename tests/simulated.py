"""One command of a simulated machine: a fork of a process that has all imported, with that machine's clock.

The parent imports this module once and forks a process for each command (`multiprocessing`'s fork server), which runs
the program's own main.
"""

import os
import signal
import sys
import time

_real_time, _real_sleep = time.time, time.sleep
_offset = [0.0]


def _time():
    return _real_time() + _offset[0]


def _sleep(seconds):
    _real_sleep(seconds / 50)


# Before anything of bsess is imported, and keeps the functions.
time.time = _time
time.sleep = _sleep

import bsess.__main__  # noqa: E402
import bsess.boundary  # noqa: E402
import bsess.cli  # noqa: E402
import bsess.closing.many  # noqa: E402
import bsess.commands.close  # noqa: E402
import bsess.commands.create  # noqa: E402
import bsess.commands.sweep  # noqa: E402
import bsess.http  # noqa: E402
import bsess.ledger.sqlite  # noqa: E402
import bsess.providers.browserbase  # noqa: E402
import bsess.providers.local  # noqa: E402
from bsess.output import Renderer  # noqa: E402


def command(arguments, environment, offset, output, kill_at):
    """Run bsess in this process, `offset` seconds from the real time, and end it; or die at the step `kill_at`."""
    _offset[0] = offset
    os.environ.clear()
    os.environ.update(environment)
    streams = [os.open(os.devnull, os.O_RDONLY), *(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC),) * 2]
    for number, handle in enumerate(streams):
        os.dup2(handle, number)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115  they end with the process
    sys.argv = ["bsess", *arguments]
    if kill_at is not None:
        _die_at(kill_at)
    bsess.__main__.main()


def _die_at(number):
    """Die before or after the Nth request, write to the ledger or answer, whatever comes."""
    left = number

    def step():
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(kind, name):
        inner = getattr(kind, name)

        def outer(*arguments, **keywords):
            step()
            answer = inner(*arguments, **keywords)
            step()
            return answer

        setattr(kind, name, outer)

    around(bsess.http.Client, "_exchange")
    around(bsess.ledger.sqlite.SqliteLedger, "intend")
    around(bsess.ledger.sqlite.SqliteLedger, "change")
    around(bsess.ledger.sqlite.SqliteLedger, "change_all")
    around(bsess.ledger.sqlite.SqliteLedger, "insert")
    around(Renderer, "render")
