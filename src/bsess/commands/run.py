"""`bsess run`: a session for exactly as long as a command lives; the finally block of a shell."""

from __future__ import annotations

import contextlib
import functools
import os
import select
import shutil
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bsess import config as settings
from bsess import durations
from bsess.closing import Manner, Target
from bsess.closing.one import close_one
from bsess.commands.create import LEASE_SECONDS, Made, Maker, deliver
from bsess.context import new_key, this_process
from bsess.errors import BsessError, FailedError, LedgerError
from bsess.model import OutcomeKind, Result

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bsess.commands.create import CreateOptions
    from bsess.context import Context

RENEW_SECONDS = 30.0
CREATE_FAILED = 125
CANNOT_EXECUTE = 126
NOT_FOUND = 127
SIGNAL_BASE = 128
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
# What the keys of a terminal send to its whole foreground group.
KEYS = (signal.SIGINT, signal.SIGQUIT)
# The share of the ttl at whose beginning the user is warned that the browser is about to end.
WARN_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The session to make, the command to run, and how long (seconds) it may take to obey a signal."""

    create: CreateOptions
    command: Sequence[str]
    grace: float = 5.0


def run(context: Context, options: RunOptions) -> int:
    """Make a session, run the command with it in its environment, end the session, return the command's code."""
    program = shutil.which(options.command[0], path=context.environment.get("PATH", os.defpath))
    if program is None:
        return _cannot_run(context, options.command[0])
    run_id = context.config.run.value or new_key()
    maker = Maker(
        context,
        options.create,
        default_ttl=settings.RUN_TTL,
        owner_process=this_process(),
        lease=True,
        run=run_id,
    )
    with contextlib.ExitStack() as stack:
        with maker.closing_when_stopped():
            made = maker.make()
            if made.session.connect_url is None:
                _end(context, made, stopped=False)
                raise FailedError(f"{made.session.id}: it came without a connect URL", code="no_connect_url")
            deliver(context, Result("run", sessions=(made.session,)))
            # From here on a signal is data to pass on, and no longer the end of this process.
            wakeups = stack.enter_context(_signals())
        for note in made.notes:
            context.warn(note)
        try:
            child = _Child(program, options.command, {**context.environment, **_variables(made, run_id)}, wakeups.reset)
            _attend(context, child, made, wakeups, options.grace)
        except _CannotExecuteError as error:
            context.alarm(f"{options.command[0]}: {error}")
            return CANNOT_EXECUTE
        finally:
            _end(context, made, stopped=bool(wakeups.noted))
    return child.exit_code


class _CannotExecuteError(Exception):
    pass


def _cannot_run(context: Context, name: str) -> int:
    exists = os.path.exists(name) if os.sep in name else False  # noqa: PTH110  a name, not yet a path
    context.alarm(f"{name}: {'cannot be executed' if exists else 'no such command'}; no session was made")
    return CANNOT_EXECUTE if exists else NOT_FOUND


def _variables(made: Made, run_id: str) -> dict[str, str]:
    return {
        "BSESS_SESSION_ID": made.session.id,
        "BSESS_CONNECT_URL": made.session.connect_url or "",
        "BSESS_PROVIDER": made.session.provider,
        "BSESS_PROFILE": made.session.profile,
        "BSESS_RUN": run_id,
    }


class _Wakeups:
    """Signals as data: `handle` becomes readable, `noted` holds those to forward, in order.

    `reset` are those that the command is to meet as a new process does; the others its parent chose to ignore.
    """

    def __init__(self, handle: int, reset: list[int]) -> None:
        self.handle = handle
        self.reset = reset
        self.noted: list[int] = []

    def wait(self, seconds: float) -> list[int]:
        """Wait for a signal, at most `seconds`; return those to forward that came."""
        ready, _, _ = select.select([self.handle], [], [], max(0.0, seconds))
        came = [number for number in (os.read(self.handle, 512) if ready else b"") if number in FORWARDED]
        self.noted += came
        return came


@contextlib.contextmanager
def _signals() -> Iterator[_Wakeups]:
    receive, send = os.pipe()
    os.set_blocking(send, False)
    before = {number: signal.getsignal(number) for number in (*FORWARDED, signal.SIGCHLD)}
    previous = signal.set_wakeup_fd(send, warn_on_full_buffer=False)
    # A parent that ignores SIGINT or SIGHUP (nohup, a shell's background job) means it.
    caught = [number for number in before if before[number] is not signal.SIG_IGN or number == signal.SIGCHLD]
    wakeups = _Wakeups(receive, [*caught, signal.SIGPIPE])
    try:
        for number in caught:
            signal.signal(number, lambda *_: None)
        yield wakeups
    finally:
        signal.set_wakeup_fd(previous)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(receive)
        os.close(send)


class _Child:
    """The command. With a terminal it stays in our process group, which gets the keys; else it has a group of its own.

    So each signal reaches it exactly once: a Ctrl-C from the terminal, and everything else from us.
    """

    def __init__(self, program: str, command: Sequence[str], environment: dict[str, str], reset: list[int]) -> None:
        self.has_terminal = _has_terminal()
        self.exit_code = 0
        self._ended = False
        spawn = os.posix_spawn if self.has_terminal else functools.partial(os.posix_spawn, setpgroup=0)
        try:
            self._pid = spawn(program, list(command), environment, setsigdef=reset, setsigmask=[])
        except OSError as error:
            raise _CannotExecuteError(error.strerror) from error

    def ended(self) -> bool:
        """Tell whether it has ended; its code is then known."""
        if not self._ended:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                code = os.waitstatus_to_exitcode(status)
                self.exit_code = code if code >= 0 else SIGNAL_BASE - code
                self._ended = True
        return self._ended

    def gets_the_keys(self) -> bool:
        """Tell whether a Ctrl-C reaches it from the terminal: it is in our group, and that in the foreground."""
        if not self.has_terminal:
            return False
        try:
            terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            return os.tcgetpgrp(terminal) == os.getpgrp()
        except OSError:
            return False
        finally:
            os.close(terminal)

    def signal(self, number: int) -> None:
        """Pass a signal on, to its whole group where it has one of its own."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            (os.kill if self.has_terminal else os.killpg)(self._pid, number)


def _attend(context: Context, child: _Child, made: Made, wakeups: _Wakeups, grace: float) -> None:
    """Wait for the command: renew the lease, pass signals on, kill it when it does not obey."""
    renew_at = time.monotonic() + RENEW_SECONDS
    ttl = (made.row.expires_at or 0.0) - made.row.created_at
    warn_at = time.monotonic() + ttl * (1 - WARN_SHARE)
    kill_at = float("inf")
    while not child.ended():
        now = time.monotonic()
        for number in wakeups.wait(min(renew_at, warn_at, kill_at) - now):
            if number in KEYS and child.gets_the_keys():
                continue  # the terminal sent it to the command as well, which may mean to go on
            if kill_at < float("inf"):
                child.signal(signal.SIGKILL)
            else:
                child.signal(number)
                kill_at = time.monotonic() + grace
        now = time.monotonic()
        if now >= kill_at:
            child.signal(signal.SIGKILL)
            kill_at = now + 1.0
        if now >= renew_at:
            _renew(context, made)
            renew_at = now + RENEW_SECONDS
        if now >= warn_at:
            context.warn(f"{made.session.id} ends in {durations.show(ttl * WARN_SHARE)}, when its ttl passes")
            warn_at = float("inf")


def _renew(context: Context, made: Made) -> None:
    try:
        context.ledger().renew(made.row.key, context.now() + LEASE_SECONDS)
    except LedgerError as error:
        context.warn(f"{error.message}; the lease of {made.session.id} is not renewed")


def _end(context: Context, made: Made, *, stopped: bool) -> None:
    """End the session, whatever happened; a close that fails is said and left to the sweep."""
    try:
        row = context.ledger().get(made.row.key) or made.row
    except LedgerError:
        row = made.row
    reason = "its run was stopped by a signal" if stopped else "its run ended"
    manner = Manner(force=True, wait=None if stopped else 30.0, reason=reason)
    try:
        outcome = close_one(context, Target(made.session.id, made.profile, row), manner)
    except BsessError as error:
        context.alarm(f"{made.session.id} could not be closed: {error.message}; `bsess sweep` ends it")
        return
    if outcome.outcome not in (OutcomeKind.CLOSED, OutcomeKind.ALREADY_CLOSED, OutcomeKind.CLOSING):
        context.alarm(f"{made.session.id} could not be closed: {outcome.reason}; `bsess sweep` ends it")


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
