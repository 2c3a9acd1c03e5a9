"""Ending sessions: claim the row, ask the provider, see that it is gone, and say honestly what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bsess.config import Profile
    from bsess.known import Known
    from bsess.ledger import Row
    from bsess.model import Session


@dataclass(frozen=True, slots=True)
class Target:
    """One session to end; `foreign` is whose it is where it is not mine, and its end was asked for by its id.

    `found` is one of mine that no row has: it gets one before it is asked to end, so that whatever happens then is
    known afterwards; `listed`: its provider showed it alive just now. `url` is one that was pasted for it: its stop
    URL, or where `connects` its connect URL.
    """

    id: str
    profile: Profile
    row: Row | None = None
    found: Session | None = None
    listed: bool = False
    foreign: str | None = None
    url: str | None = field(default=None, repr=False)
    connects: bool = False

    @classmethod
    def of(cls, known: Known) -> Target:
        """Return the target that a session is of which a look knows."""
        session = known.session
        listed = known.remote is not None and session.live
        return cls(session.id, known.profile, known.row, found=session, listed=listed)


@dataclass(frozen=True, slots=True)
class Manner:
    """How to end: `wait` (seconds) is how long to look until it is gone, None for not at all.

    `event` is what history calls it, `reason` why it was chosen. `as_chosen`: only if the ledger still says of it what
    it was chosen by.
    """

    force: bool = False
    wait: float | None = None
    event: str = "closed"
    reason: str | None = None
    as_chosen: bool = False
