"""The ledger: bsess's own record of every session it made or adopted.

A row is written before a create is sent, and closed only by proof. Rows change by compare-and-set on `version`: of
two processes that want to end one session, one holds the claim and acts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bsess.model import Event, Process


class RowState(StrEnum):
    """Where a row stands. INTENT: a create was or will be sent and its answer is not known."""

    INTENT = "intent"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Row:
    """One session of ours. Times are seconds since the epoch.

    `key` is the ledger's own id, `id` the provider's (None until it answered). `base_url` and `account` say where
    that id means something. `creator` is the process that sent the create, `settled_by` when that create is surely
    over. `owner_process` and `lease_until` say who keeps it. `claim` is the process that is ending it, since
    `claimed_at`. `failure` is why the last close failed, or None. `missed_at`: when the session of a create that was
    never answered was first looked for by its tag, in vain. A token inside a URL is a placeholder here.
    """

    key: str
    provider: str
    base_url: str
    account: str
    profile: str
    state: RowState
    owner: str
    created_at: float
    changed_at: float
    version: int = 1
    id: str | None = None
    run: str | None = None
    region: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    expires_at: float | None = None
    settled_by: float | None = None
    creator: Process | None = None
    owner_process: Process | None = None
    lease_until: float | None = None
    claim: Process | None = None
    claimed_at: float | None = None
    failure: str | None = None
    missed_at: float | None = None
    connect_url: str | None = field(default=None, repr=False)
    stop_url: str | None = field(default=None, repr=False)
    query_url: str | None = field(default=None, repr=False)

    @property
    def shown_id(self) -> str:
        """The provider's id, or the ledger's own where the create was never answered."""
        return self.id or self.key


class Ledger(Protocol):
    """What every store of the ledger does. All of it raises LedgerError where the store cannot be used.

    A change returns the row as it then stands, or None where another process was first.
    """

    @property
    def location(self) -> str:
        """Where the ledger is, for messages."""

    def intend(self, row: Row) -> None:
        """Record a create about to be sent; on disk when this returns."""

    def change(self, row: Row, *, event: Event | None = None) -> Row | None:
        """Write `row` over the one with the same key and version, and with it the event."""

    def change_all(self, changes: Sequence[tuple[Row, Event]]) -> None:
        """Write many rows at once, each with its event; those that another process was first with are left out."""

    def insert(self, rows: Sequence[tuple[Row, Event]]) -> None:
        """Record sessions that exist already, each with its event."""

    def renew(self, key: str, until: float) -> bool:
        """Prolong the lease of an open row, whatever else changed in it; False where it is closed."""

    def get(self, key: str) -> Row | None:
        """Return the row of that key."""

    def open_rows(self) -> list[Row]:
        """Return all rows that are not closed, oldest first."""

    def find(self, session_id: str) -> list[Row]:
        """Return the rows of that provider id or key, closed ones too, newest first."""

    def find_prefix(self, prefix: str) -> list[Row]:
        """Return the open rows whose provider id or key begins so."""

    def events(self, *, since: float | None = None, limit: int | None = None) -> list[Event]:
        """Return the history, oldest first; of `limit` the newest."""

    def record(self, events: Iterable[Event]) -> None:
        """Add to the history alone."""

    def close(self) -> None:
        """Let go of the store."""
