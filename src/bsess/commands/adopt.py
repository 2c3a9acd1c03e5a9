"""`bsess adopt`: make mine what my own code created."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from bsess import config as settings
from bsess import inventory, naming, verdict
from bsess.context import new_key, seal, this_process
from bsess.errors import BsessError, ExitCode, FailedError, NotFoundError
from bsess.known import known_session, on_this_clock
from bsess.ledger import Row, RowState
from bsess.model import Result
from bsess.output.text import visible

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bsess.config import Profile
    from bsess.context import Context
    from bsess.model import Session


@dataclass(frozen=True, slots=True)
class AdoptOptions:
    """Which sessions, and what to record of them; `ttl` in seconds counts from now; `foreign`: another owner's too."""

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
    if remote.owner is not None and remote.owner.name != me and not options.foreign:
        name = visible(remote.owner.name)
        raise FailedError(
            f"{session_id}: it is {name}'s by its own record",
            code="foreign",
            hint="--foreign makes it mine all the same: from then on my sweeps end it",
            session=session_id,
        )
    now = context.now()
    ttl = options.ttl or profile.ttl or settings.CREATE_TTL
    fresh = Row(
        key=new_key(),
        provider=provider.name,
        base_url=provider.base_url,
        account=provider.account,
        profile=profile.name,
        state=RowState.OPEN,
        owner=me,
        created_at=on_this_clock(remote, remote.created_at) or now,
        changed_at=now,
        id=remote.id,
        run=context.config.run.value,
        region=remote.region,
        labels={**remote.labels, **options.labels},
        expires_at=min(now + ttl, on_this_clock(remote, remote.expires_at) or now + ttl),
        creator=this_process(),
        connect_url=seal(provider, remote.connect_url),
    )
    row = _write(context, fresh, profile)
    return known_session(context, profile, row=row, remote=remote).session


def _write(context: Context, fresh: Row, profile: Profile) -> Row:
    ledger = context.ledger()
    line = inventory.event(context, fresh, "adopted")
    held = [
        row for row in ledger.find(fresh.shown_id) if row.state is not RowState.CLOSED and row.profile == profile.name
    ]
    if not held:
        ledger.insert(fresh, event=line)
        return fresh
    wanted = replace(
        held[0],
        owner=fresh.owner,
        run=fresh.run,
        labels=fresh.labels,
        expires_at=fresh.expires_at,
        changed_at=fresh.changed_at,
        owner_process=None,
        lease_until=None,
    )
    changed = ledger.change(wanted, event=line)
    if changed is None:
        raise FailedError(f"{fresh.shown_id}: another process changed it just now", hint="repeat", session=fresh.id)
    return changed
