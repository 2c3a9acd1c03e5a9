"""What can go wrong, each with a stable code and an exit code.

BsessError
├── UsageError (2)            a flag, a value, an id, the config, a confirmation nobody can give
│   └── ConfigError           the config file
├── FailedError (1)           the provider refused, or this machine cannot
│   ├── NotFoundError         no such session
│   ├── LedgerError           the ledger cannot be used
│   └── BrowserError          no browser on this machine, or it does not start
├── AuthError (4)             401, 403
├── UnreachableError (5)      the state is unknown
├── QuotaError (6)            plan, slots or minutes are used up
└── LockedError (75)          another sweep is at work

Stopped is no error: a signal asked this process to end.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """How `bsess` ends, but for `run`, which ends with its command's own code."""

    OK = 0
    FAILED = 1
    USAGE = 2
    PARTIAL = 3
    AUTH = 4
    UNREACHABLE = 5
    QUOTA = 6
    LIMIT = 7
    BUG = 70
    LOCKED = 75
    SIGHUP = 129
    SIGINT = 130
    SIGTERM = 143


class BsessError(Exception):
    """Any failure that bsess foresaw.

    `code` is stable and for programs, `hint` is one sentence that says how to mend it, `session` is the id concerned.
    """

    exit_code = ExitCode.FAILED
    default_code = "failed"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        hint: str | None = None,
        session: str | None = None,
        http_status: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.hint = hint
        self.session = session
        self.http_status = http_status


class UsageError(BsessError):
    """The command line asks for something that cannot be."""

    exit_code = ExitCode.USAGE
    default_code = "usage"


class ConfigError(UsageError):
    """The config file cannot be read or says something that cannot be."""

    default_code = "config"


class FailedError(BsessError):
    """The provider refused, or this machine cannot do it."""


class NotFoundError(FailedError):
    """No such session at its provider."""

    default_code = "not_found"


class LedgerError(FailedError):
    """The ledger cannot be opened, read or written."""

    default_code = "ledger"


class BrowserError(FailedError):
    """No browser on this machine, or one that does not start."""

    default_code = "browser"


class AuthError(BsessError):
    """The provider does not accept the token, or the token may not do this."""

    exit_code = ExitCode.AUTH
    default_code = "auth"


class UnreachableError(BsessError):
    """No answer, or one that says nothing: the state is unknown.

    `sent` is False where no byte of the request left: then it changed nothing.
    """

    exit_code = ExitCode.UNREACHABLE
    default_code = "unreachable"
    sent = True


class QuotaError(BsessError):
    """The plan, its slots or its minutes are used up."""

    exit_code = ExitCode.QUOTA
    default_code = "quota"


class LockedError(BsessError):
    """Another sweep holds the lock."""

    exit_code = ExitCode.LOCKED
    default_code = "locked"


class Stopped(BaseException):
    """A signal asked this process to end; derived as KeyboardInterrupt is, so that no `except Exception` eats it."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum
