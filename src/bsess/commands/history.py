"""`bsess history`: what was created, closed, swept, failed, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bsess.model import Result

if TYPE_CHECKING:
    from bsess.context import Context

LIMIT = 100


def history(context: Context, *, since: float | None = None, limit: int | None = None) -> Result:
    """Return the ledger's events, oldest first; `since` is an age in seconds, without it the newest `limit`."""
    if since is None:
        limit = LIMIT if limit is None else limit
    start = None if since is None else context.now() - since
    return Result("history", events=tuple(context.ledger().events(since=start, limit=limit)))
