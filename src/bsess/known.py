"""One session as its row and its provider together know it: whose it is, how it stands, and its times by one clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from bsess.context import Context, is_of_another_machine, liveness, unseal
from bsess.ledger import Row, RowState
from bsess.model import CLOCK_SLACK_SECONDS, Liveness, Session, Status
from bsess.output.text import visible

if TYPE_CHECKING:
    from bsess.config import Profile
    from bsess.providers.base import Provider, RemoteSession

# Two accounts of one moment differ by this much.
SAME_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Known:
    """One session and where the knowledge of it comes from: its row, its provider's listing, or both.

    `extra`: a create of mine made it beside the one session that it was to make.
    """

    session: Session
    profile: Profile
    row: Row | None = None
    remote: RemoteSession | None = None
    extra: bool = False


def known_session(
    context: Context, profile: Profile, *, row: Row | None, remote: RemoteSession | None, session_id: str | None = None
) -> Known:
    """Join what a row and a provider say of one session; the row knows the profile, the provider the status."""
    tag = remote.owner if remote else None
    me = context.config.owner.value
    owner = row.owner if row else (visible(tag.name) if tag else None)
    labels = {**(remote.labels if remote else {}), **(row.labels if row else {})}
    session = Session(
        id=remote.id if remote else (row.shown_id if row else session_id or ""),
        profile=profile.name,
        provider=profile.provider,
        status=_status(row, remote, context.now()),
        live=remote.live if remote else True,
        mine=me in (row.owner if row else None, tag.name if tag else None),
        region=(remote.region if remote else None) or (row.region if row else None),
        **_times(row, remote),
        owner=owner,
        run=row.run if row else (tag.run if tag else None),
        labels=labels,
        connect_url=(remote.connect_url if remote else None) or _unsealed(context, profile, row),
    )
    return Known(session=session, profile=profile, row=row, remote=remote)


def carries(remote: RemoteSession, row: Row) -> bool:
    """Tell whether a session's own record says that this row's create made it, for the same owner."""
    return remote.owner is not None and (remote.owner.key, remote.owner.name) == (row.key, row.owner)


def same_account(row: Row, provider: Provider) -> bool:
    """Tell whether a row's id means something at this provider, with its present token and URL."""
    return (row.provider, row.base_url, row.account) == (provider.name, provider.base_url, provider.account)


def create_is_over(row: Row, now: float) -> bool:
    """Tell whether nobody can be waiting for this create's answer any more."""
    if row.creator is not None and liveness(row.creator) is Liveness.DEAD:
        return True
    return row.settled_by is not None and row.settled_by + 60.0 < now


def slack_of(row: Row) -> float:
    """Return by how many seconds a row's times may be wrong here: another machine wrote it, by its own clock."""
    return CLOCK_SLACK_SECONDS if row.creator is not None and is_of_another_machine(row.creator) else 0.0


def on_this_clock(remote: RemoteSession, moment: float | None) -> float | None:
    """Return a time that a provider told by this machine's clock, which is the ledger's."""
    return None if moment is None else moment - (remote.clock_ahead or 0.0)


def _status(row: Row | None, remote: RemoteSession | None, now: float) -> str:
    if remote is not None and not remote.live:
        return remote.status
    if row is not None and row.state is RowState.CLOSING:
        return Status.CLOSING
    if remote is not None:
        return remote.status
    waited_for = row is not None and row.state is RowState.INTENT and not create_is_over(row, now)
    return Status.STARTING if waited_for else Status.UNKNOWN


class _Times(TypedDict):
    created_at: float | None
    expires_at: float | None
    clock_ahead: float | None


def _times(row: Row | None, remote: RemoteSession | None) -> _Times:
    """Return a session's times by the provider's clock where that tells any, else by this machine's."""
    told = remote is not None and (remote.created_at is not None or remote.expires_at is not None)
    ahead = remote.clock_ahead if remote is not None and told else 0.0
    created_at = remote.created_at if remote is not None else None
    expires_at = remote.expires_at if remote is not None else None
    if row is None:
        return _Times(created_at=created_at, expires_at=expires_at, clock_ahead=ahead)
    if created_at is None:
        created_at = row.created_at + (ahead or 0.0)
    recorded = _recorded_end(row, remote, ahead or 0.0)
    return _Times(created_at=created_at, expires_at=_earliest(expires_at, recorded), clock_ahead=ahead)


def _recorded_end(row: Row, remote: RemoteSession | None, ahead: float) -> float | None:
    if row.expires_at is None:
        return None
    end = row.expires_at + ahead + slack_of(row)
    if remote is None or remote.created_at is None:
        return end
    # A row's times are of one clock, which may have been set since: the time between them holds on every clock.
    after = remote.created_at + (row.expires_at - row.created_at)
    return end if abs(end - after) <= SAME_SECONDS else after


def _unsealed(context: Context, profile: Profile, row: Row | None) -> str | None:
    return None if row is None or row.connect_url is None else unseal(context.provider(profile), row.connect_url)


def _earliest(*times: float | None) -> float | None:
    known = [moment for moment in times if moment is not None]
    return min(known) if known else None
