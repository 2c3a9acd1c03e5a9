"""Ending one session: claim its row, ask the provider, and record what came of it."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from bsess import inventory
from bsess.closing import outcomes
from bsess.context import Context, liveness, new_key, this_process, unseal
from bsess.errors import BsessError, LedgerError, UnreachableError
from bsess.known import carries, same_account, slack_of
from bsess.ledger import Row, RowState
from bsess.model import Event, Liveness, Outcome, OutcomeKind
from bsess.providers.base import Capability, CloseAnswer, CloseState, CloseTarget

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bsess.closing import Manner, Target
    from bsess.model import Session
    from bsess.providers.base import Finds, RemoteSession

# A claim older than this is nobody's: no close takes that long (the slowest provider's close may take 60 s).
CLAIM_SECONDS = 120.0
_PAUSE_SECONDS = 0.05
_ENDED = frozenset({OutcomeKind.CLOSED, OutcomeKind.ALREADY_CLOSED})


@dataclass(frozen=True, slots=True)
class Asked:
    """A session that its provider was asked to end, and what that answered or failed with. `row` is claimed.

    `unseen`: nobody has seen it gone. The provider said yes, or that there is none although it listed it.
    """

    target: Target
    row: Row | None
    manner: Manner
    answer: CloseAnswer | BsessError
    unseen: bool = False


def close_one(context: Context, target: Target, manner: Manner) -> Outcome:
    """Ask for one session's end and record the answer. Never raises a BsessError: what went wrong is in the outcome."""
    asked = ask(context, target, manner)
    return asked if isinstance(asked, Outcome) else conclude(context, [(asked, asked.answer)])[0]


def ask(context: Context, target: Target, manner: Manner) -> Outcome | Asked:
    """Ask for a session's end. Never raises a BsessError, as `close_one`."""
    row = target.row
    claimed: Row | Outcome | None = None
    try:
        if row is not None:
            claimed = _claim(context, row, as_chosen=manner.as_chosen)
        elif target.found is not None:
            claimed = _recorded(context, target, target.found)
    except LedgerError as error:
        context.warn(f"{error.message}; closing {target.id} all the same")
        claimed = row
    except BsessError as error:  # its account cannot be told
        return outcomes.of_error(target, error)
    if isinstance(claimed, Outcome):
        return claimed
    try:
        answer = _answer(context, target, claimed, manner)
    except BsessError as error:
        return Asked(target, claimed, manner, error)
    unseen = answer.state is CloseState.ACCEPTED or _is_doubted(target, answer, manner)
    return Asked(target, claimed, manner, answer, unseen=unseen)


def _is_doubted(target: Target, answer: CloseAnswer, manner: Manner) -> bool:
    # Listed a moment ago: another look tells which of the two answers holds.
    return answer.state is CloseState.ABSENT and target.listed and manner.wait is not None


def conclude(context: Context, answered: Sequence[tuple[Asked, CloseAnswer | BsessError]]) -> list[Outcome]:
    """Record what came of ends that were asked for, all at once, and return it."""
    told = [_outcome(context, asked, answer) for asked, answer in answered]
    _settle(context, [(asked, outcome) for (asked, _), outcome in zip(answered, told, strict=True)])
    return told


def _outcome(context: Context, asked: Asked, answer: CloseAnswer | BsessError) -> Outcome:
    target, row = asked.target, asked.row
    if isinstance(answer, BsessError):
        return outcomes.of_error(target, answer)
    known_here = target.connects or row is None or same_account(row, context.provider(target.profile))
    return outcomes.of_answer(target, answer, known_here=known_here)


def _recorded(context: Context, target: Target, session: Session) -> Row:
    """Return a claimed row for a session of mine that the ledger does not know, made elsewhere or by other code."""
    provider = context.provider(target.profile)
    now = context.now()
    left = session.left(now)
    row = Row(
        key=new_key(),
        provider=provider.name,
        base_url=provider.base_url,
        account=provider.account,
        profile=target.profile.name,
        state=RowState.CLOSING,
        owner=context.config.owner.value,
        created_at=now - (session.age(now) or 0.0),
        changed_at=now,
        id=session.id,
        run=session.run,
        region=session.region,
        labels=session.labels,
        expires_at=None if left is None else now + left,
        creator=this_process(),
        claim=this_process(),
        claimed_at=now,
    )
    context.ledger().insert([(row, inventory.event(context, row, "found", reason="by its tag"))])
    return row


def _answer(context: Context, target: Target, row: Row | None, manner: Manner) -> CloseAnswer:
    if target.url is not None and target.connects:
        from bsess import hanging_up  # websockets: 40 ms, and most sessions have a better end

        return hanging_up.end(context, target.url, wait=manner.wait)
    provider = context.provider(target.profile)
    session_id = target.id
    if row is not None and row.id is None and target.id == row.key and Capability.FIND in provider.capabilities:
        found = _found(context, cast("Finds", provider), row)
        if found is not None and not found.live:
            return CloseAnswer(CloseState.GONE, provider_status=found.status)
        session_id = target.id if found is None else found.id
    stop_url = target.url if row is None else unseal(provider, row.stop_url)
    return provider.close(CloseTarget(session_id, force=manner.force, recorded=row is not None, stop_url=stop_url))


def _found(context: Context, provider: Finds, row: Row) -> RemoteSession | None:
    """Return the session of a create that was never answered; None where none is seen and its ttl has passed.

    Raises BsessError before that: that none is seen proves nothing.
    """
    matches = [remote for remote in provider.find(row.key) if carries(remote, row)]
    if matches:
        return next((remote for remote in matches if remote.live), matches[0])
    if row.expires_at is not None and row.expires_at + slack_of(row) <= context.now():
        return None
    raise UnreachableError(
        f"{row.key}: its create was never answered, and it may exist",
        code="lost_create",
        hint="`bsess sweep` settles it",
    )


def _claim(context: Context, row: Row, *, as_chosen: bool) -> Row | Outcome:
    """Make this process the one that ends the session; an Outcome where another did it in the meantime.

    With `as_chosen`, what was prolonged, adopted or labelled since it was chosen is left alone.
    """
    ledger = context.ledger()
    me = this_process()
    end = time.monotonic() + min(CLAIM_SECONDS, context.seconds_left())
    # As it was read: what was changed since makes the first attempt fail. A lease is renewed without a trace of that.
    current = row if row.lease_until is None else ledger.get(row.key)
    while True:
        if current is None or current.state is RowState.CLOSED:
            return outcomes.by_another(row, OutcomeKind.ALREADY_CLOSED, "another process ended it")
        if as_chosen and _reasons_of(current) != _reasons_of(row):
            return outcomes.by_another(row, OutcomeKind.SKIPPED, "it was changed after it was chosen")
        if not claimed_by_other(current, context.now()):
            now = context.now()
            wanted = replace(current, state=RowState.CLOSING, claim=me, claimed_at=now, changed_at=now)
            claimed = ledger.change(wanted)
            if claimed is not None:
                return claimed
        elif time.monotonic() >= end:
            return outcomes.by_another(row, OutcomeKind.CLOSING, "another process is ending it")
        else:
            time.sleep(_PAUSE_SECONDS)
        current = ledger.get(row.key)


def _reasons_of(row: Row) -> tuple[object, ...]:
    # An intent whose create has been answered since was no lost one, though its process is gone by now.
    delivered = row.state is not RowState.INTENT
    return row.owner, dict(row.labels), row.expires_at, row.owner_process, row.lease_until, delivered


def claimed_by_other(row: Row, now: float) -> bool:
    """Tell whether another living process is ending this row's session right now."""
    if row.claim is None or row.claim == this_process():
        return False
    if liveness(row.claim) is Liveness.DEAD:
        return False
    return (row.claimed_at or 0.0) + CLAIM_SECONDS > now


def _settle(context: Context, concluded: Sequence[tuple[Asked, Outcome]]) -> None:
    """Write what came of it. A ledger that fails now costs the record, not the close: a warning."""
    known = [(asked.row, asked.manner, outcome) for asked, outcome in concluded if asked.row is not None]
    try:
        if known:
            context.ledger().change_all([_change(context, *item) for item in known])
    except LedgerError as error:
        for _, _, outcome in known:
            context.warn(f"{error.message}; the end of {outcome.id} is not recorded")
    foreign = [(asked.manner, outcome) for asked, outcome in concluded if asked.row is None]
    try:
        _record_foreign(context, [item for item in foreign if item[1].outcome is not OutcomeKind.NOT_FOUND])
    except LedgerError as error:
        context.warn(f"{error.message}; what was ended is not recorded")


def _change(context: Context, row: Row, manner: Manner, outcome: Outcome) -> tuple[Row, Event]:
    reason = "; ".join(filter(None, [manner.reason, outcome.reason])) or None
    line = inventory.event(context, row, _event_of(outcome, manner), outcome=outcome.outcome, reason=reason)
    state, failure = row.state, None
    if outcome.outcome in _ENDED:
        state = RowState.CLOSED
    elif outcome.outcome is not OutcomeKind.CLOSING:
        state = RowState.OPEN if row.id is not None else RowState.INTENT
        failure = outcome.reason or outcome.outcome
    changed = replace(row, changed_at=context.now(), claim=None, claimed_at=None, state=state, failure=failure)
    return changed, line


def _event_of(outcome: Outcome, manner: Manner) -> str:
    return manner.event if outcome.outcome in _ENDED or outcome.outcome is OutcomeKind.CLOSING else "failed"


def _record_foreign(context: Context, ended: Sequence[tuple[Manner, Outcome]]) -> None:
    ledger = context.ledger_or_none() if ended else None
    if ledger is None:
        return
    ledger.record(
        Event(
            at=context.now(),
            event=_event_of(outcome, manner),
            command=context.command,
            id=outcome.id,
            profile=outcome.profile,
            provider=outcome.provider,
            owner=context.config.owner.value,
            outcome=outcome.outcome,
            reason=outcome.reason,
        )
        for manner, outcome in ended
    )
