"""`bsess adopt`: make mine what my own code created."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from bsess import config as settings
from bsess import inventory, naming, verdict
from bsess.context import new_key, seal, this_process
from bsess.errors import BsessError, ExitCode, FailedError, NotFoundError
from bsess.known import known_session, on_this_clock, same_account
from bsess.ledger import Row, RowState
from bsess.model import Result
from bsess.output.text import visible

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bsess.config import Profile
    from bsess.context import Context
    from bsess.model import Session
    from bsess.providers.base import Provider, RemoteSession


@dataclass(frozen=True, slots=True)
class AdoptOptions:
    """Which sessions, and what to record of them; `foreign`: another owner's too.

    `ttl` in seconds counts from now; without it a session keeps the end that it has.
    """

    ids: Sequence[str]
    profile: str | None = None
    ttl: float | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    foreign: bool = False


def adopt(context: Context, options: AdoptOptions) -> Result:
    """Record living sessions as mine. The id that was typed is the consent for what carries no owner's tag."""
    for name in options.ids:
        naming.check(name)
    adopted: list[Session] = []
    errors: list[BsessError] = []
    for name in dict.fromkeys(options.ids):
        try:
            adopted.append(_adopt(context, name, options))
        except BsessError as error:
            errors.append(error)
    codes = [error.exit_code for error in errors]
    return Result(
        "adopt",
        exit_code=(ExitCode.PARTIAL if adopted else verdict.of_failures(codes)) if codes else ExitCode.OK,
        sessions=tuple(adopted),
        errors=tuple(inventory.problem(error) for error in errors),
    )


def _adopt(context: Context, name: str, options: AdoptOptions) -> Session:
    profile_name, session_id = naming.split(context, name)
    profile = context.config.profile(profile_name or options.profile)
    provider = context.provider(profile)
    remote = provider.get(session_id) if provider.is_id(session_id) else None
    if remote is None or not remote.live:
        raise NotFoundError(
            f"{session_id}: no living session of that id in profile {profile.name}",
            hint="another profile is named with -p",
            session=session_id,
        )
    me = context.config.owner.value
    held = _held(context, provider, remote.id)
    owners = [*([held.owner] if held else ()), *([remote.owner.name] if remote.owner else ())]
    other = next((name for name in owners if name != me), None)
    if other is not None and not options.foreign:
        raise FailedError(
            f"{session_id}: it is {visible(other)}'s by its own record",
            code="foreign",
            hint="--foreign makes it mine all the same: from then on my sweeps end it",
            session=session_id,
        )
    row = _write(context, _fresh(context, profile, remote, options), held, options)
    return known_session(context, profile, row=row, remote=remote).session


def _held(context: Context, provider: Provider, session_id: str) -> Row | None:
    rows = context.ledger().find(session_id)
    return next((row for row in rows if row.state is not RowState.CLOSED and same_account(row, provider)), None)


def _fresh(context: Context, profile: Profile, remote: RemoteSession, options: AdoptOptions) -> Row:
    provider = context.provider(profile)
    now = context.now()
    own_end = on_this_clock(remote, remote.expires_at)
    if options.ttl is None:
        end = own_end or now + (profile.ttl or settings.CREATE_TTL)
    else:
        end = min(now + options.ttl, own_end or now + options.ttl)
    return Row(
        key=new_key(),
        provider=provider.name,
        base_url=provider.base_url,
        account=provider.account,
        profile=profile.name,
        state=RowState.OPEN,
        owner=context.config.owner.value,
        created_at=on_this_clock(remote, remote.created_at) or now,
        changed_at=now,
        id=remote.id,
        run=context.config.run.value,
        region=remote.region,
        labels={**remote.labels, **options.labels},
        expires_at=end,
        creator=this_process(),
        connect_url=seal(provider, remote.connect_url),
    )


def _write(context: Context, fresh: Row, held: Row | None, options: AdoptOptions) -> Row:
    ledger = context.ledger()
    line = inventory.event(context, fresh, "adopted")
    if held is None:
        ledger.insert([(fresh, line)])
        return fresh
    wanted = replace(held, labels={**held.labels, **options.labels}, changed_at=fresh.changed_at)
    if options.ttl is not None:
        wanted = replace(wanted, expires_at=fresh.expires_at)
    if held.owner != fresh.owner:
        # Who held it for its owner does not hold it for me.
        wanted = replace(
            wanted,
            owner=fresh.owner,
            run=fresh.run,
            labels=fresh.labels,
            expires_at=fresh.expires_at,
            owner_process=None,
            lease_until=None,
        )
    changed = ledger.change(wanted, event=line)
    if changed is None:
        raise FailedError(f"{fresh.shown_id}: another process changed it just now", hint="repeat", session=fresh.id)
    return changed
