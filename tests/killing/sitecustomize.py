"""Kills this very process at a named instant; put on PYTHONPATH by tests/test_crash.py.

KILL_AT is EVENT:NAME[@CALLER][#N]: the Nth time that a function NAME, called from CALLER, is entered (`call`) or left
(`return`); or, for a function written in C, `c_call` and `c_return`. Names are qualified ones for Python's functions.
KILL_WITH is the signal, SIGKILL unless it says otherwise.
"""

import os
import re
import signal
import sys
import threading


def _install(point):
    event, name, caller, number = re.fullmatch(r"(\w+):([\w.<>]+)(?:@([\w.<>]+))?(?:#(\d+))?", point).groups()
    left = int(number or 1)
    signum = signal.Signals[os.environ.get("KILL_WITH", "SIGKILL")]

    def look(frame, happened, argument):
        nonlocal left
        if happened != event:
            return
        if happened.startswith("c_"):
            found, place = argument.__name__, frame.f_code.co_qualname
        else:
            found, place = frame.f_code.co_qualname, frame.f_back and frame.f_back.f_code.co_qualname
        if found == name and (caller is None or place == caller):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signum)

    sys.setprofile(look)
    threading.setprofile(look)


if "KILL_AT" in os.environ:
    _install(os.environ["KILL_AT"])
