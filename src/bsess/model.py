"""The words of this field as data: sessions, their owners, what was decided and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

LABEL_KEEP = "keep"
LABEL_KEEP_UNTIL = "keep-until"
OWNER_MAX = 100
# How far another machine's clock may be off.
CLOCK_SLACK_SECONDS = 300.0
LABEL_KEY_MAX = 63
LABEL_VALUE_MAX = 200


class Status(StrEnum):
    """The statuses bsess itself names; a provider's unknown ones are shown as they are, and count as live.

    RECORDED: in the ledger, and its provider tells nothing of it. UNKNOWN: it may exist.
    """

    STARTING = "starting"
    RUNNING = "running"
    CLOSING = "closing"
    UNKNOWN = "unknown"
    RECORDED = "recorded"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose a session is: the owner's name, the run it belongs to, and the ledger id it has there."""

    name: str
    run: str | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Process:
    """One process and no other: pids are reused, so its start time and where it runs belong to it.

    `start` is the platform's own start time (Linux: clock ticks since boot); `boot` and `namespace` tell whether a
    pid on a host of this name means anything here.
    """

    pid: int
    start: str
    host: str
    boot: str
    namespace: str


class Liveness(StrEnum):
    """What can be said of a recorded process from here."""

    ALIVE = "alive"
    DEAD = "dead"
    ELSEWHERE = "elsewhere"


@dataclass(frozen=True, slots=True)
class Session:
    """One browser, local or rented, as the commands show it. Times are seconds since the epoch, by one clock.

    `clock_ahead`: by how many seconds that clock is ahead of this machine's; None where nobody can tell.
    """

    id: str
    profile: str
    provider: str
    status: str
    mine: bool
    live: bool = True
    region: str | None = None
    created_at: float | None = None
    expires_at: float | None = None
    owner: str | None = None
    run: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    connect_url: str | None = field(default=None, repr=False)
    clock_ahead: float | None = 0.0

    def age(self, now: float) -> float | None:
        """Return its age in seconds at this machine's time `now`, by the clock that its times come from."""
        return None if self.created_at is None else now + (self.clock_ahead or 0.0) - self.created_at

    def left(self, now: float) -> float | None:
        """Return the seconds that its ttl leaves it at this machine's time `now`; negative where it has passed."""
        return None if self.expires_at is None else self.expires_at - now - (self.clock_ahead or 0.0)

    def is_older(self, seconds: float, now: float) -> bool:
        """Tell whether it is surely older than that at this machine's time `now`."""
        age = self.age(now)
        return age is not None and age - self.slack > seconds

    @property
    def slack(self) -> float:
        """By how many seconds its age and what is left to it may be wrong."""
        return CLOCK_SLACK_SECONDS if self.clock_ahead is None else 0.0


class OutcomeKind(StrEnum):
    """What became of a session that was to end."""

    CLOSED = "closed"
    CLOSING = "closing"
    ALREADY_CLOSED = "already_closed"
    NOT_FOUND = "not_found"
    PROTECTED = "protected"
    SKIPPED = "skipped"
    STUCK = "stuck"
    UNKNOWN = "unknown"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Problem:
    """A failure in the words of an error line: what, how to mend it, and the session concerned."""

    code: str
    message: str
    hint: str | None = None
    session: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one session; `exit_code` is what it alone would make of the command."""

    id: str
    profile: str
    provider: str
    outcome: OutcomeKind
    reason: str | None = None
    http_status: int | None = None
    provider_status: str | None = None
    exit_code: int = 0
    problem: Problem | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a sweep ends a session, and the one reason."""

    id: str
    profile: str
    provider: str
    end: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the ledger's history. `event` is created, adopted, found, closed, swept, failed or ended."""

    at: float
    event: str
    command: str
    id: str | None
    profile: str
    provider: str
    owner: str
    run: str | None = None
    outcome: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """What an account uses now, and how much it may; None where its provider does not tell.

    `running` and `queued` are sessions, `slots` how many may run at once; `units` are what the provider bills by.
    """

    running: int | None = None
    queued: int | None = None
    slots: int | None = None
    plan: str | None = None
    units_used: float | None = None
    units_left: float | None = None
    minutes_used: int | None = None
    proxy_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class AccountUsage:
    """What one account uses, and how many open sessions of mine the ledger has there."""

    profile: str
    provider: str
    mine: int
    usage: Usage


@dataclass(frozen=True, slots=True)
class SettingLine:
    """One setting, its value (masked where secret) and where it came from."""

    key: str
    value: str
    source: str


@dataclass(frozen=True, slots=True)
class Scope:
    """What a sweep looked at: the ledger's place, the profiles whose accounts answered, and those that did not."""

    ledger: str
    profiles: tuple[str, ...]
    missed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """All that a command has to say; a renderer makes it text. A field that is None does not concern the command."""

    command: str
    exit_code: int = 0
    sessions: tuple[Session, ...] | None = None
    outcomes: tuple[Outcome, ...] | None = None
    decisions: tuple[Decision, ...] | None = None
    events: tuple[Event, ...] | None = None
    settings: tuple[SettingLine, ...] | None = None
    usage: tuple[AccountUsage, ...] | None = None
    answer: object = None
    details: Mapping[str, object] | None = None
    records: tuple[object, ...] | None = None
    text: str | None = None
    tag: Mapping[str, str] | None = None
    summary: Mapping[str, int] | None = None
    scope: Scope | None = None
    list_errors: tuple[Problem, ...] | None = None
    errors: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
