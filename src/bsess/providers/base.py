"""The seam between bsess and a kind of service: what an adapter must do, and the words it answers in.

An adapter translates fields, statuses and errors and nothing else: retries, rates, concurrency, the ledger and
ownership are the core's. It raises the errors of `bsess.errors`: UnreachableError wherever the answer leaves the
state unknown.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, BinaryIO, ClassVar, Protocol

from bsess.errors import AuthError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from bsess.credentials import Token
    from bsess.model import Owner, Usage


# The code of the error with which an adapter says that its service cannot do this at all.
UNSUPPORTED = "unsupported"
# The code of the error with which a provider says that all its slots are taken.
SLOTS = "slots"


class Capability(StrEnum):
    """What a provider may lack."""

    REGIONS = "regions"
    TAG = "tag"
    QUERY = "query"
    USAGE = "usage"
    RUNNING = "running"
    FIND = "find"
    PAST = "past"
    DETAILS = "details"
    CONTEXTS = "contexts"


def _no_token() -> Token:
    raise AuthError("there is no token", code="no_token")


def _endless() -> float:
    return float("inf")


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """What an adapter is built from: one profile, resolved. `options` holds the profile's further keys.

    `owner` is my name: some tags hold no more than its hash.
    `token` finds the profile's token when it is needed, and raises AuthError where there is none. `timeout` bounds one
    request and `seconds_left` tells what is left of the command, both in seconds; `log` takes a line for each request.
    """

    profile: str
    state_dir: Path
    environment: Mapping[str, str]
    owner: str = ""
    url: str | None = None
    region: str | None = None
    insecure: bool = False
    options: Mapping[str, object] = field(default_factory=dict)
    token: Callable[[], Token] = _no_token
    timeout: float = 30.0
    seconds_left: Callable[[], float] = _endless
    log: Callable[[str], None] | None = None


@dataclass(frozen=True, slots=True)
class CreateRequest:
    """One session to make. `ttl` and `start_seconds` (how long its start may take) are seconds.

    `options` are the provider's own settings as the user gave them; an adapter refuses what it does not know.
    """

    owner: Owner
    key: str
    ttl: float
    start_seconds: float
    labels: Mapping[str, str] = field(default_factory=dict)
    region: str | None = None
    options: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RemoteSession:
    """A session as its provider tells it. `live` is False only for a terminal status.

    Times are epoch seconds by a clock that is `clock_ahead` seconds ahead of this machine's (None: nobody can tell).
    `owner` is the tag it carries, None where it carries none. `provider_id`: what its provider calls it, where `id` is
    the name that we gave it. The URLs that open or end it are secrets and go to the ledger.
    """

    id: str
    status: str
    live: bool
    created_at: float | None = None
    expires_at: float | None = None
    region: str | None = None
    owner: Owner | None = None
    provider_id: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    connect_url: str | None = field(default=None, repr=False)
    stop_url: str | None = field(default=None, repr=False)
    query_url: str | None = field(default=None, repr=False)
    clock_ahead: float | None = 0.0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Listing:
    """One look at an account.

    `complete`: all of its sessions are in it. `settle_seconds`: a session missing from a complete listing has ended
    if nothing changed in its row for that long before the listing began. `ttl_is_proof`: this provider lists nothing,
    so that the ttl alone tells that a session has ended. `unreadable`: so many rows of it name no session.
    """

    sessions: tuple[RemoteSession, ...]
    complete: bool = True
    settle_seconds: float = 60.0
    ttl_is_proof: bool = False
    unreadable: int = 0


@dataclass(frozen=True, slots=True)
class CloseTarget:
    """The session to end; `force`: although a client is attached or it hangs. `stop_url`: what ends it, if known.

    `recorded`: the ledger has it, so that its id is one that the provider gave to a session of ours.
    """

    id: str
    force: bool = False
    recorded: bool = False
    stop_url: str | None = field(default=None, repr=False)


class CloseState(StrEnum):
    """What an adapter learned from a close. Anything it cannot say is an UnreachableError instead."""

    ENDED = "ended"
    ACCEPTED = "accepted"
    GONE = "gone"
    ABSENT = "absent"
    STILL_LIVE = "still_live"


@dataclass(frozen=True, slots=True)
class CloseAnswer:
    """The answer to a close.

    ENDED is conclusive, ACCEPTED is not; GONE: it had ended before; ABSENT: the provider knows no such session.
    """

    state: CloseState
    reason: str | None = None
    http_status: int | None = None
    provider_status: str | None = None


class Provider(Protocol):
    """One account at one service. Instances are used by one thread at a time.

    `base_url` and `account` say where an id means something; `secret` is the token that may stand in its URLs.
    """

    name: ClassVar[str]
    capabilities: ClassVar[frozenset[Capability]]
    ttl_bounds: ClassVar[tuple[float, float]]
    base_url: str
    account: str
    secret: str | None

    def validate(self, request: CreateRequest) -> None:
        """Refuse, before anything is recorded or sent, what can never work. Raises BsessError."""

    def planned_id(self, request: CreateRequest) -> str | None:
        """Return the id that the session will have, where the caller chooses it; else None."""

    def create(self, request: CreateRequest) -> RemoteSession:
        """Make one session. Raises BsessError; UnreachableError where one may exist all the same."""

    def list(self) -> Listing:
        """Return the sessions that live, and those ended ones that left something behind."""

    def get(self, session_id: str) -> RemoteSession | None:
        """Return one session, or None where the provider knows none of that id (conclusively)."""

    def close(self, target: CloseTarget) -> CloseAnswer:
        """Ask for a session's end, and clear what an ended one left behind."""

    def is_id(self, text: str) -> bool:
        """Tell whether this provider could have made such an id."""

    def tag(self, owner: Owner, labels: Mapping[str, str]) -> Mapping[str, str]:
        """Return what a session must carry at its creation to be that owner's (capability TAG)."""

    def disconnect(self) -> None:
        """Let go of its connections; a provider may be used again after it."""


class Finds(Protocol):
    """What a provider of capability FIND does besides: a session is found by the tag of its ledger id."""

    def find(self, key: str) -> tuple[RemoteSession, ...]:
        """Return all sessions that carry it, ended ones too. Raises BsessError."""


class RemembersPast(Protocol):
    """What a provider of capability PAST does besides."""

    def past(self, status: str | None, labels: Mapping[str, str]) -> Iterator[RemoteSession]:
        """Yield the sessions of a status (all without one), ended ones too. Labels may narrow it there."""


class TellsDetails(Protocol):
    """What a provider of capability DETAILS does besides, of one session. All of it raises BsessError."""

    def details(self, session_id: str) -> Mapping[str, object] | None:
        """Return the provider's own document of it, or None where it knows none."""

    def live(self, session_id: str) -> Mapping[str, object]:
        """Return the URLs of its live view."""

    def logs(self, session_id: str) -> list[object]:
        """Return its log."""

    def recording(self, session_id: str) -> list[object]:
        """Return its recording as events."""

    def videos(self, session_id: str, waiting: Callable[[int, int], None]) -> list[tuple[str, str]]:
        """Ask for its recording as videos, wait for them, and return (page, URL) of each.

        `waiting` is told how many there are of how many.
        """

    def fetch(self, url: str, file: BinaryIO) -> int:
        """Write a video to a file and return its size in bytes."""


class KeepsContexts(Protocol):
    """What a provider of capability CONTEXTS does besides: a context is what `--context` takes."""

    def create_context(self) -> str:
        """Make an empty one and return its id. Raises BsessError."""

    def context(self, context_id: str) -> Mapping[str, object] | None:
        """Return the provider's own document of one, or None where it knows none."""

    def delete_context(self, context_id: str) -> bool:
        """Delete one; False where the provider knows none."""


class Queries(Protocol):
    """What a provider of capability QUERY does besides."""

    def query(self, url: str, text: str, variables: Mapping[str, object]) -> object:
        """Run a query in the session of that query URL and return the document that came. Raises BsessError."""


class Measures(Protocol):
    """What a provider of capability USAGE does besides."""

    def usage(self) -> Usage:
        """Return what the account uses. Raises BsessError."""


class SeesRunning(Protocol):
    """What a provider of capability RUNNING does besides: it sees browsers that it cannot tell the sessions of."""

    def running(self) -> tuple[RemoteSession, ...]:
        """Return the browsers that run, of unknown owner. Raises BsessError."""
