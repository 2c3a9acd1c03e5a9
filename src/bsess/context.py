"""What every command works with: the settings, the ledger, the providers, the clock, and a way to ask and to warn."""

from __future__ import annotations

import functools
import os
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote

from bsess import credentials, process, providers
from bsess.errors import LedgerError, UsageError
from bsess.model import Decision, Liveness, Outcome, Process, Session
from bsess.providers.base import ProviderSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from bsess.config import Config, Profile
    from bsess.credentials import Token
    from bsess.ledger import Ledger
    from bsess.providers.base import Provider

KEY_LENGTH = 16
PLACEHOLDER = "{bsess-token}"
_KEY_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"


def _nothing(_: object) -> None:
    return None


def _keep(_: Session) -> bool:
    return False


def _agree(_: Sequence[Decision]) -> bool:
    return True


@dataclass(slots=True)
class Context:
    """One command's surroundings.

    `confirm` is shown what is to end and returns whether to go on; `emit` gets each session or outcome as it comes,
    `expect` how many of them are about to come. `stream` takes a session of a listing and tells whether it has been
    shown, so that nobody needs to keep it. `warn` and `note` get a line for people, `alarm` one that they must not
    miss, `log` one for each request. `timeout` (seconds) bounds one request, `until` (monotonic) the whole command.
    """

    config: Config
    environment: Mapping[str, str]
    command: str
    now: Callable[[], float] = time.time
    confirm: Callable[[Sequence[Decision]], bool] = _agree
    emit: Callable[[Session | Outcome], None] = _nothing
    expect: Callable[[int], None] = _nothing
    stream: Callable[[Session], bool] = _keep
    warn: Callable[[str], None] = _nothing
    note: Callable[[str], None] = _nothing
    alarm: Callable[[str], None] = _nothing
    log: Callable[[str], None] | None = None
    timeout: float = 30.0
    until: float | None = None
    workers: int = 16
    _ledger: Ledger | None = None
    _ledger_failed: bool = False
    _local: threading.local = field(default_factory=threading.local)
    _loaded: list[Provider] = field(default_factory=list)
    _tokens: dict[str, Token] = field(default_factory=dict, repr=False)
    _token_lock: threading.Lock = field(default_factory=threading.Lock)

    def ledger(self) -> Ledger:
        """Return the ledger, opened at the first call. Raises LedgerError."""
        if self._ledger is None:
            from bsess.ledger.sqlite import SqliteLedger  # what only prints help needs no ledger

            self._ledger = SqliteLedger(self.config.state_dir.value)
        return self._ledger

    def ledger_or_none(self) -> Ledger | None:
        """Return the ledger, or None where it cannot be used, with a warning at the first call."""
        if self._ledger_failed:
            return None
        try:
            return self.ledger()
        except LedgerError as error:
            self._ledger_failed = True
            self.warn(f"{error.message}; going on without the ledger")
            return None

    def provider(self, profile: Profile) -> Provider:
        """Return this thread's provider of a profile. Raises ConfigError where there is none."""
        known: dict[tuple[object, ...], Provider] | None = getattr(self._local, "providers", None)
        if known is None:
            known = self._local.providers = {}
        # A pasted URL may bring a token of its own for a profile that is there already.
        key = (profile.name, profile.url, profile.region, profile.token)
        if key not in known:
            known[key] = providers.load(
                profile.provider,
                ProviderSettings(
                    profile=profile.name,
                    state_dir=self.config.state_dir.value,
                    environment=self.environment,
                    owner=self.config.owner.value,
                    url=profile.url,
                    region=profile.region,
                    insecure=profile.insecure,
                    options=profile.options,
                    token=functools.partial(self._token, profile),
                    timeout=self.timeout,
                    seconds_left=self.seconds_left,
                    log=self.log,
                ),
            )
            self._loaded.append(known[key])
        return known[key]

    def _token(self, profile: Profile) -> Token:
        if profile.token is not None:
            return profile.token
        # Once for all threads: a token_command may ask a person.
        with self._token_lock:
            if profile.name not in self._tokens:
                self._tokens[profile.name] = credentials.token(
                    profile.provider,
                    profile.name,
                    self.environment,
                    command=profile.token_command,
                    file=profile.token_file,
                    config=self.config.path.value,
                )
                warning = self._tokens[profile.name].warning
                if warning is not None:
                    self.warn(warning)
            return self._tokens[profile.name]

    def seconds_left(self) -> float:
        """Return how much of the command's deadline is left; infinite without one."""
        return float("inf") if self.until is None else self.until - time.monotonic()

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Give what is done in the block at most so many seconds of the command's."""
        before, end = self.until, time.monotonic() + seconds
        self.until = end if before is None else min(before, end)
        try:
            yield
        finally:
            self.until = before

    def close(self) -> None:
        """Let go of the ledger and of all connections."""
        for provider in self._loaded:
            provider.disconnect()
        if self._ledger is not None:
            self._ledger.close()
            self._ledger = None


def seal(provider: Provider, url: str | None) -> str | None:
    """Return a URL as the ledger keeps it: without the account's token, which a placeholder stands for."""
    if url is None or provider.secret is None:
        return url
    return url.replace(quote(provider.secret, safe=""), PLACEHOLDER).replace(provider.secret, PLACEHOLDER)


def unseal(provider: Provider, url: str | None) -> str | None:
    """Return a URL of the ledger with the account's present token in it."""
    if url is None or provider.secret is None:
        return url
    return url.replace(PLACEHOLDER, quote(provider.secret, safe=""))


def new_key() -> str:
    """Return a new ledger id: 16 characters, 80 random bits."""
    return "".join(_KEY_ALPHABET[byte % len(_KEY_ALPHABET)] for byte in os.urandom(KEY_LENGTH))


@functools.cache
def _here() -> tuple[str, str, str]:
    return os.uname().nodename, process.boot_id(), process.namespace()


def this_process() -> Process:
    """Return the identity of the process that runs this."""
    return _itself(os.getpid())


@functools.cache
def _itself(pid: int) -> Process:
    return identify(pid)


def identify(pid: int) -> Process:
    """Return a living process's identity. Raises UsageError where there is none of that pid."""
    start = process.start_time(pid)
    if start is None:
        raise UsageError(f"--owner-pid {pid}: there is no such process")
    return Process(pid, start, *_here())


def is_of_another_machine(recorded: Process) -> bool:
    """Tell whether a process ran on another machine, whose clock is another one; a container's host names change."""
    host, boot, _ = _here()
    return recorded.host != host and recorded.boot != boot


def liveness(recorded: Process) -> Liveness:
    """Tell whether a recorded process lives; ELSEWHERE where that cannot be seen from this host."""
    if (recorded.host, recorded.boot, recorded.namespace) != _here():
        return Liveness.ELSEWHERE
    return Liveness.ALIVE if process.is_alive(recorded.pid, recorded.start) else Liveness.DEAD
